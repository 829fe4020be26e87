//! How the kernel schedules processes: read of any process, and set on this one.

use pyexec_proto::world::Scheduling;
use pyexec_run_directory::proc_file;
use rustix::process::{Pid, getpriority_process, setpriority_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_current_timer_slack};

use super::cpus::list_of;
use super::process;

/// Of a process, or of this one.
///
/// # Errors
/// There is no such process any more.
pub(super) fn of(process: Option<Pid>) -> rustix::io::Result<Scheduling> {
    let (policy, priority) = process::policy(process)?;
    let score = match process {
        Some(pid) => proc_file::read(format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero())),
        None => proc_file::read(c"/proc/self/oom_score_adj"),
    };
    Ok(Scheduling {
        // Fails on machines with more CPUs than the set has room for.
        cpus: sched_getaffinity(process).map(|cpus| list_of(&cpus)).unwrap_or_default(),
        policy,
        priority,
        io: process::io_priority(process).unwrap_or(0),
        nice: getpriority_process(process)?,
        oom_score_adj: score.ok().and_then(|score| score.trim().parse().ok()),
    })
}

/// The kernel's default, in nanoseconds.
const TIMER_SLACK: u64 = 50_000;

/// Takes the scheduling that a process of this user has by default, as far as the kernel allows it: nice value, CPU and I/O
/// scheduling class, CPU affinity, timer slack, and what the kernel would end first without memory; and the default
/// personality.
///
/// What is not allowed without privileges, a lower nice value most of all, stays as the starter had it.
pub fn forget_starters() {
    const SCHED_OTHER: i32 = 0;
    const IOPRIO_NONE: i32 = 0;
    let _ = setpriority_process(None, 0);
    let _ = process::set_policy(SCHED_OTHER, 0);
    let _ = process::set_io_priority(IOPRIO_NONE);
    // The kernel keeps to the CPUs that there are, and that the control group may use.
    let mut every = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| every.set(cpu));
    let _ = sched_setaffinity(None, &every);
    let _ = set_current_timer_slack(std::num::NonZeroU64::new(TIMER_SLACK));
    if process::personality() != 0 {
        let _ = process::set_personality(0);
    }
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_gone_has_no_scheduling_and_this_one_has_the_same_under_its_pid() {
        assert_eq!(of(None).expect("it runs"), of(Some(rustix::process::getpid())).expect("it runs"));
        let child = std::process::Command::new("true").spawn().and_then(|mut child| {
            child.wait()?;
            Ok(child.id())
        });
        let gone = i32::try_from(child.expect("can be run")).ok().and_then(Pid::from_raw);
        assert!(of(Some(gone.expect("is a pid"))).is_err());
    }
}
