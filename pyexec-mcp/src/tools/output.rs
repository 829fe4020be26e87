//! `py_get_job_output`: a job's output from an offset on, whole characters at a time.

use std::time::Duration;

use futures::FutureExt;
use pyexec_client::excerpt::{DEFAULT_BYTES, unfinished_character};
use pyexec_client::{Client, ClientError};
use pyexec_proto::output::{MAX_CHUNK_BYTES, OutputLengths, PerStream, Stream};
use pyexec_proto::request::{FollowRequest, MAX_WAIT_MS};
use pyexec_proto::{JobDetail, JobId, Timestamp};
use pyexec_view::JobView;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Call, Field, Hints, Tool, job_id, markdown_output, max_output_bytes, milliseconds, wait_seconds};
use crate::answer::{Answer, Failure};
use crate::arguments::{Kind, Parameter};
use crate::inline_script::InlineScript;
use crate::progress::told_while;
use crate::render;

/// The longest character: less would never get past one.
const LEAST_BYTES: u32 = 4;

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
            markdown_output(),
        ],
        returns: &[&[
            ("status", Field::Text),
            ("stdout", Field::Text),
            ("stderr", Field::Text),
            ("exit_code", Field::MaybeWhole),
            ("elapsed_seconds", Field::MaybeNumber),
            ("next_stdout_cursor", Field::Whole),
            ("next_stderr_cursor", Field::Whole),
            ("stdout_bytes", Field::Whole),
            ("stderr_bytes", Field::Whole),
            ("more", Field::Flag),
            ("missing_bytes", Field::Whole),
        ]],
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

#[derive(Serialize)]
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
    /// There is more already than this.
    more: bool,
    /// What lies behind a cursor, and is not kept any more.
    missing_bytes: u64,
}

/// What was read of both streams, and where to go on.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) bytes: PerStream<Vec<u8>>,
    pub(super) next: OutputLengths,
    /// How many bytes from there on begin a character that is not whole yet.
    held_back: OutputLengths,
    pub(super) missing: u64,
    /// The job, as it was after what was read had been written.
    pub(super) job: JobDetail,
}

impl Read {
    /// The first `max_bytes` of each stream from `from` on, after waiting for something to come. A character that is not
    /// whole is left for later, unless nothing will follow; alone it is nothing that has come.
    pub(super) async fn from(
        client: &Client,
        id: JobId,
        from: OutputLengths,
        max_bytes: u32,
        wait_ms: u64,
    ) -> Result<Self, Failure> {
        let until = Instant::now() + Duration::from_millis(wait_ms);
        let mut read = Self::once(client, id, from, max_bytes, wait_ms).await?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let is_news = read.next != from || read.held_back == OutputLengths::default();
            if is_news || left.is_zero() || read.job.state.is_finished() {
                return Ok(read);
            }
            let behind = |stream: Stream| Some(from.get(stream) + read.held_back.get(stream));
            let cursors = PerStream { stdout: behind(Stream::Stdout), stderr: behind(Stream::Stderr) };
            let wait_ms = u64::try_from(left.as_millis()).unwrap_or(MAX_WAIT_MS);
            client.follow(id, &FollowRequest { cursors, max_bytes: 1, wait_ms, attached: false }).await?;
            read = Self::once(client, id, from, max_bytes, 0).await?;
        }
    }

    async fn once(
        client: &Client,
        id: JobId,
        from: OutputLengths,
        max_bytes: u32,
        wait_ms: u64,
    ) -> Result<Self, Failure> {
        let max_bytes = max_bytes.clamp(LEAST_BYTES, MAX_CHUNK_BYTES);
        let cursors = PerStream { stdout: Some(from.stdout), stderr: Some(from.stderr) };
        let followed = client.follow(id, &FollowRequest { cursors, max_bytes, wait_ms, attached: false }).await?;
        let job = match followed.finished {
            Some(job) => job,
            None => client.show(id).await?,
        };
        let held_back = OutputLengths::default();
        let mut read = Self { bytes: PerStream::default(), next: from, held_back, missing: 0, job };
        for (stream, mut chunk) in [(Stream::Stdout, followed.output.stdout), (Stream::Stderr, followed.output.stderr)]
        {
            if chunk.bytes.is_empty() {
                continue;
            }
            let is_last = read.job.state.is_finished() && chunk.next() >= *read.job.output.get(stream);
            if !is_last {
                let unfinished = unfinished_character(&chunk.bytes);
                chunk.bytes.truncate(chunk.bytes.len() - unfinished);
                *read.held_back.get_mut(stream) = unfinished as u64;
            }
            read.missing += chunk.offset.saturating_sub(*from.get(stream));
            *read.next.get_mut(stream) = chunk.next();
            *read.bytes.get_mut(stream) = chunk.bytes;
        }
        Ok(read)
    }

    /// Whether there is more already that could be read.
    fn has_more(&self) -> bool {
        let more = |stream| *self.job.output.get(stream) > self.next.get(stream) + self.held_back.get(stream);
        Stream::BOTH.into_iter().any(more)
    }
}

/// A cursor that no call can have given: behind the end of its stream, which is returned with it.
pub(super) fn beyond(job: &JobDetail, cursors: OutputLengths) -> Option<(Stream, u64, u64)> {
    let ends = Stream::BOTH.into_iter().map(|stream| (stream, *cursors.get(stream), *job.output.get(stream)));
    ends.into_iter().find(|(_, cursor, length)| cursor > length)
}

async fn perform(call: &Call<'_>) -> Result<Answer, Failure> {
    let given: Given = call.read()?;
    let client = call.server.client().await?;
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
    let end_of_input = call.server.end_of_input();
    let max_bytes = given.max_output_bytes.unwrap_or(DEFAULT_BYTES);
    let read = tokio::select! {
        // Whoever waited does not any more; the job goes on.
        () = end_of_input.cancelled() => Read::from(&client, id, from, max_bytes, 0).await?,
        () = call.context.ct.cancelled() => Read::from(&client, id, from, max_bytes, 0).await?,
        read = told_while(call, &client, id, longest, Read::from(&client, id, from, max_bytes, wait_ms)) => read?,
    };
    if read.next == from
        && let Some(gone) = read.job.output_error()
    {
        return Err(ClientError::from(gone).into());
    }
    let view = JobView::of(&read.job, Timestamp::now());
    let script = InlineScript::of(&client, &read.job);
    let text = |stream: Stream| script.shown(String::from_utf8_lossy(read.bytes.get(stream)).into_owned());
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
    Ok(Answer::new(markdown(&output), &output))
}

fn markdown(output: &Output) -> String {
    let mut text = format!("**{}**", if output.status == "finished" { "Finished" } else { "Running" });
    if let Some(code) = output.exit_code {
        text.push_str(&format!(" · exit code {code}"));
    }
    text.push_str(&format!(" · job `{}`", output.job_id));
    if output.missing_bytes > 0 {
        text.push_str(&format!("\n\n{} bytes are not kept any more.", output.missing_bytes));
    }
    text.push_str(&render::stream(Stream::Stdout, &output.stdout));
    text.push_str(&render::stream(Stream::Stderr, &output.stderr));
    if output.stdout.is_empty() && output.stderr.is_empty() {
        text.push_str("\n\nNo output from there on.");
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
