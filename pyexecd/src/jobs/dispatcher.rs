//! The one task that changes the state of a job.
//!
//! It decides with pure functions ([`super::state`], [`super::admission`], [`super::recovery`]) and acts here: commits,
//! then starts, stops and tells. What takes time (an environment, a supervisor) happens in tasks of its own, and comes
//! back as a message.

mod stopping;
mod taking_up;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyexec_proto::environment::ResolvedEnvironment;
use pyexec_proto::job::JobDetail;
use pyexec_proto::output::OutputLengths;
use pyexec_proto::state::{Outcome, Status};
use pyexec_proto::world::Submitter;
use pyexec_proto::{JobId, JobSpec, JobState, OsText};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use super::Snapshot;
use super::admission::{Class, Queue};
use super::command::{Command, Counts, ReadyToStart};
use super::state::{JobEvent, transition};
use crate::blocking::{Done, blocking, spawn};
use crate::engine::{Engine, Events, Order, RunEvent, RunHandle};
use crate::environment::{self, EnvironmentError, Environments, Lease, Preparation, PreparationLog, Prepared};
use crate::fault::{Point, reached};
use crate::output;
use crate::store::run_directory::ToStart;
use crate::store::{Store, StoreError, run_directory};

/// How long to wait before a commit that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A job that has not finished, or whose end is not committed yet.
struct Live {
    job: JobDetail,
    /// Ends the preparation of its environment when the job ends before it.
    preparation: Option<AbortOnDrop>,
    /// Writes down what it runs with. Over before its end is committed: what is left half written of a job that has not
    /// finished is tidied up by the next daemon.
    noting: Option<Done<()>>,
    /// Keeps its environment from being evicted.
    lease: Option<Lease>,
    /// Who submitted it, once that has been read.
    submitter: Option<Submitter>,
    lengths: watch::Sender<OutputLengths>,
    /// Why its output can not be written.
    stalled: Option<String>,
    /// Why its supervisor does not answer.
    unanswered: Option<String>,
    /// It is on disk that the job may have been started: a loss of power does not make it start twice.
    may_start: bool,
    told: watch::Sender<Snapshot>,
}

#[expect(missing_debug_implementations, reason = "an engine need not be printable, and nobody prints a dispatcher")]
pub struct Dispatcher {
    store: Store,
    environments: Arc<Environments>,
    engine: Box<dyn Engine>,
    jobs_directory: PathBuf,
    max_running: usize,
    /// Told when a job has ended.
    ended: Arc<Notify>,
    live: HashMap<JobId, Live>,
    queue: Queue,
    /// They have finished, and the index is hearing of it.
    settled: HashSet<JobId>,
    /// Their state could not be committed; tried again until it can.
    uncommitted: HashSet<JobId>,
    commands: mpsc::UnboundedReceiver<Command>,
    to_self: mpsc::WeakUnboundedSender<Command>,
    events: mpsc::UnboundedReceiver<(JobId, RunEvent)>,
    event_sender: mpsc::UnboundedSender<(JobId, RunEvent)>,
}

impl Dispatcher {
    pub fn new(
        store: Store,
        environments: Arc<Environments>,
        engine: Box<dyn Engine>,
        jobs_directory: PathBuf,
        max_running: usize,
        ended: Arc<Notify>,
    ) -> (Self, mpsc::UnboundedSender<Command>) {
        let (sender, commands) = mpsc::unbounded_channel();
        let (event_sender, events) = mpsc::unbounded_channel();
        let this = Self {
            store,
            environments,
            engine,
            jobs_directory,
            max_running,
            ended,
            live: HashMap::new(),
            queue: Queue::default(),
            settled: HashSet::new(),
            uncommitted: HashSet::new(),
            commands,
            to_self: sender.downgrade(),
            events,
            event_sender,
        };
        (this, sender)
    }

    /// Until every handle is gone.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                Some((id, event)) = self.events.recv() => self.hear(id, event).await,
                () = tokio::time::sleep(RETRY), if !self.uncommitted.is_empty() => self.commit_again(),
            }
            self.admit();
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Accept { job, may_start, answer } => {
                let accepted = self.accept(*job, may_start);
                let _ = answer.send(accepted);
            }
            Command::Foresee { spec, answer } => {
                let ancestors = self.running_ancestors(&spec);
                let at_once = self.queue.admits_at_once(class_of(&spec), ancestors, self.active(), self.max_running);
                let _ = answer.send(at_once);
            }
            Command::Started { id, command } => {
                reached(Point::StartMarked);
                self.launch(id, *command);
            }
            Command::StopWritten { id, grace, answer } => {
                reached(Point::StopWritten);
                self.pass_stop_on(id, Some(grace));
                let _ = answer.send(true);
            }
            Command::Recover { jobs } => {
                for left in jobs {
                    self.recover(left).await;
                }
            }
            Command::Stop { id, request, answer } => self.stop(id, request, answer).await,
            Command::Watch { id, answer } => {
                let _ = answer.send(self.live.get(&id).map(|live| live.told.subscribe()));
            }
            Command::Describe { id, answer } => {
                let _ = answer.send(self.live.get(&id).map(|live| Box::new(self.describe(live))));
            }
            Command::EnvironmentsInUse { answer } => {
                let mut in_use: HashMap<String, Vec<JobId>> = HashMap::new();
                for live in self.live.values().filter(|live| !live.job.state.is_finished()) {
                    if let Some(id) = live.job.environment.as_ref().and_then(|used| used.id.clone()) {
                        in_use.entry(id).or_default().push(live.job.id);
                    }
                }
                let _ = answer.send(in_use);
            }
            Command::Count { answer } => {
                let in_state =
                    |wanted: Status| self.live.values().filter(|live| live.job.state.status() == wanted).count();
                let counts = Counts { running: in_state(Status::Running), pending: in_state(Status::Pending) };
                let _ = answer.send(counts);
            }
            Command::Prepared { id, result } => self.start(id, result).await,
            Command::Committed { id, state, committed } => self.note_commit(id, &state, committed),
        }
    }

    /// A job that is recorded takes its place. `None` when it has it already.
    fn accept(&mut self, job: JobDetail, may_start: bool) -> Option<Box<JobDetail>> {
        let id = job.id;
        if self.live.contains_key(&id) {
            return None;
        }
        // Not its command: arguments may be secrets.
        tracing::info!(job = %id, "accepted");
        self.queue.push(id, class_of(&job.spec), self.running_ancestors(&job.spec));
        self.insert(job, may_start);
        reached(Point::SubmitAccepted);
        self.live.get(&id).map(|live| Box::new(self.describe(live)))
    }

    /// How many of the jobs this one was submitted from, and those from, are running: they may be waiting for it, and do
    /// not count when it is asked whether there is room.
    fn running_ancestors(&self, spec: &JobSpec) -> usize {
        // A client could name any parent, in a circle too.
        let mut seen = HashSet::new();
        let mut next = spec.parent;
        while let Some(live) = next.and_then(|parent| self.live.get(&parent)) {
            if live.job.state.run().is_none() || live.job.state.is_finished() || !seen.insert(live.job.id) {
                break;
            }
            next = live.job.spec.parent;
        }
        seen.len()
    }

    fn insert(&mut self, mut job: JobDetail, may_start: bool) {
        let (lengths, lengths_seen) = watch::channel(OutputLengths::default());
        job.message = None;
        // An environment that a job uses is kept, also when an earlier daemon started the job.
        let used = job.environment.as_ref().and_then(|used| used.id.as_deref());
        let lease = used.filter(|_| !job.state.is_finished()).map(|id| self.environments.lease(id));
        let (told, _) = watch::channel(Snapshot { job: Arc::new(job.clone()), handle: None, lengths: lengths_seen });
        self.live.insert(
            job.id,
            Live {
                job,
                stalled: None,
                unanswered: None,
                preparation: None,
                noting: None,
                lease,
                submitter: None,
                lengths,
                may_start,
                told,
            },
        );
    }

    fn describe(&self, live: &Live) -> JobDetail {
        let mut job = live.job.clone();
        job.message = match &job.state {
            JobState::Queued => self.queue.ahead_of(job.id).map(|ahead| {
                format!("waiting for its turn: {ahead} before it, {} of {} running", self.active(), self.max_running)
            }),
            JobState::Preparing => Some("its environment is being prepared".to_owned()),
            JobState::Starting { .. } => Some(live.unanswered.clone().unwrap_or_else(|| "starting".to_owned())),
            JobState::Running { .. } | JobState::Stopping { .. } => {
                let waits = |problem| format!("its output can not be written, and it waits until it can: {problem}");
                live.unanswered.clone().or_else(|| live.stalled.as_ref().map(waits))
            }
            JobState::Finished(_) => None,
        };
        job
    }

    /// Jobs that have left the queue and not finished.
    fn active(&self) -> usize {
        self.live.len() - self.queue.len() - self.settled.len()
    }

    fn admit(&mut self) {
        while let Some(id) = self.queue.admit(self.active(), self.max_running) {
            let Some(live) = self.live.get_mut(&id) else { continue };
            // Not committed: after a restart a job that was being prepared is one that waits.
            if let Ok(state) = transition(live.job.state.clone(), JobEvent::Admitted) {
                live.job.state = state;
                live.told.send_modify(|snapshot| snapshot.job = Arc::new(live.job.clone()));
            }
            reached(Point::PrepareAdmitted);
            let Some(to_self) = self.to_self.upgrade() else { return };
            let (environments, spec) = (self.environments.clone(), live.job.spec.clone());
            let run_directory = self.jobs_directory.join(id.to_string());
            let log = Arc::new(PreparationLog::of_job(&run_directory, live.lengths.clone()));
            let preparing = tokio::spawn(async move {
                let result = prepare(&environments, id, spec, run_directory, log).await;
                let _ = to_self.send(Command::Prepared { id, result });
            });
            live.preparation = Some(AbortOnDrop(preparing.abort_handle()));
        }
    }

    /// Commits, then launches.
    async fn start(&mut self, id: JobId, result: Result<ReadyToStart, EnvironmentError>) {
        match result {
            Err(EnvironmentError::VariablesGone) if self.has_started_elsewhere(id).await => {
                self.adopt_started(id, None)
            }
            Err(error) => self.apply(id, JobEvent::PreparationFailed(error.to_string())).await,
            Ok(ReadyToStart { prepared, submitter }) => {
                let Prepared { command, used, lease } = *prepared;
                let Some(live) = self.live.get_mut(&id) else { return };
                live.submitter = submitter;
                live.preparation = None;
                live.job.environment = Some(used.clone());
                live.lease = lease;
                reached(Point::PrepareDone);
                self.apply(id, JobEvent::Prepared).await;
                // It may have been stopped while it was being prepared.
                let unfinished = |live: &&mut Live| !live.job.state.is_finished();
                let Some(live) = self.live.get_mut(&id).filter(unfinished) else { return };
                live.noting = Some(note_resolved(self.jobs_directory.join(id.to_string()), used));
                reached(Point::StartCommitted);
                if live.may_start {
                    self.launch(id, command);
                    return;
                }
                // It had to wait, and is started only once it is on disk that it does so no longer. Should that fail, it
                // starts all the same: only a loss of power could make it start again.
                let marked = self.store.mark_started(id);
                let Some(to_self) = self.to_self.upgrade() else { return };
                tokio::spawn(async move {
                    if let Err(error) = marked.await {
                        tracing::error!(job = %id, %error, "that the job starts could not be written down");
                    }
                    let _ = to_self.send(Command::Started { id, command: Box::new(command) });
                });
            }
        }
    }

    fn launch(&mut self, id: JobId, command: environment::Command) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.may_start = true;
        if !matches!(live.job.state, JobState::Starting { .. }) {
            return;
        }
        let environment_lock = live.lease.as_ref().map(|lease| OsText::from(lease.lock()));
        let submitter = live.submitter.take();
        let order = Order { id, spec: Arc::new(live.job.spec.clone()), command, submitter, environment_lock };
        let lengths = live.lengths.clone();
        let handle = self.engine.launch(order, self.events_of(id, lengths));
        self.attach(id, handle);
        // A stop that came while the start was being written down.
        self.pass_stop_on(id, None);
    }

    fn events_of(&self, id: JobId, lengths: watch::Sender<OutputLengths>) -> Events {
        Events { id, sender: self.event_sender.clone(), lengths }
    }

    fn attach(&mut self, id: JobId, handle: RunHandle) {
        if let Some(live) = self.live.get_mut(&id) {
            live.told.send_modify(|snapshot| snapshot.handle = Some(handle));
        }
    }

    async fn hear(&mut self, id: JobId, event: RunEvent) {
        let event = match event {
            RunEvent::Started(run) => {
                reached(Point::StartHeard);
                JobEvent::Started(run)
            }
            RunEvent::SpawnFailed(why) => JobEvent::SpawnFailed(why),
            RunEvent::Ended(record) => {
                reached(Point::ExitHeard);
                JobEvent::Ended(record)
            }
            RunEvent::Lost => JobEvent::Lost,
            RunEvent::Stalled(problem) => {
                if let Some(live) = self.live.get_mut(&id) {
                    live.stalled = problem;
                }
                return;
            }
            RunEvent::Unanswered(problem) => {
                if let Some(live) = self.live.get_mut(&id) {
                    live.unanswered = problem;
                }
                return;
            }
        };
        let started = matches!(event, JobEvent::Started(_));
        self.apply(id, event).await;
        if started {
            // A stop that came before there was anybody to tell, or before the last daemon died.
            self.pass_stop_on(id, None);
        }
    }

    /// The only place where a state changes: decide, make durable, tell.
    async fn apply(&mut self, id: JobId, event: JobEvent) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let before = live.job.state.clone();
        let state = match transition(before.clone(), event) {
            Ok(state) => state,
            Err(refused) => {
                tracing::warn!(job = %id, %refused, "ignored");
                return;
            }
        };
        if state == before {
            return;
        }
        live.job.state = state;
        if let JobState::Finished(outcome) = live.job.state.clone() {
            if let Some(noting) = live.noting.take() {
                let _ = noting.await;
            }
            self.queue.remove(id);
            self.settle(id, &outcome).await;
        }
        self.commit(id);
    }

    /// What a job that ended without a supervisor's record leaves behind: no secret, and how it ended.
    async fn settle(&self, id: JobId, outcome: &Outcome) {
        tracing::info!(job = %id, verdict = ?outcome.verdict(), "finished");
        if matches!(outcome, Outcome::Ended(_)) {
            return;
        }
        let (directory, outcome) = (self.jobs_directory.join(id.to_string()), outcome.clone());
        self.engine.clear(id);
        let settle = move || {
            // In this order: what is taken away without a reason looks lost to the next daemon. Both, though one fails.
            let written = run_directory::write_outcome(&directory, &outcome);
            let revoked = run_directory::revoke(&directory);
            written.and(revoked.map(drop))
        };
        if let Err(error) = blocking(settle).await {
            tracing::error!(job = %id, %error, "the outcome could not be written into the run directory");
        }
    }

    /// Queues the commit, and tells those who watch. The run directory is the truth and the index follows in order, so
    /// nobody waits for it; whoever asks the index from now on is answered after it.
    fn commit(&mut self, id: JobId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let finished = live.job.state.is_finished();
        if finished {
            self.settled.insert(id);
        }
        let committed = self.store.update(live.job.clone());
        live.told.send_modify(|snapshot| {
            snapshot.job = Arc::new(live.job.clone());
            if finished {
                snapshot.handle = None;
            }
        });
        if finished {
            live.preparation = None;
            live.lease = None;
            if live.job.state.run().is_some() {
                keep_progress(self.store.clone(), id, self.jobs_directory.join(id.to_string()));
            }
            self.ended.notify_one();
            reached(Point::ExitCommitted);
        }
        let Some(to_self) = self.to_self.upgrade() else { return };
        let state = live.job.state.clone();
        tokio::spawn(async move {
            let committed = committed.await;
            let _ = to_self.send(Command::Committed { id, state: Box::new(state), committed });
        });
    }

    fn note_commit(&mut self, id: JobId, state: &JobState, committed: Result<(), StoreError>) {
        // A later state has its own commit under way.
        if self.live.get(&id).is_none_or(|live| live.job.state != *state) {
            return;
        }
        match committed {
            Ok(()) => {
                self.uncommitted.remove(&id);
                if state.is_finished() {
                    reached(Point::ExitNoted);
                    self.settled.remove(&id);
                    self.live.remove(&id);
                }
            }
            Err(error) => {
                tracing::error!(job = %id, %error, "the state could not be committed; it will be tried again");
                self.uncommitted.insert(id);
            }
        }
    }

    fn commit_again(&mut self) {
        for id in self.uncommitted.clone() {
            self.commit(id);
        }
    }
}

/// For the day the index has to be rebuilt: the job does not wait for it.
fn note_resolved(run_directory: PathBuf, used: ResolvedEnvironment) -> Done<()> {
    spawn(move || {
        if let Err(error) = run_directory::write_resolved(&run_directory, &used) {
            let directory = run_directory.display();
            tracing::error!(%directory, %error, "the environment could not be noted in the run directory");
        }
    })
}

/// So that a listing need not read its output, and it outlives it. Nobody waits for this; whoever is quicker looks himself.
fn keep_progress(store: Store, id: JobId, run_directory: PathBuf) {
    tokio::spawn(async move {
        if let Ok(progress) = blocking(move || Ok(output::progress::of_job(&run_directory, true))).await
            && let Err(error) = store.set_progress(id, progress).await
        {
            tracing::error!(job = %id, %error, "its last progress could not be kept");
        }
    });
}

fn class_of(spec: &JobSpec) -> Class {
    if spec.waited_for { Class::WaitedFor } else { Class::Detached }
}

async fn prepare(
    environments: &Environments,
    id: JobId,
    spec: JobSpec,
    run_directory: PathBuf,
    log: Arc<PreparationLog>,
) -> Result<ReadyToStart, EnvironmentError> {
    let directory = run_directory.clone();
    let to_start = blocking(move || run_directory::to_start(&directory));
    let to_start = to_start.await.map_err(EnvironmentError::Variables)?.ok_or(EnvironmentError::VariablesGone)?;
    let ToStart { variables, submitter } = to_start;
    reached(Point::PrepareBegun);
    let prepared = environments.prepare(Preparation { id, spec, variables, run_directory, log }).await?;
    Ok(ReadyToStart { prepared: Box::new(prepared), submitter })
}

/// Ends a task when it is dropped.
#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
