//! `pyexec jobs`: the table of jobs.

mod watch;

use pyexec_proto::Timestamp;
use pyexec_proto::request::JobQuery;
use pyexec_view::JobRow;
use serde::Serialize;

use crate::args::Jobs;
use crate::connection::connect;
use crate::exit_code::{Code, Failure, SUCCESS};
use crate::listing::{newest, table_lines};
use crate::render;
use crate::terminal::{self, Screen};

/// `pyexec jobs --json`.
#[derive(Serialize)]
struct Listing {
    jobs: Vec<JobRow>,
    /// All that match, not only those listed.
    total: u64,
}

pub(crate) async fn perform(jobs: Jobs) -> Result<Code, Failure> {
    if jobs.watch {
        return watch::perform(jobs).await;
    }
    let client = connect().await?;
    let most = if jobs.all { usize::MAX } else { usize::try_from(jobs.number).unwrap_or(usize::MAX) };
    let query = JobQuery { statuses: jobs.status, label: jobs.label, ..JobQuery::default() };
    let (found, total) = newest(&client, query, most).await?;
    let now = Timestamp::now();
    if jobs.json {
        let jobs = found.iter().map(|job| JobRow::of(job, now)).collect();
        terminal::print_json(&Listing { jobs, total })?;
        return Ok(SUCCESS);
    }
    if found.is_empty() {
        terminal::note("no jobs");
        return Ok(SUCCESS);
    }
    let screen = terminal::screen();
    terminal::print(&render::job_table(&table_lines(&found, now), screen))?;
    if let Screen::Terminal { .. } = screen
        && total > found.len() as u64
    {
        terminal::note(&format!("{} of {total} jobs; --all lists every one", found.len()));
    }
    Ok(SUCCESS)
}
