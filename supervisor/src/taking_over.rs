//! What a job's process takes over from its submitter besides what a specification says: prepared by the supervisor, set by
//! the child on itself between fork and exec, and told of where it may not be set.
//!
//! Only what differs from what the supervisor has is set.

use pyexec_run_directory::own_limits;
use std::ffi::CString;
use std::num::NonZeroU64;

use pyexec_proto::ulimit::ResourceLimit;
use pyexec_proto::world::{Conditions, Scheduling};
use pyexec_run_directory::proc_file;
use rustix::process::Gid;
use rustix::thread::sched_getaffinity;

use super::cpus::{cpus_in, list_of};
use super::process::{self, Piece, ToSet};
use super::scheduling;
use pyexec_run_directory::control::Launch;

/// What a supervisor has itself, and with it a child that sets nothing.
#[derive(Clone, Debug)]
pub(super) struct Inherited {
    conditions: Conditions,
    pub(super) limits: Vec<ResourceLimit>,
}

impl Inherited {
    /// To be called before there is a job to start: it takes a few calls.
    pub(super) fn look() -> std::io::Result<Self> {
        let conditions = Conditions {
            scheduling: scheduling::of(None)?,
            timer_slack_ns: rustix::thread::current_timer_slack()?,
            personality: process::personality(),
        };
        Ok(Self { conditions, limits: own_limits::of_this_process() })
    }

    /// Again: the CPUs may have become fewer in the control group that this process has been moved to meanwhile.
    pub(super) fn look_at_cpus(&mut self) {
        if let Ok(cpus) = sched_getaffinity(None) {
            self.conditions.scheduling.cpus = list_of(&cpus);
        }
    }

    /// Those of `asked` that a child does not have by itself.
    pub(super) fn limits_to_set<'a>(&self, asked: &'a [ResourceLimit]) -> impl Iterator<Item = &'a ResourceLimit> {
        asked.iter().filter(|limit| !self.limits.contains(limit))
    }

    /// What a child sets on itself to have what its submitter had.
    pub(super) fn to_set(&self, launch: &Launch) -> ToSet {
        let taken = &launch.taken_over;
        let has = &self.conditions.scheduling;
        let wanted = taken.scheduling.as_ref();
        let other = |wanted: Option<i32>, has: Option<i32>| wanted.filter(|wanted| Some(*wanted) != has);
        let policy = wanted.map(|wanted| (wanted.policy, wanted.priority));
        let score = other(wanted.and_then(|wanted| wanted.oom_score_adj), has.oom_score_adj);
        ToSet {
            groups: taken
                .groups
                .as_ref()
                .map(|(group, groups)| (Gid::from_raw(*group), groups.iter().copied().map(Gid::from_raw).collect())),
            nice: other(Some(launch.nice), Some(has.nice)),
            policy: policy.filter(|policy| *policy != (has.policy, has.priority)),
            io: other(wanted.map(|wanted| wanted.io), Some(has.io)),
            cpus: wanted.filter(|wanted| wanted.cpus != has.cpus).and_then(|wanted| cpus_in(&wanted.cpus)),
            oom_score_adj: score.map(|score| CString::new(score.to_string()).expect("a number has no NUL")),
            timer_slack: taken
                .timer_slack_ns
                .filter(|slack| *slack != self.conditions.timer_slack_ns)
                .and_then(NonZeroU64::new),
            personality: taken.personality.filter(|wanted| *wanted != self.conditions.personality),
        }
    }
}

/// What the job's process has, once it is known what could not be set.
#[derive(Clone, Debug)]
pub(super) struct Given {
    wanted: Conditions,
    inherited: Conditions,
    not_taken_over: Vec<String>,
}

impl Given {
    pub(super) fn new(launch: &Launch, inherited: &Inherited) -> Self {
        let taken = &launch.taken_over;
        let has = &inherited.conditions;
        let scheduling = taken.scheduling.clone().unwrap_or_else(|| has.scheduling.clone());
        Self {
            wanted: Conditions {
                scheduling: Scheduling { nice: launch.nice, ..scheduling },
                timer_slack_ns: taken.timer_slack_ns.unwrap_or(has.timer_slack_ns),
                personality: taken.personality.unwrap_or(has.personality),
            },
            inherited: has.clone(),
            not_taken_over: taken.not_taken_over.clone(),
        }
    }

    /// Of a process that has become the program. `cpus`: those that it may run on, of a process that could not have all.
    pub(super) fn without(mut self, unset: &[Piece], cpus: Option<&str>) -> Self {
        let (wanted, has) = (&mut self.wanted, &self.inherited);
        let (asked, own) = (&mut wanted.scheduling, &has.scheduling);
        for piece in unset {
            self.not_taken_over.push(match piece {
                Piece::Nice => instead("nice value", swap(&mut asked.nice, own.nice), own.nice),
                Piece::Policy => {
                    let before = asked.shown_policy();
                    (asked.policy, asked.priority) = (own.policy, own.priority);
                    instead(POLICY, before, own.shown_policy())
                }
                Piece::Io => {
                    let before = asked.shown_io();
                    asked.io = own.io;
                    instead(IO, before, own.shown_io())
                }
                Piece::Cpus => {
                    let now = cpus.unwrap_or(&own.cpus).to_owned();
                    instead("CPU affinity", swap(&mut asked.cpus, now.clone()), now)
                }
                Piece::OomScoreAdj => {
                    let before = swap(&mut asked.oom_score_adj, own.oom_score_adj);
                    instead(OOM_SCORE, before.unwrap_or(0), own.oom_score_adj.unwrap_or(0))
                }
                Piece::TimerSlack => {
                    let before = swap(&mut wanted.timer_slack_ns, has.timer_slack_ns);
                    instead("timer slack", format!("{before} ns"), format!("{} ns", has.timer_slack_ns))
                }
                Piece::Personality => {
                    let before = swap(&mut wanted.personality, has.personality);
                    instead("personality", format!("{before:#x}"), format!("{:#x}", has.personality))
                }
            });
        }
        self
    }

    pub(super) fn told(&self) -> Vec<String> {
        self.not_taken_over.clone()
    }

    pub(super) fn conditions(&self) -> Conditions {
        self.wanted.clone()
    }
}

fn swap<T>(place: &mut T, value: T) -> T {
    std::mem::replace(place, value)
}

const POLICY: &str = "CPU scheduling";
const IO: &str = "I/O scheduling";
const OOM_SCORE: &str = "OOM score adjustment";

/// Worded as a limit that was lowered is.
fn instead(what: &str, asked: impl std::fmt::Display, has: impl std::fmt::Display) -> String {
    format!("{what} is {has}, the daemon's own, instead of {asked}")
}

/// What this daemon may set, and with it each of its supervisors.
#[derive(Clone, Debug)]
pub(super) struct Powers {
    capabilities: u64,
    /// The lowest nice value, and the highest real-time priority, that are allowed without a capability.
    lowest_nice: i32,
    highest_priority: i32,
    own: Scheduling,
}

impl Powers {
    /// By its `/proc/PID/status`, and its limits.
    pub(super) fn of(status: &str, own: Scheduling) -> Self {
        use rustix::process::{Resource, getrlimit};
        let soft = |resource| getrlimit(resource).current.and_then(|limit| i32::try_from(limit).ok()).unwrap_or(99);
        Self {
            capabilities: capabilities_in(status, "CapEff"),
            // `setrlimit(2)`: the limit is 20 less the nice value.
            lowest_nice: 20 - soft(Resource::Nice),
            highest_priority: soft(Resource::Rtprio),
            own,
        }
    }

    /// Whether it has a capability, by its number.
    pub(super) fn has(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    /// Whether it has all of these.
    pub(super) fn include(&self, capabilities: u64) -> bool {
        capabilities & !self.capabilities == 0
    }

    #[cfg(test)]
    pub(super) fn without_any(&self) -> Self {
        Self { capabilities: 0, ..self.clone() }
    }

    /// What a process with this scheduling could not hand over to a job, as far as the daemon can know without trying.
    pub(super) fn would_refuse(&self, asked: &Scheduling) -> Vec<String> {
        /// Of `linux/capability.h`.
        const CAP_SYS_ADMIN: u32 = 21;
        const CAP_SYS_NICE: u32 = 23;
        const CAP_SYS_RESOURCE: u32 = 24;
        /// `SCHED_FIFO` and `SCHED_RR`; `SCHED_DEADLINE`, which takes more than a priority.
        const REAL_TIME: [i32; 2] = [1, 2];
        const DEADLINE: i32 = 6;
        const IO_REAL_TIME: i32 = 1;
        let own = &self.own;
        let policy = asked.policy & 0xff;
        let nice = asked.nice < own.nice && asked.nice < self.lowest_nice && !self.has(CAP_SYS_NICE);
        let real_time = policy == DEADLINE
            || (REAL_TIME.contains(&policy)
                && policy != own.policy & 0xff
                && asked.priority > self.highest_priority
                && !self.has(CAP_SYS_NICE));
        let io =
            asked.io >> 13 == IO_REAL_TIME && asked.io != own.io && !self.has(CAP_SYS_NICE) && !self.has(CAP_SYS_ADMIN);
        let score = asked.oom_score_adj.zip(own.oom_score_adj).is_some_and(|(asked, own)| asked < own)
            && !self.has(CAP_SYS_RESOURCE);
        [
            nice.then(|| instead("nice value", asked.nice, own.nice)),
            real_time.then(|| instead(POLICY, asked.shown_policy(), own.shown_policy())),
            io.then(|| instead(IO, asked.shown_io(), own.shown_io())),
            score.then(|| instead(OOM_SCORE, asked.oom_score_adj.unwrap_or(0), own.oom_score_adj.unwrap_or(0))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// A set of capabilities, by its name in a `/proc/PID/status`.
pub(super) fn capabilities_in(status: &str, set: &str) -> u64 {
    proc_file::field(status, set).and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> Scheduling {
        Scheduling { cpus: "0-1".to_owned(), policy: 0, priority: 0, io: 0, nice: 0, oom_score_adj: Some(200) }
    }

    #[test]
    fn what_takes_a_capability_is_told_beforehand_and_only_without_it() {
        let powers = |capabilities| Powers { capabilities, lowest_nice: 20, highest_priority: 0, own: usual() };
        let none = powers(0);
        assert_eq!(none.would_refuse(&usual()), Vec::<String>::new());
        let harmless = Scheduling { policy: 5, io: 3 << 13, nice: 19, oom_score_adj: Some(900), ..usual() };
        assert_eq!(none.would_refuse(&harmless), Vec::<String>::new());
        for (asked, told) in [
            (Scheduling { nice: -5, ..usual() }, "nice value is 0, the daemon's own, instead of -5"),
            (
                Scheduling { policy: 1, priority: 10, ..usual() },
                "CPU scheduling is other, the daemon's own, instead of fifo 10",
            ),
            (Scheduling { io: 1 << 13, ..usual() }, "I/O scheduling is none, the daemon's own, instead of realtime 0"),
            (
                Scheduling { oom_score_adj: Some(0), ..usual() },
                "OOM score adjustment is 200, the daemon's own, instead of 0",
            ),
        ] {
            assert_eq!(none.would_refuse(&asked), [told]);
            assert_eq!(powers(u64::MAX).would_refuse(&asked), Vec::<String>::new());
        }
        let allowed = Powers { lowest_nice: -5, highest_priority: 10, ..none };
        assert_eq!(allowed.would_refuse(&Scheduling { nice: -5, ..usual() }), Vec::<String>::new());
        assert_eq!(allowed.would_refuse(&Scheduling { policy: 2, priority: 10, ..usual() }), Vec::<String>::new());
        assert_eq!(allowed.would_refuse(&Scheduling { policy: 2, priority: 11, ..usual() }).len(), 1);
    }
}
