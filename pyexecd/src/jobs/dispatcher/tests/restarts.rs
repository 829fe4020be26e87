//! What a daemon makes of jobs that another one left, and of supervisors that were late.

use pyexec_proto::state::{JobState, NotStarted, Outcome, StopReason};

use super::fake::{exits, record, run};
use super::harness::Harness;
use crate::engine::RunEvent;
use crate::environment::EnvironmentError;

#[tokio::test(start_paused = true)]
async fn each_phase_is_taken_up_after_the_death_of_the_daemon() {
    let mut harness = Harness::new(2);
    let (running, launched) = (harness.submit().await, harness.submit().await);
    harness.start(running).await;
    harness.launch(launched).await;
    let waiting = harness.submit().await;
    harness.restart().await;
    assert!(matches!(harness.state(running).await, JobState::Running { .. }));
    assert!(matches!(harness.state(launched).await, JobState::Starting { stop: None }));
    assert_eq!(harness.state(waiting).await, JobState::Queued);
    assert!(!harness.preparer.is_asked_for(waiting), "two are under way");
    harness.engine.starts(launched);
    harness.until_state(launched, |state| matches!(state, JobState::Running { .. })).await;
    for id in [running, launched] {
        harness.engine.ends(id, &exits(None));
        assert_eq!(harness.until_forgotten(id).await, Outcome::Ended(record(None)));
    }
    harness.start(waiting).await;
    harness.engine.ends(waiting, &exits(None));
    assert_eq!(harness.until_forgotten(waiting).await, Outcome::Ended(record(None)));
    for id in [running, launched, waiting] {
        assert_eq!(harness.engine.of(id, |run| run.starts), 1, "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ended_or_was_lost_while_there_was_no_daemon_is_told_of_so() {
    let mut harness = Harness::new(2);
    let (ended, lost) = (harness.submit().await, harness.submit().await);
    harness.start(ended).await;
    harness.start(lost).await;
    harness.engine.ends(ended, &exits(None));
    harness.engine.ends(lost, &RunEvent::Lost);
    harness.restart().await;
    assert_eq!(harness.outcome(ended).await, Outcome::Ended(record(None)));
    assert_eq!(harness.outcome(lost).await, Outcome::Lost { last_seen: Some(run()) });
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_was_written_down_is_gone_on_with_by_the_next_daemon() {
    let mut harness = Harness::new(1);
    let id = harness.submit().await;
    harness.start(id).await;
    let _unanswered = harness.stop(id, false);
    harness.until_state(id, |state| matches!(state, JobState::Stopping { .. })).await;
    harness.restart().await;
    let told = |harness: &Harness| harness.engine.stops(id).into_iter().map(|(reason, _)| reason).next();
    let reason = harness.until("the supervisor is told", async || told(&harness)).await;
    assert_eq!(reason, StopReason::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_was_quicker_than_a_cancel_is_found_and_told() {
    for now in [false, true] {
        let harness = Harness::new(1);
        let (first, second) = (harness.submit().await, harness.submit().await);
        harness.start(first).await;
        // Of an earlier daemon, which had been told to start it.
        assert!(harness.engine.supervisor_begins(second));
        assert!(harness.stop(second, now).await.expect("is answered"));
        let reason = if now { StopReason::Killed } else { StopReason::Cancelled };
        assert_eq!(harness.state(second).await, JobState::Starting { stop: Some(reason) });
        assert_eq!(harness.engine.of(second, |run| run.adoptions), 1);
        assert_eq!(harness.engine.stops(second).first().map(|(reason, _)| *reason), Some(reason));
        harness.engine.starts(second);
        harness.until_state(second, |state| matches!(state, JobState::Stopping { .. })).await;
        harness.engine.ends(second, &exits(Some(reason)));
        assert_eq!(harness.outcome(second).await, Outcome::Ended(record(Some(reason))));
        assert_eq!(harness.engine.of(second, |run| run.starts), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_supervisor_that_was_quicker_than_the_preparation_is_adopted() {
    let harness = Harness::new(1);
    let (first, second) = (harness.submit().await, harness.submit().await);
    harness.start(first).await;
    assert!(harness.engine.supervisor_begins(second));
    harness.engine.ends(first, &exits(None));
    // What it would start with is gone, because it has started.
    harness.until_state(second, |state| matches!(state, JobState::Starting { stop: None })).await;
    harness.engine.starts(second);
    harness.until_state(second, |state| matches!(state, JobState::Running { .. })).await;
    harness.engine.ends(second, &exits(None));
    assert_eq!(harness.outcome(second).await, Outcome::Ended(record(None)));
    assert_eq!(harness.engine.of(second, |run| (run.starts, run.adoptions)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_cancelled_before_the_daemon_died_does_not_start_under_the_next() {
    let mut harness = Harness::new(1);
    let (first, second) = (harness.submit().await, harness.submit().await);
    harness.start(first).await;
    // The index hears of the wish, and of nothing after it.
    let _unanswered = harness.stop(second, false);
    harness.counts().await;
    harness.restart().await;
    let stopped = Outcome::NotStarted(NotStarted::Stopped(StopReason::Cancelled));
    assert_eq!(harness.outcome(second).await, stopped);
    harness.engine.ends(first, &exits(None));
    harness.until_forgotten(first).await;
    assert_eq!(harness.engine.of(second, |run| run.starts), 0);
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_preparation_fails_after_an_earlier_daemons_supervisor_has_started_it_runs() {
    let harness = Harness::new(1);
    let id = harness.submit().await;
    harness.until_preparing(id).await;
    assert!(harness.engine.supervisor_begins(id));
    assert!(harness.preparer.answer(id, Err(EnvironmentError::NoPython)));
    harness.until_state(id, |state| matches!(state, JobState::Starting { stop: None })).await;
    harness.engine.ends(id, &exits(None));
    assert_eq!(harness.outcome(id).await, Outcome::Ended(record(None)));
}
