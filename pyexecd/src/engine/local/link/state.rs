//! What a link knows of its job and of its supervisor, with what is done about it whether or not there is a connection.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use pyexec_proto::error::{Held, NoInput};
use pyexec_proto::output::OutputLengths;
use pyexec_proto::request::InputTaken;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::blocking::spawn;
use crate::engine::local::held_up::{self, Patience, Remedy, end_job};
use crate::engine::local::spare::Spare;
use crate::engine::{Events, Report, RunRequest};
use pyexec_run_directory::processes::{Process, State};

/// One job's link to its supervisor, for as long as there is one.
#[derive(Debug)]
pub(in crate::engine::local) struct Link {
    pub(super) directory: PathBuf,
    pub(super) control_socket: PathBuf,
    pub(super) events: Events,
    pub(super) requests: mpsc::UnboundedReceiver<RunRequest>,
    pub(super) output_watch: OutputWatch,
    /// Where those are who read all of the output.
    pub(super) readers: BTreeMap<u64, OutputLengths>,
    /// What the supervisor has been told of them.
    pub(super) held: Option<OutputLengths>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) sequence: u64,
    /// Once it is known.
    pub(super) supervisor: Option<Process>,
    pub(super) patience: Patience,
    /// What the job was given.
    pub(super) timeout: Option<Duration>,
    pub(super) grace: Duration,
    /// When the job is killed for a supervisor that could be told of the stop by signal only.
    pub(super) kills_at: Option<Instant>,
    /// What people have been told of a supervisor that does not answer.
    pub(super) problem: Option<String>,
    /// Somebody may still ask for something.
    pub(super) requests_open: bool,
    pub(super) replacement: Replacement,
}

/// Whether a client waits for more output of this job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutputWatch {
    Unwanted,
    /// A client waits, and the supervisor does not know.
    Wanted,
    /// The supervisor has been asked to tell of more output.
    Asked,
}

/// When the spare supervisor that this job has taken is replaced by another.
#[derive(Debug)]
pub(in crate::engine::local) enum Replacement {
    /// It took none, or the next one has been made.
    NotNeeded,
    /// Not while the job starts, which it would slow down.
    OnceStarted(Spare),
    /// The job is measured from its first moment.
    OnceEnded(Spare),
}

/// Input that was passed on and not answered yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) sequence: u64,
    pub(super) answer: oneshot::Sender<Result<InputTaken, NoInput>>,
    pub(super) due: Instant,
}

impl Link {
    pub(super) fn want_output(&mut self) {
        if self.output_watch == OutputWatch::Unwanted {
            self.output_watch = OutputWatch::Wanted;
        }
    }

    /// Looks whether the supervisor does what is expected of it, and helps it where it does not.
    pub(super) async fn attend(&mut self) {
        let now = Instant::now();
        let Some(supervisor) = self.supervisor.and_then(|supervisor| supervisor.now()) else {
            // Its connection ends with it.
            self.patience.look(State::Ended, false, now);
            return;
        };
        let remedy = self.patience.look(supervisor.state, !self.waiting.is_empty(), now);
        if remedy != Remedy::Nothing {
            let _ = spawn(move || remedy.apply(&supervisor)).await;
        }
        self.tell_problem(self.patience.problem(&supervisor));
        let (pid, held) = (supervisor.pid, held_up::held(supervisor.state).unwrap_or(Held::Busy));
        let waiting = std::mem::take(&mut self.waiting);
        let (late, waiting) = waiting.into_iter().partition::<Vec<_>, _>(|waiting| waiting.due <= now);
        self.waiting = waiting;
        for Waiting { answer, .. } in late {
            let _ = answer.send(Err(NoInput::NoAnswer { pid, held }));
        }
    }

    pub(super) fn tell_problem(&mut self, problem: Option<String>) {
        if self.problem != problem {
            if let Some(problem) = &problem {
                tracing::warn!(job = %self.events.id, problem, "a supervisor does not answer");
            }
            self.problem.clone_from(&problem);
            self.events.send(Report::Unanswered(problem));
        }
    }

    pub(super) fn note_reader(&mut self, reader: u64, from: Option<OutputLengths>) {
        match from {
            Some(from) => self.readers.insert(reader, from),
            None => self.readers.remove(&reader),
        };
    }

    /// The grace is over of a stop that the supervisor was told of by signal.
    pub(super) async fn kill_job(&mut self) {
        self.kills_at = None;
        if let Some(supervisor) = self.supervisor {
            let _ = spawn(move || end_job(&supervisor)).await;
        }
    }

    pub(super) fn refuse_all(&mut self) {
        for Waiting { answer, .. } in self.waiting.drain(..) {
            let _ = answer.send(Err(NoInput::NotStarted));
        }
    }
}

/// Returns at that moment; without one, never.
pub(super) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
