//! The line at a terminal that says what is being measured, and for how long. It is gone when that has ended.

use std::future::pending;
use std::time::{Duration, Instant};

use pyexec_client::Client;
use pyexec_proto::{JobDetail, JobId, Progress, Status};

use crate::exit_code::Failure;
use crate::{render, terminal};

/// Often enough to see that it goes on, seldom enough to be no part of what is measured.
const EVERY: Duration = Duration::from_secs(1);

pub(super) async fn until_the_end(client: &Client, id: JobId, name: &str) -> Result<JobDetail, Failure> {
    let began = Instant::now();
    let line = Line;
    line.write(name, "");
    loop {
        if let Some(job) = client.wait_until(id, Instant::now() + EVERY, pending()).await? {
            return Ok(job);
        }
        let job = client.show(id).await?;
        let what = match (job.state.status(), &job.message) {
            (Status::Pending, Some(message)) => render::one_line(message).into_owned(),
            _ => elapsed(began, job.progress.as_ref()),
        };
        line.write(name, &what);
    }
}

/// How long it has taken so far, and how far it is.
fn elapsed(began: Instant, progress: Option<&Progress>) -> String {
    let elapsed = render::duration(Duration::from_secs(began.elapsed().as_secs()));
    let Some(progress) = progress else { return elapsed };
    let told = progress.message.clone().unwrap_or_else(|| progress.short().into_owned());
    format!("{elapsed}, {}", render::one_line(&render::progress(&told, progress.eta_seconds)))
}

/// Wiped when it is dropped.
struct Line;

impl Line {
    fn write(&self, name: &str, what: &str) {
        let columns = usize::from(terminal::stderr_columns().unwrap_or(80)).saturating_sub(1);
        let text = format!("measuring {name}… {what}");
        terminal::report(&format!("\r\x1b[K{}", render::truncated(text.trim_end(), columns)));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        terminal::report("\r\x1b[K");
    }
}
