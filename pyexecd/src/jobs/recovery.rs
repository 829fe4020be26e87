//! What to believe after a restart: what the index last knew of a job, against what lies in its run directory.

use pyexec_proto::JobState;
use pyexec_proto::state::{NotStarted, Outcome};

use crate::engine::Evidence;
use pyexec_run_directory::directory::outcome_of;

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

/// What is known of a job beside its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// The environment it would start with is still there.
    pub has_environment: bool,
    /// It may have been started in an earlier boot, of which the run directory need not know: nothing but the index is
    /// written durably before a start.
    pub may_have_run: bool,
}

pub fn believe(known: JobState, evidence: Evidence, circumstances: Circumstances) -> Belief {
    match (evidence, known) {
        (Evidence::Ended(what), _) => Belief::Finished(outcome_of(*what)),
        // It was started, which the index did not know of, and nobody is left to say how it ended.
        (Evidence::Gone, JobState::Queued | JobState::Preparing | JobState::Starting { .. }) => {
            Belief::Finished(Outcome::Lost { last_seen: None })
        }
        (Evidence::Alive | Evidence::Gone, known) => Belief::Adopt(match known {
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
            if circumstances.may_have_run {
                Belief::Finished(Outcome::Lost { last_seen: None })
            } else if circumstances.has_environment {
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
    use pyexec_proto::Timestamp;
    use pyexec_proto::state::{Run, StopReason};
    use pyexec_run_directory::record::WhatEnded;

    const WHOLE: Circumstances = Circumstances { has_environment: true, may_have_run: false };

    #[test]
    fn a_job_that_may_have_run_before_a_reboot_is_not_run_again() {
        let believed = believe(JobState::Queued, Evidence::NeverStarted, Circumstances { may_have_run: true, ..WHOLE });
        assert_eq!(believed, Belief::Finished(Outcome::Lost { last_seen: None }));
    }

    fn run() -> Run {
        Run::of_process(9, Timestamp(1))
    }

    #[test]
    fn the_run_directory_wins_over_the_index() {
        let running = || JobState::Running { run: run() };
        let stopping = || JobState::Stopping { run: run(), reason: StopReason::Cancelled };
        let starting = |stop| JobState::Starting { stop };
        let lost = Belief::Finished(Outcome::Lost { last_seen: Some(run()) });
        let stopped = Belief::Finished(Outcome::NotStarted(NotStarted::Stopped(StopReason::Cancelled)));
        let failed = Belief::Finished(Outcome::NotStarted(NotStarted::Spawn("no".into())));
        let ended = || Evidence::Ended(Box::new(WhatEnded::SpawnFailed("no".into())));
        for (known, evidence, expected) in [
            (JobState::Queued, Evidence::NeverStarted, Belief::Waits),
            (JobState::Preparing, Evidence::NeverStarted, Belief::Waits),
            (starting(None), Evidence::NeverStarted, Belief::Waits),
            (starting(Some(StopReason::Cancelled)), Evidence::NeverStarted, stopped),
            (JobState::Queued, Evidence::Alive, Belief::Adopt(starting(None))),
            (running(), Evidence::Alive, Belief::Adopt(running())),
            (stopping(), Evidence::Alive, Belief::Adopt(stopping())),
            (running(), Evidence::Gone, Belief::Adopt(running())),
            (JobState::Queued, Evidence::Gone, Belief::Finished(Outcome::Lost { last_seen: None })),
            (starting(None), Evidence::Gone, Belief::Finished(Outcome::Lost { last_seen: None })),
            (running(), Evidence::NeverStarted, lost),
            (JobState::Queued, ended(), failed.clone()),
            (running(), ended(), failed),
        ] {
            assert_eq!(believe(known.clone(), evidence.clone(), WHOLE), expected, "{known:?} and {evidence:?}");
        }
    }

    #[test]
    fn a_job_whose_environment_is_gone_does_not_start_with_another() {
        let believed =
            believe(JobState::Queued, Evidence::NeverStarted, Circumstances { has_environment: false, ..WHOLE });
        assert!(matches!(believed, Belief::Finished(Outcome::NotStarted(NotStarted::Environment(_)))), "{believed:?}");
    }
}
