//! Where jobs run. The dispatcher knows no more of it than this.

pub mod local;
pub mod scopes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pyexec_proto::error::NoInput;
use pyexec_proto::job::JobDetail;
use pyexec_proto::output::OutputLengths;
use pyexec_proto::request::InputTaken;
use pyexec_proto::state::{ExitRecord, Run, StopReason};
use pyexec_proto::world::Submitter;
use pyexec_proto::{JobId, JobSpec, OsText};
use tokio::sync::{mpsc, oneshot, watch};

use crate::environment::Command;

/// Starts jobs, and finds those that an earlier daemon started.
pub trait Engine: Send + Sync {
    /// Never blocks. What becomes of it is said through `events`, in the end exactly one of the last three kinds.
    fn launch(&self, order: Order, events: Events) -> RunHandle;
    /// Takes up a job whose supervisor may still be there.
    fn adopt(&self, job: &JobDetail, events: Events) -> RunHandle;
    /// Takes away what a supervisor may have left that was killed, now that its job has finished.
    fn clear(&self, id: JobId);
}

/// A job that is to start now.
#[derive(Debug)]
pub struct Order {
    pub id: JobId,
    pub spec: Arc<JobSpec>,
    pub command: Command,
    /// Who submitted it; of jobs of before this was kept, nobody knows.
    pub submitter: Option<Submitter>,
    /// The lock of the environment that it runs in, to be held for as long as the job runs.
    pub environment_lock: Option<OsText>,
}

/// What an engine says of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEvent {
    Started(Run),
    /// Its output can not be written, and it waits; `None` once it can be again.
    Stalled(Option<String>),
    /// Its supervisor does not answer, and why; `None` once it does again.
    Unanswered(Option<String>),
    SpawnFailed(String),
    Ended(ExitRecord),
    Lost,
}

/// Where it says it.
#[derive(Clone, Debug)]
pub struct Events {
    pub id: JobId,
    pub sender: mpsc::UnboundedSender<(JobId, RunEvent)>,
    /// Updated when there is more output, after [`RunHandle::watch_output`].
    pub lengths: watch::Sender<OutputLengths>,
}

impl Events {
    pub fn send(&self, event: RunEvent) {
        // Without a dispatcher the daemon is on its way out, and the next one reads the record.
        let _ = self.sender.send((self.id, event));
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

/// A supervisor's control socket: short, and no secret.
pub fn control_socket(supervisors: &std::path::Path, id: JobId) -> PathBuf {
    supervisors.join(&id.simple()[..16])
}
