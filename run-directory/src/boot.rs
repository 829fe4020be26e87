//! Which boot of the machine this is. Nothing that ran in another one runs now.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Told by the kernel once per boot; empty where it does not.
pub fn id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// How long ago that was, the time in which the machine slept included.
pub fn elapsed() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
