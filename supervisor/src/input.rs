//! The job's stdin as a pipe that is fed from a bounded buffer: nobody blocks, and a full buffer says how much it took.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;

use pyexec_proto::id::SenderId;
use pyexec_proto::request::InputTaken;

use pyexec_run_directory::control::Refusal;

/// What is held beyond the 64 KiB in the pipe itself.
const BUFFER_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Input {
    /// The write end; `None` once closed from either side.
    pipe: Option<OwnedFd>,
    buffer: VecDeque<u8>,
    /// From each sender so far.
    accepted: BTreeMap<SenderId, u64>,
    /// Close when the buffer has run empty.
    closing: bool,
    refusal: Refusal,
}

impl Input {
    /// `pipe` must not block. `None` when the job was not started with its stdin open.
    pub(super) fn new(pipe: Option<OwnedFd>) -> Self {
        // What a sender is told once the pipe is gone, until somebody knows better.
        let refusal = if pipe.is_some() { Refusal::Finished } else { Refusal::NotOpened };
        Self { pipe, buffer: VecDeque::new(), accepted: BTreeMap::new(), closing: false, refusal }
    }

    /// Takes as much as there is room for. What of `bytes` this sender has had accepted before, going by `offset`, is a
    /// repetition: counted as taken, and not fed again.
    pub(super) fn offer(
        &mut self,
        sender: SenderId,
        offset: u64,
        bytes: &[u8],
        close: bool,
    ) -> Result<InputTaken, Refusal> {
        let accepted = self.accepted.get(&sender).copied().unwrap_or(0);
        let known = usize::try_from(accepted.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes.len());
        let fresh = &bytes[known..];
        if self.pipe.is_none() || (self.closing && !fresh.is_empty()) {
            // The repetition of a close that has happened is no error.
            let repeated = fresh.is_empty() && self.refusal == Refusal::Closed;
            return if repeated { Ok(self.taken(sender, known, 0)) } else { Err(self.refusal_now()) };
        }
        let room = BUFFER_BYTES - self.buffer.len();
        let taken = fresh.len().min(room);
        self.buffer.extend(&fresh[..taken]);
        self.closing |= close && taken == fresh.len();
        self.feed();
        // What went into the pipe has made room.
        let more = fresh.len().saturating_sub(taken).min(BUFFER_BYTES - self.buffer.len());
        self.buffer.extend(&fresh[taken..taken + more]);
        if close && taken + more == fresh.len() {
            self.closing = true;
            self.feed();
        }
        Ok(self.taken(sender, known, taken + more))
    }

    fn taken(&mut self, sender: SenderId, known: usize, fresh: usize) -> InputTaken {
        let accepted = self.accepted.entry(sender).or_default();
        *accepted += fresh as u64;
        InputTaken { bytes_written: (known + fresh) as u64, total: *accepted }
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

    /// By somebody who has not written before.
    fn offer(input: &mut Input, bytes: &[u8], close: bool) -> Result<InputTaken, Refusal> {
        input.offer(SenderId::mint(), 0, bytes, close)
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
        let taken = offer(&mut input, &offered, false).expect("is open").bytes_written;
        assert_eq!(taken, BUFFER_BYTES as u64 + (64 << 10));
        assert_eq!(offer(&mut input, b"more", false).expect("is open").bytes_written, 0);
    }

    #[test]
    fn room_appears_as_the_job_reads() {
        let (read, mut input) = open();
        offer(&mut input, &vec![b'x'; 4 << 20], false).expect("is open");
        let read_by_job = drain(&read);
        input.feed();
        assert_eq!(offer(&mut input, &vec![b'y'; 4 << 20], false).expect("is open").bytes_written, read_by_job as u64);
    }

    #[test]
    fn a_repetition_is_counted_and_not_fed_twice() {
        let (read, mut input) = open();
        let (sender, other) = (SenderId::mint(), SenderId::mint());
        assert_eq!(input.offer(sender, 0, b"hello", false).expect("is open").bytes_written, 5);
        assert_eq!(input.offer(other, 0, b"!", false).expect("is open").bytes_written, 1);
        let again = input.offer(sender, 0, b"hello world", false).expect("is open");
        assert_eq!(again, InputTaken { bytes_written: 11, total: 11 });
        assert_eq!(drain(&read), 12);
    }

    #[test]
    fn closing_is_end_of_file_after_what_was_taken() {
        let (read, mut input) = open();
        let sender = SenderId::mint();
        input.offer(sender, 0, b"last", true).expect("is open");
        assert_eq!(drain(&read), 4);
        assert_eq!(rustix::io::read(&read, &mut [0; 8]).expect("is closed"), 0);
        assert_eq!(offer(&mut input, b"late", false), Err(Refusal::Closed));
        assert_eq!(input.offer(sender, 4, b"", true).expect("a repeated close").bytes_written, 0);
    }

    #[test]
    fn a_job_that_closed_its_stdin_is_told_as_such() {
        let (read, mut input) = open();
        drop(read);
        offer(&mut input, b"x", false).expect("is taken before anyone knows");
        assert_eq!(offer(&mut input, b"x", false), Err(Refusal::ClosedByJob));
    }

    #[test]
    fn a_job_without_open_stdin_takes_nothing() {
        assert_eq!(offer(&mut Input::new(None), b"x", false), Err(Refusal::NotOpened));
    }
}
