//! Which finished jobs are forgotten: a pure decision.

use std::time::Duration;

use pyexec_proto::state::Status;
use pyexec_proto::{JobId, Timestamp};

/// What retention looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishedJob {
    pub id: JobId,
    pub status: Status,
    pub ended_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub older_than: Duration,
    pub keep_completed: bool,
    pub keep_failed: bool,
}

impl Policy {
    /// Cancelled jobs past the age always go; a job that has not finished never does.
    pub fn forgets(&self, job: &FinishedJob, now: Timestamp) -> bool {
        let kept = match job.status {
            Status::Completed => self.keep_completed,
            Status::Failed => self.keep_failed,
            Status::Cancelled => false,
            Status::Pending | Status::Running => true,
        };
        !kept && job.ended_at.age_at(now) >= self.older_than
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_and_what_stays() {
        let now = Timestamp(100_000_000);
        let old = Timestamp(0);
        let new = Timestamp(99_000_000);
        let day = Policy { older_than: Duration::from_secs(50), keep_completed: false, keep_failed: false };
        let keep_completed = Policy { keep_completed: true, ..day };
        let keep_failed = Policy { keep_failed: true, ..day };
        let keep_both = Policy { keep_completed: true, keep_failed: true, ..day };
        let everything = Policy { older_than: Duration::ZERO, ..day };
        for (policy, status, ended_at, goes) in [
            (day, Status::Completed, old, true),
            (day, Status::Failed, old, true),
            (day, Status::Cancelled, old, true),
            (day, Status::Completed, new, false),
            (day, Status::Running, old, false),
            (day, Status::Pending, old, false),
            (keep_completed, Status::Completed, old, false),
            (keep_completed, Status::Failed, old, true),
            (keep_failed, Status::Failed, old, false),
            (keep_failed, Status::Completed, old, true),
            (keep_both, Status::Cancelled, old, true),
            (keep_both, Status::Cancelled, new, false),
            (everything, Status::Completed, now, true),
        ] {
            let job = FinishedJob { id: JobId::mint(), status, ended_at };
            assert_eq!(policy.forgets(&job, now), goes, "{status} ended at {ended_at:?} under {policy:?}");
        }
    }
}
