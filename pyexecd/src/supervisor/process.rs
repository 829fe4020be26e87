//! The calls that have no safe wrapper: fork and exec of the job, its reaping, the signal descriptor, what the allocator
//! keeps, scheduling classes, personality, and who is at the other end of a socket.
//!
//! The only place in pyexec with `unsafe`. Everything here is called from a process that has one thread.

#![expect(unsafe_code, reason = "fork, wait4, signalfd, mallopt and others have no safe wrapper with what is needed")]

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::num::NonZeroU8;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use pyexec_proto::exit::{ExitStatus, ResourceUsage};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Uid};
use rustix::thread::sched_getaffinity;

use super::fence::{self, Prepared};
use super::scheduling::list_of;
use super::taking_over::{Piece, ToSet};

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
    pub(super) to_set: ToSet,
    pub(super) fence: Prepared,
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
    Groups,
    Namespaces,
    Ids,
    Loopback,
    Directory,
    Landlock,
    Exec,
}

impl Stage {
    const ALL: [Stage; 9] = [
        Stage::Fork,
        Stage::Setup,
        Stage::Groups,
        Stage::Namespaces,
        Stage::Ids,
        Stage::Loopback,
        Stage::Directory,
        Stage::Landlock,
        Stage::Exec,
    ];

    /// As the child says it, with the error.
    fn said(message: [u8; MESSAGE]) -> StartFailure {
        let [stage, errno @ ..] = message;
        let stage = Stage::ALL.get(usize::from(stage)).copied().unwrap_or(Stage::Setup);
        StartFailure { stage, error: io::Error::from_raw_os_error(i32::from_ne_bytes(errno)) }
    }
}

/// A stage and an errno.
const MESSAGE: usize = 5;
/// What a child says in place of both when its namespaces are made, and its ids are to be mapped.
const UNMAPPED: [u8; MESSAGE] = [u8::MAX; MESSAGE];
/// What begins a message of something that could not be taken over, with its number in [`Piece::ALL`]; the child goes on.
const UNSET: u8 = 0x80;

/// What the child says of something that it could not take over, if that is what it says.
fn unset(message: [u8; MESSAGE]) -> Option<Piece> {
    let [UNSET, piece, ..] = message else { return None };
    Piece::ALL.get(usize::from(piece)).copied()
}

/// In the child.
pub(super) fn say_unset(piece: Piece, say: &OwnedFd) {
    let mut message = [0; MESSAGE];
    [message[0], message[1]] = [UNSET, piece as u8];
    // There is room in the pipe for all of them.
    let _ = rustix::io::write(say, &message);
}

/// A process that has been forked, and is on its way to become the program. It may be held up there: entering the working
/// directory and reading the program's file wait for the file systems that they lie on.
#[derive(Debug)]
pub(super) struct Starting {
    pid: libc::pid_t,
    /// Does not block. It says what failed; it is closed without a word when the process has become the program, and also
    /// when the process was killed before.
    said: std::fs::File,
    /// What it could not take over from the job's submitter.
    unset: Vec<Piece>,
}

impl Starting {
    pub(super) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// What it could not take over, of a process that has become the program.
    pub(super) fn unset(&self) -> &[Piece] {
        &self.unset
    }

    /// The CPUs that it may run on, as a list; `None` when it has ended.
    pub(super) fn cpus(&self) -> Option<String> {
        sched_getaffinity(Pid::from_raw(self.pid)).ok().map(|cpus| list_of(&cpus))
    }

    /// What became of it; `None` while it is on its way. There is news when the descriptor can be read.
    pub(super) fn outcome(&mut self) -> Option<Result<(), StartFailure>> {
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
    pub(super) fn wait(mut self) -> Result<u32, StartFailure> {
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
pub(super) fn start(program: &Program, stdio: Stdio) -> Result<Starting, StartFailure> {
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
    let mapped = fence::map_ids(child.pid()).and_then(|()| std::fs::File::from(open).write_all(&[1]));
    mapped.map_err(|error| StartFailure { stage: Stage::Ids, error })
}

/// In the child. Returns only if something failed, with errno set.
fn become_program(
    program: &Program,
    argv: &[*const libc::c_char],
    environment: &[*const libc::c_char],
    stdio: &Stdio,
    supervisor: libc::pid_t,
    say: &OwnedFd,
    wait: Option<&OwnedFd>,
) -> Stage {
    if let Err(error) = program.to_set.set_groups() {
        set_errno(error.raw_os_error());
        return Stage::Groups;
    }
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
        // Before the limits, which may leave no descriptor for it.
        program.to_set.set(say);
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
        // Not before: in a namespace of its own root has no power to raise those.
        if let Some(wait) = wait
            && let Some(stage) = leave_network(wait, say)
        {
            return stage;
        }
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
        if program.fence.is_some() && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 {
            return Stage::Landlock;
        }
        if program.fence.ruleset.is_some() {
            // Powers of root's that lead around rules about files. Without effect for others, who have none to lose.
            for power in POWERS_OVER_THE_MACHINE {
                libc::prctl(libc::PR_CAPBSET_DROP, power, 0, 0, 0);
            }
        }
        if let Some(ruleset) = &program.fence.ruleset {
            if let Some(access) = program.fence.in_directory
                && !allow_in_directory(access, ruleset, say)
            {
                return Stage::Landlock;
            }
            if libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) < 0 {
                return Stage::Landlock;
            }
        }
        libc::execve(program.path.as_ptr(), argv.as_ptr(), environment.as_ptr());
    }
    Stage::Exec
}

/// In the child, in its working directory: adds to the ruleset what may be done beneath it. Not in the parent, which would
/// have to open the directory, and could be held up by it. If this fails, errno is set.
fn allow_in_directory(access: u64, ruleset: &OwnedFd, say: &OwnedFd) -> bool {
    /// `struct landlock_path_beneath_attr`
    #[repr(C, packed)]
    struct PathBeneath {
        allowed_access: u64,
        parent_fd: libc::c_int,
    }
    const RULE_PATH_BENEATH: libc::c_int = 1;
    // SAFETY: plain system calls on descriptors of this process and on a local structure of the kernel's layout. What is
    // closed belongs to the parent's part of the program, which does not run here: the child leaves through exec or _exit.
    unsafe {
        // Its number is free for the directory, however few descriptors the job's limit allows.
        let kept = [ruleset.as_raw_fd(), say.as_raw_fd()];
        if let Some(other) = (3..6).find(|other| !kept.contains(other)) {
            libc::close(other);
        }
        let directory = libc::open(c".".as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC);
        let rule = PathBeneath { allowed_access: access, parent_fd: directory };
        directory >= 0
            && libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0)
                == 0
    }
}

/// By their numbers in `linux/capability.h`: `NET_ADMIN`, `SYS_MODULE`, `SYS_RAWIO`, `SYS_PTRACE`, `SYS_ADMIN` (typing into
/// terminals, and taking them), `SYS_BOOT`, `SYS_TIME`, `SYS_TTY_CONFIG`, `MKNOD`, `SYSLOG`, `PERFMON`, `BPF`,
/// `CHECKPOINT_RESTORE`. What a root without them executes does not get them back.
const POWERS_OVER_THE_MACHINE: [libc::c_ulong; 13] = [12, 16, 17, 19, 21, 22, 25, 26, 27, 34, 38, 39, 40];

/// In the child: into a user namespace, in which `say` has its ids mapped, and a network namespace with nothing in it but
/// its loopback device. Returns only a stage that failed, with errno set. Leaves descriptor 0 closed.
fn leave_network(wait: &OwnedFd, say: &OwnedFd) -> Option<Stage> {
    // SAFETY: plain system calls on descriptors that outlive them and on local buffers; `ifreq` is plain data, of which
    // all zeros is a value, and its flags are what both ioctls mean.
    unsafe {
        if libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) < 0 {
            return Some(Stage::Namespaces);
        }
        let mut go = 0u8;
        libc::write(say.as_raw_fd(), UNMAPPED.as_ptr().cast(), MESSAGE);
        if libc::read(wait.as_raw_fd(), (&raw mut go).cast(), 1) != 1 {
            // The parent knows why.
            libc::_exit(127);
        }
        // Its number is free for the socket, however few descriptors the job's limit allows; the job's own stdin follows.
        libc::close(0);
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let mut loopback: libc::ifreq = std::mem::zeroed();
        loopback.ifr_name[0] = b'l' as libc::c_char;
        loopback.ifr_name[1] = b'o' as libc::c_char;
        if socket < 0 || libc::ioctl(socket, libc::SIOCGIFFLAGS, &raw mut loopback) < 0 {
            return Some(Stage::Loopback);
        }
        loopback.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        if libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw mut loopback) < 0 {
            return Some(Stage::Loopback);
        }
        libc::close(socket);
    }
    None
}

/// The version of Landlock that this kernel has.
///
/// # Errors
/// `ENOSYS` where it has none, `EOPNOTSUPP` where it is not enabled.
pub(super) fn landlock_version() -> io::Result<u32> {
    const VERSION: libc::c_uint = 1 << 0;
    // SAFETY: with this flag the kernel reads no attributes, and gives no descriptor but a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    u32::try_from(version).map_err(|_| io::Error::last_os_error())
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

/// Lets go of what was inherited from whoever started this process: signals that are ignored or blocked, and descriptors
/// from `first` on. To be called before anything is opened.
///
/// A shell that waits for the end of a pipe, or a lock that is held by a descriptor, must not wait for us.
pub fn forget_starter(first: u32) {
    reset_dispositions();
    let mut none = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set before sigprocmask reads it.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
    }
    // What Rust arranges before main, and the line above has undone: a peer that has gone is an error of a write, and
    // not the end of this process.
    // Likewise a file that has become as large as `ulimit -f` allows. A job has both signals as they were: what it is
    // started by resets them again.
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: SIG_IGN is a valid disposition for both.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: no descriptor from `first` on is owned by anything in this process yet.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}

/// Continues in a new process, which leads a session of its own, and ends this one. The new process is no descendant of
/// whoever started this one: its parent is init, or the nearest subreaper.
///
/// A host that ends a program ends what lies below it, by parent pid, by process group or by session. What continues here
/// is in none of them. To be called before there is a second thread.
///
/// # Errors
/// The user or the control group has as many processes as it may have. Then this process is as it was.
pub fn leave_starter() -> io::Result<()> {
    // SAFETY: this process has one thread, so the child has a consistent copy of its memory.
    match unsafe { libc::fork() } {
        0 => Ok(rustix::process::setsid().map(drop)?),
        child if child < 0 => Err(io::Error::last_os_error()),
        // SAFETY: _exit leaves without running destructors or flushing buffers, which are the child's now.
        _ => unsafe { libc::_exit(0) },
    }
}

/// Of `linux/ioprio.h`.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;

/// A pid as the calls below take it; 0 is this process.
fn raw(process: Option<Pid>) -> libc::pid_t {
    process.map_or(0, |pid| pid.as_raw_nonzero().get())
}

/// The CPU scheduling class of a process, or of this one, and its priority.
pub(super) fn policy(process: Option<Pid>) -> rustix::io::Result<(i32, i32)> {
    let mut parameters = MaybeUninit::<libc::sched_param>::zeroed();
    // SAFETY: the second call fills a local structure of the right type, of which all zeros is a value, too.
    unsafe {
        let policy = succeeded(libc::sched_getscheduler(raw(process)))?;
        succeeded(libc::sched_getparam(raw(process), parameters.as_mut_ptr()))?;
        Ok((policy, parameters.assume_init().sched_priority))
    }
}

/// Of this process. Nothing is allocated: a forked child calls this, and what follows.
pub(super) fn set_policy(policy: i32, priority: i32) -> rustix::io::Result<()> {
    // SAFETY: reads a local structure, of which all zeros is a value.
    let set = unsafe {
        let mut parameters: libc::sched_param = std::mem::zeroed();
        parameters.sched_priority = priority;
        libc::sched_setscheduler(0, policy, &raw const parameters)
    };
    succeeded(set).map(drop)
}

/// The I/O scheduling class and level of a process, or of this one, in one number.
pub(super) fn io_priority(process: Option<Pid>) -> rustix::io::Result<i32> {
    // SAFETY: takes and gives nothing but numbers.
    let found = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, raw(process)) };
    succeeded(i32::try_from(found).unwrap_or(0))
}

pub(super) fn set_io_priority(priority: i32) -> rustix::io::Result<()> {
    // SAFETY: takes nothing but numbers.
    let set = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) };
    succeeded(i32::try_from(set).unwrap_or(0)).map(drop)
}

/// Of this process.
pub(super) fn personality() -> u32 {
    /// Changes nothing.
    const ASK: libc::c_ulong = 0xffff_ffff;
    // SAFETY: takes and gives nothing but numbers.
    unsafe { libc::personality(ASK) }.cast_unsigned()
}

pub(super) fn set_personality(personality: u32) -> rustix::io::Result<()> {
    // SAFETY: of effect for what is executed later; takes nothing but a number.
    let before = unsafe { libc::personality(libc::c_ulong::from(personality)) };
    succeeded(before).map(drop)
}

/// The result of a system call, or the errno that it has set.
fn succeeded(result: libc::c_int) -> rustix::io::Result<libc::c_int> {
    if result < 0 { Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)) } else { Ok(result) }
}

/// For what is said of a failure by errno.
fn set_errno(errno: i32) {
    // SAFETY: errno is this thread's.
    unsafe { *libc::__errno_location() = errno };
}

/// Who is at the other end of a Unix socket: its user, and its pid, if it has one in this process's pid namespace.
pub(super) fn peer_of(socket: BorrowedFd<'_>) -> io::Result<(Uid, Option<Pid>)> {
    // Not rustix's: it takes the pid 0 for an error.
    let mut found = MaybeUninit::<libc::ucred>::zeroed();
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel fills a local structure of the length that it is told; all zeros is a value of it, too.
    let found = unsafe {
        let (value, length) = (found.as_mut_ptr().cast(), &raw mut length);
        succeeded(libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, value, length))?;
        found.assume_init()
    };
    Ok((Uid::from_raw(found.uid), Pid::from_raw(found.pid)))
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
        unwaited_cpu_us: 0,
        cpu_is_incomplete: false,
    }
}

/// The signals a supervisor acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
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
