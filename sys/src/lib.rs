//! System calls that no safe library offers, and that more than one of our processes makes before it begins: letting go of
//! whoever started it, and telling the allocator what to keep.
//!
//! A leaf, and beside the supervisor's `process` the only place with `unsafe`. What is called here is called from a process
//! that has one thread.

#![expect(unsafe_code, reason = "fork, signal and mallopt have no safe wrapper with what is needed")]

use std::io;
use std::mem::MaybeUninit;

/// Whoever started us may have been ignoring signals, and that is inherited: a SIGCHLD that is ignored makes the kernel
/// reap children itself, and their status is lost.
pub fn reset_dispositions() {
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
