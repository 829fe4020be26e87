//! The calls that have no safe wrapper: fork and exec of the job, its reaping, the signal descriptor, what the allocator keeps.
//!
//! The only place in pyexec with `unsafe`. Everything here is called from a process that has one thread.

#![expect(unsafe_code, reason = "fork, wait4, signalfd and mallopt have no safe wrapper with what is needed")]

use std::ffi::CString;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::num::NonZeroU8;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use pyexec_proto::state::{ExitStatus, ResourceUsage};

/// A job's process, ready to be started. Everything is prepared before the fork, which then only makes system calls.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) path: CString,
    pub(super) argv: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) directory: CString,
    pub(super) umask: u32,
    /// The caller's limits, as far as this process may set them.
    pub(super) limits: Vec<(u32, libc::rlimit)>,
    pub(super) nice: i32,
}

/// The job's own ends.
#[derive(Debug)]
pub(super) struct Stdio {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Where a start failed, and why.
#[derive(Debug)]
pub(super) struct StartFailure {
    pub(super) stage: Stage,
    pub(super) error: io::Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Fork,
    Setup,
    Directory,
    Exec,
}

impl Stage {
    const ALL: [Stage; 4] = [Stage::Fork, Stage::Setup, Stage::Directory, Stage::Exec];
}

/// Starts the job in a session and a process group of its own. Returns its pid once it has become the program.
///
/// It dies with this process: `PR_SET_PDEATHSIG` is safe here because the thread that forks is the only one there is.
pub(super) fn start(program: &Program, stdio: Stdio) -> Result<u32, StartFailure> {
    let failed = |stage| move |error: io::Error| StartFailure { stage, error };
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, environment) = (pointers(&program.argv), pointers(&program.environment));
    let (mut said, say) = pipe().map_err(failed(Stage::Fork))?;
    // SAFETY: getpid has no preconditions.
    let supervisor = unsafe { libc::getpid() };
    // SAFETY: this process has one thread, so the child's memory is consistent; the child only makes system calls on
    // values prepared above, and leaves through exec or _exit.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(failed(Stage::Fork)(io::Error::last_os_error()));
    }
    if pid == 0 {
        let stage = become_program(program, &argv, &environment, &stdio, supervisor);
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
        let mut message = [0; 5];
        message[0] = stage as u8;
        message[1..].copy_from_slice(&errno.to_ne_bytes());
        // SAFETY: writes a local buffer to a descriptor this process holds, then leaves without running destructors.
        unsafe {
            libc::write(say.as_raw_fd(), message.as_ptr().cast(), message.len());
            libc::_exit(127);
        }
    }
    drop((say, stdio));
    let mut message = Vec::new();
    said.read_to_end(&mut message).map_err(failed(Stage::Fork))?;
    // Nothing was said: the descriptor closed because the exec succeeded.
    let Ok([stage, errno @ ..]) = <[u8; 5]>::try_from(message.as_slice()) else {
        return Ok(pid.unsigned_abs());
    };
    // SAFETY: waits for the child forked above, which is on its way out; no status is asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    let stage = Stage::ALL.get(usize::from(stage)).copied().unwrap_or(Stage::Setup);
    Err(failed(stage)(io::Error::from_raw_os_error(i32::from_ne_bytes(errno))))
}

/// In the child. Returns only if something failed, with errno set.
fn become_program(
    program: &Program,
    argv: &[*const libc::c_char],
    environment: &[*const libc::c_char],
    stdio: &Stdio,
    supervisor: libc::pid_t,
) -> Stage {
    // SAFETY: plain system calls on descriptors and NUL-terminated strings that outlive them; `argv` and `environment`
    // end in a null pointer.
    unsafe {
        if libc::setsid() < 0 || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
            return Stage::Setup;
        }
        if libc::getppid() != supervisor {
            libc::_exit(127);
        }
        reset_dispositions();
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        if libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) < 0 {
            return Stage::Setup;
        }
        for (resource, limit) in &program.limits {
            // One that the daemon itself may not exceed stays as it is.
            if libc::setrlimit(*resource, limit) < 0 {
                let mut own = MaybeUninit::<libc::rlimit>::uninit();
                if libc::getrlimit(*resource, own.as_mut_ptr()) == 0 {
                    let own = own.assume_init();
                    let hard = limit.rlim_max.min(own.rlim_max);
                    let lower = libc::rlimit { rlim_cur: limit.rlim_cur.min(hard), rlim_max: hard };
                    libc::setrlimit(*resource, &raw const lower);
                }
            }
        }
        libc::setpriority(libc::PRIO_PROCESS, 0, program.nice);
        // The three descriptors are above 2: the supervisor keeps 0 to 2 taken.
        for (from, to) in [(&stdio.stdin, 0), (&stdio.stdout, 1), (&stdio.stderr, 2)] {
            if libc::dup2(from.as_raw_fd(), to) < 0 {
                return Stage::Setup;
            }
        }
        // Everything of ours is close-on-exec already; this is for what was inherited without.
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        libc::umask(program.umask as libc::mode_t);
        if libc::chdir(program.directory.as_ptr()) < 0 {
            return Stage::Directory;
        }
        libc::execve(program.path.as_ptr(), argv.as_ptr(), environment.as_ptr());
    }
    Stage::Exec
}

fn pipe() -> io::Result<(std::fs::File, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    Ok((read.into(), write))
}

/// Whoever started us may have been ignoring signals, and that is inherited: a SIGCHLD that is ignored makes the kernel
/// reap children itself, and their status is lost.
fn reset_dispositions() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is a valid disposition for every signal that can have one; the others are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Lets go of what was inherited from whoever started this process: signals that are ignored, and descriptors from
/// `first` on. To be called before anything is opened.
///
/// A shell that waits for the end of a pipe, or a lock that is held by a descriptor, must not wait for us.
pub fn forget_starter(first: u32) {
    reset_dispositions();
    // What Rust arranges before main, and the line above has undone: a peer that has gone is an error of a write, and
    // not the end of this process.
    // SAFETY: SIG_IGN is a valid disposition for SIGPIPE.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // SAFETY: no descriptor from `first` on is owned by anything in this process yet.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}

/// Memory of large pieces goes back to the kernel when it is freed. To be called before there is a second thread.
///
/// By itself glibc takes the first large piece that is freed for a sign of more, and from then on keeps such pieces (up to
/// 32 MiB) on its heaps, one of which each thread has: a script of 15 MB would leave a daemon of 170 MB. What a job's output
/// is read and sent in, a MiB at a time, is still used again.
pub fn return_large_memory() {
    #[cfg(target_env = "gnu")]
    {
        const KEPT: libc::c_int = 2 << 20;
        // SAFETY: no other thread allocates; both are sizes that mallopt takes, and it can do nothing worse than refuse.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        }
    }
}

/// What reaping found.
#[derive(Debug)]
pub(super) enum Reaped {
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
pub(super) fn reap() -> Reaped {
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
    }
}

/// The signals a supervisor acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    ChildEnded,
    /// TERM: whoever shuts the machine or the session down wants the job to end.
    Terminate,
    /// USR1: the daemon can not find the control socket.
    Rebind,
}

/// Signals as a descriptor to poll. Blocks those it reports, and HUP, INT and PIPE, which mean nothing to a supervisor.
#[derive(Debug)]
pub(super) struct SignalDescriptor(OwnedFd);

impl SignalDescriptor {
    pub(super) fn open() -> io::Result<Self> {
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
    pub(super) fn next(&self) -> Option<Received> {
        loop {
            let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
            match rustix::io::read(&self.0, &mut info) {
                Ok(read) if read == info.len() => {}
                Ok(_) | Err(_) => return None,
            }
            // The signal number is the structure's first field.
            let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
            match libc::c_int::try_from(number).unwrap_or(0) {
                libc::SIGCHLD => return Some(Received::ChildEnded),
                libc::SIGTERM => return Some(Received::Terminate),
                libc::SIGUSR1 => return Some(Received::Rebind),
                _ => {}
            }
        }
    }
}

impl std::os::fd::AsFd for SignalDescriptor {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}
