//! An engine and a preparer that do what a test says, when it says so.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use pyexec_proto::environment::ResolvedEnvironment;
use pyexec_proto::exit::ExitStatus;
use pyexec_proto::job::{JobDetail, Variables};
use pyexec_proto::state::{ExitRecord, Run, StopReason};
use pyexec_proto::{Error, JobId, JobSpec, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::engine::{Engine, Events, Evidence, Order, RunEvent, RunHandle, RunRequest};
use crate::environment::{self, EnvironmentError, Lease, Preparation, Prepared};
use crate::jobs::preparer::Preparer;
use pyexec_run_directory::directory as run_directory;
use pyexec_run_directory::record::{ReadError, WhatEnded};

/// Outlives a daemon, as supervisors do.
#[derive(Clone, Debug)]
pub(super) struct FakeEngine {
    jobs: PathBuf,
    runs: Arc<Mutex<HashMap<JobId, FakeRun>>>,
}

/// What has become of one job outside of the daemon.
#[derive(Debug, Default)]
pub(super) struct FakeRun {
    /// How often a supervisor was permitted to start it.
    pub(super) starts: u32,
    pub(super) adoptions: u32,
    /// `None` while nobody has begun to run it.
    state: Option<RunState>,
    /// To the daemon of now.
    link: Option<(Events, mpsc::UnboundedReceiver<RunRequest>)>,
    pub(super) survivors_ended: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum RunState {
    Alive { said_so: bool },
    Over(Box<RunEvent>),
}

pub(super) fn run() -> Run {
    Run::of_process(7, Timestamp(1))
}

pub(super) fn record(stopped: Option<StopReason>) -> ExitRecord {
    ExitRecord {
        run: run(),
        exit: ExitStatus::Success,
        stopped,
        usage: Default::default(),
        ended_at: Timestamp(2),
        elapsed_us: 1,
        output: Default::default(),
        benchmark: None,
    }
}

pub(super) fn exits(stopped: Option<StopReason>) -> RunEvent {
    RunEvent::Ended(WhatEnded::Run(record(stopped)))
}

impl FakeEngine {
    pub(super) fn new(jobs: &Path) -> Self {
        Self { jobs: jobs.to_owned(), runs: Arc::default() }
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<JobId, FakeRun>> {
        self.runs.lock().expect("nobody panics with it")
    }

    pub(super) fn of<T>(&self, id: JobId, look: impl FnOnce(&mut FakeRun) -> T) -> T {
        look(self.runs().entry(id).or_default())
    }

    /// A supervisor takes the permission to start the job, if it is there. Who looks sees both or neither: a supervisor says
    /// who it is before it takes the permission.
    pub(super) fn supervisor_begins(&self, id: JobId) -> bool {
        self.of(id, |run| {
            let permitted = run_directory::revoke(&self.jobs.join(id.to_string())).expect("can be looked at");
            if permitted {
                run.starts += 1;
                run.state = Some(RunState::Alive { said_so: false });
            }
            permitted
        })
    }

    pub(super) fn is_alive(&self, id: JobId) -> bool {
        self.of(id, |run| matches!(run.state, Some(RunState::Alive { .. })))
    }

    /// The process of the job runs. Nothing happens where there is none to start.
    pub(super) fn starts(&self, id: JobId) {
        self.of(id, |of| {
            if let Some(RunState::Alive { said_so }) = &mut of.state {
                *said_so = true;
                of.tell(RunEvent::Started(run()));
            }
        });
    }

    /// The job ends so. Nothing happens where it does not run.
    pub(super) fn ends(&self, id: JobId, event: &RunEvent) {
        self.of(id, |run| {
            if let Some(RunState::Alive { said_so }) = run.state {
                // What has run cannot fail to start.
                let event = match event {
                    RunEvent::Ended(WhatEnded::SpawnFailed(_)) if said_so => exits(None),
                    RunEvent::Started(_) | RunEvent::Ended(_) | RunEvent::Lost => event.clone(),
                };
                run.state = Some(RunState::Over(Box::new(event.clone())));
                run.tell(event);
            }
        });
    }

    /// How it ended, outside of the daemon.
    pub(super) fn end_of(&self, id: JobId) -> Option<RunEvent> {
        self.of(id, |run| match &run.state {
            Some(RunState::Over(event)) => Some(RunEvent::clone(event)),
            Some(RunState::Alive { .. }) | None => None,
        })
    }

    /// What it has been asked since this was last looked at.
    pub(super) fn stops(&self, id: JobId) -> Vec<(StopReason, Duration)> {
        self.of(id, |run| {
            let Some((_, requests)) = &mut run.link else { return vec![] };
            let mut stops = vec![];
            while let Ok(request) = requests.try_recv() {
                if let RunRequest::Stop { reason, grace } = request {
                    stops.push((reason, grace));
                }
            }
            stops
        })
    }

    fn link(&self, events: Events) -> RunHandle {
        let (sender, requests) = mpsc::unbounded_channel();
        self.of(events.id, |run| run.link = Some((events, requests)));
        RunHandle::new(sender)
    }
}

impl FakeRun {
    /// What a link says when it has found out; `nobody`: when there is nobody to find.
    fn tell_state(&self, nobody: RunEvent) {
        match self.state.clone() {
            Some(RunState::Alive { said_so: true }) => self.tell(RunEvent::Started(run())),
            Some(RunState::Alive { said_so: false }) => {}
            Some(RunState::Over(event)) => self.tell(*event),
            None => self.tell(nobody),
        }
    }

    fn tell(&self, event: RunEvent) {
        if let Some((events, _)) = &self.link {
            events.send(event);
        }
    }
}

impl Engine for FakeEngine {
    fn check(&self, _: &JobSpec) -> Result<(), Error> {
        Ok(())
    }

    fn examine(&self, id: JobId) -> Result<Evidence, ReadError> {
        Ok(self.of(id, |run| match &run.state {
            None => Evidence::NeverStarted,
            Some(RunState::Alive { .. }) => Evidence::Alive,
            Some(RunState::Over(event)) => match &**event {
                RunEvent::Ended(what) => Evidence::Ended(Box::new(what.clone())),
                RunEvent::Lost | RunEvent::Started(_) => Evidence::Gone,
            },
        }))
    }

    fn launch(&self, order: Order, events: Events) -> RunHandle {
        let handle = self.link(events);
        if !self.supervisor_begins(order.id) {
            // It leaves; the link looks who has been quicker.
            let why = "its environment had been taken away".to_owned();
            self.of(order.id, |run| run.tell_state(RunEvent::Ended(WhatEnded::SpawnFailed(why))));
        }
        handle
    }

    fn adopt(&self, job: &JobDetail, events: Events) -> RunHandle {
        let handle = self.link(events);
        self.of(job.id, |run| {
            run.adoptions += 1;
            run.tell_state(RunEvent::Lost);
        });
        handle
    }

    fn clear(&self, _: JobId) {}

    fn end_survivors(&self, id: JobId) {
        self.of(id, |run| run.survivors_ended += 1);
    }
}

type Answer = oneshot::Sender<Result<(), EnvironmentError>>;

/// Prepares nothing until it is told to.
#[derive(Clone, Debug, Default)]
pub(super) struct FakePreparer {
    waiting: Arc<Mutex<HashMap<JobId, Answer>>>,
}

impl FakePreparer {
    /// Whether somebody waits for this environment.
    pub(super) fn is_asked_for(&self, id: JobId) -> bool {
        let waiting = self.waiting.lock().expect("nobody panics with it");
        waiting.get(&id).is_some_and(|answer| !answer.is_closed())
    }

    /// `false` when nobody waits for it.
    pub(super) fn answer(&self, id: JobId, result: Result<(), EnvironmentError>) -> bool {
        let asked = self.waiting.lock().expect("nobody panics with it").remove(&id);
        asked.is_some_and(|answer| answer.send(result).is_ok())
    }
}

impl Preparer for FakePreparer {
    fn prepare(&self, preparation: Preparation) -> BoxFuture<'_, Result<Prepared, EnvironmentError>> {
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().expect("nobody panics with it").insert(preparation.id, answer);
        async move {
            answered.await.unwrap_or(Err(EnvironmentError::NoPython))?;
            let command = environment::Command {
                interpreter: "/usr/bin/python3".into(),
                flags: vec![],
                target: environment::Target::Stdin,
                args: vec![],
                environment: Variables::default(),
                leader_forwards: false,
            };
            Ok(Prepared { command, used: ResolvedEnvironment::of_python("3.13.1".to_owned()), lease: None })
        }
        .boxed()
    }

    fn lease(&self, _: &str) -> Option<Lease> {
        None
    }
}
