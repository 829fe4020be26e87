//! Limits on the resources a job may use.

use serde::{Deserialize, Serialize};

/// Limits on all processes of a job together; `None`: unlimited.
///
/// The supervisor samples the processes several times a second, so it notices an excess at the next sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in use at the same time, in bytes; shared memory is counted once.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// User and system time since the start of the job, in milliseconds, including processes that have ended.
    #[serde(default)]
    pub cpu_ms: Option<u64>,
    /// The number of processes at the same time.
    #[serde(default)]
    pub processes: Option<u32>,
    /// How much of each stream is kept, in bytes; `None`: the daemon's setting. The beginning and the end are kept, in
    /// segments of 8 MiB, so that at least two segments remain.
    #[serde(default)]
    pub output_bytes: Option<u64>,
    #[serde(default)]
    pub on_output_limit: OnOutputLimit,
}

/// What happens to a job that prints more than is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOutputLimit {
    /// The job goes on. The oldest output after the beginning is dropped; a reader of that range is told how many bytes
    /// are missing.
    #[default]
    DropOldest,
    /// The job is stopped.
    Stop,
}

impl Limits {
    /// With less memory than this, in bytes, Python does not start.
    pub const LEAST_MEMORY_BYTES: u64 = 1 << 20;
    pub const LEAST_CPU_MS: u64 = 1;

    /// Whether the supervisor has to sample the job's processes to enforce these limits.
    pub fn is_watched(&self) -> bool {
        let Self { memory_bytes, cpu_ms, processes, output_bytes: _, on_output_limit: _ } = self;
        memory_bytes.is_some() || cpu_ms.is_some() || processes.is_some()
    }
}
