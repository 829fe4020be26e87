//! `pyexec run`: submits a job and, unless it is detached, is its terminal until it has ended.
//!
//! Three things go on at once, see [`crate::attach`]: output is shown, stdin is passed on, and signals are turned into
//! stops. The job itself needs none of them.

use std::io;
use std::sync::Arc;

use pyexec_client::excerpt::{self, Gap};
use pyexec_client::{Client, files};
use pyexec_proto::request::StopRequest;
use pyexec_proto::{JobDetail, JobId};
use pyexec_view::{BenchmarkView, ExecutionView, ProfileView};
use serde::Serialize;

use crate::advice::Advice;
use crate::args::Run;
use crate::attach::interruption::Interruptions;
use crate::attach::{follow_to_end, input, stop_waiting};
use crate::connection::{connect, note_unaffected};
use crate::exit_code::{self, Code, Ending, Failure, Interruption, SUCCESS};
use crate::submission::own_files::OwnFiles;
use crate::submission::{self, Prepared};
use crate::{benchmark, profile, terminal};

/// `pyexec run -d --json`.
#[derive(Serialize)]
struct Detached {
    job_id: String,
    status: pyexec_proto::Status,
}

pub(crate) async fn perform(run: Run) -> Result<Code, Failure> {
    let (json, detach) = (run.options.json, run.options.detach);
    // Until here signals do what they always do: there is no job that could be cancelled.
    let Prepared { submission, input } = submission::prepare(run, &mut OwnFiles::default())?;
    let stdin = input.map(input::Stdin::open).transpose()?;
    let client = Arc::new(connect().await?);
    let interruptions = Interruptions::listen().map_err(Failure::Runtime)?;
    let id = submission.id;
    let submitted = tokio::select! {
        biased;
        interruption = interruptions.leave_unless_hung_up() => return Ok(stop_waiting(id, interruption)),
        submitted = client.submit(submission) => submitted?,
    };
    if detach {
        return detached(&client, &submitted, &interruptions, json).await;
    }
    tokio::spawn(interruptions.clone().stop_job(client.clone(), id));
    if let Some(stdin) = stdin {
        tokio::spawn(input::forward_stdin(client.clone(), id, stdin));
    }
    let attended = async { if json { wait_quietly(&client, id).await } else { follow_to_end(&client, id).await } };
    let finished = tokio::select! {
        biased;
        interruption = interruptions.leave() => return Ok(stop_waiting(id, interruption)),
        finished = attended => finished,
    };
    match finished {
        Ok(job) => {
            if !json && let Some(benchmark) = BenchmarkView::of(&job) {
                terminal::report(&benchmark::text(&benchmark));
            }
            if !json && let Some(spec) = job.spec.profile {
                // The job has run, and its exit code counts, whether the profile can be had or not.
                match pyexec_client::profile::read(&client, &job).await {
                    Ok(Some(found)) => terminal::report(&profile::text(&ProfileView::of(&found, spec), id)),
                    Ok(None) => {}
                    Err(error) => terminal::note(&format!("cannot fetch the profile: {error}")),
                }
            }
            if !json && let Some(problem) = job.output_problem() {
                terminal::note(&format!("job {id}: {problem}"));
            }
            conclude(&job, interruptions.first(), !json)
        }
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            // Nobody wants to see what it prints: as with a pipe between two programs, that is its end.
            if let Err(error) = client.stop(id, StopRequest { now: false, grace_ms: None }).await {
                terminal::error(&error, error.hint().as_deref());
            }
            Err(Failure::Output(error))
        }
        // Also when a terminal went away (EIO, perhaps before its SIGHUP) or a disk is full: the output is kept anyway.
        Err(failure) => {
            terminal::note(&format!("job {id} is not affected; `pyexec logs -f {id}` shows it"));
            Err(failure)
        }
    }
}

async fn detached(
    client: &Client,
    submitted: &JobDetail,
    interruptions: &Interruptions,
    json: bool,
) -> Result<Code, Failure> {
    let id = submitted.id;
    match interruptions.first() {
        // Told to stop before the id was known to anybody.
        Some(interruption @ (Interruption::Interrupt | Interruption::Terminate)) => {
            let stopped = client.stop(id, StopRequest { now: false, grace_ms: None }).await.map_err(Failure::from);
            note_unaffected(id, stopped)?;
            return Ok(exit_code::of_interruption(interruption));
        }
        Some(Interruption::HangUp) | None => {}
    }
    if json {
        terminal::print_json(&Detached { job_id: id.to_string(), status: submitted.state.status() })?;
    } else {
        terminal::print(&format!("{id}\n"))?;
    }
    Ok(SUCCESS)
}

/// Waits for the end, then prints one document.
async fn wait_quietly(client: &Client, id: JobId) -> Result<JobDetail, Failure> {
    let job = client.wait(id).await?;
    let logs = |Gap { stream, bytes, from }| {
        format!("[… {bytes} bytes left out: `pyexec logs {id} --{stream} --since-byte {from}` shows them …]")
    };
    let output = excerpt::of(client, &job, excerpt::DEFAULT_BYTES, logs).await?;
    let mut view = ExecutionView::of(&job, output.stdout, output.stderr);
    let (listed, profile) = files::all(client, &job).await?;
    view.complete(&job, &listed, profile.as_ref());
    terminal::print_json(&view)?;
    Ok(job)
}

fn conclude(job: &JobDetail, interrupted: Option<Interruption>, was_shown: bool) -> Result<Code, Failure> {
    // We were told to stop it, and it has stopped: how exactly is no news.
    if let Some(interruption) = interrupted {
        return Ok(exit_code::of_interruption(interruption));
    }
    let ending = Ending::of(job)?;
    if let Some(problem) = &ending.problem {
        // uv's explanation is at the end of what the job has said, and has just been read.
        let known = was_shown && job.output.stderr > 0;
        let problem = if known { problem.lines().next().unwrap_or_default().trim_end_matches(':') } else { problem };
        terminal::problem(problem, None);
    }
    Ok(ending.code)
}
