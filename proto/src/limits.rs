//! What a job may use of the machine.

use serde::{Deserialize, Serialize};

/// All processes of a job together may use so much; `None`: as much as there is.
///
/// They are looked at several times a second: what goes beyond a limit between two looks is noticed at the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory that is in use at the same time; what processes share counts once.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// User and system time, from the start of the job on, of processes that have ended too.
    #[serde(default)]
    pub cpu_ms: Option<u64>,
    /// How many processes there may be at the same time.
    #[serde(default)]
    pub processes: Option<u32>,
    /// How much is kept of each stream; `None`: as the daemon is configured. The beginning and the end stay, in pieces of
    /// 8 MiB, so that it is never less than two of them.
    #[serde(default)]
    pub output_bytes: Option<u64>,
    #[serde(default)]
    pub on_output_limit: OnOutputLimit,
}

/// What becomes of a job that prints more than is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnOutputLimit {
    /// It goes on. The oldest output is dropped but for its beginning; whoever reads there is told how much is missing.
    #[default]
    DropOldest,
    /// It is ended.
    Stop,
}

impl Limits {
    /// Below it, no Python starts.
    pub const LEAST_MEMORY_BYTES: u64 = 1 << 20;
    pub const LEAST_CPU_MS: u64 = 1;

    /// Whether the job's processes have to be looked at for it.
    pub fn is_watched(&self) -> bool {
        let Self { memory_bytes, cpu_ms, processes, output_bytes: _, on_output_limit: _ } = self;
        memory_bytes.is_some() || cpu_ms.is_some() || processes.is_some()
    }
}
