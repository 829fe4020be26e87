//! A program as a forked child executes it, with everything that the child sets on itself before. All of it is prepared by
//! the supervisor; the child only makes system calls.

use std::ffi::CString;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, setpriority_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_current_timer_slack};

use super::calls::{set_io_priority, set_personality, set_policy};
use super::messages::{Piece, say_unset};

/// A job's process, ready to be started. Everything is prepared before the fork, which then only makes system calls.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) path: CString,
    pub(crate) argv: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) directory: CString,
    pub(crate) umask: u32,
    /// The caller's limits, as far as this process may set them.
    pub(crate) limits: Vec<(u32, libc::rlimit)>,
    pub(crate) to_set: ToSet,
    pub(crate) fence: PreparedFence,
}

/// The job's own ends.
#[derive(Debug)]
pub(crate) struct Stdio {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// A fence as the child puts it up.
#[derive(Debug, Default)]
pub(crate) struct PreparedFence {
    /// Namespaces of its own, in which there is no network.
    pub(crate) network: bool,
    /// Where it may write, for `landlock_restrict_self(2)`.
    pub(crate) ruleset: Option<OwnedFd>,
    /// What is still to be allowed in the working directory, in Landlock's bits: by the child, once it is there.
    pub(crate) in_directory: Option<u64>,
}

impl PreparedFence {
    pub(crate) fn is_some(&self) -> bool {
        self.network || self.ruleset.is_some()
    }
}

/// What a child sets on itself. Everything is prepared; setting it only makes system calls.
#[derive(Debug, Default)]
pub(crate) struct ToSet {
    pub(crate) groups: Option<(Gid, Vec<Gid>)>,
    pub(crate) nice: Option<i32>,
    pub(crate) policy: Option<(i32, i32)>,
    pub(crate) io: Option<i32>,
    pub(crate) cpus: Option<CpuSet>,
    pub(crate) oom_score_adj: Option<CString>,
    pub(crate) timer_slack: Option<NonZeroU64>,
    pub(crate) personality: Option<u32>,
}

impl ToSet {
    /// In the child, first of all: the kernel forgets the death signal and more with the groups.
    ///
    /// # Errors
    /// Those of the kernel. A job is not run with groups that are not its submitter's.
    pub(super) fn set_groups(&self) -> Result<(), Errno> {
        let Some((group, groups)) = &self.groups else { return Ok(()) };
        rustix::thread::set_thread_groups(groups)?;
        rustix::thread::set_thread_res_gid(*group, *group, *group)
    }

    /// In the child. What may not be set stays as it is, and is said.
    pub(super) fn set(&self, say: &OwnedFd) {
        let set = |piece: Piece, set: Result<(), Errno>| {
            if set.is_err() {
                say_unset(piece, say);
            }
        };
        // Real-time classes have no nice value, and a timer slack of their own: the class comes between the two.
        if let Some(nice) = self.nice {
            set(Piece::Nice, setpriority_process(None, nice));
        }
        if let Some((policy, priority)) = self.policy {
            set(Piece::Policy, set_policy(policy, priority));
        }
        if let Some(slack) = self.timer_slack {
            set(Piece::TimerSlack, set_current_timer_slack(Some(slack)));
        }
        if let Some(io) = self.io {
            set(Piece::Io, set_io_priority(io));
        }
        if let Some(wanted) = &self.cpus {
            // Without those that the control group forbids, which is no error as long as one is left.
            let has_all = sched_setaffinity(None, wanted).and_then(|()| sched_getaffinity(None)).and_then(|has| {
                let is_missing = |cpu: &usize| wanted.is_set(*cpu) && !has.is_set(*cpu);
                if (0..CpuSet::MAX_CPU).any(|cpu| is_missing(&cpu)) { Err(Errno::INVAL) } else { Ok(()) }
            });
            set(Piece::Cpus, has_all);
        }
        if let Some(score) = &self.oom_score_adj {
            let file = rustix::fs::open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
            set(Piece::OomScoreAdj, file.and_then(|file| rustix::io::write(file, score.as_bytes())).map(drop));
        }
        if let Some(personality) = self.personality {
            set(Piece::Personality, set_personality(personality));
        }
    }
}
