//! `py_job_status`: the state of a job, its new output, and its result once it has finished.

use std::future::pending;
use std::time::{Duration, Instant};

use futures::FutureExt;
use pyexec_client::excerpt::DEFAULT_BYTES;
use pyexec_client::reading::{Reader, beyond};
use pyexec_client::{Client, files};
use pyexec_proto::fence::Fence;
use pyexec_proto::output::{OutputLengths, PerStream, Stream};
use pyexec_proto::request::MAX_WAIT_MS;
use pyexec_proto::{JobDetail, JobId, Timestamp};
use pyexec_view::{ArtifactsView, JobView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parameters::{images, job_id, max_output_bytes, milliseconds, wait_seconds};
use super::schema::Shape;
use super::tool::{Hints, Tool};
use crate::answer::{Answer, Failure, render};
use crate::arguments::{Kind, Parameter};
use crate::call::Call;
use crate::execution::{self, Executed, InlineScript, with_progress};

pub(super) fn tools() -> Vec<Tool> {
    vec![Tool {
        name: "py_job_status",
        title: "Status of a job",
        about: "State of a job, its new output, and its result once it has finished. wait_seconds waits for the end, \
            so there is no need to poll.",
        hints: Hints::Reads,
        parameters: vec![
            job_id(),
            wait_seconds("up to 45"),
            Parameter::new("until", Kind::Choice(&["exit", "output"]), "").default("exit"),
            Parameter::new("incremental", Kind::Flag, "").default(true),
            Parameter::new("cursor", Kind::Text, "next_cursor of the call before"),
            images().about("also return image artifacts"),
            max_output_bytes(),
        ],
        returns: vec![Shape::of::<Answered>()],
        perform: |call| perform(call).boxed(),
    }]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    job_id: String,
    wait_seconds: f64,
    until: Until,
    incremental: bool,
    cursor: Option<String>,
    #[serde(default)]
    images: bool,
    max_output_bytes: Option<u32>,
}

/// What ends the wait. The end of the job always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Until {
    Exit,
    Output,
}

#[derive(Serialize, JsonSchema)]
struct Answered {
    job: Job,
    #[serde(flatten)]
    news: Option<News>,
}

#[derive(Serialize, JsonSchema)]
struct Job {
    #[serde(flatten)]
    view: JobView,
    /// The result of the tool that started the job; `null` until the end.
    result: Option<Executed>,
}

#[derive(Serialize, JsonSchema)]
struct News {
    new_stdout: String,
    new_stderr: String,
    next_cursor: String,
}

async fn perform(call: &Call<'_>) -> Result<Answer, Failure> {
    let given: Given = call.read()?;
    let client = call.session.client().await?;
    let id = client.resolve(&given.job_id).await?;
    let cursor = given.cursor.as_deref().map(read_cursor).transpose()?;
    let max_bytes = given.max_output_bytes.unwrap_or(DEFAULT_BYTES);
    if let Some(cursor) = cursor
        && let Some((stream, offset, length)) = beyond(&client.show(id).await?, cursor)
    {
        return Err(Failure::argument(
            format!("`cursor` is at byte {offset} of {stream}, which has {length} bytes"),
            "give the next_cursor of the call before, or leave it out for the end of the output",
        ));
    }
    let mut job = waited(call, &client, id, &given, cursor).await?;
    if job.state.is_finished() {
        // Read again, because the end of the job does not carry its last progress.
        job = client.show(id).await?;
    }
    let news = if given.incremental { Some(news(&client, &job, cursor, max_bytes).await?) } else { None };
    let result = match job.state.is_finished() {
        true => Some(Executed::of(&client, &job, max_bytes).await?),
        false => None,
    };
    let artifacts = match &result {
        Some(result) => result.view.artifacts.clone().unwrap_or_default(),
        None => ArtifactsView::beside(id, &files::artifacts(&client, id).await?),
    };
    // Measurements are part of the result, and long.
    let view = JobView { benchmark: None, artifacts, ..JobView::of(&job, Timestamp::now()) };
    let answered = Answered { job: Job { view, result }, news };
    let mut answer = Answer::new(markdown(&answered), answered);
    if given.images && job.state.is_finished() {
        execution::draw(&mut answer, &job);
    }
    if given.images { execution::with_images(&client, id, answer).await } else { Ok(answer) }
}

/// Returns the job once the awaited event has happened, or the time is over.
async fn waited(
    call: &Call<'_>,
    client: &Client,
    id: JobId,
    given: &Given,
    cursor: Option<OutputLengths>,
) -> Result<JobDetail, Failure> {
    let wait_ms = milliseconds(given.wait_seconds).min(MAX_WAIT_MS);
    if wait_ms == 0 {
        return Ok(client.show(id).await?);
    }
    let longest = Duration::from_millis(wait_ms);
    let come = with_progress(call, client, id, longest, async {
        match given.until {
            Until::Exit => Ok(client.wait_until(id, Instant::now() + longest, pending()).await?),
            Until::Output => {
                let from = match cursor {
                    Some(cursor) => cursor,
                    // Output from now on counts as new.
                    None => client.show(id).await?.output,
                };
                Ok::<_, Failure>(Some(Reader::at(id, from).characters(client, 0, wait_ms).await?.job))
            }
        }
    });
    let end_of_input = call.session.end_of_input();
    tokio::select! {
        // The client no longer waits; the job goes on.
        () = end_of_input.cancelled() => {}
        () = call.context.ct.cancelled() => {}
        job = come => if let Some(job) = job? {
            return Ok(job);
        },
    }
    Ok(client.show(id).await?)
}

async fn news(
    client: &Client,
    job: &JobDetail,
    cursor: Option<OutputLengths>,
    max_bytes: u32,
) -> Result<News, Failure> {
    let reader = cursor.map_or_else(|| Reader::tail(job, max_bytes), |cursor| Reader::at(job.id, cursor));
    let read = reader.characters(client, max_bytes, 0).await?;
    let script = InlineScript::of(client, job);
    Ok(News {
        new_stdout: script.strip(read.text(Stream::Stdout)),
        new_stderr: script.strip(read.text(Stream::Stderr)),
        next_cursor: format!("{}.{}", read.next.stdout, read.next.stderr),
    })
}

/// Parses a cursor that [`news`] wrote: an offset for each stream. Offsets stay valid across restarts.
fn read_cursor(given: &str) -> Result<OutputLengths, Failure> {
    let read = given
        .split_once('.')
        .and_then(|(stdout, stderr)| Some(PerStream { stdout: stdout.parse().ok()?, stderr: stderr.parse().ok()? }));
    read.ok_or_else(|| {
        Failure::argument(
            format!("invalid `cursor` \"{}\": expected a next_cursor of an earlier call", render::inline(given)),
            "give the next_cursor of the call before, or leave it out for the end of the output",
        )
    })
}

fn markdown(answered: &Answered) -> String {
    let job = &answered.job;
    let view = &job.view;
    let mut text = match &job.result {
        Some(result) => result.markdown(),
        None => {
            let mut text = format!("**{}**", render::status(view.status));
            if let Some(message) = &view.message {
                text.push_str(&format!(" ({})", render::inline(message)));
            }
            if let Some(elapsed) = view.elapsed_seconds {
                text.push_str(&format!(" · {}", render::seconds(elapsed)));
            }
            text.push_str(&format!(" · job `{}`", view.id));
            if let Some(progress) = &view.progress {
                text.push_str(&format!("\n\nProgress: {}", render::progress(progress)));
            }
            text
        }
    };
    if let Some(label) = &view.label {
        text.push_str(&format!("\n\nLabel: {}", render::inline(label)));
    }
    let fence = Fence { network: view.network, filesystem: view.filesystem };
    if fence.is_some() {
        text.push_str(&format!("\n\nFence: {fence}"));
    }
    if let (None, Some(news)) = (&job.result, &answered.news) {
        text.push_str(&render::stream(Stream::Stdout, &news.new_stdout));
        text.push_str(&render::stream(Stream::Stderr, &news.new_stderr));
        if news.new_stdout.is_empty() && news.new_stderr.is_empty() {
            text.push_str("\n\nNo new output.");
        }
        text.push_str(&execution::artifacts_line(&view.id, &view.artifacts));
        text.push_str(&format!(
            "\n\n**Next:** py_job_status(job_id=\"{}\", cursor=\"{}\", wait_seconds=45)",
            view.id, news.next_cursor
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_an_offset_for_each_stream_and_nothing_else() {
        assert_eq!(read_cursor("12.3").ok(), Some(PerStream { stdout: 12, stderr: 3 }));
        for given in ["", "12", "12.", "-1.0", "1.2.3", "x.y", "18446744073709551616.0"] {
            assert!(read_cursor(given).is_err(), "{given:?} was taken");
        }
    }
}
