//! Nobody waits for the disk but those who asked for what is written there.

use pyexec_proto::job::Watching;
use pyexec_proto::state::{JobState, NotStarted, Outcome, StopReason};

use super::fake::exits;
use super::harness::Harness;
use crate::jobs::command::Command;

#[tokio::test(start_paused = true)]
async fn while_a_thousand_jobs_are_cancelled_and_the_index_is_slow_everybody_else_is_answered() {
    const JOBS: usize = 1_000;
    let harness = Harness::new(1);
    let running = harness.submit().await;
    harness.start(running).await;
    let mut waiting = Vec::new();
    for _ in 0..JOBS {
        waiting.push(harness.submit().await);
    }
    assert_eq!(harness.counts().await.pending, JOBS);
    // Nothing gets into the index from here on.
    harness.index.hold();
    let answers: Vec<_> = waiting.iter().map(|id| harness.stop(*id, false)).collect();
    let counts = harness.counts().await;
    assert_eq!((counts.running, counts.pending), (1, JOBS), "they are cancelled once that is written");
    for id in [running, waiting[0], waiting[JOBS - 1]] {
        assert!(harness.ask(|answer| Command::Describe { id, answer }).await.is_some());
        assert!(harness.ask(|answer| Command::Watch { id, answer }).await.is_some());
    }
    assert!(
        !harness.ask(|answer| Command::Foresee { parent: None, watching: Watching::default(), answer }).await,
        "one is running"
    );
    assert!(harness.ask(|answer| Command::EnvironmentsInUse { answer }).await.is_empty());
    // Also that a job ends is seen.
    harness.engine.ends(running, &exits(None));
    harness.until_state(running, JobState::is_finished).await;
    harness.index.release();
    for answer in answers {
        assert!(answer.await.expect("is answered"));
    }
    let cancelled = Outcome::NotStarted(NotStarted::Stopped(StopReason::Cancelled));
    for id in waiting {
        assert_eq!(harness.until_forgotten(id).await, cancelled);
        assert_eq!(harness.engine.of(id, |run| run.starts), 0);
    }
    assert_eq!((harness.counts().await.running, harness.counts().await.pending), (0, 0));
}
