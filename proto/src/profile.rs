//! Profiling: what is asked for, and what a job's Python has left of it.

use serde::{Deserialize, Serialize};

use crate::artifact::{MAX_ARTIFACT_CHUNK_BYTES, NoArtifact};
use crate::client::{Client, ClientError};
use crate::error::Error;
use crate::job::JobDetail;
use crate::os_text::OsText;

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

/// What a finished job has left of its profile; `None` when it was not to be profiled. The inner `Err` says why there is
/// none.
pub async fn read(client: &Client, job: &JobDetail) -> Result<Option<Result<ProfileSummary, String>>, ClientError> {
    if job.spec.profile.is_none() || !job.state.is_finished() {
        return Ok(None);
    }
    let read = client.read_artifact(job.id, &OsText::from(SUMMARY), 0, MAX_ARTIFACT_CHUNK_BYTES).await;
    let chunk = match read {
        Ok(chunk) => chunk,
        Err(ClientError::Refused(Error::NoArtifact { why: NoArtifact::NotThere, .. })) => {
            return Ok(Some(Err(why_there_is_none(job))));
        }
        Err(ClientError::Refused(refusal @ (Error::NoArtifact { .. } | Error::Storage { .. }))) => {
            return Ok(Some(Err(format!("the profile can not be read: {refusal}"))));
        }
        Err(error) => return Err(error),
    };
    let summary: Result<ProfileSummary, String> = serde_json::from_slice(&chunk.bytes)
        .map_err(|error| format!("the artifact {SUMMARY} can not be read: {error}"));
    Ok(Some(summary))
}

fn why_there_is_none(job: &JobDetail) -> String {
    use crate::state::{ExitStatus, Outcome};
    let why = match job.state.outcome() {
        None | Some(Outcome::NotStarted(_)) => "the job was not started".to_owned(),
        Some(Outcome::Lost { .. }) => "nobody knows how the job ended".to_owned(),
        Some(Outcome::Ended(record)) => match record.exit {
            ExitStatus::Signal { signal, .. } => {
                format!("signal {signal} ended Python before it could write it")
            }
            ExitStatus::Success | ExitStatus::Code(_) => {
                "Python did not end in its own way: os._exit, another program in its place, or no room on the disk"
                    .to_owned()
            }
        },
    };
    format!("no profile was written: {why}")
}
