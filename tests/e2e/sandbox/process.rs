//! Processes as `/proc` shows them, and signals to them.

use std::fmt::Display;

use rustix::process::{Pid, Signal, kill_process};

use super::contains;

/// A process as `/proc` shows it.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(super) arguments: Vec<u8>,
    pub(super) environment: Vec<u8>,
}

impl Process {
    pub(super) fn read(pid: u32) -> Option<Self> {
        if matches!(process_state(pid)?, 'Z' | 'X') {
            return None;
        }
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        Some(Self { pid, arguments: read("cmdline"), environment: read("environ") })
    }

    pub(crate) fn parent(&self) -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    }

    pub(crate) fn is_daemon(&self) -> bool {
        self.environment.split(|byte| *byte == 0).any(|variable| variable == b"PYEXEC_SERVICE=daemon")
            // uv and systemctl, when the daemon asks them something, are no daemons.
            && contains(self.arguments.split(|byte| *byte == 0).next().unwrap_or_default(), "pyexecd")
    }

    pub(crate) fn name(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default().trim_end().to_owned()
    }

    /// A supervisor that waits for the next job.
    pub(crate) fn is_spare(&self) -> bool {
        self.is_supervisor() && !self.name().starts_with("pyexec-") || self.name() == "pyexec-spare"
    }

    /// The process that looks at files for the daemon.
    pub(crate) fn is_looker(&self) -> bool {
        self.environment.split(|byte| *byte == 0).any(|variable| variable == b"PYEXEC_SERVICE=looker")
    }

    pub(crate) fn is_supervisor(&self) -> bool {
        self.environment.split(|byte| *byte == 0).any(|variable| variable == b"PYEXEC_SERVICE=supervisor")
    }
}

impl Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = self.arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
        write!(f, "{}: {words}", self.pid)
    }
}

pub(crate) fn every_pid() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("there is a /proc");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The letter of `/proc/PID/stat`; `None` when there is no such process.
pub(crate) fn process_state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// How many threads it has, of which one that has ended may be left.
pub(super) fn thread_count(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// When it started, in clock ticks since the machine did.
pub(crate) fn started(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let ticks = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(19));
    ticks.and_then(|ticks| ticks.parse().ok()).expect("stands there")
}

pub(crate) fn is_alive(pid: u32) -> bool {
    !matches!(process_state(pid), None | Some('Z' | 'X'))
}

/// To a process of this test's own.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("is the pid of a process");
    let _ = kill_process(pid, signal);
}
