//! How things look in a terminal, and in a file: lengths of time, ages, sizes, text that may carry control characters,
//! tables. It writes nothing itself.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table, Width, presets};
use pyexec_proto::Status;
pub(crate) use pyexec_proto::sanitize::{lines, one_line};
use unicode_width::UnicodeWidthChar as _;

use crate::terminal::Screen;

/// A length of time in at most two units: `0.25s`, `12.3s`, `3m 12s`, `5h 07m`, `2d 4h`.
pub(crate) fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    // Each bound is where rounding would spill over into the next form.
    if length < Duration::from_millis(9_995) {
        let text = format!("{:.2}", length.as_secs_f64());
        let text = text.trim_end_matches('0').trim_end_matches('.');
        format!("{text}s")
    } else if length < Duration::from_millis(59_950) {
        let text = format!("{:.1}", length.as_secs_f64());
        format!("{}s", text.strip_suffix(".0").unwrap_or(&text))
    } else if length < Duration::from_secs(60) {
        "1m".to_owned()
    } else {
        let (large, unit, small, small_unit, wide) = if seconds < 3_600 {
            (seconds / 60, 'm', seconds % 60, 's', 2)
        } else if seconds < 86_400 {
            (seconds / 3_600, 'h', seconds / 60 % 60, 'm', 2)
        } else {
            (seconds / 86_400, 'd', seconds / 3_600 % 24, 'h', 1)
        };
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit} {small:0wide$}{small_unit}") }
    }
}

/// How far a job is, and how much longer it may take.
pub(crate) fn progress(sentence: &str, eta_seconds: Option<f64>) -> String {
    let left = eta_seconds.and_then(|left| Duration::try_from_secs_f64(left).ok());
    let left = left.map(|left| format!(", {} left", duration(left))).unwrap_or_default();
    format!("{sentence}{left}")
}

/// How long ago: `now`, `12s ago`, `3m ago`, `5h ago`, `12d ago`.
pub(crate) fn age(age: Duration) -> String {
    match age.as_secs() {
        0 => "now".to_owned(),
        seconds @ ..60 => format!("{seconds}s ago"),
        seconds @ ..3_600 => format!("{}m ago", seconds / 60),
        seconds @ ..86_400 => format!("{}h ago", seconds / 3_600),
        seconds => format!("{}d ago", seconds / 86_400),
    }
}

/// A number of bytes: `17 B`, `1.5 KiB`, `230 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.
    while value >= 1_023.5 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    if value < 99.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// `key: value` lines with the values below each other.
pub(crate) fn aligned(pairs: &[(&str, String)]) -> String {
    let widest = pairs.iter().map(|(key, _)| key.len()).max().unwrap_or(0) + 1;
    pairs.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{:widest$} {value}", format!("{key}:"));
        text
    })
}

/// Shortens text in the middle of a sentence, to at most `most` columns of a terminal: some letters take two, some none.
pub(crate) fn truncated(text: &str, most: usize) -> Cow<'_, str> {
    if width(text) <= most {
        return Cow::Borrowed(text);
    }
    let mut room = most.saturating_sub(1);
    let fits = |letter: &char| {
        let taken = letter.width().unwrap_or(0);
        let fits = taken <= room;
        room -= if fits { taken } else { 0 };
        fits
    };
    Cow::Owned(text.chars().take_while(fits).chain(['…']).collect())
}

/// How many columns of a terminal some text takes.
pub(crate) fn width(text: &str) -> usize {
    // Letter by letter: of those that a terminal may put together into one, it is not known whether this one does.
    text.chars().map(|letter| letter.width().unwrap_or(0)).sum()
}

/// One row of the table of jobs, as text that is safe to show.
#[derive(Clone, Debug)]
pub(crate) struct JobLine {
    pub(crate) id: String,
    pub(crate) label: String,
    pub(crate) status: Status,
    pub(crate) exit: String,
    pub(crate) started: String,
    pub(crate) took: String,
    pub(crate) progress: String,
    pub(crate) command: String,
}

const HEADER: [&str; 8] = ["ID", "LABEL", "STATE", "EXIT", "STARTED", "TOOK", "PROGRESS", "COMMAND"];
const LABEL: usize = 1;
const EXIT: usize = 3;
const STARTED: usize = 4;
const TOOK: usize = 5;
const PROGRESS: usize = 6;
const COMMAND: usize = 7;
/// Between two columns.
const GAP: u16 = 2;

/// The table of jobs; ends with a newline.
pub(crate) fn job_table(jobs: &[JobLine], screen: Screen) -> String {
    // A label is a name, not a text: beyond this it is in the way of the command.
    const LABEL_SHOWN: usize = 24;
    let (columns, colour) = match screen {
        Screen::Terminal { columns, colour } => (Some(columns), colour),
        Screen::File => (None, false),
    };
    let mut table = Table::new();
    let mut header = Row::from(HEADER);
    header.max_height(1);
    table.load_style(presets::NOTHING).set_header(header);
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    for job in jobs {
        let state = Cell::new(job.status);
        let state = if colour { state.fg(status_colour(job.status)) } else { state };
        let label = if columns.is_some() { truncated(&job.label, LABEL_SHOWN) } else { Cow::Borrowed(&*job.label) };
        let mut row = Row::from(vec![
            Cell::new(&job.id),
            Cell::new(label),
            state,
            Cell::new(&job.exit).set_alignment(CellAlignment::Right),
            Cell::new(&job.started),
            Cell::new(&job.took),
            Cell::new(&job.progress).set_alignment(CellAlignment::Right),
            Cell::new(&job.command),
        ]);
        if columns.is_some() {
            row.max_height(1);
        }
        table.add_row(row);
    }
    let widths = table.column_max_content_widths();
    let mut hidden = vec![];
    if jobs.iter().all(|job| job.label.is_empty()) {
        hidden.push(LABEL);
    }
    if jobs.iter().all(|job| job.progress.is_empty()) {
        hidden.push(PROGRESS);
    }
    if let Some(columns) = columns {
        hide_what_does_not_fit(&widths, columns, &[TOOK, STARTED, LABEL, EXIT], &mut hidden);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == COMMAND { 0 } else { GAP }));
        if hidden.contains(&index) {
            column.set_constraint(ColumnConstraint::Hidden);
        } else if index != COMMAND {
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(widths[index] + GAP)));
        }
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// A table whose last column is cut where there is no room for it, after the columns of `least_telling` have been left
/// out, in that order; ends with a newline.
pub(crate) fn plain_table(header: &[&str], rows: &[Vec<String>], least_telling: &[usize], screen: Screen) -> String {
    let mut table = Table::new();
    let mut head = Row::from(header.to_vec());
    head.max_height(1);
    table.load_style(presets::NOTHING).set_header(head);
    table.force_no_tty();
    for row in rows {
        // The cells are somebody else's, whatever column they are in.
        let mut row = Row::from(row.iter().map(|cell| one_line(cell)).collect::<Vec<_>>());
        if matches!(screen, Screen::Terminal { .. }) {
            row.max_height(1);
        }
        table.add_row(row);
    }
    let widths = table.column_max_content_widths();
    if let Screen::Terminal { columns, .. } = screen {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
    }
    let last = header.len().saturating_sub(1);
    let mut hidden = vec![];
    if let Screen::Terminal { columns, .. } = screen {
        hide_what_does_not_fit(&widths, columns, least_telling, &mut hidden);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { GAP }));
        if hidden.contains(&index) {
            column.set_constraint(ColumnConstraint::Hidden);
        } else if index != last {
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(widths[index] + GAP)));
        }
    }
    let mut text = table.trim_fmt();
    text.push('\n');
    text
}

/// Leaves out columns, the least telling first, until there is room to recognise what is in the last.
fn hide_what_does_not_fit(widths: &[u16], columns: u16, least_telling: &[usize], hidden: &mut Vec<usize>) {
    const LAST_NEEDS: u16 = 12;
    let last = widths.len().saturating_sub(1);
    for least_telling in least_telling {
        let needed: u32 = (0..last)
            .filter(|index| !hidden.contains(index))
            .map(|index| u32::from(widths[index]) + u32::from(GAP))
            .sum();
        if needed + u32::from(LAST_NEEDS.min(widths[last])) <= u32::from(columns) {
            return;
        }
        hidden.push(*least_telling);
    }
}

fn status_colour(status: Status) -> Color {
    match status {
        Status::Pending => Color::Yellow,
        Status::Running => Color::Cyan,
        Status::Completed => Color::Green,
        Status::Failed => Color::Red,
        Status::Cancelled => Color::Magenta,
    }
}

/// For each id the shortest beginning, of at least eight characters, that no other of them has.
pub(crate) fn short_ids(ids: &[String]) -> Vec<String> {
    const SHORTEST: usize = 8;
    let mut sorted: Vec<&str> = ids.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let shared = |one: &str, other: &str| one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    ids.iter()
        .map(|id| {
            let at = sorted.partition_point(|other| *other < id.as_str());
            let neighbours = [at.checked_sub(1), Some(at + 1)].into_iter().flatten().filter_map(|i| sorted.get(i));
            let needed = neighbours.map(|other| shared(id, other) + 1).max().unwrap_or(0);
            id.chars().take(needed.max(SHORTEST)).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests;
