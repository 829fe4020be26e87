//! A benchmark: the same program run several times as one job, and what was measured of each run.

use serde::{Deserialize, Serialize};

use crate::exit::{ExitStatus, ResourceUsage};
use crate::world::Conditions;

/// What is asked for when a job is to be measured.
///
/// The program is run `warmup_runs + runs` times, one after the other. The first run that does not exit with 0 is the
/// last, and so is the one during which the job is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchmarkSpec {
    /// How many runs are measured: 1 to [`BenchmarkSpec::MAX_RUNS`].
    pub runs: u32,
    /// How many go before them, unmeasured: at most [`BenchmarkSpec::MAX_RUNS`].
    pub warmup_runs: u32,
    /// How often the memory of all processes is looked at: 1 to [`BenchmarkSpec::MAX_SAMPLE_INTERVAL_MS`]. It is done
    /// less often where it would take a noticeable share of a core.
    pub sample_interval_ms: u64,
}

impl BenchmarkSpec {
    pub const MAX_RUNS: u32 = 1_000;
    pub const MAX_SAMPLE_INTERVAL_MS: u64 = 60_000;
    pub const DEFAULT_SAMPLE_INTERVAL_MS: u64 = 50;
}

impl Default for BenchmarkSpec {
    fn default() -> Self {
        Self { runs: 1, warmup_runs: 0, sample_interval_ms: Self::DEFAULT_SAMPLE_INTERVAL_MS }
    }
}

/// What was measured of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchmarkRecord {
    /// In their order. Fewer than asked for when one failed, or the job was stopped; the last is then the one that did.
    pub measured: Vec<RunMeasurement>,
    /// How many warm-ups have ended.
    pub warmup_runs: u32,
    /// How often memory was looked at during the measured runs.
    pub samples_taken: u64,
    /// The time between two looks, on average; as asked for where there was none.
    pub sample_interval_us: u64,
    /// Memory over the time of the last measured run, at most [`BenchmarkRecord::MAX_SAMPLES`]: of a longer series, the
    /// largest of each so many.
    pub samples: Vec<Sample>,
    /// Why the next run could not be started.
    pub problem: Option<String>,
    /// Under what it was measured. Of supervisors before this was said, nothing.
    #[serde(default)]
    pub conditions: Option<Conditions>,
}

impl BenchmarkRecord {
    pub const MAX_SAMPLES: usize = 512;
}

/// One run, from just before its process was made to the end of that process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunMeasurement {
    /// On the monotonic clock, in microseconds.
    pub wall_us: u64,
    /// Of all processes of this run, those it left behind included.
    pub usage: ResourceUsage,
    /// The most that all its processes were seen to have together, in KiB; memory that they share is counted once.
    /// `None` when it ended before it was looked at.
    pub tree_peak_kib: Option<u64>,
    pub exit: ExitStatus,
}

impl RunMeasurement {
    /// In KiB. The largest single process is known exactly, all together only as often as they were looked at: the peak
    /// is at least either.
    pub fn peak_kib(&self) -> u64 {
        self.usage.max_rss_kib.max(self.tree_peak_kib.unwrap_or(0))
    }

    /// Whether it went through: only such runs are compared with each other.
    pub fn is_whole(&self) -> bool {
        self.exit == ExitStatus::Success
    }
}

/// One look at all processes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Since the start of the run, in microseconds.
    pub at_us: u64,
    pub rss_kib: u64,
    /// Used so far, user and system, in microseconds; the kernel counts it in ticks of 10 ms.
    pub cpu_us: u64,
}
