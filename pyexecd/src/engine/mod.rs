//! Where jobs run. The dispatcher knows no more of it than this.

pub mod local;
pub mod scopes;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use pyexec_proto::error::NoInput;
use pyexec_proto::job::{JobDetail, Watching};
use pyexec_proto::output::OutputLengths;
use pyexec_proto::request::InputTaken;
use pyexec_proto::state::{Run, StopReason};
use pyexec_proto::world::Submitter;
use pyexec_proto::{Error, JobId, JobSpec, OsText};
use tokio::sync::{mpsc, oneshot, watch};

use crate::environment::Command;
use pyexec_run_directory::record::{ReadError, WhatEnded};

/// Starts jobs, and finds those that an earlier daemon started.
///
/// # An engine fills the run directory
///
/// Whatever a job prints, leaves as artifacts and reports as progress, and how it ended, an engine writes into the job's run
/// directory on this machine, in the formats of a supervisor: segments of output, `artifacts/`, `exit.json`. Output and
/// artifacts are therefore read in one way wherever a job runs; reading is no part of this trait. An engine that runs jobs
/// elsewhere copies continuously.
pub trait Engine: Debug + Send + Sync {
    /// Refuses a job that this engine could not run as its specification says. Called before the job is accepted; it may
    /// look at this machine, and waits for nothing.
    ///
    /// # Errors
    /// What a client is told.
    fn check(&self, spec: &JobSpec) -> Result<(), Error>;

    /// What is left of a job that may have been started, by an earlier daemon for instance. It reads files: to be called
    /// off the runtime's thread.
    ///
    /// # Errors
    /// When the run directory cannot be looked at.
    fn examine(&self, id: JobId) -> Result<Evidence, ReadError>;

    /// Starts a job. Never blocks. What becomes of the job is said through `events`, in the end by exactly one of
    /// [`RunEvent::Ended`] and [`RunEvent::Lost`].
    fn launch(&self, order: Order, events: Events) -> RunHandle;

    /// Takes up a job whose supervisor may still be there. It goes on as after [`Engine::launch`].
    fn adopt(&self, job: &JobDetail, events: Events) -> RunHandle;

    /// Takes away what a supervisor may have left that was killed, now that its job has finished. Never blocks.
    fn clear(&self, id: JobId);

    /// Ends what a job has left running whose supervisor is gone. It blocks until nothing is left: to be called off the
    /// runtime's thread.
    fn end_survivors(&self, id: JobId);
}

/// What is left of a job that may have been started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// There is a record of its end.
    Ended(Box<WhatEnded>),
    /// It is being run, or is about to be: [`Engine::adopt`] tells which.
    Alive,
    /// It was started, nobody runs it any more, and there is no record.
    Gone,
    /// Nobody has begun to run it.
    NeverStarted,
}

/// A job that is to start now.
#[derive(Debug)]
pub struct Order {
    pub id: JobId,
    pub spec: Arc<JobSpec>,
    pub watching: Watching,
    pub command: Command,
    /// Who submitted it; of jobs of before this was kept, nobody knows.
    pub submitter: Option<Submitter>,
    /// The lock of the environment that it runs in, to be held for as long as the job runs.
    pub environment_lock: Option<OsText>,
}

/// What happens to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEvent {
    /// Its process runs. Said again by every supervisor that is found after a restart, and of a later run of a benchmark.
    Started(Run),
    Ended(WhatEnded),
    /// Its supervisor is gone, and there is no record.
    Lost,
}

/// What an engine says of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    Event(RunEvent),
    /// Its output cannot be written, and it waits; `None` once it can be again.
    Stalled(Option<String>),
    /// Its supervisor does not answer, and why; `None` once it does again.
    Unanswered(Option<String>),
}

impl From<RunEvent> for Report {
    fn from(event: RunEvent) -> Self {
        Self::Event(event)
    }
}

/// Where it says it.
#[derive(Clone, Debug)]
pub struct Events {
    pub id: JobId,
    pub sender: mpsc::UnboundedSender<(JobId, Report)>,
    /// Updated when there is more output, after [`RunHandle::watch_output`].
    pub lengths: watch::Sender<OutputLengths>,
}

impl Events {
    pub fn send(&self, report: impl Into<Report>) {
        // Without a dispatcher the daemon is on its way out, and the next one reads the record.
        let _ = self.sender.send((self.id, report.into()));
    }
}

/// Speaks to a run.
#[derive(Clone, Debug)]
pub struct RunHandle {
    requests: mpsc::UnboundedSender<RunRequest>,
}

#[derive(Debug)]
pub enum RunRequest {
    Stop {
        reason: StopReason,
        grace: Duration,
    },
    Input {
        input: pyexec_proto::request::Input,
        answer: oneshot::Sender<Result<InputTaken, NoInput>>,
    },
    /// Update the lengths as soon as there is more output than known.
    WatchOutput,
    /// This reader has still to read what lies behind; `None`: it has gone.
    Hold {
        reader: u64,
        from: Option<OutputLengths>,
    },
}

impl RunHandle {
    pub fn new(requests: mpsc::UnboundedSender<RunRequest>) -> Self {
        Self { requests }
    }

    pub fn stop(&self, reason: StopReason, grace: Duration) {
        let _ = self.requests.send(RunRequest::Stop { reason, grace });
    }

    pub async fn input(&self, input: pyexec_proto::request::Input) -> Result<InputTaken, NoInput> {
        let (answer, answered) = oneshot::channel();
        let _ = self.requests.send(RunRequest::Input { input, answer });
        answered.await.unwrap_or(Err(NoInput::Finished))
    }

    /// Keeps what lies behind from being dropped until this reader says otherwise.
    pub fn hold(&self, reader: u64, from: Option<OutputLengths>) {
        let _ = self.requests.send(RunRequest::Hold { reader, from });
    }

    /// Asks for word, once, of output beyond what is known; it comes through [`Events::lengths`].
    pub fn watch_output(&self) {
        let _ = self.requests.send(RunRequest::WatchOutput);
    }
}
