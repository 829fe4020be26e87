//! `py_list_jobs` and `py_list_running_jobs`.

use futures::FutureExt;
use futures::future::try_join_all;
use pyexec_client::ClientError;
use pyexec_proto::request::{JobQuery, MAX_PAGE};
use pyexec_proto::{Error, Status, Timestamp};
use pyexec_view::{JobRow, JobView, ProgressView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schema::Shape;
use super::tool::{Hints, Tool};
use crate::answer::{Answer, Failure, render};
use crate::arguments::{Kind, Parameter};
use crate::call::Call;

const DEFAULT_LIMIT: u32 = 50;

pub(super) fn tools() -> Vec<Tool> {
    const STATUSES: &[&str] = &["pending", "running", "completed", "failed", "cancelled"];
    const MOST: u64 = MAX_PAGE as u64;
    vec![
        Tool {
            name: "py_list_jobs",
            title: "List jobs",
            about: "All jobs, newest first, of any client; filtered by status or exact label.",
            hints: Hints::Reads,
            parameters: vec![
                Parameter::new("status_filter", Kind::Choice(STATUSES), ""),
                Parameter::new("label_filter", Kind::Text, ""),
                Parameter::new("limit", Kind::Whole { least: 1, most: MOST }, "").default(DEFAULT_LIMIT),
                Parameter::new("page", Kind::Text, "next_page of the call before"),
            ],
            returns: vec![Shape::of::<Listed>()],
            perform: |call| list(call).boxed(),
        },
        Tool {
            name: "py_list_running_jobs",
            title: "List unfinished jobs",
            about: "Jobs that run or wait to, with process ids and output sizes.",
            hints: Hints::Reads,
            parameters: vec![],
            returns: vec![Shape::of::<Unfinished>()],
            perform: |call| running(call).boxed(),
        },
    ]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    status_filter: Option<Status>,
    label_filter: Option<String>,
    limit: u32,
    page: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Listed {
    jobs: Vec<JobRow>,
    total: u64,
    next_page: Option<String>,
}

async fn list(call: &Call<'_>) -> Result<Answer, Failure> {
    let given: Given = call.read()?;
    let query = JobQuery {
        statuses: given.status_filter.into_iter().collect(),
        label: given.label_filter,
        limit: given.limit,
        page: given.page,
    };
    let page = call.session.client().await?.list(&query).await?;
    let now = Timestamp::now();
    let listed = Listed {
        jobs: page.jobs.iter().map(|job| JobRow::of(job, now)).collect(),
        total: page.total,
        next_page: page.next,
    };
    let mut text = match listed.total {
        0 => "No jobs.".to_owned(),
        total => format!("{} of {total} jobs.\n\n{}", listed.jobs.len(), render::jobs(&listed.jobs)),
    };
    if let Some(next) = &listed.next_page {
        text.push_str(&format!("\n**Next:** py_list_jobs({}) lists older ones", older(&query, next)));
    }
    Ok(Answer::new(text, listed))
}

/// The arguments for the next page of the same listing.
fn older(query: &JobQuery, page: &str) -> String {
    let statuses = query.statuses.iter().map(|status| format!("status_filter=\"{status}\", "));
    let label = query.label.iter().map(|label| format!("label_filter={}, ", Value::from(label.as_str())));
    let limit = (query.limit != DEFAULT_LIMIT).then(|| format!("limit={}, ", query.limit));
    let same: String = statuses.chain(label).chain(limit).collect();
    format!("{same}page=\"{page}\"")
}

#[derive(Serialize, JsonSchema)]
struct Unfinished {
    jobs: Vec<UnfinishedJob>,
}

#[derive(Serialize, JsonSchema)]
struct UnfinishedJob {
    job_id: String,
    running: bool,
    exit_code: Option<i32>,
    pid: Option<u32>,
    elapsed_seconds: Option<f64>,
    /// Whether subscribers are notified of its output.
    stream: bool,
    stdout_bytes: u64,
    stderr_bytes: u64,
    label: Option<String>,
    progress: Option<ProgressView>,
    command: String,
    /// What a pending job waits for.
    message: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn running(call: &Call<'_>) -> Result<Answer, Failure> {
    let Nothing {} = call.read()?;
    let client = call.session.client().await?;
    let statuses = vec![Status::Pending, Status::Running];
    let query = JobQuery { statuses, limit: MAX_PAGE, ..JobQuery::default() };
    let page = client.list(&query).await?;
    let details = page.jobs.iter().map(|job| {
        let client = &client;
        async move {
            match client.show(job.id).await {
                // It was pruned meanwhile.
                Err(ClientError::Refused(Error::NoSuchJob { .. } | Error::BeingRemoved { .. })) => Ok(None),
                shown => shown.map(Some),
            }
        }
    });
    let now = Timestamp::now();
    let details = try_join_all(details).await?;
    // A job that has ended meanwhile is no longer listed.
    let unfinished = details.into_iter().flatten().filter(|job| !job.state.is_finished());
    let jobs: Vec<UnfinishedJob> = unfinished
        .map(|job| {
            let view = JobView::of(&job, now);
            UnfinishedJob {
                job_id: view.id,
                running: view.status == Status::Running,
                exit_code: view.exit_code,
                pid: view.pid,
                elapsed_seconds: view.elapsed_seconds,
                stream: job.watching.notify_output,
                stdout_bytes: view.stdout_bytes,
                stderr_bytes: view.stderr_bytes,
                label: view.label,
                progress: view.progress,
                command: view.command,
                message: view.message,
            }
        })
        .collect();
    let text = if jobs.is_empty() { "No jobs run or wait to.".to_owned() } else { table(&jobs) };
    Ok(Answer::new(text, Unfinished { jobs }))
}

fn table(jobs: &[UnfinishedJob]) -> String {
    let cells = |job: &UnfinishedJob| {
        vec![
            format!("`{}`", job.job_id),
            job.label.as_deref().map(render::inline).unwrap_or_default(),
            match &job.message {
                Some(message) => render::inline(message),
                None => if job.running { "running" } else { "pending" }.to_owned(),
            },
            job.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            job.elapsed_seconds.map(render::seconds).unwrap_or_default(),
            format!("{} + {}", job.stdout_bytes, job.stderr_bytes),
            job.progress.as_ref().map(render::progress).unwrap_or_default(),
            render::code(&job.command),
        ]
    };
    let header = ["job_id", "label", "state", "pid", "runs for", "stdout + stderr bytes", "progress", "command"];
    render::table(&header, jobs.iter().map(cells))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_of_the_same_listing() {
        let all = JobQuery { limit: DEFAULT_LIMIT, ..JobQuery::default() };
        let some = JobQuery { statuses: vec![Status::Failed], label: Some("a \"b\"".into()), limit: 2, page: None };
        assert_eq!(older(&all, "7"), r#"page="7""#);
        assert_eq!(older(&some, "7"), r#"status_filter="failed", label_filter="a \"b\"", limit=2, page="7""#);
    }
}
