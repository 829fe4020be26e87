//! Forwards the stdin of this process to the job, byte for byte and no faster than the job reads.
//!
//! Reading blocks, so it happens on a detached thread, which ends with the process.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use pyexec_client::{Client, ClientError};
use pyexec_proto::JobId;
use pyexec_proto::error::{Error, NoInput};
use pyexec_proto::id::SenderId;
use pyexec_proto::request::{Input, InputTaken};
use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::mpsc;

use crate::advice::Advice;
use crate::exit_code::Failure;
use crate::terminal;

/// What the job sees when our stdin ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtEnd {
    Close,
    /// Leave the job's stdin open for `pyexec send`.
    KeepOpen,
}

/// The most that is read at once: what a pipe holds.
const CHUNK_BYTES: usize = 64 << 10;

/// How long one call may wait for room in the job's buffer.
const ROOM_MS: u64 = 20_000;
/// How long one call may wait for the job's start.
pub(crate) const START_MS: u64 = 20_000;

/// Forwards until the stdin of this process ends, or the job closes its own.
pub(crate) async fn forward_stdin(client: Arc<Client>, id: JobId, stdin: Stdin) {
    match feed(&client, id, stdin).await {
        Ok(()) => {}
        Err(error) if is_the_jobs_choice(&error) => {}
        Err(error) => {
            terminal::error(&error, error.hint().as_deref());
            terminal::note("stdin is no longer forwarded to the job");
        }
    }
}

/// Whether the error only says that the job has stopped reading, which is not a failure.
fn is_the_jobs_choice(error: &ClientError) -> bool {
    let ClientError::Refused(Error::NoInput { why, .. }) = error else { return false };
    match why {
        NoInput::Finished | NoInput::Closed | NoInput::ClosedByJob => true,
        NoInput::NotOpened | NoInput::NotStarted | NoInput::NoAnswer { .. } => false,
    }
}

async fn feed(client: &Client, id: JobId, stdin: Stdin) -> Result<(), ClientError> {
    let Stdin { begin, mut read, at_end } = stdin;
    let _ = begin.send(());
    let (wait_ms, start_wait_ms) = (ROOM_MS, START_MS);
    let mut input = Input { sender: SenderId::mint(), offset: 0, bytes: vec![], close: false, wait_ms, start_wait_ms };
    while let Some(bytes) = read.recv().await {
        input.bytes = bytes;
        input.offset = send(client, id, input.clone()).await?;
    }
    match at_end {
        AtEnd::Close => {
            input.bytes.clear();
            input.close = true;
            send(client, id, input).await.map(|_| ())
        }
        AtEnd::KeepOpen => Ok(()),
    }
}

/// Returns the next offset once the job's buffer has accepted all of `input`.
async fn send(client: &Client, id: JobId, mut input: Input) -> Result<u64, ClientError> {
    loop {
        match send_once_started(client, id, &input).await {
            Ok(taken) => match remaining(input, taken.total) {
                Ok(rest) => input = rest,
                Err(total) => return Ok(total),
            },
            // The daemon skips bytes before its offset, so that repeating the call feeds nothing twice.
            Err(ClientError::Late { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Sends `input` to a job that may still be queued or preparing. The daemon waits for the start and answers with an error
/// if the job never starts; this function repeats the call when that wait times out.
pub(crate) async fn send_once_started(client: &Client, id: JobId, input: &Input) -> Result<InputTaken, ClientError> {
    loop {
        match client.send_input(id, input).await {
            Err(ClientError::Refused(Error::NoInput { why: NoInput::NotStarted, .. })) => {}
            other => return other,
        }
    }
}

/// The input that is left once `total` bytes have been accepted; `Err(total)` when nothing is left.
fn remaining(mut input: Input, total: u64) -> Result<Input, u64> {
    let taken = total.saturating_sub(input.offset);
    let taken = usize::try_from(taken).unwrap_or(usize::MAX).min(input.bytes.len());
    input.bytes.drain(..taken);
    input.offset = total;
    if input.bytes.is_empty() { Err(total) } else { Ok(input) }
}

/// The thread that reads stdin. It reads nothing before the job is submitted: if the submission fails, the input stays
/// available to the next program.
#[derive(Debug)]
pub(crate) struct Stdin {
    begin: std::sync::mpsc::Sender<()>,
    read: mpsc::Receiver<Vec<u8>>,
    at_end: AtEnd,
}

impl Stdin {
    /// # Errors
    /// When no thread can be started: a job without its intended input would behave differently.
    pub(crate) fn open(at_end: AtEnd) -> Result<Self, Failure> {
        // One chunk is queued while the next is read, so that a fast writer blocks on its pipe and memory stays bounded.
        let (chunks, read) = mpsc::channel(1);
        let (begin, begun) = std::sync::mpsc::channel();
        let read_all = move || {
            if begun.recv().is_err() {
                return;
            }
            while let Ok(bytes) = read_some() {
                if bytes.is_empty() || chunks.blocking_send(bytes).is_err() {
                    break;
                }
            }
        };
        std::thread::Builder::new().spawn(read_all).map_err(Failure::Thread)?;
        Ok(Self { begin, read, at_end })
    }
}

fn read_some() -> io::Result<Vec<u8>> {
    let stdin = io::stdin();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match rustix::io::read(&stdin, &mut buffer) {
            Ok(read) => {
                buffer.truncate(read);
                return Ok(buffer);
            }
            Err(rustix::io::Errno::INTR) => {}
            // Another program that shares the descriptor has made it non-blocking.
            Err(rustix::io::Errno::AGAIN) => {
                let descriptor = stdin.as_fd();
                let mut watched = [PollFd::new(&descriptor, PollFlags::IN)];
                match poll(&mut watched, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_taken_is_sent_again_from_where_it_stopped() {
        let sender = SenderId::mint();
        let input = |offset, bytes: &[u8]| {
            let (wait_ms, start_wait_ms) = (ROOM_MS, START_MS);
            Input { sender, offset, bytes: bytes.to_vec(), close: false, wait_ms, start_wait_ms }
        };
        assert_eq!(remaining(input(10, b"abcdef"), 14), Ok(input(14, b"ef")));
        assert_eq!(remaining(input(10, b"abcdef"), 10), Ok(input(10, b"abcdef")));
        assert_eq!(remaining(input(10, b"abcdef"), 16), Err(16));
        assert_eq!(remaining(input(10, b""), 10), Err(10));
    }

    #[test]
    fn a_job_that_reads_no_further_is_no_error() {
        let id = JobId::mint();
        for (why, silent) in [
            (NoInput::Finished, true),
            (NoInput::Closed, true),
            (NoInput::ClosedByJob, true),
            (NoInput::NotOpened, false),
        ] {
            assert_eq!(is_the_jobs_choice(&Error::NoInput { id, why }.into()), silent, "{why:?}");
        }
        assert!(!is_the_jobs_choice(&ClientError::NotRunning));
    }
}
