//! The TOML of those clients that write their settings so.
//!
//! A new table goes to the end of the file, and an old one is cut out of it. Only what is inside a table that stays is
//! left to a library that rewrites the text; it makes every line end alike, so of its text only the lines are taken that
//! have changed.

use std::ops::Range;

use toml_edit::{Array, Document, DocumentMut, Item, TableLike, Value};

use super::super::difference::Difference;
use super::entry::{EditError, Entry, NAME, OF_A_REMOTE_SERVER};

const SECTION: &str = "mcp_servers";

pub(super) fn with_entry(text: &str, entry: &Entry) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse().map_err(|error| syntax(text, &error))?;
    let is_inline = document.get(SECTION).is_some_and(Item::is_inline_table);
    let Some(servers) = servers(document.get_mut(SECTION))? else { return Ok(appended(text, entry)) };
    match servers.get_mut(NAME) {
        Some(existing) => match existing.as_table_like_mut() {
            Some(existing) => update(existing, entry),
            None => {
                return Err(EditError::Shape(format!("its `{SECTION}.{NAME}` is something else than a table")));
            }
        },
        // A value is all there is room for in a value.
        None if is_inline => {
            let mut table = toml_edit::InlineTable::new();
            table.insert("command", Value::from(entry.command.as_str()));
            table.insert("args", Value::Array(args(entry)));
            servers.insert(NAME, toml_edit::value(table));
        }
        None => return Ok(appended(text, entry)),
    }
    Ok(with_lines_of(text, &document.to_string()))
}

pub(super) fn without_entry(text: &str) -> Result<String, EditError> {
    let document = Document::parse(text).map_err(|error| syntax(text, &error))?;
    let Some(entry) = document.get(SECTION).and_then(|servers| servers.get(NAME)) else { return Ok(text.to_owned()) };
    let mut lines = Vec::new();
    collect_tables(text, entry, &mut lines);
    if lines.is_empty() {
        let mut document: DocumentMut = text.parse().map_err(|error| syntax(text, &error))?;
        if let Some(servers) = servers(document.get_mut(SECTION))? {
            servers.remove(NAME);
        }
        return Ok(with_lines_of(text, &document.to_string()));
    }
    lines.sort_by_key(|range| range.start);
    let mut left = String::with_capacity(text.len());
    let mut end = 0;
    for range in lines {
        let before = &text[end..range.start];
        // One of the empty lines around it goes as well.
        left.push_str(before.strip_suffix("\r\n\r\n").map_or_else(
            || before.strip_suffix("\n\n").map_or(before, |shorter| &before[..shorter.len() + 1]),
            |shorter| &before[..shorter.len() + 2],
        ));
        end = range.end;
    }
    let rest = &text[end..];
    let rest = if left.is_empty() { rest.trim_start_matches(['\r', '\n']) } else { rest };
    left.push_str(rest);
    Ok(left)
}

pub(super) fn entry(text: &str) -> Result<Option<Entry>, EditError> {
    let document = Document::parse(text).map_err(|error| syntax(text, &error))?;
    let entry = document.get(SECTION).and_then(|servers| servers.get(NAME));
    let command = entry.and_then(|entry| entry.get("command")).and_then(Item::as_str);
    let args = entry.and_then(|entry| entry.get("args")).and_then(Item::as_array).into_iter().flatten();
    let args = args.filter_map(|arg| arg.as_str().map(str::to_owned)).collect();
    Ok(command.map(|command| Entry { command: command.to_owned(), args }))
}

pub(super) fn has_entry(text: &str) -> Result<bool, EditError> {
    let document = Document::parse(text).map_err(|error| syntax(text, &error))?;
    Ok(document.get(SECTION).and_then(|servers| servers.get(NAME)).is_some())
}

pub(super) fn snippet(entry: &Entry) -> String {
    let command = Value::from(entry.command.as_str());
    format!("[{SECTION}.{NAME}]\ncommand = {command}\nargs = {}\n", args(entry))
}

fn servers(item: Option<&mut Item>) -> Result<Option<&mut dyn TableLike>, EditError> {
    let Some(item) = item else { return Ok(None) };
    match item.as_table_like_mut() {
        Some(servers) => Ok(Some(servers)),
        None => Err(EditError::Shape(format!("its `{SECTION}` is something else than a table"))),
    }
}

fn appended(text: &str, entry: &Entry) -> String {
    let ending = line_ending(text);
    let gap = match text {
        "" => String::new(),
        text if text.ends_with('\n') => ending.to_owned(),
        _ => ending.repeat(2),
    };
    format!("{text}{gap}{}", snippet(entry).replace('\n', ending))
}

/// Brings an entry up to date. What its owner has added stays.
fn update(existing: &mut dyn TableLike, entry: &Entry) {
    for name in OF_A_REMOTE_SERVER {
        existing.remove(name);
    }
    if existing.get("command").and_then(Item::as_str) != Some(&entry.command) {
        set(existing, "command", Value::from(entry.command.as_str()));
    }
    let present: Option<Vec<Option<&str>>> =
        existing.get("args").map(|args| args.as_array().into_iter().flatten().map(Value::as_str).collect());
    let wanted: Vec<Option<&str>> = entry.args.iter().map(|arg| Some(arg.as_str())).collect();
    // None at all means the same as an empty list.
    if present.is_some_and(|present| present != wanted) || (existing.get("args").is_none() && !wanted.is_empty()) {
        set(existing, "args", Value::Array(args(entry)));
    }
}

/// A comment behind the old value stays.
fn set(table: &mut dyn TableLike, name: &str, mut value: Value) {
    if let Some(old) = table.get(name).and_then(Item::as_value) {
        *value.decor_mut() = old.decor().clone();
    }
    table.insert(name, Item::Value(value));
}

fn args(entry: &Entry) -> Array {
    entry.args.iter().map(String::as_str).collect()
}

/// The lines of every table with a header of its own that `item` consists of: from the header to its last value, so that
/// comments before and after it stay.
fn collect_tables(text: &str, item: &Item, lines: &mut Vec<Range<usize>>) {
    let Some(table) = item.as_table() else { return };
    if let Some(header) = item.span().filter(|span| text[span.clone()].starts_with('[')) {
        let end = table.iter().filter_map(|(_, value)| end_of(value)).max().unwrap_or(header.end);
        let start = text[..header.start].rfind('\n').map_or(0, |at| at + 1);
        let end = end.max(header.end);
        let end = text[end..].find('\n').map_or(text.len(), |at| end + at + 1);
        lines.push(start..end);
    }
    for (_, value) in table.iter() {
        collect_tables(text, value, lines);
    }
}

/// Where a value ends that stands below its table's own header.
fn end_of(item: &Item) -> Option<usize> {
    match item {
        Item::Value(value) => value.span().map(|span| span.end),
        Item::Table(table) if table.is_dotted() => table.iter().filter_map(|(_, value)| end_of(value)).max(),
        Item::Table(_) | Item::ArrayOfTables(_) | Item::None => None,
    }
}

/// `edited`, but for lines that say what they said before: those end as they did.
fn with_lines_of(original: &str, edited: &str) -> String {
    let difference = Difference::between(original, edited);
    let ending = line_ending(original);
    let mut text = String::with_capacity(original.len().max(edited.len()));
    for line in difference.before(original) {
        text.push_str(line);
    }
    if !text.is_empty() && !text.ends_with('\n') && difference.adds_lines() {
        text.push_str(ending);
    }
    for line in difference.added(edited) {
        text.push_str(line.trim_end_matches(['\r', '\n']));
        text.push_str(ending);
    }
    for line in difference.after(original) {
        text.push_str(line);
    }
    text
}

fn line_ending(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

fn syntax(text: &str, error: &toml_edit::TomlError) -> EditError {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..at).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    EditError::Syntax { line, column, problem: error.message().to_owned() }
}
