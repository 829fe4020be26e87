//! Finding jobs.

use pyexec_proto::request::{JobPage, JobQuery};
use pyexec_proto::{Error, JobId};

use crate::jobs::Jobs;

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
    let well_formed = query.page.as_deref().is_none_or(|page| page.parse::<i64>().is_ok_and(|page| page >= 0));
    if !well_formed {
        return Err(Error::InvalidArgument {
            what: "page".to_owned(),
            given: query.page.unwrap_or_default().chars().take(80).collect(),
            problem: "it is not one that a listing gave".to_owned(),
            hint: "leave it out for the first page".to_owned(),
        });
    }
    jobs.list(query).await
}
