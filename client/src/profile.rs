//! Reads the profile that a job's Python wrote.

use pyexec_proto::artifact::{MAX_ARTIFACT_CHUNK_BYTES, NoArtifact};
use pyexec_proto::error::Error;
use pyexec_proto::exit::ExitStatus;
use pyexec_proto::job::JobDetail;
use pyexec_proto::os_text::OsText;
use pyexec_proto::profile::{ProfileSummary, SUMMARY};
use pyexec_proto::state::Outcome;

use crate::client::Client;
use crate::error::ClientError;

/// The profile of a finished job; `None` if the job was not profiled. The inner `Err` says why there is no profile.
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
            return Ok(Some(Err(format!("the profile cannot be read: {refusal}"))));
        }
        Err(error) => return Err(error),
    };
    let summary: Result<ProfileSummary, String> =
        serde_json::from_slice(&chunk.bytes).map_err(|error| format!("the artifact {SUMMARY} cannot be read: {error}"));
    Ok(Some(summary))
}

fn why_there_is_none(job: &JobDetail) -> String {
    let why = match job.state.outcome() {
        None | Some(Outcome::NotStarted(_)) => "the job was not started".to_owned(),
        Some(Outcome::Lost { .. }) => "it is unknown how the job ended".to_owned(),
        Some(Outcome::Ended(record)) => match record.exit {
            ExitStatus::Signal { signal, .. } => {
                format!("signal {signal} ended Python before it could write the profile")
            }
            ExitStatus::Success | ExitStatus::Code(_) => {
                "Python did not exit normally: the script called os._exit or exec, or the disk is full".to_owned()
            }
        },
    };
    format!("no profile was written: {why}")
}
