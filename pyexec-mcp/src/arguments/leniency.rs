//! What models and hosts send instead of what a schema says, where it can mean only one thing.

use serde_json::Value;

use super::parameter::Kind;

/// Names that hosts add to the arguments of every call, which neither model nor user can leave out: n8n the first five,
/// older Cursors the last one. No tool has a parameter of such a name.
pub(super) const ADDED_BY_HOSTS: [&str; 6] =
    ["action", "chatInput", "sessionId", "tool", "toolCallId", "random_string"];

/// A value as its kind wants it: JSON that came as text is read where anything else than text is wanted, and members of an
/// object that say nothing are left out. What fits no better stays as it is, to be complained of.
pub(super) fn taken(kind: &Kind, value: Value) -> Value {
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
                let value = kind.map_or(value.clone(), |kind| taken(kind, value));
                (name, value)
            });
            taken.filter(|(_, value)| !says_nothing(value)).collect()
        }
        (_, value) => value,
    }
}

/// How a parameter that may be left out is sent by who fills in every one.
pub(super) fn says_nothing(value: &Value) -> bool {
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
            assert_eq!(taken(&kind, given.clone()), expected, "{given} for {kind:?}");
        }
    }
}
