//! Reads the artifacts and the profile of a job, to be shown with its record.

use pyexec_proto::artifact::{ArtifactList, MOST_SHOWN_ARTIFACTS};
use pyexec_proto::error::Error;
use pyexec_proto::id::JobId;
use pyexec_proto::job::JobDetail;
use pyexec_proto::profile::ProfileSummary;

use crate::client::Client;
use crate::error::ClientError;
use crate::profile;

/// The first artifacts of a job, or why they cannot be listed. A listing failure does not fail the call.
pub type Listed = Result<ArtifactList, String>;

/// A job's profile, or why there is none; `None` if the job has not finished or was not profiled.
pub type Profiled = Option<Result<ProfileSummary, String>>;

/// The first [`MOST_SHOWN_ARTIFACTS`] artifacts of a job.
///
/// # Errors
/// When the daemon cannot be reached, or the job does not exist.
pub async fn artifacts(client: &Client, id: JobId) -> Result<Listed, ClientError> {
    match client.list_artifacts(id, MOST_SHOWN_ARTIFACTS).await {
        Ok(list) => Ok(Ok(list)),
        Err(ClientError::Refused(Error::Storage { doing, problem })) => {
            Ok(Err(format!("could not {doing}: {problem}")))
        }
        Err(ClientError::Refused(gone @ Error::OutputRemoved { .. })) => Ok(Err(gone.to_string())),
        Err(error) => Err(error),
    }
}

/// The artifacts of a job and its profile.
///
/// # Errors
/// As [`artifacts`].
pub async fn all(client: &Client, job: &JobDetail) -> Result<(Listed, Profiled), ClientError> {
    futures::try_join!(artifacts(client, job.id), profile::read(client, job))
}
