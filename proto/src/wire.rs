//! The transport after both sides have greeted each other: frames of bounded size, each with one bincode message.

mod begun;
#[cfg(test)]
mod shapes;

use std::io;
use std::pin::Pin;
use std::time::Duration;

use bincode::Options;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tarpc::serde_transport::Transport;
use tarpc::tokio_serde::formats::Bincode;
use tarpc::tokio_serde::{Deserializer, Serializer};
use tarpc::{ClientMessage, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

pub use crate::preamble::MAX_FRAME_BYTES;
use crate::service::{PyexecRequest, PyexecResponse};

pub use begun::{Timely, allowance};

/// The longest deadline of a request: twice the longest that our clients use. Longer deadlines are rejected, because
/// they would overflow `Instant`.
pub const MAX_DEADLINE: Duration = Duration::from_secs(48 * 3600);

/// The daemon's side. A frame that its sender does not complete in time ends the connection.
pub type Served<S> = Transport<Timely<S>, ClientMessage<PyexecRequest>, Response<PyexecResponse>, Requests>;
/// The client's side.
pub type Called<S> = Transport<
    S,
    Response<PyexecResponse>,
    ClientMessage<PyexecRequest>,
    Bincode<Response<PyexecResponse>, ClientMessage<PyexecRequest>>,
>;

pub fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> Served<S> {
    tarpc::serde_transport::new(framed(Timely::new(stream)), Requests)
}

pub fn call<S: AsyncRead + AsyncWrite>(stream: S) -> Called<S> {
    tarpc::serde_transport::new(framed(stream), Bincode::default())
}

fn framed<S: AsyncRead + AsyncWrite>(stream: S) -> Framed<S, LengthDelimitedCodec> {
    LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME_BYTES).new_framed(stream)
}

/// The bincode format of clients, except that the deadline is checked before tarpc adds it to the current time, where
/// too long a deadline would panic.
#[derive(Clone, Copy, Debug)]
pub struct Requests;

/// The beginning of every client message.
#[derive(Deserialize)]
enum Head {
    Request { deadline: Duration },
    Cancel,
}

impl<T: DeserializeOwned> Deserializer<ClientMessage<T>> for Requests {
    type Error = io::Error;

    fn deserialize(self: Pin<&mut Self>, frame: &BytesMut) -> io::Result<ClientMessage<T>> {
        let options = bincode::DefaultOptions::new();
        match options.allow_trailing_bytes().deserialize(frame).map_err(invalid)? {
            Head::Request { deadline } if deadline > MAX_DEADLINE => {
                return Err(invalid(format!("a deadline of {} s is too long", deadline.as_secs())));
            }
            Head::Request { .. } | Head::Cancel => {}
        }
        options.deserialize(frame).map_err(invalid)
    }
}

impl<T: Serialize> Serializer<T> for Requests {
    type Error = io::Error;

    fn serialize(self: Pin<&mut Self>, item: &T) -> io::Result<Bytes> {
        bincode::DefaultOptions::new().serialize(item).map(Bytes::from).map_err(invalid)
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
