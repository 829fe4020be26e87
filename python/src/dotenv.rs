//! Reads `.env` files as python-dotenv's `dotenv_values` does, `${…}` included.
//!
//! Owns the format and nothing else: which file it is, and where the variables go, is the caller's business. It is
//! stricter than python-dotenv in one way: what that skips with a warning is an error here, because a job that silently
//! lacks a variable is worse than one that does not start.
//!
//! A statement of the file, after any blank space:
//!
//! ```text
//! # comment
//! [export ] name                                        names nothing to set, see `read`
//! [export ] name = "value" | 'value' | value   [# comment]
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// The longest file that is read.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// What all values may come to once they are expanded: references can double a value with every line. execve(2) takes
/// no more than this of arguments and environment, whatever the stack limit.
pub const MAX_VALUES_BYTES: usize = 6 << 20;

/// The longest name that a message repeats.
const MAX_SHOWN_NAME: usize = 40;

/// Why a file can not be read. Values are never part of the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DotenvError {
    #[error("it has {bytes} bytes; at most {MAX_FILE_BYTES} are read")]
    TooLong { bytes: usize },
    #[error("line {line}: not UTF-8; save the file as UTF-8")]
    NotUtf8 { line: usize },
    #[error("line {line}: {problem}")]
    Statement { line: usize, problem: Problem },
    #[error("line {line}: with `${{…}}` expanded, the values come to more than {MAX_VALUES_BYTES} bytes")]
    TooMuchExpansion { line: usize },
}

/// What is wrong with one statement. A name is there only if it looks like one: on a line that is not understood, it
/// may as well be a piece of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("no name; write NAME=value, and # before a comment")]
    NoName,
    #[error("a name in single quotes is not closed with '")]
    UnclosedName,
    #[error("{} is followed by something else than `=` or a comment; write NAME=value", named(.name, "the name"))]
    NoEqualSign { name: Option<String> },
    #[error("the value of {} is not closed with {quote}; a {quote} inside is written \\{quote}", named(.name, "a variable"))]
    UnclosedValue { name: Option<String>, quote: char },
    #[error("after the closing {quote} of {} there is something else than a comment", named(.name, "a value"))]
    TextAfterValue { name: Option<String>, quote: char },
    #[error("the name of a variable has `=` or a NUL character in it, which no environment can hold")]
    ImpossibleName,
    #[error("the value of {} has a NUL character in it, which no environment can hold", named(.name, "a variable"))]
    NulInValue { name: Option<String> },
}

fn named(name: &Option<String>, otherwise: &str) -> String {
    name.as_ref().map_or(otherwise.to_owned(), |name| format!("`{name}`"))
}

/// Reads a file's text and expands the references in it.
///
/// `${NAME}` is the value `NAME` was given earlier in the file, else what `environment` says, else the default of
/// `${NAME:-default}`, else nothing. The variables are in the order in which the file first names them; the last value
/// of a name counts. A name without `=` is left out; as in python-dotenv, it still takes back an earlier value in the
/// file, and `${NAME}` is empty after it.
///
/// # Errors
///
/// A file that is too long or not UTF-8, a statement that python-dotenv would skip, something that no environment can
/// hold, values that grow beyond [`MAX_VALUES_BYTES`]. The first one in the file is told, with its line.
pub fn read(text: &[u8], environment: &dyn Fn(&str) -> Option<String>) -> Result<Vec<(String, String)>, DotenvError> {
    let text = decode(text)?;
    let mut scanner = Scanner { rest: text.strip_prefix('\u{feff}').unwrap_or(&text), line: 1 };
    let mut file = Variables { environment, in_order: Vec::new(), places: HashMap::new(), bytes: 0 };
    while let Some(line) = scanner.find_statement() {
        let statement = scanner.read_statement().map_err(|problem| DotenvError::Statement { line, problem })?;
        if let Some((name, value)) = statement {
            file.set(name, value).map_err(|TooMuch| DotenvError::TooMuchExpansion { line })?;
        }
    }
    Ok(file.in_order.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

/// Python reads text files with every kind of line end turned into `\n`, within quotes too.
fn decode(text: &[u8]) -> Result<Cow<'_, str>, DotenvError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(DotenvError::TooLong { bytes: text.len() });
    }
    match std::str::from_utf8(text) {
        Ok(text) => Ok(with_plain_line_ends(text)),
        Err(error) => {
            let before = String::from_utf8_lossy(&text[..error.valid_up_to()]);
            Err(DotenvError::NotUtf8 { line: 1 + newlines(&with_plain_line_ends(&before)) })
        }
    }
}

fn with_plain_line_ends(text: &str) -> Cow<'_, str> {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n").into() } else { text.into() }
}

fn newlines(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'\n').count()
}

/// Space as Python's `\s` and `str.strip` have it: unlike Unicode's `White_Space`, with the four separators of ASCII.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

fn is_space_in_line(character: char) -> bool {
    character != '\n' && is_space(character)
}

/// A name, and its value unless the statement has no `=`.
type Assignment = (String, Option<String>);

struct Scanner<'text> {
    rest: &'text str,
    /// The line on which `rest` begins, from 1.
    line: usize,
}

impl<'text> Scanner<'text> {
    /// Skips to where a statement begins, and says on which line; `None` at the end of the file.
    fn find_statement(&mut self) -> Option<usize> {
        self.take_while(is_space);
        (!self.rest.is_empty()).then_some(self.line)
    }

    /// Reads one statement and the end of its last line; `None` for a mere comment.
    fn read_statement(&mut self) -> Result<Option<Assignment>, Problem> {
        self.skip_export();
        if self.rest.starts_with('#') {
            self.take_line();
            return Ok(None);
        }
        let name = self.read_name()?;
        self.take_while(is_space_in_line);
        if !self.rest.starts_with('=') {
            return match self.ends_statement() {
                true => Ok(Some((name, None))),
                false => Err(Problem::NoEqualSign { name: shown_without_value(&name) }),
            };
        }
        let value = self.read_value(&name)?;
        if name.contains(['=', '\0']) {
            return Err(Problem::ImpossibleName);
        }
        if value.contains('\0') {
            return Err(Problem::NulInValue { name: shown(&name) });
        }
        Ok(Some((name, Some(value))))
    }

    /// `export` is a keyword only before space: `export=1` sets a variable of that name.
    fn skip_export(&mut self) {
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with(is_space_in_line)
        {
            self.rest = after;
            self.take_while(is_space_in_line);
        }
    }

    fn read_name(&mut self) -> Result<String, Problem> {
        let name = if self.eat('\'') {
            let name = self.take_while(|character| character != '\'');
            if !self.eat('\'') {
                return Err(Problem::UnclosedName);
            }
            name
        } else {
            self.take_while(|character| !matches!(character, '=' | '#') && !is_space(character))
        };
        if name.is_empty() { Err(Problem::NoName) } else { Ok(name.to_owned()) }
    }

    /// Reads from `=` to the end of the statement.
    fn read_value(&mut self, name: &str) -> Result<String, Problem> {
        self.eat('=');
        let spaced = !self.take_while(is_space_in_line).is_empty();
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let Some(value) = self.read_quoted(quote) else {
                    return Err(Problem::UnclosedValue { name: shown(name), quote });
                };
                match self.ends_statement() {
                    true => Ok(value),
                    false => Err(Problem::TextAfterValue { name: shown(name), quote }),
                }
            }
            // Only space makes it a comment: the value of `COLOR=#fff` is `#fff`.
            Some('#') if spaced => {
                self.take_line();
                Ok(String::new())
            }
            _ => Ok(without_comment(self.take_line()).trim_end_matches(is_space).to_owned()),
        }
    }

    /// Reads a quoted value, over as many lines as it has; `None` if it is not closed.
    fn read_quoted(&mut self, quote: char) -> Option<String> {
        self.eat(quote);
        let mut value = String::new();
        loop {
            value.push_str(self.take_while(|character| character != quote && character != '\\'));
            if self.eat(quote) {
                return Some(value);
            }
            self.eat('\\');
            let escaped = self.rest.chars().next()?;
            self.take(escaped.len_utf8());
            match meaning(escaped, quote) {
                Some(character) => value.push(character),
                None => value.extend(['\\', escaped]),
            }
        }
    }

    /// Whether there is at most a comment before the line ends; if so, it has been read.
    fn ends_statement(&mut self) -> bool {
        self.take_while(is_space_in_line);
        let ends = self.rest.is_empty() || self.rest.starts_with(['#', '\n']);
        if ends {
            self.take_line();
        }
        ends
    }

    /// Takes the rest of the line; the line end stays.
    fn take_line(&mut self) -> &'text str {
        self.take_while(|character| character != '\n')
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'text str {
        self.take(self.rest.find(|character| !wanted(character)).unwrap_or(self.rest.len()))
    }

    fn take(&mut self, bytes: usize) -> &'text str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += newlines(taken);
        self.rest = rest;
        taken
    }

    fn eat(&mut self, character: char) -> bool {
        let there = self.rest.starts_with(character);
        if there {
            self.take(character.len_utf8());
        }
        there
    }
}

/// What a backslash and `escaped` stand for between two `quote`s; `None` if the backslash is just that.
fn meaning(escaped: char, quote: char) -> Option<char> {
    match (escaped, quote) {
        ('\\' | '\'', _) => Some(escaped),
        ('"', '"') => Some('"'),
        ('a', '"') => Some('\x07'),
        ('b', '"') => Some('\x08'),
        ('f', '"') => Some('\x0c'),
        ('n', '"') => Some('\n'),
        ('r', '"') => Some('\r'),
        ('t', '"') => Some('\t'),
        ('v', '"') => Some('\x0b'),
        (_, _) => None,
    }
}

/// An unquoted value up to a `#` that has space before it.
fn without_comment(value: &str) -> &str {
    let comment = value.match_indices('#').find(|(place, _)| value[..*place].ends_with(is_space));
    comment.map_or(value, |(place, _)| &value[..place])
}

/// A name to show in a message, where an `=` says that it is one.
fn shown(name: &str) -> Option<String> {
    let plain = !name.starts_with(|character: char| character.is_ascii_digit())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || "_-.".contains(character));
    (plain && name.len() <= MAX_SHOWN_NAME).then(|| name.to_owned())
}

/// A name to show in a message, where no `=` says that it is one: the line may be a stray piece of a longer value.
fn shown_without_value(name: &str) -> Option<String> {
    let likely = name.ends_with(':') || !name.contains(|character: char| character.is_ascii_lowercase());
    shown(name.trim_end_matches(':')).filter(|_| likely).map(|_| name.to_owned())
}

/// What has been read so far, and where else references are looked up.
struct Variables<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    in_order: Vec<Assignment>,
    places: HashMap<String, usize>,
    /// What all values, also those that were replaced, have come to.
    bytes: usize,
}

/// The values have grown beyond [`MAX_VALUES_BYTES`].
struct TooMuch;

impl Variables<'_> {
    fn set(&mut self, name: String, value: Option<String>) -> Result<(), TooMuch> {
        let value = match value {
            Some(value) => Some(self.expand(&value)?),
            None => None,
        };
        match self.places.get(&name) {
            Some(&place) => self.in_order[place].1 = value,
            None => {
                self.places.insert(name.clone(), self.in_order.len());
                self.in_order.push((name, value));
            }
        }
        Ok(())
    }

    fn expand(&mut self, value: &str) -> Result<String, TooMuch> {
        let mut expanded = String::new();
        let mut rest = value;
        while let Some(reference) = Reference::first_in(rest) {
            self.append(&mut expanded, &rest[..reference.place.start])?;
            let found = self.look_up(reference.name);
            self.append(&mut expanded, found.as_deref().unwrap_or(reference.default))?;
            rest = &rest[reference.place.end..];
        }
        self.append(&mut expanded, rest)?;
        Ok(expanded)
    }

    fn append(&mut self, expanded: &mut String, text: &str) -> Result<(), TooMuch> {
        self.bytes += text.len();
        if self.bytes > MAX_VALUES_BYTES {
            return Err(TooMuch);
        }
        expanded.push_str(text);
        Ok(())
    }

    /// `None` if nothing sets it. A name that the file has without `=` is set, to nothing.
    fn look_up(&self, name: &str) -> Option<String> {
        match self.places.get(name) {
            Some(&place) => Some(self.in_order[place].1.clone().unwrap_or_default()),
            None => (self.environment)(name),
        }
    }
}

/// `${name}` or `${name:-default}`. The first `}` ends it, so that a default can not have a reference in it.
struct Reference<'value> {
    name: &'value str,
    default: &'value str,
    place: Range<usize>,
}

impl<'value> Reference<'value> {
    fn first_in(text: &'value str) -> Option<Self> {
        let mut from = 0;
        loop {
            let start = from + text[from..].find("${")?;
            let name = start + "${".len();
            let after_name = name + text[name..].find([':', '}'])?;
            let (default, end) = match &text[after_name..] {
                closed if closed.starts_with('}') => ("", after_name + "}".len()),
                open => match open.strip_prefix(":-") {
                    Some(default) => {
                        let default = &default[..default.find('}')?];
                        (default, after_name + ":-}".len() + default.len())
                    }
                    None => {
                        // It stands for itself, and so would any other that begins before this colon.
                        from = after_name + ":".len();
                        continue;
                    }
                },
            };
            return Some(Reference { name: &text[name..after_name], default, place: start..end });
        }
    }
}

#[cfg(test)]
mod tests;
