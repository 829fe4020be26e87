//! Finding jobs.

use pyexec_proto::service::{JobPage, JobQuery};
use pyexec_proto::{Error, JobId, Status};

use crate::blocking::blocking;
use crate::jobs::Jobs;
use crate::output::progress;
use crate::store::Listed;

/// The shortest prefix that is taken for an id.
const MIN_PREFIX: usize = 4;
/// How many candidates are named when a prefix fits several.
const MAX_CANDIDATES: u32 = 20;

pub(super) async fn resolve(jobs: &Jobs, given: String) -> Result<JobId, Error> {
    // What is repeated in the answer is kept to a size that fits a line.
    let no_such_job = || Error::NoSuchJob { given: given.chars().take(80).collect() };
    if given.len() < MIN_PREFIX || !given.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')) {
        return Err(no_such_job());
    }
    let found = jobs.store().with_prefix(given.clone(), MAX_CANDIDATES).await;
    let candidates = found.map_err(|error| error.while_doing("look the job up"))?;
    match candidates.as_slice() {
        [] => Err(no_such_job()),
        [id] => Ok(*id),
        _ => Err(Error::AmbiguousJob { given, candidates }),
    }
}

pub(super) async fn list(jobs: &Jobs, query: JobQuery) -> Result<JobPage, Error> {
    let well_formed = query.page.as_deref().is_none_or(|page| page.parse::<i64>().is_ok());
    if !well_formed {
        return Err(Error::InvalidArgument {
            what: "page".to_owned(),
            given: query.page.unwrap_or_default().chars().take(80).collect(),
            problem: "it is not one that a listing gave".to_owned(),
            hint: "leave it out for the first page".to_owned(),
        });
    }
    let listed = jobs.store().list(query).await.map_err(|error| error.while_doing("list the jobs"))?;
    with_progress(jobs, listed).await
}

/// Looks how far those are that run. What has finished is looked at once, and remembered.
async fn with_progress(jobs: &Jobs, listed: Listed) -> Result<JobPage, Error> {
    let Listed { mut page, unseen } = listed;
    let runs = page.jobs.iter().filter(|job| job.status == Status::Running).map(|job| (job.id, false));
    let wanted: Vec<(JobId, bool)> = runs.chain(unseen.into_iter().map(|id| (id, true))).collect();
    if wanted.is_empty() {
        return Ok(page);
    }
    let directories: Vec<_> = wanted.iter().map(|(id, is_finished)| (jobs.directory(*id), *is_finished)).collect();
    let look = move || {
        Ok(directories.iter().map(|(job, is_finished)| progress::of_job(job, *is_finished)).collect::<Vec<_>>())
    };
    let found = blocking(look).await.map_err(|error| Error::Storage {
        doing: "look how far the jobs are".to_owned(),
        problem: error.to_string(),
    })?;
    for ((id, is_finished), progress) in wanted.into_iter().zip(found) {
        if is_finished {
            drop(jobs.store().set_progress(id, progress.clone()));
        }
        if let Some(job) = page.jobs.iter_mut().find(|job| job.id == id) {
            job.progress = progress;
        }
    }
    Ok(page)
}
