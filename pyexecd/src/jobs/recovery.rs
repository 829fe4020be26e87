//! What to believe after a restart: what the index last knew of a job, against what lies in its run directory.

use pyexec_proto::JobState;
use pyexec_proto::state::{NotStarted, Outcome};

use crate::engine::local::Evidence;
use crate::store::run_directory::outcome_of;

/// What becomes of a job that had not finished when the last daemon ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Belief {
    /// It has finished in the meantime, or never will start.
    Finished(Outcome),
    /// Nothing has begun: it takes its place in the queue again.
    Waits,
    /// There may be a supervisor; the engine is to find it, starting from this state.
    Adopt(JobState),
}

/// `may_start` says whether the environment it would start with is still there.
pub fn believe(known: JobState, evidence: Evidence, may_start: bool) -> Belief {
    match (evidence, known) {
        (Evidence::Ended(what), _) => Belief::Finished(outcome_of(what)),
        (Evidence::Alive(_) | Evidence::Undecided | Evidence::Gone, known) => Belief::Adopt(match known {
            // It got further than the index knew.
            JobState::Queued | JobState::Preparing => JobState::Starting { stop: None },
            JobState::Starting { .. }
            | JobState::Running { .. }
            | JobState::Stopping { .. }
            | JobState::Finished(_) => known,
        }),
        (Evidence::NeverStarted, JobState::Starting { stop: Some(reason) }) => {
            Belief::Finished(Outcome::NotStarted(NotStarted::Stopped(reason)))
        }
        (Evidence::NeverStarted, JobState::Queued | JobState::Preparing | JobState::Starting { stop: None }) => {
            if may_start {
                Belief::Waits
            } else {
                let why = "its environment was lost before it could start".to_owned();
                Belief::Finished(Outcome::NotStarted(NotStarted::Environment(why)))
            }
        }
        (Evidence::NeverStarted, JobState::Running { run } | JobState::Stopping { run, .. }) => {
            Belief::Finished(Outcome::Lost { last_seen: Some(run) })
        }
        (Evidence::NeverStarted, JobState::Finished(outcome)) => Belief::Finished(outcome),
    }
}

/// For a job whose run directory can not be read.
pub fn believe_unreadable(known: JobState, problem: &str) -> Outcome {
    match known {
        JobState::Finished(outcome) => outcome,
        JobState::Queued | JobState::Preparing | JobState::Starting { .. } => {
            Outcome::NotStarted(NotStarted::Environment(format!("its run directory is damaged: {problem}")))
        }
        JobState::Running { run } | JobState::Stopping { run, .. } => Outcome::Lost { last_seen: Some(run) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::record::{Identity, WhatEnded};
    use pyexec_proto::state::{Run, StopReason};
    use pyexec_proto::{JobId, Timestamp};

    fn alive() -> Evidence {
        Evidence::Alive(Identity::new(JobId::mint(), 1, 2, "boot".into(), "/socket".into()))
    }

    fn run() -> Run {
        Run { pid: 9, started_at: Timestamp(1) }
    }

    #[test]
    fn the_run_directory_wins_over_the_index() {
        let running = || JobState::Running { run: run() };
        let stopping = || JobState::Stopping { run: run(), reason: StopReason::Cancelled };
        let starting = |stop| JobState::Starting { stop };
        let lost = Belief::Finished(Outcome::Lost { last_seen: Some(run()) });
        let stopped = Belief::Finished(Outcome::NotStarted(NotStarted::Stopped(StopReason::Cancelled)));
        let failed = Belief::Finished(Outcome::NotStarted(NotStarted::Spawn("no".into())));
        let ended = || Evidence::Ended(WhatEnded::SpawnFailed("no".into()));
        for (known, evidence, expected) in [
            (JobState::Queued, Evidence::NeverStarted, Belief::Waits),
            (JobState::Preparing, Evidence::NeverStarted, Belief::Waits),
            (starting(None), Evidence::NeverStarted, Belief::Waits),
            (starting(Some(StopReason::Cancelled)), Evidence::NeverStarted, stopped),
            (JobState::Queued, alive(), Belief::Adopt(starting(None))),
            (running(), alive(), Belief::Adopt(running())),
            (stopping(), alive(), Belief::Adopt(stopping())),
            (running(), Evidence::Gone, Belief::Adopt(running())),
            (running(), Evidence::NeverStarted, lost),
            (JobState::Queued, ended(), failed.clone()),
            (running(), ended(), failed),
        ] {
            assert_eq!(believe(known.clone(), evidence.clone(), true), expected, "{known:?} and {evidence:?}");
        }
    }

    #[test]
    fn a_job_whose_environment_is_gone_does_not_start_with_another() {
        let believed = believe(JobState::Queued, Evidence::NeverStarted, false);
        assert!(matches!(believed, Belief::Finished(Outcome::NotStarted(NotStarted::Environment(_)))), "{believed:?}");
    }
}
