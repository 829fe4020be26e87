//! Schemas of structured results, derived from their types.
//!
//! Every session that declares schemas pays for them, so they only say what a client can rely on: the members of a
//! result, which of them are required, and which may be null. The content of members is documented elsewhere.

use rmcp::model::JsonObject;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The type of a result.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    schema: fn(&mut SchemaGenerator) -> Schema,
    /// Members that are not declared, because callers of this tool do not need them.
    left_out: &'static [&'static str],
}

impl Shape {
    pub(super) const fn of<T: JsonSchema>() -> Self {
        Self { schema: T::json_schema, left_out: &[] }
    }

    pub(super) const fn without(self, left_out: &'static [&'static str]) -> Self {
        Self { left_out, ..self }
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Value {
        let mut schema = (self.schema)(generator).to_value();
        for name in self.left_out {
            let known = schema["properties"].as_object_mut().and_then(|properties| properties.remove(*name));
            debug_assert!(known.is_some(), "{name} is left out of a result that does not have it");
        }
        schema
    }
}

/// The schema for results of any of these types: a member is required if all of them require it.
pub(super) fn of(shapes: &[Shape]) -> JsonObject {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| settings.inline_subschemas = true);
    let mut generator = settings.into_generator();
    let mut properties: Map<String, Value> = Map::new();
    let mut required: Option<Vec<Value>> = None;
    for shape in shapes {
        let schema = shape.schema(&mut generator);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let property = brief(property);
            let known = properties.entry(name).or_insert_with(|| property.clone());
            if !takes_all_of(known, &property) {
                let both = [known.take(), property];
                *known = json!({ "anyOf": both });
            }
        }
        let own = schema["required"].as_array().cloned().unwrap_or_default();
        required = Some(match required {
            None => own,
            Some(common) => common.into_iter().filter(|name| own.contains(name)).collect(),
        });
    }
    let is_declared = |name: &Value| name.as_str().is_some_and(|name| properties.contains_key(name));
    let required: Vec<Value> = required.unwrap_or_default().into_iter().filter(is_declared).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), properties.into());
    schema.insert("required".to_owned(), required.into());
    schema
}

fn takes_all_of(schema: &Value, other: &Value) -> bool {
    schema == other || schema["anyOf"].as_array().is_some_and(|either| either.contains(other))
}

/// The type of a member; for a list, also that of its items.
fn brief(schema: &Value) -> Value {
    let or_null = |schema: Value| json!({"anyOf": [schema, {"type": "null"}]});
    if let Some(either) = schema["anyOf"].as_array() {
        let of_type = |wanted: bool| either.iter().filter(move |schema| (schema["type"] == "null") == wanted);
        let others = of_type(false).map(brief).collect::<Vec<_>>();
        return match others.as_slice() {
            [one] if of_type(true).next().is_some() => or_null(one.clone()),
            _ => json!({"anyOf": either.iter().map(brief).collect::<Vec<_>>()}),
        };
    }
    // Validators in strict mode reject a list of types.
    if let Some(types) = schema["type"].as_array() {
        let either: Vec<Value> = types.iter().map(|one| brief(&with(schema, one))).collect();
        return json!({ "anyOf": either });
    }
    match (&schema["type"], &schema["items"]) {
        (Value::String(name), items @ Value::Object(_)) if name == "array" => {
            json!({"type": "array", "items": brief(items)})
        }
        (Value::String(name), _) => json!({"type": name}),
        // An enumeration without a type of its own.
        _ if schema["enum"].is_array() || schema["const"].is_string() => json!({"type": "string"}),
        _ => json!({}),
    }
}

/// The schema with a single type.
fn with(schema: &Value, one: &Value) -> Value {
    let mut schema = schema.clone();
    schema["type"] = one.clone();
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;

    #[derive(Serialize, JsonSchema)]
    struct Inner {
        x: u32,
    }

    #[derive(Serialize, JsonSchema)]
    struct Flat {
        always: String,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        sometimes: Vec<String>,
    }

    #[derive(Serialize, JsonSchema)]
    struct One {
        /// It has words that nobody pays for.
        text: &'static str,
        number: Option<f64>,
        inner: Option<Inner>,
        list: Vec<Inner>,
        #[serde(flatten)]
        there: Flat,
        #[serde(flatten)]
        perhaps: Option<Inner>,
        #[serde(rename = "use")]
        used: bool,
        whatever: Option<Value>,
    }

    #[derive(Serialize, JsonSchema)]
    struct Other {
        text: String,
        number: f64,
        used: u64,
    }

    #[test]
    fn what_is_always_there_is_required_and_what_may_be_null_says_so() {
        let expected = json!({
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "number": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                "inner": {"anyOf": [{"type": "object"}, {"type": "null"}]},
                "list": {"type": "array", "items": {"type": "object"}},
                "always": {"type": "string"},
                "sometimes": {"type": "array", "items": {"type": "string"}},
                "x": {"type": "integer"},
                "use": {"type": "boolean"},
                "whatever": {}
            },
            "required": ["text", "number", "inner", "list", "always", "use", "whatever"]
        });
        assert_eq!(Value::Object(of(&[Shape::of::<One>()])), expected);
    }

    #[test]
    fn of_several_types_only_what_all_have_is_required() {
        let schema = Value::Object(of(&[Shape::of::<One>(), Shape::of::<Other>()]));
        assert_eq!(schema["required"], json!(["text", "number"]));
        assert_eq!(schema["properties"]["used"], json!({"type": "integer"}));
        assert_eq!(schema["properties"]["number"], json!({"anyOf": [{"type": "number"}, {"type": "null"}]}));
        let schema = Value::Object(of(&[Shape::of::<Other>(), Shape::of::<One>()]));
        let number = json!({"anyOf": [{"type": "number"}, {"anyOf": [{"type": "number"}, {"type": "null"}]}]});
        assert_eq!(schema["properties"]["number"], number);
    }

    #[test]
    fn what_is_left_out_is_neither_declared_nor_required() {
        let schema = Value::Object(of(&[Shape::of::<Other>().without(&["number"])]));
        let expected = json!({
            "type": "object",
            "properties": {"text": {"type": "string"}, "used": {"type": "integer"}},
            "required": ["text", "used"]
        });
        assert_eq!(schema, expected);
    }
}
