//! Passes a job's output on to our own stdout and stderr, byte for byte.
//!
//! Writing happens on a thread of its own: a terminal that is paused, or a reader that is slow, blocks the thread and,
//! with it, the next read from the daemon, but never the signals.

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
use readers::{Reader, Readers, nobody_reads};

/// What becomes of us when nobody reads our stderr any more. A stdout that nobody reads always is the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokenStderr {
    /// Its text is dropped; the job matters more.
    GoesOn,
    /// There is nothing else to do than to show it.
    Ends,
}

/// Shows one job's output from some offset on.
#[derive(Debug)]
pub(crate) struct Passage {
    /// A stream that is not shown, or has been shown as far as it was to be, is not read.
    reader: reading::Reader,
    /// Where to stop, however much more there is.
    until: OutputLengths,
    writer: Writer,
    readers: Readers,
}

/// What one step found.
#[derive(Debug)]
pub(crate) struct Step {
    /// Set when the job has finished and all its output has been passed on.
    pub(crate) finished: Option<JobDetail>,
    /// Nothing came.
    pub(crate) empty: bool,
}

impl Passage {
    /// All that comes from `cursors` on.
    pub(crate) fn open(id: JobId, cursors: PerStream<Option<u64>>, broken_stderr: BrokenStderr) -> Self {
        let until = PerStream { stdout: u64::MAX, stderr: u64::MAX };
        let writer = Writer::start(broken_stderr);
        Self { reader: reading::Reader::new(id, cursors), until, writer, readers: Readers::default() }
    }

    /// Ends when nobody reads any more what it is to show, also while there is nothing to show.
    pub(crate) fn while_somebody_reads(mut self) -> Self {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        self.readers = Readers {
            stdout: self.reader.cursors.stdout.and_then(|_| Reader::of(stdout.as_fd())),
            stderr: self.reader.cursors.stderr.and_then(|_| Reader::of(stderr.as_fd())),
        };
        self
    }

    /// Of a job that waits for whoever reads what it prints.
    pub(crate) fn attached(mut self) -> Self {
        self.reader = self.reader.attached();
        self
    }

    /// Not beyond these lengths.
    pub(crate) fn until(mut self, until: OutputLengths) -> Self {
        self.until = until;
        self.drop_what_is_done();
        self
    }

    /// Whether all that was to be shown has been.
    pub(crate) fn is_done(&self) -> bool {
        self.reader.cursors == PerStream { stdout: None, stderr: None }
    }

    /// Passes on what there is, after waiting for `wait_ms` milliseconds for something to come.
    pub(crate) async fn step(&mut self, client: &Client, wait_ms: u64) -> Result<Step, Failure> {
        let mut read = tokio::select! {
            biased;
            error = self.writer.failed() => return Err(Failure::Output(error)),
            () = self.readers.left() => return Err(Failure::Output(nobody_reads())),
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
            let bytes = up_to(*self.until.get(stream), chunk.offset, chunk.bytes);
            self.writer.send(Piece::Output(stream, bytes)).await.map_err(Failure::Output)?;
        }
        self.drop_what_is_done();
        Ok(Step { finished: read.finished, empty })
    }

    /// Puts a line of ours at the foot of the terminal, in place of the one before; an empty one takes it away.
    pub(crate) async fn status(&mut self, line: String) -> Result<(), Failure> {
        self.writer.send(Piece::Status(line)).await.map_err(Failure::Output)
    }

    /// Returns when all of it has been written.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        self.writer.finish().await.map_err(Failure::Output)
    }

    fn drop_what_is_done(&mut self) {
        for stream in Stream::BOTH {
            let until = *self.until.get(stream);
            let cursor = self.reader.cursors.get_mut(stream);
            if cursor.is_some_and(|cursor| cursor >= until) {
                *cursor = None;
            }
        }
    }
}

/// What of `bytes`, which start at `offset`, lies before `until`.
fn up_to(until: u64, offset: u64, mut bytes: Vec<u8>) -> Vec<u8> {
    let room = usize::try_from(until.saturating_sub(offset)).unwrap_or(usize::MAX);
    bytes.truncate(room);
    bytes
}

/// What is written next.
#[derive(Debug)]
enum Piece {
    Output(Stream, Vec<u8>),
    /// A line of our own.
    Status(String),
}

/// Where the cursor of the terminal is, as far as we have moved it.
#[derive(Debug)]
struct Foot {
    /// At the beginning of a line, but for a line of ours.
    at_line_start: bool,
    /// How many columns our line takes; none when there is none.
    drawn: usize,
}

impl Foot {
    /// What to write before the job's own bytes.
    fn before_output(&mut self, bytes: &[u8], columns: Option<u16>) -> String {
        let clear = if self.drawn > 0 { self.clear(columns) } else { String::new() };
        self.drawn = 0;
        self.at_line_start = bytes.last().map_or(self.at_line_start, |last| *last == b'\n');
        clear
    }

    /// What to write for a line of ours; nothing where it would stand in a line of the job's.
    fn status(&mut self, line: &str, columns: Option<u16>) -> String {
        if !self.at_line_start || (line.is_empty() && self.drawn == 0) {
            return String::new();
        }
        let text = format!("{}{line}", self.clear(columns));
        self.drawn = render::width(line);
        text
    }

    /// Takes our line away. A terminal that has become narrower since has made several of it.
    fn clear(&self, columns: Option<u16>) -> String {
        let rows = columns.map_or(1, |columns| self.drawn.div_ceil(usize::from(columns).max(1)));
        format!("\r\x1b[K{}", "\x1b[A\x1b[2K".repeat(rows.saturating_sub(1)))
    }
}

/// The thread that writes; or, where none can be had, this one, which then hears no signal while a reader is slow.
#[derive(Debug)]
enum Writer {
    Thread { pieces: mpsc::Sender<Piece>, ended: oneshot::Receiver<io::Result<()>> },
    Here(Writing),
}

impl Writer {
    fn start(broken_stderr: BrokenStderr) -> Self {
        // One chunk is written while the next one is fetched; more would only be memory.
        let (pieces, mut received) = mpsc::channel::<Piece>(1);
        let (end, ended) = oneshot::channel();
        let write_all_pieces = move || {
            let mut writing = Writing::new(broken_stderr);
            let mut result = Ok(());
            while let Some(piece) = received.blocking_recv() {
                result = writing.write(piece);
                if result.is_err() {
                    break;
                }
            }
            drop(received);
            let _ = end.send(result);
        };
        match std::thread::Builder::new().spawn(write_all_pieces) {
            Ok(_detached) => Self::Thread { pieces, ended },
            Err(_) => Self::Here(Writing::new(broken_stderr)),
        }
    }

    async fn send(&mut self, piece: Piece) -> io::Result<()> {
        match self {
            Self::Here(writing) => writing.write(piece),
            Self::Thread { pieces, ended } => match pieces.send(piece).await {
                Ok(()) => Ok(()),
                // It has ended before its time, and says why.
                Err(_) => ended.await.unwrap_or(Ok(())).and(Err(io::ErrorKind::BrokenPipe.into())),
            },
        }
    }

    /// Returns when something could not be written, and says why. To be awaited until then, and not again.
    async fn failed(&mut self) -> io::Error {
        let ended = match self {
            Self::Thread { ended, .. } => ended,
            // Whoever sends a piece hears of it.
            Self::Here(_) => return std::future::pending().await,
        };
        match ended.await {
            Ok(Err(error)) => error,
            // It ends well only once there is nothing more to write.
            Ok(Ok(())) | Err(_) => std::future::pending().await,
        }
    }

    async fn finish(self) -> io::Result<()> {
        match self {
            Self::Here(_) => Ok(()),
            Self::Thread { pieces, ended } => {
                drop(pieces);
                ended.await.unwrap_or(Ok(()))
            }
        }
    }
}

/// What has been written so far, as far as the next piece depends on it.
#[derive(Debug)]
struct Writing {
    broken_stderr: BrokenStderr,
    /// Nobody reads our stderr any more.
    dropped: bool,
    foot: Foot,
}

impl Writing {
    fn new(broken_stderr: BrokenStderr) -> Self {
        Self { broken_stderr, dropped: false, foot: Foot { at_line_start: true, drawn: 0 } }
    }

    fn write(&mut self, piece: Piece) -> io::Result<()> {
        match piece {
            Piece::Output(stream, bytes) => {
                let clear = self.foot.before_output(&bytes, terminal::stderr_columns());
                self.pass_on(Stream::Stderr, clear.as_bytes())?;
                self.pass_on(stream, &bytes)
            }
            Piece::Status(line) => {
                let text = self.foot.status(&line, terminal::stderr_columns());
                self.pass_on(Stream::Stderr, text.as_bytes())
            }
        }
    }

    fn pass_on(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        match stream {
            Stream::Stdout => write_all(io::stdout().as_fd(), bytes),
            Stream::Stderr if self.dropped => Ok(()),
            Stream::Stderr => write_all(io::stderr().as_fd(), bytes).or_else(|error| match self.broken_stderr {
                BrokenStderr::Ends => Err(error),
                BrokenStderr::GoesOn => {
                    self.dropped = true;
                    Ok(())
                }
            }),
        }
    }
}

/// Past the buffers of `std`, which would hold back what does not end with a newline; and patient with a descriptor
/// that another program has made non-blocking.
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
            assert_eq!(up_to(until, offset, vec![0; 4]).len(), kept, "until {until} from {offset}");
        }
    }

    #[test]
    fn a_pipe_that_is_full_and_does_not_block_still_gets_every_byte() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&writer, true).expect("can be made non-blocking");
        let sent: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
        let expected = sent.clone();
        let writing = std::thread::spawn(move || write_all(writer.as_fd(), &sent));
        let mut received = Vec::new();
        reader.read_to_end(&mut received).expect("can be read");
        writing.join().expect("does not panic").expect("writes all");
        assert!(received == expected, "{} bytes came of {}", received.len(), expected.len());
    }

    #[test]
    fn a_line_of_ours_never_stands_in_a_line_of_the_jobs() {
        let mut foot = Foot { at_line_start: true, drawn: 0 };
        assert_eq!(foot.status("", Some(80)), "", "nothing to take away");
        assert_eq!(foot.status("one", Some(80)), "\r\x1b[Kone");
        assert_eq!(foot.status("two", Some(80)), "\r\x1b[Ktwo");
        assert_eq!(foot.before_output(b"half a line", Some(80)), "\r\x1b[K");
        assert_eq!(foot.status("three", Some(80)), "");
        assert_eq!(foot.before_output(b" and the rest\n", Some(80)), "");
        assert_eq!(foot.status("four", Some(80)), "\r\x1b[Kfour");
        assert_eq!(foot.status("", Some(80)), "\r\x1b[K");
        assert_eq!(foot.before_output(b"x\n", Some(80)), "");
        // A bar that the job draws itself.
        foot.before_output(b"10%\r", Some(80));
        assert_eq!(foot.status("five", Some(80)), "");
        foot.before_output(b"\n", Some(80));
        foot.status("a line of thirty-one characters", Some(80));
        assert_eq!(foot.status("", Some(10)), "\r\x1b[K\x1b[A\x1b[2K\x1b[A\x1b[2K\x1b[A\x1b[2K");
    }

    #[test]
    fn a_reader_that_left_is_a_broken_pipe() {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let error = write_all(writer.as_fd(), b"x").expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
