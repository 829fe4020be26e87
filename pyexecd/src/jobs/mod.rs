//! Jobs, from submission to being forgotten. [`Jobs`] is the handle everything else holds; the [`dispatcher`] behind it
//! is the one task that changes a job's state.

pub mod admission;
mod being_removed;
pub mod changes;
pub mod command;
pub mod dispatcher;
pub mod intake;
pub mod preparer;
mod pruning;
pub mod recovery;
mod snapshot;
pub mod state;
pub mod under_way;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pyexec_proto::job::{JobDetail, JobSummary, Submission, Variables};
use pyexec_proto::paths::Paths;
use pyexec_proto::request::{Changes, JobPage, JobQuery, MAX_WAIT_MS, Revision, StopAnswer, StopRequest};
use pyexec_proto::world::Submitter;
use pyexec_proto::{Error, JobId, OsText, Status, Timestamp};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::blocking::blocking;
use crate::client_files::{ClientFiles, Deadline};
use crate::config::InheritEnv;
use crate::engine::Engine;
use crate::environment::Environments;
use crate::environment::passwords;
use crate::environment::variables::{EnvFile, Sources, compose};
use crate::fault::{Point, reached, reached_in_creation};
use crate::store::{Listed, Store};
use being_removed::BeingRemoved;
use changes::ChangeLog;
use command::{Command, Counts, LeftUnfinished};
use pyexec_run_directory::directory as run_directory;
use pyexec_run_directory::output;
pub use snapshot::Snapshot;
use under_way::UnderWay;

/// Everything that is asked for about jobs, by clients and by the daemon itself.
#[derive(Clone, Debug)]
pub struct Jobs {
    parts: Arc<Parts>,
    under_way: UnderWay,
    /// One at a time: what is half removed while nobody holds it has been left behind.
    removing: Arc<Mutex<()>>,
    being_removed: BeingRemoved,
}

/// What [`Jobs`] are made of.
#[derive(Debug)]
pub struct Parts {
    pub commands: mpsc::UnboundedSender<Command>,
    pub changes: ChangeLog,
    pub store: Store,
    pub environments: Arc<Environments>,
    pub engine: Arc<dyn Engine>,
    pub client_files: ClientFiles,
    pub inherit: InheritEnv,
    pub paths: Arc<Paths>,
    pub shutting_down: watch::Receiver<bool>,
}

impl Jobs {
    pub fn new(parts: Parts) -> Self {
        Self {
            parts: Arc::new(parts),
            under_way: UnderWay::default(),
            removing: Arc::default(),
            being_removed: BeingRemoved::default(),
        }
    }

    pub fn environments(&self) -> &Environments {
        &self.parts.environments
    }

    pub fn store(&self) -> &Store {
        &self.parts.store
    }

    /// Submissions that are not in the index yet.
    pub fn under_way(&self) -> &UnderWay {
        &self.under_way
    }

    pub fn directory(&self, id: JobId) -> PathBuf {
        self.parts.paths.run_directory(id)
    }

    /// Changes once, when the daemon begins to leave.
    pub fn shutting_down(&self) -> watch::Receiver<bool> {
        self.parts.shutting_down.clone()
    }

    /// The job, once it is on disk. The same submission again is the same job, whenever it comes, and wherever from.
    /// `submitter` is who submits it, or why nothing of it may run here.
    pub async fn submit(
        &self,
        mut submission: Submission,
        submitter: Result<Submitter, Error>,
    ) -> Result<JobDetail, Error> {
        if *self.parts.shutting_down.borrow() {
            return Err(Error::ShuttingDown);
        }
        // What is kept of a job has no passwords in it. They go where its variables go.
        let mut url_passwords = passwords::take(&mut submission.spec.environment.requirements);
        url_passwords.extend(passwords::take(submission.spec.environment.requirements_content.as_mut_slice()));
        let deadline = Deadline::of_now();
        // Composed here, once: from here on what was set for this job is part of its environment.
        let checked = match submitter {
            Ok(submitter) => match self.compose(&submission, deadline).await {
                Ok(mut variables) => {
                    passwords::set(&url_passwords, &mut variables);
                    submission.environment = variables;
                    submission.overrides = Variables::default();
                    submission.env_file = None;
                    self.check(&submission, deadline).await.map(|()| submitter)
                }
                Err(refused) => Err(refused),
            },
            Err(refused) => Err(refused),
        };
        let submitter = match checked {
            Ok(submitter) => submitter,
            // What was right when it was first submitted may have changed since; the job is the same.
            Err(refused) => {
                return match self.find(submission.id).await? {
                    Some(known) => same_or_taken(known, &submission),
                    None => Err(refused),
                };
            }
        };
        let jobs = self.parts.paths.jobs();
        // Goes wherever the submission goes, whether or not the call is given up.
        let mark = self.under_way.mark(submission.id);
        let (fresh, job, submission, mark) = blocking(move || {
            let created_at = Timestamp::now();
            let fresh = run_directory::create(&jobs, &submission, Some(submitter), created_at, reached_in_creation)?;
            let job = if fresh {
                let submitted = JobDetail::submitted(submission.id, created_at, submission.spec.clone());
                JobDetail { watching: submission.watching, ..submitted }
            } else {
                // Another submission of this id is under way, or was when an earlier daemon died.
                let found = run_directory::read(&jobs, submission.id).map_err(std::io::Error::other)?;
                found.ok_or_else(|| std::io::Error::other("its run directory has just been removed"))?
            };
            Ok((fresh, job, submission, mark))
        })
        .await
        .map_err(storage("make the run directory"))?;
        let job = same_or_taken(job, &submission)?;
        let this = self.clone();
        // A task of its own: what is half recorded must not stay so because a call was given up.
        let recording = tokio::spawn(async move {
            let _mark = mark;
            this.record(job, fresh).await
        });
        let recorded = recording.await.map_err(storage("record the job"))??;
        match recorded {
            Some(job) => Ok(*job),
            None => same_or_taken(self.get(submission.id).await?, &submission),
        }
    }

    /// Into the index, then into the queue. `None` when it is known already.
    async fn record(&self, job: JobDetail, fresh: bool) -> Result<Option<Box<JobDetail>>, Error> {
        // One commit for both: that the job exists, and that it may have been started.
        let (parent, watching) = (job.spec.parent, job.watching);
        let may_start = self.ask(|answer| Command::Foresee { parent, watching, answer }).await?;
        match self.parts.store.insert(job.clone(), may_start).await {
            // Known, though its run directory may have gone: it has been, and is not run again.
            Ok(false) => Ok(None),
            Ok(true) => {
                reached(Point::SubmitRecorded);
                self.ask(|answer| Command::Accept { job: Box::new(job), may_start, answer }).await
            }
            Err(error) => {
                // Not acknowledged, so it must not start: what was made for it goes, and the client hears why.
                if fresh {
                    let (jobs, id) = (self.parts.paths.jobs(), job.id);
                    let remove = move || run_directory::remove(&jobs, id).map_err(std::io::Error::other);
                    if let Err(error) = blocking(remove).await {
                        tracing::error!(job = %id, %error, "the run directory of a job that was refused is left behind");
                    }
                }
                Err(error.while_doing("record the job"))
            }
        }
    }

    async fn compose(&self, submission: &Submission, deadline: Deadline) -> Result<Variables, Error> {
        let spec = &submission.spec;
        let path = spec.env_file.as_ref().map(|file| spec.directory.as_path().join(file.as_path()));
        let env_file = match (path, &submission.env_file) {
            (Some(path), Some(content)) => Some(EnvFile::sent(path, content.clone())),
            (Some(path), None) => Some(EnvFile::read(path, &self.parts.client_files, deadline).await?),
            (None, _) => None,
        };
        compose(Sources {
            inherit: &self.parts.inherit,
            caller: &submission.environment,
            env_file: env_file.as_ref(),
            overrides: &submission.overrides,
        })
    }

    async fn check(&self, submission: &Submission, deadline: Deadline) -> Result<(), Error> {
        intake::validate(submission)?;
        intake::places(&submission.spec, &self.parts.client_files, deadline).await?;
        self.parts.engine.check(&submission.spec)?;
        intake::fence(&submission.spec, &self.parts.paths, &self.parts.client_files, deadline).await?;
        self.parts.environments.check(&submission.spec, &submission.environment, deadline).await
    }

    /// The job as it is now.
    pub async fn find(&self, id: JobId) -> Result<Option<JobDetail>, Error> {
        self.refuse_removed(id)?;
        let live = self.ask(|answer| Command::Describe { id, answer }).await?;
        let found = match live {
            Some(live) => Some((*live, false)),
            None => self.parts.store.get(id).await.map_err(|error| error.while_doing("look the job up"))?,
        };
        let Some((mut job, is_seen)) = found else { return Ok(None) };
        let directory = self.directory(id);
        let look = move || {
            job.output = match job.state.outcome() {
                Some(pyexec_proto::Outcome::Ended(record)) => record.output,
                Some(pyexec_proto::Outcome::NotStarted(_) | pyexec_proto::Outcome::Lost { .. }) | None => {
                    output::lengths(&directory)?
                }
            };
            // Of a job that has finished, the index has the last, once it has been looked for.
            if !is_seen && job.progress.is_none() && job.state.run().is_some() {
                job.progress = crate::progress::of_job(&directory, job.state.is_finished());
            }
            job.output_removed_from = output::removed_from(&directory, &job.state);
            Ok(job)
        };
        let job = blocking(look).await.map_err(storage("measure the output"))?;
        if !is_seen && job.state.is_finished() {
            drop(self.parts.store.set_progress(id, job.progress.clone()));
        }
        Ok(Some(job))
    }

    /// A page of all there are. What is not in the index yet is looked for: how much those have written that run, or were
    /// lost, how far those are that run, and how far those came that finished without anybody having looked.
    pub async fn list(&self, query: JobQuery) -> Result<JobPage, Error> {
        // Jobs that are to be taken up have been, and the index hears of them before it is asked for the page.
        self.counts().await?;
        let Listed { mut page, unseen } =
            self.parts.store.list(query).await.map_err(|error| error.while_doing("list the jobs"))?;
        let is_measured = |job: &JobSummary| job.started_at.is_some() && job.ended_at.is_none();
        let runs = |job: &JobSummary| job.status == Status::Running;
        let wanted: Vec<(usize, PathBuf)> = (page.jobs.iter().enumerate())
            .filter(|(_, job)| is_measured(job) || runs(job) || unseen.contains(&job.id))
            .map(|(index, job)| (index, self.directory(job.id)))
            .collect();
        if wanted.is_empty() {
            return Ok(page);
        }
        let look = move || {
            for (index, directory) in wanted {
                let job = &mut page.jobs[index];
                if is_measured(job) {
                    // One that has just been removed had some once.
                    job.output = output::lengths(&directory).unwrap_or_default();
                }
                if runs(job) || unseen.contains(&job.id) {
                    job.progress = crate::progress::of_job(&directory, !runs(job));
                }
            }
            Ok((page, unseen))
        };
        let (page, seen) = blocking(look).await.map_err(storage("look how far the jobs are"))?;
        for job in page.jobs.iter().filter(|job| seen.contains(&job.id)) {
            drop(self.parts.store.set_progress(job.id, job.progress.clone()));
        }
        Ok(page)
    }

    /// Whether there is such a job: much less work than [`Jobs::find`], which measures its output and looks for its
    /// progress.
    pub async fn exists(&self, id: JobId) -> Result<bool, Error> {
        self.refuse_removed(id)?;
        if self.ask(|answer| Command::Contains { id, answer }).await? {
            return Ok(true);
        }
        let unknown = self.parts.store.unknown(vec![id]).await.map_err(|error| error.while_doing("look the job up"))?;
        Ok(unknown.is_empty())
    }

    /// As [`Jobs::find`], for an id that a client believes to exist.
    pub async fn get(&self, id: JobId) -> Result<JobDetail, Error> {
        self.find(id).await?.ok_or_else(|| Error::NoSuchJob { given: id.to_string() })
    }

    /// Work on the files of a job. What it finds is only believed if they were there until its end: those of a job that is
    /// removed meanwhile may have been some of them, or none.
    ///
    /// # Errors
    /// Those of the work, and [`Error::OutputRemoved`] or [`Error::BeingRemoved`] where the run directory has gone.
    pub async fn with_files<T: Send + 'static>(
        &self,
        id: JobId,
        doing: &str,
        work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        if !self.exists(id).await? {
            return Err(Error::NoSuchJob { given: id.to_string() });
        }
        let directory = self.directory(id);
        let look = move || {
            let found = work(&directory)?;
            Ok(if output::is_there(&directory) { Ok(found) } else { Err(OsText::from(directory)) })
        };
        let found = blocking(look).await.map_err(storage(doing))?;
        self.refuse_removed(id)?;
        found.map_err(|path| Error::OutputRemoved { id, path })
    }

    /// A job that is being removed is not there for anybody any more.
    pub fn refuse_removed(&self, id: JobId) -> Result<(), Error> {
        if self.being_removed.contains(id) { Err(Error::BeingRemoved { id }) } else { Ok(()) }
    }

    /// `None` for a job that has finished, and for one that does not exist.
    pub async fn watch(&self, id: JobId) -> Result<Option<watch::Receiver<Snapshot>>, Error> {
        self.ask(|answer| Command::Watch { id, answer }).await
    }

    pub async fn stop(&self, id: JobId, request: StopRequest) -> Result<StopAnswer, Error> {
        if self.ask(|answer| Command::Stop { id, request, answer }).await? {
            return Ok(StopAnswer::Stopping);
        }
        self.get(id).await.map(|job| StopAnswer::AlreadyFinished(Box::new(job)))
    }

    /// Which environments jobs that have not finished use.
    pub async fn environments_in_use(&self) -> Result<HashMap<String, Vec<JobId>>, Error> {
        self.ask(|answer| Command::EnvironmentsInUse { answer }).await
    }

    /// How many jobs are under way, and how many wait.
    ///
    /// What was sent to be taken up before has been.
    pub async fn counts(&self) -> Result<Counts, Error> {
        self.ask(|answer| Command::Count { answer }).await
    }

    /// Which jobs have changed since then, as soon as one has; none after `wait_ms`, at the latest.
    pub async fn changes(&self, since: Option<Revision>, wait_ms: u64) -> Result<Changes, Error> {
        let until = Instant::now() + Duration::from_millis(wait_ms.min(MAX_WAIT_MS));
        let (mut newest, mut shutting_down) = (self.parts.changes.subscribe(), self.shutting_down());
        loop {
            // Before it is looked at: what changes from here on is noticed.
            newest.borrow_and_update();
            let (revision, known) = self.parts.changes.since(since);
            let is_incomplete = known.is_none();
            let changed = known.unwrap_or_default();
            if is_incomplete || !changed.is_empty() || Instant::now() >= until {
                let (mut jobs, mut removed) = (Vec::new(), Vec::new());
                for id in changed {
                    match self.summary(id).await? {
                        Some(job) => jobs.push(job),
                        None => removed.push(id),
                    }
                }
                return Ok(Changes { revision, jobs, removed, is_incomplete });
            }
            tokio::select! {
                _ = newest.changed() => {}
                () = tokio::time::sleep_until(until) => {}
                () = leaving(&mut shutting_down) => return Err(Error::ShuttingDown),
            }
        }
    }

    /// A row of a listing, without what has to be looked for in the job's files. `None` for a job that is not there, or is
    /// being removed.
    async fn summary(&self, id: JobId) -> Result<Option<JobSummary>, Error> {
        if self.being_removed.contains(id) {
            return Ok(None);
        }
        if let Some(job) = self.ask(|answer| Command::Describe { id, answer }).await? {
            return Ok(Some(JobSummary::of(&job)));
        }
        let found = self.parts.store.get(id).await.map_err(|error| error.while_doing("look the job up"))?;
        Ok(found.map(|(job, _)| JobSummary::of(&job)))
    }

    /// Takes up jobs that were found on disk.
    pub fn recover(&self, jobs: Vec<LeftUnfinished>) {
        let _ = self.parts.commands.send(Command::Recover { jobs });
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.parts.commands.send(command(answer)).map_err(|_| Error::ShuttingDown)?;
        answered.await.map_err(|_| Error::ShuttingDown)
    }
}

/// Returns when the daemon begins to leave.
pub async fn leaving(shutting_down: &mut watch::Receiver<bool>) {
    let _ = shutting_down.wait_for(|leaving| *leaving).await;
}

fn same_or_taken(known: JobDetail, submission: &Submission) -> Result<JobDetail, Error> {
    if known.spec == submission.spec { Ok(known) } else { Err(Error::IdTaken { id: submission.id }) }
}

fn storage<E: std::fmt::Display>(doing: &str) -> impl Fn(E) -> Error {
    move |error| Error::Storage { doing: doing.to_owned(), problem: error.to_string() }
}
