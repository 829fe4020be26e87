//! Files in which it is reported how far a job is: by itself, with the module `pyexec_progress`, and by the supervisor that
//! runs it several times.

use serde::{Deserialize, Serialize};

/// Its name in the run directory; the module knows it from `PYEXEC_PROGRESS`.
pub const REPORTED: &str = "progress";
/// Of the run directory: where a job reports that may not write into it.
pub const REPORTS: &str = "reports";
/// That of the supervisor: how many runs of a benchmark are over.
pub const RUNS_FILE: &str = "runs";

/// What such a file says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub current: f64,
    #[serde(default)]
    pub total: Option<f64>,
    #[serde(default)]
    pub message: Option<String>,
    /// Per second.
    #[serde(default)]
    pub rate: Option<f64>,
}
