//! A daemon as a process: found by its pid, and signalled through a pidfd.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process that is a daemon of pyexec.
#[derive(Debug)]
pub struct DaemonProcess {
    pid: Pid,
    /// A pidfd, so that a signal never reaches another process that reuses the pid.
    handle: OwnedFd,
}

/// The state of a process, from the state letter in `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessState {
    /// Stopped by a signal or by a debugger.
    Stopped,
    /// In an uninterruptible wait, for a disk or another file system.
    Blocked,
    Runs,
    Unknown,
}

impl DaemonProcess {
    /// `None` when there is no such process, or when it is not a daemon of pyexec.
    pub fn find(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        // The handle is opened first, so that the check below is about the process it refers to.
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let program = std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).ok()?;
        is_daemon(&program).then_some(Self { pid, handle })
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.handle, signal)?)
    }

    pub fn state(&self) -> ProcessState {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        match stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next()) {
            Some('T' | 't') => ProcessState::Stopped,
            Some('D') => ProcessState::Blocked,
            Some(_) => ProcessState::Runs,
            None => ProcessState::Unknown,
        }
    }
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProcessState::Stopped => "it is stopped",
            ProcessState::Blocked => "it waits for a file system that does not answer",
            ProcessState::Runs => "it is running, but busy or out of file descriptors",
            ProcessState::Unknown => "its state is unknown",
        })
    }
}

/// After an upgrade the kernel appends ` (deleted)` to the name of the running program.
fn is_daemon(program: &Path) -> bool {
    let name = program.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| name.strip_suffix(" (deleted)").unwrap_or(&name).ends_with("pyexecd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_daemon_is_taken_for_one() {
        for (program, expected) in [
            ("/usr/bin/pyexecd", true),
            ("/usr/bin/pyexecd (deleted)", true),
            ("/usr/lib/systemd/systemd", false),
            ("/usr/bin/pyexecd-helper", false),
        ] {
            assert_eq!(is_daemon(Path::new(program)), expected, "{program}");
        }
        assert!(DaemonProcess::find(std::process::id()).is_none(), "a test is none");
        assert!(DaemonProcess::find(0).is_none());
    }
}
