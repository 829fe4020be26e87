//! What a row says once it has been read, and what it takes to believe it.

use pyexec_proto::progress::MAX_MESSAGE;

use super::numbers::Share;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its cursor rests on the outermost of several.
    Tqdm,
    Bar,
    /// `Epoch 3/10`: around the bars below it.
    Epoch,
    Counter,
}

/// What it takes to believe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Nothing: nobody writes that for anything else.
    Evident,
    /// Its line goes on being drawn, or it was seen to go forward.
    Redrawn,
    /// It was seen to go forward.
    Forward,
    /// It was seen to go forward, and with other words behind it each time, one by one from the first: `[3/5] good` and
    /// `[4/5] great` are something else.
    Steps,
}

/// What a row says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Drawn {
    pub(super) kind: Kind,
    pub(super) proof: Proof,
    /// What is the same whenever the same thing is drawn again; besides the total.
    pub(super) display: String,
    pub(super) current: Option<f64>,
    pub(super) total: Option<f64>,
    pub(super) message: Option<String>,
    pub(super) rate: Option<f64>,
    pub(super) eta_seconds: Option<f64>,
    /// A length of time that is what remains if it was seen to become shorter, and else may be what has passed.
    pub(super) counts_down: Option<f64>,
}

impl Drawn {
    pub(super) fn of(kind: Kind, share: &Share, message: Option<String>) -> Self {
        Self {
            kind,
            proof: Proof::Evident,
            display: String::new(),
            current: Some(share.current),
            total: share.total,
            message,
            rate: None,
            eta_seconds: None,
            counts_down: None,
        }
    }

    pub(super) fn is_bar(&self) -> bool {
        matches!(self.kind, Kind::Tqdm | Kind::Bar)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.total.zip(self.current).is_some_and(|(total, current)| current >= total)
    }
}

/// Text that stands for itself: no frame, no spinner, no trailing punctuation.
pub(super) fn said(text: &str) -> Option<String> {
    let text = text.trim_matches(|letter: char| {
        letter.is_whitespace() || is_spinner(letter) || matches!(letter, '|' | '[' | ']' | '(' | ')' | '•' | ':' | '-')
    });
    (!text.is_empty()).then(|| text.chars().filter(|letter| !letter.is_control()).take(MAX_MESSAGE).collect())
}

pub(super) fn is_spinner(letter: char) -> bool {
    ('\u{2800}'..='\u{28ff}').contains(&letter)
}
