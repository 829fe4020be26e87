//! The beginning and the end of a job's output, for an answer that has to stay small.

use pyexec_proto::id::JobId;
use pyexec_proto::job::JobDetail;
use pyexec_proto::output::{MAX_CHUNK_BYTES, OutputLengths, PerStream, Stream};
use pyexec_proto::request::FollowRequest;

use crate::client::Client;
use crate::error::ClientError;
use crate::reading::{Reader, continuation, unfinished_character};

/// How many bytes of each stream an answer carries by default.
pub const DEFAULT_BYTES: u32 = 16 << 10;

/// The part between the beginning and the end that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub stream: Stream,
    /// Its length in bytes.
    pub bytes: u64,
    /// The offset of its first byte.
    pub from: u64,
}

/// The output of a job so far, at most `max_bytes` of each stream; `gap` makes the line that replaces the part left out.
///
/// # Errors
/// When the daemon cannot be reached, or the job does not exist.
pub async fn of(
    client: &Client,
    job: &JobDetail,
    max_bytes: u32,
    gap: impl Fn(Gap) -> String,
) -> Result<PerStream<String>, ClientError> {
    let max = u64::from(max_bytes);
    let whole = |stream| *job.output.get(stream) <= max;
    let whole_bytes = read_whole(client, job.id, job.output, whole).await?;
    let mut texts = PerStream::<String>::default();
    for stream in Stream::BOTH {
        *texts.get_mut(stream) = if whole(stream) {
            String::from_utf8_lossy(whole_bytes.get(stream)).into_owned()
        } else {
            let length = *job.output.get(stream);
            let head = read(client, job.id, stream, 0, max / 2).await?;
            let tail = read(client, job.id, stream, length - max / 2, length).await?;
            abridged(&head, &tail, length, |bytes, from| gap(Gap { stream, bytes, from }))
        };
    }
    Ok(texts)
}

/// Reads the streams that are short enough to be shown whole, usually in one call.
async fn read_whole(
    client: &Client,
    id: JobId,
    lengths: OutputLengths,
    whole: impl Fn(Stream) -> bool,
) -> Result<PerStream<Vec<u8>>, ClientError> {
    let mut bytes = PerStream::<Vec<u8>>::default();
    let wanted = |stream: Stream, read: &PerStream<Vec<u8>>| {
        let next = read.get(stream).len() as u64;
        (whole(stream) && next < *lengths.get(stream)).then_some(next)
    };
    loop {
        let cursors = PerStream { stdout: wanted(Stream::Stdout, &bytes), stderr: wanted(Stream::Stderr, &bytes) };
        if cursors == (PerStream { stdout: None, stderr: None }) {
            return Ok(bytes);
        }
        let request = FollowRequest { cursors, max_bytes: MAX_CHUNK_BYTES, wait_ms: 0, attached: false };
        let mut followed = client.follow(id, &request).await?;
        let mut news = false;
        for stream in Stream::BOTH {
            let Some(cursor) = cursors.get(stream) else { continue };
            let chunk = std::mem::take(followed.output.get_mut(stream));
            let room = usize::try_from(*lengths.get(stream) - cursor).unwrap_or(usize::MAX);
            // Output that is no longer kept is not replaced by a later chunk.
            if chunk.offset == *cursor {
                news |= !chunk.bytes.is_empty();
                bytes.get_mut(stream).extend(chunk.bytes.into_iter().take(room));
            }
        }
        if !news {
            return Ok(bytes);
        }
    }
}

/// The bytes between the two offsets that are still kept.
async fn read(client: &Client, id: JobId, stream: Stream, from: u64, to: u64) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    let mut reader = Reader::of_stream(id, stream, from);
    while let Some(left) = reader.cursors.get(stream).and_then(|cursor| to.checked_sub(cursor)).filter(|left| *left > 0)
    {
        let max_bytes = u32::try_from(left).unwrap_or(u32::MAX);
        let mut read = reader.read(client, max_bytes, 0).await?;
        let chunk = std::mem::take(read.chunks.get_mut(stream));
        if chunk.bytes.is_empty() || chunk.offset >= to {
            break;
        }
        let room = usize::try_from(to - chunk.offset).unwrap_or(usize::MAX);
        bytes.extend(chunk.bytes.into_iter().take(room));
    }
    Ok(bytes)
}

/// Head and tail, with a line between them that `gap` makes from the number of bytes left out and their offset. A character
/// that would be cut in two is left out.
fn abridged(head: &[u8], tail: &[u8], length: u64, gap: impl FnOnce(u64, u64) -> String) -> String {
    let head = &head[..head.len() - unfinished_character(head)];
    let tail = &tail[continuation(tail)..];
    let left_out = length.saturating_sub(head.len() as u64 + tail.len() as u64);
    let head_text = String::from_utf8_lossy(head);
    let newline = if head_text.is_empty() || head_text.ends_with('\n') { "" } else { "\n" };
    let gap = gap(left_out, head.len() as u64);
    format!("{head_text}{newline}{gap}\n{}", String::from_utf8_lossy(tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(head: &[u8], tail: &[u8], length: u64) -> String {
        abridged(head, tail, length, |left_out, from| format!("[{left_out} from {from}]"))
    }

    #[test]
    fn the_line_between_says_how_much_is_missing_and_where() {
        assert_eq!(shown(b"head\n", b"tail\n", 100), "head\n[90 from 5]\ntail\n");
        assert_eq!(shown(b"head", b"tail", 100), "head\n[92 from 4]\ntail");
    }

    #[test]
    fn no_character_is_cut_in_two() {
        let text = "€".as_bytes();
        assert_eq!(shown(&[b"ab", &text[..2]].concat(), &[&text[1..], b"cd"].concat(), 100), "ab\n[96 from 2]\ncd");
        assert_eq!(shown(text, text, 100), "€\n[94 from 3]\n€");
    }

    #[test]
    fn bytes_that_are_no_text_stay_visible() {
        assert_eq!(shown(b"a\xff", b"\xffb", 10), "a\u{fffd}\n[6 from 2]\n\u{fffd}b");
    }

    #[test]
    fn output_that_is_no_longer_kept_counts_as_left_out() {
        assert_eq!(shown(b"", b"", 10), "[10 from 0]\n");
    }
}
