//! What jobs have left, listed and read.

use pyexec_proto::artifact::{ArtifactChunk, ArtifactList};
use pyexec_proto::{Error, JobId, OsText};

use crate::artifacts;
use crate::blocking::blocking;
use crate::jobs::Jobs;

pub(super) async fn list(jobs: &Jobs, id: JobId, limit: u32) -> Result<ArtifactList, Error> {
    jobs.get(id).await?;
    let directory = jobs.directory(id);
    blocking(move || artifacts::list(&directory, limit)).await.map_err(|error| failed("list the artifacts", &error))
}

pub(super) async fn read(
    jobs: &Jobs,
    id: JobId,
    path: OsText,
    offset: u64,
    max_bytes: u32,
) -> Result<ArtifactChunk, Error> {
    jobs.get(id).await?;
    let directory = jobs.directory(id);
    let wanted = path.clone();
    let read = blocking(move || artifacts::read(&directory, &wanted, offset, max_bytes)).await;
    read.map_err(|error| failed("read the artifact", &error))?.map_err(|why| Error::NoArtifact { id, path, why })
}

fn failed(doing: &str, error: &std::io::Error) -> Error {
    Error::Storage { doing: doing.to_owned(), problem: error.to_string() }
}
