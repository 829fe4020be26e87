//! What was measured of each script, and the ratios between them: as data, a block of text each, and a JSON document.

use std::path::Path;

use pyexec_proto::{JobDetail, JobId, Outcome, Reason, Status};
use pyexec_view::BenchmarkView;
use pyexec_view::statistics::{Ratio, Summary};
use pyexec_view::timeline::{Curve, MOST_CURVES, Timeline};
use serde::Serialize;

use crate::exit_code::Failure;
use crate::terminal::Pen;
use crate::terminal::Screen;
use crate::{benchmark, chart, plot, render, terminal};

/// One script, measured as far as it went.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    name: String,
    id: JobId,
    status: Status,
    reason: Option<Reason>,
    exit_code: Option<i32>,
    problem: Option<String>,
    /// The end of it, when it failed.
    stderr: String,
    benchmark: Option<BenchmarkView>,
    /// Of the last run, if it was looked at.
    timeline: Option<Timeline>,
}

/// All of them, in the order they ran.
#[derive(Clone, Debug)]
pub(super) struct Results {
    measured: Vec<Measured>,
    /// Which had the shortest mean wall time, of those that went through at least once.
    fastest: Option<usize>,
}

/// What `--json` prints and `--export-json` writes.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    results: Vec<Row<'a>>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    script: &'a str,
    job_id: String,
    status: Status,
    reason: Option<Reason>,
    exit_code: Option<i32>,
    error: Option<&'a str>,
    /// Its last lines, when it failed.
    stderr: &'a str,
    benchmark: Option<&'a BenchmarkView>,
    /// To the script with the shortest mean wall time, whose ratios are 1; `null` for one that never went through.
    relative: Option<Relative>,
}

/// Quotients of means.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Relative {
    pub(super) wall_time: Option<Ratio>,
    cpu_time: Option<Ratio>,
    peak_rss: Option<Ratio>,
}

impl Measured {
    pub(super) fn of(name: String, job: &JobDetail, problem: Option<String>, stderr: String) -> Self {
        let verdict = job.state.outcome().map(Outcome::verdict);
        Self {
            name,
            id: job.id,
            status: job.state.status(),
            reason: verdict.map(|verdict| verdict.reason),
            exit_code: verdict.and_then(|verdict| verdict.exit_code),
            problem,
            stderr,
            benchmark: BenchmarkView::of(job),
            timeline: Timeline::of(job),
        }
    }

    /// A block of its own; ends with an empty line.
    pub(super) fn text(&self, screen: Screen, pen: Pen) -> String {
        let (columns, bold) = match screen {
            Screen::Terminal { columns, colour } => (usize::from(columns), colour),
            Screen::File => (usize::MAX, false),
        };
        let runs = self.benchmark.as_ref().map_or_else(|| "nothing was measured".to_owned(), benchmark::runs);
        let name = render::truncated(&self.name, columns.saturating_sub(1));
        let shown = if bold { format!("\x1b[1m{name}\x1b[0m") } else { name.clone().into_owned() };
        let mut text = if name.chars().count() + ": ".len() + runs.chars().count() <= columns {
            format!("{shown}: {runs}\n")
        } else {
            let lines = benchmark::folded(&runs, columns.saturating_sub(2)).into_iter();
            lines.fold(format!("{shown}:\n"), |text, line| format!("{text}  {line}\n"))
        };
        if let Some(view) = &self.benchmark {
            text += &benchmark::figures(view, columns);
        }
        text += &self.drawn(if columns == usize::MAX { IN_A_FILE } else { columns }, pen);
        text.push('\n');
        if pen.unicode { text } else { in_ascii(&text) }
    }

    /// Memory and CPU over the time of the last run.
    fn drawn(&self, columns: usize, pen: Pen) -> String {
        match (&self.timeline, &self.benchmark) {
            (Some(timeline), _) => format!("\n{}", chart::text(timeline, columns, pen)),
            (None, Some(view)) if view.runs > 0 => {
                let interval = benchmark::seconds(view.sample_interval_seconds);
                format!(
                    "  no chart:    finished before the first memory sample ({interval});\n               \
                     use a shorter --sample-interval\n"
                )
            }
            (None, _) => String::new(),
        }
    }

    /// Says what went wrong, with the end of what the script had to say of it.
    pub(super) fn print_problem(&self) {
        let Some(problem) = &self.problem else { return };
        let said = if self.stderr.is_empty() { String::new() } else { format!(":\n{}", self.stderr) };
        let hint = format!("`pyexec logs {}` shows all that it printed", short(self.id));
        terminal::problem(&format!("{}: {problem}{said}", self.name), Some(&hint));
    }

    /// `None` when no run of it went through.
    pub(super) fn compared(&self) -> Option<&BenchmarkView> {
        self.benchmark.as_ref().filter(|view| view.runs > view.failed_runs)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn wall(&self) -> Option<Summary> {
        self.compared()?.wall_time_seconds
    }
}

/// What a chart may be wide where nobody says how wide it is.
const IN_A_FILE: usize = 80;

/// For a locale that has nothing else.
pub(super) fn in_ascii(text: &str) -> String {
    text.replace('±', "+-").replace('…', "..").replace('µ', "u")
}

/// `job ID`, as `show` and `logs` take it.
fn short(id: JobId) -> String {
    id.to_string().chars().take(8).collect()
}

impl Results {
    pub(super) fn of(measured: Vec<Measured>) -> Self {
        let walls = measured.iter().enumerate().filter_map(|(at, one)| Some((at, one.wall()?.mean)));
        let fastest = walls.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(at, _)| at);
        Self { measured, fastest }
    }

    /// Each script, in the order they ran.
    pub(super) fn measured(&self) -> &[Measured] {
        &self.measured
    }

    /// How each stands to the fastest, itself included.
    pub(super) fn relative(&self) -> Vec<Option<Relative>> {
        let reference = self.fastest.and_then(|fastest| self.measured[fastest].compared());
        let relative = |(at, one): (usize, &Measured)| {
            let (view, reference) = (one.compared()?, reference?);
            let ratio = |of: fn(&BenchmarkView) -> Option<Summary>| {
                let (one, other) = (of(view)?, of(reference)?);
                // It is what it is, exactly as often.
                let itself = Ratio { ratio: 1.0, stddev: None };
                if Some(at) == self.fastest { Some(itself) } else { Ratio::of(&one, &other) }
            };
            Some(Relative {
                wall_time: ratio(|view| view.wall_time_seconds),
                cpu_time: ratio(|view| view.cpu_time_seconds),
                peak_rss: ratio(|view| view.peak_rss_mb),
            })
        };
        self.measured.iter().enumerate().map(relative).collect()
    }

    pub(super) fn document(&self) -> Document<'_> {
        let rows = self.measured.iter().zip(self.relative()).map(|(one, relative)| Row {
            script: &one.name,
            job_id: one.id.to_string(),
            status: one.status,
            reason: one.reason,
            exit_code: one.exit_code,
            error: one.problem.as_deref(),
            stderr: &one.stderr,
            benchmark: one.benchmark.as_ref(),
            relative,
        });
        Document { results: rows.collect() }
    }

    /// Draws memory and CPU over the time of each one's last run; fails when none was looked at.
    pub(super) fn plot(&self, path: &Path) -> Result<(), Failure> {
        let drawn = self.measured.iter().filter_map(|one| Some((one.name.as_str(), one.timeline.as_ref()?)));
        let curves: Vec<Curve<'_>> = drawn.map(|(name, timeline)| Curve { name, timeline }).collect();
        let title = match &curves[..] {
            [] => return Err(Failure::NothingToDraw { what: "what was measured".to_owned() }),
            [only] => only.name.to_owned(),
            several if several.len() > MOST_CURVES => format!("The first {MOST_CURVES} of {} scripts", several.len()),
            several => several.iter().map(|curve| curve.name).collect::<Vec<_>>().join(", "),
        };
        plot::write(path, &title, &curves)
    }
}

pub(super) fn pretty(document: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(document).map_err(|error| Failure::Output(error.into()))
}

/// Before anything is measured: a slip in a path is not to be found out at the end of an hour.
pub(super) fn check_export(path: &Path) -> Result<(), Failure> {
    let refused = |kind| Failure::Export { path: path.to_owned(), source: std::io::Error::from(kind) };
    if path.is_dir() {
        return Err(refused(std::io::ErrorKind::IsADirectory));
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.is_dir() => {
            Err(refused(std::io::ErrorKind::NotFound))
        }
        Some(_) | None => Ok(()),
    }
}
