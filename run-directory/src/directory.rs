//! One directory per job: made whole before the job is acknowledged, and enough to rebuild the index from.
//!
//! What the daemon puts there. What the supervisor adds is in [`crate::record`].

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::private::create_private;
use pyexec_proto::environment::ResolvedEnvironment;
use pyexec_proto::job::{JobDetail, JobSource, JobSpec, StdinSource, Submission, Variables, Watching};
use pyexec_proto::preamble::MAX_FRAME_BYTES;
use pyexec_proto::state::{JobState, Outcome};
use pyexec_proto::world::Submitter;
use pyexec_proto::{JobId, Timestamp};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::boot;
use crate::record::{
    self, ENDING, ENVIRONMENT, Ending, ReadError, STDIN, WhatEnded, damaged, private_file, write_durably,
};
use crate::regular_file;
use crate::removal::{self, RemovalError};

/// What was asked for. Never changes.
const SPEC: &str = "spec.json";
/// How a job ended that no supervisor can speak for.
const OUTCOME: &str = "outcome.json";
/// The environment it runs in.
const RESOLVED: &str = "resolved.json";
const FORMAT: u32 = 1;
/// A directory that is being made, or removed, has a name that is no job id.
const UNFINISHED: &str = ".new-";
const REMOVED: &str = ".removed-";

/// Begins the names of what this daemon is making. What another was making when it died is told from it, also where both
/// are of the same submission.
static MAKER: LazyLock<String> = LazyLock::new(|| format!("{UNFINISHED}{}-", JobId::mint().simple()));

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SpecFile {
    version: u32,
    id: JobId,
    created_at: Timestamp,
    /// In which it was submitted.
    boot_id: String,
    spec: JobSpec,
    /// How long the files are that are gone once it starts. Not in those of older daemons.
    #[serde(default)]
    environment_bytes: Option<u64>,
    #[serde(default)]
    stdin_bytes: Option<u64>,
    /// Who submitted it, as the daemon saw that process then. No part of what the job is.
    #[serde(default)]
    submitter: Option<Submitter>,
    /// How it is watched. Older files have it among the fields of the specification.
    #[serde(default)]
    watching: Option<Watching>,
}

/// What older files say of how a job is watched.
#[derive(Deserialize)]
struct OldSpecFile {
    spec: Watching,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ResolvedFile {
    version: u32,
    environment: ResolvedEnvironment,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OutcomeFile {
    version: u32,
    outcome: Outcome,
}

/// How far [`create`] has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The specification is written, the rest is not; the directory has its temporary name.
    Filling,
    /// All is written.
    Filled,
    /// It has its name.
    Named,
}

/// Makes the run directory of a submission. `false` when there is one already. `reached` is called after each step.
pub fn create(
    jobs: &Path,
    submission: &Submission,
    submitter: Option<Submitter>,
    created_at: Timestamp,
    reached: impl Fn(Step),
) -> io::Result<bool> {
    create_private(jobs)?;
    let name = submission.id.to_string();
    let unfinished = jobs.join(format!("{}{}", *MAKER, JobId::mint().simple()));
    create_private(&unfinished)?;
    let filled = fill(&unfinished, submission, submitter, created_at, &reached);
    let made = filled.and_then(|()| match std::fs::rename(&unfinished, jobs.join(&name)) {
        Ok(()) => {
            reached(Step::Named);
            Ok(true)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
            Ok(false)
        }
        Err(error) => Err(error),
    });
    if !matches!(made, Ok(true)) {
        std::fs::remove_dir_all(&unfinished)?;
    }
    made
}

fn fill(
    directory: &Path,
    submission: &Submission,
    submitter: Option<Submitter>,
    created_at: Timestamp,
    reached: &impl Fn(Step),
) -> io::Result<()> {
    let write = |name: &str, bytes: &[u8]| {
        private_file(&directory.join(name), OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY)?.write_all(bytes)
    };
    let environment = submission.environment.as_block();
    let stdin = match (&submission.spec.source, submission.spec.stdin) {
        (JobSource::Stdin { code }, _) => Some(code.as_bytes()),
        (
            JobSource::File { .. }
            | JobSource::Code { .. }
            | JobSource::Module { .. }
            | JobSource::Content { .. }
            | JobSource::Inline { .. },
            stdin,
        ) => match stdin {
            StdinSource::Given => Some(submission.stdin.as_slice()),
            StdinSource::Null | StdinSource::Open => None,
        },
    };
    let spec = SpecFile {
        version: FORMAT,
        id: submission.id,
        created_at,
        boot_id: boot::id(),
        spec: submission.spec.clone(),
        environment_bytes: Some(environment.len() as u64),
        stdin_bytes: stdin.map(|text| text.len() as u64),
        submitter,
        watching: Some(submission.watching),
    };
    write(SPEC, &serde_json::to_vec(&spec)?)?;
    reached(Step::Filling);
    write(ENVIRONMENT, environment)?;
    if let Some(stdin) = stdin {
        write(STDIN, stdin)?;
    }
    reached(Step::Filled);
    Ok(())
}

/// What a job that has not started will start with.
#[derive(Debug)]
pub struct ToStart {
    pub variables: Variables,
    /// Of jobs of before this was kept, nothing.
    pub submitter: Option<Submitter>,
}

/// What a job that has not started will start with; `None` once it has, or was stopped.
///
/// # Errors
/// Also when its environment, or the text for stdin, is not as long as it was: the job is not to start with less than it was
/// given.
pub fn to_start(directory: &Path) -> io::Result<Option<ToStart>> {
    let Some(file) = regular_file::open(&directory.join(ENVIRONMENT))? else { return Ok(None) };
    let mut block = Vec::new();
    file.take(MAX_FRAME_BYTES as u64).read_to_end(&mut block)?;
    let mut submitter = None;
    if let Ok(Some(spec)) = record::read::<SpecFile>(&directory.join(SPEC)) {
        check_length(ENVIRONMENT, spec.environment_bytes, block.len() as u64)?;
        if spec.stdin_bytes.is_some() {
            let stdin = regular_file::open(&directory.join(STDIN))?;
            let found = stdin.map(|file| file.metadata()).transpose()?.map_or(0, |data| data.len());
            check_length(STDIN, spec.stdin_bytes, found)?;
        }
        submitter = spec.submitter;
    }
    Ok(Some(ToStart { variables: Variables::from_block(block), submitter }))
}

fn check_length(name: &str, written: Option<u64>, found: u64) -> io::Result<()> {
    match written {
        Some(written) if written != found => {
            Err(io::Error::other(format!("the file `{name}` is damaged: it holds {found} bytes of {written}")))
        }
        Some(_) | None => Ok(()),
    }
}

/// Takes away what a job that will not start must not leave behind, and with it the permission to start. `false` when
/// that had been used, or taken away, before.
pub fn revoke(directory: &Path) -> io::Result<bool> {
    let remove = |name: &str| match std::fs::remove_file(directory.join(name)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    };
    let had_permission = remove(ENVIRONMENT)?;
    remove(STDIN)?;
    Ok(had_permission)
}

/// Takes away what an earlier daemon had not finished writing.
pub fn remove_unfinished(directory: &Path) -> io::Result<()> {
    [RESOLVED, OUTCOME].iter().try_for_each(|name| record::remove_temporary(directory, name))
}

/// How a job without an exit record ended.
pub fn write_outcome(directory: &Path, outcome: &Outcome) -> io::Result<()> {
    write_durably(directory, OUTCOME, &OutcomeFile { version: FORMAT, outcome: outcome.clone() })
}

/// How the job ended, if it has.
pub fn outcome(directory: &Path) -> Result<Option<Outcome>, ReadError> {
    if let Some(ending) = record::read::<Ending>(&directory.join(ENDING))? {
        return Ok(Some(outcome_of(ending.what)));
    }
    Ok(record::read::<OutcomeFile>(&directory.join(OUTCOME))?.map(|file| file.outcome))
}

pub fn outcome_of(what: WhatEnded) -> Outcome {
    match what {
        WhatEnded::Run(record) => Outcome::Ended(record),
        WhatEnded::SpawnFailed(why) => Outcome::NotStarted(pyexec_proto::state::NotStarted::Spawn(why)),
    }
}

/// The job as its directory tells it, its state not looked into: as if it had just been submitted, or finished.
///
/// A record that is damaged says nothing of its end, which is then looked for as that of any job that has not finished;
/// only without its specification there is no job to tell of.
pub fn read(jobs: &Path, id: JobId) -> Result<Option<JobDetail>, ReadError> {
    let directory = &jobs.join(id.to_string());
    let path = directory.join(SPEC);
    let Some(file) = record::read::<SpecFile>(&path)? else { return Ok(None) };
    if file.id != id {
        return Err(damaged(&path, format_args!("it is of job {}", file.id)));
    }
    let state = unless_damaged(outcome(directory))?.map_or(JobState::Queued, JobState::Finished);
    let watching = match file.watching {
        Some(watching) => watching,
        None => record::read::<OldSpecFile>(&path)?.map_or_else(Watching::default, |old| old.spec),
    };
    Ok(Some(JobDetail {
        state,
        watching,
        environment: unless_damaged(record::read::<ResolvedFile>(&directory.join(RESOLVED)))?
            .map(|file| file.environment),
        ..JobDetail::submitted(file.id, file.created_at, file.spec)
    }))
}

fn unless_damaged<T>(read: Result<Option<T>, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Err(error @ ReadError::Damaged { .. }) => {
            tracing::warn!(%error, "done without");
            Ok(None)
        }
        read => read,
    }
}

/// Whether the job was submitted in this boot; `false` where nobody can say.
pub fn same_boot(directory: &Path) -> bool {
    let spec = record::read::<SpecFile>(&directory.join(SPEC));
    matches!(spec, Ok(Some(spec)) if spec.boot_id == boot::id())
}

/// What the job runs with.
pub fn write_resolved(directory: &Path, environment: &ResolvedEnvironment) -> io::Result<()> {
    let file = ResolvedFile { version: FORMAT, environment: environment.clone() };
    record::write_atomically(directory, RESOLVED, &file).map(drop)
}

/// What lies in the jobs directory.
#[derive(Debug, Default)]
pub struct Listing {
    pub jobs: Vec<JobId>,
    /// Removal of these had begun when the daemon died.
    pub half_removed: Vec<JobId>,
    /// The making of these had.
    pub half_made: Vec<PathBuf>,
}

pub fn list(jobs: &Path) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let entries = match std::fs::read_dir(jobs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if let Ok(id) = name.parse() {
            listing.jobs.push(id);
        } else if let Some(Ok(id)) = name.strip_prefix(REMOVED).map(str::parse) {
            listing.half_removed.push(id);
        } else if name.starts_with(UNFINISHED) && !name.starts_with(&*MAKER) {
            listing.half_made.push(entry.path());
        }
    }
    Ok(listing)
}

/// Renames the directory away, so that it is gone at once and whole; [`empty_renamed`] frees the space. The name stays
/// until [`forget_renamed`]: it says that the index is to forget the job. A link or a file that a job has put in the place
/// of its run directory is renamed like one.
pub fn rename_away(jobs: &Path, id: JobId) -> Result<(), RemovalError> {
    let directory = jobs.join(id.to_string());
    match std::fs::rename(&directory, renamed(jobs, id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RemovalError::at(&directory)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Returns how many bytes its files held. Needs no space itself. What cannot be emptied gets its name back, and is a run
/// directory again, with the job's record and output in it.
pub fn empty_renamed(jobs: &Path, id: JobId) -> Result<u64, RemovalError> {
    let (from, to) = (renamed(jobs, id), jobs.join(id.to_string()));
    removal::empty(&from).map_err(|mut error| {
        match std::fs::rename(&from, &to) {
            // Named as it is found from now on.
            Ok(()) => error.path = error.path.strip_prefix(&from).map_or_else(|_| to.clone(), |below| join(&to, below)),
            Err(problem) => {
                tracing::error!(job = %id, %problem, "what could not be removed does not get its name back")
            }
        }
        error
    })
}

/// Without a slash at the end where there is nothing to add.
fn join(directory: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { directory.to_owned() } else { directory.join(below) }
}

/// Once the index has forgotten the job.
pub fn forget_renamed(jobs: &Path, id: JobId) -> Result<(), RemovalError> {
    removal::remove_emptied(&renamed(jobs, id))
}

fn renamed(jobs: &Path, id: JobId) -> PathBuf {
    jobs.join(format!("{REMOVED}{id}"))
}

/// Removes a run directory that the index does not know of.
pub fn remove(jobs: &Path, id: JobId) -> Result<(), RemovalError> {
    rename_away(jobs, id)?;
    empty_renamed(jobs, id)?;
    forget_renamed(jobs, id)
}

/// Removes what an earlier daemon was making.
pub fn remove_half_made(path: &Path) -> Result<(), RemovalError> {
    removal::remove(path).map(drop)
}

/// The bytes in a run directory's files, artifacts included.
pub fn size(directory: &Path) -> u64 {
    removal::size(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyexec_proto::environment::Interpreter;
    use pyexec_proto::state::{NotStarted, StopReason};

    fn submission() -> Submission {
        Submission {
            id: JobId::mint(),
            spec: JobSpec {
                stdin: StdinSource::Given,
                grace_ms: 0,
                variables: vec!["TOKEN".into()],
                ..JobSpec::new(JobSource::Code { code: "print(1)".into() }, "/", Interpreter::System)
            },
            watching: Watching { waited_for: true, ..Watching::default() },
            environment: [("TOKEN".into(), "hunter2".into())].into_iter().collect(),
            overrides: Default::default(),
            stdin: b"typed".to_vec(),
            env_file: None,
            autosave: None,
        }
    }

    #[test]
    fn a_run_directory_is_made_once_and_read_back() {
        let jobs = tempfile::tempdir().expect("a directory");
        let submission = submission();
        assert!(create(jobs.path(), &submission, None, Timestamp(5), |_| ()).expect("can be made"));
        assert!(!create(jobs.path(), &submission, None, Timestamp(6), |_| ()).expect("is there"));
        let listing = list(jobs.path()).expect("can be listed");
        assert_eq!((listing.jobs, listing.half_made.len()), (vec![submission.id], 0));
        let directory = jobs.path().join(submission.id.to_string());
        let job = read(jobs.path(), submission.id).expect("can be read").expect("is there");
        assert_eq!((job.created_at, job.spec, job.state), (Timestamp(5), submission.spec, JobState::Queued));
        let to_start = to_start(&directory).expect("can be read").expect("has not started");
        assert_eq!((to_start.variables, to_start.submitter), (submission.environment, None));
    }

    #[test]
    fn who_submitted_a_job_is_kept_with_it_and_is_no_part_of_what_it_is() {
        use pyexec_proto::world::{Scheduling, World};
        let jobs = tempfile::tempdir().expect("a directory");
        let submission = submission();
        let scheduling =
            Scheduling { cpus: "0,2".to_owned(), policy: 3, priority: 0, io: 3 << 13, nice: 5, oom_score_adj: None };
        let submitter = Submitter { world: World { groups: vec![4, 27], ..World::default() }, scheduling };
        create(jobs.path(), &submission, Some(submitter.clone()), Timestamp(5), |_| ()).expect("can be made");
        let job = read(jobs.path(), submission.id).expect("can be read").expect("is there");
        assert_eq!((job.spec, job.watching), (submission.spec, submission.watching));
        let to_start = to_start(&jobs.path().join(submission.id.to_string())).expect("can be read");
        assert_eq!(to_start.expect("has not started").submitter, Some(submitter));
    }

    /// Written before jobs could be measured.
    #[test]
    fn the_specification_of_an_older_daemon_is_read() {
        let old = concat!(
            r#"{"version":1,"id":"00112233-4455-4677-8899-aabbccddeeff","created_at":5,"boot_id":"b","spec":{"#,
            r#""source":{"Code":{"code":"print(1)"}},"args":[],"directory":"/","#,
            r#""environment":{"interpreter":"System","requirements":[],"requirements_file":null,"named":null,"#,
            r#""auto_install":false,"refresh":false},"env_file":null,"stdin":"Given","timeout_ms":null,"#,
            r#""grace_ms":0,"label":null,"variables":["TOKEN"],"umask":18,"limits":[],"nice":0,"#,
            r#""buffering":null,"leftovers":"end","waited_for":true,"parent":null}}"#,
        );
        let jobs = tempfile::tempdir().expect("a directory");
        let id: JobId = "00112233-4455-4677-8899-aabbccddeeff".parse().expect("is an id");
        let directory = jobs.path().join(id.to_string());
        std::fs::create_dir(&directory).expect("can be made");
        std::fs::write(directory.join(SPEC), old).expect("can be written");
        let job = read(jobs.path(), id).expect("can be read").expect("is there");
        assert_eq!((job.spec, job.created_at), (submission().spec, Timestamp(5)));
        assert_eq!(job.watching, Watching { waited_for: true, ..Watching::default() });
    }

    #[test]
    fn nothing_secret_is_left_once_the_permission_to_start_is_revoked() {
        let jobs = tempfile::tempdir().expect("a directory");
        let submission = submission();
        create(jobs.path(), &submission, None, Timestamp(5), |_| ()).expect("can be made");
        let directory = jobs.path().join(submission.id.to_string());
        assert!(revoke(&directory).expect("can be revoked"));
        assert!(!revoke(&directory).expect("and again, to no effect"));
        for entry in std::fs::read_dir(&directory).expect("can be listed") {
            let text = std::fs::read_to_string(entry.expect("exists").path()).expect("can be read");
            assert!(!text.contains("hunter2") && !text.contains("typed"), "{text}");
        }
    }

    #[test]
    fn an_outcome_without_a_run_is_read_back() {
        let jobs = tempfile::tempdir().expect("a directory");
        let submission = submission();
        create(jobs.path(), &submission, None, Timestamp(5), |_| ()).expect("can be made");
        let directory = jobs.path().join(submission.id.to_string());
        let expected = Outcome::NotStarted(NotStarted::Stopped(StopReason::Cancelled));
        write_outcome(&directory, &expected).expect("can be written");
        assert_eq!(
            read(jobs.path(), submission.id).expect("can be read").expect("is there").state,
            JobState::Finished(expected)
        );
    }

    #[test]
    fn what_another_daemon_was_making_is_told_and_what_this_one_makes_is_not() {
        let jobs = tempfile::tempdir().expect("a directory");
        let an_older_releases = format!("{UNFINISHED}{}-{}", JobId::mint(), JobId::mint().simple());
        let ours = format!("{}{}", *MAKER, JobId::mint().simple());
        for name in [an_older_releases.as_str(), ".new-of nobody", &ours] {
            std::fs::create_dir(jobs.path().join(name)).expect("can be made");
        }
        let mut listing = list(jobs.path()).expect("can be listed");
        listing.half_made.sort();
        let mut expected = [".new-of nobody", &an_older_releases].map(|name| jobs.path().join(name));
        expected.sort();
        assert_eq!((listing.jobs, listing.half_made), (vec![], expected.to_vec()));
    }

    #[test]
    fn removal_is_all_at_once_and_can_be_finished_later() {
        let jobs = tempfile::tempdir().expect("a directory");
        let submission = submission();
        create(jobs.path(), &submission, None, Timestamp(5), |_| ()).expect("can be made");
        rename_away(jobs.path(), submission.id).expect("can be renamed");
        let listing = list(jobs.path()).expect("can be listed");
        assert_eq!((listing.jobs, listing.half_removed), (vec![], vec![submission.id]));
        assert!(empty_renamed(jobs.path(), submission.id).expect("can be emptied") > 0);
        assert_eq!(empty_renamed(jobs.path(), submission.id).expect("is empty"), 0);
        assert_eq!(list(jobs.path()).expect("can be listed").half_removed, vec![submission.id]);
        forget_renamed(jobs.path(), submission.id).expect("can be removed");
        forget_renamed(jobs.path(), submission.id).expect("is gone");
        assert_eq!(empty_renamed(jobs.path(), submission.id).expect("is gone"), 0);
        assert_eq!(list(jobs.path()).expect("can be listed").half_removed, vec![]);
    }
}
