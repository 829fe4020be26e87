//! How far a job has got: read when somebody looks, from what the job has said and drawn.
//!
//! What a job says with `pyexec_progress` counts before what it says with the terminal sequence OSC 9;4, and that before
//! what it draws; of a job that is run several times, how many runs are over. Nothing here is kept, and a job that nobody looks at costs nothing.

mod bars;
mod drawn;
mod numbers;
mod reported;
mod screen;
mod sightings;
mod tqdm;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::Path;

use pyexec_proto::output::Stream;
use pyexec_proto::progress::{Progress, Seen};
use pyexec_run_directory::output;
use pyexec_run_directory::report::{REPORTED, RUNS_FILE};

use drawn::{Drawn, Kind};
#[cfg(any(test, fuzzing))]
pub(crate) use reported::understood;
use screen::{Event, Osc, Row, Screen};
use sightings::Sightings;

/// How far back it is looked.
struct Reach {
    /// How many bytes of the end of each stream.
    tail: u64,
    /// How many drawings, the latest, are compared with each other; each is the row of a screen.
    drawings: usize,
}

impl Reach {
    /// Of a job that runs, what matters was drawn a moment ago, and it is looked at again and again.
    const RUNNING: Self = Self { tail: 64 << 10, drawings: 2 << 10 };
    /// Of one that has ended, the last bar may be followed by all it had to say in the end. Of a stream that is long
    /// enough that takes 12 ms where lines are as they are in logs, instead of 3 ms; of one that is made to be slow, about
    /// a quarter of a second. It is done once.
    const ENDED: Self = Self { tail: 256 << 10, drawings: 64 << 10 };

    fn of(is_finished: bool) -> Self {
        if is_finished { Self::ENDED } else { Self::RUNNING }
    }
}

/// What is known of a job that runs in `directory`, or has. What can not be read tells nothing.
pub fn of_job(directory: &Path, is_finished: bool) -> Option<Progress> {
    // Of several runs the one that goes on says how far it is, but not how far all of them are.
    let runs = if is_finished { None } else { reported::read(directory, RUNS_FILE) };
    let progress = runs.or_else(|| reported::read(directory, REPORTED)).or_else(|| reported::read_fenced(directory));
    let progress = progress.or_else(|| {
        let ends = Stream::BOTH.map(|stream| tail(directory, stream, Reach::of(is_finished).tail));
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

fn tail(directory: &Path, stream: Stream, most: u64) -> Option<End> {
    let length = *output::lengths(directory).ok()?.get(stream);
    if length == 0 {
        return None;
    }
    let chunk = output::read(directory, stream, length.saturating_sub(most), usize::try_from(most).ok()?).ok()?;
    Some(End { text: String::from_utf8_lossy(&chunk.bytes).into_owned(), is_cut: chunk.offset > 0 })
}

/// Of the ends of both streams, each with whether it begins in the middle of something.
pub(crate) fn in_output(ends: &[(&str, bool)], is_finished: bool) -> Option<Progress> {
    let read: Vec<Read> = ends.iter().map(|(text, is_cut)| read(text, *is_cut, is_finished)).collect();
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

/// A row, and what it may be.
struct Line {
    drawn: Option<Drawn>,
    in_block: bool,
    ended: bool,
    /// There is something on it, and it is said by itself.
    is_said: bool,
}

impl Line {
    fn of(row: &Row) -> Self {
        let text = row.text();
        let is_over = row.is_drawn_over();
        Self {
            drawn: bars::read(&text, is_over),
            in_block: row.in_block,
            ended: row.ended,
            is_said: !row.in_block && (row.ended || is_over) && !text.trim().is_empty(),
        }
    }
}

/// The last lines of those that there was no room for on the screen, as far as they may be progress.
#[derive(Default)]
struct Scrolled(VecDeque<Line>);

impl Scrolled {
    /// Several bars that are drawn together are not more than that.
    const MOST: usize = 64;

    fn push(&mut self, line: Line) {
        match self.0.back_mut() {
            // Only what is next to each other has to be told apart.
            Some(last) if last.drawn.is_none() && line.drawn.is_none() => last.is_said |= line.is_said,
            _ => self.0.push_back(line),
        }
        if self.0.len() > Self::MOST {
            self.0.pop_front();
        }
    }
}

fn read(text: &str, is_cut: bool, is_finished: bool) -> Read {
    // The first line is half a line.
    let text = if is_cut { text.find(['\n', '\r']).map_or("", |at| &text[at + 1..]) } else { text };
    let drawings = text.bytes().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    let unseen = drawings.saturating_sub(Reach::of(is_finished).drawings);
    let mut sightings = Sightings::since_the_beginning(!is_cut && unseen == 0);
    let mut scrolled = Scrolled::default();
    let screen = Screen::play(text, unseen, |event| match event {
        Event::Drawn(drawing) => sightings.note(&drawing),
        Event::Scrolled(row) => scrolled.push(Line::of(&row)),
    });
    let mut lines = Vec::from(scrolled.0);
    let cursor = lines.len() + screen.row;
    lines.extend(screen.rows.iter().map(Line::of));
    for line in &mut lines {
        let is_drawn_still = !line.ended || line.in_block;
        line.drawn = line.drawn.take().and_then(|drawn| sightings.believe(drawn, is_drawn_still));
    }
    Read { drawn: outermost(lines, cursor, is_finished), osc: screen.osc }
}

/// The last thing that is a bar or a counter; of several bars that are drawn together, the outermost.
fn outermost(mut lines: Vec<Line>, cursor: usize, is_finished: bool) -> Option<Drawn> {
    let bottom = lines.iter().rposition(|line| line.drawn.is_some())?;
    let is_bar = |at: usize| lines[at].drawn.as_ref().is_some_and(Drawn::is_bar);
    let mut top = bottom;
    if is_bar(bottom) {
        let in_block = |at: usize| is_bar(at) && lines[at].in_block;
        // The lowest may have been added just now.
        while top > 0 && in_block(top - 1) {
            top -= 1;
        }
    }
    let is_kind = |at: usize, kind: Kind| lines[at].drawn.as_ref().is_some_and(|drawn| drawn.kind == kind);
    let chosen = if is_bar(bottom) && top > 0 && is_kind(top - 1, Kind::Epoch) {
        top - 1
    } else if (top..=bottom).contains(&cursor) && is_kind(cursor, Kind::Tqdm) {
        cursor
    } else {
        let goes_on = |at: &usize| lines[*at].drawn.as_ref().is_some_and(|drawn| !drawn.is_complete());
        (top..=bottom).find(goes_on).unwrap_or(bottom)
    };
    // What is complete and was left behind is not what a job that runs is doing.
    let is_left_behind = !is_finished && lines[bottom + 1..].iter().any(|line| line.is_said);
    lines[chosen].drawn.take().filter(|drawn| !(is_left_behind && drawn.is_complete()))
}
