//! Which finished jobs are forgotten: a pure decision.

use std::time::Duration;

use pyexec_proto::state::Status;
use pyexec_proto::{JobId, Timestamp};

/// What retention looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinishedJob {
    pub id: JobId,
    /// Which submission it was, of all there were: tells apart those that ended at the same time.
    pub sequence: i64,
    pub status: Status,
    pub ended_at: Timestamp,
    /// In its files, as far as it has been measured.
    pub bytes: Option<u64>,
}

/// How much history is kept, whoever asks or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub max_age: Duration,
    pub max_jobs: u64,
    /// Of the files of all finished jobs.
    pub max_bytes: u64,
    /// A job is not forgotten sooner, whatever the others say: somebody may be about to look at it.
    pub min_age: Duration,
}

impl Bounds {
    pub fn tally(&self, now: Timestamp) -> Tally {
        Tally { bounds: *self, now, jobs: 0, bytes: 0 }
    }
}

/// How much of the history has been seen so far. It is long, and seen a page at a time.
#[derive(Clone, Debug)]
pub struct Tally {
    bounds: Bounds,
    now: Timestamp,
    jobs: u64,
    bytes: u64,
}

impl Tally {
    /// Whether this one is beyond the bounds. To be asked of every finished job once, the newest end first: the oldest go.
    pub fn forgets(&mut self, job: &FinishedJob) -> bool {
        self.jobs += 1;
        self.bytes = self.bytes.saturating_add(job.bytes.unwrap_or(0));
        let age = job.ended_at.age_at(self.now);
        let Bounds { max_age, max_jobs, max_bytes, min_age } = self.bounds;
        let is_beyond = self.jobs > max_jobs || self.bytes > max_bytes || age > max_age;
        is_beyond && age >= min_age
    }
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
            let job = FinishedJob { id: JobId::mint(), sequence: 1, status, ended_at, bytes: None };
            assert_eq!(policy.forgets(&job, now), goes, "{status} ended at {ended_at:?} under {policy:?}");
        }
    }

    #[test]
    fn history_is_bounded_by_age_number_and_size_and_the_newest_stay() {
        let now = Timestamp(1_000_000_000);
        // Ended 900, 800, … 100 seconds ago, with 10 bytes each.
        let jobs: Vec<FinishedJob> = (1..10)
            .map(|hundred| FinishedJob {
                id: JobId::mint(),
                sequence: hundred,
                status: Status::Completed,
                ended_at: Timestamp(hundred * 100_000_000),
                bytes: Some(10),
            })
            .collect();
        let seconds = Duration::from_secs;
        let wide = Bounds { max_age: seconds(10_000), max_jobs: 100, max_bytes: 1_000, min_age: seconds(0) };
        for (bounds, oldest_that_go) in [
            (wide, 0),
            (Bounds { max_age: seconds(650), ..wide }, 3),
            (Bounds { max_jobs: 4, ..wide }, 5),
            (Bounds { max_bytes: 75, ..wide }, 2),
            (Bounds { max_bytes: 0, ..wide }, 9),
            (Bounds { max_bytes: 0, min_age: seconds(250), ..wide }, 7),
            (Bounds { max_jobs: 0, min_age: seconds(10_000), ..wide }, 0),
        ] {
            let mut tally = bounds.tally(now);
            let newest_first = jobs.iter().rev();
            let mut forgotten: Vec<JobId> = newest_first.filter(|job| tally.forgets(job)).map(|job| job.id).collect();
            forgotten.reverse();
            let expected: Vec<JobId> = jobs[..oldest_that_go].iter().map(|job| job.id).collect();
            assert_eq!(forgotten, expected, "{bounds:?}");
        }
    }
}
