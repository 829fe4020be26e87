//! The job's stdin as a pipe that is fed from a bounded buffer: nobody blocks, and a full buffer says how much it took.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use pyexec_proto::service::InputTaken;

use super::control::Refusal;

/// What is held beyond the 64 KiB in the pipe itself.
const BUFFER_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Input {
    /// The write end; `None` once closed from either side.
    pipe: Option<OwnedFd>,
    buffer: VecDeque<u8>,
    accepted: u64,
    /// Close when the buffer has run empty.
    closing: bool,
    refusal: Refusal,
}

impl Input {
    /// `pipe` must not block. `None` when the job was not started with its stdin open.
    pub(super) fn new(pipe: Option<OwnedFd>) -> Self {
        Self { pipe, buffer: VecDeque::new(), accepted: 0, closing: false, refusal: Refusal::NotOpened }
    }

    /// Takes as much as there is room for. `offset` is how much the sender has had accepted before: what of `bytes` lies
    /// before what is already known is a repetition, counted as taken and not fed again.
    pub(super) fn offer(&mut self, offset: Option<u64>, bytes: &[u8], close: bool) -> Result<InputTaken, Refusal> {
        let known = offset.map_or(0, |offset| self.accepted.saturating_sub(offset));
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
        let fresh = &bytes[known..];
        if self.pipe.is_none() || (self.closing && !fresh.is_empty()) {
            // The repetition of a close that has happened is no error.
            let repeated = fresh.is_empty() && self.refusal == Refusal::Closed;
            return if repeated { Ok(self.taken(known)) } else { Err(self.refusal_now()) };
        }
        let room = BUFFER_BYTES - self.buffer.len();
        let taken = fresh.len().min(room);
        self.buffer.extend(&fresh[..taken]);
        self.accepted += taken as u64;
        self.closing |= close && taken == fresh.len();
        self.feed();
        // What went into the pipe has made room.
        let more = fresh.len().saturating_sub(taken).min(BUFFER_BYTES - self.buffer.len());
        self.buffer.extend(&fresh[taken..taken + more]);
        self.accepted += more as u64;
        if close && taken + more == fresh.len() {
            self.closing = true;
            self.feed();
        }
        Ok(self.taken(known + taken + more))
    }

    fn taken(&self, bytes: usize) -> InputTaken {
        InputTaken { bytes_written: bytes as u64, total: self.accepted }
    }

    fn refusal_now(&self) -> Refusal {
        if self.closing { Refusal::Closed } else { self.refusal }
    }

    /// The descriptor to watch, and whether for room as well as for the job closing its end.
    pub(super) fn pipe(&self) -> Option<(&OwnedFd, bool)> {
        self.pipe.as_ref().map(|pipe| (pipe, !self.buffer.is_empty()))
    }

    /// The other end is closed.
    pub(super) fn closed_by_job(&mut self) {
        if self.pipe.take().is_some() {
            self.buffer.clear();
            self.refusal = Refusal::ClosedByJob;
        }
    }

    /// The job is over.
    pub(super) fn finish(&mut self) {
        self.pipe = None;
        self.buffer.clear();
        if self.refusal == Refusal::NotOpened {
            return;
        }
        self.refusal = Refusal::Finished;
    }

    /// Writes what the pipe takes.
    pub(super) fn feed(&mut self) {
        while let Some(pipe) = &self.pipe {
            if self.buffer.is_empty() {
                if self.closing {
                    self.pipe = None;
                    self.refusal = Refusal::Closed;
                }
                return;
            }
            match rustix::io::write(pipe, self.buffer.as_slices().0).map_err(io::Error::from) {
                Ok(written) => drop(self.buffer.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.closed_by_job(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    fn open() -> (OwnedFd, Input) {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK).expect("a pipe");
        (read, Input::new(Some(write)))
    }

    fn drain(pipe: &OwnedFd) -> usize {
        let mut buffer = [0; 4096];
        let mut total = 0;
        while let Ok(read @ 1..) = rustix::io::read(pipe, &mut buffer) {
            total += read;
        }
        total
    }

    #[test]
    fn a_reader_that_never_reads_fills_the_buffer_and_blocks_nobody() {
        let (_read, mut input) = open();
        let offered = vec![b'x'; 4 << 20];
        let taken = input.offer(None, &offered, false).expect("is open").bytes_written;
        assert_eq!(taken, BUFFER_BYTES as u64 + (64 << 10));
        assert_eq!(input.offer(None, b"more", false).expect("is open").bytes_written, 0);
    }

    #[test]
    fn room_appears_as_the_job_reads() {
        let (read, mut input) = open();
        input.offer(None, &vec![b'x'; 4 << 20], false).expect("is open");
        let read_by_job = drain(&read);
        input.feed();
        assert_eq!(input.offer(None, &vec![b'y'; 4 << 20], false).expect("is open").bytes_written, read_by_job as u64);
    }

    #[test]
    fn a_repetition_is_counted_and_not_fed_twice() {
        let (read, mut input) = open();
        assert_eq!(input.offer(Some(0), b"hello", false).expect("is open").bytes_written, 5);
        let again = input.offer(Some(0), b"hello world", false).expect("is open");
        assert_eq!(again, InputTaken { bytes_written: 11, total: 11 });
        assert_eq!(drain(&read), 11);
    }

    #[test]
    fn closing_is_end_of_file_after_what_was_taken() {
        let (read, mut input) = open();
        input.offer(None, b"last", true).expect("is open");
        assert_eq!(drain(&read), 4);
        assert_eq!(rustix::io::read(&read, &mut [0; 8]).expect("is closed"), 0);
        assert_eq!(input.offer(None, b"late", false), Err(Refusal::Closed));
        assert_eq!(input.offer(Some(4), b"", true).expect("a repeated close").bytes_written, 0);
    }

    #[test]
    fn a_job_that_closed_its_stdin_is_told_as_such() {
        let (read, mut input) = open();
        drop(read);
        input.offer(None, b"x", false).expect("is taken before anyone knows");
        assert_eq!(input.offer(None, b"x", false), Err(Refusal::ClosedByJob));
    }

    #[test]
    fn a_job_without_open_stdin_takes_nothing() {
        assert_eq!(Input::new(None).offer(None, b"x", false), Err(Refusal::NotOpened));
    }
}
