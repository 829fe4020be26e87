//! How often, and for how long, a request that met no answer is sent again.
//!
//! A daemon that goes away is not an event: the next one is asked. What ends this is a time without any progress, an
//! answer of any daemon; not a number of daemons, because there may be as many as somebody restarts.

use std::time::{Duration, Instant};

/// A request is sent so often at least, however long each attempt takes.
const LEAST_ATTEMPTS: u32 = 5;
/// And for so long at least.
const LIMIT: Duration = Duration::from_secs(15);
/// Between the second attempt and the third; twice as long each time after. The first is repeated at once.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What has been tried since there was progress.
#[derive(Debug)]
pub(super) struct Patience {
    since: Instant,
    failures: u32,
}

impl Patience {
    pub(super) fn from(now: Instant) -> Self {
        Self { since: now, failures: 0 }
    }

    /// How many attempts have failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Notes a failure. `Some`: after this pause the request is to be sent again. `None`: enough has been tried.
    pub(super) fn after_failure(&mut self, now: Instant) -> Option<Duration> {
        self.failures += 1;
        if self.failures >= LEAST_ATTEMPTS && now.saturating_duration_since(self.since) >= LIMIT {
            return None;
        }
        match self.failures {
            1 => Some(Duration::ZERO),
            failures => Some(FIRST_PAUSE.saturating_mul(1 << (failures - 2).min(16)).min(LONGEST_PAUSE)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_given_up_after_enough_attempts_and_enough_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        // Long attempts: each took 10 s.
        let mut long = Patience::from(start);
        let given_up = (1..).find(|attempt| long.after_failure(at(attempt * 10)).is_none());
        assert_eq!(given_up, Some(u64::from(LEAST_ATTEMPTS)));
        // Short ones: each failed at once.
        let mut short = Patience::from(start);
        let (mut now, mut attempts) = (start, 0);
        while let Some(pause) = short.after_failure(now) {
            now += pause;
            attempts += 1;
        }
        assert!(now >= at(LIMIT.as_secs()), "given up after {:?}", now - start);
        assert!((15..40).contains(&attempts), "{attempts} attempts");
    }

    #[test]
    fn the_first_failure_is_no_reason_to_wait_and_no_pause_is_long() {
        let start = Instant::now();
        let mut patience = Patience::from(start);
        assert_eq!(patience.after_failure(start), Some(Duration::ZERO));
        let pauses: Vec<Duration> = (0..20).filter_map(|_| patience.after_failure(start)).collect();
        assert_eq!(pauses.len(), 20);
        assert!(pauses.is_sorted() && pauses.iter().all(|pause| (FIRST_PAUSE..=LONGEST_PAUSE).contains(pause)));
    }
}
