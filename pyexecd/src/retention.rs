//! Which finished jobs are forgotten: a pure decision.
//!
//! The history is bounded by age, and an age is told from the wall clock, which may be wrong: a battery is empty, somebody
//! sets a date by hand, a virtual machine wakes up. So time counts towards an age only if it was seen to pass ([`SeenTime`]).
//! A clock that runs ahead, or that ran behind, makes jobs seem old, and none of them is forgotten for that: what the clock
//! skipped is left out of every age, also after the clock has been set right. The price is that a machine that was really
//! off for long keeps its jobs for as much longer. Number and size bound the history in any case.

use std::time::Duration;

use pyexec_proto::state::Status;
use pyexec_proto::{JobId, Timestamp};
use serde::{Deserialize, Serialize};

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
    pub fn tally(&self, seen: SeenTime, now: Timestamp) -> Tally {
        Tally { bounds: *self, seen, now, jobs: 0, bytes: 0 }
    }

    /// For how long nobody may have looked, over a restart of the machine, before the clock is asked whether it is right. A
    /// jump that is shorter costs no more than this of the age that is kept.
    pub fn longest_absence(&self) -> Duration {
        const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
        WEEK.min(self.max_age / 8)
    }
}

/// A moment at which somebody looked at the clocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// On the wall clock.
    pub at: Timestamp,
    /// Of the boot it was in; empty when nobody can say.
    pub boot_id: String,
    /// On the boot clock, which nobody can set.
    pub since_boot: Duration,
}

/// Time that the wall clock skipped, or that passed while nobody looked for so long that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// When somebody last looked at the clocks, and which time nobody saw pass before that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenTime {
    last: Option<Moment>,
    /// In their order.
    unseen: Vec<Unseen>,
}

impl SeenTime {
    /// Clocks are set by less than this all the time.
    const TOLERANCE: Duration = Duration::from_secs(3600);
    /// More are taken for one.
    const MOST_UNSEEN: usize = 32;

    /// To be told from time to time what the clocks say. Where nobody has looked before, the newest job tells when somebody
    /// was there. Returns what has passed unseen since.
    ///
    /// In one boot the boot clock says exactly how much time has passed. Over a restart nobody knows, and up to
    /// `longest_absence` is believed.
    pub fn observe(
        &mut self,
        now: &Moment,
        newest_job: Option<Timestamp>,
        longest_absence: Duration,
    ) -> Option<Unseen> {
        let of_job = newest_job.map(|at| Moment { at, boot_id: String::new(), since_boot: Duration::ZERO });
        let last = self.last.replace(now.clone()).or(of_job)?;
        let is_same_boot = !now.boot_id.is_empty() && last.boot_id == now.boot_id;
        let really = if is_same_boot { now.since_boot.saturating_sub(last.since_boot) } else { Duration::ZERO };
        let should_be = Timestamp(last.at.0.saturating_add(micros(really)));
        let believed = if is_same_boot { Self::TOLERANCE } else { longest_absence };
        if should_be.age_at(now.at) > believed {
            let unseen = Unseen { from: should_be, to: now.at };
            self.unseen.push(unseen);
            if self.unseen.len() > Self::MOST_UNSEEN {
                let oldest = self.unseen.remove(0);
                self.unseen[0].from = oldest.from;
            }
            return Some(unseen);
        }
        if now.at.age_at(should_be) > Self::TOLERANCE {
            // It was ahead, and is set right: what it skipped then has not passed yet, and will be seen to.
            self.unseen.retain_mut(|unseen| {
                unseen.to = unseen.to.min(now.at);
                unseen.from < unseen.to
            });
        }
        None
    }

    /// How long ago something was at `now`, as far as that was seen to pass.
    pub fn age(&self, at: Timestamp, now: Timestamp) -> Duration {
        let unseen = self.unseen.iter().map(|unseen| unseen.from.max(at).age_at(unseen.to.min(now))).sum();
        at.age_at(now).saturating_sub(unseen)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// How much of the history has been seen so far. It is long, and seen a page at a time.
#[derive(Clone, Debug)]
pub struct Tally {
    bounds: Bounds,
    seen: SeenTime,
    now: Timestamp,
    jobs: u64,
    bytes: u64,
}

impl Tally {
    /// Whether this one is beyond the bounds. To be asked of every finished job once, the newest end first: the oldest go.
    pub fn forgets(&mut self, job: &FinishedJob) -> bool {
        self.jobs += 1;
        self.bytes = self.bytes.saturating_add(job.bytes.unwrap_or(0));
        let age = self.seen.age(job.ended_at, self.now);
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
            let mut tally = bounds.tally(SeenTime::default(), now);
            let newest_first = jobs.iter().rev();
            let mut forgotten: Vec<JobId> = newest_first.filter(|job| tally.forgets(job)).map(|job| job.id).collect();
            forgotten.reverse();
            let expected: Vec<JobId> = jobs[..oldest_that_go].iter().map(|job| job.id).collect();
            assert_eq!(forgotten, expected, "{bounds:?}");
        }
    }

    const DAY: i64 = 86_400_000_000;

    /// Day of the wall clock, boot, and days since that.
    type Look = (i64, &'static str, i64);

    fn seen(looks: &[Look], newest_job: Option<i64>) -> SeenTime {
        let days = |days: i64| Duration::from_micros((days * DAY).unsigned_abs());
        let mut seen = SeenTime::default();
        for (day, boot, since_boot) in looks {
            let now = Moment { at: Timestamp(day * DAY), boot_id: (*boot).to_owned(), since_boot: days(*since_boot) };
            seen.observe(&now, newest_job.map(|day| Timestamp(day * DAY)), days(7));
        }
        seen
    }

    #[test]
    fn only_time_that_was_seen_to_pass_makes_a_job_old() {
        /// When somebody looked, when the newest job ended if nobody had looked before, when a job ended, its age.
        type Case<'a> = (&'a str, &'a [Look], Option<i64>, i64, i64);
        let cases: [Case<'_>; 16] = [
            ("one boot", &[(1000, "a", 0), (1100, "a", 100)], None, 990, 110),
            ("some boots", &[(1000, "a", 0), (1005, "b", 0), (1010, "c", 0)], None, 1000, 10),
            ("a restart while it is 400 days ahead", &[(1000, "a", 0), (1400, "b", 0)], None, 990, 10),
            ("400 days ahead within a boot", &[(1000, "a", 0), (1402, "a", 2)], None, 990, 12),
            ("it stays ahead", &[(1000, "a", 0), (1400, "b", 0), (1500, "b", 100)], None, 990, 110),
            ("ahead, then right", &[(1000, "a", 0), (1400, "b", 0), (1001, "b", 1)], None, 990, 10),
            (
                "ahead, then right for 100 days",
                &[(1000, "a", 0), (1400, "b", 0), (1001, "b", 1), (1101, "b", 101)],
                None,
                990,
                110,
            ),
            ("of when it was ahead", &[(1000, "a", 0), (1400, "b", 0), (1001, "b", 1)], None, 1400, 0),
            ("of when it was behind", &[(600, "a", 0), (1000, "a", 0)], None, 600, 0),
            ("of when it was behind, over a restart", &[(600, "a", 0), (1000, "b", 0), (1001, "b", 1)], None, 600, 1),
            ("right, behind, right", &[(1000, "a", 0), (600, "a", 1), (1002, "a", 2)], None, 601, 0),
            ("right, behind, right", &[(1000, "a", 0), (600, "a", 1), (1002, "a", 2), (1092, "a", 92)], None, 1000, 90),
            ("nobody had looked", &[(1400, "a", 0)], Some(1000), 990, 10),
            ("nobody had looked, and all is well", &[(1003, "a", 0)], Some(1000), 990, 13),
            ("nobody had looked, and it was ahead before", &[(1000, "a", 0)], Some(1400), 990, 10),
            ("nobody can say which boot it is", &[(1000, "", 0), (1400, "", 400)], None, 990, 10),
        ];
        for (what, looks, newest_job, ended, age) in cases {
            let now = Timestamp(looks.last().expect("somebody looks").0 * DAY);
            let found = seen(looks, newest_job).age(Timestamp(ended * DAY), now);
            let expected = Duration::from_micros((age * DAY).unsigned_abs());
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn a_clock_that_jumps_makes_nobody_forget_a_job_for_its_age() {
        let bounds = Bounds {
            max_age: Duration::from_secs(90 * 86_400),
            max_jobs: 100,
            max_bytes: 1_000,
            min_age: Duration::ZERO,
        };
        let ends = [950, 990, 1000];
        let jumps: [&[Look]; 4] = [
            &[(1000, "a", 0), (1400, "b", 0)],
            &[(1000, "a", 0), (1400, "b", 0), (1001, "b", 1)],
            &[(1000, "a", 0), (600, "b", 0), (1001, "b", 1)],
            &[(1000, "a", 0), (1400, "b", 0), (1001, "b", 1), (1401, "c", 0), (1002, "d", 0)],
        ];
        for looks in jumps {
            for upto in 1..=looks.len() {
                let now = Timestamp(looks[upto - 1].0 * DAY);
                let mut tally = bounds.tally(seen(&looks[..upto], None), now);
                for end in ends {
                    let ended_at = Timestamp(end * DAY);
                    let status = Status::Completed;
                    let job = FinishedJob { id: JobId::mint(), sequence: end, status, ended_at, bytes: None };
                    assert!(!tally.forgets(&job), "a job of day {end} after {:?}", &looks[..upto]);
                }
            }
        }
        // And it is forgotten in the end.
        let looks = &[(1000, "a", 0), (1400, "b", 0), (1001, "b", 1), (1092, "b", 92)];
        let job = FinishedJob {
            id: JobId::mint(),
            sequence: 1,
            status: Status::Completed,
            ended_at: Timestamp(1000 * DAY),
            bytes: None,
        };
        assert!(bounds.tally(seen(looks, None), Timestamp(1092 * DAY)).forgets(&job));
    }

    #[test]
    fn a_clock_that_never_stands_still_is_remembered_in_bounds() {
        let mut seen = SeenTime::default();
        for jump in 0..1_000 {
            let now = Moment { at: Timestamp(jump * 10 * DAY), boot_id: jump.to_string(), since_boot: Duration::ZERO };
            seen.observe(&now, None, Duration::from_secs(86_400));
        }
        assert!(seen.unseen.len() <= SeenTime::MOST_UNSEEN);
        assert_eq!(seen.age(Timestamp(0), Timestamp(9_990 * DAY)), Duration::ZERO);
    }
}
