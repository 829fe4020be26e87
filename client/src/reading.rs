//! Reads a job's output from a cursor on, or its last bytes: as bytes, or as whole characters.

use std::time::{Duration, Instant};

use pyexec_proto::id::JobId;
use pyexec_proto::job::JobDetail;
use pyexec_proto::output::{MAX_CHUNK_BYTES, OutputChunk, OutputLengths, PerStream, Stream};
use pyexec_proto::request::{FollowRequest, MAX_WAIT_MS};

use crate::client::Client;
use crate::error::ClientError;

/// The longest UTF-8 character, in bytes. A smaller limit could not advance past one.
const LEAST_BYTES: u32 = 4;

/// Reads a job's output from its cursors on, and advances them.
#[derive(Clone, Debug)]
pub struct Reader {
    id: JobId,
    /// Offsets in bytes; `None` for a stream that is not read.
    pub cursors: PerStream<Option<u64>>,
    is_tail: bool,
    is_attached: bool,
}

/// The result of one read.
#[derive(Debug)]
pub struct Read {
    pub chunks: PerStream<OutputChunk>,
    /// How many bytes behind the cursors are not kept any more.
    pub missing: OutputLengths,
    /// Set once the job has finished and the cursors have reached the end of what is read.
    pub finished: Option<JobDetail>,
}

/// Whole characters of both streams, and the next cursors.
#[derive(Debug)]
pub struct Characters {
    /// Not always UTF-8: a job prints what it likes.
    pub bytes: PerStream<Vec<u8>>,
    pub next: OutputLengths,
    /// How many bytes after `next` belong to an incomplete character.
    held_back: OutputLengths,
    /// How many bytes behind the cursors are not kept any more.
    pub missing: u64,
    /// The job after this output was written.
    pub job: JobDetail,
}

impl Reader {
    pub fn new(id: JobId, cursors: PerStream<Option<u64>>) -> Self {
        Self { id, cursors, is_tail: false, is_attached: false }
    }

    /// Reads both streams from these offsets on.
    pub fn at(id: JobId, cursors: OutputLengths) -> Self {
        Self::new(id, PerStream { stdout: Some(cursors.stdout), stderr: Some(cursors.stderr) })
    }

    /// Reads one stream.
    pub fn of_stream(id: JobId, stream: Stream, cursor: u64) -> Self {
        let mut cursors = PerStream { stdout: None, stderr: None };
        *cursors.get_mut(stream) = Some(cursor);
        Self::new(id, cursors)
    }

    /// Reads the last `max_bytes` of each stream printed so far, without the rest of a character that begins before them.
    pub fn tail(job: &JobDetail, max_bytes: u32) -> Self {
        let from = |stream: Stream| job.output.get(stream).saturating_sub(u64::from(max_bytes));
        let from = PerStream { stdout: from(Stream::Stdout), stderr: from(Stream::Stderr) };
        Self { is_tail: true, ..Self::at(job.id, from) }
    }

    /// Makes the job wait for this reader when its output buffer is full, so that nothing is dropped.
    pub fn attached(self) -> Self {
        Self { is_attached: true, ..self }
    }

    /// Reads at most `max_bytes` of each stream, after waiting for up to `wait_ms` milliseconds for something to come.
    ///
    /// # Errors
    /// When the daemon cannot be reached, or the job does not exist.
    pub async fn read(&mut self, client: &Client, max_bytes: u32, wait_ms: u64) -> Result<Read, ClientError> {
        let max_bytes = max_bytes.min(MAX_CHUNK_BYTES);
        let request = FollowRequest { cursors: self.cursors, max_bytes, wait_ms, attached: self.is_attached };
        let followed = client.follow(self.id, &request).await?;
        let mut missing = OutputLengths::default();
        for stream in Stream::BOTH {
            let chunk = followed.output.get(stream);
            let Some(cursor) = self.cursors.get_mut(stream).as_mut().filter(|_| !chunk.bytes.is_empty()) else {
                continue;
            };
            *missing.get_mut(stream) = chunk.offset.saturating_sub(*cursor);
            *cursor = chunk.next();
        }
        Ok(Read { chunks: followed.output, missing, finished: followed.finished })
    }

    /// Waits up to `wait_ms` milliseconds for output behind the cursors, or for the end of the job.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub async fn news(&self, client: &Client, wait_ms: u64) -> Result<JobDetail, ClientError> {
        match self.clone().read(client, 1, wait_ms).await?.finished {
            Some(job) => Ok(job),
            None => client.show(self.id).await,
        }
    }

    /// The first `max_bytes` of each stream as whole characters, after waiting up to `wait_ms` milliseconds for some. An
    /// incomplete character is left for the next call, unless the job has finished; it does not end the wait.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub async fn characters(&self, client: &Client, max_bytes: u32, wait_ms: u64) -> Result<Characters, ClientError> {
        let until = Instant::now() + Duration::from_millis(wait_ms);
        let from = self.offsets();
        let mut read = self.characters_once(client, max_bytes, wait_ms).await?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let is_news = read.next != from || read.held_back == OutputLengths::default();
            if is_news || left.is_zero() || read.job.state.is_finished() {
                return Ok(read);
            }
            let behind = |stream: Stream| from.get(stream) + read.held_back.get(stream);
            let behind = PerStream { stdout: behind(Stream::Stdout), stderr: behind(Stream::Stderr) };
            let wait_ms = u64::try_from(left.as_millis()).unwrap_or(MAX_WAIT_MS);
            Self::at(self.id, behind).read(client, 1, wait_ms).await?;
            read = self.characters_once(client, max_bytes, 0).await?;
        }
    }

    async fn characters_once(&self, client: &Client, max_bytes: u32, wait_ms: u64) -> Result<Characters, ClientError> {
        let from = self.offsets();
        let read = self.clone().read(client, max_bytes.max(LEAST_BYTES), wait_ms).await?;
        let job = match read.finished {
            Some(job) => job,
            None => client.show(self.id).await?,
        };
        let missing = Stream::BOTH.into_iter().map(|stream| *read.missing.get(stream)).sum();
        let held_back = OutputLengths::default();
        let mut whole = Characters { bytes: PerStream::default(), next: from, held_back, missing, job };
        for (stream, chunk) in [(Stream::Stdout, read.chunks.stdout), (Stream::Stderr, read.chunks.stderr)] {
            whole.take(stream, chunk, self.is_tail && *from.get(stream) > 0);
        }
        Ok(whole)
    }

    fn offsets(&self) -> OutputLengths {
        PerStream { stdout: self.cursors.stdout.unwrap_or(0), stderr: self.cursors.stderr.unwrap_or(0) }
    }
}

impl Characters {
    /// Adds a chunk of one stream. With `is_tail` it may begin in the middle of a character.
    fn take(&mut self, stream: Stream, mut chunk: OutputChunk, is_tail: bool) {
        if chunk.bytes.is_empty() {
            return;
        }
        let is_last = self.job.state.is_finished() && chunk.next() >= *self.job.output.get(stream);
        if !is_last {
            let unfinished = unfinished_character(&chunk.bytes);
            chunk.bytes.truncate(chunk.bytes.len() - unfinished);
            *self.held_back.get_mut(stream) = unfinished as u64;
        }
        *self.next.get_mut(stream) = chunk.next();
        let skipped = if is_tail { continuation(&chunk.bytes) } else { 0 };
        *self.bytes.get_mut(stream) = chunk.bytes.split_off(skipped);
    }

    /// Whether more output can be read already.
    pub fn has_more(&self) -> bool {
        let more = |stream| *self.job.output.get(stream) > self.next.get(stream) + self.held_back.get(stream);
        Stream::BOTH.into_iter().any(more)
    }

    /// For people: bytes that are not UTF-8 are U+FFFD.
    pub fn text(&self, stream: Stream) -> String {
        String::from_utf8_lossy(self.bytes.get(stream)).into_owned()
    }
}

/// The first cursor that lies behind the end of its stream, as `(stream, cursor, length)`.
pub fn beyond(job: &JobDetail, cursors: OutputLengths) -> Option<(Stream, u64, u64)> {
    let ends = Stream::BOTH.into_iter().map(|stream| (stream, *cursors.get(stream), *job.output.get(stream)));
    ends.into_iter().find(|(_, cursor, length)| cursor > length)
}

/// The number of bytes at the end that belong to an incomplete character.
pub fn unfinished_character(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let needed = match bytes[bytes.len() - back] {
            0x80..=0xbf => continue,
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            _ => 1,
        };
        return if needed > back { back } else { 0 };
    }
    0
}

/// The number of bytes at the beginning that continue an earlier character.
pub fn continuation(bytes: &[u8]) -> usize {
    bytes.iter().take(3).take_while(|byte| (0x80..=0xbf).contains(*byte)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyexec_proto::environment::Interpreter;
    use pyexec_proto::{JobSource, JobSpec, Timestamp};

    fn characters(printed: OutputLengths) -> Characters {
        let spec = JobSpec::new(JobSource::Code { code: "pass".into() }, "/", Interpreter::System);
        let job = JobDetail { output: printed, ..JobDetail::submitted(JobId::mint(), Timestamp(0), spec) };
        let (next, held_back) = (OutputLengths::default(), OutputLengths::default());
        Characters { bytes: PerStream::default(), next, held_back, missing: 0, job }
    }

    fn chunk(offset: u64, bytes: &[u8]) -> OutputChunk {
        OutputChunk { offset, bytes: bytes.to_vec() }
    }

    #[test]
    fn a_character_that_is_not_whole_is_left_for_the_next_read() {
        let euro = "€".as_bytes();
        let mut read = characters(PerStream { stdout: 4, stderr: 0 });
        read.take(Stream::Stdout, chunk(0, &[b"ab", &euro[..2]].concat()), false);
        assert_eq!((read.text(Stream::Stdout).as_str(), read.next.stdout), ("ab", 2));
        assert!(!read.has_more(), "half a character is nothing to read");
    }

    #[test]
    fn a_tail_begins_with_a_whole_character_and_anything_else_where_it_was_asked_to() {
        let euro = "€".as_bytes();
        let cut = [&euro[1..], b"ab"].concat();
        let mut tail = characters(PerStream { stdout: 9, stderr: 0 });
        tail.take(Stream::Stdout, chunk(5, &cut), true);
        assert_eq!((tail.text(Stream::Stdout).as_str(), tail.next.stdout), ("ab", 9));
        let mut from_cursor = characters(PerStream { stdout: 9, stderr: 0 });
        from_cursor.take(Stream::Stdout, chunk(5, &cut), false);
        assert_eq!(from_cursor.bytes.stdout, cut);
    }

    #[test]
    fn a_cursor_behind_the_end_is_named_with_both() {
        let job = characters(PerStream { stdout: 3, stderr: 5 }).job;
        assert_eq!(beyond(&job, PerStream { stdout: 3, stderr: 5 }), None);
        assert_eq!(beyond(&job, PerStream { stdout: 0, stderr: 6 }), Some((Stream::Stderr, 6, 5)));
    }
}
