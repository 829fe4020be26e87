//! The calls that have no safe wrapper. The only module of this crate with `unsafe`; everything in it is called from a
//! process that has one thread.
//!
//! This file forks the job's process. `program` is what has been prepared for it, `child` is what it does before it executes
//! the program, `messages` is what it says meanwhile, and `id_map` maps its ids. `children` takes its end and the signals that
//! tell of it, `calls` asks and sets scheduling, personality and who a peer is.

#![expect(unsafe_code, reason = "fork, wait4, signalfd and others have no safe wrapper with what is needed")]

mod calls;
mod child;
mod children;
mod id_map;
mod messages;
mod program;

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::process::Pid;
use rustix::thread::sched_getaffinity;

pub(crate) use calls::{
    io_priority, landlock_version, peer_of, personality, policy, set_io_priority, set_personality, set_policy,
};
use child::become_program;
pub(crate) use children::{Reaped, Received, SignalDescriptor, reap};

use messages::{MESSAGE, UNMAPPED, unset};
pub(crate) use messages::{Piece, Stage, StartFailure};
pub(crate) use program::{PreparedFence, Program, Stdio, ToSet};

use super::cpus::list_of;

/// A process that has been forked, and is on its way to become the program. It may be held up there: entering the working
/// directory and reading the program's file wait for the file systems that they lie on.
#[derive(Debug)]
pub(crate) struct Starting {
    pid: libc::pid_t,
    /// Does not block. It says what failed; it is closed without a word when the process has become the program, and also
    /// when the process was killed before.
    said: std::fs::File,
    /// What it could not take over from the job's submitter.
    unset: Vec<Piece>,
}

impl Starting {
    pub(crate) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// What it could not take over, of a process that has become the program.
    pub(crate) fn unset(&self) -> &[Piece] {
        &self.unset
    }

    /// The CPUs that it may run on, as a list; `None` when it has ended.
    pub(crate) fn cpus(&self) -> Option<String> {
        sched_getaffinity(Pid::from_raw(self.pid)).ok().map(|cpus| list_of(&cpus))
    }

    /// What became of it; `None` while it is on its way. There is news when the descriptor can be read.
    pub(crate) fn outcome(&mut self) -> Option<Result<(), StartFailure>> {
        let failure = loop {
            let mut message = [0; MESSAGE];
            match self.said.read_exact(&mut message) {
                Ok(()) => match unset(message) {
                    Some(piece) => self.unset.push(piece),
                    None => break Stage::said(message),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Some(Ok(())),
                Err(error) => break StartFailure { stage: Stage::Fork, error },
            }
        };
        self.reap();
        Some(Err(failure))
    }

    /// Waits until it has become the program. For a program and a directory of our own, which answer.
    pub(crate) fn wait(mut self) -> Result<u32, StartFailure> {
        loop {
            if let Some(outcome) = self.outcome() {
                return outcome.map(|()| self.pid());
            }
            let _ = poll(&mut [PollFd::new(&self.said, PollFlags::IN)], None);
        }
    }

    /// Of one that could not become the program.
    fn reap(&self) {
        // SAFETY: waits for the child forked in `start`, which is on its way out; no status is asked for.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
    }
}

impl AsFd for Starting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.said.as_fd()
    }
}

/// Starts the job in a session and a process group of its own. Returns once it has been forked.
///
/// It dies with this process: `PR_SET_PDEATHSIG` is safe here because the thread that forks is the only one there is.
pub(crate) fn start(program: &Program, stdio: Stdio) -> Result<Starting, StartFailure> {
    let failed = |stage| move |error: io::Error| StartFailure { stage, error };
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, environment) = (pointers(&program.argv), pointers(&program.environment));
    let (said, say) = pipe().map_err(failed(Stage::Fork))?;
    let mut gate = if program.fence.network { Some(Gate::new().map_err(failed(Stage::Fork))?) } else { None };
    // SAFETY: getpid has no preconditions.
    let supervisor = unsafe { libc::getpid() };
    // SAFETY: this process has one thread, so the child's memory is consistent; the child only makes system calls on
    // values prepared above, and leaves through exec or _exit.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(failed(Stage::Fork)(io::Error::last_os_error()));
    }
    if pid == 0 {
        // The end that opens it is closed here, and the parent's alone: its death, too, has to end the wait.
        let wait = gate.map(|Gate { wait, .. }| wait);
        let stage = become_program(program, &argv, &environment, &stdio, supervisor, &say, wait.as_ref());
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
        let mut message = [0; MESSAGE];
        message[0] = stage as u8;
        message[1..].copy_from_slice(&errno.to_ne_bytes());
        // SAFETY: writes a local buffer to a descriptor this process holds, then leaves without running destructors.
        unsafe {
            libc::write(say.as_raw_fd(), message.as_ptr().cast(), message.len());
            libc::_exit(127);
        }
    }
    drop((say, stdio));
    let mut starting = Starting { pid, said, unset: vec![] };
    if let Some(Gate { wait, open }) = gate.take() {
        drop(wait);
        // Nothing that the child does up to there can be held up.
        if let Err(failure) = pass(&mut starting, open) {
            starting.reap();
            return Err(failure);
        }
    }
    rustix::fs::fcntl_setfl(&starting.said, OFlags::NONBLOCK).map_err(|error| failed(Stage::Fork)(error.into()))?;
    Ok(starting)
}

/// Where a child in a user namespace of its own waits until its ids are mapped, which only its parent may do for root.
struct Gate {
    wait: OwnedFd,
    open: OwnedFd,
}

impl Gate {
    fn new() -> io::Result<Self> {
        let (wait, open) = pipe()?;
        Ok(Self { wait: wait.into(), open })
    }
}

/// Maps the child's ids once it has its namespaces, and lets it go on; or lets it go, if that fails.
fn pass(child: &mut Starting, open: OwnedFd) -> Result<(), StartFailure> {
    loop {
        let mut message = [0; MESSAGE];
        match child.said.read_exact(&mut message) {
            Ok(()) if message == UNMAPPED => break,
            Ok(()) => match unset(message) {
                Some(piece) => child.unset.push(piece),
                None => return Err(Stage::said(message)),
            },
            Err(error) => return Err(StartFailure { stage: Stage::Namespaces, error }),
        }
    }
    let mapped = id_map::map_ids(child.pid()).and_then(|()| std::fs::File::from(open).write_all(&[1]));
    mapped.map_err(|error| StartFailure { stage: Stage::Ids, error })
}

fn pipe() -> io::Result<(std::fs::File, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((read.into(), write))
}
