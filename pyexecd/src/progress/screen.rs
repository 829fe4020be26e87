//! What a terminal would show of the end of a stream: rows that are drawn over, cursor movements, OSC 9;4.
//!
//! Bounded whatever is in the text: so many rows of so many columns, and a fixed amount of work for each character.

use std::collections::VecDeque;
use std::iter::Peekable;
use std::str::Chars;

const ROWS: usize = 256;
/// What lies behind is not kept, and a row that long is looked at by nobody.
pub(super) const COLUMNS: usize = 512;
/// The longest terminal string that is taken for one.
const LONGEST_STRING: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Row {
    cells: Vec<char>,
    /// The cursor has come back to it from below: it belongs to a block of rows that is drawn together.
    pub(super) in_block: bool,
    /// It is followed by a newline.
    pub(super) ended: bool,
    /// It has been drawn on since it was last told of.
    fresh: bool,
    /// From its beginning on.
    from_start: bool,
    /// How often it has been told of.
    drawings: u32,
}

impl Row {
    pub(super) fn text(&self) -> String {
        if self.cells.len() >= COLUMNS { String::new() } else { self.cells.iter().collect() }
    }

    /// `1/20` over `20/20` looks like `1/200`: what is left of the earlier number is no part of the new one.
    fn cut_seam(&mut self, at: usize) {
        let is_number = |cell: &char| cell.is_ascii_digit() || *cell == '%';
        let before = at.checked_sub(1).and_then(|before| self.cells.get(before));
        let behind = self.cells.get(at);
        if before.is_some_and(is_number) && behind.is_some_and(|cell| cell.is_alphanumeric() || *cell == '%') {
            self.cells.truncate(at);
        }
    }

    pub(super) fn is_drawn_over(&self) -> bool {
        self.drawings > 1
    }
}

/// One drawing of a row, from where it was begun to where the cursor left it.
#[derive(Debug)]
pub(super) struct Drawing {
    pub(super) text: String,
    /// Over an earlier one.
    pub(super) over: bool,
}

/// What happens on the screen.
pub(super) enum Event {
    Drawn(Drawing),
    /// There was no room for it any more, and no cursor comes back to it.
    Scrolled(Row),
}

/// What was last said with OSC 9;4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Osc {
    /// 1: normal, 2: error, 3: nothing is known, 4: paused; `None` before the first.
    pub(super) state: Option<u8>,
    pub(super) percent: u8,
    /// State 0 came after it.
    pub(super) removed: bool,
}

#[derive(Debug)]
pub(super) struct Screen {
    pub(super) rows: VecDeque<Row>,
    pub(super) row: usize,
    column: usize,
    pub(super) osc: Osc,
}

impl Screen {
    /// Plays `text`; `see` is told of each drawing once the cursor leaves it, and of each row that is lost above, but for
    /// the first `unseen` drawings and what is lost before they are over.
    pub(super) fn play(text: &str, mut unseen: usize, mut see: impl FnMut(Event)) -> Self {
        let mut screen = Self { rows: VecDeque::from([Row::default()]), row: 0, column: 0, osc: Osc::default() };
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '\n' | '\r' => {
                    screen.leave_row(&mut unseen, &mut see);
                    screen.column = 0;
                    if letter == '\n'
                        && let Some(row) = screen.down()
                        && unseen == 0
                    {
                        see(Event::Scrolled(row));
                    }
                }
                '\u{8}' => screen.column = screen.column.saturating_sub(1),
                '\t' => screen.column = (screen.column / 8 + 1) * 8,
                '\u{1b}' => screen.escape(&mut letters, &mut unseen, &mut see),
                letter if letter.is_control() => {}
                letter => screen.put(letter),
            }
        }
        screen.leave_row(&mut unseen, &mut see);
        screen
    }

    fn put(&mut self, letter: char) {
        let row = &mut self.rows[self.row];
        row.fresh = true;
        row.from_start |= self.column == 0;
        if self.column < COLUMNS {
            if row.cells.len() <= self.column {
                row.cells.resize(self.column + 1, ' ');
            }
            row.cells[self.column] = letter;
            self.column += 1;
        }
    }

    /// What had to go for it.
    fn down(&mut self) -> Option<Row> {
        self.rows[self.row].ended = true;
        self.row += 1;
        if self.row < self.rows.len() {
            return None;
        }
        self.rows.push_back(Row::default());
        if self.rows.len() <= ROWS {
            return None;
        }
        self.row -= 1;
        self.rows.pop_front()
    }

    fn leave_row(&mut self, unseen: &mut usize, see: &mut impl FnMut(Event)) {
        let column = self.column;
        let row = &mut self.rows[self.row];
        if !std::mem::take(&mut row.fresh) {
            return;
        }
        if std::mem::take(&mut row.from_start) {
            row.cut_seam(column);
        }
        let over = row.drawings > 0;
        row.drawings += 1;
        if *unseen > 0 {
            *unseen -= 1;
        } else {
            see(Event::Drawn(Drawing { text: row.text(), over }));
        }
    }

    /// Behind an ESC.
    fn escape(&mut self, letters: &mut Peekable<Chars<'_>>, unseen: &mut usize, see: &mut impl FnMut(Event)) {
        match letters.peek() {
            Some('[') => {
                letters.next();
                let mut parameters = String::new();
                while let Some(letter) = letters.next_if(|letter| (' '..='~').contains(letter)) {
                    if ('@'..='~').contains(&letter) {
                        return self.control(letter, &parameters, unseen, see);
                    }
                    if parameters.len() < 32 {
                        parameters.push(letter);
                    }
                }
            }
            Some(']') => {
                // One that is not ended is no string: what follows is text.
                let mut ahead = letters.clone();
                ahead.next();
                let mut string = String::new();
                for _ in 0..LONGEST_STRING {
                    match ahead.next() {
                        None => return,
                        Some('\u{7}') => break,
                        Some('\u{1b}') => {
                            if ahead.next() != Some('\\') {
                                return;
                            }
                            break;
                        }
                        Some(letter) => string.push(letter),
                    }
                }
                if string.chars().count() < LONGEST_STRING {
                    self.operating_system_command(&string);
                    *letters = ahead;
                }
            }
            Some(_) | None => {
                letters.next_if(|letter| (' '..='~').contains(letter));
            }
        }
    }

    fn control(&mut self, what: char, parameters: &str, unseen: &mut usize, see: &mut impl FnMut(Event)) {
        let first = parameters.split(';').next().and_then(|first| first.parse::<usize>().ok());
        let count = first.unwrap_or(1).max(1);
        match what {
            'A' | 'F' => {
                self.leave_row(unseen, see);
                let from = self.row;
                self.row = from.saturating_sub(count);
                for row in self.rows.range_mut(self.row..=from) {
                    row.in_block = true;
                }
                if what == 'F' {
                    self.column = 0;
                }
            }
            'B' | 'E' => {
                self.leave_row(unseen, see);
                // Nowhere lower than there are rows.
                self.row = self.row.saturating_add(count).min(self.rows.len() - 1);
                if what == 'E' {
                    self.column = 0;
                }
            }
            'C' => self.column = self.column.saturating_add(count).min(COLUMNS),
            'D' => self.column = self.column.saturating_sub(count),
            'G' => self.column = (count - 1).min(COLUMNS),
            'K' => {
                let (column, row) = (self.column, &mut self.rows[self.row]);
                match first.unwrap_or(0) {
                    0 => row.cells.truncate(column),
                    1 => row.cells.iter_mut().take(column + 1).for_each(|cell| *cell = ' '),
                    _ => row.cells.clear(),
                }
            }
            'J' => {
                let from = if first.unwrap_or(0) == 0 { self.row } else { 0 };
                if from == self.row {
                    let column = self.column;
                    self.rows[from].cells.truncate(column);
                    self.rows.truncate(from + 1);
                } else {
                    self.rows.iter_mut().for_each(|row| row.cells.clear());
                }
            }
            // To a place on a screen whose height nobody knows: a new picture.
            'H' | 'f' => {
                self.leave_row(unseen, see);
                for row in &mut self.rows {
                    row.cells.clear();
                    row.ended = false;
                }
                self.row = 0;
                self.column = 0;
            }
            _ => {}
        }
    }

    fn operating_system_command(&mut self, string: &str) {
        let Some(progress) = string.strip_prefix("9;4;") else { return };
        let mut parameters = progress.split(';');
        let state = parameters.next().and_then(|state| state.parse::<u8>().ok());
        let percent = parameters.next().and_then(|percent| percent.parse::<u8>().ok());
        match (state, percent) {
            (Some(0), _) => self.osc.removed = true,
            (Some(1), Some(percent)) | (Some(2 | 4), Some(percent)) if percent <= 100 => {
                self.osc = Osc { state, percent, removed: false };
            }
            (Some(2 | 4), None) => self.osc = Osc { state, removed: false, ..self.osc },
            (Some(3), _) => self.osc = Osc { state, percent: 0, removed: false },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let screen = Screen::play(text, 0, |_| {});
        screen.rows.iter().map(|row| row.text().trim_end().to_owned()).collect()
    }

    #[test]
    fn a_row_is_what_was_drawn_last() {
        for (text, expected) in [
            ("a\rb", &["b"][..]),
            ("abc\rx\n", &["xbc", ""]),
            ("one\ntwo\x1b[Auno", &["oneuno", "two"]),
            ("abc\r\x1b[2Kx", &["x"]),
            ("abc\x1b[2D\x1b[Kx", &["ax"]),
            ("20/20\r1/20", &["1/20"]),
            ("at 100%\rat 1%\n", &["at 1%", ""]),
            ("20 of it\r1", &["1"]),
            ("1 of it\r1", &["1 of it"]),
            ("20/20\x1b[5D\x1b[C1", &["21/20"]),
            ("\x1b[31mred\x1b[0m \x1b]0;title\x07on", &["red on"]),
            ("\x1b]never ended", &["]never ended"]),
            ("a\x1b[99999999999999999999Ab", &["ab"]),
        ] {
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_terminal_sequence_says_how_far_it_is() {
        let said = |text: &str| Screen::play(text, 0, |_| {}).osc;
        for (text, state, percent, removed) in [
            ("", None, 0, false),
            ("\x1b]9;4;1;45\x07", Some(1), 45, false),
            ("\x1b]9;4;1;45\x1b\\", Some(1), 45, false),
            ("\x1b]9;4;1;45\x07\x1b]9;4;0;0\x07", Some(1), 45, true),
            ("\x1b]9;4;1;45\x07\x1b]9;4;4\x07", Some(4), 45, false),
            ("\x1b]9;4;3;0\x07", Some(3), 0, false),
            ("\x1b]9;4;1;450\x07", None, 0, false),
            ("\x1b]9;4;1;45", None, 0, false),
            ("]9;4;1;45\x07", None, 0, false),
        ] {
            assert_eq!(said(text), Osc { state, percent, removed }, "{text:?}");
        }
    }
}
