//! Progress notifications during a call, for clients that requested them: hosts give up on calls that stay silent.

use std::time::Duration;

use pyexec_client::Client;
use pyexec_proto::{JobDetail, JobId, Progress, Status};
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::call::Call;

const INTERVAL: Duration = Duration::from_millis(500);

/// Awaits `wait`, and notifies the client of the job's progress meanwhile; `longest` is the longest time the wait may
/// take.
pub(crate) async fn with_progress<T>(
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
    let mut reported = Reported::default();
    loop {
        tokio::select! {
            biased;
            done = &mut wait => return done,
            _ = ticks.tick() => notify(call, client, id, &token, started.elapsed(), longest, &mut reported).await,
        }
    }
}

/// The time limit keeps a client that does not read from delaying the wait.
async fn notify(
    call: &Call<'_>,
    client: &Client,
    id: JobId,
    token: &ProgressToken,
    elapsed: Duration,
    longest: Duration,
    reported: &mut Reported,
) {
    const PATIENCE: Duration = Duration::from_millis(200);
    let Ok(job) = client.show(id).await else { return };
    let (progress, total) = reported.next(job.progress.as_ref(), elapsed, longest);
    let notification =
        ProgressNotificationParam::new(token.clone(), progress).with_total(total).with_message(message(&job));
    let _ = tokio::time::timeout(PATIENCE, call.context.peer.notify_progress(notification)).await;
}

fn message(job: &JobDetail) -> String {
    match (&job.message, job.state.status(), &job.progress) {
        (Some(message), Status::Pending, _) => message.clone(),
        (_, _, Some(progress)) => progress.sentence(),
        (_, status, None) => {
            format!("{status}, {} bytes on stdout, {} on stderr", job.output.stdout, job.output.stderr)
        }
    }
}

/// The last progress sent for one request. The protocol requires every number to be larger than the previous one.
///
/// The numbers are the job's own, from the moment they exceed the seconds sent before; until then, and for jobs without
/// progress, they are the seconds that the wait has lasted.
#[derive(Clone, Copy, Debug, Default)]
struct Reported {
    last: f64,
    /// The job's total, once it has been sent.
    total: Option<f64>,
}

impl Reported {
    fn next(&mut self, job: Option<&Progress>, elapsed: Duration, longest: Duration) -> (f64, f64) {
        let of_job = job.and_then(|job| Some((job.current?, job.total.filter(|total| *total > 0.0)?)));
        let (wanted, total) = match (self.total, of_job) {
            (None, Some((current, total))) if self.last == 0.0 || current > self.last => {
                self.total = Some(total);
                (current, total)
            }
            (None, _) => (elapsed.as_secs_f64(), longest.as_secs_f64()),
            // The total has changed; only the message of the notification reports that.
            (Some(total), Some((current, now))) if now == total => (current, total),
            (Some(total), _) => (0.0, total),
        };
        self.last = wanted.max(self.last.next_up());
        (self.last, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyexec_proto::progress::Seen;

    #[test]
    fn the_job_is_told_of_in_its_own_numbers_and_they_only_grow() {
        let mut reported = Reported::default();
        let mut next = |job: Option<(f64, f64)>, seconds| {
            let job = job.map(|(current, total)| Progress::of(Seen::Drawn, current, Some(total)));
            reported.next(job.as_ref(), Duration::from_secs(seconds), Duration::from_secs(20))
        };
        assert_eq!(next(None, 1), (1.0, 20.0));
        assert_eq!(next(Some((0.0, 40.0)), 2), (2.0, 20.0));
        let mut last = 2.0;
        for (job, whole) in [
            (Some((3.0, 40.0)), Some(3.0)),
            (Some((3.0, 40.0)), None),
            (Some((2.0, 40.0)), None),
            (Some((5.0, 900.0)), None),
            (None, None),
            (Some((40.0, 40.0)), Some(40.0)),
        ] {
            let (progress, total) = next(job, 6);
            assert!(progress > last, "{progress} after {last}");
            assert_eq!(total, 40.0);
            assert!(whole.is_none_or(|whole| whole == progress), "{progress} of {job:?}");
            last = progress;
        }
    }
}
