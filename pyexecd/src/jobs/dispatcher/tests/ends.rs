//! How a job may end, at each phase, and what the index and the run directory then say.

use std::time::Duration;

use pyexec_proto::state::{JobState, NotStarted, Outcome, StopReason};

use super::fake::{exits, record};
use super::harness::{Harness, spec};
use crate::engine::RunEvent;
use crate::environment::EnvironmentError;
use crate::jobs::command::Command;
use pyexec_run_directory::directory as run_directory;
use pyexec_run_directory::record::WhatEnded;

const CANCELLED: Outcome = Outcome::NotStarted(NotStarted::Stopped(StopReason::Cancelled));

#[tokio::test(start_paused = true)]
async fn a_job_that_runs_ends_as_its_record_says() {
    for stopped in [None, Some(StopReason::TimedOut), Some(StopReason::MemoryLimit)] {
        let harness = Harness::new(1);
        let id = harness.submit().await;
        harness.start(id).await;
        assert_eq!((harness.counts().await.running, harness.counts().await.pending), (1, 0));
        harness.engine.ends(id, &exits(stopped));
        assert_eq!(harness.until_forgotten(id).await, Outcome::Ended(record(stopped)));
        assert_eq!(harness.counts().await.running, 0);
        assert_eq!(harness.engine.of(id, |run| run.starts), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn every_change_of_a_job_is_noted() {
    let harness = Harness::new(1);
    let mut since = harness.changes.since(None).0;
    let mut has_changed = |what: &str, id| {
        let (now, known) = harness.changes.since(Some(since));
        assert_eq!(known, Some(vec![id]), "{what}");
        since = now;
    };
    let id = harness.submit().await;
    has_changed("is submitted", id);
    harness.until_preparing(id).await;
    harness.launch(id).await;
    has_changed("starts", id);
    harness.engine.starts(id);
    harness.until_state(id, |state| matches!(state, JobState::Running { .. })).await;
    has_changed("runs", id);
    assert!(harness.stop(id, false).await.expect("is answered"));
    has_changed("is to stop", id);
    harness.engine.ends(id, &exits(None));
    harness.until_forgotten(id).await;
    has_changed("has ended", id);
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_is_late_or_cannot_be_made_is_why_a_job_did_not_start() {
    for error in [EnvironmentError::NoPython, EnvironmentError::Late { limit: Duration::from_secs(3) }] {
        let harness = Harness::new(1);
        let (id, next) = (harness.submit().await, harness.submit().await);
        harness.until_preparing(id).await;
        let expected = Outcome::NotStarted(NotStarted::Environment(error.to_string()));
        assert!(harness.preparer.answer(id, Err(error)));
        assert_eq!(harness.outcome(id).await, expected);
        // By the time anybody hears of it, it is on disk, and the permission to start is gone.
        assert_eq!(run_directory::outcome(&harness.run_directory(id)).expect("can be read"), Some(expected));
        assert!(!run_directory::revoke(&harness.run_directory(id)).expect("can be looked at"));
        // Its place is free.
        harness.until_preparing(next).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_or_is_prepared_is_cancelled_without_a_process() {
    let harness = Harness::new(1);
    let (prepared, waiting) = (harness.submit().await, harness.submit().await);
    harness.until_preparing(prepared).await;
    for id in [waiting, prepared] {
        assert!(harness.stop(id, false).await.expect("is answered"));
        assert_eq!(harness.outcome(id).await, CANCELLED);
        let written = run_directory::outcome(&harness.run_directory(id)).expect("can be read");
        assert_eq!(written, Some(CANCELLED));
        assert!(!harness.preparer.is_asked_for(id), "its environment is still being prepared");
        assert_eq!(harness.engine.of(id, |run| run.starts), 0);
        harness.until_forgotten(id).await;
        assert!(!harness.stop(id, false).await.expect("is answered"), "there is nothing to stop any more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_it_is_written_down_that_the_job_starts_reaches_its_supervisor() {
    let harness = Harness::new(1);
    let (first, second) = (harness.submit().await, harness.submit().await);
    harness.start(first).await;
    harness.engine.ends(first, &exits(None));
    harness.until_preparing(second).await;
    // It had to wait, so that it starts only when the index has heard of it.
    harness.index.hold();
    assert!(harness.preparer.answer(second, Ok(())));
    harness.until_state(second, |state| matches!(state, JobState::Starting { .. })).await;
    let answered = harness.stop(second, true);
    harness.counts().await;
    assert!(!harness.engine.is_alive(second), "it was started before that is on disk");
    harness.index.release();
    assert!(answered.await.expect("is answered"));
    harness.until("the engine has it", async || harness.engine.is_alive(second).then_some(())).await;
    harness
        .until("the stop is passed on", async || {
            harness
                .engine
                .stops(second)
                .into_iter()
                .find(|(reason, grace)| *reason == StopReason::Killed && grace.is_zero())
        })
        .await;
    harness.engine.ends(second, &RunEvent::Ended(WhatEnded::SpawnFailed("no".to_owned())));
    assert_eq!(harness.outcome(second).await, Outcome::NotStarted(NotStarted::Stopped(StopReason::Killed)));
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_written_down_before_the_supervisor_hears_of_it() {
    let harness = Harness::new(1);
    let id = harness.submit().await;
    harness.start(id).await;
    harness.index.hold();
    let answered = harness.stop(id, false);
    harness.until_state(id, |state| matches!(state, JobState::Stopping { .. })).await;
    assert_eq!(harness.engine.stops(id), vec![]);
    harness.index.release();
    assert!(answered.await.expect("is answered"));
    assert_eq!(harness.engine.stops(id), vec![(StopReason::Cancelled, Duration::from_millis(9))]);
    // The first grace stands for whoever kills it later: at once.
    assert!(harness.stop(id, true).await.expect("is answered"));
    assert_eq!(harness.engine.stops(id), vec![(StopReason::Killed, Duration::ZERO)]);
    harness.engine.ends(id, &exits(Some(StopReason::Killed)));
    assert_eq!(harness.outcome(id).await, Outcome::Ended(record(Some(StopReason::Killed))));
}

#[tokio::test(start_paused = true)]
async fn whoever_stops_a_job_while_its_end_is_written_is_told_when_it_can_be_seen() {
    let harness = Harness::new(1);
    let id = harness.submit().await;
    harness.until_preparing(id).await;
    harness.index.hold();
    let stops = [harness.stop(id, false), harness.stop(id, true)];
    harness.counts().await;
    assert!(!harness.state(id).await.is_finished(), "nothing is written yet");
    harness.index.release();
    for stop in stops {
        assert!(stop.await.expect("is answered"));
        assert!(harness.state(id).await.is_finished());
    }
    assert_eq!(harness.outcome(id).await, CANCELLED);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_is_made_again_and_the_job_is_told_of_meanwhile() {
    let harness = Harness::new(1);
    let id = harness.submit().await;
    harness.start(id).await;
    harness.store.barrier().await.expect("works");
    harness.index.refuse(3);
    harness.engine.ends(id, &exits(None));
    assert_eq!(harness.outcome(id).await, Outcome::Ended(record(None)));
    // Its place is not held back by an index that cannot be written.
    let (job, may_start) = harness.recorded_elsewhere(spec());
    let next = harness.accept(job, may_start).await;
    harness.until_preparing(next).await;
    assert_eq!(harness.until_forgotten(id).await, Outcome::Ended(record(None)));
    assert_eq!(harness.index.still_refused(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_commit_is_tried_again_though_the_dispatcher_is_never_idle() {
    let harness = Harness::new(1);
    let id = harness.submit().await;
    harness.start(id).await;
    harness.store.barrier().await.expect("works");
    harness.index.refuse(1);
    harness.engine.ends(id, &exits(None));
    harness.outcome(id).await;
    // Asked more often than once a second: each look moves the clock by a millisecond.
    harness.until_forgotten(id).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_foreseen_to_start_and_is_overtaken_waits_and_runs_once() {
    let harness = Harness::new(1);
    let (first, may_start) = harness.record(spec()).await;
    assert!(may_start);
    // Before it is accepted, another is.
    let (second, may_start) = harness.record(spec()).await;
    assert!(may_start, "nobody is in the queue yet");
    let second = harness.accept(second, true).await;
    let first = harness.accept(first, true).await;
    harness.start(second).await;
    assert_eq!(harness.state(first).await, JobState::Queued);
    harness.engine.ends(second, &exits(None));
    harness.start(first).await;
    harness.engine.ends(first, &exits(None));
    assert_eq!(harness.outcome(first).await, Outcome::Ended(record(None)));
    assert_eq!((harness.engine.of(first, |run| run.starts), harness.engine.of(second, |run| run.starts)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_accepted_twice_has_one_place() {
    let harness = Harness::new(1);
    let (job, may_start) = harness.record(spec()).await;
    let id = harness.accept(job.clone(), may_start).await;
    let again = harness.ask(|answer| Command::Accept { job: Box::new(job), may_start, answer }).await;
    assert!(again.is_none());
    harness.start(id).await;
    harness.engine.ends(id, &exits(None));
    harness.until_forgotten(id).await;
    assert_eq!(harness.engine.of(id, |run| run.starts), 1);
}
