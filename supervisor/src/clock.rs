//! Time, as a supervisor needs it: the wall clock for people, the monotonic clock for durations and deadlines.
//!
//! The monotonic clock stands still while the machine sleeps. A timeout therefore counts the time in which the job could
//! work, as the timeouts of Python's `subprocess` do: a lid that was closed for an hour ends no job.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use pyexec_proto::Timestamp;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// For people.
    pub(super) wall: Timestamp,
    /// For how long something took, and for deadlines.
    pub(super) monotonic: Duration,
}

impl Clocks {
    pub(super) fn now() -> Self {
        let time = clock_gettime(ClockId::Monotonic);
        let monotonic = Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0));
        Self { wall: Timestamp::now(), monotonic }
    }
}

/// Wakes the loop at a moment on the monotonic clock.
#[derive(Debug)]
pub(super) struct Timer(OwnedFd);

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?))
    }

    /// `None`: never.
    pub(super) fn set(&self, at: Option<Duration>) -> io::Result<()> {
        // Zero disarms; a moment long past still fires.
        let at = at.map_or(Duration::ZERO, |at| at.max(Duration::from_nanos(1)));
        let value =
            Timespec { tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(at.subsec_nanos()) };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval: never, it_value: value })?;
        Ok(())
    }

    pub(super) fn acknowledge(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn deadlines_do_not_come_nearer_while_the_machine_sleeps() {
        let timer = Timer::new().expect("can be made");
        timer.set(Some(Clocks::now().monotonic + Duration::from_secs(600))).expect("can be set");
        let shown = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", timer.0.as_raw_fd())).expect("is there");
        // Of the clocks in `linux/time.h`, number 1 is the one that does not count suspend.
        assert!(shown.contains("clockid: 1\n"), "{shown}");
        let left = shown.lines().find_map(|line| line.strip_prefix("it_value: (")).expect("says what is left");
        let seconds: u64 = left.split(',').next().and_then(|left| left.parse().ok()).expect("is a number");
        assert!((590..=600).contains(&seconds), "{shown}");
    }
}
