//! Text of somebody else's, made fit to be shown: a label or a file name may hold anything.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `text` on one line, without anything a terminal would obey.
pub fn one_line(text: &str) -> Cow<'_, str> {
    neutral(text, |_| false)
}

/// Like [`one_line`], but lines stay lines: for messages of several.
pub fn lines(text: &str) -> Cow<'_, str> {
    neutral(text, |character| matches!(character, '\n' | '\t'))
}

fn neutral(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let obeyed = |character: char| (character.is_control() || is_invisible(character)) && !keep(character);
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            _ if !obeyed(character) => shown.push(character),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            _ if u32::from(character) < 0x100 => {
                let _ = write!(shown, "\\x{:02x}", u32::from(character));
            }
            _ => shown.extend(character.escape_unicode()),
        }
    }
    Cow::Owned(shown)
}

/// What changes the order or the look of its neighbours without being seen: zero-width and bidirectional marks.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
