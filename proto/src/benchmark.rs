//! A benchmark: the same program run several times as one job, and what was measured of each run.

use serde::{Deserialize, Serialize};

use crate::exit::{ExitStatus, ResourceUsage};
use crate::world::Conditions;

/// The options of a benchmark.
///
/// The program runs `warmup_runs + runs` times, one run after the other. The benchmark ends early at the first run that
/// does not exit with 0, and when the job is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchmarkSpec {
    /// The number of measured runs: 1 to [`BenchmarkSpec::MAX_RUNS`].
    pub runs: u32,
    /// The number of unmeasured runs before them: at most [`BenchmarkSpec::MAX_RUNS`].
    pub warmup_runs: u32,
    /// The interval between two samples of the memory of all processes: 1 to [`BenchmarkSpec::MAX_SAMPLE_INTERVAL_MS`].
    /// The supervisor samples less often if sampling would take a noticeable share of a core.
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

/// The measurements of one job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchmarkRecord {
    /// The measured runs in order. There are fewer than requested if a run failed or the job was stopped; that run is
    /// then the last.
    pub measured: Vec<RunMeasurement>,
    /// The number of warm-up runs that have ended.
    pub warmup_runs: u32,
    /// The number of memory samples taken during the measured runs.
    pub samples_taken: u64,
    /// The mean interval between two samples, or the requested interval if no sample was taken.
    pub sample_interval_us: u64,
    /// Memory over the time of the last measured run, at most [`BenchmarkRecord::MAX_SAMPLES`] samples. A longer series
    /// is reduced by keeping the largest sample of each group.
    pub samples: Vec<Sample>,
    /// Why the next run could not be started.
    pub problem: Option<String>,
    /// The scheduling conditions of the runs. `None` in records written before this field existed.
    #[serde(default)]
    pub conditions: Option<Conditions>,
}

impl BenchmarkRecord {
    pub const MAX_SAMPLES: usize = 512;
}

/// One run, from just before its process was created until that process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunMeasurement {
    /// On the monotonic clock, in microseconds.
    pub wall_us: u64,
    /// The usage of all processes of this run, including those it left behind.
    pub usage: ResourceUsage,
    /// The largest memory use sampled over all processes of the run together, in KiB; shared memory is counted once.
    /// `None` if the run ended before the first sample.
    pub tree_peak_kib: Option<u64>,
    pub exit: ExitStatus,
}

impl RunMeasurement {
    /// The peak memory, in KiB. The largest single process is known exactly, but the sum over all processes only at
    /// each sample, so the peak is the larger of the two.
    pub fn peak_kib(&self) -> u64 {
        self.usage.max_rss_kib.max(self.tree_peak_kib.unwrap_or(0))
    }

    /// Whether the run exited with 0 and was not stopped. Only such runs are compared with each other.
    pub fn is_whole(&self) -> bool {
        self.exit == ExitStatus::Success
    }
}

/// One sample of all processes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Since the start of the run, in microseconds.
    pub at_us: u64,
    pub rss_kib: u64,
    /// CPU time used so far, user and system, in microseconds. The kernel counts it in ticks of 10 ms.
    pub cpu_us: u64,
}
