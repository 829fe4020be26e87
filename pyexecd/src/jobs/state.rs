//! How a job's state changes: the whole machine in one pure function. It is drawn in [`pyexec_proto::state`].

use pyexec_proto::state::{JobState, NotStarted, Outcome, StopReason};

use crate::engine::RunEvent;
use pyexec_run_directory::record::WhatEnded;

/// What can happen to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// It is its turn.
    Admitted,
    /// Its environment is ready.
    Prepared,
    PreparationFailed(String),
    StopRequested(StopReason),
    /// Its engine says so.
    Run(RunEvent),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} cannot happen to a job that is {state:?}")]
pub struct InvalidTransition {
    pub state: Box<JobState>,
    pub event: Box<JobEvent>,
}

pub fn transition(state: JobState, event: JobEvent) -> Result<JobState, InvalidTransition> {
    use JobEvent::{Admitted, PreparationFailed, Prepared, StopRequested};
    use JobState::{Finished, Preparing, Queued, Running, Starting, Stopping};
    use RunEvent::{Ended, Lost, Started};
    use WhatEnded::SpawnFailed;
    let not_started = |why| Finished(Outcome::NotStarted(why));
    let lost = |last_seen| Finished(Outcome::Lost { last_seen });
    Ok(match (state, event) {
        (Queued, Admitted) => Preparing,
        (Preparing, Prepared) => Starting { stop: None },
        (Preparing, PreparationFailed(why)) => not_started(NotStarted::Environment(why)),
        (Queued | Preparing, StopRequested(reason)) => not_started(NotStarted::Stopped(reason)),

        (Starting { stop }, StopRequested(reason)) => Starting { stop: Some(firmer(stop, reason)) },
        (Starting { stop: None }, JobEvent::Run(Started(run))) => Running { run },
        (Starting { stop: Some(reason) }, JobEvent::Run(Started(run))) => Stopping { run, reason },
        (Starting { stop: None }, JobEvent::Run(Ended(SpawnFailed(why)))) => not_started(NotStarted::Spawn(why)),
        (Starting { stop: Some(reason) }, JobEvent::Run(Ended(SpawnFailed(_)))) => {
            not_started(NotStarted::Stopped(reason))
        }

        (Running { run }, StopRequested(reason)) => Stopping { run, reason },
        (Stopping { run, reason }, StopRequested(next)) => Stopping { run, reason: firmer(Some(reason), next) },
        (Running { .. }, JobEvent::Run(Started(run))) => Running { run },
        (Stopping { reason, .. }, JobEvent::Run(Started(run))) => Stopping { run, reason },

        // The record says how it ended, whatever was being asked for at the time.
        (Starting { .. } | Running { .. } | Stopping { .. }, JobEvent::Run(Ended(WhatEnded::Run(record)))) => {
            Finished(Outcome::Ended(record))
        }
        (Starting { .. }, JobEvent::Run(Lost)) => lost(None),
        (Running { run } | Stopping { run, .. }, JobEvent::Run(Lost)) => lost(Some(run)),

        (state, event) => return Err(InvalidTransition { state: Box::new(state), event: Box::new(event) }),
    })
}

/// The first reason stands, unless the next one is to kill.
fn firmer(first: Option<StopReason>, next: StopReason) -> StopReason {
    match (first, next) {
        (_, StopReason::Killed) | (None, _) => next,
        (Some(first), _) => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use pyexec_proto::Timestamp;
    use pyexec_proto::exit::ExitStatus;
    use pyexec_proto::state::{ExitRecord, Run};

    fn run() -> Run {
        Run::of_process(7, Timestamp(1))
    }

    fn record() -> ExitRecord {
        ExitRecord {
            run: run(),
            exit: ExitStatus::Success,
            stopped: None,
            usage: Default::default(),
            ended_at: Timestamp(2),
            elapsed_us: 1,
            output: Default::default(),
            benchmark: None,
        }
    }

    fn started() -> JobEvent {
        JobEvent::Run(RunEvent::Started(run()))
    }

    fn ended() -> JobEvent {
        JobEvent::Run(RunEvent::Ended(WhatEnded::Run(record())))
    }

    fn after(events: &[JobEvent]) -> JobState {
        events.iter().fold(JobState::Queued, |state, event| transition(state, event.clone()).expect("is a path"))
    }

    #[test]
    fn a_job_goes_from_queued_to_finished() {
        let events = [JobEvent::Admitted, JobEvent::Prepared, started(), ended()];
        assert_eq!(after(&events), JobState::Finished(Outcome::Ended(record())));
    }

    #[test]
    fn a_cancel_before_there_is_a_process_is_remembered() {
        let cancel = JobEvent::StopRequested(StopReason::Cancelled);
        let events = [JobEvent::Admitted, JobEvent::Prepared, cancel, started()];
        assert_eq!(after(&events), JobState::Stopping { run: run(), reason: StopReason::Cancelled });
    }

    #[test]
    fn a_cancel_that_loses_the_race_does_not_rewrite_success() {
        let cancel = JobEvent::StopRequested(StopReason::Cancelled);
        let events = [JobEvent::Admitted, JobEvent::Prepared, started(), cancel, ended()];
        assert_eq!(after(&events), JobState::Finished(Outcome::Ended(record())));
    }

    #[test]
    fn a_kill_overrides_a_cancel_and_not_the_other_way_round() {
        let stop = JobEvent::StopRequested;
        let started = [JobEvent::Admitted, JobEvent::Prepared, started()];
        for (first, second) in
            [(StopReason::Cancelled, StopReason::Killed), (StopReason::Killed, StopReason::Cancelled)]
        {
            let events = [&started[..], &[stop(first), stop(second)]].concat();
            assert_eq!(after(&events), JobState::Stopping { run: run(), reason: StopReason::Killed });
        }
    }

    fn any_event() -> impl Strategy<Value = JobEvent> {
        prop_oneof![
            Just(JobEvent::Admitted),
            Just(JobEvent::Prepared),
            Just(JobEvent::PreparationFailed("no".into())),
            Just(started()),
            Just(JobEvent::StopRequested(StopReason::Cancelled)),
            Just(JobEvent::StopRequested(StopReason::Killed)),
            Just(JobEvent::Run(RunEvent::Ended(WhatEnded::SpawnFailed("no".into())))),
            Just(ended()),
            Just(JobEvent::Run(RunEvent::Lost)),
        ]
    }

    proptest! {
        #[test]
        fn what_is_finished_stays_as_it_is(events in proptest::collection::vec(any_event(), 0..12)) {
            let mut state = JobState::Queued;
            for event in events {
                let before = state.clone();
                match transition(state, event) {
                    Ok(after) => {
                        prop_assert!(!before.is_finished(), "{before:?} became {after:?}");
                        state = after;
                    }
                    Err(refused) => state = *refused.state,
                }
            }
        }

        #[test]
        fn a_process_once_seen_is_never_forgotten(events in proptest::collection::vec(any_event(), 0..12)) {
            let mut state = JobState::Queued;
            for event in events {
                let had_run = state.run().is_some();
                if let Ok(after) = transition(state.clone(), event) {
                    prop_assert!(!had_run || after.run().is_some(), "{state:?} became {after:?}");
                    state = after;
                }
            }
        }
    }
}
