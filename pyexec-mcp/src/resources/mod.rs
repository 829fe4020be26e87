//! The resource `job-stream://{job_id}`: the output of a job so far. Reading it has no effect. [`artifacts`] has the
//! other resource.

mod artifacts;

use pyexec_client::reading::Reader;
use pyexec_client::{Client, ClientError};
use pyexec_proto::JobDetail;
use pyexec_proto::output::{MAX_CHUNK_BYTES, Stream};
use pyexec_proto::request::JobQuery;
use rmcp::ErrorData;
use rmcp::model::{
    ArgumentInfo, CompleteResult, CompletionInfo, ListResourceTemplatesResult, ListResourcesResult, ReadResourceResult,
    Resource, ResourceContents, ResourceTemplate,
};

use crate::answer::{refusal, render};
use crate::execution::InlineScript;
use crate::session::Session;
use crate::uri::{self, STREAM_SCHEME};

/// The number of jobs listed as resources, newest first.
const LISTED: u32 = 50;

pub(crate) fn templates() -> ListResourceTemplatesResult {
    let template = ResourceTemplate::new(format!("{STREAM_SCHEME}{{job_id}}"), "job-stream")
        .with_title("Output of a job")
        .with_description("What a job has printed so far, the last 1 MiB of each stream")
        .with_mime_type("text/plain");
    ListResourceTemplatesResult::with_all_items(vec![template, artifacts::template()])
}

pub(crate) async fn list(session: &Session) -> Result<ListResourcesResult, ErrorData> {
    let query = JobQuery { limit: LISTED, ..JobQuery::default() };
    let listed = async { session.client().await?.list(&query).await };
    let page = listed.await.map_err(refusal::internal)?;
    let resource = |job: &pyexec_proto::job::JobSummary| {
        let name = job.label.clone().unwrap_or_else(|| job.command.clone());
        Resource::new(uri::of_stream(job.id), render::inline(&name))
            .with_description(format!("{}, {} + {} bytes", job.status, job.output.stdout, job.output.stderr))
            .with_mime_type("text/plain")
    };
    Ok(ListResourcesResult::with_all_items(page.jobs.iter().map(resource).collect()))
}

pub(crate) async fn read(session: &Session, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let Some(given) = uri::job_in(uri) else { return artifacts::read(session, uri).await };
    let client = session.client().await.map_err(refusal::internal)?;
    let job = find(&client, given).await.map_err(|error| refusal::explained(error, uri))?;
    if let Some(gone) = job.output_error() {
        return Err(refusal::explained(gone.into(), uri));
    }
    let text = stream_text(&client, &job).await.map_err(|error| refusal::explained(error, uri))?;
    Ok(ReadResourceResult::new(vec![ResourceContents::text(text, uri).with_mime_type("text/plain")]))
}

pub(crate) async fn find(client: &Client, given: &str) -> Result<JobDetail, ClientError> {
    client.show(client.resolve(given).await?).await
}

async fn stream_text(client: &Client, job: &JobDetail) -> Result<String, ClientError> {
    let read = Reader::tail(job, MAX_CHUNK_BYTES).characters(client, MAX_CHUNK_BYTES, 0).await?;
    let script = InlineScript::of(client, job);
    let (stdout, stderr) = (script.strip(read.text(Stream::Stdout)), script.strip(read.text(Stream::Stderr)));
    Ok(format!("---STDOUT---\n{stdout}\n---STDERR---\n{stderr}"))
}

/// The ids of jobs that begin with the typed text, newest first.
pub(crate) async fn complete(session: &Session, argument: &ArgumentInfo) -> Result<CompleteResult, ErrorData> {
    if argument.name != "job_id" {
        return Ok(CompleteResult::default());
    }
    let query = JobQuery { limit: pyexec_proto::request::MAX_PAGE, ..JobQuery::default() };
    let listed = async { session.client().await?.list(&query).await };
    let page = listed.await.map_err(refusal::internal)?;
    let ids = page.jobs.iter().map(|job| job.id.to_string());
    let mut fitting: Vec<String> = ids.filter(|id| id.starts_with(&argument.value)).collect();
    let total = fitting.len();
    fitting.truncate(CompletionInfo::MAX_VALUES);
    let more = total > fitting.len() || page.next.is_some();
    let total = if page.next.is_none() { u32::try_from(total).ok() } else { None };
    let completion = CompletionInfo::with_pagination(fitting, total, more);
    Ok(CompleteResult::new(completion.map_err(|problem| ErrorData::internal_error(problem, None))?))
}
