//! The schemas that `pyexec-mcp --structured` declares of its tools' results, and what is held against them: every result
//! with structured content that a test gets.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::sandbox::PYEXEC_MCP;

/// By tool.
static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}
    });
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
    let mut command = Command::new(PYEXEC_MCP);
    // It asks no daemon for that.
    command.arg("--structured").env_clear().env("HOME", "/nonexistent").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut server = command.spawn().expect("can be started");
    let mut stdin = server.stdin.take().expect("is a pipe");
    stdin.write_all(format!("{request}\n").as_bytes()).expect("it reads");
    drop(stdin);
    let listed = server.wait_with_output().expect("it ends").stdout;
    let listed: Value = serde_json::from_slice(&listed).expect("it answers");
    let tools = listed["result"]["tools"].as_array().expect("it lists tools");
    tools
        .iter()
        .map(|tool| (tool["name"].as_str().expect("has one").to_owned(), tool["outputSchema"].clone()))
        .collect()
});

/// Checks the structured content of an answer to a call of this tool, where it has some.
#[track_caller]
pub(super) fn hold(tool: &str, answer: &Value) {
    let Some(content) = answer["result"].get("structuredContent") else { return };
    let name = if tool.starts_with("py_") { tool.to_owned() } else { format!("py_{tool}") };
    let schema = SCHEMAS.get(&name).unwrap_or_else(|| panic!("{tool} declares no schema of its results"));
    if let Err(problem) = check(schema, content, "the result") {
        panic!("{tool}: {problem}; schema: {schema}; result: {content}");
    }
}

/// What is wrong with a value. Keywords that are not known here are refused: they would not be checked.
fn check(schema: &Value, value: &Value, name: &str) -> Result<(), String> {
    let members = schema.as_object().ok_or_else(|| format!("the schema of {name} is not an object"))?;
    for (keyword, wanted) in members {
        match keyword.as_str() {
            "type" => {
                let fits = match wanted.as_str() {
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    Some("string") => value.is_string(),
                    Some("boolean") => value.is_boolean(),
                    Some("null") => value.is_null(),
                    Some("number") => value.is_number(),
                    Some("integer") => value.is_i64() || value.is_u64(),
                    _ => return Err(format!("the schema of {name} has the type {wanted}")),
                };
                if !fits {
                    return Err(format!("{name} is {value}, and its type should be {wanted}"));
                }
            }
            "anyOf" => {
                let either = wanted.as_array().ok_or_else(|| format!("anyOf of {name} is not a list"))?;
                if either.iter().all(|schema| check(schema, value, name).is_err()) {
                    return Err(format!("{name} is {value}, which is none of {wanted}"));
                }
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    check(wanted, item, &format!("an item of {name}"))?;
                }
            }
            "properties" => {
                let known = wanted.as_object().ok_or_else(|| format!("properties of {name} are not an object"))?;
                for (member, schema) in known {
                    if let Some(value) = value.get(member) {
                        check(schema, value, &format!("`{member}` of {name}"))?;
                    }
                }
            }
            "required" => {
                for member in wanted.as_array().into_iter().flatten() {
                    let member = member.as_str().ok_or_else(|| format!("{name} requires what has no name"))?;
                    if value.get(member).is_none() {
                        return Err(format!("{name} has no `{member}`"));
                    }
                }
            }
            other => return Err(format!("the schema of {name} has `{other}`, which is not checked here")),
        }
    }
    Ok(())
}

#[test]
fn every_tool_declares_what_its_results_always_have() {
    assert_eq!(SCHEMAS.len(), 20);
    for (tool, schema) in &*SCHEMAS {
        assert!(schema["required"].as_array().is_some_and(|required| !required.is_empty()), "{tool}: {schema}");
        let properties = schema["properties"].as_object().expect("has some");
        for member in schema["required"].as_array().into_iter().flatten() {
            assert!(properties.contains_key(member.as_str().expect("is text")), "{tool}: {member}");
        }
    }
}

#[test]
fn a_result_that_is_not_what_its_schema_says_is_noticed() {
    let number = json!({"anyOf": [{"type": "integer"}, {"type": "null"}]});
    let schema = json!({"type": "object", "required": ["a"], "properties": {
        "a": number, "b": {"type": "array", "items": {"type": "string"}}
    }});
    for right in [json!({"a": 1}), json!({"a": null, "b": [], "c": 1}), json!({"a": 0, "b": ["x"]})] {
        assert_eq!(check(&schema, &right, "it"), Ok(()));
    }
    for wrong in [json!([]), json!({}), json!({"a": "1"}), json!({"a": 1.5}), json!({"a": 1, "b": [1]})] {
        assert!(check(&schema, &wrong, "it").is_err(), "{wrong} was taken");
    }
    assert!(check(&json!({"format": "uri"}), &json!("x"), "it").is_err(), "a keyword was not checked");
}
