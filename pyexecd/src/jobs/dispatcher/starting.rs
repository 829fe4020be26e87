//! From its turn to its process: a job's environment is prepared, it is written down that it may start, and an engine is
//! told.

use std::path::PathBuf;
use std::sync::Arc;

use pyexec_proto::environment::ResolvedEnvironment;
use pyexec_proto::{JobId, JobSpec, OsText};

use super::Dispatcher;
use super::live::{AbortOnDrop, Launched, MayStart, Phase, Ready, Withdrawal};
use crate::blocking::{Done, blocking, spawn};
use crate::engine::Order;
use crate::environment::{EnvironmentError, Preparation, PreparationLog, Prepared};
use crate::fault::{Point, reached};
use crate::jobs::command::{Command, ReadyToStart};
use crate::jobs::preparer::Preparer;
use crate::jobs::state::{JobEvent, transition};
use pyexec_run_directory::directory as run_directory;
use pyexec_run_directory::directory::ToStart;

impl Dispatcher {
    /// Begins to prepare every job whose turn it is.
    pub(super) fn admit(&mut self) {
        while let Some(id) = self.queue.admit(self.max_running) {
            let waiting = self.live.get_mut(&id).and_then(|live| live.waits().map(|may_start| (live, may_start)));
            let Some((live, may_start)) = waiting else {
                self.queue.ended(id);
                continue;
            };
            // Not committed: after a restart a job that was being prepared is one that waits.
            if let Ok(state) = transition(live.job.state.clone(), JobEvent::Admitted) {
                live.job.state = state;
                live.tell();
                self.changes.note(id);
            }
            reached(Point::PrepareAdmitted);
            let Some(to_self) = self.to_self.upgrade() else { return };
            let (preparer, spec) = (self.preparer.clone(), live.job.spec.clone());
            let run_directory = self.jobs_directory.join(id.to_string());
            let log = Arc::new(PreparationLog::of_job(&run_directory, live.lengths.clone()));
            let preparing = tokio::spawn(async move {
                let result = prepare(&*preparer, id, spec, run_directory, log).await;
                let _ = to_self.send(Command::Prepared { id, result });
            });
            live.phase = Phase::Preparing { may_start, _preparation: AbortOnDrop(preparing.abort_handle()) };
        }
    }

    pub(super) fn note_prepared(&mut self, id: JobId, result: Result<ReadyToStart, EnvironmentError>) {
        let Some(live) = self.live.get_mut(&id) else { return };
        // It may have been stopped while it was being prepared.
        let Phase::Preparing { may_start, .. } = live.phase else { return };
        let ReadyToStart { prepared, submitter } = match result {
            Ok(ready) => ready,
            // Whether or not the reason is that it has been: an earlier daemon's supervisor may have started it meanwhile.
            Err(error) => return self.withdraw(id, Withdrawal::NotPrepared(error.to_string()), vec![]),
        };
        let Prepared { command, used, lease } = *prepared;
        live.job.environment = Some(used.clone());
        reached(Point::PrepareDone);
        self.apply(id, JobEvent::Prepared);
        let noting = note_resolved(self.jobs_directory.join(id.to_string()), used);
        if let Some(live) = self.live.get_mut(&id) {
            live.phase = Phase::Marking(Box::new(Ready { command, submitter, lease, noting }));
        }
        reached(Point::StartCommitted);
        match may_start {
            MayStart::Recorded => self.launch(id),
            // It had to wait, and is started only once it is on disk that it does so no longer. Should that fail, it starts
            // all the same: only a loss of power could make it start again.
            MayStart::Unrecorded => {
                let marked = self.store.mark_started(id);
                self.in_background(async move {
                    if let Err(error) = marked.await {
                        tracing::error!(job = %id, %error, "that the job starts could not be written down");
                    }
                    Command::StartMarked { id }
                });
            }
        }
    }

    pub(super) fn launch(&mut self, id: JobId) {
        let Some(live) = self.live.get_mut(&id).filter(|live| matches!(live.phase, Phase::Marking(_))) else { return };
        let Phase::Marking(ready) = live.take_phase() else { return };
        let Ready { command, submitter, lease, noting } = *ready;
        let environment_lock = lease.as_ref().map(|lease| OsText::from(lease.lock()));
        let (spec, watching) = (Arc::new(live.job.spec.clone()), live.job.watching);
        let order = Order { id, spec, watching, command, submitter, environment_lock };
        let lengths = live.lengths.clone();
        let handle = self.engine.launch(order, self.events_of(id, lengths));
        if let Some(live) = self.live.get_mut(&id) {
            live.is_launched(Launched::new(handle, lease, Some(noting)));
        }
        // A stop that came while the start was being written down.
        self.pass_stop_on(id, None);
    }
}

/// For the day the index has to be rebuilt: the job does not wait for it.
fn note_resolved(run_directory: PathBuf, used: ResolvedEnvironment) -> Done<()> {
    spawn(move || {
        if let Err(error) = run_directory::write_resolved(&run_directory, &used) {
            let directory = run_directory.display();
            tracing::error!(%directory, %error, "the environment could not be noted in the run directory");
        }
    })
}

async fn prepare(
    preparer: &dyn Preparer,
    id: JobId,
    spec: JobSpec,
    run_directory: PathBuf,
    log: Arc<PreparationLog>,
) -> Result<ReadyToStart, EnvironmentError> {
    let directory = run_directory.clone();
    let to_start = blocking(move || run_directory::to_start(&directory));
    let to_start = to_start.await.map_err(EnvironmentError::Variables)?.ok_or(EnvironmentError::VariablesGone)?;
    let ToStart { variables, submitter } = to_start;
    reached(Point::PrepareBegun);
    let prepared = preparer.prepare(Preparation { id, spec, variables, run_directory, log }).await?;
    Ok(ReadyToStart { prepared: Box::new(prepared), submitter })
}
