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
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestCaseError, TestRunner};
    use serde_json::{Value, json};

    use super::*;
    use crate::oracle::{Oracle, pythons};

    fn dependencies(of: &str) -> Option<Vec<String>> {
        read(of.as_bytes()).expect("a header that can be read").map(|metadata| metadata.dependencies)
    }

    #[test]
    fn a_header_is_read_whole() {
        let script = "#!/usr/bin/env python3\nimport os\n# /// script\n# requires-python = \">=3.11\"\n# dependencies = [\n\
                      #   \"requests<3\",\n#\n#   'rich', # nice\n# ]\n# [tool.uv]\n# exclude-newer = \"2024-01-01T00:00:00Z\"\n\
                      # [tool.other]\n# x = 1\n# ///\n";
        let metadata = read(script.as_bytes()).expect("a good header").expect("a header");
        assert_eq!(metadata.requires_python.as_deref(), Some(">=3.11"));
        assert_eq!(metadata.dependencies, ["requests<3", "rich"]);
        let uv = metadata.tool_uv.expect("a table for uv");
        assert_eq!(uv["exclude-newer"].as_str(), Some("2024-01-01T00:00:00Z"));
        assert_eq!(uv.len(), 1);
    }

    #[test]
    fn what_opens_no_block_is_a_comment() {
        for script in [
            "",
            "print(1)",
            "# /// script\n# ///\n",
            "# /// script \n# dependencies = ['a']\n# ///\n",
            "# /// script\t\n# dependencies = ['a']\n# ///\n",
            " # /// script\n# dependencies = ['a']\n# ///\n",
            "#/// script\n# dependencies = ['a']\n# ///\n",
            "# ///script\n# dependencies = ['a']\n# ///\n",
            "# ///  script\n# dependencies = ['a']\n# ///\n",
            "# /// scripts\n# dependencies = ['a']\n# ///\n",
            "# /// Script\n# dependencies = ['a']\n# ///\n",
            "# /// other\n# x\n",
            "# /// other\n# /// script\n# dependencies = ['a']\n# ///\n",
        ] {
            assert_eq!(dependencies(script), None, "{script:?}");
        }
    }

    const NOT_CLOSED: [&str; 10] = [
        "# /// script",
        "# /// script\nx = 1\n",
        "# /// script\n# dependencies = []\n",
        "# /// script\n# dependencies = []\n\n# ///\n",
        "# /// script\n# dependencies = []\nx = 1\n# ///\n",
        "# /// script\n#dependencies = []\n# ///\n",
        "# /// script\r\n# dependencies = []\r\nprint(1)\r\n",
        "# /// script\nx = 1\n# /// script\n# dependencies = []\n# ///\n",
        "x = \"\"\"\n# /// script\n\"\"\"\n",
        "# /// script\n# dependencies = []\n #\n# ///\n",
    ];

    const BLANK_AFTER_CLOSING: [&str; 2] =
        ["# /// script\n# dependencies = []\n# /// \n", "# /// script\n# dependencies = []\n# ///\t \nx = 1\n"];

    #[test]
    fn a_header_that_is_not_closed_is_refused_with_its_line() {
        for script in NOT_CLOSED {
            let line = if script.starts_with('x') { 2 } else { 1 };
            assert_eq!(read(script.as_bytes()), Err(ScriptMetadataError::NotClosed { line }), "{script:?}");
        }
        for script in BLANK_AFTER_CLOSING {
            let refused = read(script.as_bytes());
            assert_eq!(refused, Err(ScriptMetadataError::BlankAfterClosing { line: 3 }), "{script:?}");
        }
    }

    #[test]
    fn uv_takes_and_refuses_the_same_headers() {
        let uv = std::env::var_os("PYEXEC_TEST_UV").expect("PYEXEC_TEST_UV names the uv to test with");
        let directory = tempfile::tempdir().expect("a directory");
        let python = &pythons()[0];
        let others = [
            "# /// script\n# dependencies = []\n# ///\n",
            "# /// script\n# ///\n",
            "# /// script \n# dependencies = [\n",
            "# ///  script\n# dependencies = [\n",
            "#/// script\n",
            "# /// other\n# x\n",
            "# /// script\n# dependencies = []\n# ///\nx = 1\n# /// script\n",
            "# /// script\n#\n# x = 1\n# ///\n# /// other\n",
            "# /// script\n# dependencies = []\n# ///\n\n# /// script\n# dependencies = []\n# ///\n",
            "# /// script\n# dependencies = []\n# ///\n# /// script\n# dependencies = []\n# ///\n",
            "# /// script\n# dependencies = [\n# ///\n",
            "# /// script\n# dependencies = 'a'\n# ///\n",
            "# /// script\n# requires-python = 3\n# ///\n",
        ];
        for script in [&others[..], &NOT_CLOSED, &BLANK_AFTER_CLOSING].concat() {
            let file = directory.path().join("script.py");
            std::fs::write(&file, script).expect("can be written");
            let mut command = std::process::Command::new(&uv);
            let asked =
                command.args(["run", "--no-project", "--offline", "--quiet", "--python"]).arg(python).arg(&file);
            let ran = asked.env("UV_CACHE_DIR", directory.path().join("cache")).output().expect("uv can be started");
            // 2: uv itself failed; anything else is Python's.
            assert_eq!(ran.status.code() != Some(2), read(script.as_bytes()).is_ok(), "{script:?}: {ran:?}");
        }
    }

    #[test]
    fn every_line_end_byte_order_mark_and_end_of_file_is_fine() {
        for script in [
            "# /// script\r\n# dependencies = ['a']\r\n# ///\r\n",
            "# /// script\r# dependencies = ['a']\r# ///\r",
            "\u{feff}# /// script\n# dependencies = ['a']\n# ///",
            "# /// script\n# dependencies = ['a']\n# ///\n# /// other\n",
            "# /// other\n# x\n# ///\n\n# /// script\n# dependencies = ['a']\n# ///",
            "# /// script\n# dependencies = ['a']\n# ///\n\n# /// script\nx = 1\n",
        ] {
            assert_eq!(dependencies(script), Some(vec!["a".to_owned()]), "{script:?}");
        }
    }

    #[test]
    fn a_block_ends_with_the_last_line_that_can_end_it() {
        let script = "# /// script\n# dependencies = [\"\"\"\n# ///\n# /// b\n# \"\"\"]\n# ///\n";
        assert_eq!(dependencies(script), Some(vec!["///\n/// b\n".to_owned()]));
    }

    #[test]
    fn the_rest_of_the_script_may_have_any_encoding_but_the_header_is_utf8() {
        let mut script = b"# coding: latin-1\n# /// script\n# dependencies = ['a']\n# ///\nx = '\xe4'\n".to_vec();
        assert!(read(&script).is_ok_and(|metadata| metadata.is_some()));
        script[52] = 0xe4;
        assert_eq!(read(&script), Err(ScriptMetadataError::NotUtf8 { line: 3 }));
    }

    #[test]
    fn a_refusal_names_the_line_of_the_script() {
        for (script, expected) in [
            ("# /// script\n# x = 1\n# ///\n\n# /// script\n# x = 1\n# ///\n", "line 5: a second"),
            ("\n# /// script\n# dependencies = [\n#   'a'\n#   'b'\n# ]\n# ///\n", "line 5: "),
            ("# /// script\n# dependencies = 'a'\n# ///\n", "line 2: "),
            ("# /// script\n#\n# dependencies = [\n# 'a',\n# 3]\n# ///\n", "line 5: "),
            ("# /// script\n# x = 1\n# requires-python = 3.11\n# ///\n", "line 3: "),
            ("# /// script\n# tool = 1\n# ///\n", "line 2: "),
            ("# /// script\n# [tool]\n# uv = []\n# ///\n", "line 3: "),
            ("# /// script\n# x = '''\n# y\n# ///\n", "line 3: "),
            ("# /// script\n# x = 1\n# x = 2\n# ///\n", "line 3: "),
        ] {
            let told = read(script.as_bytes()).expect_err("a refusal").to_string();
            assert!(told.starts_with(expected), "{script:?}: {told}");
        }
    }

    #[test]
    fn a_header_is_written_after_the_lines_that_have_to_come_first() {
        const HEADER: &str =
            "# /// script\n# requires-python = \">=3.9\"\n# dependencies = [\n#     \"a\",\n# ]\n# ///\n";
        for (source, expected) in [
            ("", HEADER.to_owned()),
            ("x = 1\n", format!("{HEADER}\nx = 1\n")),
            ("# ///\nx = 1\n", format!("{HEADER}\n# ///\nx = 1\n")),
            ("#!/bin/python\nx = 1\n", format!("#!/bin/python\n\n{HEADER}\nx = 1\n")),
            ("#!/bin/python", format!("#!/bin/python\n\n{HEADER}")),
            ("# coding: utf-8\n", format!("# coding: utf-8\n\n{HEADER}")),
            ("#!p\n# -*- coding: utf-8 -*-\nx", format!("#!p\n# -*- coding: utf-8 -*-\n\n{HEADER}\nx")),
            ("\n# vim: set fileencoding=utf-8 :\nx", format!("\n# vim: set fileencoding=utf-8 :\n\n{HEADER}\nx")),
            ("x = 1\n# coding: utf-8\n", format!("{HEADER}\nx = 1\n# coding: utf-8\n")),
            ("\u{feff}x", format!("\u{feff}{HEADER}\nx")),
            ("#!p\r\nx\r\n", format!("#!p\n\n{HEADER}\nx\n").replace('\n', "\r\n")),
        ] {
            assert_eq!(write_header(&["a".to_owned()], Some(">=3.9"), source), expected, "{source:?}");
        }
    }

    #[test]
    fn a_source_with_a_header_or_nothing_to_say_is_left_alone() {
        let good = "# /// script\n# dependencies = []\n# ///\n";
        let bad = "# /// script\n# nonsense\n# ///\n";
        for source in [good.to_owned(), bad.to_owned(), format!("{good}\n{good}")] {
            assert_eq!(write_header(&["a".to_owned()], Some(">=3.9"), &source), source);
        }
        assert_eq!(write_header(&[], None, "x = 1"), "x = 1");
    }

    #[test]
    fn python_reads_generated_headers_as_we_do() {
        let oracles = oracles();
        run(&scripts(), |script| {
            let known = blocks(&lines(script.as_bytes()))
                .iter()
                .map(|block| {
                    let content = block.content(&lines(script.as_bytes())).expect("a text is UTF-8");
                    json!([String::from_utf8_lossy(block.kind), content])
                })
                .collect::<Vec<_>>();
            for oracle in &oracles {
                let answer = oracle.borrow_mut().ask(&json!({ "script": script }));
                if answer["blocks"] != Value::Array(known.clone()) {
                    return Err(TestCaseError::fail(format!("found {known:?}, Python finds {}", answer["blocks"])));
                }
            }
            Ok(())
        });
    }

    #[test]
    fn what_is_written_is_read_back_by_us_and_by_python_and_changes_nothing_else() {
        let oracles = oracles();
        let texts = || "[a-z<>=\"'\\\\#/\n\r\t\u{85}\u{2028}\u{7f}é\u{1f600} ]{0,12}";
        let metadata = (prop::collection::vec(texts(), 0..4), prop::option::of(texts()));
        run(&(metadata, sources()), |((dependencies, requires_python), source)| {
            let written = write_header(&dependencies, requires_python.as_deref(), &source);
            let had_one = blocks(&lines(source.as_bytes())).iter().any(|block| block.kind == b"script");
            // Whoever writes one has refused such a source before.
            prop_assume!(had_one || read(source.as_bytes()).is_ok());
            if had_one || (dependencies.is_empty() && requires_python.is_none()) {
                prop_assert_eq!(written, source);
                return Ok(());
            }
            let read_back = read(written.as_bytes());
            prop_assert_eq!(
                read_back,
                Ok(Some(ScriptMetadata {
                    requires_python: requires_python.clone(),
                    dependencies: dependencies.clone(),
                    tool_uv: None,
                })),
                "{}",
                written
            );
            for oracle in &oracles {
                let mut oracle = oracle.borrow_mut();
                let before = oracle.ask(&json!({ "script": source }));
                let after = oracle.ask(&json!({ "script": written }));
                prop_assert_eq!(&before["encoding"], &after["encoding"], "{}", written);
                prop_assert_eq!(&before["program"], &after["program"], "{}", written);
                if let Some(metadata) = after["metadata"].as_object() {
                    let versions = requires_python.as_ref().map(|versions| json!(versions));
                    prop_assert_eq!(metadata.get("requires-python"), versions.as_ref(), "{}", written);
                    prop_assert_eq!(&metadata["dependencies"], &json!(dependencies), "{}", written);
                }
            }
            Ok(())
        });
    }

    fn oracles() -> Vec<RefCell<Oracle>> {
        let program = include_str!("oracle/script_metadata_oracle.py");
        pythons().iter().map(|python| RefCell::new(Oracle::start(python, program))).collect()
    }

    fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
        // PROPTEST_CASES asks for more.
        let cases = Config::default().cases.max(1024);
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        if let Err(difference) = runner.run(strategy, test) {
            panic!("{difference}");
        }
    }

    fn any_of(lines: &[&'static str]) -> impl Strategy<Value = String> {
        prop::sample::select(lines.to_vec()).prop_map(str::to_owned)
    }

    fn line_ends() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "\n", "\n", "\n", "\n", "\n", "\r\n", "\r", "\u{2028}", "\x0c", "\x0b", "\u{85}", "\n\n",
        ])
    }

    fn scripts() -> impl Strategy<Value = String> {
        let lines = any_of(&[
            "# /// script",
            "# /// script",
            "# /// script",
            "# ///",
            "# ///",
            "# ///",
            "# /// other-1",
            "#",
            "# ",
            "#  x",
            "# x = 1",
            "# x = 1",
            "#x",
            "",
            "x = 1",
            " # ///",
            "# /// ",
            "# /// a b",
            "#!",
            "\u{feff}# /// script",
            "# é",
        ]);
        text_of(lines, 12)
    }

    fn sources() -> impl Strategy<Value = String> {
        let first = || {
            any_of(&[
                "#!/usr/bin/python",
                "# coding: utf-8",
                "# -*- coding: latin-1 -*-",
                "",
                "x = 1",
                "# a comment",
                "\u{feff}#!p",
                "\u{feff}",
                "  # vim: set fileencoding=ascii :",
                "# coding : no",
                "#coding=\tiso-8859-15",
                "# coding:",
                "\x0c",
                "# /// script",
                "\"\"\"text",
                "# decoding: coding: cp1252",
            ])
        };
        (first(), line_ends(), first(), line_ends(), scripts()).prop_map(
            |(first, after_first, second, after_second, rest)| first + after_first + &second + after_second + &rest,
        )
    }

    fn text_of(lines: impl Strategy<Value = String>, longest: usize) -> impl Strategy<Value = String> {
        prop::collection::vec((lines, line_ends()), 0..longest).prop_map(|lines| {
            let text: String = lines.iter().flat_map(|(line, end)| [line.as_str(), end]).collect();
            text
        })
    }
}
