//! Stopping a job, wherever it is on its way, and whoever has started it.

use std::time::Duration;

use pyexec_proto::job::JobDetail;
use pyexec_proto::state::StopReason;
use pyexec_proto::{JobId, JobState};

use super::Dispatcher;
use super::live::{Live, Phase, Stop, Withdrawal};
use crate::blocking::blocking;
use crate::engine::Evidence;
use crate::fault::{Point, reached};
use crate::jobs::command::Command;
use crate::jobs::state::{JobEvent, transition};
use pyexec_run_directory::directory as run_directory;

impl Dispatcher {
    pub(super) fn stop(&mut self, id: JobId, stop: Stop) {
        let Some(live) = self.live.get_mut(&id) else {
            let _ = stop.answer.send(false);
            return;
        };
        tracing::info!(job = %id, reason = ?stop.reason(), "stopping");
        reached(Point::StopAsked);
        match &mut live.phase {
            Phase::Finished => {
                let _ = stop.answer.send(false);
            }
            Phase::Settling(settling) => settling.late_stops.push(stop),
            Phase::Withdrawing { stops, .. } => stops.push(stop),
            Phase::Waiting { .. } | Phase::Preparing { .. } => {
                self.withdraw(id, Withdrawal::Stopped(stop.reason()), vec![stop]);
            }
            Phase::Marking(_) | Phase::Launched(_) => {
                self.apply(id, JobEvent::StopRequested(stop.reason()));
                self.answer_once_written(id, stop);
            }
        }
    }

    /// The wish is in the index before anybody acts on it: a restart in the middle of a stop goes on with it. The index works
    /// in order, so an answer to anything asked now says that the commit before it is through.
    pub(super) fn answer_once_written(&mut self, id: JobId, stop: Stop) {
        let grace = self.live.get(&id).map_or(Duration::ZERO, |live| stop.grace(&live.job));
        let written = self.store.barrier();
        self.in_background(async move {
            let _ = written.await;
            Command::StopWritten { id, grace, answer: stop.answer }
        });
    }

    /// A job that has not been started here may have been by a supervisor of an earlier daemon's, which was late. Taking
    /// the permission to start away settles it: where it is gone already, there is somebody to find.
    pub(super) fn withdraw(&mut self, id: JobId, why: Withdrawal, stops: Vec<Stop>) {
        let Some(live) = self.live.get_mut(&id) else { return };
        self.queue.ended(id);
        // Before the permission is taken away: a daemon that finds that gone is to know why.
        let wished = match &why {
            Withdrawal::Stopped(reason) => {
                let state = JobState::Starting { stop: Some(*reason) };
                Some(self.store.update(JobDetail { state, ..live.job.clone() }))
            }
            Withdrawal::NotPrepared(_) => None,
        };
        live.phase = Phase::Withdrawing { why, stops };
        let (directory, engine) = (self.jobs_directory.join(id.to_string()), self.engine.clone());
        let writers = self.writers.clone();
        self.in_background(async move {
            if let Some(wished) = wished
                && let Err(error) = wished.await
            {
                tracing::error!(job = %id, %error, "that it is to stop could not be written down");
            }
            let _one_of_them = writers.acquire().await;
            let taken = blocking(move || {
                if run_directory::revoke(&directory)? {
                    return Ok(false);
                }
                let evidence = engine.examine(id).map_err(std::io::Error::other)?;
                Ok(evidence != Evidence::NeverStarted)
            });
            Command::Withdrawn { id, is_started_elsewhere: taken.await.unwrap_or(false) }
        });
    }

    pub(super) fn note_withdrawn(&mut self, id: JobId, is_started_elsewhere: bool) {
        let is_withdrawing = |live: &&mut Live| matches!(live.phase, Phase::Withdrawing { .. });
        let Some(live) = self.live.get_mut(&id).filter(is_withdrawing) else { return };
        let Phase::Withdrawing { why, stops } = live.take_phase() else { return };
        let event = match why {
            Withdrawal::Stopped(reason) => JobEvent::StopRequested(reason),
            Withdrawal::NotPrepared(why) => JobEvent::PreparationFailed(why),
        };
        if is_started_elsewhere {
            let wished = match event {
                JobEvent::StopRequested(reason) => Some(reason),
                JobEvent::Admitted | JobEvent::Prepared | JobEvent::PreparationFailed(_) | JobEvent::Run(_) => None,
            };
            self.adopt_started(id, wished);
            for stop in stops {
                self.stop(id, stop);
            }
            return;
        }
        match transition(live.job.state.clone(), event) {
            Ok(JobState::Finished(outcome)) => self.finish(id, outcome, stops),
            Ok(state) => tracing::error!(job = %id, ?state, "a job that was withdrawn has not ended"),
            Err(refused) => tracing::error!(job = %id, %refused, "a job could not be withdrawn"),
        }
    }

    /// Tells the supervisor of a stop that is wanted, if there is one to tell.
    pub(super) fn pass_stop_on(&mut self, id: JobId, grace: Option<Duration>) {
        let Some(live) = self.live.get_mut(&id) else { return };
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
        if let Some(launched) = live.launched() {
            launched.handle.stop(reason, grace);
        }
    }
}
