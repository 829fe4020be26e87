//! The resource limits that the daemon runs under, and jobs with it: hard limits below ours are those of whoever started it.

use pyexec_proto::job::ResourceLimit;

use super::Check;

const NAME: &str = "resource limits";

/// `None` where the kernel does not say, as of a process in another container.
pub(super) fn check(daemon: u32) -> Option<Check> {
    let text = std::fs::read_to_string(format!("/proc/{daemon}/limits")).ok()?;
    Some(compare(&ResourceLimit::of_this_process(), |row| hard_limit(&text, row)))
}

fn compare(ours: &[ResourceLimit], daemons: impl Fn(&str) -> Option<Option<u64>>) -> Check {
    let lower: Vec<String> = ours
        .iter()
        .filter_map(|ours| {
            let theirs = daemons(row(ours)?)?;
            let is_lower = theirs.is_some_and(|theirs| ours.hard.is_none_or(|ours| theirs < ours));
            is_lower.then(|| format!("{} {} instead of {}", ours.name(), ours.shown(theirs), ours.shown(ours.hard)))
        })
        .collect();
    if lower.is_empty() {
        return Check::ok(NAME, "jobs have all that this shell has");
    }
    let hint = "`pyexec daemon restart` starts a daemon with the limits of this shell; jobs that run are not affected";
    Check::warning(NAME, format!("the daemon, and so each job, has less than this shell: {}", lower.join(", ")), hint)
}

/// How `/proc/PID/limits` calls it.
fn row(limit: &ResourceLimit) -> Option<&'static str> {
    // By the option of `ulimit`, which is what both sides are named after.
    let rows = [
        ("-t`", "Max cpu time"),
        ("-f`", "Max file size"),
        ("-d`", "Max data size"),
        ("-s`", "Max stack size"),
        ("-c`", "Max core file size"),
        ("-m`", "Max resident set"),
        ("-u`", "Max processes"),
        ("-n`", "Max open files"),
        ("-l`", "Max locked memory"),
        ("-v`", "Max address space"),
    ];
    let name = limit.name();
    rows.into_iter().find(|(option, _)| name.contains(option)).map(|(_, row)| row)
}

/// The second value of the row; within, `None` is unlimited.
fn hard_limit(text: &str, row: &str) -> Option<Option<u64>> {
    let hard = text.lines().find_map(|line| line.strip_prefix(row))?.split_whitespace().nth(1)?;
    if hard == "unlimited" { Some(None) } else { hard.parse().ok().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::doctor::Status;

    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max cpu time              unlimited            2                    seconds   \n\
        Max file size             unlimited            unlimited            bytes     \n\
        Max open files            1024                 4096                 files     \n";

    fn limit(resource: rustix::process::Resource, hard: Option<u64>) -> ResourceLimit {
        ResourceLimit { resource: resource as u32, soft: hard, hard }
    }

    #[test]
    fn limits_that_are_lower_than_ours_are_told_and_no_others() {
        use rustix::process::Resource;
        let ours = [limit(Resource::Cpu, None), limit(Resource::Fsize, Some(7)), limit(Resource::Nofile, Some(4096))];
        let check = compare(&ours, |row| hard_limit(LIMITS, row));
        assert_eq!(check.status, Status::Warning);
        let told =
            "the daemon, and so each job, has less than this shell: CPU time (`ulimit -t`) 2 s instead of unlimited";
        assert_eq!(check.detail, told);
        assert_eq!(compare(&ours[1..], |row| hard_limit(LIMITS, row)).status, Status::Ok);
    }

    #[test]
    fn the_kernel_knows_every_limit_by_the_name_that_is_looked_for() {
        let text = std::fs::read_to_string("/proc/self/limits").expect("there is a /proc");
        for limit in ResourceLimit::of_this_process() {
            let row = row(&limit).expect("is known");
            assert_eq!(hard_limit(&text, row), Some(limit.hard), "{row}");
        }
    }
}
