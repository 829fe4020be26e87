//! Reading a job's output, and waiting for more of it or for the end.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pyexec_proto::output::{MAX_CHUNK_BYTES, OutputChunk, OutputLengths, PerStream, Stream};
use pyexec_proto::request::{FollowRequest, Followed, MAX_WAIT_MS};
use pyexec_proto::{Error, JobDetail, JobId, Outcome};
use tokio::time::Instant;

use crate::blocking::blocking;
use crate::engine::RunHandle;
use crate::jobs::{Jobs, Snapshot, leaving};
use pyexec_run_directory::output;

/// Tells supervisors how far one connection is with what it reads all of; dropped with the connection.
#[derive(Debug)]
pub struct Reader {
    number: u64,
    held: Mutex<HashMap<JobId, RunHandle>>,
}

impl Default for Reader {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { number: NEXT.fetch_add(1, Ordering::Relaxed), held: Mutex::default() }
    }
}

impl Reader {
    fn is_at(&self, id: JobId, handle: &RunHandle, from: OutputLengths) {
        handle.hold(self.number, Some(from));
        self.held.lock().expect("nobody panics with it").insert(id, handle.clone());
    }

    fn is_done_with(&self, id: JobId) {
        self.held.lock().expect("nobody panics with it").remove(&id);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for handle in self.held.get_mut().expect("nobody panics with it").values() {
            handle.hold(self.number, None);
        }
    }
}

pub(super) async fn follow(jobs: &Jobs, reader: &Reader, id: JobId, request: FollowRequest) -> Result<Followed, Error> {
    let followed = await_news(jobs, reader, id, request).await?;
    if followed.finished.is_some() {
        reader.is_done_with(id);
    }
    Ok(followed)
}

async fn await_news(jobs: &Jobs, reader: &Reader, id: JobId, request: FollowRequest) -> Result<Followed, Error> {
    let until = Instant::now() + Duration::from_millis(request.wait_ms.min(MAX_WAIT_MS));
    let wants_output = request.max_bytes > 0 && (request.cursors.stdout.is_some() || request.cursors.stderr.is_some());
    let mut shutting_down = jobs.shutting_down();
    let Some(mut told) = jobs.watch(id).await? else {
        return read_finished(jobs, jobs.get(id).await?, &request).await;
    };
    loop {
        // Subscribed before anything is read: what happens from here on is noticed.
        let Snapshot { job, handle, mut lengths } = told.borrow_and_update().clone();
        if job.state.is_finished() {
            return read_finished(jobs, JobDetail::clone(&job), &request).await;
        }
        if request.attached
            && let Some(handle) = &handle
        {
            // A stream that is not read holds nothing.
            let at = |cursor: Option<u64>| cursor.unwrap_or(u64::MAX);
            let from = OutputLengths { stdout: at(request.cursors.stdout), stderr: at(request.cursors.stderr) };
            reader.is_at(id, handle, from);
        }
        let known = *lengths.borrow_and_update();
        let is_late = Instant::now() >= until;
        // What the supervisor has not told of need not be looked for while there is time to wait for its word.
        if is_late || (wants_output && has_more(&known, &request)) {
            let output = read(jobs, id, &request).await?;
            let news = Stream::BOTH.iter().any(|stream| !output.get(*stream).bytes.is_empty());
            if news || is_late {
                return Ok(Followed { output, finished: None });
            }
        }
        if wants_output && let Some(handle) = &handle {
            handle.watch_output();
        }
        let more_output = async {
            // Without anybody who writes there will be no word of it.
            if !wants_output || lengths.changed().await.is_err() {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = more_output => {}
            changed = told.changed() => if changed.is_err() {
                return read_finished(jobs, jobs.get(id).await?, &request).await;
            },
            () = tokio::time::sleep_until(until) => {}
            () = leaving(&mut shutting_down) => return Err(Error::ShuttingDown),
        }
    }
}

/// Whether a stream that is asked for goes on behind its cursor.
fn has_more(lengths: &OutputLengths, request: &FollowRequest) -> bool {
    Stream::BOTH.iter().any(|stream| request.cursors.get(*stream).is_some_and(|cursor| *lengths.get(*stream) > cursor))
}

/// The job's state is known before its output is read: what is read then is all there will be.
async fn read_finished(jobs: &Jobs, mut job: JobDetail, request: &FollowRequest) -> Result<Followed, Error> {
    if !job.state.is_finished() {
        return Ok(Followed { output: read(jobs, job.id, request).await?, finished: None });
    }
    let (id, directory, wanted) = (job.id, jobs.directory(job.id), request.clone());
    let look = move || {
        job.output = match job.state.outcome() {
            Some(Outcome::Ended(record)) => record.output,
            Some(Outcome::NotStarted(_) | Outcome::Lost { .. }) | None => output::lengths(&directory)?,
        };
        let output = if has_more(&job.output, &wanted) { read_from(&directory, &wanted)? } else { nothing(&wanted) };
        // Looked at last: files that have gone while they were read have not been read to their ends.
        job.output_removed_from = output::removed_from(&directory, &job.state);
        Ok((job, output))
    };
    let (job, output) = blocking(look).await.map_err(|error| unreadable(&error))?;
    if job.output_removed_from.is_some() {
        jobs.refuse_removed(id)?;
    }
    let at_end = |stream| {
        let chunk: &OutputChunk = output.get(stream);
        request.max_bytes == 0
            || request.cursors.get(stream).is_none()
            || chunk.bytes.is_empty()
            || chunk.next() >= *job.output.get(stream)
    };
    let finished = Stream::BOTH.into_iter().all(at_end).then_some(job);
    Ok(Followed { output, finished })
}

/// No bytes, at the places that were asked for.
fn nothing(request: &FollowRequest) -> PerStream<OutputChunk> {
    let at = |cursor: Option<u64>| OutputChunk { offset: cursor.unwrap_or(0), bytes: Vec::new() };
    PerStream { stdout: at(request.cursors.stdout), stderr: at(request.cursors.stderr) }
}

async fn read(jobs: &Jobs, id: JobId, request: &FollowRequest) -> Result<PerStream<OutputChunk>, Error> {
    let (directory, request) = (jobs.directory(id), request.clone());
    blocking(move || read_from(&directory, &request)).await.map_err(|error| unreadable(&error))
}

fn read_from(directory: &Path, request: &FollowRequest) -> io::Result<PerStream<OutputChunk>> {
    let max = request.max_bytes.min(MAX_CHUNK_BYTES) as usize;
    let cursors = request.cursors;
    if max == 0 || (cursors.stdout.is_none() && cursors.stderr.is_none()) {
        return Ok(nothing(request));
    }
    let one = |cursor: Option<u64>, stream| match cursor {
        Some(offset) if output::is_there(directory) => output::read(directory, stream, offset, max),
        Some(offset) => Ok(OutputChunk { offset, bytes: Vec::new() }),
        None => Ok(OutputChunk::default()),
    };
    Ok(PerStream { stdout: one(cursors.stdout, Stream::Stdout)?, stderr: one(cursors.stderr, Stream::Stderr)? })
}

pub(super) async fn tail_offset(jobs: &Jobs, id: JobId, stream: Stream, lines: u64) -> Result<u64, Error> {
    jobs.with_files(id, "read the output", move |directory| output::tail_offset(directory, stream, lines)).await
}

fn unreadable(error: &io::Error) -> Error {
    Error::Storage { doing: "read the output".to_owned(), problem: error.to_string() }
}
