//! Reading a job's output, and waiting for more of it or for the end.

use std::time::Duration;

use pyexec_proto::output::{MAX_CHUNK_BYTES, OutputChunk, PerStream, Stream};
use pyexec_proto::service::{FollowRequest, Followed, MAX_WAIT_MS};
use pyexec_proto::{Error, JobId};
use tokio::time::Instant;

use crate::jobs::{Jobs, Snapshot, blocking, leaving};
use crate::output;

pub(super) async fn follow(jobs: &Jobs, id: JobId, request: FollowRequest) -> Result<Followed, Error> {
    let until = Instant::now() + Duration::from_millis(request.wait_ms.min(MAX_WAIT_MS));
    let wants_output = request.max_bytes > 0 && (request.cursors.stdout.is_some() || request.cursors.stderr.is_some());
    let mut shutting_down = jobs.shutting_down();
    let Some(mut told) = jobs.watch(id).await? else { return read_finished(jobs, id, &request).await };
    loop {
        // Subscribed before anything is read: what happens from here on is noticed.
        let Snapshot { state, handle } = told.borrow_and_update().clone();
        if state.is_finished() {
            return read_finished(jobs, id, &request).await;
        }
        let mut lengths = handle.as_ref().map(crate::engine::RunHandle::lengths);
        if let Some(lengths) = &mut lengths {
            lengths.borrow_and_update();
        }
        let output = read(jobs, id, &request).await?;
        let news = Stream::BOTH.iter().any(|stream| !output.get(*stream).bytes.is_empty());
        if news || Instant::now() >= until {
            return Ok(Followed { output, finished: None });
        }
        if wants_output && let Some(handle) = &handle {
            handle.watch_output();
        }
        let more_output = async {
            match &mut lengths {
                // Without a supervisor to speak to there will be no word of it.
                Some(lengths) if wants_output => {
                    if lengths.changed().await.is_err() {
                        std::future::pending().await
                    }
                }
                Some(_) | None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = more_output => {}
            changed = told.changed() => if changed.is_err() {
                return read_finished(jobs, id, &request).await;
            },
            () = tokio::time::sleep_until(until) => {}
            () = leaving(&mut shutting_down) => return Err(Error::ShuttingDown),
        }
    }
}

/// The job's state is looked at before its output: what is read then is all there will be.
async fn read_finished(jobs: &Jobs, id: JobId, request: &FollowRequest) -> Result<Followed, Error> {
    let job = jobs.get(id).await?;
    let output = read(jobs, id, request).await?;
    if !job.state.is_finished() {
        return Ok(Followed { output, finished: None });
    }
    let at_end = |stream| {
        request.max_bytes == 0 || request.cursors.get(stream).is_none() || {
            let chunk = output.get(stream);
            chunk.bytes.is_empty() || chunk.next() >= *job.output.get(stream)
        }
    };
    let finished = Stream::BOTH.into_iter().all(at_end).then_some(job);
    Ok(Followed { output, finished })
}

async fn read(jobs: &Jobs, id: JobId, request: &FollowRequest) -> Result<PerStream<OutputChunk>, Error> {
    let max = request.max_bytes.min(MAX_CHUNK_BYTES) as usize;
    let (directory, cursors) = (jobs.directory(id), request.cursors);
    if max == 0 || (cursors.stdout.is_none() && cursors.stderr.is_none()) {
        return Ok(PerStream::default());
    }
    let read = move || {
        let one = |cursor: Option<u64>, stream| match cursor {
            Some(offset) => output::read(&directory, stream, offset, max),
            None => Ok(OutputChunk::default()),
        };
        Ok(PerStream { stdout: one(cursors.stdout, Stream::Stdout)?, stderr: one(cursors.stderr, Stream::Stderr)? })
    };
    blocking(read).await.map_err(|error| unreadable(&error))
}

pub(super) async fn tail_offset(jobs: &Jobs, id: JobId, stream: Stream, lines: u64) -> Result<u64, Error> {
    jobs.get(id).await?;
    let directory = jobs.directory(id);
    blocking(move || output::tail_offset(&directory, stream, lines)).await.map_err(|error| unreadable(&error))
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::Storage { doing: "read the output".to_owned(), problem: error.to_string() }
}
