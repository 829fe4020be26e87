//! The progress of a job.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The latest known progress. Every number is finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// `None`: the job is working, but its progress is unknown (a bar that only pulses).
    pub current: Option<f64>,
    /// `None` if the total is unknown.
    pub total: Option<f64>,
    pub message: Option<String>,
    /// Per second.
    pub rate: Option<f64>,
    /// As of when the progress was drawn or reported.
    pub eta_seconds: Option<f64>,
    pub seen: Seen,
}

/// The source of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// The job reported it with `pyexec_progress`.
    Reported,
    /// A terminal sequence for progress, OSC 9;4.
    Osc,
    /// A progress bar or counter in the output.
    Drawn,
}

/// The largest number of characters kept of a message.
pub const MAX_MESSAGE: usize = 200;

impl Progress {
    /// Progress of which only the two numbers are known.
    pub fn of(seen: Seen, current: f64, total: Option<f64>) -> Self {
        Self { current: Some(current), total, message: None, rate: None, eta_seconds: None, seen }
    }

    /// The progress of a job that has ended: there is no remaining time.
    #[must_use]
    pub fn of_finished(self) -> Self {
        Self { eta_seconds: None, ..self }
    }

    /// From 0 to 1; `None` where there is no total.
    pub fn fraction(&self) -> Option<f64> {
        let (current, total) = (self.current?, self.total?);
        (total > 0.0).then(|| (current / total).clamp(0.0, 1.0))
    }

    /// For a table: `45%`, `17`, `…`.
    pub fn short(&self) -> Cow<'static, str> {
        match (self.fraction(), self.current) {
            // Rounded down, so that only a complete job shows 100%.
            (Some(fraction), _) => format!("{}%", (fraction * 100.0).floor()).into(),
            (None, Some(current)) => number(current).into(),
            (None, None) => "…".into(),
        }
    }

    /// For people: `45% (9/20), 12/s, Training`.
    pub fn sentence(&self) -> String {
        let mut text = self.short().into_owned();
        match (self.current, self.total) {
            (Some(current), Some(total)) if total != 100.0 => {
                text.push_str(&format!(" ({}/{})", number(current), number(total)));
            }
            _ => {}
        }
        if let Some(rate) = self.rate {
            text.push_str(&format!(", {}/s", number(rate)));
        }
        if let Some(message) = &self.message {
            text.push_str(", ");
            text.push_str(message);
        }
        text
    }
}

/// Whole numbers without a fraction, others with two decimals. Numbers too large to be exact are written in scientific
/// notation.
fn number(value: f64) -> String {
    const EXACT: f64 = 1e15;
    if value.abs() >= EXACT {
        format!("{value:.2e}")
    } else if value.fract() == 0.0 {
        format!("{value}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_not_complete_is_not_said_to_be() {
        let short = |current: f64, total| Progress::of(Seen::Drawn, current, total).short().into_owned();
        for (current, total, said) in [
            (0.0, Some(3.0), "0%"),
            (999.0, Some(1000.0), "99%"),
            (3.0, Some(3.0), "100%"),
            (4.0, Some(3.0), "100%"),
            (17.0, None, "17"),
            (0.0, Some(0.0), "0"),
        ] {
            assert_eq!(short(current, total), said, "{current} of {total:?}");
        }
    }

    #[test]
    fn a_sentence_says_what_is_known_and_no_more() {
        let mut progress = Progress::of(Seen::Drawn, 9.0, Some(20.0));
        assert_eq!(progress.sentence(), "45% (9/20)");
        progress.rate = Some(1.5);
        progress.message = Some("Training".into());
        assert_eq!(progress.sentence(), "45% (9/20), 1.50/s, Training");
        assert_eq!(Progress::of(Seen::Osc, 45.0, Some(100.0)).sentence(), "45%");
    }
}
