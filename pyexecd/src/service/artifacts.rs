//! What jobs have left, listed and read.

use std::path::Path;

use pyexec_proto::artifact::{ArtifactChunk, ArtifactList};
use pyexec_proto::{Error, JobId, OsText};

use crate::artifacts;
use crate::jobs::Jobs;

pub(super) async fn list(jobs: &Jobs, id: JobId, limit: u32) -> Result<ArtifactList, Error> {
    jobs.with_files(id, "list the artifacts", move |directory| artifacts::list(directory, limit)).await
}

pub(super) async fn read(
    jobs: &Jobs,
    id: JobId,
    path: OsText,
    offset: u64,
    max_bytes: u32,
) -> Result<ArtifactChunk, Error> {
    let wanted = path.clone();
    let read = move |directory: &Path| artifacts::read(directory, &wanted, offset, max_bytes);
    jobs.with_files(id, "read the artifact", read).await?.map_err(|why| Error::NoArtifact { id, path, why })
}
