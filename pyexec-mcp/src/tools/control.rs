//! `py_cancel_job`, `py_kill_job` and `py_prune_jobs`: end jobs, and remove finished ones.

use std::future::pending;
use std::time::{Duration, Instant};

use futures::FutureExt;
use pyexec_client::Client;
use pyexec_proto::request::{MAX_WAIT_MS, PruneRequest, StopAnswer, StopRequest};
use pyexec_proto::state::Verdict;
use pyexec_proto::{JobDetail, JobId, Status};
use pyexec_view::NotRemovedView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parameters::{job_id, milliseconds};
use super::schema::Shape;
use super::tool::{Hints, Tool};
use crate::answer::{Answer, Failure, render};
use crate::arguments::{Kind, Parameter};
use crate::call::Call;

/// Additional time after the grace period, for killing and cleaning up.
const SLACK: Duration = Duration::from_secs(10);

pub(super) fn tools() -> Vec<Tool> {
    let keep = |name| Parameter::new(name, Kind::Flag, "").default(false);
    vec![
        Tool {
            name: "py_cancel_job",
            title: "Cancel a job",
            about: "End a job and all its processes: TERM, then KILL after grace_seconds. What it printed is kept.",
            hints: Hints::Removes,
            parameters: vec![
                job_id(),
                Parameter::new("grace_seconds", Kind::Number { least: 0.0, most: 3600.0 }, "").default(5),
            ],
            returns: vec![Shape::of::<Stopped>()],
            perform: |call| cancel(call).boxed(),
        },
        Tool {
            name: "py_kill_job",
            title: "Kill a job",
            about: "End a job and all its processes at once, with KILL.",
            hints: Hints::Removes,
            parameters: vec![job_id()],
            returns: vec![Shape::of::<Stopped>()],
            perform: |call| kill(call).boxed(),
        },
        Tool {
            name: "py_prune_jobs",
            title: "Forget finished jobs",
            about: "Remove finished jobs older than max_age_hours, and their files.",
            hints: Hints::Removes,
            parameters: vec![
                keep("keep_completed"),
                keep("keep_failed"),
                Parameter::new("max_age_hours", Kind::Number { least: 0.0, most: 1e6 }, "").default(24),
                keep("dry_run"),
            ],
            returns: vec![Shape::of::<Pruned>()],
            perform: |call| prune(call).boxed(),
        },
    ]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    job_id: String,
    grace_seconds: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kill {
    job_id: String,
}

#[derive(Serialize, JsonSchema)]
struct Stopped {
    job_id: String,
    status: &'static str,
    exit_code: Option<i32>,
}

async fn cancel(call: &Call<'_>) -> Result<Answer, Failure> {
    let given: Cancel = call.read()?;
    let grace = Duration::from_millis(milliseconds(given.grace_seconds));
    let grace_ms = Some(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
    stop(call, &given.job_id, StopRequest { now: false, grace_ms }, grace, "cancelled").await
}

async fn kill(call: &Call<'_>) -> Result<Answer, Failure> {
    let given: Kill = call.read()?;
    stop(call, &given.job_id, StopRequest { now: true, grace_ms: None }, Duration::ZERO, "killed").await
}

async fn stop(
    call: &Call<'_>,
    given: &str,
    request: StopRequest,
    grace: Duration,
    done: &'static str,
) -> Result<Answer, Failure> {
    let client = call.session.client().await?;
    let id = client.resolve(given).await?;
    let (status, job) = match client.stop(id, request).await? {
        StopAnswer::AlreadyFinished(job) => ("already-finished", *job),
        StopAnswer::Stopping => {
            let job = ended(&client, id, grace + SLACK).await?;
            let status = match verdict(&job) {
                None => "stopping",
                Some(verdict) if verdict.status == Status::Cancelled => done,
                // The job ended before the request.
                Some(_) => "already-finished",
            };
            (status, job)
        }
    };
    let exit_code = verdict(&job).and_then(|verdict| verdict.exit_code);
    let code = exit_code.map(|code| format!(" · exit code {code}")).unwrap_or_default();
    let text = match status {
        "already-finished" => format!("**Already finished** ({}){code} · job `{id}`", job.state.status()),
        "stopping" => {
            let why =
                job.message.as_deref().map(|message| format!(": {}", render::inline(message))).unwrap_or_default();
            format!(
                "**Stopping** · job `{id}`\n\nIt has not ended yet{why}.\n\n**Next:** py_job_status(job_id=\"{id}\", \
                 wait_seconds=45) waits for the end; py_kill_job gives it no grace period."
            )
        }
        done => format!("**{}**{code} · job `{id}`", if done == "killed" { "Killed" } else { "Cancelled" }),
    };
    Ok(Answer::new(text, Stopped { job_id: id.to_string(), status, exit_code }))
}

fn verdict(job: &JobDetail) -> Option<Verdict> {
    job.state.outcome().map(pyexec_proto::Outcome::verdict)
}

/// Waits for the end of the job, and returns its current state when the time is over, because a call has to be answered
/// before hosts give up.
async fn ended(client: &Client, id: JobId, patience: Duration) -> Result<JobDetail, Failure> {
    let until = Instant::now() + patience.min(Duration::from_millis(MAX_WAIT_MS));
    match client.wait_until(id, until, pending()).await? {
        Some(job) => Ok(job),
        None => Ok(client.show(id).await?),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Prune {
    keep_completed: bool,
    keep_failed: bool,
    max_age_hours: f64,
    dry_run: bool,
}

#[derive(Serialize, JsonSchema)]
struct Pruned {
    removed: u64,
    remaining: u64,
    bytes_freed: u64,
    dry_run: bool,
    /// The number of jobs that could not be removed; only the first are listed.
    not_removed_total: u64,
    not_removed: Vec<NotRemovedView>,
}

async fn prune(call: &Call<'_>) -> Result<Answer, Failure> {
    let given: Prune = call.read()?;
    let request = PruneRequest {
        older_than_ms: milliseconds(given.max_age_hours * 3600.0),
        keep_completed: given.keep_completed,
        keep_failed: given.keep_failed,
        dry_run: given.dry_run,
    };
    let pruned = call.session.client().await?.prune(request).await?;
    let (would, be) = if given.dry_run { ("Would remove", "would remain") } else { ("Removed", "remain") };
    let mut text =
        format!("{would} {} jobs with {} bytes; {} {be}.", pruned.removed, pruned.bytes_freed, pruned.remaining);
    if !pruned.not_removed.is_empty() {
        text.push_str(&format!("\n\n**Not removed:** {}\n", pruned.not_removed.total));
        for one in &pruned.not_removed.first {
            let NotRemovedView { id, path, problem } = NotRemovedView::of(one);
            text.push_str(&format!("\n- job `{id}`: {}: {}", render::inline(&path), render::inline(&problem)));
        }
        text.push_str("\n\n**Next:** have what is named removed by its owner, then call py_prune_jobs again");
    }
    let pruned = Pruned {
        removed: pruned.removed,
        remaining: pruned.remaining,
        bytes_freed: pruned.bytes_freed,
        dry_run: given.dry_run,
        not_removed_total: pruned.not_removed.total,
        not_removed: pruned.not_removed.first.iter().map(NotRemovedView::of).collect(),
    };
    Ok(Answer::new(text, pruned))
}
