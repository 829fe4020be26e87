//! Reads both streams of a job from a cursor on, whole characters at a time.

use std::time::Duration;

use pyexec_client::Client;
use pyexec_client::excerpt::unfinished_character;
use pyexec_proto::output::{MAX_CHUNK_BYTES, OutputLengths, PerStream, Stream};
use pyexec_proto::request::{FollowRequest, MAX_WAIT_MS};
use pyexec_proto::{JobDetail, JobId};
use tokio::time::Instant;

use crate::answer::Failure;

/// The longest character: less would never get past one.
const LEAST_BYTES: u32 = 4;

/// What was read of both streams, and where to go on.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) bytes: PerStream<Vec<u8>>,
    pub(super) next: OutputLengths,
    /// How many bytes from there on begin a character that is not whole yet.
    held_back: OutputLengths,
    pub(super) missing: u64,
    /// The job, as it was after what was read had been written.
    pub(super) job: JobDetail,
}

impl Read {
    /// The first `max_bytes` of each stream from `from` on, after waiting for something to come. A character that is not
    /// whole is left for later, unless nothing will follow; alone it is nothing that has come.
    pub(super) async fn from(
        client: &Client,
        id: JobId,
        from: OutputLengths,
        max_bytes: u32,
        wait_ms: u64,
    ) -> Result<Self, Failure> {
        let until = Instant::now() + Duration::from_millis(wait_ms);
        let mut read = Self::once(client, id, from, max_bytes, wait_ms).await?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let is_news = read.next != from || read.held_back == OutputLengths::default();
            if is_news || left.is_zero() || read.job.state.is_finished() {
                return Ok(read);
            }
            let behind = |stream: Stream| Some(from.get(stream) + read.held_back.get(stream));
            let cursors = PerStream { stdout: behind(Stream::Stdout), stderr: behind(Stream::Stderr) };
            let wait_ms = u64::try_from(left.as_millis()).unwrap_or(MAX_WAIT_MS);
            client.follow(id, &FollowRequest { cursors, max_bytes: 1, wait_ms, attached: false }).await?;
            read = Self::once(client, id, from, max_bytes, 0).await?;
        }
    }

    async fn once(
        client: &Client,
        id: JobId,
        from: OutputLengths,
        max_bytes: u32,
        wait_ms: u64,
    ) -> Result<Self, Failure> {
        let max_bytes = max_bytes.clamp(LEAST_BYTES, MAX_CHUNK_BYTES);
        let cursors = PerStream { stdout: Some(from.stdout), stderr: Some(from.stderr) };
        let followed = client.follow(id, &FollowRequest { cursors, max_bytes, wait_ms, attached: false }).await?;
        let job = match followed.finished {
            Some(job) => job,
            None => client.show(id).await?,
        };
        let held_back = OutputLengths::default();
        let mut read = Self { bytes: PerStream::default(), next: from, held_back, missing: 0, job };
        for (stream, mut chunk) in [(Stream::Stdout, followed.output.stdout), (Stream::Stderr, followed.output.stderr)]
        {
            if chunk.bytes.is_empty() {
                continue;
            }
            let is_last = read.job.state.is_finished() && chunk.next() >= *read.job.output.get(stream);
            if !is_last {
                let unfinished = unfinished_character(&chunk.bytes);
                chunk.bytes.truncate(chunk.bytes.len() - unfinished);
                *read.held_back.get_mut(stream) = unfinished as u64;
            }
            read.missing += chunk.offset.saturating_sub(*from.get(stream));
            *read.next.get_mut(stream) = chunk.next();
            *read.bytes.get_mut(stream) = chunk.bytes;
        }
        Ok(read)
    }

    /// Whether there is more already that could be read.
    pub(super) fn has_more(&self) -> bool {
        let more = |stream| *self.job.output.get(stream) > self.next.get(stream) + self.held_back.get(stream);
        Stream::BOTH.into_iter().any(more)
    }
}

/// A cursor that no call can have given: behind the end of its stream, which is returned with it.
pub(super) fn beyond(job: &JobDetail, cursors: OutputLengths) -> Option<(Stream, u64, u64)> {
    let ends = Stream::BOTH.into_iter().map(|stream| (stream, *cursors.get(stream), *job.output.get(stream)));
    ends.into_iter().find(|(_, cursor, length)| cursor > length)
}
