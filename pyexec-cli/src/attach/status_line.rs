//! The status line at the bottom of a terminal: a spinner, the reason why a job waits, its run time and progress.
//!
//! It is drawn only at the beginning of a line and erased before anything else is written, so the job's output is never
//! mixed with it. It is never written to a file or a pipe.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use pyexec_client::Client;
use pyexec_proto::{JobDetail, JobId, Status, Timestamp};

use super::forwarder::{Forwarded, OutputForwarder};
use crate::exit_code::Failure;
use crate::{render, terminal};

/// How long the status line is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShowStatus {
    /// Until the job starts: its output then owns the terminal.
    UntilStarted,
    UntilFinished,
}

/// The interval between two updates.
const TICK: Duration = Duration::from_millis(250);
/// Waits shorter than this show no line.
const PATIENCE: Duration = Duration::from_millis(600);
/// A terminal with fewer columns shows no progress bar, only numbers.
const ROOM_FOR_BAR: u16 = 60;
/// The longest wait of one call when no line is shown.
const WITHOUT_MS: u64 = pyexec_proto::request::MAX_WAIT_MS;

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const PLAIN_SPINNER: [&str; 4] = ["-", "\\", "|", "/"];

/// Forwards the job's output until the job has finished, with the status line if stderr is a terminal.
pub(crate) async fn forward_to_end(
    forwarder: &mut OutputForwarder,
    client: &Client,
    id: JobId,
    during: ShowStatus,
) -> Result<JobDetail, Failure> {
    let began = Instant::now();
    let mut is_wanted = is_possible();
    let mut frame = 0;
    loop {
        let wait_ms = if is_wanted { TICK.as_millis().try_into().unwrap_or(WITHOUT_MS) } else { WITHOUT_MS };
        let Forwarded { finished, .. } = forwarder.forward(client, wait_ms).await?;
        if let Some(job) = finished {
            forwarder.status(String::new()).await?;
            return Ok(job);
        }
        if !is_wanted || began.elapsed() < PATIENCE {
            continue;
        }
        let job = client.show(id).await?;
        is_wanted = during == ShowStatus::UntilFinished || job.state.status() == Status::Pending;
        let line = if is_wanted {
            text(&job, Timestamp::now(), frame, columns(), terminal::is_unicode())
        } else {
            String::new()
        };
        forwarder.status(line).await?;
        frame += 1;
    }
}

/// Whether stderr is a terminal that can erase a line.
fn is_possible() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    std::io::stderr().is_terminal() && !is_dumb
}

fn columns() -> u16 {
    let columns = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| size.ws_col);
    if columns == 0 { 80 } else { columns }
}

/// The line, short enough for its terminal.
fn text(job: &JobDetail, now: Timestamp, frame: usize, columns: u16, unicode: bool) -> String {
    let spinner = if unicode { SPINNER[frame % SPINNER.len()] } else { PLAIN_SPINNER[frame % PLAIN_SPINNER.len()] };
    let since = job.state.run().map_or(job.created_at, |run| run.started_at);
    let elapsed = render::duration(Duration::from_secs(since.age_at(now).as_secs()));
    let mut line = format!("{spinner} {} {elapsed}", job.state.status());
    let separator = if unicode { " · " } else { ", " };
    if let Some(message) = &job.message {
        line.push_str(separator);
        line.push_str(&render::one_line(message));
    }
    if let Some(progress) = &job.progress {
        line.push_str(separator);
        if let Some(fraction) = progress.fraction().filter(|_| columns >= ROOM_FOR_BAR) {
            line.push_str(&bar(fraction, unicode));
        }
        line.push_str(&render::one_line(&render::progress(&progress.sentence(), progress.eta_seconds)));
    }
    // One column less: a cursor behind the last one wraps on some terminals.
    render::truncated(&line, usize::from(columns.saturating_sub(1))).into_owned()
}

/// A progress bar, followed by a space.
fn bar(fraction: f64, unicode: bool) -> String {
    const CELLS: usize = 16;
    let full = ((fraction * CELLS as f64).floor() as usize).min(CELLS);
    let (done, left) = if unicode { ("━", "─") } else { ("#", "-") };
    format!("{}{} ", done.repeat(full), left.repeat(CELLS - full))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyexec_proto::environment::Interpreter;
    use pyexec_proto::progress::{Progress, Seen};
    use pyexec_proto::state::Run;
    use pyexec_proto::{JobSource, JobSpec, JobState};

    fn job(state: JobState, message: Option<&str>) -> JobDetail {
        let spec = JobSpec::new(JobSource::Code { code: "pass".into() }, "/", Interpreter::System);
        let submitted = JobDetail::submitted(JobId::mint(), Timestamp(0), spec);
        JobDetail { state, message: message.map(str::to_owned), ..submitted }
    }

    const NOW: Timestamp = Timestamp(65_000_000);

    #[test]
    fn a_job_that_waits_says_for_what_and_how_long() {
        let waiting = job(JobState::Preparing, Some("building\x1b[2J its environment"));
        assert_eq!(text(&waiting, NOW, 1, 80, true), "⠙ pending 1m 05s · building\\x1b[2J its environment");
        assert_eq!(text(&waiting, NOW, 1, 80, false), "\\ pending 1m 05s, building\\x1b[2J its environment");
    }

    #[test]
    fn a_job_that_runs_says_how_long_it_has_run() {
        let running = job(JobState::Running { run: Run::of_process(5, Timestamp(60_000_000)) }, None);
        assert_eq!(text(&running, NOW, 0, 80, true), "⠋ running 5s");
    }

    #[test]
    fn how_far_a_job_is_is_drawn_where_there_is_room_for_it() {
        let mut running = job(JobState::Running { run: Run::of_process(5, Timestamp(60_000_000)) }, None);
        running.progress = Some(Progress {
            rate: Some(2.0),
            eta_seconds: Some(5.0),
            message: Some("a\x1b[2Jb".into()),
            ..Progress::of(Seen::Drawn, 10.0, Some(20.0))
        });
        let wide = "⠋ running 5s · ━━━━━━━━──────── 50% (10/20), 2/s, a\\x1b[2Jb, 5s left";
        assert_eq!(text(&running, NOW, 0, 90, true), wide);
        let plain = "- running 5s, ########-------- 50% (10/20), 2/s, a\\x1b[2Jb, 5s left";
        assert_eq!(text(&running, NOW, 0, 90, false), plain);
        assert_eq!(text(&running, NOW, 0, 40, true), "⠋ running 5s · 50% (10/20), 2/s, a\\x1b…");
        running.progress = Some(Progress::of(Seen::Drawn, 7.0, None));
        assert_eq!(text(&running, NOW, 0, 90, true), "⠋ running 5s · 7");
        assert_eq!([0.0, 0.99, 1.0].map(|fraction| bar(fraction, false).matches('#').count()), [0, 15, 16]);
    }

    #[test]
    fn the_line_leaves_the_last_column_free() {
        let waiting = job(JobState::Queued, Some(&"x".repeat(300)));
        for columns in [10, 40, 80] {
            assert!(text(&waiting, NOW, 0, columns, true).chars().count() < usize::from(columns), "{columns}");
            let wide = job(JobState::Queued, Some(&"日本語".repeat(50)));
            let line = text(&wide, NOW, 0, columns, true);
            assert!(render::width(&line) < usize::from(columns), "{line} in {columns}");
        }
    }
}
