//! A list of jobs: the daemon's pages put together, and the lines of its table.

use std::time::Duration;

use pyexec_client::Client;
use pyexec_proto::job::JobSummary;
use pyexec_proto::request::{JobQuery, MAX_PAGE};
use pyexec_proto::{Status, Timestamp};
use pyexec_view::elapsed_of_summary;

use crate::exit_code::Failure;
use crate::render::{self, JobLine};

/// At most `most` jobs that `query` asks for, and how many there are.
pub(crate) async fn newest(
    client: &Client,
    mut query: JobQuery,
    most: usize,
) -> Result<(Vec<JobSummary>, u64), Failure> {
    let mut found: Vec<JobSummary> = Vec::new();
    loop {
        query.limit = u32::try_from(most - found.len()).unwrap_or(u32::MAX).min(MAX_PAGE);
        let page = client.list(&query).await?;
        let nothing_came = page.jobs.is_empty();
        found.extend(page.jobs);
        found.truncate(most);
        query.page = page.next;
        if found.len() == most || query.page.is_none() || nothing_came {
            return Ok((found, page.total));
        }
    }
}

pub(crate) fn table_lines(jobs: &[JobSummary], now: Timestamp) -> Vec<JobLine> {
    let ids: Vec<String> = jobs.iter().map(|job| job.id.to_string()).collect();
    render::short_ids(&ids).into_iter().zip(jobs).map(|(id, job)| table_line(id, job, now)).collect()
}

fn table_line(id: String, job: &JobSummary, now: Timestamp) -> JobLine {
    let text = |text: &str| render::one_line(text).into_owned();
    let took = elapsed_of_summary(job, now).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    JobLine {
        id,
        label: text(job.label.as_deref().unwrap_or_default()),
        status: job.status,
        exit: match (job.exit_code, job.status) {
            (Some(code), _) => code.to_string(),
            (None, Status::Pending | Status::Running) => String::new(),
            (None, Status::Completed | Status::Failed | Status::Cancelled) => "-".to_owned(),
        },
        started: job.started_at.map(|at| render::age(at.age_at(now))).unwrap_or_default(),
        took: took.map(render::duration).unwrap_or_default(),
        progress: job.progress.as_ref().map(|progress| progress.short().into_owned()).unwrap_or_default(),
        command: text(&job.command),
    }
}

/// A job of a listing, for tests.
#[cfg(test)]
pub(crate) fn summary(command: &str, status: Status) -> JobSummary {
    use pyexec_proto::environment::Interpreter;
    use pyexec_proto::{JobDetail, JobId, JobSource, JobSpec};
    let spec = JobSpec::new(JobSource::Code { code: String::new().into() }, "/", Interpreter::System);
    let submitted = JobDetail::submitted(JobId::mint(), Timestamp(0), spec);
    JobSummary { status, command: command.to_owned(), ..JobSummary::of(&submitted) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyexec_proto::state::Reason;

    fn summary(status: Status) -> JobSummary {
        super::summary("x.py\n--evil \x1b[2J", status)
    }

    const NOW: Timestamp = Timestamp(200_000_000);

    #[test]
    fn a_job_that_runs_is_shown_with_the_time_it_has_run() {
        let line = table_line(
            "0a1b2c3d".into(),
            &JobSummary { started_at: Some(Timestamp(20_000_000)), ..summary(Status::Running) },
            NOW,
        );
        assert_eq!((line.exit.as_str(), line.started.as_str(), line.took.as_str()), ("", "3m ago", "3m"));
    }

    #[test]
    fn a_job_that_never_started_has_no_exit_code() {
        let lost = JobSummary { reason: Some(Reason::Environment), ..summary(Status::Failed) };
        let line = table_line("0a1b2c3d".into(), &lost, NOW);
        assert_eq!((line.exit.as_str(), line.started.as_str(), line.took.as_str()), ("-", "", ""));
    }

    #[test]
    fn a_command_stays_on_its_line() {
        let line = table_line("0a1b2c3d".into(), &summary(Status::Pending), NOW);
        assert_eq!(line.command, "x.py\\n--evil \\x1b[2J");
    }
}
