//! Calls that ask the kernel, or set, what rustix does not.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::process::{Pid, Uid};

/// The version of Landlock that this kernel has.
///
/// # Errors
/// `ENOSYS` where it has none, `EOPNOTSUPP` where it is not enabled.
pub(crate) fn landlock_version() -> io::Result<u32> {
    const VERSION: libc::c_uint = 1 << 0;
    // SAFETY: with this flag the kernel reads no attributes, and gives no descriptor but a number.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    u32::try_from(version).map_err(|_| io::Error::last_os_error())
}

/// Of `linux/ioprio.h`.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;

/// A pid as the calls below take it; 0 is this process.
fn raw(process: Option<Pid>) -> libc::pid_t {
    process.map_or(0, |pid| pid.as_raw_nonzero().get())
}

/// The CPU scheduling class of a process, or of this one, and its priority.
pub(crate) fn policy(process: Option<Pid>) -> rustix::io::Result<(i32, i32)> {
    let mut parameters = MaybeUninit::<libc::sched_param>::zeroed();
    // SAFETY: the second call fills a local structure of the right type, of which all zeros is a value, too.
    unsafe {
        let policy = succeeded(libc::sched_getscheduler(raw(process)))?;
        succeeded(libc::sched_getparam(raw(process), parameters.as_mut_ptr()))?;
        Ok((policy, parameters.assume_init().sched_priority))
    }
}

/// Of this process. Nothing is allocated: a forked child calls this, and what follows.
pub(crate) fn set_policy(policy: i32, priority: i32) -> rustix::io::Result<()> {
    // SAFETY: reads a local structure, of which all zeros is a value.
    let set = unsafe {
        let mut parameters: libc::sched_param = std::mem::zeroed();
        parameters.sched_priority = priority;
        libc::sched_setscheduler(0, policy, &raw const parameters)
    };
    succeeded(set).map(drop)
}

/// The I/O scheduling class and level of a process, or of this one, in one number.
pub(crate) fn io_priority(process: Option<Pid>) -> rustix::io::Result<i32> {
    // SAFETY: takes and gives nothing but numbers.
    let found = unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, raw(process)) };
    succeeded(i32::try_from(found).unwrap_or(0))
}

pub(crate) fn set_io_priority(priority: i32) -> rustix::io::Result<()> {
    // SAFETY: takes nothing but numbers.
    let set = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, priority) };
    succeeded(i32::try_from(set).unwrap_or(0)).map(drop)
}

/// Of this process.
pub(crate) fn personality() -> u32 {
    /// Changes nothing.
    const ASK: libc::c_ulong = 0xffff_ffff;
    // SAFETY: takes and gives nothing but numbers.
    unsafe { libc::personality(ASK) }.cast_unsigned()
}

pub(crate) fn set_personality(personality: u32) -> rustix::io::Result<()> {
    // SAFETY: of effect for what is executed later; takes nothing but a number.
    let before = unsafe { libc::personality(libc::c_ulong::from(personality)) };
    succeeded(before).map(drop)
}

/// The result of a system call, or the errno that it has set.
fn succeeded(result: libc::c_int) -> rustix::io::Result<libc::c_int> {
    if result < 0 { Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)) } else { Ok(result) }
}

/// Who is at the other end of a Unix socket: its user, and its pid, if it has one in this process's pid namespace.
pub(crate) fn peer_of(socket: BorrowedFd<'_>) -> io::Result<(Uid, Option<Pid>)> {
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
