//! Changing a job's state, and what an end brings with it: the run directory hears of it first, then the index and those
//! who watch.

use std::path::PathBuf;

use pyexec_proto::state::Outcome;
use pyexec_proto::{JobId, JobState};
use tokio::time::Instant;

use super::live::{Phase, Settling, Stop};
use super::{Dispatcher, RETRY};
use crate::blocking::blocking;
use crate::fault::{Point, reached};
use crate::jobs::command::Command;
use crate::jobs::state::{JobEvent, transition};
use crate::store::{Store, StoreError};
use pyexec_run_directory::directory as run_directory;

impl Dispatcher {
    /// The only place where something that happens changes a state: decide, make durable, tell.
    pub(super) fn apply(&mut self, id: JobId, event: JobEvent) {
        let Some(live) = self.live.get_mut(&id) else { return };
        if live.has_ended() {
            tracing::warn!(job = %id, ?event, "ignored: the job has ended");
            return;
        }
        let before = live.job.state.clone();
        let state = match transition(before.clone(), event) {
            Ok(state) => state,
            Err(refused) => {
                tracing::warn!(job = %id, %refused, "ignored");
                return;
            }
        };
        if let JobState::Finished(outcome) = state {
            self.finish(id, outcome, vec![]);
        } else if state != before {
            live.job.state = state;
            self.commit(id);
        }
    }

    /// A job has ended. `stops` are answered once clients can see it.
    pub(super) fn finish(&mut self, id: JobId, outcome: Outcome, stops: Vec<Stop>) {
        match self.begin_to_settle(id, outcome, stops) {
            Some(settled) => self.in_background(async move {
                settled.await;
                Command::Settled { id }
            }),
            None => self.note_settled(id),
        }
    }

    /// Returns what has to be written before anybody is told, if there is something. To be followed by
    /// [`Dispatcher::note_settled`].
    pub(super) fn begin_to_settle(
        &mut self,
        id: JobId,
        outcome: Outcome,
        stops: Vec<Stop>,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.queue.ended(id);
        let live = self.live.get_mut(&id)?;
        tracing::info!(job = %id, verdict = ?outcome.verdict(), "finished");
        let noting = match live.take_phase() {
            Phase::Launched(launched) => launched.noting,
            Phase::Marking(ready) => Some(ready.noting),
            Phase::Waiting { .. }
            | Phase::Preparing { .. }
            | Phase::Withdrawing { .. }
            | Phase::Settling(_)
            | Phase::Finished => None,
        };
        // Mostly it has been over for long.
        let noting = noting.and_then(|mut noting| noting.try_recv().is_err().then_some(noting));
        // A supervisor that has written its record leaves nothing to do.
        let unrecorded = (!matches!(outcome, Outcome::Ended(_))).then(|| outcome.clone());
        live.phase = Phase::Settling(Settling { outcome, stops, late_stops: vec![] });
        if unrecorded.is_some() {
            self.engine.clear(id);
        }
        if noting.is_none() && unrecorded.is_none() {
            return None;
        }
        let (directory, writers) = (self.jobs_directory.join(id.to_string()), self.writers.clone());
        Some(async move {
            if let Some(noting) = noting {
                let _ = noting.await;
            }
            if let Some(outcome) = unrecorded {
                let _one_of_them = writers.acquire().await;
                write_down(id, directory, outcome).await;
            }
        })
    }

    /// How a job ended is in its run directory; now the index and everybody else are told.
    pub(super) fn note_settled(&mut self, id: JobId) {
        let Some(live) = self.live.get_mut(&id).filter(|live| matches!(live.phase, Phase::Settling(_))) else { return };
        let Phase::Settling(Settling { outcome, stops, late_stops }) = live.take_phase() else { return };
        live.job.state = JobState::Finished(outcome);
        self.commit(id);
        for Stop { answer, .. } in late_stops {
            let _ = answer.send(false);
        }
        for stop in stops {
            self.answer_once_written(id, stop);
        }
    }

    /// Queues the commit, and tells those who watch. The run directory is the truth and the index follows in order, so
    /// nobody waits for it; whoever asks the index from now on is answered after it.
    pub(super) fn commit(&mut self, id: JobId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let committed = self.store.update(live.job.clone());
        live.tell();
        self.changes.note(id);
        let state = live.job.state.clone();
        if state.is_finished() {
            if state.run().is_some() {
                keep_progress(self.store.clone(), id, self.jobs_directory.join(id.to_string()));
            }
            self.ended.notify_one();
            reached(Point::ExitCommitted);
        }
        self.in_background(async move {
            let committed = committed.await;
            Command::Committed { id, state: Box::new(state), committed }
        });
    }

    pub(super) fn note_commit(&mut self, id: JobId, state: &JobState, committed: Result<(), StoreError>) {
        // A later state has its own commit under way.
        if self.live.get(&id).is_none_or(|live| live.job.state != *state) {
            return;
        }
        match committed {
            Ok(()) => {
                self.uncommitted.remove(&id);
                if state.is_finished() {
                    reached(Point::ExitNoted);
                    self.live.remove(&id);
                }
            }
            Err(error) => {
                tracing::error!(job = %id, %error, "the state could not be committed; it will be tried again");
                self.uncommitted.insert(id);
                self.retry_at.get_or_insert_with(|| Instant::now() + RETRY);
            }
        }
    }

    pub(super) fn commit_again(&mut self) {
        self.retry_at = None;
        for id in std::mem::take(&mut self.uncommitted) {
            self.commit(id);
        }
    }
}

/// What a job that ended without a supervisor's record leaves behind: no secret, and how it ended.
async fn write_down(id: JobId, directory: PathBuf, outcome: Outcome) {
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

/// Keeps a finished job's last progress, so that a listing need not read its output, and that the progress outlives the
/// output. Nobody waits for this; a reader that is quicker looks itself.
fn keep_progress(store: Store, id: JobId, run_directory: PathBuf) {
    tokio::spawn(async move {
        if let Ok(progress) = blocking(move || Ok(crate::progress::of_job(&run_directory, true))).await
            && let Err(error) = store.set_progress(id, progress).await
        {
            tracing::error!(job = %id, %error, "its last progress could not be kept");
        }
    });
}
