//! Watching what all processes of a job together use, where the job was given limits.
//!
//! The kernel has no limit for this that any user may set: `RLIMIT_AS` and `RLIMIT_CPU` are for one process, and
//! `RLIMIT_NPROC` is for all that a user runs. So the job is looked at, several times a second. Where the job has a control
//! group of its own, the kernel stands behind this with a memory limit; not with one for processes, because `pids.max`
//! counts threads as well, nor for CPU time, of which it knows rates but no sum.

use std::time::Duration;

use pyexec_proto::exit::ResourceUsage;
use pyexec_proto::limits::Limits;
use pyexec_proto::state::StopReason;

use super::clock::Clocks;
use super::control_group::CpuMeter;
use super::sampling::{self, Tree, Used};

/// How often, where looking costs next to nothing. Between two looks a job may go beyond its limits by as much as it can
/// in so long.
const INTERVAL: Duration = Duration::from_millis(100);

/// A job with limits.
#[derive(Debug)]
pub(super) struct Watch {
    limits: Limits,
    tree: Tree,
    /// On the monotonic clock.
    next_look: Duration,
}

impl Watch {
    /// `None` where there is nothing to watch for.
    pub(super) fn new(limits: Limits, started: Clocks) -> Option<Self> {
        let next_look = started.monotonic + INTERVAL;
        limits.is_watched().then(|| Self { limits, tree: Tree::default(), next_look })
    }

    pub(super) fn next_look(&self) -> Duration {
        self.next_look
    }

    /// Which limit the job has gone beyond, if any; `reaped` is what processes used that are gone. `meter` is of the job's
    /// control group, where it has one.
    pub(super) fn look(&mut self, reaped: &ResourceUsage, meter: Option<&CpuMeter>) -> Option<StopReason> {
        let reaped = Duration::from_micros(reaped.waited_cpu_us());
        let (mut used, cost) = self.tree.look_for_limits(self.limits.memory_bytes.map(|bytes| bytes / 1024), reaped);
        self.next_look = Clocks::now().monotonic + sampling::interval(INTERVAL, cost);
        used.cpu += reaped;
        // A process can leave its group, and then only the tree has its time.
        used.cpu = used.cpu.max(meter.and_then(CpuMeter::used).unwrap_or_default());
        beyond(&self.limits, &used)
    }

    /// What processes used, as far as it was seen, that nobody has waited for. `all_gone`: none of them is left.
    pub(super) fn unwaited(&mut self, reaped: &ResourceUsage, all_gone: bool) -> Duration {
        if all_gone {
            self.tree.settle(Duration::from_micros(reaped.waited_cpu_us()));
        }
        self.tree.unwaited()
    }
}

fn beyond(limits: &Limits, used: &Used) -> Option<StopReason> {
    let is_beyond = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used > limit);
    if is_beyond(limits.memory_bytes.map(|bytes| bytes / 1024), used.memory_kib) {
        Some(StopReason::MemoryLimit)
    } else if is_beyond(limits.processes.map(u64::from), used.processes) {
        Some(StopReason::ProcessLimit)
    } else if is_beyond(limits.cpu_ms, u64::try_from(used.cpu.as_millis()).unwrap_or(u64::MAX)) {
        Some(StopReason::CpuLimit)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_may_use_all_of_its_limit_and_no_more() {
        let limits =
            Limits { memory_bytes: Some(100 << 10), cpu_ms: Some(2_000), processes: Some(3), ..Limits::default() };
        let used = |memory_kib, processes, cpu_ms| Used { memory_kib, processes, cpu: Duration::from_millis(cpu_ms) };
        for (used, expected) in [
            (used(100, 3, 2_000), None),
            (used(101, 3, 2_000), Some(StopReason::MemoryLimit)),
            (used(100, 4, 2_000), Some(StopReason::ProcessLimit)),
            (used(100, 3, 2_001), Some(StopReason::CpuLimit)),
        ] {
            assert_eq!(beyond(&limits, &used), expected, "{used:?}");
            assert_eq!(beyond(&Limits::default(), &used), None);
        }
    }
}
