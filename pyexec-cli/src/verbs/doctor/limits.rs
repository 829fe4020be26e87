//! The resource limits that the daemon runs under, and jobs with it: hard limits below ours are those of whoever started it.

use pyexec_proto::ulimit::ResourceLimit;
use pyexec_run_directory::own_limits;

use super::check::Check;

const NAME: &str = "resource limits";

/// `None` where the kernel does not say, as of a process in another container.
pub(super) fn check(daemon: u32) -> Option<Check> {
    let text = std::fs::read_to_string(format!("/proc/{daemon}/limits")).ok()?;
    Some(compare(&own_limits::of_this_process(), &ResourceLimit::all_in(&text)))
}

fn compare(ours: &[ResourceLimit], daemons: &[ResourceLimit]) -> Check {
    let lower: Vec<String> = ours
        .iter()
        .filter_map(|ours| {
            let theirs = daemons.iter().find(|theirs| theirs.resource == ours.resource)?.hard;
            let is_lower = theirs.is_some_and(|theirs| ours.hard.is_none_or(|ours| theirs < ours));
            is_lower.then(|| format!("{} {} instead of {}", ours.name(), ours.shown(theirs), ours.shown(ours.hard)))
        })
        .collect();
    if lower.is_empty() {
        return Check::ok(NAME, "jobs have all that this shell has");
    }
    let hint = "`pyexec daemon restart` starts a daemon with this shell's limits; running jobs are not affected";
    Check::warning(NAME, format!("the daemon, and so each job, has less than this shell: {}", lower.join(", ")), hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::doctor::check::Status;

    fn limit(resource: rustix::process::Resource, hard: Option<u64>) -> ResourceLimit {
        ResourceLimit { resource: resource as u32, soft: hard, hard }
    }

    #[test]
    fn limits_that_are_lower_than_ours_are_told_and_no_others() {
        use rustix::process::Resource;
        let ours = [limit(Resource::Cpu, None), limit(Resource::Fsize, Some(7)), limit(Resource::Nofile, Some(4096))];
        let daemons =
            [limit(Resource::Cpu, Some(2)), limit(Resource::Fsize, None), limit(Resource::Nofile, Some(4096))];
        let check = compare(&ours, &daemons);
        assert_eq!(check.status, Status::Warning);
        let told =
            "the daemon, and so each job, has less than this shell: CPU time (`ulimit -t`) 2 s instead of unlimited";
        assert_eq!(check.detail, told);
        assert_eq!(compare(&ours[1..], &daemons).status, Status::Ok);
    }
}
