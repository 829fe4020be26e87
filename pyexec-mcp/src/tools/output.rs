//! `py_get_job_output`: reads a job's output from an offset, in whole characters.

use std::time::Duration;

use futures::FutureExt;
use pyexec_client::ClientError;
use pyexec_client::excerpt::DEFAULT_BYTES;
use pyexec_client::reading::{Reader, beyond};
use pyexec_proto::Timestamp;
use pyexec_proto::output::{PerStream, Stream};
use pyexec_proto::request::MAX_WAIT_MS;
use pyexec_view::JobView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parameters::{job_id, max_output_bytes, milliseconds, wait_seconds};
use super::schema::Shape;
use super::tool::{Hints, Tool};
use crate::answer::{Answer, Failure, render};
use crate::arguments::{Kind, Parameter};
use crate::call::Call;
use crate::execution::{InlineScript, with_progress};

pub(super) fn tools() -> Vec<Tool> {
    let cursor = |name| Parameter::new(name, Kind::Whole { least: 0, most: u64::MAX }, "").default(0);
    vec![Tool {
        name: "py_get_job_output",
        title: "Output of a job",
        about: "Read a job's output from byte offsets on; next_*_cursor continues. wait_seconds waits for new bytes \
            or the end.",
        hints: Hints::Reads,
        parameters: vec![
            job_id(),
            cursor("stdout_cursor"),
            cursor("stderr_cursor"),
            wait_seconds("up to 45"),
            max_output_bytes(),
        ],
        returns: vec![Shape::of::<Output>()],
        perform: |call| perform(call).boxed(),
    }]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    job_id: String,
    stdout_cursor: u64,
    stderr_cursor: u64,
    wait_seconds: f64,
    max_output_bytes: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    job_id: String,
    status: &'static str,
    stdout: String,
    stderr: String,
    exit_code: Option<i32>,
    elapsed_seconds: Option<f64>,
    next_stdout_cursor: u64,
    next_stderr_cursor: u64,
    stdout_bytes: u64,
    stderr_bytes: u64,
    /// Whether there is more output already.
    more: bool,
    /// The number of bytes after the cursor that are no longer kept.
    missing_bytes: u64,
}

async fn perform(call: &Call<'_>) -> Result<Answer, Failure> {
    let given: Given = call.read()?;
    let client = call.session.client().await?;
    let id = client.resolve(&given.job_id).await?;
    let from = PerStream { stdout: given.stdout_cursor, stderr: given.stderr_cursor };
    let job = client.show(id).await?;
    if let Some((stream, cursor, length)) = beyond(&job, from) {
        return Err(Failure::argument(
            format!("{stream}_cursor is {cursor}, and {stream} has {length} bytes"),
            format!("give the next_{stream}_cursor of the call before, or 0 for the beginning"),
        ));
    }
    let wait_ms = milliseconds(given.wait_seconds).min(MAX_WAIT_MS);
    let longest = Duration::from_millis(wait_ms);
    let end_of_input = call.session.end_of_input();
    let max_bytes = given.max_output_bytes.unwrap_or(DEFAULT_BYTES);
    let reader = Reader::at(id, from);
    let read = tokio::select! {
        // The client no longer waits; the job goes on.
        () = end_of_input.cancelled() => reader.characters(&client, max_bytes, 0).await?,
        () = call.context.ct.cancelled() => reader.characters(&client, max_bytes, 0).await?,
        read = with_progress(call, &client, id, longest, reader.characters(&client, max_bytes, wait_ms)) => read?,
    };
    if read.next == from
        && let Some(gone) = read.job.output_error()
    {
        return Err(ClientError::from(gone).into());
    }
    let view = JobView::of(&read.job, Timestamp::now());
    let script = InlineScript::of(&client, &read.job);
    let text = |stream: Stream| script.strip(read.text(stream));
    let is_finished = read.job.state.is_finished();
    let output = Output {
        job_id: view.id,
        status: if is_finished { "finished" } else { "running" },
        stdout: text(Stream::Stdout),
        stderr: text(Stream::Stderr),
        exit_code: view.exit_code,
        elapsed_seconds: view.elapsed_seconds,
        next_stdout_cursor: read.next.stdout,
        next_stderr_cursor: read.next.stderr,
        stdout_bytes: read.job.output.stdout.max(read.next.stdout),
        stderr_bytes: read.job.output.stderr.max(read.next.stderr),
        more: read.has_more(),
        missing_bytes: read.missing,
    };
    Ok(Answer::new(markdown(&output), output))
}

fn markdown(output: &Output) -> String {
    let mut text = format!("**{}**", if output.status == "finished" { "Finished" } else { "Running" });
    if let Some(code) = output.exit_code {
        text.push_str(&format!(" · exit code {code}"));
    }
    text.push_str(&format!(" · job `{}`", output.job_id));
    if output.missing_bytes > 0 {
        text.push_str(&format!("\n\n{} bytes are no longer kept.", output.missing_bytes));
    }
    text.push_str(&render::stream(Stream::Stdout, &output.stdout));
    text.push_str(&render::stream(Stream::Stderr, &output.stderr));
    if output.stdout.is_empty() && output.stderr.is_empty() {
        text.push_str("\n\nNo output after this offset.");
    }
    if output.status != "finished" || output.more {
        text.push_str(&format!(
            "\n\n**Next:** py_get_job_output(job_id=\"{}\", stdout_cursor={}, stderr_cursor={}{})",
            output.job_id,
            output.next_stdout_cursor,
            output.next_stderr_cursor,
            if output.more { "" } else { ", wait_seconds=45" }
        ));
    }
    text
}
