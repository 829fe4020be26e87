//! Environments, together with the jobs that use them.

use pyexec_proto::Error;
use pyexec_proto::environment::EnvironmentInfo;
use pyexec_proto::request::EnvironmentsRemoved;

use crate::jobs::Jobs;

pub(super) async fn list(jobs: &Jobs) -> Result<Vec<EnvironmentInfo>, Error> {
    jobs.environments().list(jobs.environments_in_use().await?).await
}

pub(super) async fn remove(jobs: &Jobs, named: &str) -> Result<EnvironmentsRemoved, Error> {
    after_recovery(jobs).await?;
    jobs.environments().remove(named).await
}

pub(super) async fn prune(jobs: &Jobs) -> Result<EnvironmentsRemoved, Error> {
    after_recovery(jobs).await?;
    jobs.environments().prune().await
}

/// Jobs that an earlier daemon started have a lease on their environments once they have been taken up, which was asked
/// for before any client could ask for anything.
async fn after_recovery(jobs: &Jobs) -> Result<(), Error> {
    jobs.counts().await.map(drop)
}
