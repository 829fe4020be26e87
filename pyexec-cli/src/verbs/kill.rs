//! `pyexec kill`: cancels jobs, or kills them, and waits until they have ended.

use std::future::pending;
use std::time::{Duration, Instant};

use pyexec_client::Client;
use pyexec_proto::request::{JobQuery, StopAnswer, StopRequest};
use pyexec_proto::{JobDetail, JobId, Outcome, Reason, Status};

use crate::args::Kill;
use crate::attach::interruption::wait_briefly;
use crate::connection::{connect, connect_and_resolve, note_unaffected};
use crate::exit_code::{Code, Failure, SUCCESS};
use crate::listing::newest;
use crate::terminal;

pub(crate) async fn perform(kill: &Kill) -> Result<Code, Failure> {
    let (client, ids) = if kill.all || kill.label.is_some() {
        let client = connect().await?;
        let ids = unfinished(&client, kill.label.clone()).await?;
        (client, ids)
    } else {
        connect_and_resolve(&kill.ids).await?
    };
    if ids.is_empty() {
        terminal::note("no jobs are running or queued");
        return Ok(SUCCESS);
    }
    let grace_ms = kill.grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
    let request = StopRequest { now: kill.now, grace_ms };
    // All are asked before any is waited for, so that their graces pass together.
    let mut asked = Vec::with_capacity(ids.len());
    for id in ids {
        let stopped = client.stop(id, request).await.map_err(Failure::from);
        asked.push((id, note_unaffected(id, stopped)?));
    }
    for (id, answer) in asked {
        let what = match answer {
            StopAnswer::AlreadyFinished(_) => ALREADY_FINISHED,
            StopAnswer::Stopping => how_it_ended(&note_unaffected(id, end_of(&client, id, kill.now).await)?),
        };
        terminal::print(&format!("{id} {what}\n"))?;
    }
    Ok(SUCCESS)
}

/// The job as it is when it has finished. A job that is killed, and kept from ending by something that the daemon knows of,
/// is not waited for without end.
async fn end_of(client: &Client, id: JobId, now: bool) -> Result<JobDetail, Failure> {
    const KILLED_WITHIN: Duration = Duration::from_secs(30);
    if let Some(job) = wait_briefly(client, id).await? {
        return Ok(job);
    }
    if now {
        if let Some(job) = client.wait_until(id, Instant::now() + KILLED_WITHIN, pending()).await? {
            return Ok(job);
        }
        if let Some(problem) = client.show(id).await?.message {
            return Err(Failure::NotEnded { id, limit: KILLED_WITHIN, problem });
        }
    }
    Ok(client.wait(id).await?)
}

const ALREADY_FINISHED: &str = "already finished";

/// What is running, and what is waiting to.
async fn unfinished(client: &Client, label: Option<String>) -> Result<Vec<JobId>, Failure> {
    let statuses = vec![Status::Pending, Status::Running];
    let query = JobQuery { statuses, label, ..JobQuery::default() };
    let (jobs, _) = newest(client, query, usize::MAX).await?;
    Ok(jobs.iter().map(|job| job.id).collect())
}

/// The record says it: a stop that lost the race did not stop anything.
fn how_it_ended(job: &JobDetail) -> &'static str {
    what(job.state.outcome().map(Outcome::verdict).map(|verdict| verdict.reason))
}

fn what(reason: Option<Reason>) -> &'static str {
    match reason {
        Some(Reason::Cancelled) => "cancelled",
        Some(Reason::Killed) => "killed",
        Some(Reason::TimedOut) => "timed out",
        Some(Reason::Lost) => "lost",
        Some(
            Reason::Exit
            | Reason::Signal
            | Reason::Environment
            | Reason::Spawn
            | Reason::MemoryLimit
            | Reason::CpuLimit
            | Reason::ProcessLimit
            | Reason::OutputLimit,
        )
        | None => ALREADY_FINISHED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_was_faster_than_its_stop_is_said_to_have_finished() {
        assert_eq!(what(Some(Reason::Exit)), "already finished");
        assert_eq!(what(Some(Reason::Cancelled)), "cancelled");
        assert_eq!(what(Some(Reason::Killed)), "killed");
    }
}
