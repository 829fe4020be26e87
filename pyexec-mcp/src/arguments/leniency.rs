//! Tolerance for arguments of models and hosts that deviate from the schema but have only one possible meaning.

use serde_json::Value;

use super::parameter::Kind;

/// Names that hosts add to the arguments of every call, and that neither model nor user can leave out: n8n adds the
/// first five, older versions of Cursor the last. No tool has a parameter of such a name.
pub(super) const ADDED_BY_HOSTS: [&str; 6] =
    ["action", "chatInput", "sessionId", "tool", "toolCallId", "random_string"];

/// Converts a value to its kind: JSON in a string is parsed unless the kind is text, and empty members of an object are
/// removed. A value that cannot be converted is returned unchanged, for the check to report.
pub(super) fn coerced(kind: &Kind, value: Value) -> Value {
    let value = match value {
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(read) if is_wanted(kind, &read) => read,
            Ok(_) | Err(_) => Value::String(text),
        },
        value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => value,
    };
    match (kind, value) {
        (Kind::Object(members), Value::Object(given)) => {
            let taken = given.into_iter().map(|(name, value)| {
                let kind = members.iter().find(|(known, _)| *known == name).map(|(_, kind)| kind);
                let value = kind.map_or(value.clone(), |kind| coerced(kind, value));
                (name, value)
            });
            taken.filter(|(_, value)| !is_filler(value)).collect()
        }
        (_, value) => value,
    }
}

/// Whether a value stands for an omitted parameter, as clients send it that fill in all parameters.
pub(super) fn is_filler(value: &Value) -> bool {
    value.is_null() || value == ""
}

fn is_wanted(kind: &Kind, value: &Value) -> bool {
    match kind {
        Kind::Text | Kind::Path | Kind::Choice(_) => false,
        Kind::Flag => value.is_boolean(),
        Kind::Whole { .. } | Kind::Number { .. } => value.is_number(),
        Kind::Texts => value.is_array(),
        Kind::Map | Kind::Object(_) => value.is_object(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_that_came_as_text_is_read_where_the_kind_wants_it() {
        const WHOLE: Kind = Kind::Whole { least: 0, most: 45 };
        const LIMITS: Kind =
            Kind::Object(&[("nice", WHOLE), ("network", Kind::Choice(&["none"])), ("flag", Kind::Flag)]);
        for (kind, given, expected) in [
            (Kind::Texts, json!("[\"a\", \"b\"]"), json!(["a", "b"])),
            (Kind::Texts, json!(" []\n"), json!([])),
            (Kind::Flag, json!("true"), json!(true)),
            (WHOLE, json!("30"), json!(30)),
            (WHOLE, json!("30.0"), json!(30.0)),
            (Kind::Number { least: 0.0, most: 1.0 }, json!("1e-3"), json!(0.001)),
            (Kind::Map, json!("{\"A\": \"1\"}"), json!({"A": "1"})),
            (LIMITS, json!("{\"nice\": \"3\", \"network\": \"\"}"), json!({"nice": 3})),
            (
                LIMITS,
                json!({"flag": "false", "nice": null, "network": "none"}),
                json!({"flag": false, "network": "none"}),
            ),
            (LIMITS, json!({"other": "1"}), json!({"other": "1"})),
            // It is text that is wanted.
            (Kind::Text, json!("[1]"), json!("[1]")),
            (Kind::Text, json!("true"), json!("true")),
            (Kind::Path, json!("30"), json!("30")),
            (Kind::Map, json!({"A": "1"}), json!({"A": "1"})),
            (Kind::Map, json!({"A": ""}), json!({"A": ""})),
            // Text that is something else, or nothing.
            (Kind::Texts, json!("numpy"), json!("numpy")),
            (Kind::Texts, json!("{}"), json!("{}")),
            (Kind::Texts, json!("\"[]\""), json!("\"[]\"")),
            (Kind::Flag, json!("yes"), json!("yes")),
            (Kind::Flag, json!("1"), json!("1")),
            (WHOLE, json!("1e999"), json!("1e999")),
            (WHOLE, json!(true), json!(true)),
        ] {
            assert_eq!(coerced(&kind, given.clone()), expected, "{given} for {kind:?}");
        }
    }
}
