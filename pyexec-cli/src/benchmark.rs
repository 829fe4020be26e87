//! What was measured of a job, as lines for people.

use pyexec_view::statistics::Summary;
use pyexec_view::{BenchmarkView, LARGEST_PROCESS, TREE_SAMPLED};

use crate::render;

/// A heading, and `key: value` lines below it; ends with a newline.
pub(crate) fn text(benchmark: &BenchmarkView) -> String {
    format!("benchmark: {}\n{}", runs(benchmark), figures(benchmark, usize::MAX))
}

/// The `key: value` lines. A value that is too long for `columns` goes on below itself.
pub(crate) fn figures(benchmark: &BenchmarkView, columns: usize) -> String {
    let peak_of = match benchmark.peak_rss_scope {
        _ if benchmark.samples == 0 => format!("{}; finished before the first sample", scope(LARGEST_PROCESS)),
        TREE_SAMPLED => {
            let every = seconds(benchmark.sample_interval_seconds);
            format!("{}, sampled every {every}; all else is exact", ALL_PROCESSES)
        }
        other => scope(other).to_owned(),
    };
    let count = |value: f64| format!("{value:.0}");
    let bytes = |value: f64| render::size(value as u64);
    let both =
        |one: Option<Summary>, one_is: &str, other: Option<Summary>, other_is: &str, show: &dyn Fn(f64) -> String| {
            Some(format!("{} {one_is}, {} {other_is}", show(one?.mean), show(other?.mean)))
        };
    let cpu = || {
        let parts = both(benchmark.user_time_seconds, "user", benchmark.system_time_seconds, "system", &seconds)?;
        Some(format!("{}  ({parts})", spread(&benchmark.cpu_time_seconds?, &seconds)))
    };
    let memory = |peak: Summary| format!("{}  ({peak_of})", spread(&peak, &|mib| format!("{mib:.1} MiB")));
    let pairs = [
        ("wall time", benchmark.wall_time_seconds.map(|wall| spread(&wall, &seconds))),
        ("cpu time", cpu()),
        ("peak memory", benchmark.peak_rss_mb.map(memory)),
        ("page faults", both(benchmark.minor_page_faults, "minor", benchmark.major_page_faults, "major", &count)),
        (
            "switches",
            both(
                benchmark.voluntary_context_switches,
                "voluntary",
                benchmark.involuntary_context_switches,
                "involuntary",
                &count,
            ),
        ),
        ("storage", both(benchmark.read_bytes, "read", benchmark.written_bytes, "written", &bytes)),
        ("conditions", benchmark.conditions.as_ref().map(|conditions| conditions.sentence.clone())),
        ("not taken over", (!benchmark.not_taken_over.is_empty()).then(|| benchmark.not_taken_over.join("; "))),
        ("note", benchmark.cpu_time_note.clone()),
        ("warning", benchmark.outlier_warning.clone()),
    ];
    let known: Vec<(&str, String)> = pairs.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    let widest = known.iter().map(|(key, _)| key.len()).max().unwrap_or(0) + 1;
    let room = columns.saturating_sub(widest + 3);
    known.iter().fold(String::new(), |mut text, (key, value)| {
        let mut name = format!("{key}:");
        for line in folded(value, room) {
            text += &format!("  {name:widest$} {line}\n");
            name.clear();
        }
        text
    })
}

/// In lines of at most `room` characters, as far as it can be broken between parts: at two blanks, and after a comma.
pub(crate) fn folded(value: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![];
    for group in value.split("  ").filter(|group| !group.is_empty()) {
        for (number, part) in group.split_inclusive([',', ';']).map(str::trim_start).enumerate() {
            let gap = if number == 0 { "  " } else { " " };
            let part = part.trim_end();
            match lines.last_mut() {
                Some(line) if line.chars().count() + gap.len() + part.chars().count() <= room => {
                    line.push_str(gap);
                    line.push_str(part);
                }
                Some(_) | None => lines.push(part.to_owned()),
            }
        }
    }
    lines
}

/// A peak, and what it is the peak of.
pub(crate) fn peak(mib: f64, scope_name: &str) -> String {
    format!("{mib:.1} MiB, {}", scope(scope_name))
}

const ALL_PROCESSES: &str = "all processes together";

fn scope(name: &str) -> &str {
    match name {
        LARGEST_PROCESS => "largest process",
        TREE_SAMPLED => "all processes together, sampled",
        other => other,
    }
}

/// How many there were, and what became of them.
pub(crate) fn runs(benchmark: &BenchmarkView) -> String {
    let counted = |count: u64, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let mut text = counted(benchmark.runs as u64, "measured run");
    if benchmark.runs as u64 != u64::from(benchmark.runs_requested) {
        text += &format!(" of {}", benchmark.runs_requested);
    }
    if benchmark.failed_runs > 0 {
        text +=
            if benchmark.runs > benchmark.failed_runs { ", the last failed and is left out below" } else { ", failed" };
    }
    if benchmark.warmup_runs > 0 {
        text += &format!(", after {}", counted(benchmark.warmup_runs.into(), "warm-up run"));
    }
    text
}

/// `mean ± σ  (min … max, median M)`, or the value where there is but one.
fn spread(summary: &Summary, show: &dyn Fn(f64) -> String) -> String {
    match summary.stddev {
        None => show(summary.mean),
        Some(stddev) => {
            let middle = format!("{} ± {}", show(summary.mean), show(stddev));
            format!("{middle}  ({} … {}, median {})", show(summary.min), show(summary.max), show(summary.median))
        }
    }
}

/// A length of time, finer than a list of jobs needs it: `812 µs`, `12.35 ms`, `3.412 s`.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 999.5e-6 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 0.999_5 {
        format!("{:.2} ms", seconds * 1e3)
    } else {
        format!("{seconds:.3} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(values: &[f64]) -> Option<Summary> {
        Summary::of(values)
    }

    fn view(walls: &[f64]) -> BenchmarkView {
        BenchmarkView {
            runs: walls.len(),
            runs_requested: 2,
            failed_runs: 0,
            warmup_runs: 1,
            wall_time_seconds: summary(walls),
            cpu_time_seconds: summary(walls),
            user_time_seconds: summary(walls),
            system_time_seconds: summary(walls),
            peak_rss_mb: summary(walls),
            peak_rss_scope: TREE_SAMPLED,
            minor_page_faults: summary(walls),
            major_page_faults: summary(walls),
            voluntary_context_switches: summary(walls),
            involuntary_context_switches: summary(walls),
            read_bytes: summary(walls),
            written_bytes: summary(walls),
            sample_interval_seconds: 0.05,
            samples: 3,
            outlier_warning: None,
            cpu_time_note: None,
            conditions: None,
            not_taken_over: vec![],
            measured: vec![],
        }
    }

    #[test]
    fn several_runs_are_summed_up_with_their_spread() {
        assert_eq!(
            text(&view(&[1.0, 3.0])),
            "benchmark: 2 measured runs, after 1 warm-up run\n  \
               wall time:   2.000 s ± 1.414 s  (1.000 s … 3.000 s, median 2.000 s)\n  \
               cpu time:    2.000 s ± 1.414 s  (1.000 s … 3.000 s, median 2.000 s)  (2.000 s user, 2.000 s system)\n  \
               peak memory: 2.0 MiB ± 1.4 MiB  (1.0 MiB … 3.0 MiB, median 2.0 MiB)  (all processes together, sampled every 50.00 ms; all else is exact)\n  \
               page faults: 2 minor, 2 major\n  \
               switches:    2 voluntary, 2 involuntary\n  \
               storage:     2 B read, 2 B written\n"
        );
    }

    #[test]
    fn in_a_narrow_terminal_what_does_not_fit_goes_on_below() {
        assert_eq!(
            figures(&BenchmarkView { peak_rss_mb: None, cpu_time_seconds: None, ..view(&[1.0, 3.0]) }, 40),
            "  wall time:   2.000 s ± 1.414 s\n               \
                 (1.000 s … 3.000 s,\n               \
                 median 2.000 s)\n  \
               page faults: 2 minor, 2 major\n  \
               switches:    2 voluntary,\n               2 involuntary\n  \
               storage:     2 B read, 2 B written\n"
        );
        for columns in 40..120 {
            let widest = figures(&view(&[1.0, 3.0]), columns).lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(columns), "{widest:?} characters in {columns} columns");
        }
    }

    #[test]
    fn a_heading_says_what_is_missing() {
        let heading = |runs, runs_requested, failed_runs, warmup_runs| {
            self::runs(&BenchmarkView { runs, runs_requested, failed_runs, warmup_runs, ..view(&[]) })
        };
        assert_eq!(heading(1, 1, 0, 0), "1 measured run");
        assert_eq!(heading(1, 1, 1, 0), "1 measured run, failed");
        assert_eq!(
            heading(2, 5, 1, 2),
            "2 measured runs of 5, the last failed and is left out below, after 2 warm-up runs"
        );
        assert_eq!(
            text(&BenchmarkView { runs_requested: 3, ..view(&[]) }),
            "benchmark: 0 measured runs of 3, after 1 warm-up run\n"
        );
    }

    #[test]
    fn lengths_of_time_are_shown_in_the_unit_that_fits() {
        for (given, expected) in [
            (0.0, "0 µs"),
            (812e-6, "812 µs"),
            (0.000_999_6, "1.00 ms"),
            (0.012_345, "12.35 ms"),
            (0.999_6, "1.000 s"),
            (61.5, "61.500 s"),
        ] {
            assert_eq!(seconds(given), expected);
        }
    }
}
