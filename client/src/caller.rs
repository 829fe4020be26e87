//! The properties of this process that a job inherits and that only this process knows: environment, umask, resource limits,
//! nice value, timer slack, personality, and its parent job. What the daemon can read itself is in [`pyexec_proto::world`].

use std::ffi::OsString;

use pyexec_proto::id::JobId;
use pyexec_proto::job::Variables;
use pyexec_proto::ulimit::ResourceLimit;
use pyexec_proto::variables::{JOB_ID_VARIABLE, SERVICE_MARK};
use pyexec_run_directory::{own_limits, proc_file};

/// What a job inherits from the process that submits it.
#[derive(Clone, Debug)]
pub struct Caller {
    pub environment: Variables,
    /// The job that this process is part of.
    pub parent: Option<JobId>,
    pub umask: u32,
    pub limits: Vec<ResourceLimit>,
    pub nice: i32,
    pub timer_slack_ns: Option<u64>,
    pub personality: Option<u32>,
}

impl Caller {
    pub fn this_process() -> Self {
        Self::with_variables(std::env::vars_os())
    }

    /// This process, with other environment variables.
    pub fn with_variables(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let (environment, parent) = environment(variables);
        Self {
            environment,
            parent,
            umask: umask(),
            limits: own_limits::of_this_process(),
            nice: rustix::process::getpriority_process(None).unwrap_or(0),
            timer_slack_ns: rustix::thread::current_timer_slack().ok(),
            personality: personality(),
        }
    }
}

/// The environment for a job, and the job the caller belongs to.
fn environment(callers: impl Iterator<Item = (OsString, OsString)>) -> (Variables, Option<JobId>) {
    let mut parent = None;
    let variables: Variables = callers
        .filter(|(name, value)| {
            if name == JOB_ID_VARIABLE {
                parent = value.to_str().and_then(|id| id.parse().ok());
            }
            // Both describe the caller; the daemon sets the job's own values.
            name != JOB_ID_VARIABLE && name != SERVICE_MARK
        })
        .collect();
    (variables, parent)
}

/// Read from `/proc`, because `umask(2)` can only read the mask by setting it, which affects other threads.
fn umask() -> u32 {
    const USUAL: u32 = 0o022;
    let status = proc_file::read(c"/proc/self/status").unwrap_or_default();
    let mask = proc_file::field(&status, "Umask");
    mask.and_then(|mask| u32::from_str_radix(mask, 8).ok()).unwrap_or(USUAL)
}

/// `None` where the kernel has no such file.
fn personality() -> Option<u32> {
    u32::from_str_radix(proc_file::read(c"/proc/self/personality").ok()?.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_started_by_a_job_knows_its_parent_and_carries_none_of_its_marks() {
        let id = JobId::mint();
        let callers = [(JOB_ID_VARIABLE, id.to_string()), (SERVICE_MARK, "daemon".to_owned())]
            .map(|(name, value)| (name.into(), value.into()));
        let (variables, parent) = environment(callers.into_iter());
        assert_eq!(parent, Some(id));
        assert_eq!(variables.iter().count(), 0);
    }

    #[test]
    fn the_mask_is_the_one_that_the_kernel_applies() {
        use rustix::fs::Mode;
        let read = umask();
        let kernels = rustix::process::umask(Mode::from_raw_mode(read));
        assert_eq!(kernels.as_raw_mode(), read);
    }
}
