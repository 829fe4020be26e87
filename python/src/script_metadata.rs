//! The header that a script may carry about itself: PEP 723, `# /// script`.
//!
//! Owns finding it, reading it and writing one. What the requirements mean is uv's business: nothing here looks into
//! them.

use std::ops::Range;

use serde::Deserialize;

/// What a script's header asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScriptMetadata {
    /// PEP 440 version specifiers, such as `>=3.11`; not checked.
    pub requires_python: Option<String>,
    /// PEP 508 requirements; not checked.
    pub dependencies: Vec<String>,
    /// The table `[tool.uv]`: indexes, sources, `exclude-newer` and the like.
    pub tool_uv: Option<toml::Table>,
}

/// Why a header can not be read. Lines are those of the script, from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptMetadataError {
    #[error("line {second}: a second `# /// script` block, after the one in line {first}; a script has at most one")]
    SecondBlock { first: usize, second: usize },
    #[error(
        "line {line}: the `# /// script` block is not closed: a line `# ///` has to end it, and every line before that, empty \
        ones too, has to begin with `#` and a blank, or be `#`"
    )]
    NotClosed { line: usize },
    #[error(
        "line {line}: the line that closes the `# /// script` block has blanks after it: it has to be exactly `# ///`"
    )]
    BlankAfterClosing { line: usize },
    #[error("line {line}: the `# /// script` block is not UTF-8")]
    NotUtf8 { line: usize },
    #[error("line {line}: the `# /// script` block is not what PEP 723 says: {problem}")]
    Toml { line: usize, problem: String },
}

/// Reads the header of a script; `None` if it has none. As with uv, a block that is opened has to be closed, unless it
/// comes after the header.
///
/// Only the block has to be UTF-8: the rest may have whatever encoding its coding cookie says.
///
/// # Errors
///
/// Two headers; a header that is not closed, not UTF-8, not TOML, or has something else than text in `requires-python` or a list of
/// texts in `dependencies`.
pub fn read(script: &[u8]) -> Result<Option<ScriptMetadata>, ScriptMetadataError> {
    let lines = lines(script);
    let blocks = blocks(&lines);
    let first_opening = lines.iter().position(|line| *line == OPENING_OF_HEADER);
    let is_in_a_block = |line: usize| blocks.iter().any(|block| (block.opening()..=block.content.end).contains(&line));
    if let Some(line) = first_opening.filter(|line| !is_in_a_block(*line)) {
        check_closed(&lines, line)?;
    }
    let mut headers = blocks.iter().filter(|block| block.kind == b"script");
    let Some(header) = headers.next() else { return Ok(None) };
    if let Some(second) = headers.next() {
        return Err(ScriptMetadataError::SecondBlock { first: header.first_line(), second: second.first_line() });
    }
    let content = header.content(&lines)?;
    let Header { requires_python, dependencies, tool } =
        toml::from_str(&content).map_err(|error| header.toml_error(&content, &error))?;
    Ok(Some(ScriptMetadata { requires_python, dependencies, tool_uv: tool.uv }))
}

/// Puts a header in front of `source`, after the lines that have to come first (`#!`, the coding cookie).
///
/// The source is returned as it is if it has a header already, even one that can not be read, and if there is nothing
/// to say.
pub fn write_header(dependencies: &[String], requires_python: Option<&str>, source: &str) -> String {
    let lines = lines(source.as_bytes());
    let has_one = blocks(&lines).iter().any(|block| block.kind == b"script");
    if has_one || (dependencies.is_empty() && requires_python.is_none()) {
        return source.to_owned();
    }
    let (before, after) = source.split_at(end_of_preamble(&lines, source));
    let line_end = if before.ends_with('\r') {
        // Followed by "\n", the two would be one line end.
        "\r"
    } else if first_line_ends_with_crlf(source) {
        "\r\n"
    } else {
        "\n"
    };
    let mut written = before.to_owned();
    if !before.trim_start_matches(BYTE_ORDER_MARK).is_empty() {
        if !before.ends_with(['\n', '\r']) {
            written.push_str(line_end);
        }
        // Comments before or after the block would otherwise be read as part of one.
        written.push_str(line_end);
    }
    for line in header_lines(dependencies, requires_python) {
        written.push_str(&line);
        written.push_str(line_end);
    }
    if !after.is_empty() {
        written.push_str(line_end);
    }
    written + after
}

const BYTE_ORDER_MARK: char = '\u{feff}';
const OPENING_OF_HEADER: &[u8] = b"# /// script";
const OPENING: &[u8] = b"# /// ";
const CLOSING: &[u8] = b"# ///";

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Header {
    requires_python: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
    #[serde(default)]
    tool: Tool,
}

#[derive(Default, Deserialize)]
struct Tool {
    uv: Option<toml::Table>,
}

/// The lines of a script without their ends, which are those of a Python text file: `\n`, `\r\n` and `\r`.
fn lines(script: &[u8]) -> Vec<&[u8]> {
    let script = script.strip_prefix("\u{feff}".as_bytes()).unwrap_or(script);
    let mut lines = Vec::new();
    let mut rest = script;
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
        lines.push(&rest[..end]);
        rest = &rest[end + line_end(&rest[end..])..];
    }
    lines.push(rest);
    lines
}

/// How many bytes the line end at the start of `rest` has.
fn line_end(rest: &[u8]) -> usize {
    if rest.starts_with(b"\r\n") { 2 } else { rest.len().min(1) }
}

/// Says why the line that opens a header opens no block: it is not closed, or has nothing in it, which is fine.
fn check_closed(lines: &[&[u8]], opening: usize) -> Result<(), ScriptMetadataError> {
    let comments = lines[opening + 1..].iter().take_while(|line| is_comment(line));
    for (place, line) in comments.enumerate() {
        if *line == CLOSING {
            return Ok(());
        }
        if line.trim_ascii_end() == CLOSING {
            return Err(ScriptMetadataError::BlankAfterClosing { line: opening + 1 + place + 1 });
        }
    }
    Err(ScriptMetadataError::NotClosed { line: opening + 1 })
}

/// A line that may be part of a block.
fn is_comment(line: &[u8]) -> bool {
    line == b"#" || line.starts_with(b"# ")
}

/// A block of metadata of whatever kind.
#[derive(Debug)]
struct Block<'script> {
    kind: &'script [u8],
    /// The lines of its content, counted from 0.
    content: Range<usize>,
}

/// Finds all blocks, of all kinds: one may hide another. It ends with the last possible line, so that its content may
/// have lines that look like the end.
fn blocks<'script>(lines: &[&'script [u8]]) -> Vec<Block<'script>> {
    // For each line, the last closing line of the run of comments that it is in.
    let mut last_closing: Vec<Option<usize>> = vec![None; lines.len() + 1];
    for (number, line) in lines.iter().enumerate().rev() {
        if is_comment(line) {
            last_closing[number] = last_closing[number + 1].or((*line == CLOSING).then_some(number));
        }
    }
    let mut blocks = Vec::new();
    let mut number = 0;
    while number < lines.len() {
        let kind = lines[number].strip_prefix(OPENING).filter(|kind| is_kind(kind));
        // There is at least one line of content.
        let closing = last_closing[number + 1].filter(|closing| *closing > number + 1);
        number = match (kind, closing) {
            (Some(kind), Some(closing)) => {
                blocks.push(Block { kind, content: number + 1..closing });
                closing + 1
            }
            (None, _) | (_, None) => number + 1,
        };
    }
    blocks
}

fn is_kind(kind: &[u8]) -> bool {
    !kind.is_empty() && kind.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

impl Block<'_> {
    /// Counted from 0; the content begins after it.
    fn opening(&self) -> usize {
        self.content.start - 1
    }

    /// Counted from 1.
    fn first_line(&self) -> usize {
        self.opening() + 1
    }

    /// The content without the comment signs.
    fn content(&self, lines: &[&[u8]]) -> Result<String, ScriptMetadataError> {
        let mut content = String::new();
        for number in self.content.clone() {
            let line = lines[number];
            let bare = line.strip_prefix(b"# ").or(line.strip_prefix(b"#")).unwrap_or(line);
            let bare = std::str::from_utf8(bare).map_err(|_| ScriptMetadataError::NotUtf8 { line: number + 1 })?;
            content.push_str(bare);
            content.push('\n');
        }
        Ok(content)
    }

    fn toml_error(&self, content: &str, error: &toml::de::Error) -> ScriptMetadataError {
        let place = error.span().map_or(0, |span| span.start);
        let before = content.bytes().take(place).filter(|&byte| byte == b'\n').count();
        let within = self.content.start + before.min(self.content.len() - 1);
        ScriptMetadataError::Toml { line: within + 1, problem: error.message().to_owned() }
    }
}

fn first_line_ends_with_crlf(source: &str) -> bool {
    source.find(['\n', '\r']).is_some_and(|end| source[end..].starts_with("\r\n"))
}

/// Where the lines end that keep their place: `#!` works in the first line only, a coding cookie in the first two, and
/// in the second only if the first has no code.
fn end_of_preamble(lines: &[&[u8]], source: &str) -> usize {
    let first = lines[0];
    let kept = match lines.get(1) {
        Some(second) if has_no_code(first) && !is_coding_cookie(first) && is_coding_cookie(second) => 2,
        _ if first.starts_with(b"#!") || is_coding_cookie(first) => 1,
        _ => 0,
    };
    let mut end = if source.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 };
    for line in &lines[..kept] {
        end += line.len();
        end += line_end(&source.as_bytes()[end..]);
    }
    end
}

fn without_indent(line: &[u8]) -> &[u8] {
    let indent = line.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\x0c')).unwrap_or(line.len());
    &line[indent..]
}

fn has_no_code(line: &[u8]) -> bool {
    let line = without_indent(line);
    line.is_empty() || line.starts_with(b"#")
}

/// PEP 263: a comment with `coding:` or `coding=` and a name.
fn is_coding_cookie(line: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let names_encoding = |after: &[u8]| {
        let Some((b':' | b'=', name)) = after.split_first() else { return false };
        name.iter().find(|byte| !matches!(byte, b' ' | b'\t')).is_some_and(is_name)
    };
    let word = b"coding";
    without_indent(line).starts_with(b"#")
        && (0..line.len()).any(|place| line[place..].strip_prefix(word).is_some_and(names_encoding))
}

fn header_lines(dependencies: &[String], requires_python: Option<&str>) -> Vec<String> {
    let mut lines = vec!["# /// script".to_owned()];
    lines.extend(requires_python.map(|versions| format!("# requires-python = {}", toml_text(versions))));
    if dependencies.is_empty() {
        lines.push("# dependencies = []".to_owned());
    } else {
        lines.push("# dependencies = [".to_owned());
        lines.extend(dependencies.iter().map(|dependency| format!("#     {},", toml_text(dependency))));
        lines.push("# ]".to_owned());
    }
    lines.push("# ///".to_owned());
    lines
}

/// A TOML string in ASCII on one line, which is the same whatever encoding the source declares.
fn toml_text(text: &str) -> String {
    let mut written = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => written.extend(['\\', character]),
            ' '..='~' => written.push(character),
            _ => written.push_str(&format!("\\U{:08X}", u32::from(character))),
        }
    }
    written.push('"');
    written
}

#[cfg(test)]
mod tests;
