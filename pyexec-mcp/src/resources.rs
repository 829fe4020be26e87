//! `job-stream://{job_id}`: what a job has printed so far. Reading it changes nothing. Beside it: [`crate::artifacts`].

use pyexec_client::excerpt::continuation;
use pyexec_client::{Client, ClientError};
use pyexec_proto::output::{MAX_CHUNK_BYTES, PerStream, Stream};
use pyexec_proto::request::{FollowRequest, JobQuery};
use pyexec_proto::{Error, JobDetail};
use rmcp::ErrorData;
use rmcp::model::{
    ArgumentInfo, CompleteResult, CompletionInfo, ListResourceTemplatesResult, ListResourcesResult, ReadResourceResult,
    Resource, ResourceContents, ResourceTemplate,
};

use crate::answer::Failure;
use crate::inline_script::InlineScript;
use crate::server::Server;
use crate::{artifacts, render};

const SCHEME: &str = "job-stream://";

/// How many jobs are listed as resources: those that somebody may want to look into now.
const LISTED: u32 = 50;

pub(crate) fn uri(id: impl std::fmt::Display) -> String {
    format!("{SCHEME}{id}")
}

/// The job that a URI names, as it was written; `None` for what is no resource of ours.
pub(crate) fn job_in(uri: &str) -> Option<&str> {
    uri.strip_prefix(SCHEME).map(|id| id.trim_end_matches('/')).filter(|id| !id.is_empty())
}

pub(crate) fn templates() -> ListResourceTemplatesResult {
    let template = ResourceTemplate::new(format!("{SCHEME}{{job_id}}"), "job-stream")
        .with_title("Output of a job")
        .with_description("What a job has printed so far, the last 1 MiB of each stream")
        .with_mime_type("text/plain");
    ListResourceTemplatesResult::with_all_items(vec![template, artifacts::template()])
}

pub(crate) async fn list(server: &Server) -> Result<ListResourcesResult, ErrorData> {
    let query = JobQuery { limit: LISTED, ..JobQuery::default() };
    let listed = async { Ok::<_, Failure>(server.client().await?.list(&query).await?) };
    let page = listed.await.map_err(|failure| internal(&failure))?;
    let resource = |job: &pyexec_proto::job::JobSummary| {
        let name = job.label.clone().unwrap_or_else(|| job.command.clone());
        Resource::new(uri(job.id), render::inline(&name))
            .with_description(format!("{}, {} + {} bytes", job.status, job.output.stdout, job.output.stderr))
            .with_mime_type("text/plain")
    };
    Ok(ListResourcesResult::with_all_items(page.jobs.iter().map(resource).collect()))
}

pub(crate) async fn read(server: &Server, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let Some(given) = job_in(uri) else { return artifacts::read(server, uri).await };
    let client = server.client().await.map_err(|failure| internal(&failure))?;
    let job = find(&client, given).await.map_err(|error| explained(error, uri))?;
    if let Some(gone) = job.output_error() {
        return Err(explained(gone.into(), uri));
    }
    let text = stream_text(&client, &job).await.map_err(|error| explained(error, uri))?;
    Ok(ReadResourceResult::new(vec![ResourceContents::text(text, uri).with_mime_type("text/plain")]))
}

pub(crate) async fn find(client: &Client, given: &str) -> Result<JobDetail, ClientError> {
    client.show(client.resolve(given).await?).await
}

async fn stream_text(client: &Client, job: &JobDetail) -> Result<String, ClientError> {
    let from = |stream: Stream| job.output.get(stream).saturating_sub(u64::from(MAX_CHUNK_BYTES));
    let from = PerStream { stdout: from(Stream::Stdout), stderr: from(Stream::Stderr) };
    let cursors = PerStream { stdout: Some(from.stdout), stderr: Some(from.stderr) };
    let request = FollowRequest { cursors, max_bytes: MAX_CHUNK_BYTES, wait_ms: 0, attached: false };
    let read = client.follow(job.id, &request).await?.output;
    let script = InlineScript::of(client, job);
    let text = |bytes: &[u8], from: u64| {
        // A tail may begin in the middle of a character.
        let skipped = if from > 0 { continuation(bytes) } else { 0 };
        script.shown(String::from_utf8_lossy(&bytes[skipped..]).into_owned())
    };
    let (stdout, stderr) = (text(&read.stdout.bytes, from.stdout), text(&read.stderr.bytes, from.stderr));
    Ok(format!("---STDOUT---\n{stdout}\n---STDERR---\n{stderr}"))
}

/// Ids of jobs that begin with what has been typed, newest first.
pub(crate) async fn complete(server: &Server, argument: &ArgumentInfo) -> Result<CompleteResult, ErrorData> {
    if argument.name != "job_id" {
        return Ok(CompleteResult::default());
    }
    let query = JobQuery { limit: pyexec_proto::request::MAX_PAGE, ..JobQuery::default() };
    let listed = async { Ok::<_, Failure>(server.client().await?.list(&query).await?) };
    let page = listed.await.map_err(|failure| internal(&failure))?;
    let ids = page.jobs.iter().map(|job| job.id.to_string());
    let mut fitting: Vec<String> = ids.filter(|id| id.starts_with(&argument.value)).collect();
    let total = fitting.len();
    fitting.truncate(CompletionInfo::MAX_VALUES);
    let more = total > fitting.len() || page.next.is_some();
    let total = if page.next.is_none() { u32::try_from(total).ok() } else { None };
    let completion = CompletionInfo::with_pagination(fitting, total, more);
    Ok(CompleteResult::new(completion.map_err(|problem| ErrorData::internal_error(problem, None))?))
}

/// Why a resource can not be had.
pub(crate) fn explained(error: ClientError, uri: &str) -> ErrorData {
    if matches!(error, ClientError::Refused(Error::NoSuchJob { .. } | Error::AmbiguousJob { .. })) {
        return unknown(uri);
    }
    internal(&error.into())
}

pub(crate) fn unknown(uri: &str) -> ErrorData {
    let data = serde_json::json!({ "uri": uri });
    ErrorData::resource_not_found(
        "no such job, or no resource: job-stream://{job_id} is one for each of py_list_jobs, and \
         job-artifact://{job_id}/{path}, percent-encoded, one for each artifact that py_job_status lists",
        Some(data),
    )
}

pub(crate) fn internal(failure: &Failure) -> ErrorData {
    ErrorData::internal_error(failure.text(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_named_by_its_job() {
        let cases = [
            ("job-stream://1234abcd", Some("1234abcd")),
            ("job-stream://1234abcd/", Some("1234abcd")),
            ("job-stream://", None),
            ("job-artifact://1234abcd", None),
            ("1234abcd", None),
        ];
        for (uri, expected) in cases {
            assert_eq!(job_in(uri), expected, "{uri}");
        }
    }
}
