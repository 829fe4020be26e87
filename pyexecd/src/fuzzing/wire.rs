//! What comes over a socket: a client's greeting and calls, and what the daemon and a supervisor say to each other.

use std::fmt::Debug;
use std::io::Cursor;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{FutureExt, StreamExt};
use pyexec_proto::greeting::{self, Greeting};
use pyexec_proto::preamble::{LENGTH, Preamble};
use pyexec_proto::service::PyexecRequest;
use pyexec_proto::wire::{MAX_FRAME_BYTES, serve};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tarpc::ClientMessage;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Allowance;
use pyexec_run_directory::control::{self, Notice, Request};

/// bincode and serde make room for a megabyte, at most, on the word of a length.
const ALLOWANCE: Allowance = Allowance { held: 8 << 20, held_per_byte: 64, total: 8 << 20, total_per_byte: 4 << 10 };

/// The input is what a connection brings, with a greeting in front or without; and what is in one frame of it.
pub fn check(input: &[u8]) {
    check_greeting(input);
    check_calls(input);
    if let Some((_, calls)) = input.split_at_checked(LENGTH) {
        check_calls(calls);
    }
    let length = u32::try_from(input.len()).expect("no input is that long");
    check_calls(&[&length.to_be_bytes(), input].concat());
    check_control::<Request>(input);
    check_control::<Notice>(input);
    let in_frame = [&length.to_le_bytes()[..], &[0; 4], input].concat();
    check_control::<Request>(&in_frame);
    check_control::<Notice>(&in_frame);
}

fn check_greeting(input: &[u8]) {
    let Some(preamble) = input.first_chunk::<LENGTH>().and_then(Preamble::decode) else { return };
    assert!(preamble.lowest <= preamble.highest && preamble.version.len() < LENGTH, "{preamble:?}");
    let spoken = Preamble::ours().agree(&preamble);
    assert!(spoken.is_none_or(|spoken| (preamble.lowest..=preamble.highest).contains(&spoken)), "{preamble:?}");
    let again = Preamble::decode(&preamble.encode()).expect("what is understood can be said");
    assert_eq!((again.lowest, again.highest), (preamble.lowest, preamble.highest));
    let Some((length, text)) = input[LENGTH..].split_first_chunk::<4>() else { return };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    let Some(text) = text.get(..length).filter(|text| text.len() <= greeting::MAX_BYTES) else { return };
    let mut greeting = None;
    ALLOWANCE.check(text, || greeting = Greeting::decode(text));
    if let Some(greeting) = greeting {
        let opening = greeting.opening(&preamble);
        assert_eq!(Greeting::decode(&opening[LENGTH + 4..]), Some(greeting), "what is understood can be said");
    }
}

/// What the daemon understands of it, up to the first thing it does not.
pub(super) fn calls(input: &[u8]) -> (Vec<ClientMessage<PyexecRequest>>, Option<std::io::Error>) {
    let mut transport = serve(OneWay(Cursor::new(input)));
    let mut understood = Vec::new();
    loop {
        match transport.next().now_or_never().expect("there is nothing to wait for") {
            Some(Ok(message)) => understood.push(message),
            Some(Err(error)) => return (understood, Some(error)),
            None => return (understood, None),
        }
    }
}

fn check_calls(input: &[u8]) {
    // Room for the whole of the first frame that is not complete is made at once, if it may be that long at all.
    let announced = last_length(input).filter(|length| *length <= MAX_FRAME_BYTES).unwrap_or(0);
    let allowance = Allowance { held: ALLOWANCE.held + announced, total: ALLOWANCE.total + announced, ..ALLOWANCE };
    let mut understood = Vec::new();
    allowance.check(input, || understood = calls(input).0);
    assert!(understood.len() <= input.len() / 4, "{} calls in {} bytes", understood.len(), input.len());
    for message in understood {
        if let ClientMessage::Request(request) = message {
            let bytes = bincode::serialize(&request.message).expect("what is understood can be said");
            let again: PyexecRequest = bincode::deserialize(&bytes).expect("and understood again");
            assert_eq!(bincode::serialize(&again).expect("as before"), bytes);
        }
    }
}

/// What the header of the last frame says.
fn last_length(mut input: &[u8]) -> Option<usize> {
    loop {
        let (header, rest) = input.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*header) as usize;
        match rest.split_at_checked(length) {
            Some((_, next)) if !next.is_empty() => input = next,
            Some(_) | None => return Some(length),
        }
    }
}

fn check_control<T: Serialize + DeserializeOwned + PartialEq + Debug>(input: &[u8]) {
    let mut whole = (Vec::new(), None);
    // The whole of it is copied, and each part taken out.
    ALLOWANCE.check(input, || whole = frames::<T>(input, input.len().max(1)));
    let (messages, problem) = whole;
    let payload: usize = messages.iter().map(|(_, payload)| payload.len()).sum();
    assert!(payload <= input.len() && messages.len() <= input.len() / 8, "more than there is");
    let pieces = frames::<T>(input, 7);
    assert_eq!((&messages, &problem), (&pieces.0, &pieces.1), "what is cut differently says something else");
    for (message, payload) in messages {
        let mut said = control::encode(&message, &payload);
        let heard = control::decode::<T>(&mut said).expect("what is understood can be said");
        assert_eq!(heard, Some((message, payload)));
    }
}

type Frames<T> = (Vec<(T, Vec<u8>)>, Option<String>);

/// Read as it comes in pieces of so many bytes, up to the first thing that is no frame.
fn frames<T: DeserializeOwned>(input: &[u8], piece: usize) -> Frames<T> {
    let (mut buffer, mut messages) = (Vec::new(), Vec::new());
    for piece in input.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match control::decode(&mut buffer) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Some(error.to_string())),
            }
        }
    }
    (messages, None)
}

/// A connection on which all has come that ever will, and nobody listens.
struct OneWay<'a>(Cursor<&'a [u8]>);

impl AsyncRead for OneWay<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for OneWay<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
