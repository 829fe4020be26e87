//! The requests that programs of any two versions can exchange after they found no common protocol.
//!
//! A newer client asks an older daemon for its status, and to hand over: the daemon exits, its jobs go on, and the
//! client starts the daemon of its own version.
//!
//! Every program since protocol [`SINCE`] serves these requests. Their form never changes: after preamble and greeting,
//! each message is a length of four bytes, little-endian, followed by that many bytes of JSON, whose fields are only
//! ever added to. An unknown request is answered with a problem.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::os_text::OsText;

/// The first protocol whose daemons answer these requests.
pub const SINCE: u16 = 4;

/// The longest message, in bytes: more than any path in JSON needs.
const MAX_BYTES: u32 = 64 << 10;

/// How long either side waits for the other side's message.
pub const TIME_LIMIT: Duration = Duration::from_secs(5);

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Ask for the daemon's version and program.
    Status,
    /// Exit, so that a daemon of the requester's version can take over. Refused unless the requester speaks a higher
    /// protocol.
    HandOver {
        /// The highest protocol that the requester speaks.
        highest: u16,
    },
}

/// The answer to every request: the daemon's identity, and whether it carries out the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    pub pid: u32,
    /// The version of the program, for people.
    pub version: String,
    pub lowest_protocol: u16,
    pub highest_protocol: u16,
    /// The file of the daemon's program, as it was when the daemon started.
    pub program: OsText,
    pub jobs_running: u64,
    /// Set if the daemon exits now because it was asked to hand over.
    pub hands_over: bool,
    /// Why the request is refused.
    pub problem: Option<String>,
}

/// Sends one message.
///
/// # Errors
///
/// The errors of the connection.
pub async fn write<S: AsyncWrite + Unpin>(connection: &mut S, message: &impl Serialize) -> std::io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).map_err(std::io::Error::other)?;
    connection.write_all(&[&length.to_le_bytes()[..], &text].concat()).await?;
    connection.flush().await
}

/// Receives one message; `None` if the bytes do not form one.
///
/// # Errors
///
/// The errors of the connection, a message that is too long, and [`TIME_LIMIT`] exceeded.
pub async fn read<S: AsyncRead + Unpin, T: DeserializeOwned>(connection: &mut S) -> std::io::Result<Option<T>> {
    let text = tokio::time::timeout(TIME_LIMIT, read_text(connection, MAX_BYTES)).await??;
    Ok(serde_json::from_slice(&text).ok())
}

/// Skips the greeting of the other side, which has the same form.
///
/// # Errors
///
/// As for [`read`].
pub async fn skip_greeting<S: AsyncRead + Unpin>(connection: &mut S) -> std::io::Result<()> {
    let most = u32::try_from(crate::greeting::MAX_BYTES).unwrap_or(u32::MAX);
    tokio::time::timeout(TIME_LIMIT, read_text(connection, most)).await?.map(drop)
}

async fn read_text<S: AsyncRead + Unpin>(connection: &mut S, most: u32) -> std::io::Result<Vec<u8>> {
    let length = connection.read_u32_le().await?;
    if length > most {
        return Err(std::io::Error::other(format!("a message of {length} bytes, where {most} are the most")));
    }
    let mut text = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
    connection.read_exact(&mut text).await?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These are the bytes that programs of all versions send. They are never edited.
    #[test]
    fn the_form_is_frozen() {
        let text = |message: &Request| serde_json::to_string(message).expect("is JSON");
        assert_eq!(text(&Request::Status), r#"{"request":"status"}"#);
        assert_eq!(text(&Request::HandOver { highest: 7 }), r#"{"request":"hand_over","highest":7}"#);
        let known = r#"{"pid":5,"version":"0.2.0","lowest_protocol":4,"highest_protocol":4,"program":"/usr/bin/pyexecd",
            "jobs_running":3,"hands_over":true,"problem":null}"#;
        let answer: Answer = serde_json::from_str(known).expect("is an answer");
        assert_eq!(answer.program, OsText::from("/usr/bin/pyexecd"));
        assert_eq!((answer.highest_protocol, answer.jobs_running, answer.hands_over), (4, 3, true));
        let later: Answer =
            serde_json::from_str(r#"{"pid":6,"of_a_later_version":[1]}"#).expect("fields are only added");
        assert_eq!(later, Answer { pid: 6, ..Answer::default() });
    }

    #[tokio::test]
    async fn a_message_arrives_as_it_was_sent_and_one_of_a_later_version_is_told_apart() {
        let (mut one, mut other) = tokio::io::duplex(1 << 20);
        write(&mut one, &Request::HandOver { highest: 9 }).await.expect("can be written");
        write(&mut one, &serde_json::json!({ "request": "of_a_later_version" })).await.expect("can be written");
        let read_request = async |other: &mut tokio::io::DuplexStream| read::<_, Request>(other).await.expect("came");
        assert_eq!(read_request(&mut other).await, Some(Request::HandOver { highest: 9 }));
        assert_eq!(read_request(&mut other).await, None);
    }

    #[tokio::test]
    async fn a_message_without_end_is_refused() {
        let (mut one, mut other) = tokio::io::duplex(64);
        one.write_all(&[0xff; 4]).await.expect("can be written");
        let error = read::<_, Request>(&mut other).await.expect_err("is too long");
        assert_eq!(error.to_string(), "a message of 4294967295 bytes, where 65536 are the most");
    }
}
