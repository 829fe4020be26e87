//! How a process ended, and which resources it used.

use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    Success,
    Code(NonZeroU8),
    Signal { signal: i32, core_dumped: bool },
}

impl ExitStatus {
    /// The return code as Python's `subprocess` gives it: `-N` for signal N.
    pub fn returncode(self) -> i32 {
        match self {
            ExitStatus::Success => 0,
            ExitStatus::Code(code) => i32::from(code.get()),
            ExitStatus::Signal { signal, .. } => signal.saturating_neg(),
        }
    }
}

/// Summed with `wait4(2)` over all processes of the job that its supervisor reaped, plus
/// [`ResourceUsage::unwaited_cpu_us`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceUsage {
    pub user_us: u64,
    pub system_us: u64,
    /// The peak memory of the largest single process, in KiB.
    pub max_rss_kib: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    /// In blocks of 512 bytes.
    pub blocks_read: u64,
    pub blocks_written: u64,
    /// CPU time of processes that no parent waited for, which `wait4` leaves out, in microseconds. It is exact if the
    /// job had its own control group; otherwise it is the last sample, taken only for jobs with limits and for
    /// benchmarks.
    #[serde(default)]
    pub unwaited_cpu_us: u64,
    /// Whether `unwaited_cpu_us` may be too small.
    #[serde(default)]
    pub cpu_is_incomplete: bool,
}

impl ResourceUsage {
    /// Adds the usage of one more process.
    pub fn add(&mut self, one: &ResourceUsage) {
        self.user_us += one.user_us;
        self.system_us += one.system_us;
        self.max_rss_kib = self.max_rss_kib.max(one.max_rss_kib);
        self.minor_faults += one.minor_faults;
        self.major_faults += one.major_faults;
        self.voluntary_switches += one.voluntary_switches;
        self.involuntary_switches += one.involuntary_switches;
        self.blocks_read += one.blocks_read;
        self.blocks_written += one.blocks_written;
        self.unwaited_cpu_us += one.unwaited_cpu_us;
        self.cpu_is_incomplete |= one.cpu_is_incomplete;
    }

    /// User and system time, including unwaited processes, in microseconds. It saturates, because a record may hold any
    /// number.
    pub fn cpu_us(&self) -> u64 {
        self.waited_cpu_us().saturating_add(self.unwaited_cpu_us)
    }

    /// User and system time as `wait4(2)` gives it, in microseconds.
    pub fn waited_cpu_us(&self) -> u64 {
        self.user_us.saturating_add(self.system_us)
    }

    /// Bytes read from storage; reads from the page cache are not counted.
    pub fn read_bytes(&self) -> u64 {
        self.blocks_read.saturating_mul(512)
    }

    pub fn written_bytes(&self) -> u64 {
        self.blocks_written.saturating_mul(512)
    }
}
