//! What a supervisor does for jobs that wait, when the daemon that should have started them has been ended: it starts
//! another. Nobody else might call for days.
//!
//! Once, when its own job has ended, and only if some job waits. A daemon that has left when it was told to takes its note
//! out of the lock file, and stays away: so `pyexec daemon stop` and `systemctl --user stop` mean what they say.

use std::path::Path;

use pyexec_client::start;
use pyexec_proto::JobId;
use pyexec_proto::paths::Paths;
use pyexec_run_directory::lock_file;
use pyexec_run_directory::record::ENVIRONMENT;

/// Returns when the next daemon listens, or there is to be none. That it cannot be started is for the next client to be
/// told.
pub(crate) fn start_daemon_for_those_who_wait() {
    let Ok(paths) = Paths::from_environment() else { return };
    if lock_file::last_to_be_ended(&paths).is_some() && somebody_waits(&paths.jobs()) {
        let _ = start::ensure_running(&paths);
    }
}

/// A job that has not been started has its permission to start.
fn somebody_waits(jobs: &Path) -> bool {
    let Ok(entries) = jobs.read_dir() else { return false };
    entries.flatten().any(|entry| {
        let is_job = entry.file_name().to_str().is_some_and(|name| name.parse::<JobId>().is_ok());
        is_job && entry.path().join(ENVIRONMENT).exists()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_job_that_may_still_be_started_waits() {
        let jobs = tempfile::tempdir().expect("a directory");
        let waits = || somebody_waits(jobs.path());
        assert!(!waits());
        let ended = jobs.path().join(JobId::mint().to_string());
        std::fs::create_dir(&ended).expect("can be made");
        let half_made = jobs.path().join(format!(".{}", JobId::mint()));
        std::fs::create_dir(&half_made).expect("can be made");
        std::fs::write(half_made.join(ENVIRONMENT), "").expect("can be written");
        assert!(!waits());
        std::fs::write(ended.join(ENVIRONMENT), "").expect("can be written");
        assert!(waits());
    }
}
