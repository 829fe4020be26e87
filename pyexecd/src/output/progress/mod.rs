//! How far a job has got: read when somebody looks, from what the job has said and drawn.
//!
//! What a job says with `pyexec_progress` counts before what it says with the terminal sequence OSC 9;4, and that before
//! what it draws; of a job that is run several times, how many runs are over. Nothing here is kept, and a job that nobody looks at costs nothing.

mod bars;
mod numbers;
mod reported;
mod screen;
mod tqdm;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;

use pyexec_proto::output::Stream;
use pyexec_proto::progress::{Progress, Seen};

use bars::{Drawn, Kind};
pub use reported::{FILE as REPORTED, RUNS_FILE, Report};
use screen::{Drawing, Osc, Screen};

/// How much of the end of each stream is looked at.
const TAIL: u64 = 64 << 10;
/// How many drawings, the latest, are compared with each other.
const DRAWINGS: usize = 2048;

/// What is known of a job that runs in `directory`, or has. What can not be read tells nothing.
pub fn of_job(directory: &Path, is_finished: bool) -> Option<Progress> {
    // Of several runs the one that goes on says how far it is, but not how far all of them are.
    let runs = if is_finished { None } else { reported::read(directory, RUNS_FILE) };
    let progress = runs.or_else(|| reported::read(directory, REPORTED)).or_else(|| {
        let ends = Stream::BOTH.map(|stream| tail(directory, stream));
        let ends: Vec<(&str, bool)> = ends.iter().flatten().map(|end| (end.text.as_str(), end.is_cut)).collect();
        in_output(&ends, is_finished)
    })?;
    Some(if is_finished { progress.of_finished() } else { progress })
}

struct End {
    text: String,
    /// It begins in the middle of something.
    is_cut: bool,
}

fn tail(directory: &Path, stream: Stream) -> Option<End> {
    let length = *super::lengths(directory).ok()?.get(stream);
    if length == 0 {
        return None;
    }
    let chunk = super::read(directory, stream, length.saturating_sub(TAIL), TAIL as usize).ok()?;
    Some(End { text: String::from_utf8_lossy(&chunk.bytes).into_owned(), is_cut: chunk.offset > 0 })
}

/// Of the ends of both streams, each with whether it begins in the middle of something.
fn in_output(ends: &[(&str, bool)], is_finished: bool) -> Option<Progress> {
    let read: Vec<Read> = ends.iter().map(|(text, is_cut)| read(text, *is_cut)).collect();
    let osc = read.iter().find_map(|read| of_osc(read.osc, is_finished));
    osc.or_else(|| {
        let drawn: Vec<&Drawn> = read.iter().filter_map(|read| read.drawn.as_ref()).collect();
        // Bars before counters, what goes on before what is complete; and bars are drawn on stderr.
        let rank = |drawn: &Drawn| (drawn.is_bar(), !drawn.is_complete());
        let best = drawn.into_iter().max_by_key(|drawn| rank(drawn))?;
        Some(Progress {
            current: best.current,
            total: best.total,
            message: best.message.clone(),
            rate: best.rate,
            eta_seconds: best.eta_seconds,
            seen: Seen::Drawn,
        })
    })
}

fn of_osc(osc: Osc, is_finished: bool) -> Option<Progress> {
    // What has been taken back does not hold any more; of a job that has ended it is the last there was.
    if osc.removed && !is_finished {
        return None;
    }
    let message = match osc.state? {
        2 => Some("error".to_owned()),
        4 => Some("paused".to_owned()),
        _ => None,
    };
    let known = Progress::of(Seen::Osc, f64::from(osc.percent), Some(100.0));
    Some(match osc.state? {
        3 => Progress { current: None, total: None, ..known },
        _ => Progress { message, ..known },
    })
}

struct Read {
    drawn: Option<Drawn>,
    osc: Osc,
}

/// What was seen of one display over time.
#[derive(Debug)]
struct Sighting {
    current: f64,
    time: Option<f64>,
    goes_forward: bool,
    goes_back: bool,
    counts_down: bool,
}

#[derive(Debug, Default)]
struct Sightings(HashMap<(bool, String, Option<u64>), Sighting>);

impl Sightings {
    /// The same display has the same total; a bar, and a number that is drawn over, the same words too.
    fn key(drawn: &Drawn, over: bool) -> (bool, String, Option<u64>) {
        let words = if over || drawn.is_bar() { drawn.message.clone().unwrap_or_default() } else { String::new() };
        (drawn.is_bar(), words, drawn.total.map(f64::to_bits))
    }

    fn note(&mut self, drawing: &Drawing) {
        let Some(drawn) = bars::read(&drawing.text, drawing.over) else { return };
        let Some(current) = drawn.current else { return };
        let time = drawn.counts_down;
        let first = Sighting { current, time, goes_forward: false, goes_back: false, counts_down: false };
        let seen = self.0.entry(Self::key(&drawn, drawing.over)).or_insert(first);
        seen.goes_forward |= current > seen.current;
        seen.goes_back |= current < seen.current;
        seen.counts_down |= time.zip(seen.time).is_some_and(|(now, before)| now < before);
        (seen.current, seen.time) = (current, time);
    }

    /// What remains of it with what is known from before.
    fn believe(&self, mut drawn: Drawn) -> Option<Drawn> {
        let seen = [false, true].into_iter().filter_map(|over| self.0.get(&Self::key(&drawn, over)));
        let (mut proven, mut counts_down) = (false, false);
        for seen in seen {
            proven |= seen.goes_forward && !seen.goes_back;
            counts_down |= seen.counts_down;
        }
        if drawn.kind == Kind::Unproven && !proven {
            return None;
        }
        if counts_down && !drawn.is_complete() {
            drawn.eta_seconds = drawn.eta_seconds.or(drawn.counts_down);
        }
        Some(drawn)
    }
}

fn read(text: &str, is_cut: bool) -> Read {
    // The first line is half a line.
    let text = if is_cut { text.find(['\n', '\r']).map_or("", |at| &text[at + 1..]) } else { text };
    let drawings = text.bytes().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    let mut sightings = Sightings::default();
    let screen = Screen::play(text, drawings.saturating_sub(DRAWINGS), |drawing| sightings.note(&drawing));
    let rows: Vec<Option<Drawn>> = screen
        .rows
        .iter()
        .map(|row| bars::read(&row.text(), row.is_drawn_over()).and_then(|drawn| sightings.believe(drawn)))
        .collect();
    Read { drawn: outermost(&screen, rows), osc: screen.osc }
}

/// The last thing that is a bar or a counter; of several bars that are drawn together, the outermost.
fn outermost(screen: &Screen, mut rows: Vec<Option<Drawn>>) -> Option<Drawn> {
    let bottom = rows.iter().rposition(Option::is_some)?;
    let is_bar = |at: usize| rows[at].as_ref().is_some_and(Drawn::is_bar);
    let mut top = bottom;
    if is_bar(bottom) {
        let in_block = |at: usize| is_bar(at) && screen.rows[at].in_block;
        // The lowest may have been added just now.
        while top > 0 && in_block(top - 1) {
            top -= 1;
        }
    }
    let is_epoch = |at: usize| rows[at].as_ref().is_some_and(|drawn| drawn.kind == Kind::Epoch);
    let chosen = if is_bar(bottom) && top > 0 && is_epoch(top - 1) {
        top - 1
    } else if (top..=bottom).contains(&screen.row)
        && rows[screen.row].as_ref().is_some_and(|drawn| drawn.kind == Kind::Tqdm)
    {
        screen.row
    } else {
        let goes_on = |at: &usize| rows[*at].as_ref().is_some_and(|drawn| !drawn.is_complete());
        (top..=bottom).find(goes_on).unwrap_or(bottom)
    };
    rows[chosen].take()
}
