//! Stopping a job, wherever it is on its way, and whoever has started it.

use std::time::Duration;

use pyexec_proto::job::JobDetail;
use pyexec_proto::request::StopRequest;
use pyexec_proto::state::StopReason;
use pyexec_proto::{JobId, JobState};
use tokio::sync::oneshot;

use super::Dispatcher;
use crate::fault::{Point, reached};
use crate::jobs::command::Command;
use crate::jobs::state::JobEvent;

impl Dispatcher {
    pub(super) async fn stop(&mut self, id: JobId, request: StopRequest, answer: oneshot::Sender<bool>) {
        let Some(live) = self.live.get(&id).filter(|live| !live.job.state.is_finished()) else {
            let _ = answer.send(false);
            return;
        };
        let reason = if request.now { StopReason::Killed } else { StopReason::Cancelled };
        let grace = if request.now { 0 } else { request.grace_ms.unwrap_or(live.job.spec.grace_ms) };
        tracing::info!(job = %id, ?reason, "stopping");
        reached(Point::StopAsked);
        let unstarted = matches!(live.job.state, JobState::Queued | JobState::Preparing);
        if unstarted {
            // Before its permission to start is taken away: a daemon that finds that gone is to know why.
            let wished = JobDetail { state: JobState::Starting { stop: Some(reason) }, ..live.job.clone() };
            if let Err(error) = self.store.update(wished).await {
                tracing::error!(job = %id, %error, "that it is to stop could not be written down");
            }
        }
        if unstarted && self.has_started_elsewhere(id).await {
            self.adopt_started(id, Some(reason));
        } else {
            self.apply(id, JobEvent::StopRequested(reason)).await;
        }
        // The wish is in the index before anybody acts on it: a restart in the middle of a stop goes on with it. The
        // index works in order, so an answer to anything asked now says that the commit before it is through.
        let written = self.store.barrier();
        let Some(to_self) = self.to_self.upgrade() else { return };
        tokio::spawn(async move {
            let _ = written.await;
            let _ = to_self.send(Command::StopWritten { id, grace: Duration::from_millis(grace), answer });
        });
    }

    /// Tells the supervisor of a stop that is wanted, if there is one to tell.
    pub(super) fn pass_stop_on(&self, id: JobId, grace: Option<Duration>) {
        let Some(live) = self.live.get(&id) else { return };
        let reason = match &live.job.state {
            JobState::Stopping { reason, .. } | JobState::Starting { stop: Some(reason) } => *reason,
            JobState::Starting { stop: None }
            | JobState::Queued
            | JobState::Preparing
            | JobState::Running { .. }
            | JobState::Finished(_) => return,
        };
        let grace = match (grace, reason) {
            (Some(grace), _) => grace,
            (None, StopReason::Killed | StopReason::MemoryLimit | StopReason::ProcessLimit) => Duration::ZERO,
            (None, StopReason::Cancelled | StopReason::TimedOut | StopReason::CpuLimit | StopReason::OutputLimit) => {
                Duration::from_millis(live.job.spec.grace_ms)
            }
        };
        if let Some(handle) = &live.told.borrow().handle {
            handle.stop(reason, grace);
        }
    }
}
