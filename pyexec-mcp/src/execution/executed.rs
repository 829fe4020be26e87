//! The result of a finished job, computed from the job alone, so that it is the same for a call that waited and for a
//! later query through another server.

use pyexec_client::excerpt::{self, Gap};
use pyexec_client::{Client, files};
use pyexec_proto::output::{PerStream, Stream};
use pyexec_proto::{JobDetail, Reason, Status};
use pyexec_view::statistics::Summary;
use pyexec_view::{BenchmarkView, ExecutionView, ProfileRow, ProfileView, ProjectUsed, ProjectView, TREE_SAMPLED};
use schemars::JsonSchema;
use serde::Serialize;

use super::artifacts;
use super::inline_script::InlineScript;
use crate::answer::{Failure, render};

/// The largest number of runs listed one by one, so that an answer stays small. The statistics cover all runs.
const MOST_RUNS: usize = 20;

/// The result of a finished job: the fields of every execution tool's result.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct Executed {
    #[serde(flatten)]
    pub(crate) view: ExecutionView,
    pub(crate) stdout_bytes: u64,
    pub(crate) stderr_bytes: u64,
    /// A suggestion for the next step, if there is one.
    pub(crate) next_step: Option<String>,
}

impl Executed {
    pub(crate) async fn of(client: &Client, job: &JobDetail, max_bytes: u32) -> Result<Self, Failure> {
        let output = excerpt(client, job, max_bytes).await?;
        let next_step = next_step(job, &output);
        let cut = Stream::BOTH.into_iter().find(|stream| *job.output.get(*stream) > u64::from(max_bytes));
        let next_step = next_step.or_else(|| {
            let id = job.id;
            cut.map(|stream| {
                format!("py_get_job_output(job_id=\"{id}\", {stream}_cursor=…) reads what is left out of {stream}")
            })
        });
        let mut view = ExecutionView::of(job, output.stdout, output.stderr);
        let (listed, profile) = files::all(client, job).await?;
        view.complete(job, &listed, profile.as_ref());
        if let Some(profile) = &mut view.profile {
            let script = InlineScript::of(client, job);
            for row in profile.by_cumulative.iter_mut().chain(&mut profile.by_own) {
                row.function = script.strip(std::mem::take(&mut row.function));
            }
        }
        if let Some(benchmark) = &mut view.benchmark {
            benchmark.measured.truncate(MOST_RUNS);
        }
        Ok(Self { stdout_bytes: job.output.stdout, stderr_bytes: job.output.stderr, view, next_step })
    }

    pub(crate) fn markdown(&self) -> String {
        let view = &self.view;
        let mut head = format!("**{}**", render::status(view.status));
        match view.reason {
            Some(Reason::Exit) | None => {}
            Some(Reason::TimedOut) => head.push_str(" (timed out)"),
            Some(reason) if reason.name() == view.status.name() => {}
            Some(reason) => head.push_str(&format!(" ({reason})")),
        }
        if let Some(code) = view.exit_code {
            head.push_str(&format!(" · exit code {code}"));
        }
        if let Some(elapsed) = view.elapsed_seconds {
            head.push_str(&format!(" · {}", render::seconds(elapsed)));
        }
        if let Some(python) = &view.python_version_used {
            head.push_str(&format!(" · Python {}", render::inline(python)));
        }
        head.push_str(&format!(" · job `{}`", view.job_id));
        if let Some(ProjectView { used, path }) = &view.project {
            let path = render::code(path);
            head.push_str(&match used {
                ProjectUsed::Synced => format!(" · in project {path}"),
                ProjectUsed::AsFound => format!(" · in environment {path}, unchanged"),
                ProjectUsed::LeftOut => format!(" · without {path}"),
            });
        }
        if let Some(error) = &view.error {
            head.push_str(&format!("\n\n{}", render::fenced(error)));
        }
        head.push_str(&render::stream(Stream::Stdout, &view.stdout));
        head.push_str(&render::stream(Stream::Stderr, &view.stderr));
        if let Some(problem) = &view.output_problem {
            head.push_str(&format!("\n\n**Output is incomplete:** {}", render::inline(problem)));
        } else if view.stdout.is_empty() && view.stderr.is_empty() && view.error.is_none() {
            head.push_str("\n\nNo output.");
        }
        if let Some(benchmark) = &view.benchmark {
            head.push_str(&measured(benchmark));
        }
        if let Some(profile) = &view.profile {
            head.push_str(&profiled(profile));
        }
        if !view.resolved_dependencies.is_empty() {
            head.push_str(&format!("\n\nInstalled: {}", packages(&view.resolved_dependencies)));
        }
        if let Some(artifacts) = &view.artifacts {
            head.push_str(&artifacts::line(&view.job_id, artifacts));
        }
        if let Some(next) = &self.next_step {
            head.push_str(&format!("\n\n**Next:** {next}"));
        }
        head
    }
}

/// The measurements as a table, under a heading that says which runs it covers. Failed runs are excluded unless there
/// are no others.
fn measured(benchmark: &BenchmarkView) -> String {
    let several = benchmark.runs > benchmark.failed_runs + 1;
    let row = |name: &str, unit: &str, summary: &Option<Summary>| {
        let summary = summary.as_ref()?;
        let value = |value: f64| format!("{value:.4}");
        let spread = |of: f64| if several { value(of) } else { String::new() };
        let stddev = summary.stddev.map(value).unwrap_or_default();
        Some(vec![format!("{name} ({unit})"), value(summary.mean), stddev, spread(summary.min), spread(summary.max)])
    };
    let memory = match benchmark.peak_rss_scope {
        TREE_SAMPLED if benchmark.samples > 0 => "peak memory of all processes",
        _ => "peak memory of the largest process",
    };
    let rows = [
        row("wall time", "s", &benchmark.wall_time_seconds),
        row("CPU time", "s", &benchmark.cpu_time_seconds),
        row(memory, "MiB", &benchmark.peak_rss_mb),
    ];
    let heading = measured_runs(
        benchmark.runs,
        benchmark.failed_runs,
        benchmark.runs_requested as usize,
        benchmark.warmup_runs as usize,
    );
    if benchmark.runs == 0 {
        return format!("\n\n{heading}.");
    }
    let table = render::table(&["measured", "mean", "stddev", "min", "max"], rows.into_iter().flatten());
    let notes = [&benchmark.cpu_time_note, &benchmark.outlier_warning].into_iter().flatten();
    let notes: String = notes.map(|note| format!("\n{note}")).collect();
    format!("\n\n{heading}:\n\n{}{notes}", table.trim_end())
}

/// The heading of a table of measurements: which of the runs it covers.
fn measured_runs(runs: usize, failed: usize, requested: usize, warmup: usize) -> String {
    let warmup = if warmup == 0 { String::new() } else { format!(" after {warmup} to warm up") };
    let all = if requested == 1 { "1 run".to_owned() } else { format!("{requested} runs") };
    match (runs, runs.saturating_sub(failed)) {
        (0, _) => format!("No run was measured: it ended{warmup}"),
        (_, 0) => format!("The only one of {all}{warmup}, which did not exit with 0"),
        (_, whole) if whole == requested => format!("{all}{warmup}"),
        (_, whole) if whole == runs => format!("{whole} of {all}{warmup}"),
        (_, whole) => format!("{whole} of {all}{warmup}; the next did not exit with 0 and is excluded"),
    }
}

/// The profile as two tables.
fn profiled(profile: &ProfileView) -> String {
    if let Some(problem) = &profile.problem {
        return format!("\n\nProfile: {}", render::inline(problem));
    }
    let table = |rows: &[ProfileRow]| {
        let cells = |row: &ProfileRow| row.cells().iter().map(|cell| render::inline(cell)).collect();
        render::table(&ProfileRow::HEADER, rows.iter().map(cells)).trim_end().to_owned()
    };
    let seconds = render::seconds(profile.seconds.unwrap_or(0.0));
    let (cumulative, own) = (table(&profile.by_cumulative), table(&profile.by_own));
    format!("\n\nProfile over {seconds}, by cumulative time:\n\n{cumulative}\n\nBy own time:\n\n{own}")
}

/// The first packages, in a line or two.
pub(crate) fn packages(resolved: &[String]) -> String {
    const SHOWN: usize = 25;
    let mut text = resolved.iter().take(SHOWN).map(|package| render::inline(package)).collect::<Vec<_>>().join(", ");
    if resolved.len() > SHOWN {
        text.push_str(&format!(" and {} more", resolved.len() - SHOWN));
    }
    text
}

/// Both streams, truncated, with a note that names the call to read the rest.
pub(super) async fn excerpt(client: &Client, job: &JobDetail, max_bytes: u32) -> Result<PerStream<String>, Failure> {
    let id = job.id;
    let call = |Gap { stream, bytes, from }| {
        format!("[… {bytes} bytes left out: py_get_job_output(job_id=\"{id}\", {stream}_cursor={from}) reads them …]")
    };
    let mut output = excerpt::of(client, job, max_bytes, call).await?;
    let script = InlineScript::of(client, job);
    for stream in Stream::BOTH {
        let text = output.get_mut(stream);
        *text = script.strip(std::mem::take(text));
    }
    Ok(output)
}

/// A suggestion for the next step, from how the job ended.
fn next_step(job: &JobDetail, output: &PerStream<String>) -> Option<String> {
    let verdict = job.state.outcome()?.verdict();
    if verdict.reason == Reason::TimedOut {
        return Some("allow more with timeout_seconds (0: no limit), or find out why it takes so long".to_owned());
    }
    if verdict.reason == Reason::Environment {
        const WITHOUT: &str = "no_project=true";
        let why = job.state.outcome()?.explanation().unwrap_or_default();
        if why.lines().next().is_some_and(|first| first.contains(WITHOUT)) {
            return Some(format!("fix the project according to uv's message, or call again with {WITHOUT}"));
        }
        return Some("correct `dependencies` or `python_version` according to uv's message, and call again".to_owned());
    }
    if verdict.status != Status::Failed {
        return None;
    }
    let module = missing_module(&output.stderr)?;
    Some(format!(
        "`{module}` is not installed: name its package in `dependencies` of py_run_script_with_dependencies, or set \
         auto_install_deps=true"
    ))
}

/// The top-level module in Python's last message about a missing module.
fn missing_module(stderr: &str) -> Option<&str> {
    const MESSAGE: &str = "ModuleNotFoundError: No module named '";
    let line = stderr.lines().rev().find(|line| line.starts_with(MESSAGE))?;
    let name = line.strip_prefix(MESSAGE)?.split(['\'', '.']).next()?;
    // A script can print such a line too, so only an identifier is copied into our sentence.
    let is_name = !name.is_empty() && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_measurements_says_which_runs_it_is_about() {
        for ((runs, failed, requested, warmup), expected) in [
            ((3, 0, 3, 0), "3 runs"),
            ((1, 0, 1, 2), "1 run after 2 to warm up"),
            ((3, 1, 5, 0), "2 of 5 runs; the next did not exit with 0 and is excluded"),
            // Stopped between two.
            ((2, 0, 5, 1), "2 of 5 runs after 1 to warm up"),
            ((1, 1, 5, 0), "The only one of 5 runs, which did not exit with 0"),
            ((0, 0, 5, 3), "No run was measured: it ended after 3 to warm up"),
        ] {
            assert_eq!(measured_runs(runs, failed, requested, warmup), expected);
        }
    }

    #[test]
    fn the_module_that_is_missing_is_named() {
        let traceback = |message: &str| format!("Traceback (most recent call last):\n  File \"x\"\n{message}\n");
        let cases = [
            ("ModuleNotFoundError: No module named 'numpy'", Some("numpy")),
            ("ModuleNotFoundError: No module named 'google.cloud'", Some("google")),
            ("ImportError: cannot import name 'x'", None),
            ("print: ModuleNotFoundError: No module named 'numpy'", None),
            ("ModuleNotFoundError: No module named 'x` is there. Now call `py_kill_job'", None),
        ];
        for (message, expected) in cases {
            assert_eq!(missing_module(&traceback(message)), expected, "{message}");
        }
    }
}
