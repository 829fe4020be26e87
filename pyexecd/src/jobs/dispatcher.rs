//! The one task that changes the state of a job.
//!
//! It decides with pure functions ([`super::state`], [`super::admission`], [`super::recovery`]) and acts here: commits,
//! then starts, stops and tells. What takes time (an environment, a supervisor, the disk) happens in tasks of its own, and
//! comes back as a message; meanwhile the job's phase says what it waits for. The one exception is recovery: nothing
//! is answered before it is known what an earlier daemon left.
//!
//! It names no engine, and no way of preparing an environment: those are behind [`Engine`] and [`Preparer`].

mod adopting;
mod finishing;
mod live;
mod starting;
mod stopping;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyexec_proto::job::{JobDetail, Watching};
use pyexec_proto::output::OutputLengths;
use pyexec_proto::state::Status;
use pyexec_proto::{JobId, JobState};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::admission::{Class, Queue};
use super::changes::ChangeLog;
use super::command::{Command, Counts};
use super::preparer::Preparer;
use super::state::JobEvent;
use crate::engine::{Engine, Events, Report, RunEvent};
use crate::fault::{Point, reached};
use crate::store::Store;
use live::{Live, MayStart, Phase, Stop};

/// How long to wait before a commit that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How many jobs' ends are written into their run directories at once: a thousand that are cancelled do not take a thread
/// each.
const WRITERS: usize = 8;

#[derive(Debug)]
pub struct Dispatcher {
    store: Store,
    preparer: Arc<dyn Preparer>,
    engine: Arc<dyn Engine>,
    jobs_directory: PathBuf,
    max_running: usize,
    /// Told when a job has ended.
    ended: Arc<Notify>,
    changes: ChangeLog,
    live: HashMap<JobId, Live>,
    queue: Queue,
    /// Their state could not be committed; tried again until it can.
    uncommitted: HashSet<JobId>,
    /// When that is tried next.
    retry_at: Option<Instant>,
    writers: Arc<Semaphore>,
    commands: mpsc::UnboundedReceiver<Command>,
    to_self: mpsc::WeakUnboundedSender<Command>,
    reports: mpsc::UnboundedReceiver<(JobId, Report)>,
    report_sender: mpsc::UnboundedSender<(JobId, Report)>,
}

impl Dispatcher {
    pub fn new(
        store: Store,
        preparer: Arc<dyn Preparer>,
        engine: Arc<dyn Engine>,
        jobs_directory: PathBuf,
        max_running: usize,
        ended: Arc<Notify>,
        changes: ChangeLog,
    ) -> (Self, mpsc::UnboundedSender<Command>) {
        let (sender, commands) = mpsc::unbounded_channel();
        let (report_sender, reports) = mpsc::unbounded_channel();
        let this = Self {
            store,
            preparer,
            engine,
            jobs_directory,
            max_running,
            ended,
            changes,
            live: HashMap::new(),
            queue: Queue::default(),
            uncommitted: HashSet::new(),
            retry_at: None,
            writers: Arc::new(Semaphore::new(WRITERS)),
            commands,
            to_self: sender.downgrade(),
            reports,
            report_sender,
        };
        (this, sender)
    }

    /// Until every handle is gone.
    pub async fn run(mut self) {
        loop {
            let retry_at = self.retry_at;
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.handle_command(command).await,
                    None => return,
                },
                Some((id, report)) = self.reports.recv() => self.handle_report(id, report),
                () = until(retry_at) => self.commit_again(),
            }
            self.admit();
        }
    }

    async fn handle_command(&mut self, command: Command) {
        match command {
            Command::Accept { job, may_start, answer } => {
                let accepted = self.accept(*job, may_start);
                let _ = answer.send(accepted);
            }
            Command::Foresee { parent, watching, answer } => {
                let ancestors = self.running_ancestors(parent);
                let _ = answer.send(self.queue.admits_at_once(class_of(watching), ancestors, self.max_running));
            }
            Command::Recover { jobs } => {
                for left in jobs {
                    self.recover(left).await;
                }
            }
            Command::Stop { id, request, answer } => self.stop(id, Stop { request, answer }),
            Command::Watch { id, answer } => {
                let _ = answer.send(self.live.get(&id).map(|live| live.told.subscribe()));
            }
            Command::Describe { id, answer } => {
                let _ = answer.send(self.live.get(&id).map(|live| Box::new(self.describe(live))));
            }
            Command::Contains { id, answer } => {
                let _ = answer.send(self.live.contains_key(&id));
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
            Command::Prepared { id, result } => self.note_prepared(id, result),
            Command::StartMarked { id } => {
                reached(Point::StartMarked);
                self.launch(id);
            }
            Command::Withdrawn { id, is_started_elsewhere } => self.note_withdrawn(id, is_started_elsewhere),
            Command::StopWritten { id, grace, answer } => {
                reached(Point::StopWritten);
                self.pass_stop_on(id, Some(grace));
                let _ = answer.send(true);
            }
            Command::Settled { id } => self.note_settled(id),
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
        self.wait_in_line(job, if may_start { MayStart::Recorded } else { MayStart::Unrecorded });
        reached(Point::SubmitAccepted);
        self.live.get(&id).map(|live| Box::new(self.describe(live)))
    }

    fn wait_in_line(&mut self, job: JobDetail, may_start: MayStart) {
        self.queue.push(job.id, class_of(job.watching), self.running_ancestors(job.spec.parent));
        let (lengths, _) = watch::channel(OutputLengths::default());
        self.changes.note(job.id);
        self.live.insert(job.id, Live::new(job, Phase::Waiting { may_start }, lengths));
    }

    /// How many of the jobs this one was submitted from, and those from, are running: they may be waiting for it, and do
    /// not count when it is asked whether there is room.
    fn running_ancestors(&self, parent: Option<JobId>) -> usize {
        // A client could name any parent, in a circle too.
        let mut seen = HashSet::new();
        let mut next = parent;
        while let Some(live) = next.and_then(|parent| self.live.get(&parent)) {
            if live.job.state.run().is_none() || live.has_ended() || !seen.insert(live.job.id) {
                break;
            }
            next = live.job.spec.parent;
        }
        seen.len()
    }

    fn describe(&self, live: &Live) -> JobDetail {
        let mut job = live.job.clone();
        job.message = match &live.phase {
            Phase::Waiting { .. } => self.queue.ahead_of(job.id).map(|ahead| {
                let running = self.queue.active();
                format!("waiting for its turn: {ahead} before it, {running} of {} running", self.max_running)
            }),
            Phase::Preparing { .. } => Some("its environment is being prepared".to_owned()),
            Phase::Withdrawing { .. } => Some("it is being stopped before it starts".to_owned()),
            Phase::Marking(_) => Some("starting".to_owned()),
            Phase::Launched(launched) if matches!(job.state, JobState::Starting { .. }) => {
                Some(launched.unanswered.clone().unwrap_or_else(|| "starting".to_owned()))
            }
            Phase::Launched(launched) => launched.problem(),
            Phase::Settling(_) | Phase::Finished => None,
        };
        job
    }

    fn events_of(&self, id: JobId, lengths: watch::Sender<OutputLengths>) -> Events {
        Events { id, sender: self.report_sender.clone(), lengths }
    }

    fn handle_report(&mut self, id: JobId, report: Report) {
        match report {
            Report::Event(event) => {
                match &event {
                    RunEvent::Started(_) => reached(Point::StartHeard),
                    RunEvent::Ended(_) => reached(Point::ExitHeard),
                    RunEvent::Lost => {}
                }
                let started = matches!(event, RunEvent::Started(_));
                self.apply(id, JobEvent::Run(event));
                if started {
                    // A stop that came before there was anybody to tell, or before the last daemon died.
                    self.pass_stop_on(id, None);
                }
            }
            Report::Stalled(problem) => {
                if let Some(launched) = self.live.get_mut(&id).and_then(Live::launched) {
                    launched.stalled = problem;
                }
            }
            Report::Unanswered(problem) => {
                if let Some(launched) = self.live.get_mut(&id).and_then(Live::launched) {
                    launched.unanswered = problem;
                }
            }
        }
    }

    /// Sends itself what comes of `task`.
    fn in_background(&self, task: impl Future<Output = Command> + Send + 'static) {
        let Some(to_self) = self.to_self.upgrade() else { return };
        tokio::spawn(async move {
            let _ = to_self.send(task.await);
        });
    }
}

fn class_of(watching: Watching) -> Class {
    if watching.waited_for { Class::WaitedFor } else { Class::Detached }
}

/// Returns at that moment; without one, never.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
