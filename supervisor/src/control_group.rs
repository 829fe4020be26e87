//! What the kernel says of the control group that this process is in: whether it ran out of memory, and how much CPU time
//! its processes have used.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::sampling::own_cpu_time;

/// How often it has been so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// The group's own limit was met, and nothing could be reclaimed. A machine that runs out of memory does not count.
    limit_met: u64,
    /// A process in it was killed for want of memory, for whatever limit.
    killed: u64,
}

/// A group whose memory limit is this job's.
#[derive(Debug)]
pub(super) struct LimitedGroup {
    events: PathBuf,
    before: Counts,
}

/// The one this process is in, where the kernel shows it.
fn own() -> Option<PathBuf> {
    let read = |path| fs::read_to_string(path).ok();
    directory(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
}

/// The CPU time of a group in which there are this process and its job, and nobody else. The kernel counts all that has
/// ever run in it, whoever has waited for it.
#[derive(Debug)]
pub(super) struct CpuMeter {
    stat: PathBuf,
    /// What the group had used, without this process, when this was made.
    before: Duration,
}

impl CpuMeter {
    /// Of the group that this process is in, before it has a job. `None` where the kernel does not count, or hides where, and
    /// where somebody else is in it.
    pub(super) fn own() -> Option<Self> {
        let group = own()?;
        let members = fs::read_to_string(group.join("cgroup.procs")).ok()?;
        if members.trim() != std::process::id().to_string() {
            return None;
        }
        let stat = group.join("cpu.stat");
        let before = of_others(&stat)?;
        Some(Self { stat, before })
    }

    /// What all in it but this process have used since this was made.
    pub(super) fn used(&self) -> Option<Duration> {
        of_others(&self.stat)?.checked_sub(self.before)
    }
}

fn of_others(stat: &Path) -> Option<Duration> {
    // In this order: what this process uses in between is in none.
    let own = own_cpu_time();
    let all = usage(&fs::read_to_string(stat).ok()?)?;
    Some(all.saturating_sub(own))
}

/// From `cpu.stat`, which has it in microseconds.
fn usage(stat: &str) -> Option<Duration> {
    let micros = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    micros.trim().parse().ok().map(Duration::from_micros)
}

impl LimitedGroup {
    /// The one this process is in. `None` where the kernel does not count, or hides where.
    pub(super) fn own() -> Option<Self> {
        Self::at(&own()?)
    }

    fn at(directory: &Path) -> Option<Self> {
        let events = directory.join("memory.events");
        let before = counts(&fs::read_to_string(&events).ok()?)?;
        Some(Self { events, before })
    }

    /// Whether the kernel has killed one of its processes because of its limit, since this was made.
    pub(super) fn killed_for_its_limit(&self) -> bool {
        let now = fs::read_to_string(&self.events).ok().and_then(|events| counts(&events));
        now.is_some_and(|now| now.limit_met > self.before.limit_met && now.killed > self.before.killed)
    }
}

/// From the line of the unified hierarchy in `/proc/PID/cgroup`, and from where that is mounted.
fn directory(groups: &str, mounts: &str) -> Option<PathBuf> {
    let group = Path::new(groups.lines().find_map(|line| line.strip_prefix("0::"))?);
    // `/../x` is outside of what this namespace sees.
    if group.components().any(|component| component == std::path::Component::ParentDir) {
        return None;
    }
    mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        if file_system.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3).map(unescaped);
        let (root, point) = (fields.next()?, fields.next()?);
        // Only what lies below the root of the mount is to be seen there.
        Some(Path::new(&point).join(group.strip_prefix(&root).ok()?))
    })
}

/// Blanks and the like are written as `\040`.
fn unescaped(field: &str) -> String {
    let mut pieces = field.split('\\');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| {
        let code = piece.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => text + &char::from(code).to_string() + &piece[3..],
            None => text + "\\" + piece,
        }
    })
}

fn counts(events: &str) -> Option<Counts> {
    let count = |name: &str| events.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    Some(Counts { limit_met: count("oom")?, killed: count("oom_kill")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        22 1 0:21 / /proc rw,nosuid - proc proc rw\n\
        30 22 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        31 22 0:27 / /sys/fs/cgroup\\040two rw,relatime shared:9 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_group_lies_below_the_mount_of_the_unified_hierarchy() {
        let scope = "/user.slice/app.slice/pyexec-7-8.scope";
        let hybrid = format!("4:memory:/elsewhere\n0::{scope}\n");
        let expected = format!("/sys/fs/cgroup two{scope}");
        assert_eq!(directory(&hybrid, MOUNTS), Some(PathBuf::from(expected)));
        let bound = MOUNTS.replace("0:27 / ", "0:27 /user.slice ");
        let expected = "/sys/fs/cgroup two/app.slice/pyexec-7-8.scope";
        assert_eq!(directory(&hybrid, &bound), Some(PathBuf::from(expected)));
        for (groups, mounts) in [
            ("4:memory:/a\n", MOUNTS),
            ("0::/../a\n", MOUNTS),
            ("0::/a\n", "22 1 0:21 / /proc rw - proc proc rw\n"),
            ("0::/a\n", bound.as_str()),
        ] {
            assert_eq!(directory(groups, mounts), None, "{groups}");
        }
    }

    #[test]
    fn only_a_kill_for_the_groups_own_limit_since_then_counts() {
        let group = tempfile::tempdir().expect("a directory");
        let say = |oom, oom_kill| {
            let text = format!("low 0\nhigh 0\nmax 12\noom {oom}\noom_kill {oom_kill}\noom_group_kill 0\n");
            std::fs::write(group.path().join("memory.events"), text).expect("can be written");
        };
        assert!(LimitedGroup::at(group.path()).is_none());
        say(1, 1);
        let limited = LimitedGroup::at(group.path()).expect("counts");
        assert!(!limited.killed_for_its_limit());
        // The machine has run out of it; a limit was met, and something could be reclaimed at last.
        for (oom, oom_kill, expected) in [(1, 2, false), (2, 1, false), (2, 2, true)] {
            say(oom, oom_kill);
            assert_eq!(limited.killed_for_its_limit(), expected, "{oom} {oom_kill}");
        }
        std::fs::write(group.path().join("memory.events"), "oom x\n").expect("can be written");
        assert!(!limited.killed_for_its_limit());
    }

    #[test]
    fn what_a_group_has_used_is_read() {
        let stat = "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 0\n";
        assert_eq!(usage(stat), Some(Duration::from_millis(1_500)));
        assert_eq!(usage("user_usec 1\n"), None);
        assert_eq!(usage("usage_usec x\n"), None);
    }

    #[test]
    fn this_process_finds_its_own_group_where_there_is_one() {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        if let Some(group) = directory(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo")) {
            let members = read(group.join("cgroup.procs").to_str().expect("is UTF-8"));
            assert!(members.lines().any(|pid| pid == std::process::id().to_string()), "{}: {members}", group.display());
        }
    }
}
