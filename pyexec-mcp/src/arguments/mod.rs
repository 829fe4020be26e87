//! Parameters of tools: their declaration, and the check of a call's arguments.
//!
//! One declaration gives the schema that clients see and the messages for invalid calls. Schemas are short, because
//! every session pays for them, whether it calls the tool or not. Arguments that deviate from the schema but have only
//! one possible meaning are accepted, see [`leniency`].

mod leniency;
mod parameter;
mod paths;

use rmcp::model::JsonObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::answer::Failure;
use parameter::unknown;
pub(crate) use parameter::{Kind, Parameter, schema};

/// The checked arguments of a call; omitted ones are still missing. `null` counts as omitted, and so does empty text
/// unless the parameter may be empty.
pub(crate) fn checked(parameters: &[Parameter], given: JsonObject) -> Result<JsonObject, Failure> {
    let mut checked = JsonObject::new();
    for (name, value) in given.into_iter().filter(|(_, value)| !value.is_null()) {
        let Some(parameter) = parameters.iter().find(|parameter| parameter.name == name) else {
            if leniency::ADDED_BY_HOSTS.contains(&name.as_str()) {
                continue;
            }
            return Err(unknown(&name, &name, parameters.iter().map(|parameter| parameter.name)));
        };
        let mut value = leniency::coerced(&parameter.kind, value);
        if leniency::is_filler(&value) && !parameter.required && !parameter.may_be_empty {
            continue;
        }
        parameter.kind.check(&name, &value, parameter.required)?;
        if let (Kind::Path, Value::String(path)) = (&parameter.kind, &mut value) {
            let home = std::env::home_dir().filter(|home| home.is_absolute());
            *path = paths::resolved(&name, path, home.as_deref())?;
        }
        checked.insert(name, value);
    }
    Ok(checked)
}

/// The value of a flag; `None` if it is omitted or not a flag.
pub(crate) fn flag(given: &JsonObject, name: &str) -> Option<bool> {
    leniency::coerced(&Kind::Flag, given.get(name)?.clone()).as_bool()
}

/// Deserializes [`checked`] arguments, with defaults for omitted ones.
pub(crate) fn read<T: DeserializeOwned>(
    tool: &str,
    parameters: &[Parameter],
    mut given: JsonObject,
) -> Result<T, Failure> {
    if let Some(missing) = parameters.iter().find(|parameter| parameter.required && !given.contains_key(parameter.name))
    {
        let name = missing.name;
        let next = match missing.about {
            "" => format!("{tool} requires it"),
            about => format!("{tool} needs `{name}`: {about}"),
        };
        return Err(Failure::argument(format!("`{name}` is missing"), next));
    }
    for parameter in parameters {
        if let Some(default) = &parameter.default {
            given.entry(parameter.name).or_insert_with(|| default.clone());
        }
    }
    whole_numbers(&mut given);
    serde_json::from_value(Value::Object(given)).map_err(|error| {
        Failure::argument(format!("invalid arguments of {tool}: {error}"), "check them against its schema")
    })
}

/// JSON does not distinguish `3.0` from `3`, but serde does.
fn whole_numbers(given: &mut JsonObject) {
    for value in given.values_mut() {
        match value {
            Value::Object(members) => whole_numbers(members),
            Value::Number(number) => {
                let whole = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && *float >= 0.0);
                if let Some(whole) = whole.filter(|whole| *whole < 9e15) {
                    *value = (whole as u64).into();
                }
            }
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::{Map, json};

    #[derive(Debug, PartialEq, Deserialize)]
    struct Given {
        name: String,
        number: u64,
        share: Option<f64>,
    }

    fn parameters() -> Vec<Parameter> {
        const BOUNDS: Kind = Kind::Object(&[("memory_mb", Kind::Whole { least: 1, most: u64::MAX })]);
        vec![
            Parameter::new("name", Kind::Text, "what it is called").required(),
            Parameter::new("number", Kind::Whole { least: 0, most: 45 }, "").default(7),
            Parameter::new("share", Kind::Number { least: 0.0, most: f64::INFINITY }, ""),
            Parameter::new("until", Kind::Choice(&["exit", "output"]), ""),
            Parameter::new("args", Kind::Texts, ""),
            Parameter::new("env_vars", Kind::Map, ""),
            Parameter::new("flag", Kind::Flag, "").default(false),
            Parameter::new("limits", BOUNDS, ""),
            Parameter::new("where", Kind::Path, ""),
            Parameter::new("code", Kind::Text, "").may_be_empty(),
        ]
    }

    fn given(value: Value) -> Result<Given, Failure> {
        let Value::Object(given) = value else { panic!("not an object") };
        let parameters = parameters();
        read("py_tool", &parameters, checked(&parameters, given)?)
    }

    #[test]
    fn defaults_stand_in_for_what_is_left_out_or_null() {
        let read = given(json!({"name": "a", "number": null})).expect("is fine");
        assert_eq!(read, Given { name: "a".into(), number: 7, share: None });
        let read = given(json!({"name": "a", "number": 3.0, "share": 2})).expect("is fine");
        assert_eq!(read, Given { name: "a".into(), number: 3, share: Some(2.0) });
    }

    #[test]
    fn what_can_mean_only_one_thing_is_taken() {
        let Value::Object(everything) = json!({
            "name": "a", "number": "30", "share": "", "until": "", "args": "[\"x\"]", "env_vars": "{\"A\": \"\"}",
            "flag": "true", "limits": "{\"memory_mb\": \"512\"}", "where": "file:///a%20b", "code": "",
            "toolCallId": "call_1", "sessionId": "s", "action": "sendMessage", "chatInput": "hi", "tool": {"name": "x"},
            "random_string": "r"
        }) else {
            panic!("not an object")
        };
        let expected = json!({
            "name": "a", "number": 30, "args": ["x"], "env_vars": {"A": ""}, "flag": true, "limits": {"memory_mb": 512},
            "where": "/a b", "code": ""
        });
        let taken = checked(&parameters(), everything).expect("is fine");
        assert_eq!(Value::Object(taken), expected);
        for nothing in [json!(""), json!(null)] {
            let names = ["number", "share", "until", "args", "env_vars", "flag", "limits", "where"];
            let given = names.into_iter().map(|name| (name.to_owned(), nothing.clone())).collect();
            let taken = checked(&parameters(), given).expect("is fine");
            assert!(taken.is_empty(), "{taken:?}");
        }
        // What is needed is not left out by being empty.
        let Value::Object(empty) = json!({"name": ""}) else { panic!("not an object") };
        assert_eq!(checked(&parameters(), empty).expect("is fine").get("name"), Some(&json!("")));
    }

    #[test]
    fn a_wrong_argument_is_named_with_its_value_and_what_would_do() {
        for (arguments, problem, next) in [
            (json!({}), "`name` is missing", "what it is called"),
            (json!({"name": 5}), "`name` is 5, not text", "give text"),
            (json!({"name": "a", "number": "many"}), "`number` is \"many\", not a whole number from 0 to 45", ""),
            (json!({"name": "a", "number": 46}), "`number` is 46", "from 0 to 45"),
            (json!({"name": "a", "number": 1.5}), "`number` is 1.5", ""),
            (json!({"name": "a", "share": -1}), "`share` is -1", "0 or more"),
            (json!({"name": "a", "until": "end"}), "`until` is \"end\"", "exit, output"),
            (json!({"name": "a", "args": "x"}), "`args` is \"x\"", "a list of texts"),
            (json!({"name": "a", "args": [1]}), "`args` is a list", ""),
            (
                json!({"name": "a", "env_vars": {"TOKEN": 42}}),
                "the value of `TOKEN` in `env_vars` is a number",
                "quotes",
            ),
            (json!({"name": "a", "env_vars": "TOKEN=42"}), "`env_vars` is text", "an object"),
            (json!({"name": "a", "env_vars": "{\"TOKEN\": 42}"}), "the value of `TOKEN` in `env_vars`", "quotes"),
            (json!({"name": "a", "env_vars": {"TOKEN": null}}), "the value of `TOKEN` in `env_vars` is null", "quotes"),
            (json!({"name": "a", "flag": "yes"}), "`flag` is \"yes\"", "true or false"),
            (json!({"name": "a", "args": "[1]"}), "`args` is a list", "a list of texts"),
            (json!({"name": "a", "where": "file://x/y"}), "`where` is \"file://x/y\"", "file:///"),
            (json!({"name": null}), "`name` is missing", ""),
            (json!({"name": "a", "toolcallid": "x"}), "no parameter `toolcallid`", "known parameters are"),
            (json!({"name": "a", "numbr": 1}), "no parameter `numbr`", "did you mean `number`?"),
            (json!({"name": "a", "zzz": 1}), "no parameter `zzz`", "known parameters are: name, number"),
            (json!({"name": "a", "limits": {"memory": 1}}), "no parameter `limits.memory`", "memory_mb"),
            (json!({"name": "a", "limits": {"memory_mb": 0}}), "`limits.memory_mb` is 0", "1 or more"),
        ] {
            let Err(Failure::Argument { problem: said, next: advised }) = given(arguments.clone()) else {
                panic!("{arguments} was taken");
            };
            assert!(said.contains(problem), "{arguments}: {said}");
            assert!(advised.contains(next), "{arguments}: {advised}");
            assert!(!said.contains("42"), "a value that may be secret is shown: {said}");
        }
    }

    #[test]
    fn what_is_missing_is_asked_for_in_a_whole_sentence() {
        for (about, next) in
            [("what it is called", "py_tool needs `name`: what it is called"), ("", "py_tool requires it")]
        {
            let parameters = [Parameter::new("name", Kind::Text, about).required()];
            let refused = read::<Value>("py_tool", &parameters, Map::new());
            assert!(matches!(&refused, Err(Failure::Argument { next: said, .. }) if said == next), "{refused:?}");
        }
    }

    #[test]
    fn the_schema_says_what_is_required_and_what_is_not_off_by_itself() {
        let schema = Value::Object(schema(&parameters()));
        assert_eq!(schema["required"], json!(["name"]));
        assert_eq!(schema["properties"]["number"], json!({"type": "integer", "default": 7}));
        assert_eq!(schema["properties"]["name"]["description"], "what it is called");
        assert_eq!(schema["properties"]["flag"], json!({"type": "boolean"}));
    }
}
