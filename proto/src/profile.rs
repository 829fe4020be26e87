//! Profiling: its options, and the summary that the job's Python writes.

use serde::{Deserialize, Serialize};

/// Run the job's Python under its profiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileSpec {
    /// The number of functions per table: 1 to [`ProfileSpec::MAX_TOP`].
    pub top: u32,
}

impl ProfileSpec {
    pub const MAX_TOP: u32 = 100;
    pub const DEFAULT_TOP: u32 = 20;
}

/// The artifact for `pstats` and similar tools.
pub const STATISTICS: &str = "profile.prof";
/// The artifact with a summary in JSON. It is written last: if it exists, the profile is complete.
pub const SUMMARY: &str = "profile.json";

/// The content of [`SUMMARY`]. The job writes it, so only its shape is checked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ProfileSummary {
    pub functions: u64,
    pub calls: u64,
    /// The total time spent in all functions.
    pub seconds: f64,
    pub by_cumulative: Vec<ProfiledFunction>,
    pub by_own: Vec<ProfiledFunction>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ProfiledFunction {
    pub ncalls: u64,
    /// Calls that were not recursive.
    pub primitive_calls: u64,
    /// Seconds spent in the function itself, without the functions it called.
    pub tottime: f64,
    pub cumtime: f64,
    /// `~` for functions that are not written in Python.
    pub file: String,
    pub line: u64,
    pub name: String,
}
