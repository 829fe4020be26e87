//! Time, as a supervisor needs it: one for people, one for durations, one for deadlines.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use pyexec_proto::Timestamp;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};

/// One moment on the three clocks that matter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// For people.
    pub(super) wall: Timestamp,
    /// For how long something took.
    pub(super) monotonic: Duration,
    /// For deadlines: it goes on while the machine sleeps, and a promise to be done by then is kept.
    pub(super) boot: Duration,
}

impl Clocks {
    pub(super) fn now() -> Self {
        let read = |clock| {
            let time = clock_gettime(clock);
            Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
        };
        Self { wall: Timestamp::now(), monotonic: read(ClockId::Monotonic), boot: read(ClockId::Boottime) }
    }
}

/// Wakes the loop at a moment on the boot clock.
#[derive(Debug)]
pub(super) struct Timer(OwnedFd);

impl Timer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?))
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
