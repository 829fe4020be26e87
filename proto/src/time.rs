//! Instants on the wall clock. Durations are never derived from them, see `ExitRecord::elapsed_us`.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// The time from `self` to `now`; zero if the clock was set back in between.
    pub fn age_at(self, now: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(now.0.saturating_sub(self.0)).unwrap_or(0))
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-07-28T09:30:00.250Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // humantime rejects years after 9999. A broken clock must not make a listing fail.
        const LAST: u64 = 253_402_300_799_000_000;
        let micros = u64::try_from(self.0).unwrap_or(0).min(LAST);
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_micros(micros)).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_shown_in_utc_with_milliseconds() {
        assert_eq!(Timestamp(1_785_231_000_250_999).to_string(), "2026-07-28T09:30:00.250Z");
    }

    #[test]
    fn absurd_clocks_are_shown_rather_than_panicked_at() {
        assert_eq!(Timestamp(-5).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn an_age_is_never_negative() {
        assert_eq!(Timestamp(10).age_at(Timestamp(3)), Duration::ZERO);
    }
}
