//! Several scripts beside each other.

use pyexec_view::markdown::in_cell;
use pyexec_view::statistics::{Ratio, Summary};

use super::results::{Measured, Relative, Results, in_ascii};
use crate::benchmark::seconds;
use crate::render;
use crate::terminal::{Pen, Screen};

/// Where there is no room: memory, then CPU, then wall time; the ratio stays.
const LEAST_TELLING: [usize; 3] = [3, 2, 1];

/// How the scripts compare, as a table for people; empty where there are not two to compare.
pub(super) fn comparison(results: &Results, screen: Screen, pen: Pen) -> String {
    if results.measured().iter().filter(|one| one.compared().is_some()).count() < 2 {
        return String::new();
    }
    let table = text(results.measured(), &results.relative(), screen);
    if pen.unicode { table } else { in_ascii(&table) }
}

fn text(measured: &[Measured], relative: &[Option<Relative>], screen: Screen) -> String {
    let rows: Vec<Vec<String>> = measured
        .iter()
        .zip(relative)
        .map(|(one, relative)| {
            let view = one.compared();
            let of = |summary: Option<Summary>, show: &dyn Fn(f64) -> String| {
                summary.map_or_else(|| "-".to_owned(), |summary| spread(&summary, show))
            };
            vec![
                relative.and_then(|relative| relative.wall_time).map_or_else(|| "-".to_owned(), |ratio| shown(&ratio)),
                of(view.and_then(|view| view.wall_time_seconds), &seconds),
                of(view.and_then(|view| view.cpu_time_seconds), &seconds),
                of(view.and_then(|view| view.peak_rss_mb), &mebibytes),
                one.name().to_owned(),
            ]
        })
        .collect();
    let header = ["RATIO", "WALL TIME", "CPU TIME", "PEAK MEMORY", "SCRIPT"];
    render::plain_table(&header, &rows, &LEAST_TELLING, screen)
}

/// Means with their deviations; one row for each script, also for one that failed.
pub(super) fn markdown(results: &Results) -> String {
    let (measured, relative) = (results.measured(), results.relative());
    let mut text = "| script | runs | wall time | min … max | median | CPU time | peak memory | ratio |\n\
                    |:---|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for (one, relative) in measured.iter().zip(&relative) {
        let view = one.compared();
        let of = |summary: Option<Summary>, show: &dyn Fn(&Summary) -> String| {
            summary.map_or_else(String::new, |summary| show(&summary))
        };
        let wall = view.and_then(|view| view.wall_time_seconds);
        let cells = [
            code(one.name()),
            view.map_or_else(|| "failed".to_owned(), |view| (view.runs - view.failed_runs).to_string()),
            of(wall, &|wall| spread(wall, seconds)),
            of(wall, &|wall| format!("{} … {}", seconds(wall.min), seconds(wall.max))),
            of(wall, &|wall| seconds(wall.median)),
            of(view.and_then(|view| view.cpu_time_seconds), &|cpu| spread(cpu, seconds)),
            of(view.and_then(|view| view.peak_rss_mb), &|peak| spread(peak, mebibytes)),
            relative.and_then(|relative| relative.wall_time).map_or_else(String::new, |ratio| shown(&ratio)),
        ];
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text + &conditions(measured)
}

/// `2.03 ± 0.09`, or the ratio where there is no more to say.
fn shown(ratio: &Ratio) -> String {
    match ratio.stddev {
        Some(stddev) => format!("{:.2} ± {stddev:.2}", ratio.ratio),
        None => format!("{:.2}", ratio.ratio),
    }
}

/// `mean ± σ` in the unit that fits.
fn spread(summary: &Summary, show: impl Fn(f64) -> String) -> String {
    match summary.stddev {
        Some(stddev) => format!("{} ± {}", show(summary.mean), show(stddev)),
        None => show(summary.mean),
    }
}

/// Under what each was measured; once, where that is the same of all.
fn conditions(measured: &[Measured]) -> String {
    let told = |one: &Measured| {
        let view = one.compared()?;
        let conditions = view.conditions.as_ref().map(|conditions| conditions.sentence.clone());
        let parts: Vec<String> = conditions.into_iter().chain(view.not_taken_over.iter().cloned()).collect();
        (!parts.is_empty()).then(|| render::one_line(&parts.join("; ")).into_owned())
    };
    let all: Vec<(&Measured, String)> = measured.iter().filter_map(|one| Some((one, told(one)?))).collect();
    match all.as_slice() {
        [] => String::new(),
        [(_, first), rest @ ..] if rest.iter().all(|(_, other)| other == first) => {
            format!("\nMeasured with {first}.\n")
        }
        all => all.iter().map(|(one, told)| format!("\n{} was measured with {told}.\n", code(one.name()))).collect(),
    }
}

fn mebibytes(mib: f64) -> String {
    format!("{mib:.1} MiB")
}

/// As code, whatever it is made of: a fence longer than any of its own, and no column of its own.
fn code(text: &str) -> String {
    let text = in_cell(&render::one_line(text));
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let gap = if longest > 0 { " " } else { "" };
    format!("{fence}{gap}{text}{gap}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_cell() {
        for (name, expected) in [("a.py", "`a.py`"), ("a|b.py", "`a\\|b.py`"), ("a`b", "`` a`b ``")] {
            assert_eq!(code(name), expected);
        }
    }
}
