//! The JSON of those clients that write their settings so.
//!
//! A syntax tree that keeps comments and blanks does the edit. It lays out anew what it inserts into, though, if that is
//! all on one line; there the text is inserted directly.

use jsonc_parser::ast;
use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use jsonc_parser::errors::ParseError;
use jsonc_parser::{ParseOptions, parse_to_ast};
use serde_json::Value;

use super::entry::{EditError, Entry, NAME, OF_A_REMOTE_SERVER};

/// What some editors allow in their settings; the rest of what people have made of JSON no client reads.
const OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

pub(super) fn with_entry(text: &str, section: &str, typed: bool, entry: &Entry) -> Result<String, EditError> {
    if text.trim().is_empty() {
        return Ok(snippet(section, typed, entry));
    }
    let root = CstRootNode::parse(text, &OPTIONS).map_err(|error| syntax(&error))?;
    let servers = servers(&root, section)?;
    if let Some(existing) = servers.as_ref().and_then(|servers| servers.get(NAME)) {
        match existing.object_value() {
            Some(existing) => update(&existing, typed, entry),
            None => existing.set_value(CstInputValue::Object(properties(typed, entry))),
        }
        return Ok(root.to_string());
    }
    if let Some(edited) = inserted_into_line(text, section, typed, entry) {
        return Ok(edited);
    }
    let value = CstInputValue::Object(properties(typed, entry));
    let servers = servers.unwrap_or_else(|| root.object_value_or_set().object_value_or_set(section));
    servers.append(NAME, value);
    Ok(root.to_string())
}

pub(super) fn without_entry(text: &str, section: &str) -> Result<String, EditError> {
    if text.trim().is_empty() {
        return Ok(text.to_owned());
    }
    let root = CstRootNode::parse(text, &OPTIONS).map_err(|error| syntax(&error))?;
    let Some(entry) = servers(&root, section)?.and_then(|servers| servers.get(NAME)) else {
        return Ok(text.to_owned());
    };
    entry.remove();
    Ok(root.to_string())
}

pub(super) fn entry(text: &str, section: &str) -> Result<Option<Entry>, EditError> {
    let entry = value(text, section)?;
    let command = entry.as_ref().and_then(|entry| entry.get("command")).and_then(Value::as_str);
    let args = entry.as_ref().and_then(|entry| entry.get("args")).and_then(Value::as_array);
    let args = args.into_iter().flatten().filter_map(|arg| arg.as_str().map(str::to_owned)).collect();
    Ok(command.map(|command| Entry { command: command.to_owned(), args }))
}

pub(super) fn has_entry(text: &str, section: &str) -> Result<bool, EditError> {
    Ok(value(text, section)?.is_some())
}

pub(super) fn snippet(section: &str, typed: bool, entry: &Entry) -> String {
    let kind = if typed { "      \"type\": \"stdio\",\n" } else { "" };
    let (command, args) = (quoted(&entry.command), list(&entry.args, " "));
    format!(
        "{{\n  \"{section}\": {{\n    \"{NAME}\": {{\n{kind}      \"command\": {command},\n      \"args\": {args}\n    }}\n  }}\n}}\n"
    )
}

/// The entry as it is, if there is one.
fn value(text: &str, section: &str) -> Result<Option<Value>, EditError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    // Not the whole file as values: it may be large, and all but this is beside the point.
    let parsed =
        parse_to_ast(text, &jsonc_parser::CollectOptions::default(), &OPTIONS).map_err(|error| syntax(&error))?;
    let Some(ast::Value::Object(root)) = parsed.value else { return Ok(None) };
    let Some(ast::Value::Object(servers)) = property(&root, section).map(|found| &found.value) else { return Ok(None) };
    Ok(property(servers, NAME).map(|found| Value::from(found.value.clone())))
}

/// The object that holds the servers; `None` when there is none yet.
fn servers(root: &CstRootNode, section: &str) -> Result<Option<CstObject>, EditError> {
    let Some(value) = root.value() else { return Ok(None) };
    let Some(object) = value.as_object() else {
        return Err(EditError::Shape("it holds something else than an object".into()));
    };
    let Some(found) = only(&object, section)? else { return Ok(None) };
    let Some(servers) = found.object_value() else {
        return Err(EditError::Shape(format!("its `{section}` is something else than an object")));
    };
    only(&servers, NAME)?;
    Ok(Some(servers))
}

/// Of two of the same name it is anybody's guess which one a client takes.
fn only(object: &CstObject, name: &str) -> Result<Option<jsonc_parser::cst::CstObjectProp>, EditError> {
    let mut named = object.properties().into_iter().filter(|property| property.decoded_name().as_deref() == Some(name));
    match (named.next(), named.next()) {
        (_, Some(_)) => Err(EditError::Shape(format!("`{name}` is there twice"))),
        (found, None) => Ok(found),
    }
}

/// Brings an entry up to date. What its owner has added stays.
fn update(existing: &CstObject, typed: bool, entry: &Entry) {
    for name in OF_A_REMOTE_SERVER {
        if let Some(property) = existing.get(name) {
            property.remove();
        }
    }
    for (name, wanted) in properties(typed, entry) {
        let text = |value: &str| Value::from(value);
        let wanted_value = match name.as_str() {
            "type" => text("stdio"),
            "command" => text(&entry.command),
            _ => Value::from(entry.args.clone()),
        };
        match existing.get(&name) {
            Some(property) if property.to_serde_value().as_ref() == Some(&wanted_value) => {}
            Some(property) => property.set_value(wanted),
            // None at all means the same as an empty list.
            None if name == "args" && entry.args.is_empty() => {}
            None => drop(existing.append(&name, wanted)),
        }
    }
}

fn properties(typed: bool, entry: &Entry) -> Vec<(String, CstInputValue)> {
    let text = |text: &str| CstInputValue::String(text.to_owned());
    let args = entry.args.iter().map(|arg| text(arg)).collect();
    let kind = typed.then(|| ("type".to_owned(), text("stdio")));
    let rest = [("command".to_owned(), text(&entry.command)), ("args".to_owned(), CstInputValue::Array(args))];
    kind.into_iter().chain(rest).collect()
}

/// The text with the entry put behind the last thing on the line that it belongs to; `None` where there is room for lines.
fn inserted_into_line(text: &str, section: &str, typed: bool, entry: &Entry) -> Option<String> {
    let parsed = parse_to_ast(text, &jsonc_parser::CollectOptions::default(), &OPTIONS).ok()?;
    let Some(ast::Value::Object(root)) = parsed.value else { return None };
    let servers = match property(&root, section).map(|found| &found.value) {
        Some(ast::Value::Object(servers)) => Some(servers),
        _ => None,
    };
    let is_line = |object: &ast::Object<'_>| {
        !object.properties.is_empty() && !text[object.range.start..object.range.end].contains('\n')
    };
    let target = servers.unwrap_or(&root);
    let is_within_line = is_line(target) || (target.properties.is_empty() && is_line(&root));
    if !is_within_line {
        return None;
    }
    let blank = if text[root.range.start..root.range.end].contains("\": ") { " " } else { "" };
    let kind = if typed { format!("\"type\":{blank}\"stdio\",{blank}") } else { String::new() };
    let (command, args) = (quoted(&entry.command), list(&entry.args, blank));
    let entry = format!("\"{NAME}\":{blank}{{{kind}\"command\":{blank}{command},{blank}\"args\":{blank}{args}}}");
    let added = if servers.is_some() { entry } else { format!("\"{section}\":{blank}{{{entry}}}") };
    Some(match target.properties.last() {
        Some(last) => {
            let (before, after) = text.split_at(last.range.end);
            format!("{before},{blank}{added}{after}")
        }
        None => {
            let (before, after) = text.split_at(target.range.start + 1);
            format!("{before}{added}{after}")
        }
    })
}

fn property<'a, 'text>(object: &'a ast::Object<'text>, name: &str) -> Option<&'a ast::ObjectProp<'text>> {
    object.properties.iter().find(|property| property.name.as_str() == name)
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn list(items: &[String], blank: &str) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(&format!(",{blank}")))
}

fn syntax(error: &ParseError) -> EditError {
    let problem = error.kind().to_string();
    EditError::Syntax { line: error.line_display(), column: error.column_display(), problem }
}
