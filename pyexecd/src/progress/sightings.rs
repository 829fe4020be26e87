//! What was seen of each display over time: whether it went forward, and whether it has begun again.
//!
//! What a single drawing says is in [`super::bars`]; here is what several of the same prove.

use std::collections::HashMap;

use super::bars;
use super::drawn::{Drawn, Proof};
use super::screen::Drawing;

/// How often something has to have gone forward, one by one, whose beginning was not seen.
const MANY: u32 = 3;
/// How many displays are known at a time. Where there are more, what was known is forgotten.
const MOST: usize = 4096;

/// One display, from where it has begun, or has begun again.
#[derive(Debug)]
struct Sighting {
    last: Drawn,
    first: f64,
    /// How often it went forward.
    moves: u32,
    /// Each time by one.
    is_steady: bool,
    /// With the same words each time.
    says_the_same: bool,
    /// It was drawn again in the place of what was drawn before.
    redrawn: bool,
    goes_back: bool,
    counts_down: bool,
    /// It has begun where something else, that nothing is known of, has not come to its end.
    is_doubtful: bool,
    /// How far it was proven to be before it has begun again.
    before: Option<Drawn>,
}

impl Sighting {
    fn of(drawn: Drawn, current: f64) -> Self {
        Self {
            last: drawn,
            first: current,
            moves: 0,
            is_steady: true,
            says_the_same: true,
            redrawn: false,
            goes_back: false,
            counts_down: false,
            is_doubtful: false,
            before: None,
        }
    }

    fn current(&self) -> f64 {
        self.last.current.unwrap_or_default()
    }

    fn is_proven(&self, since_the_beginning: bool) -> bool {
        let goes_forward = self.moves > 0 && !self.goes_back;
        match self.last.proof {
            Proof::Evident => true,
            Proof::Redrawn => self.redrawn || goes_forward,
            Proof::Forward => goes_forward,
            Proof::Steps => {
                let is_begun = self.first <= 1.0;
                let is_long_enough = self.moves >= MANY || (is_begun && !self.is_doubtful);
                let counts = self.is_steady && is_long_enough && (is_begun || !since_the_beginning);
                goes_forward && (self.redrawn || self.says_the_same || counts)
            }
        }
    }

    /// Whether it begins again where it is less than it was. What goes up and down, as the load of a machine does, is not
    /// taken for that: a percentage that has only just begun proves nothing.
    fn begins_again(&self, current: f64) -> bool {
        const HALF: f64 = 0.5;
        let Some(total) = self.last.total.filter(|_| !self.goes_back) else { return false };
        if self.last.is_complete() {
            return current <= HALF * total;
        }
        let is_percentage = total == 100.0;
        let is_start = current <= 1.0 || current == self.first;
        is_start && self.moves >= if is_percentage { 2 } else { 1 }
    }

    fn note(&mut self, drawn: Drawn, current: f64, over: bool, since_the_beginning: bool) {
        if current < self.current() && self.begins_again(current) {
            let is_proven = self.is_proven(since_the_beginning);
            let mut next = Self::of(drawn, current);
            // That it counts down is no matter of how far it is.
            (next.redrawn, next.counts_down) = (self.redrawn || over, self.counts_down);
            std::mem::swap(self, &mut next);
            self.before = if is_proven { Some(next.last) } else { next.before };
            return;
        }
        if current > self.current() {
            self.moves += 1;
            self.is_steady &= current == self.current() + 1.0;
        } else if current < self.current() {
            self.goes_back = true;
            self.before = None;
        }
        self.redrawn |= over;
        self.says_the_same &= drawn.message == self.last.message;
        self.counts_down |= drawn.counts_down.zip(self.last.counts_down).is_some_and(|(now, before)| now < before);
        self.last = drawn;
    }
}

/// Whether it is a bar, what it says, and its total.
type Key = (bool, String, Option<u64>);

fn key(drawn: &Drawn) -> Key {
    (drawn.is_bar(), drawn.display.clone(), drawn.total.map(f64::to_bits))
}

#[derive(Debug)]
pub(super) struct Sightings {
    displays: HashMap<Key, Sighting>,
    /// The latest steps: `[2/3] …`.
    steps: Option<Key>,
    since_the_beginning: bool,
}

impl Sightings {
    pub(super) fn since_the_beginning(since_the_beginning: bool) -> Self {
        Self { displays: HashMap::new(), steps: None, since_the_beginning }
    }

    pub(super) fn note(&mut self, drawing: &Drawing) {
        let Some(drawn) = bars::read(&drawing.text, drawing.over) else { return };
        let Some(current) = drawn.current else { return };
        let key = key(&drawn);
        if let Some(seen) = self.displays.get_mut(&key) {
            seen.note(drawn, current, drawing.over, self.since_the_beginning);
        } else {
            let first = self.first(drawn, current);
            if self.displays.len() == MOST {
                self.displays.clear();
            }
            self.displays.insert(key.clone(), first);
        }
        if self.displays.get(&key).is_some_and(|seen| seen.last.proof == Proof::Steps) {
            self.steps = Some(key);
        }
    }

    fn first(&self, drawn: Drawn, current: f64) -> Sighting {
        let is_steps = drawn.proof == Proof::Steps;
        let first = Sighting::of(drawn, current);
        let Some(other) = self.steps.as_ref().filter(|_| is_steps).and_then(|key| self.displays.get(key)) else {
            return first;
        };
        let is_proven = other.is_proven(self.since_the_beginning);
        if is_proven && current == other.current() + 1.0 {
            // There is more to do than was known before.
            return Sighting { first: other.first, moves: other.moves + 1, is_steady: other.is_steady, ..first };
        }
        // `[0/3] Groceries`, `[1/2] Work`: each of them counts something else.
        Sighting { is_doubtful: !is_proven && !other.last.is_complete(), ..first }
    }

    /// What remains of it with what is known from before; of what has begun again and is not proven yet, how far it was.
    pub(super) fn believe(&self, mut drawn: Drawn, is_drawn_still: bool) -> Option<Drawn> {
        let seen = self.displays.get(&key(&drawn));
        let is_proven = match drawn.proof {
            Proof::Evident => true,
            Proof::Redrawn if is_drawn_still => true,
            Proof::Redrawn | Proof::Forward | Proof::Steps => {
                seen.is_some_and(|seen| seen.is_proven(self.since_the_beginning))
            }
        };
        if !is_proven {
            return seen.and_then(|seen| seen.before.clone());
        }
        if seen.is_some_and(|seen| seen.counts_down) && !drawn.is_complete() {
            drawn.eta_seconds = drawn.eta_seconds.or(drawn.counts_down);
        }
        Some(drawn)
    }
}
