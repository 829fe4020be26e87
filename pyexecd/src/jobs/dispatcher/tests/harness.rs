//! A daemon that is nothing but a dispatcher, and what a client would do with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyexec_proto::environment::Interpreter;
use pyexec_proto::job::{JobDetail, JobSource, JobSpec, Submission, Variables, Watching};
use pyexec_proto::request::StopRequest;
use pyexec_proto::state::{JobState, Outcome};
use pyexec_proto::{JobId, Timestamp};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::fake::{FakeEngine, FakePreparer};
use crate::jobs::changes::ChangeLog;
use crate::jobs::command::{Command, Counts, LeftUnfinished};
use crate::jobs::dispatcher::Dispatcher;
use crate::store::Store;
use crate::store::in_memory::Orders;
use pyexec_run_directory::directory as run_directory;

/// How long a fact may take to become true before a test fails. Nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Harness {
    directory: tempfile::TempDir,
    max_running: usize,
    pub(super) store: Store,
    pub(super) index: Orders,
    pub(super) engine: FakeEngine,
    pub(super) preparer: FakePreparer,
    pub(super) changes: ChangeLog,
    commands: mpsc::UnboundedSender<Command>,
    running: JoinHandle<()>,
}

impl Harness {
    pub(super) fn new(max_running: usize) -> Self {
        // In memory where that is possible: what is written here durably is not meant to be.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        let (store, index) = Store::in_memory();
        let (engine, preparer) = (FakeEngine::new(directory.path()), FakePreparer::default());
        let changes = ChangeLog::default();
        let (commands, running) = start(&store, &preparer, &engine, directory.path(), max_running, &changes);
        Self { directory, max_running, store, index, engine, preparer, changes, commands, running }
    }

    pub(super) fn run_directory(&self, id: JobId) -> PathBuf {
        self.directory.path().join(id.to_string())
    }

    pub(super) fn send<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        assert!(self.commands.send(command(answer)).is_ok(), "there is no dispatcher");
        answered
    }

    pub(super) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> T {
        self.send(command).await.expect("is answered")
    }

    /// A run directory, and a row in the index, as a submission makes them. Not accepted yet.
    pub(super) async fn record(&self, spec: JobSpec) -> (JobDetail, bool) {
        let job = self.make(spec);
        let (parent, watching) = (job.spec.parent, job.watching);
        let may_start = self.ask(|answer| Command::Foresee { parent, watching, answer }).await;
        assert!(self.store.insert(job.clone(), may_start).await.expect("is recorded"));
        (job, may_start)
    }

    /// As [`Harness::record`], where the index cannot be written: as if it had been recorded before that.
    pub(super) fn recorded_elsewhere(&self, spec: JobSpec) -> (JobDetail, bool) {
        (self.make(spec), true)
    }

    fn make(&self, spec: JobSpec) -> JobDetail {
        let submission = Submission {
            id: JobId::mint(),
            spec,
            watching: Watching::default(),
            environment: Variables::default(),
            overrides: Variables::default(),
            stdin: vec![],
            env_file: None,
            autosave: None,
        };
        run_directory::create(self.directory.path(), &submission, None, Timestamp(5), |_| ()).expect("can be made");
        JobDetail::submitted(submission.id, Timestamp(5), submission.spec)
    }

    pub(super) async fn accept(&self, job: JobDetail, may_start: bool) -> JobId {
        let id = job.id;
        let accepted = self.ask(|answer| Command::Accept { job: Box::new(job), may_start, answer }).await;
        assert!(accepted.is_some(), "{id} was known");
        id
    }

    pub(super) async fn submit(&self) -> JobId {
        let (job, may_start) = self.record(spec()).await;
        self.accept(job, may_start).await
    }

    pub(super) fn stop(&self, id: JobId, now: bool) -> oneshot::Receiver<bool> {
        self.send(|answer| Command::Stop { id, request: StopRequest { now, grace_ms: Some(9) }, answer })
    }

    pub(super) async fn counts(&self) -> Counts {
        self.ask(|answer| Command::Count { answer }).await
    }

    /// As `show` has it.
    pub(super) async fn state(&self, id: JobId) -> JobState {
        match self.ask(|answer| Command::Describe { id, answer }).await {
            Some(job) => job.state,
            None => self.store.get(id).await.expect("can be read").expect("is in the index").0.state,
        }
    }

    /// Waits for a fact.
    pub(super) async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "never: {what}");
            // The clock stands still but for this, so that the dispatcher's own timers come to their turn.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) async fn until_state(&self, id: JobId, wanted: impl Fn(&JobState) -> bool) -> JobState {
        self.until("the job gets into the state", async || Some(self.state(id).await).filter(|state| wanted(state)))
            .await
    }

    pub(super) async fn outcome(&self, id: JobId) -> Outcome {
        let state = self.until_state(id, JobState::is_finished).await;
        state.outcome().expect("has finished").clone()
    }

    /// The dispatcher has forgotten the job: its end is in the index.
    pub(super) async fn until_forgotten(&self, id: JobId) -> Outcome {
        self.until("the index has the job's end", async || {
            let live = self.ask(|answer| Command::Contains { id, answer }).await;
            (!live).then_some(())
        })
        .await;
        self.outcome(id).await
    }

    pub(super) async fn until_preparing(&self, id: JobId) {
        self.until("its environment is asked for", async || self.preparer.is_asked_for(id).then_some(())).await;
    }

    /// From the queue to an engine that has it.
    pub(super) async fn launch(&self, id: JobId) {
        self.until_preparing(id).await;
        assert!(self.preparer.answer(id, Ok(())));
        self.until("the engine has it", async || self.engine.is_alive(id).then_some(())).await;
    }

    pub(super) async fn start(&self, id: JobId) {
        self.launch(id).await;
        self.engine.starts(id);
        self.until_state(id, |state| matches!(state, JobState::Running { .. } | JobState::Stopping { .. })).await;
    }

    /// The daemon is killed, and another takes up what it left.
    pub(super) async fn restart(&mut self) {
        self.running.abort();
        let _ = (&mut self.running).await;
        let weak = self.commands.downgrade();
        let (nobody, _) = mpsc::unbounded_channel();
        self.commands = nobody;
        // What is on its way to the disk gets there. That it did, nobody hears.
        self.until("the last daemon has let go", async || weak.upgrade().is_none().then_some(())).await;
        self.store.barrier().await.expect("works");
        let unfinished = self.store.unfinished().await.expect("can be read");
        (self.commands, self.running) =
            start(&self.store, &self.preparer, &self.engine, self.directory.path(), self.max_running, &self.changes);
        let left = |(job, _)| LeftUnfinished { job, may_have_run: false, is_found_on_disk: false };
        let jobs = unfinished.into_iter().map(left).collect();
        assert!(self.commands.send(Command::Recover { jobs }).is_ok(), "there is no dispatcher");
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        // Its thread is to end.
        self.index.release();
    }
}

fn start(
    store: &Store,
    preparer: &FakePreparer,
    engine: &FakeEngine,
    jobs: &Path,
    max_running: usize,
    changes: &ChangeLog,
) -> (mpsc::UnboundedSender<Command>, JoinHandle<()>) {
    let (preparer, engine) = (Arc::new(preparer.clone()), Arc::new(engine.clone()));
    let ended = Arc::new(Notify::new());
    let (dispatcher, commands) =
        Dispatcher::new(store.clone(), preparer, engine, jobs.to_owned(), max_running, ended, changes.clone());
    (commands, tokio::spawn(dispatcher.run()))
}

pub(super) fn spec() -> JobSpec {
    JobSpec::new(JobSource::Code { code: "pass".into() }, "/", Interpreter::System)
}
