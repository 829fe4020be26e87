//! Adopting what an earlier daemon left unfinished: jobs, and runs that its supervisors have begun.

use std::path::Path;

use pyexec_proto::job::JobDetail;
use pyexec_proto::output::OutputLengths;
use pyexec_proto::state::StopReason;
use pyexec_proto::{JobId, JobState};
use tokio::sync::watch;

use super::Dispatcher;
use super::live::{Launched, Live, MayStart, Phase};
use crate::blocking::blocking;
use crate::engine::{Engine, Evidence};
use crate::fault::{Point, reached};
use crate::jobs::command::LeftUnfinished;
use crate::jobs::recovery::{Belief, Circumstances, believe, believe_unreadable};
use pyexec_run_directory::directory as run_directory;
use pyexec_run_directory::record::ReadError;

impl Dispatcher {
    /// Finds out what has become of a job, and goes on with it. This is waited for: nobody is to see the job before.
    pub(super) async fn recover(&mut self, left: LeftUnfinished) {
        let LeftUnfinished { mut job, may_have_run, is_found_on_disk } = left;
        let id = job.id;
        if let Some(live) = self.live.get(&id) {
            // It was found on disk, because the index that is used now does not know of it.
            let known = live.job.clone();
            self.import(known).await;
            return;
        }
        let mut is_known = true;
        match self.store.get(id).await {
            Ok(Some((known, _))) if known.state.is_finished() => return,
            Ok(Some((known, _))) => job = known,
            Ok(None) if is_found_on_disk => is_known = false,
            // It was being pruned when the last daemon ended, and has been forgotten since.
            Ok(None) => return,
            Err(error) => tracing::error!(job = %id, %error, "a job could not be looked up"),
        }
        let directory = self.jobs_directory.join(id.to_string());
        reached(Point::RecoverLooking);
        let known = job.state.clone();
        let engine = self.engine.clone();
        let believed = blocking(move || Ok(look(&*engine, id, &directory, known, may_have_run))).await;
        let believed = believed
            .unwrap_or_else(|error| Belief::Finished(believe_unreadable(job.state.clone(), &error.to_string())));
        tracing::info!(job = %id, ?believed, "recovered");
        if !is_known {
            // As it is believed to be: one that has ended is never listed as one that waits.
            let state = match &believed {
                Belief::Waits => JobState::Queued,
                Belief::Adopt(state) => state.clone(),
                Belief::Finished(outcome) => JobState::Finished(outcome.clone()),
            };
            self.import(JobDetail { state, ..job.clone() }).await;
        }
        match believed {
            Belief::Waits => {
                job.state = JobState::Queued;
                job.environment = None;
                self.wait_in_line(job, MayStart::Unrecorded);
            }
            Belief::Adopt(state) => {
                job.state = state;
                // An environment that a job uses is kept, also when an earlier daemon started the job.
                let used = job.environment.as_ref().and_then(|used| used.id.as_deref());
                let lease = used.and_then(|id| self.preparer.lease(id));
                let (lengths, _) = watch::channel(OutputLengths::default());
                let handle = self.engine.adopt(&job, self.events_of(id, lengths.clone()));
                self.queue.started(id);
                self.changes.note(id);
                self.live.insert(id, Live::new(job, Phase::Launched(Launched::new(handle, lease, None)), lengths));
            }
            Belief::Finished(outcome) => {
                let (lengths, _) = watch::channel(OutputLengths::default());
                // A supervisor may have left something also where it has written its record.
                self.engine.clear(id);
                self.live.insert(id, Live::new(job, Phase::Finished, lengths));
                if let Some(settled) = self.begin_to_settle(id, outcome, vec![]) {
                    settled.await;
                }
                self.note_settled(id);
            }
        }
    }

    async fn import(&self, job: JobDetail) {
        let id = job.id;
        if let Err(error) = self.store.import(vec![job]).await {
            tracing::error!(job = %id, %error, "a job that was found on disk could not be recorded");
        }
    }

    /// Adopts a run that an earlier daemon's supervisor has begun. `stop`: why it is to be stopped, which is written down.
    pub(super) fn adopt_started(&mut self, id: JobId, stop: Option<StopReason>) {
        let Some(live) = self.live.get_mut(&id) else { return };
        live.job.state = JobState::Starting { stop };
        let (job, lengths) = (live.job.clone(), live.lengths.clone());
        tracing::info!(job = %id, "has been started by an earlier daemon's supervisor");
        let handle = self.engine.adopt(&job, self.events_of(id, lengths));
        self.queue.started(id);
        if let Some(live) = self.live.get_mut(&id) {
            live.is_launched(Launched::new(handle, None, None));
        }
        self.commit(id);
    }
}

/// Reads what there is to believe, and takes away what the last daemon left half written.
fn look(engine: &dyn Engine, id: JobId, directory: &Path, known: JobState, may_have_run: bool) -> Belief {
    if let Err(error) = run_directory::remove_unfinished(directory) {
        tracing::warn!(directory = %directory.display(), %error, "what the last daemon left cannot be removed");
    }
    match run_directory::outcome(directory) {
        Ok(Some(outcome)) => return Belief::Finished(outcome),
        // A record that is damaged tells nothing: whoever is still there may.
        Ok(None) | Err(ReadError::Damaged { .. }) => {}
        Err(error @ ReadError::Io { .. }) => return Belief::Finished(believe_unreadable(known, &error.to_string())),
    }
    // Before it is asked who runs it: a supervisor says who it is, and then takes the environment away.
    let has_environment = matches!(run_directory::to_start(directory), Ok(Some(_)));
    match engine.examine(id) {
        Ok(evidence) => {
            let is_gone = evidence == Evidence::Gone;
            let believed = believe(known, evidence, Circumstances { has_environment, may_have_run });
            if is_gone && matches!(believed, Belief::Finished(_)) {
                // Nobody else looks for what it left running.
                engine.end_survivors(id);
            }
            believed
        }
        Err(error) => Belief::Finished(believe_unreadable(known, &error.to_string())),
    }
}
