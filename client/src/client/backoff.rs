//! When a request without an answer is sent again, and when the client gives up.
//!
//! If a daemon exits, the client asks the next one. It gives up after a time without any answer, not after a number of
//! daemons, because a user may restart the daemon any number of times.

use std::time::{Duration, Instant};

/// The minimum number of attempts, however long each takes.
const LEAST_ATTEMPTS: u32 = 5;
/// The minimum time before the client gives up.
const LIMIT: Duration = Duration::from_secs(15);
/// The pause between the second attempt and the third; it doubles each time. The second attempt follows at once.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The failed attempts since the last answer.
#[derive(Debug)]
pub(super) struct Backoff {
    since: Instant,
    failures: u32,
}

impl Backoff {
    pub(super) fn from(now: Instant) -> Self {
        Self { since: now, failures: 0 }
    }

    /// How many attempts have failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts a failure. Returns the pause before the next attempt, or `None` to give up.
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
        let mut long = Backoff::from(start);
        let given_up = (1..).find(|attempt| long.after_failure(at(attempt * 10)).is_none());
        assert_eq!(given_up, Some(u64::from(LEAST_ATTEMPTS)));
        // Short ones: each failed at once.
        let mut short = Backoff::from(start);
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
        let mut backoff = Backoff::from(start);
        assert_eq!(backoff.after_failure(start), Some(Duration::ZERO));
        let pauses: Vec<Duration> = (0..20).filter_map(|_| backoff.after_failure(start)).collect();
        assert_eq!(pauses.len(), 20);
        assert!(pauses.is_sorted() && pauses.iter().all(|pause| (FIRST_PAUSE..=LONGEST_PAUSE).contains(pause)));
    }
}
