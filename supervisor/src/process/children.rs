//! The ends of children, and the signals that tell a supervisor of them.

use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroU8;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use pyexec_proto::exit::{ExitStatus, ResourceUsage};

/// What reaping found.
#[derive(Debug)]
pub(crate) enum Reaped {
    Process {
        pid: u32,
        exit: ExitStatus,
        usage: ResourceUsage,
    },
    /// Children are left, none has ended.
    NoneEnded,
    /// There are no children.
    NoChildren,
}

/// Takes one ended child, without waiting for any.
pub(crate) fn reap() -> Reaped {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: both pointers are to locals of the right type; wait4 fills them when it returns a pid.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG | libc::__WALL, usage.as_mut_ptr()) };
    match u32::try_from(pid) {
        Ok(0) => Reaped::NoneEnded,
        Ok(pid) => {
            // SAFETY: wait4 returned a pid, so it has filled `usage`.
            let usage = unsafe { usage.assume_init() };
            Reaped::Process { pid, exit: exit_status(status), usage: resource_usage(&usage) }
        }
        Err(_) => Reaped::NoChildren,
    }
}

fn exit_status(status: libc::c_int) -> ExitStatus {
    if libc::WIFSIGNALED(status) {
        return ExitStatus::Signal { signal: libc::WTERMSIG(status), core_dumped: libc::WCOREDUMP(status) };
    }
    u8::try_from(libc::WEXITSTATUS(status)).ok().and_then(NonZeroU8::new).map_or(ExitStatus::Success, ExitStatus::Code)
}

fn resource_usage(usage: &libc::rusage) -> ResourceUsage {
    let count = |value: libc::c_long| u64::try_from(value).unwrap_or(0);
    let micros = |time: libc::timeval| count(time.tv_sec) * 1_000_000 + count(time.tv_usec);
    ResourceUsage {
        user_us: micros(usage.ru_utime),
        system_us: micros(usage.ru_stime),
        max_rss_kib: count(usage.ru_maxrss),
        minor_faults: count(usage.ru_minflt),
        major_faults: count(usage.ru_majflt),
        voluntary_switches: count(usage.ru_nvcsw),
        involuntary_switches: count(usage.ru_nivcsw),
        blocks_read: count(usage.ru_inblock),
        blocks_written: count(usage.ru_oublock),
        unwaited_cpu_us: 0,
        cpu_is_incomplete: false,
    }
}

/// The signals a supervisor acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    ChildEnded,
    /// TERM: whoever shuts the machine or the session down wants the job to end.
    Terminate {
        /// 0 where this process can not see it.
        sender: u32,
    },
    /// USR1: the daemon can not find the control socket.
    Rebind,
}

/// Signals as a descriptor to poll. Blocks those it reports, and HUP, INT and PIPE, which mean nothing to a supervisor.
#[derive(Debug)]
pub(crate) struct SignalDescriptor(OwnedFd);

impl SignalDescriptor {
    pub(crate) fn open() -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set before anything reads it; the new descriptor is owned by nobody else.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGUSR1, libc::SIGHUP, libc::SIGINT, libc::SIGPIPE] {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            if libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) < 0 {
                return Err(io::Error::last_os_error());
            }
            let descriptor: RawFd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(OwnedFd::from_raw_fd(descriptor)))
        }
    }

    /// The next signal that has come, if one has.
    pub(crate) fn next(&self) -> Option<Received> {
        loop {
            let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
            match rustix::io::read(&self.0, &mut info) {
                Ok(read) if read == info.len() => {}
                Ok(_) | Err(_) => return None,
            }
            // The signal number is the structure's first field, the sender's pid its fourth, each of four bytes.
            let field = |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
            let (number, sender) = (field(0), field(12));
            match libc::c_int::try_from(number).unwrap_or(0) {
                libc::SIGCHLD => return Some(Received::ChildEnded),
                libc::SIGTERM => return Some(Received::Terminate { sender }),
                libc::SIGUSR1 => return Some(Received::Rebind),
                _ => {}
            }
        }
    }
}

impl AsFd for SignalDescriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
