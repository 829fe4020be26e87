//! Tells a client that asked for it how a call goes that waits: hosts give up on calls they hear nothing of.

use std::time::Duration;

use pyexec_proto::{Client, JobId, Status};
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::tools::Call;

const INTERVAL: Duration = Duration::from_millis(500);

/// Awaits `wait`, and tells of the job meanwhile; `longest` is what the wait takes at the most.
pub(crate) async fn told_while<T>(
    call: &Call<'_>,
    client: &Client,
    id: JobId,
    longest: Duration,
    wait: impl Future<Output = T>,
) -> T {
    let Some(token) = call.context.meta.get_progress_token() else { return wait.await };
    let started = Instant::now();
    let mut ticks = interval_at(started + INTERVAL, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wait = std::pin::pin!(wait);
    loop {
        tokio::select! {
            biased;
            done = &mut wait => return done,
            _ = ticks.tick() => tell(call, client, id, &token, started.elapsed(), longest).await,
        }
    }
}

/// A client that does not read must not hold up the wait.
async fn tell(
    call: &Call<'_>,
    client: &Client,
    id: JobId,
    token: &ProgressToken,
    elapsed: Duration,
    longest: Duration,
) {
    const PATIENCE: Duration = Duration::from_millis(200);
    let Ok(job) = client.show(id).await else { return };
    let message = match (job.message, job.state.status()) {
        (Some(message), Status::Pending) => message,
        (_, status) => format!("{status}, {} bytes on stdout, {} on stderr", job.output.stdout, job.output.stderr),
    };
    let progress = ProgressNotificationParam::new(token.clone(), elapsed.as_secs_f64())
        .with_total(longest.as_secs_f64())
        .with_message(message);
    let _ = tokio::time::timeout(PATIENCE, call.context.peer.notify_progress(progress)).await;
}
