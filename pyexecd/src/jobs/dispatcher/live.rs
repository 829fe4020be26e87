//! A job that has not finished, or whose end the index has not heard of yet: what is known of it, phase by phase.

use std::sync::Arc;
use std::time::Duration;

use pyexec_proto::job::JobDetail;
use pyexec_proto::output::OutputLengths;
use pyexec_proto::request::StopRequest;
use pyexec_proto::state::{Outcome, StopReason};
use pyexec_proto::world::Submitter;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use crate::blocking::Done;
use crate::engine::RunHandle;
use crate::environment::{self, Lease};
use crate::jobs::Snapshot;

#[derive(Debug)]
pub(super) struct Live {
    /// As clients are told of it.
    pub(super) job: JobDetail,
    pub(super) phase: Phase,
    pub(super) lengths: watch::Sender<OutputLengths>,
    /// What those hear who watch it.
    pub(super) told: watch::Sender<Snapshot>,
}

/// Where a job is on its way, with what is known of it there only.
///
/// ```text
///             ┌────────────> Withdrawing ──(not started)──┐
///             │ stop              │ (started by an        │
///             │                   │  earlier daemon)      v
///  Waiting ─> Preparing ─> Marking ─> Launched ─> Settling ─> Finished
/// ```
///
/// Whatever takes time happens in a task that reports back; meanwhile the phase says what is waited for, and keeps the
/// requests that come too early.
#[derive(Debug)]
pub(super) enum Phase {
    /// It has a place in the queue.
    Waiting { may_start: MayStart },
    /// Its environment is being prepared.
    Preparing { may_start: MayStart, _preparation: AbortOnDrop },
    /// It has not been started here, and its permission to start is being taken away. An earlier daemon's supervisor may have
    /// been quicker: then it is adopted.
    Withdrawing { why: Withdrawal, stops: Vec<Stop> },
    /// It is ready, and it is being written into the index that it may be started.
    Marking(Box<Ready>),
    /// An engine has it.
    Launched(Launched),
    /// It has ended, and how is being written into its run directory.
    Settling(Settling),
    /// It has ended, and the index is being told.
    Finished,
}

/// Whether it is on disk that the job may have been started: a loss of power does not make it start twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MayStart {
    Recorded,
    Unrecorded,
}

/// Why the permission to start is taken away.
#[derive(Debug)]
pub(super) enum Withdrawal {
    Stopped(StopReason),
    /// Its environment could not be prepared, and why.
    NotPrepared(String),
}

/// What a job is started with.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) command: environment::Command,
    pub(super) submitter: Option<Submitter>,
    pub(super) lease: Option<Lease>,
    pub(super) noting: Done<()>,
}

#[derive(Debug)]
pub(super) struct Launched {
    pub(super) handle: RunHandle,
    /// Keeps its environment from being evicted.
    _lease: Option<Lease>,
    /// Writes down what it runs with. Over before its end is committed: what is left half written of a job that has not
    /// finished is tidied up by the next daemon.
    pub(super) noting: Option<Done<()>>,
    /// Why its output cannot be written.
    pub(super) stalled: Option<String>,
    /// Why its supervisor does not answer.
    pub(super) unanswered: Option<String>,
}

impl Launched {
    pub(super) fn new(handle: RunHandle, lease: Option<Lease>, noting: Option<Done<()>>) -> Self {
        Self { handle, _lease: lease, noting, stalled: None, unanswered: None }
    }

    /// What people are told while it is not as it should be.
    pub(super) fn problem(&self) -> Option<String> {
        let waits = |problem| format!("its output cannot be written, and it waits until it can: {problem}");
        self.unanswered.clone().or_else(|| self.stalled.as_ref().map(waits))
    }
}

#[derive(Debug)]
pub(super) struct Settling {
    pub(super) outcome: Outcome,
    /// Stops that this end is the answer to.
    pub(super) stops: Vec<Stop>,
    /// Stops that came later. They are told once clients can see how it ended.
    pub(super) late_stops: Vec<Stop>,
}

/// A request to stop a job, as it was made.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) request: StopRequest,
    /// `true` when there was something to stop.
    pub(super) answer: oneshot::Sender<bool>,
}

impl Stop {
    pub(super) fn reason(&self) -> StopReason {
        if self.request.now { StopReason::Killed } else { StopReason::Cancelled }
    }

    pub(super) fn grace(&self, job: &JobDetail) -> Duration {
        let grace_ms = if self.request.now { 0 } else { self.request.grace_ms.unwrap_or(job.spec.grace_ms) };
        Duration::from_millis(grace_ms)
    }
}

impl Phase {
    /// What is known of a job that an engine has.
    fn launched(&mut self) -> Option<&mut Launched> {
        match self {
            Phase::Launched(launched) => Some(launched),
            Phase::Waiting { .. }
            | Phase::Preparing { .. }
            | Phase::Withdrawing { .. }
            | Phase::Marking(_)
            | Phase::Settling(_)
            | Phase::Finished => None,
        }
    }
}

impl Live {
    pub(super) fn new(mut job: JobDetail, mut phase: Phase, lengths: watch::Sender<OutputLengths>) -> Self {
        job.message = None;
        let handle = phase.launched().map(|launched| launched.handle.clone());
        let snapshot = Snapshot { job: Arc::new(job.clone()), handle, lengths: lengths.subscribe() };
        Self { job, phase, lengths, told: watch::Sender::new(snapshot) }
    }

    /// Tells those who watch it what it is now.
    pub(super) fn tell(&self) {
        let finished = self.job.state.is_finished();
        self.told.send_modify(|snapshot| {
            snapshot.job = Arc::new(self.job.clone());
            if finished {
                snapshot.handle = None;
            }
        });
    }

    /// From here on an engine has it.
    pub(super) fn is_launched(&mut self, launched: Launched) {
        let handle = launched.handle.clone();
        self.phase = Phase::Launched(launched);
        self.told.send_modify(|snapshot| snapshot.handle = Some(handle));
    }

    /// Takes what is known of the phase, which the caller is about to end.
    pub(super) fn take_phase(&mut self) -> Phase {
        std::mem::replace(&mut self.phase, Phase::Finished)
    }

    pub(super) fn launched(&mut self) -> Option<&mut Launched> {
        self.phase.launched()
    }

    /// Whether it waits for its turn.
    pub(super) fn waits(&self) -> Option<MayStart> {
        if let Phase::Waiting { may_start } = self.phase { Some(may_start) } else { None }
    }

    /// It has ended, also where that is not written down yet.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Settling(_) | Phase::Finished)
    }
}

/// Ends a task when it is dropped.
#[derive(Debug)]
pub(super) struct AbortOnDrop(pub(super) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
