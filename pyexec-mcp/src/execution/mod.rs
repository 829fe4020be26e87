//! Runs a script for every tool: submits the job, waits as long as the budget lasts, and then stops waiting, which does
//! not affect the job.
//!
//! [`executed`] has the result of a finished job, [`progress`] the notifications during a call.

mod artifacts;
mod executed;
mod inline_script;
mod progress;

use std::future::pending;
use std::time::{Duration, Instant};

use pyexec_client::Client;
use pyexec_proto::job::Submission;
use pyexec_proto::output::Stream;
use pyexec_proto::request::{MAX_WAIT_MS, StopRequest};
use pyexec_proto::state::NotStarted;
use pyexec_proto::{JobDetail, JobId, Outcome, Status};
use pyexec_view::timeline::Timeline;
use schemars::JsonSchema;
use serde::Serialize;

use crate::answer::{Answer, Failure, Picture, images, render};
use crate::call::Call;
pub(crate) use artifacts::line as artifacts_line;
use executed::excerpt;
pub(crate) use executed::{Executed, packages};
pub(crate) use inline_script::InlineScript;
pub(crate) use progress::with_progress;

/// The shortest wait suggested for a follow-up call, in seconds.
const SUGGESTED_WAIT_SECONDS: u64 = MAX_WAIT_MS / 1000;

/// Submits a job.
pub(crate) async fn submit(call: &Call<'_>, submission: Submission) -> Result<JobDetail, Failure> {
    Ok(call.session.client().await?.submit(submission).await?)
}

/// The additions to the text that a call requested.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extras {
    /// A picture of the last run.
    pub(crate) plot: bool,
    /// The images among the job's artifacts.
    pub(crate) images: bool,
}

/// Answers with the result of a job or, if the budget is used up, with its current state.
///
/// # Errors
///
/// Every failure names the job, which was accepted and goes on.
pub(crate) async fn attend(call: &Call<'_>, id: JobId, max_bytes: u32, extras: Extras) -> Result<Answer, Failure> {
    let attended = try_attend(call, id, max_bytes, extras).await;
    attended.map_err(|failure| failure.of_job(&id.to_string(), || wait_for_result(id, extras.plot)))
}

async fn try_attend(call: &Call<'_>, id: JobId, max_bytes: u32, extras: Extras) -> Result<Answer, Failure> {
    let client = call.session.client().await?;
    let until = Instant::now() + call.budget();
    match wait(call, &client, id, until).await? {
        Waited::Finished(job) => {
            let mut answer = finished(&client, &job, max_bytes).await?;
            if extras.plot {
                draw(&mut answer, &job);
            }
            if extras.images { with_images(&client, id, answer).await } else { Ok(answer) }
        }
        Waited::StillGoing(job) => still_running(&client, &job, call.budget(), max_bytes, extras.plot).await,
    }
}

/// Adds a picture of the last run to the answer of a benchmark, or a note why there is none.
pub(crate) fn draw(answer: &mut Answer, job: &JobDetail) {
    if job.spec.benchmark.is_none() {
        return;
    }
    answer.picture = Timeline::of(job).map(|timeline| Picture { title: job.title(), timeline });
    if answer.picture.is_none() {
        answer.markdown.push_str(
            "\n\nNo picture: the last run ended before the first sample. A smaller sample_interval samples sooner.",
        );
    }
}

enum Waited {
    Finished(JobDetail),
    StillGoing(JobDetail),
}

async fn wait(call: &Call<'_>, client: &Client, id: JobId, until: Instant) -> Result<Waited, Failure> {
    let end_of_input = call.session.end_of_input();
    let budget = call.budget();
    let finished = with_progress(call, client, id, budget, client.wait_until(id, until, pending()));
    let finished = tokio::select! {
        biased;
        // The client has disconnected, which does not stop the job. This branch comes first, because rmcp cancels
        // requests when its stream has ended.
        () = end_of_input.cancelled() => None,
        () = call.context.ct.cancelled() => {
            client.stop(id, StopRequest { now: false, grace_ms: None }).await?;
            None
        }
        finished = finished => finished?,
    };
    let job = match finished {
        Some(job) => job,
        None => client.show(id).await?,
    };
    Ok(if job.state.is_finished() { Waited::Finished(job) } else { Waited::StillGoing(job) })
}

/// The answer for a finished job.
pub(crate) async fn finished(client: &Client, job: &JobDetail, max_bytes: u32) -> Result<Answer, Failure> {
    let executed = Executed::of(client, job, max_bytes).await?;
    let never_started =
        matches!(job.state.outcome(), Some(Outcome::NotStarted(NotStarted::Environment(_) | NotStarted::Spawn(_))));
    if !never_started {
        return Ok(Answer::new(executed.markdown(), executed));
    }
    let what = executed.view.error.as_deref().unwrap_or_default();
    let next = executed.next_step.as_deref().unwrap_or("correct the cause, and call again");
    let stderr = &executed.view.stderr;
    // uv's message usually is the cause.
    let is_said = what.contains(stderr.trim().trim_start_matches("error: "));
    let rest = if is_said { String::new() } else { render::stream(Stream::Stderr, stderr) };
    let what = render::message(what);
    let markdown = format!("**Error:** the job could not be started: {what}{rest}\n\n**Next:** {next}");
    let mut answer = Answer::new(markdown, executed);
    answer.is_error = true;
    Ok(answer)
}

/// Adds the images that the job has left so far.
pub(crate) async fn with_images(client: &Client, id: JobId, mut answer: Answer) -> Result<Answer, Failure> {
    answer.images = images::of_job(client, id).await?;
    Ok(answer)
}

/// The call that waits for a job and, if requested, draws it.
pub(crate) fn wait_for_result(id: impl std::fmt::Display, plot: bool) -> String {
    let (images, draws) = if plot { (", images=true", " and draws it") } else { ("", "") };
    format!("py_job_status(job_id=\"{id}\", wait_seconds={SUGGESTED_WAIT_SECONDS}{images}) waits for the result{draws}")
}

/// The answer for a job that is still running when the budget is used up.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct StillRunning {
    job_id: String,
    #[schemars(with = "String")]
    status: Status,
    message: String,
    stdout: String,
    stderr: String,
    stdout_bytes: u64,
    stderr_bytes: u64,
    execution_strategy: String,
}

async fn still_running(
    client: &Client,
    job: &JobDetail,
    budget: Duration,
    max_bytes: u32,
    plot: bool,
) -> Result<Answer, Failure> {
    let id = job.id;
    let output = excerpt(client, job, max_bytes).await?;
    let status = job.state.status();
    let waits_for = job.message.as_deref().map(|message| format!(" ({})", render::inline(message))).unwrap_or_default();
    let next = wait_for_result(id, plot);
    let message = format!(
        "still {status}{waits_for} after {}; it goes on in the background, and {next}",
        render::seconds(budget.as_secs_f64())
    );
    let markdown = format!(
        "**Still {status}**{waits_for} after {} · job `{id}`\n\nThe job goes on in the background.{}{}\n\n**Next:** {next}; \
         py_cancel_job ends it.",
        render::seconds(budget.as_secs_f64()),
        render::stream(Stream::Stdout, &output.stdout),
        render::stream(Stream::Stderr, &output.stderr),
    );
    let still_running = StillRunning {
        job_id: id.to_string(),
        status,
        message,
        stdout: output.stdout,
        stderr: output.stderr,
        stdout_bytes: job.output.stdout,
        stderr_bytes: job.output.stderr,
        execution_strategy: job.spec.environment.interpreter.strategy().to_owned(),
    };
    Ok(Answer::new(markdown, still_running))
}
