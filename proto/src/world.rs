//! The namespaces and groups of a process and its scheduling: the properties that a job inherits from the process that
//! submits it.
//!
//! This module holds the data, its comparison and its wording. The daemon inspects processes itself
//! (`supervisor::peer`), and never trusts what a process claims about itself.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// The namespaces, root directory and groups of a process. An empty text means unknown, and never counts as a
/// difference. Fields are only ever added: the lock file of a daemon and the specification of a job contain this type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct World {
    /// The link `/proc/PID/ns/net`; likewise below.
    pub network_namespace: String,
    pub mount_namespace: String,
    pub pid_namespace: String,
    pub user_namespace: String,
    /// The device and inode of the root directory.
    pub root_directory: String,
    /// The effective group id.
    pub group: u32,
    /// The supplementary group ids, ascending.
    pub groups: Vec<u32>,
    /// The boot in which these values hold.
    pub boot_id: String,
}

impl World {
    /// The namespaces and root directory in which `self`, the daemon, differs from `other`, in words that follow "the
    /// daemon has".
    pub fn differences(&self, other: &World) -> Vec<String> {
        let differ = |what: &str, own: &str, other: &str| {
            (own != other && !own.is_empty() && !other.is_empty())
                .then(|| format!("another {what} ({own}, here {other})"))
        };
        [
            differ("network namespace", &self.network_namespace, &other.network_namespace),
            differ("mount namespace", &self.mount_namespace, &other.mount_namespace),
            differ("pid namespace", &self.pid_namespace, &other.pid_namespace),
            differ("user namespace", &self.user_namespace, &other.user_namespace),
            differ("root directory", &self.root_directory, &other.root_directory),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The differences in groups, in the same form.
    pub fn differences_in_groups(&self, other: &World) -> Vec<String> {
        let primary = (self.group != other.group)
            .then(|| format!("another primary group ({}, here {})", self.group, other.group));
        let supplementary = (self.groups != other.groups)
            .then(|| format!("other supplementary groups ({}, here {})", listed(&self.groups), listed(&other.groups)));
        primary.into_iter().chain(supplementary).collect()
    }

    /// Whether the machine or the container was restarted since, so that all processes of `self` are gone.
    pub fn is_of_an_earlier_start(&self, now: &World) -> bool {
        self.boot_id != now.boot_id || self.pid_namespace != now.pid_namespace
    }
}

/// Group ids as text.
pub fn listed(groups: &[u32]) -> String {
    let numbers: Vec<String> = groups.iter().map(u32::to_string).collect();
    if numbers.is_empty() { "none".to_owned() } else { numbers.join(" ") }
}

/// `one`, `one and two`, `one, two and three`.
pub fn enumerated(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The scheduling parameters of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// The CPUs it may run on, in the format of `taskset --cpu-list`; empty if unknown.
    pub cpus: String,
    /// The policy number of `sched_getscheduler(2)`, and its priority.
    pub policy: i32,
    pub priority: i32,
    /// The number of `ioprio_get(2)`.
    pub io: i32,
    pub nice: i32,
    /// `None` if the kernel does not have it.
    pub oom_score_adj: Option<i32>,
}

impl Scheduling {
    /// The CPU scheduling class, by the name that `chrt` has for it: `other`, `batch`, `fifo 10`.
    pub fn shown_policy(&self) -> String {
        /// `SCHED_RESET_ON_FORK`
        const RESET_ON_FORK: i32 = 0x4000_0000;
        let mut text = match self.policy & !RESET_ON_FORK {
            0 => "other".to_owned(),
            1 => format!("fifo {}", self.priority),
            2 => format!("rr {}", self.priority),
            3 => "batch".to_owned(),
            5 => "idle".to_owned(),
            6 => "deadline".to_owned(),
            policy => format!("policy {policy}"),
        };
        if self.policy & RESET_ON_FORK != 0 {
            text.push_str(", reset on fork");
        }
        text
    }

    /// The I/O scheduling class, by the name that `ionice` has for it: `none`, `best-effort 4`, `idle`.
    pub fn shown_io(&self) -> String {
        /// `IOPRIO_CLASS_SHIFT`; the three lowest bits are the level.
        const CLASS_SHIFT: i32 = 13;
        let level = self.io & 0b111;
        match self.io >> CLASS_SHIFT {
            0 => "none".to_owned(),
            1 => format!("realtime {level}"),
            2 => format!("best-effort {level}"),
            3 => "idle".to_owned(),
            class => format!("class {class}, {level}"),
        }
    }
}

/// The process that submitted a job, as the daemon inspected it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitter {
    pub world: World,
    pub scheduling: Scheduling,
}

/// The scheduling conditions of a benchmark's runs, as the kernel applied them to the job's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    pub scheduling: Scheduling,
    pub timer_slack_ns: u64,
    /// The number of `personality(2)`.
    pub personality: u32,
}

impl Conditions {
    /// A sentence such as `CPUs 0-3, scheduling other, nice 0`; default values are omitted.
    pub fn sentence(&self) -> String {
        /// `ADDR_NO_RANDOMIZE`
        const NO_RANDOMIZE: u32 = 0x004_0000;
        const USUAL_SLACK: u64 = 50_000;
        let scheduling = &self.scheduling;
        let mut text =
            format!("CPUs {}, scheduling {}, nice {}", scheduling.cpus, scheduling.shown_policy(), scheduling.nice);
        if scheduling.io != 0 {
            let _ = write!(text, ", I/O {}", scheduling.shown_io());
        }
        if self.timer_slack_ns != USUAL_SLACK {
            let _ = write!(text, ", timer slack {} ns", self.timer_slack_ns);
        }
        if self.personality & NO_RANDOMIZE != 0 {
            text.push_str(", addresses not randomized");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        World {
            network_namespace: "net:[1]".to_owned(),
            mount_namespace: "mnt:[2]".to_owned(),
            pid_namespace: "pid:[3]".to_owned(),
            user_namespace: "user:[4]".to_owned(),
            root_directory: "5".to_owned(),
            group: 6,
            groups: vec![7],
            boot_id: "8".to_owned(),
        }
    }

    #[test]
    fn each_thing_that_differs_is_named_and_what_is_not_known_is_not() {
        let other = |text: &str| text.to_owned();
        let here = world();
        assert_eq!(here.differences(&here), Vec::<String>::new());
        for (there, named) in [
            (
                World { network_namespace: other("net:[9]"), ..world() },
                "another network namespace (net:[1], here net:[9])",
            ),
            (World { mount_namespace: other("mnt:[9]"), ..world() }, "another mount namespace (mnt:[2], here mnt:[9])"),
            (World { pid_namespace: other("pid:[9]"), ..world() }, "another pid namespace (pid:[3], here pid:[9])"),
            (
                World { user_namespace: other("user:[9]"), ..world() },
                "another user namespace (user:[4], here user:[9])",
            ),
            (World { root_directory: other("9"), ..world() }, "another root directory (5, here 9)"),
        ] {
            assert_eq!(here.differences(&there), [named]);
        }
        for unknown in [World { network_namespace: other(""), ..world() }, World { boot_id: other("9"), ..world() }] {
            assert_eq!(here.differences(&unknown), Vec::<String>::new());
            assert_eq!(unknown.differences(&here), Vec::<String>::new());
        }
    }

    #[test]
    fn groups_are_compared_by_themselves() {
        let here = world();
        let newgrp = World { group: 7, groups: vec![], ..world() };
        assert_eq!(here.differences(&newgrp), Vec::<String>::new());
        assert_eq!(here.differences_in_groups(&here), Vec::<String>::new());
        let differences = here.differences_in_groups(&newgrp);
        assert_eq!(differences, ["another primary group (6, here 7)", "other supplementary groups (7, here none)"]);
        assert_eq!(
            enumerated(&differences),
            "another primary group (6, here 7) and other supplementary groups (7, here none)"
        );
    }

    #[test]
    fn after_a_reboot_and_in_a_container_that_was_started_again_the_world_is_an_earlier_one() {
        assert!(!world().is_of_an_earlier_start(&world()));
        assert!(world().is_of_an_earlier_start(&World { boot_id: "9".to_owned(), ..world() }));
        assert!(world().is_of_an_earlier_start(&World { pid_namespace: "pid:[9]".to_owned(), ..world() }));
        assert!(!world().is_of_an_earlier_start(&World { network_namespace: "net:[9]".to_owned(), ..world() }));
    }

    #[test]
    fn classes_have_the_names_that_chrt_and_ionice_have_for_them() {
        let usual = Scheduling { cpus: "0-1".to_owned(), policy: 0, priority: 0, io: 0, nice: 5, oom_score_adj: None };
        for (policy, priority, shown) in [
            (0, 0, "other"),
            (1, 10, "fifo 10"),
            (3, 0, "batch"),
            (5, 0, "idle"),
            (0x4000_0002, 3, "rr 3, reset on fork"),
        ] {
            assert_eq!(Scheduling { policy, priority, ..usual.clone() }.shown_policy(), shown);
        }
        for (io, shown) in [(0, "none"), (3 << 13, "idle"), ((2 << 13) | 7, "best-effort 7"), (1 << 13, "realtime 0")] {
            assert_eq!(Scheduling { io, ..usual.clone() }.shown_io(), shown);
        }
        let conditions = Conditions { scheduling: usual.clone(), timer_slack_ns: 50_000, personality: 0 };
        assert_eq!(conditions.sentence(), "CPUs 0-1, scheduling other, nice 5");
        let unusual =
            Conditions { scheduling: Scheduling { io: 3 << 13, ..usual }, timer_slack_ns: 1, personality: 0x004_0000 };
        let told = "CPUs 0-1, scheduling other, nice 5, I/O idle, timer slack 1 ns, addresses not randomized";
        assert_eq!(unusual.sentence(), told);
    }
}
