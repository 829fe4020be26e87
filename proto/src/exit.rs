//! How a process ended, and what it used.

use std::num::NonZeroU8;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    Success,
    Code(NonZeroU8),
    Signal { signal: i32, core_dumped: bool },
}

impl ExitStatus {
    /// As Python's `subprocess` says it: `-N` for signal N.
    pub fn returncode(self) -> i32 {
        match self {
            ExitStatus::Success => 0,
            ExitStatus::Code(code) => i32::from(code.get()),
            ExitStatus::Signal { signal, .. } => signal.saturating_neg(),
        }
    }
}

/// Summed over all processes of the job that its supervisor reaped, as `wait4(2)` gives it, but for what it leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceUsage {
    pub user_us: u64,
    pub system_us: u64,
    /// The largest single process, in KiB.
    pub max_rss_kib: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    /// In blocks of 512 bytes.
    pub blocks_read: u64,
    pub blocks_written: u64,
    /// CPU time of processes that nobody waited for, and that `wait4` therefore leaves out: exact where the job had a
    /// control group of its own, else as it was last seen of a job with limits or of a benchmark.
    #[serde(default)]
    pub unwaited_cpu_us: u64,
    /// There may be more of that.
    #[serde(default)]
    pub cpu_is_incomplete: bool,
}

impl ResourceUsage {
    /// Takes in what one more process has used.
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

    /// User and system together, and what nobody waited for. A record that was tampered with may say anything.
    pub fn cpu_us(&self) -> u64 {
        self.waited_cpu_us().saturating_add(self.unwaited_cpu_us)
    }

    /// User and system together, as `wait4(2)` gives it.
    pub fn waited_cpu_us(&self) -> u64 {
        self.user_us.saturating_add(self.system_us)
    }

    /// From storage; what the page cache served is not counted.
    pub fn read_bytes(&self) -> u64 {
        self.blocks_read.saturating_mul(512)
    }

    pub fn written_bytes(&self) -> u64 {
        self.blocks_written.saturating_mul(512)
    }
}
