//! The docstring of a module: a tokenizer for its first statement, and for nothing else.
//!
//! What Python itself would not take for a docstring is none: bytes, an f-string, a string that is only part of an
//! expression. One in parentheses, which Python takes, is passed over.

use std::borrow::Cow;

/// The docstring as it is written, escapes decoded; `None` where there is none, or where it does not end.
///
/// Bytes that are not UTF-8 are U+FFFD, and `\N{…}` stays as it is: names of characters would need a table.
pub fn of_module(source: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(source);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    // What Python reads are lines that end with "\n", also within strings.
    let text =
        if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")) } else { text.into() };
    let mut rest = first_token(&text);
    let mut docstring = None;
    while let Some(literal) = Literal::at(rest) {
        // Bytes and formatted strings are none, and make none of what they are joined to.
        let raw = literal.is_raw?;
        let end = literal.end()?;
        let written = docstring.get_or_insert_with(String::new);
        if raw {
            written.push_str(&literal.body[..end]);
        } else {
            decode(&literal.body[..end], written);
        }
        rest = after_blanks(&literal.body[end + literal.quote.len()..]);
    }
    // Anything else makes it a part of an expression.
    let ends = rest.is_empty() || rest.starts_with(['\n', ';', '#']);
    docstring.filter(|_| ends)
}

/// At most `most` characters, without blanks around them; what was cut ends with `…`.
pub fn shortened(docstring: &str, most: usize) -> Option<String> {
    let text = docstring.trim();
    match text.char_indices().nth(most) {
        _ if text.is_empty() => None,
        None => Some(text.to_owned()),
        Some(_) => {
            let kept: String = text.chars().take(most.saturating_sub(1)).collect();
            Some(format!("{}…", kept.trim_end()))
        }
    }
}

/// Past empty lines and comments, among which are `#!` and the coding cookie.
fn first_token(text: &str) -> &str {
    let mut rest = after_blanks(text);
    loop {
        rest = match rest.chars().next() {
            Some('\n') => after_blanks(&rest[1..]),
            Some('#') => &rest[rest.find('\n').unwrap_or(rest.len())..],
            Some(_) | None => return rest,
        };
    }
}

/// Past what separates tokens of one line. A backslash joins the next line to it.
fn after_blanks(text: &str) -> &str {
    let mut rest = text;
    loop {
        let bare = rest.trim_start_matches([' ', '\t', '\x0c']);
        match bare.strip_prefix("\\\n") {
            Some(joined) => rest = joined,
            None => return bare,
        }
    }
}

/// The beginning of a string literal.
struct Literal<'text> {
    /// `None` for bytes, and for what is put together at run time.
    is_raw: Option<bool>,
    quote: &'static str,
    /// From behind the opening quote to the end of the text.
    body: &'text str,
}

impl<'text> Literal<'text> {
    fn at(text: &'text str) -> Option<Self> {
        let quoted = text.find(['"', '\''])?;
        let is_raw = match text[..quoted].to_ascii_lowercase().as_str() {
            "" | "u" => Some(false),
            "r" => Some(true),
            "b" | "f" | "t" | "br" | "rb" | "fr" | "rf" | "tr" | "rt" => None,
            _ => return None,
        };
        let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| text[quoted..].starts_with(quote))?;
        Some(Self { is_raw, quote, body: &text[quoted + quote.len()..] })
    }

    /// Where the closing quote is.
    fn end(&self) -> Option<usize> {
        let mut at = 0;
        loop {
            let rest = &self.body[at..];
            if rest.starts_with(self.quote) {
                return Some(at);
            }
            at += match rest.chars().next()? {
                '\n' if self.quote.len() == 1 => return None,
                // Also in a raw string, a quote behind a backslash does not end it.
                '\\' => 1 + rest[1..].chars().next()?.len_utf8(),
                other => other.len_utf8(),
            };
        }
    }
}

/// As Python decodes escapes; those it does not know, or would refuse, stay as they are.
fn decode(body: &str, decoded: &mut String) {
    let mut rest = body;
    while let Some(at) = rest.find('\\') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(escaped) = rest.chars().next() else { break };
        let (meant, length) = match escaped {
            '\n' => (None, 1),
            '\\' | '\'' | '"' => (Some(escaped), 1),
            'a' => (Some('\x07'), 1),
            'b' => (Some('\x08'), 1),
            'f' => (Some('\x0c'), 1),
            'n' => (Some('\n'), 1),
            'r' => (Some('\r'), 1),
            't' => (Some('\t'), 1),
            'v' => (Some('\x0b'), 1),
            '0'..='7' => number(rest, 0, 1..=3, 8),
            'x' => number(rest, 1, 2..=2, 16),
            'u' => number(rest, 1, 4..=4, 16),
            'U' => number(rest, 1, 8..=8, 16),
            _ => (Some('\\'), 0),
        };
        decoded.extend(meant);
        rest = &rest[length..];
    }
    decoded.push_str(rest);
}

/// A character by its number, whose digits begin at `from`, and how far they reach.
fn number(text: &str, from: usize, wanted: std::ops::RangeInclusive<usize>, radix: u32) -> (Option<char>, usize) {
    let digits = text.bytes().skip(from).take(*wanted.end()).take_while(|byte| char::from(*byte).is_digit(radix));
    let end = from + digits.count();
    if end - from < *wanted.start() {
        return (Some('\\'), 0);
    }
    let code = u32::from_str_radix(&text[from..end], radix).ok();
    // Half of a pair is a character for Python, and for nobody else.
    (Some(code.and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)), end)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    use super::*;
    use crate::oracle::{Oracle, pythons};

    fn read(source: &str) -> Option<String> {
        of_module(source.as_bytes())
    }

    #[test]
    fn the_first_statement_is_the_docstring_if_it_is_a_string() {
        for (source, docstring) in [
            ("\"\"\"Trains.\"\"\"\nimport os\n", "Trains."),
            ("'Trains.'", "Trains."),
            ("\"Trains.\"; import os", "Trains."),
            ("'Trains.' # why\n", "Trains."),
            ("\u{feff}'''Trains.'''", "Trains."),
            ("#!/usr/bin/python\n# -*- coding: utf-8 -*-\n\n  \t\n\x0c\n# /// script\n# ///\n'''Trains.'''", "Trains."),
            ("'''Two\r\nlines.\rThree.'''", "Two\nlines.\nThree."),
            ("\\\n\\\n'Trains.'\\\n", "Trains."),
            ("''", ""),
            ("''''''", ""),
            ("'''a'b''c'''", "a'b''c"),
            ("\"\"\"a\\\"\"\"\"", "a\""),
            ("'a' \"b\" '''c'''", "abc"),
            ("'a'\\\n  'b'", "ab"),
            ("'a'\n'b'", "a"),
            ("u'ä' U\"ö\"", "äö"),
            ("r'\\d\\'' R'\\\n'", "\\d\\'\\\n"),
            (
                "'\\\\ \\' \\\" \\a\\b\\f\\n\\r\\t\\v \\x41 \\101 \\0 \\u00e4 \\U0001F600'",
                "\\ ' \" \x07\x08\x0c\n\r\t\x0b A A \0 ä 😀",
            ),
            ("'a\\\nb'", "ab"),
            ("'\\d \\N{BULLET} \\8'", "\\d \\N{BULLET} \\8"),
            ("'\\x4 \\u12 \\xéé'", "\\x4 \\u12 \\xéé"),
            ("'\\ud800 \\U00110000 \\777'", "\u{fffd} \u{fffd} \u{1ff}"),
            ("'\\1234'", "S4"),
        ] {
            assert_eq!(read(source).as_deref(), Some(docstring), "{source:?}");
        }
    }

    #[test]
    fn what_python_takes_for_something_else_is_no_docstring() {
        for source in [
            "",
            "\n\n",
            "# only a comment",
            "import os\n'''late'''",
            "x = '''assigned'''",
            "b'bytes'",
            "Rb'bytes'",
            "f'formatted'",
            "fR'''formatted'''",
            "'a' f'{b}'",
            "ur'never was one'",
            "print('called')",
            "'a' + 'b'",
            "'a'.join([])",
            "'a', 'b'",
            "'a' if b else 'c'",
            "'a' 'b",
            "'ends\nnot'",
            "'''ends not",
            "'''ends not\\'''",
            "'",
            "'\\",
            "\\",
            "\0'''x'''",
        ] {
            assert_eq!(read(source), None, "{source:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(of_module(b"# coding: latin-1\n'na\xefve'"), Some("na\u{fffd}ve".to_owned()));
    }

    #[test]
    fn a_long_one_is_cut_and_says_so() {
        assert_eq!(shortened(" \n Trains. \n", 300).as_deref(), Some("Trains."));
        assert_eq!(shortened(" \n ", 300), None);
        assert_eq!(shortened(&"ä".repeat(300), 300), Some("ä".repeat(300)));
        assert_eq!(shortened(&"ä".repeat(301), 300), Some("ä".repeat(299) + "…"));
        assert_eq!(shortened("one two three", 5).as_deref(), Some("one…"));
    }

    /// Says what Python takes for the docstring; nothing of what it does not take for a module.
    const ORACLE: &str = "
import ast, json, sys, warnings
warnings.simplefilter('ignore')
for line in sys.stdin:
    try:
        docstring = ast.get_docstring(ast.parse(json.loads(line)['source']), clean=False)
        docstring is None or docstring.encode()
        print(json.dumps({'docstring': docstring}), flush=True)
    except (SyntaxError, ValueError):
        print('{}', flush=True)
";

    #[test]
    fn python_takes_the_same_for_a_docstring() {
        let oracles: Vec<_> = pythons().iter().map(|python| RefCell::new(Oracle::start(python, ORACLE))).collect();
        let words = [
            "'", "'", "'", "\"", "\"\"\"", "'''", "r", "u", "b", "f", "\\", "\\", "\\n", "\\x41", "\\101", "\\u00e4",
            "\\'", "\n", "\n", "\r\n", "\r", " ", "\t", "\x0c", "# c", "#", ";", "a", "é", "+", ",", "0", "\u{feff}",
            "\\\n",
        ];
        let sources =
            prop::collection::vec(prop::sample::select(words.to_vec()), 0..12).prop_map(|words| words.concat());
        let quoted = (sources.clone(), sources).prop_map(|(inside, after)| format!("'''{inside}'''{after}"));
        // PROPTEST_CASES asks for more.
        let cases = Config::default().cases.max(2_048);
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let run = runner.run(&quoted, |source| {
            for oracle in &oracles {
                let answer = oracle.borrow_mut().ask(&serde_json::json!({ "source": source }));
                if let Some(docstring) = answer.get("docstring") {
                    let ours = read(&source);
                    prop_assert_eq!(ours.as_deref(), docstring.as_str(), "{:?}", source);
                }
            }
            Ok(())
        });
        if let Err(difference) = run {
            panic!("{difference}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(source: Vec<u8>) {
            let _ = of_module(&source);
        }

        #[test]
        fn anything_that_looks_like_strings_is_taken(source in "[rRuUbBfF]{0,2}['\"\\\\xuU0-9a\n\ré#;{} ]{0,40}") {
            let _ = read(&source);
        }
    }
}
