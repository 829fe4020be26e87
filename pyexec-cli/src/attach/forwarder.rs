//! Forwards a job's output to the stdout and stderr of this process, byte for byte.
//!
//! [`OutputForwarder`] reads output from the daemon and writes it on a separate thread. A paused terminal or a slow reader
//! blocks that thread, and with it the next read from the daemon, but never the handling of signals.

mod readers;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use pyexec_client::{Client, reading};
use pyexec_proto::output::{MAX_CHUNK_BYTES, OutputLengths, PerStream, Stream};
use pyexec_proto::{JobDetail, JobId};
use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::{mpsc, oneshot};

use crate::exit_code::Failure;
use crate::{render, terminal};
use readers::{Reader, Readers, no_reader};

/// What to do on EPIPE from stderr. EPIPE from stdout always ends the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokenStderr {
    /// Drop the text and continue: the job matters more.
    Ignored,
    /// End the program: showing output is all it does.
    Fatal,
}

/// Forwards the output of one job, starting at given offsets.
#[derive(Debug)]
pub(crate) struct OutputForwarder {
    /// Its cursor is `None` for a stream that is not shown, or that has been shown up to `until`.
    reader: reading::Reader,
    /// The offsets at which to stop, in bytes.
    until: OutputLengths,
    writer: Writer,
    readers: Readers,
}

/// What one call of [`OutputForwarder::forward`] did.
#[derive(Debug)]
pub(crate) struct Forwarded {
    /// Set when the job has finished and all its output has been forwarded.
    pub(crate) finished: Option<JobDetail>,
    /// There was no new output.
    pub(crate) empty: bool,
}

impl OutputForwarder {
    /// Forwards all output from `cursors` on.
    pub(crate) fn open(id: JobId, cursors: PerStream<Option<u64>>, broken_stderr: BrokenStderr) -> Self {
        let until = PerStream { stdout: u64::MAX, stderr: u64::MAX };
        let writer = Writer::start(broken_stderr);
        Self { reader: reading::Reader::new(id, cursors), until, writer, readers: Readers::default() }
    }

    /// Makes [`Self::forward`] fail with EPIPE once the reader of a shown stream has closed it, even without new output.
    pub(crate) fn stop_without_reader(mut self) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        self.readers = Readers {
            stdout: self.reader.cursors.stdout.and_then(|_| Reader::of(stdout.as_fd())),
            stderr: self.reader.cursors.stderr.and_then(|_| Reader::of(stderr.as_fd())),
        };
        self
    }

    /// Makes the job wait for this reader when its output buffer is full.
    pub(crate) fn attached(mut self) -> Self {
        self.reader = self.reader.attached();
        self
    }

    /// Stops at these offsets.
    pub(crate) fn until(mut self, until: OutputLengths) -> Self {
        self.until = until;
        self.close_finished_streams();
        self
    }

    /// Whether every requested byte has been forwarded.
    pub(crate) fn is_done(&self) -> bool {
        self.reader.cursors == PerStream { stdout: None, stderr: None }
    }

    /// Forwards the output there is, after waiting up to `wait_ms` milliseconds for new output.
    pub(crate) async fn forward(&mut self, client: &Client, wait_ms: u64) -> Result<Forwarded, Failure> {
        let mut read = tokio::select! {
            biased;
            error = self.writer.failed() => return Err(Failure::Output(error)),
            () = self.readers.closed() => return Err(Failure::Output(no_reader())),
            read = self.reader.read(client, MAX_CHUNK_BYTES, wait_ms) => read?,
        };
        let mut empty = true;
        for stream in Stream::BOTH {
            let chunk = std::mem::take(read.chunks.get_mut(stream));
            if chunk.bytes.is_empty() {
                continue;
            }
            empty = false;
            let missing = *read.missing.get(stream);
            if missing > 0 {
                terminal::note(&format!("{missing} bytes of {stream} are no longer kept"));
            }
            let bytes = bytes_before(*self.until.get(stream), chunk.offset, chunk.bytes);
            self.writer.send(Chunk::Output(stream, bytes)).await.map_err(Failure::Output)?;
        }
        self.close_finished_streams();
        Ok(Forwarded { finished: read.finished, empty })
    }

    /// Replaces the status line at the bottom of the terminal; an empty line removes it.
    pub(crate) async fn status(&mut self, line: String) -> Result<(), Failure> {
        self.writer.send(Chunk::Status(line)).await.map_err(Failure::Output)
    }

    /// Returns when everything has been written.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        self.writer.finish().await.map_err(Failure::Output)
    }

    fn close_finished_streams(&mut self) {
        for stream in Stream::BOTH {
            let until = *self.until.get(stream);
            let cursor = self.reader.cursors.get_mut(stream);
            if cursor.is_some_and(|cursor| cursor >= until) {
                *cursor = None;
            }
        }
    }
}

/// The part of `bytes`, which start at `offset`, that lies before `until`.
fn bytes_before(until: u64, offset: u64, mut bytes: Vec<u8>) -> Vec<u8> {
    let room = usize::try_from(until.saturating_sub(offset)).unwrap_or(usize::MAX);
    bytes.truncate(room);
    bytes
}

/// One unit of work for the writer.
#[derive(Debug)]
enum Chunk {
    Output(Stream, Vec<u8>),
    /// The new status line.
    Status(String),
}

/// The status line at the bottom of the terminal, and whether there is room for it.
#[derive(Debug)]
struct StatusRow {
    /// Whether the job's output ended with a newline.
    at_line_start: bool,
    /// The width of the drawn status line in columns; 0 when there is none.
    drawn: usize,
}

impl StatusRow {
    /// The control sequence to write before the job's bytes.
    fn before_output(&mut self, bytes: &[u8], columns: Option<u16>) -> String {
        let clear = if self.drawn > 0 { self.clear(columns) } else { String::new() };
        self.drawn = 0;
        self.at_line_start = bytes.last().map_or(self.at_line_start, |last| *last == b'\n');
        clear
    }

    /// The text that draws the status line; empty while the cursor is inside a line of the job.
    fn status(&mut self, line: &str, columns: Option<u16>) -> String {
        if !self.at_line_start || (line.is_empty() && self.drawn == 0) {
            return String::new();
        }
        let text = format!("{}{line}", self.clear(columns));
        self.drawn = render::width(line);
        text
    }

    /// Erases the status line. A terminal that became narrower has wrapped it into several rows.
    fn clear(&self, columns: Option<u16>) -> String {
        let rows = columns.map_or(1, |columns| self.drawn.div_ceil(usize::from(columns).max(1)));
        format!("\r\x1b[K{}", "\x1b[A\x1b[2K".repeat(rows.saturating_sub(1)))
    }
}

/// Writes chunks on a thread. If no thread can be started, the calling thread writes, and a slow reader delays signals.
#[derive(Debug)]
enum Writer {
    Thread { chunks: mpsc::Sender<Chunk>, ended: oneshot::Receiver<io::Result<()>> },
    Here(Destination),
}

impl Writer {
    fn start(broken_stderr: BrokenStderr) -> Self {
        // One chunk is written while the next one is fetched; more would only be memory.
        let (chunks, mut received) = mpsc::channel::<Chunk>(1);
        let (end, ended) = oneshot::channel();
        let write_chunks = move || {
            let mut destination = Destination::new(broken_stderr);
            let mut result = Ok(());
            while let Some(chunk) = received.blocking_recv() {
                result = destination.write(chunk);
                if result.is_err() {
                    break;
                }
            }
            drop(received);
            let _ = end.send(result);
        };
        match std::thread::Builder::new().spawn(write_chunks) {
            Ok(_detached) => Self::Thread { chunks, ended },
            Err(_) => Self::Here(Destination::new(broken_stderr)),
        }
    }

    async fn send(&mut self, chunk: Chunk) -> io::Result<()> {
        match self {
            Self::Here(destination) => destination.write(chunk),
            Self::Thread { chunks, ended } => match chunks.send(chunk).await {
                Ok(()) => Ok(()),
                // The thread ended early and returned its error.
                Err(_) => ended.await.unwrap_or(Ok(())).and(Err(io::ErrorKind::BrokenPipe.into())),
            },
        }
    }

    /// Returns the error when a write fails. Must not be awaited again after that.
    async fn failed(&mut self) -> io::Error {
        let ended = match self {
            Self::Thread { ended, .. } => ended,
            // `send` returns the error.
            Self::Here(_) => return std::future::pending().await,
        };
        match ended.await {
            Ok(Err(error)) => error,
            // The thread ends without an error only after `finish`.
            Ok(Ok(())) | Err(_) => std::future::pending().await,
        }
    }

    async fn finish(self) -> io::Result<()> {
        match self {
            Self::Here(_) => Ok(()),
            Self::Thread { chunks, ended } => {
                drop(chunks);
                ended.await.unwrap_or(Ok(()))
            }
        }
    }
}

/// Stdout, stderr and the state that the next write depends on.
#[derive(Debug)]
struct Destination {
    broken_stderr: BrokenStderr,
    /// Stderr is broken, and text for it is dropped.
    dropped: bool,
    status_row: StatusRow,
}

impl Destination {
    fn new(broken_stderr: BrokenStderr) -> Self {
        Self { broken_stderr, dropped: false, status_row: StatusRow { at_line_start: true, drawn: 0 } }
    }

    fn write(&mut self, chunk: Chunk) -> io::Result<()> {
        match chunk {
            Chunk::Output(stream, bytes) => {
                let clear = self.status_row.before_output(&bytes, terminal::stderr_columns());
                self.write_to(Stream::Stderr, clear.as_bytes())?;
                self.write_to(stream, &bytes)
            }
            Chunk::Status(line) => {
                let text = self.status_row.status(&line, terminal::stderr_columns());
                self.write_to(Stream::Stderr, text.as_bytes())
            }
        }
    }

    fn write_to(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        match stream {
            Stream::Stdout => write_all(io::stdout().as_fd(), bytes),
            Stream::Stderr if self.dropped => Ok(()),
            Stream::Stderr => write_all(io::stderr().as_fd(), bytes).or_else(|error| match self.broken_stderr {
                BrokenStderr::Fatal => Err(error),
                BrokenStderr::Ignored => {
                    self.dropped = true;
                    Ok(())
                }
            }),
        }
    }
}

/// Writes without the buffers of `std`, which hold back text until a newline. Waits if another program has made the
/// descriptor non-blocking.
fn write_all(descriptor: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(descriptor, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let mut watched = [PollFd::new(&descriptor, PollFlags::OUT)];
                match poll(&mut watched, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn nothing_beyond_the_end_is_shown() {
        let cases = [(u64::MAX, 0, 4), (4, 0, 4), (3, 0, 3), (10, 8, 2), (8, 8, 0), (3, 8, 0)];
        for (until, offset, kept) in cases {
            assert_eq!(bytes_before(until, offset, vec![0; 4]).len(), kept, "until {until} from {offset}");
        }
    }

    #[test]
    fn a_pipe_that_is_full_and_does_not_block_still_gets_every_byte() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("can be made non-blocking");
        let sent: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
        let expected = sent.clone();
        let thread = std::thread::spawn(move || write_all(writer.as_fd(), &sent));
        let mut received = Vec::new();
        reader.read_to_end(&mut received).expect("can be read");
        thread.join().expect("does not panic").expect("writes all");
        assert!(received == expected, "{} bytes came of {}", received.len(), expected.len());
    }

    #[test]
    fn a_line_of_ours_never_stands_in_a_line_of_the_jobs() {
        let mut status_row = StatusRow { at_line_start: true, drawn: 0 };
        assert_eq!(status_row.status("", Some(80)), "", "nothing to take away");
        assert_eq!(status_row.status("one", Some(80)), "\r\x1b[Kone");
        assert_eq!(status_row.status("two", Some(80)), "\r\x1b[Ktwo");
        assert_eq!(status_row.before_output(b"half a line", Some(80)), "\r\x1b[K");
        assert_eq!(status_row.status("three", Some(80)), "");
        assert_eq!(status_row.before_output(b" and the rest\n", Some(80)), "");
        assert_eq!(status_row.status("four", Some(80)), "\r\x1b[Kfour");
        assert_eq!(status_row.status("", Some(80)), "\r\x1b[K");
        assert_eq!(status_row.before_output(b"x\n", Some(80)), "");
        // A bar that the job draws itself.
        status_row.before_output(b"10%\r", Some(80));
        assert_eq!(status_row.status("five", Some(80)), "");
        status_row.before_output(b"\n", Some(80));
        status_row.status("a line of thirty-one characters", Some(80));
        assert_eq!(status_row.status("", Some(10)), "\r\x1b[K\x1b[A\x1b[2K\x1b[A\x1b[2K\x1b[A\x1b[2K");
    }

    #[test]
    fn a_reader_that_left_is_a_broken_pipe() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let error = write_all(writer.as_fd(), b"x").expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
