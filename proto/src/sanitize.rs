//! Sanitizing of untrusted text for display: characters that a terminal would interpret, or that are invisible, are
//! escaped.
//!
//! Labels, names, commands, paths, and messages of jobs come from scripts and their authors. This is the only module
//! that knows which characters are unsafe to show; every table, line, log and document passes through it. It does not
//! change a job's output that is passed on verbatim.

use std::borrow::Cow;
use std::fmt::Write;
use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter};

/// Whether a character is invisible or has an effect on its surroundings: control characters, and Unicode format
/// characters.
///
/// Besides the characters that terminals interpret, these are marks that reorder their neighbours (a file name that
/// ends in `exe.py` and shows as `yp.exe`), alternative line separators, characters of zero width, and tag characters,
/// whose text only a model reads. The two variation selectors that distinguish an emoji from a letter are allowed: they
/// only affect the preceding character.
pub fn is_invisible_or_control(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0d}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// `text` on one line: unsafe characters become `\n`, `\x1b`, `\u{202e}`.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escape(text, is_invisible_or_control)
}

/// As [`one_line`], but keeps line breaks and tabs, for messages of several lines.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |character| is_invisible_or_control(character) && !matches!(character, '\n' | '\t'))
}

/// Escapes the characters of `text` for which `is_hidden` holds.
pub fn escape(text: &str, is_hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            _ if !is_hidden(character) => escaped.push(character),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            _ if u32::from(character) < 0x100 => {
                let _ = write!(escaped, "\\x{:02x}", u32::from(character));
            }
            _ => escaped.extend(character.escape_unicode()),
        }
    }
    Cow::Owned(escaped)
}

/// An indented JSON document in which unsafe characters are escaped as `\u….`; it parses to the same value.
pub fn json(document: &impl Serialize) -> serde_json::Result<String> {
    let mut text = Vec::new();
    let formatter = EscapingFormatter(PrettyFormatter::new());
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
    Ok(String::from_utf8(text).expect("it is made of text"))
}

struct EscapingFormatter(PrettyFormatter<'static>);

impl Formatter for EscapingFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_invisible_or_control) {
            let hidden = rest[at..].chars().next().expect("was found");
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in hidden.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + hidden.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        self.0.write_char_escape(writer, escape)
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_obeyed_or_unseen_is_written_out_and_all_else_stays() {
        for (text, expected) in [
            ("größe 日本 ❤\u{fe0f} \\n", "größe 日本 ❤\u{fe0f} \\n"),
            ("\u{1b}]0;title\u{7}", "\\x1b]0;title\\x07"),
            ("a\nb\r\tc\0", "a\\nb\\r\\tc\\x00"),
            ("\u{9b}2J\u{7f}", "\\x9b2J\\x7f"),
            ("\u{202e}yp.exe", "\\u{202e}yp.exe"),
            ("a\u{200b}\u{feff}\u{ad}b\u{2028}", "a\\u{200b}\\u{feff}\\xadb\\u{2028}"),
            ("\u{e0041}\u{e0100}\u{3164}", "\\u{e0041}\\u{e0100}\\u{3164}"),
        ] {
            assert_eq!(one_line(text), expected, "{text:?}");
        }
        assert_eq!(lines("a\n\tb\u{1b}\r\n"), "a\n\tb\\x1b\\r\n");
    }

    proptest! {
        #[test]
        fn a_document_says_the_same_and_nothing_in_it_is_obeyed(text: String, key: String, number: u32) {
            let document = serde_json::json!({ key: [text, number, {"a\u{202e}\u{e0041}\u{7f}\u{9b}": []}], "": {} });
            let written = json(&document).expect("has text for keys");
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&written).expect("is JSON"), document);
            prop_assert!(!written.contains(|character| is_invisible_or_control(character) && character != '\n'), "{}", written);
        }

        #[test]
        fn a_line_is_a_line(text: String) {
            prop_assert!(!one_line(&text).contains(is_invisible_or_control));
            prop_assert!(!lines(&text).contains(|character| is_invisible_or_control(character) && !"\n\t".contains(character)));
        }
    }
}
