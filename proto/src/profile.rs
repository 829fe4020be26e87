//! Profiling: what is asked for, and what a job's Python has left of it.

use serde::{Deserialize, Serialize};

/// Run the job's Python under its profiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileSpec {
    /// How many functions a table has: 1 to [`ProfileSpec::MAX_TOP`].
    pub top: u32,
}

impl ProfileSpec {
    pub const MAX_TOP: u32 = 100;
    pub const DEFAULT_TOP: u32 = 20;
}

/// The artifact that `pstats` and its like read.
pub const STATISTICS: &str = "profile.prof";
/// The same in short, for those that are not Python. Written last: where it is, all is.
pub const SUMMARY: &str = "profile.json";

/// What [`SUMMARY`] says. It comes from the job, and is believed as far as its shape goes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ProfileSummary {
    pub functions: u64,
    pub calls: u64,
    /// Spent in all of them.
    pub seconds: f64,
    pub by_cumulative: Vec<ProfiledFunction>,
    pub by_own: Vec<ProfiledFunction>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ProfiledFunction {
    pub ncalls: u64,
    /// Those that were not made by the function itself.
    pub primitive_calls: u64,
    /// Spent in it, without what it called.
    pub tottime: f64,
    pub cumtime: f64,
    /// `~` for what is not written in Python.
    pub file: String,
    pub line: u64,
    pub name: String,
}
