//! What `/proc` says about processes, and signals that reach the process that was meant.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use crate::proc_file;
use pyexec_proto::JobId;
use pyexec_proto::variables::{JOB_ID_VARIABLE, SERVICE_MARK};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process as it was when `/proc` was read. Its start time tells it from a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    /// In clock ticks since boot.
    pub started: u64,
    pub zombie: bool,
    pub state: State,
    /// It has a name such as programs of ours have: only then is it worth a look whether it is one.
    pub named_like_ours: bool,
}

/// What a process is doing, as far as it matters to whoever waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs, or is ready to.
    Runs,
    /// It waits for something to happen.
    Sleeps,
    /// By a signal, until it gets a CONT.
    Stopped,
    /// A debugger holds it.
    Traced,
    /// It waits in the kernel, mostly for a disk, and hears of no signal.
    Uninterruptible,
    Ended,
}

impl State {
    /// From the letter in `/proc/PID/stat`.
    fn of(letter: &str) -> Self {
        match letter {
            "R" => State::Runs,
            "T" => State::Stopped,
            "t" => State::Traced,
            "D" => State::Uninterruptible,
            "Z" | "X" => State::Ended,
            // `S`, `I`, and what later kernels may have.
            _ => State::Sleeps,
        }
    }
}

impl Process {
    /// `None` when there is no such process.
    pub fn find(pid: u32) -> Option<Self> {
        parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// As it is now. `None` when it has gone, whoever has its pid by then.
    pub fn now(&self) -> Option<Self> {
        Process::find(self.pid).filter(|now| now.started == self.started)
    }

    /// Signals this very process. One that has gone, or whose pid means another by now, is left alone.
    ///
    /// # Errors
    /// What the kernel says, `EPERM` for one of another user; never `ESRCH`.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(handle) = self.handle()? else { return Ok(()) };
        match pidfd_send_signal(&handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A descriptor of this very process, which can be read from once it has ended; `None` when it has gone.
    ///
    /// # Errors
    /// What the kernel says; never `ESRCH`.
    pub fn handle(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The handle is of whoever has the pid now, which need not be the one that is meant.
        Ok(self.now().map(|_| handle))
    }

    fn environment_has(&self, wanted: impl Fn(&[u8]) -> bool) -> bool {
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(wanted)
    }

    /// A daemon of ours, or a supervisor it started: never part of a job, even when a job was what started it.
    fn is_service(&self) -> bool {
        if !self.named_like_ours {
            return false;
        }
        let mark = format!("{SERVICE_MARK}=");
        self.environment_has(|variable| variable.starts_with(mark.as_bytes()))
    }
}

/// Whether programs that are set-user-ID mean anything to it.
pub fn may_gain_privileges(process: &str) -> io::Result<bool> {
    gains_privileges(&proc_file::read(format!("/proc/{process}/status"))?)
}

/// The same, of a process whose `status` has been read.
pub fn gains_privileges(status: &str) -> io::Result<bool> {
    proc_file::field(status, "NoNewPrivs").map(|flag| flag == "0").ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Every process there is.
pub fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter_map(Process::find).collect()
}

/// All that descends from `root`, zombies left out. Services of ours are passed over, with all that descends from them.
pub fn descendants_of(root: u32) -> Vec<Process> {
    let mut found = descendants_and_zombies_of(root);
    found.retain(|process| !process.zombie);
    found
}

/// The same with those that have ended and not been waited for: what they used is to be had nowhere else.
pub fn descendants_and_zombies_of(root: u32) -> Vec<Process> {
    let all = all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|process| process.parent == parent && !process.is_service()) {
            parents.push(child.pid);
            found.push(*child);
        }
    }
    found
}

/// Stops all that descends from `root` where it is, so that it does nothing meanwhile; which those are. Each pass leaves
/// fewer that can make others. What had been stopped before is not among them.
pub fn hold_still(root: u32) -> Vec<Process> {
    const PASSES: usize = 100;
    let mut seen = HashSet::new();
    let mut held = Vec::new();
    for _ in 0..PASSES {
        let found = descendants_of(root);
        let fresh: Vec<Process> = found.into_iter().filter(|process| seen.insert(process.pid)).collect();
        if fresh.is_empty() {
            break;
        }
        for process in fresh {
            let _ = process.signal(Signal::STOP);
            if process.state != State::Stopped {
                held.push(process);
            }
        }
    }
    held
}

/// In the environment of what a daemon runs to prepare environments: the state directory of that daemon.
pub const PREPARING_VARIABLE: &str = "PYEXEC_PREPARING";

/// The processes that carry the id of this job in their environment.
pub fn of_job(id: JobId) -> Vec<Process> {
    marked(format!("{JOB_ID_VARIABLE}={id}").as_bytes())
}

/// What a daemon with this state directory has run to prepare environments.
pub fn preparing_for(state: &OsStr) -> Vec<Process> {
    marked(&[PREPARING_VARIABLE.as_bytes(), b"=", state.as_bytes()].concat())
}

fn marked(mark: &[u8]) -> Vec<Process> {
    let ours = std::process::id();
    all()
        .into_iter()
        .filter(|process| process.pid != ours && !process.zombie)
        .filter(|process| process.environment_has(|variable| variable == mark))
        .collect()
}

/// systemd, the machine's or the user's: what it signals, it signals with all that is in the same control group.
pub fn is_service_manager(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "systemd\n")
}

/// Reads `/proc/PID/stat`. The name, in parentheses, may itself hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(' ')?;
    let (name, fields) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    Some(Process {
        pid: pid.parse().ok()?,
        zombie: State::of(fields.first()?) == State::Ended,
        state: State::of(fields.first()?),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        // `exe`: a supervisor that has not got round to taking a name.
        named_like_ours: name.contains("pyexec") || name == "(exe",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_does_not_confuse_the_reader() {
        let stat = "42 (a) b (c) S 7 8 8 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 999 1000 2 18446744073709551615\n";
        let (zombie, state, named_like_ours) = (false, State::Sleeps, false);
        let expected = Process { pid: 42, parent: 7, group: 8, started: 999, zombie, state, named_like_ours };
        assert_eq!(parse_stat(stat), Some(expected));
    }

    #[test]
    fn this_process_is_found_with_its_start_time() {
        let own = Process::find(std::process::id()).expect("it runs");
        assert!(own.started > 0);
        assert!(all().contains(&own));
    }

    #[test]
    fn what_descends_is_held_still_and_what_was_stopped_before_is_not_counted() {
        use std::process::{Child, Command, Stdio};
        // The shell and its child say that they are there.
        let mut shell: Child = Command::new("sh")
            .args(["-c", "sleep 600 & echo; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("can be started");
        std::io::Read::read_exact(shell.stdout.as_mut().expect("is a pipe"), &mut [0]).expect("says something");
        let sleeper = descendants_of(shell.id()).pop().expect("has a child");
        sleeper.signal(Signal::STOP).expect("can be stopped");
        while sleeper.now().map(|now| now.state) != Some(State::Stopped) {
            std::thread::yield_now();
        }
        assert_eq!(hold_still(shell.id()), []);
        sleeper.signal(Signal::CONT).expect("can go on");
        assert_eq!(hold_still(shell.id()).iter().map(|process| process.pid).collect::<Vec<_>>(), [sleeper.pid]);
        sleeper.signal(Signal::KILL).expect("can be killed");
        shell.wait().expect("ends with its child");
    }

    #[test]
    fn a_pid_that_means_another_process_by_now_is_not_signalled() {
        let own = Process::find(std::process::id()).expect("it runs");
        let earlier = Process { started: own.started - 1, ..own };
        // Would end this test.
        earlier.signal(Signal::KILL).expect("is passed over");
    }
}
