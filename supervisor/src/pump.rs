//! Moves one stream of the job from its pipe into segment files.
//!
//! A pipe, and not the log itself as the job's stdout: a job that opens `/dev/stdout` for writing would truncate its own
//! log. Segments, so that the oldest can be dropped while every byte keeps its offset.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use pyexec_proto::output::Stream;
use rustix::fs::OFlags;
use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};

use pyexec_run_directory::record::private_file;
use pyexec_run_directory::segment;

/// How much is moved before others get their turn.
const TURN_BYTES: u64 = 4 << 20;
/// A pipe that is found this full belongs to a job that prints a lot.
const FULL_PIPE: usize = 64 << 10;
/// What such a job's pipe grows to. Not given to every job: the memory of a user's pipes is limited all together.
const LARGE_PIPE: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Pump {
    stream: Stream,
    /// `None` once the last writer has closed it.
    pipe: Option<OwnedFd>,
    /// The segment that is being written; made when its first byte comes.
    file: Option<File>,
    length: u64,
    grown: bool,
    /// This file system does not splice.
    copies: bool,
    /// There is nowhere to write to any more.
    discards: bool,
    keeping: Keeping,
}

/// Which segments are kept.
#[derive(Debug)]
struct Keeping {
    most_bytes: u64,
    /// The oldest there is but for the first.
    oldest: u64,
    /// Nothing is dropped from here on: somebody is still to read it.
    held_from: Option<u64>,
    /// There is no room for another segment until somebody has read one.
    waits: bool,
    /// The job's own process has ended: what is in the pipe is the rest, and is kept whatever there is of it.
    takes_all: bool,
}

impl Keeping {
    /// Makes room for a segment, if that can be; the first and the last one are always kept.
    fn make_room(&mut self, next: u64, drop: impl Fn(u64)) -> bool {
        let kept = |oldest: u64| (next.saturating_sub(oldest) + 2) * segment::BYTES;
        while next > 0 && self.oldest < next && kept(self.oldest) > self.most_bytes && !self.takes_all {
            if self.held_from.is_some_and(|from| segment::number(from) <= self.oldest) {
                return false;
            }
            drop(self.oldest);
            self.oldest += 1;
        }
        true
    }
}

/// What a turn came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pumped {
    /// There may be more.
    More,
    /// The pipe is empty.
    Empty,
    /// Every writer has closed it.
    Closed,
    /// There is no room for more until somebody has read what is there.
    Waits,
}

impl Pump {
    /// `pipe` must not block. Goes on behind what the preparation of the job has said in the first segment, and keeps no
    /// more than `most_bytes` of it all.
    pub(super) fn new(stream: Stream, pipe: OwnedFd, most_bytes: u64) -> Self {
        let length = std::fs::metadata(segment::name(stream, 0)).map_or(0, |data| data.len());
        let keeping = Keeping { most_bytes, oldest: 1, held_from: None, waits: false, takes_all: false };
        Self { stream, pipe: Some(pipe), file: None, length, grown: false, copies: false, discards: false, keeping }
    }

    /// From here on nothing is dropped; `None`: anything may be.
    pub(super) fn hold(&mut self, from: Option<u64>) {
        self.keeping.held_from = from;
        self.keeping.waits = false;
    }

    /// Whether it takes nothing until somebody has read.
    pub(super) fn waits(&self) -> bool {
        self.keeping.waits
    }

    /// What is still to come is not much, and nobody is waited for.
    pub(super) fn take_all(&mut self) {
        self.keeping.takes_all = true;
        self.keeping.waits = false;
    }

    /// Takes what comes through another pipe, behind what has come so far.
    pub(super) fn go_on_with(&mut self, pipe: OwnedFd) {
        self.pipe = Some(pipe);
        self.grown = false;
        self.keeping.takes_all = false;
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn pipe(&self) -> Option<&OwnedFd> {
        self.pipe.as_ref()
    }

    /// From here on what comes is read, and dropped: a job must not hang on a log that somebody has deleted.
    pub(super) fn discard(&mut self) {
        self.discards = true;
        self.file = None;
    }

    pub(super) fn close(&mut self) {
        self.pipe = None;
    }

    /// Moves what is there, up to a turn's worth.
    ///
    /// # Errors
    /// When the log can not be written. Nothing is lost: what was not written is still in the pipe.
    pub(super) fn turn(&mut self) -> io::Result<Pumped> {
        let mut moved = 0;
        while moved < TURN_BYTES {
            match self.step()? {
                Step::Moved(bytes) => moved += bytes as u64,
                Step::Empty => return Ok(Pumped::Empty),
                Step::Waits => return Ok(Pumped::Waits),
                Step::Closed => {
                    self.pipe = None;
                    return Ok(Pumped::Closed);
                }
            }
        }
        Ok(Pumped::More)
    }

    fn step(&mut self) -> io::Result<Step> {
        let Some(pipe) = &self.pipe else { return Ok(Step::Closed) };
        if self.discards {
            let mut dropped = [0; 16 << 10];
            return match rustix::io::read(pipe, &mut dropped) {
                Ok(0) => Ok(Step::Closed),
                Ok(bytes) => Ok(Step::Moved(bytes)),
                Err(rustix::io::Errno::AGAIN) => Ok(Step::Empty),
                Err(rustix::io::Errno::INTR) => Ok(Step::Moved(0)),
                Err(error) => Err(error.into()),
            };
        }
        // A segment is only made when there is a byte for it.
        if self.file.is_none() {
            match rustix::io::ioctl_fionread(pipe) {
                Ok(0) | Err(_) => return Ok(probe(pipe)),
                Ok(_) => {
                    let number = segment::number(self.length);
                    let drop = |number| drop(std::fs::remove_file(segment::name(self.stream, number)));
                    if segment::offset_within(self.length) == 0 && !self.keeping.make_room(number, drop) {
                        self.keeping.waits = true;
                        return Ok(Step::Waits);
                    }
                    let name = segment::name(self.stream, number);
                    let how = OFlags::CREATE | OFlags::WRONLY;
                    self.file = Some(private_file(Path::new(&name), how)?);
                }
            }
        }
        let file = self.file.as_ref().expect("was just made");
        let mut at = segment::offset_within(self.length);
        let room = usize::try_from(segment::BYTES - at).unwrap_or(usize::MAX);
        let moved = if self.copies {
            copy(pipe, file, at, room)
        } else {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            splice(pipe, None, file, Some(&mut at), room.min(LARGE_PIPE), flags).map_err(io::Error::from)
        };
        match moved {
            Ok(0) => Ok(Step::Closed),
            Ok(bytes) => {
                self.length += bytes as u64;
                if segment::offset_within(self.length) == 0 {
                    self.file = None;
                }
                if bytes >= FULL_PIPE && !self.grown {
                    self.grown = true;
                    // A user at the limit for pipes keeps the size there is.
                    let _ = fcntl_setpipe_size(pipe, LARGE_PIPE);
                }
                Ok(Step::Moved(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Step::Empty),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Step::Moved(0)),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput && !self.copies => {
                self.copies = true;
                Ok(Step::Moved(0))
            }
            Err(error) => Err(error),
        }
    }
}

enum Step {
    Moved(usize),
    Empty,
    Closed,
    Waits,
}

/// Tells an empty pipe from a closed one, without taking anything out of it.
fn probe(pipe: &OwnedFd) -> Step {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut watched = [PollFd::new(pipe, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = poll(&mut watched, Some(&at_once));
    let seen = watched[0].revents();
    if seen.contains(PollFlags::IN) {
        // A byte has come since it was looked at.
        Step::Moved(0)
    } else if seen.contains(PollFlags::HUP) {
        Step::Closed
    } else {
        Step::Empty
    }
}

/// For file systems that do not splice. `tee` into a pipe of our own would keep the bytes if the write fails; so does
/// writing no more than was read, again and again, before anything else is read.
fn copy(pipe: &OwnedFd, file: &File, at: u64, room: usize) -> io::Result<usize> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; room.min(FULL_PIPE)];
    // Make sure of the space first: bytes that have left the pipe have nowhere else to be.
    let expected = usize::try_from(rustix::io::ioctl_fionread(pipe)?).unwrap_or(0).min(buffer.len());
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, at, expected.max(1) as u64) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    let read = rustix::io::read(pipe, &mut buffer[..expected.max(1)])?;
    file.write_all_at(&buffer[..read], at)?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The pump writes into the working directory, which tests share: these only look at what it says of its pipe.

    #[test]
    fn an_empty_pipe_is_told_from_a_closed_one() {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).expect("a pipe");
        let mut pump = Pump::new(Stream::Stdout, read, u64::MAX);
        assert_eq!(pump.turn().expect("works"), Pumped::Empty);
        drop(write);
        assert_eq!(pump.turn().expect("works"), Pumped::Closed);
        assert!(pump.pipe().is_none());
    }

    #[test]
    fn the_first_segment_and_the_last_ones_are_kept_and_what_is_held_is_never_dropped() {
        let keeping = |segments: u64, held_from: Option<u64>| Keeping {
            most_bytes: segments * segment::BYTES,
            oldest: 1,
            held_from,
            waits: false,
            takes_all: false,
        };
        let dropped = |mut keeping: Keeping, until: u64| {
            let dropped = std::cell::RefCell::new(Vec::new());
            let made = (0..=until).all(|next| keeping.make_room(next, |number| dropped.borrow_mut().push(number)));
            (made, dropped.into_inner())
        };
        assert_eq!(dropped(keeping(4, None), 3), (true, vec![]));
        assert_eq!(dropped(keeping(4, None), 6), (true, vec![1, 2, 3]));
        // Less than the two that are always kept.
        assert_eq!(dropped(keeping(0, None), 3), (true, vec![1, 2]));
        assert_eq!(dropped(keeping(4, Some(0)), 6), (false, vec![]));
        assert_eq!(dropped(keeping(4, Some(3 * segment::BYTES - 1)), 6), (false, vec![1]));
        assert_eq!(dropped(keeping(4, Some(3 * segment::BYTES)), 6), (false, vec![1, 2]));
        assert_eq!(dropped(keeping(4, Some(u64::MAX)), 6), (true, vec![1, 2, 3]));
        assert_eq!(dropped(Keeping { takes_all: true, ..keeping(4, Some(0)) }, 9), (true, vec![]));
    }
}
