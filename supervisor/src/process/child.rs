//! What the job's process does between fork and exec: system calls on what was prepared before, and nothing else.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use super::messages::{MESSAGE, Stage, UNMAPPED};
use super::program::{Program, Stdio};

/// In the child. Returns only if something failed, with errno set.
pub(super) fn become_program(
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
        pyexec_sys::reset_dispositions();
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

/// For what is said of a failure by errno.
fn set_errno(errno: i32) {
    // SAFETY: errno is this thread's.
    unsafe { *libc::__errno_location() = errno };
}
