//! The declaration of a tool's parameter, its schema, and the check of its value.

use rmcp::model::JsonObject;
use serde_json::{Map, Value, json};

use crate::answer::Failure;
use crate::answer::shown::{cut, kind_of, shown};

#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) about: &'static str,
    pub(crate) required: bool,
    pub(crate) default: Option<Value>,
    /// Without description, because another tool in the same list describes it.
    brief: bool,
    /// Empty text is a value, not an omitted parameter.
    pub(super) may_be_empty: bool,
}

/// The type of a parameter's values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Text,
    /// The path of a file or directory.
    Path,
    Flag,
    Whole {
        least: u64,
        most: u64,
    },
    Number {
        least: f64,
        most: f64,
    },
    Choice(&'static [&'static str]),
    Texts,
    /// An object whose values are text.
    Map,
    /// An object with these members.
    Object(&'static [(&'static str, Kind)]),
}

impl Parameter {
    pub(crate) const fn new(name: &'static str, kind: Kind, about: &'static str) -> Self {
        Self { name, kind, about, required: false, default: None, brief: false, may_be_empty: false }
    }

    pub(crate) fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(crate) fn default(mut self, value: impl Into<Value>) -> Self {
        self.default = Some(value.into());
        self
    }

    pub(crate) fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }

    pub(crate) fn may_be_empty(mut self) -> Self {
        self.may_be_empty = true;
        self
    }

    pub(crate) fn brief(mut self) -> Self {
        self.brief = true;
        self
    }

    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::Map | Kind::Object(_) if self.brief => json!({"type": "object"}),
            Kind::Map
            | Kind::Object(_)
            | Kind::Text
            | Kind::Path
            | Kind::Flag
            | Kind::Whole { .. }
            | Kind::Number { .. }
            | Kind::Choice(_)
            | Kind::Texts => self.kind.schema(),
        };
        let members = schema.as_object_mut().expect("a schema is an object");
        if !self.about.is_empty() && !self.brief {
            members.insert("description".to_owned(), self.about.into());
        }
        // Defaults of `false` and 0 need not be stated.
        if let Some(default) = self.default.as_ref().filter(|default| **default != false && **default != 0) {
            members.insert("default".to_owned(), default.clone());
        }
        schema
    }
}

impl Kind {
    fn schema(&self) -> Value {
        match self {
            Kind::Text | Kind::Path => json!({"type": "string"}),
            Kind::Flag => json!({"type": "boolean"}),
            // A violated bound is reported when it occurs; in the schema, bounds would cost more tokens than they help.
            Kind::Whole { .. } => json!({"type": "integer"}),
            Kind::Number { .. } => json!({"type": "number"}),
            Kind::Choice(words) => json!({"enum": words}),
            Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
            // Members are checked when they are given, like bounds.
            Kind::Map | Kind::Object(_) => json!({"type": "object"}),
        }
    }

    /// What values are, for people.
    pub(crate) fn expected(&self) -> String {
        match self {
            Kind::Text | Kind::Path => "text".to_owned(),
            Kind::Flag => "true or false".to_owned(),
            Kind::Whole { least, most } if *most == u64::MAX => format!("a whole number, {least} or more"),
            Kind::Whole { least, most } => format!("a whole number from {least} to {most}"),
            Kind::Number { least, most } if most.is_infinite() => format!("a number, {least} or more"),
            Kind::Number { least, most } => format!("a number from {least} to {most}"),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
            Kind::Texts => "a list of texts".to_owned(),
            Kind::Map => "an object of names and texts".to_owned(),
            Kind::Object(_) => "an object".to_owned(),
        }
    }

    /// Checks a value; `name` is the full name of the parameter.
    pub(super) fn check(&self, name: &str, value: &Value, required: bool) -> Result<(), Failure> {
        let wrong = || {
            let expected = self.expected();
            let otherwise = if required { String::new() } else { format!(", or leave `{name}` out") };
            // Variables may be secret, so the message only names the type.
            let seen = if *self == Kind::Map { kind_of(value).to_owned() } else { shown(value) };
            Err(Failure::argument(format!("`{name}` is {seen}, not {expected}"), format!("give {expected}{otherwise}")))
        };
        match self {
            Kind::Text | Kind::Path => {
                if value.is_string() {
                    Ok(())
                } else {
                    wrong()
                }
            }
            Kind::Flag => {
                if value.is_boolean() {
                    Ok(())
                } else {
                    wrong()
                }
            }
            Kind::Whole { least, most } => match value.as_f64() {
                Some(number) if number.fract() == 0.0 && number >= *least as f64 && number <= *most as f64 => Ok(()),
                _ => wrong(),
            },
            Kind::Number { least, most } => match value.as_f64() {
                Some(number) if number >= *least && number <= *most => Ok(()),
                _ => wrong(),
            },
            Kind::Choice(words) => match value.as_str() {
                Some(word) if words.contains(&word) => Ok(()),
                _ => wrong(),
            },
            Kind::Texts => match value.as_array() {
                Some(items) if items.iter().all(Value::is_string) => Ok(()),
                _ => wrong(),
            },
            Kind::Map => match value.as_object() {
                None => wrong(),
                Some(members) => {
                    // The value may be secret, so the message only names the type.
                    let odd = members.iter().find(|(_, value)| !value.is_string());
                    odd.map_or(Ok(()), |(member, value)| {
                        let problem = format!("the value of `{member}` in `{name}` is {}, not text", kind_of(value));
                        Err(Failure::argument(problem, "put it in quotes"))
                    })
                }
            },
            Kind::Object(members) => {
                let Some(given) = value.as_object() else { return wrong() };
                for (member, value) in given {
                    let names = || members.iter().map(|(known, _)| *known);
                    let known = members.iter().find(|(known, _)| known == member);
                    let Some((_, kind)) = known else {
                        return Err(unknown(&format!("{name}.{member}"), member, names()));
                    };
                    kind.check(&format!("{name}.{member}"), value, false)?;
                }
                Ok(())
            }
        }
    }
}

/// The JSON schema of a tool's arguments.
pub(crate) fn schema(parameters: &[Parameter]) -> JsonObject {
    let properties: Map<String, Value> =
        parameters.iter().map(|parameter| (parameter.name.to_owned(), parameter.schema())).collect();
    let required: Vec<&str> =
        parameters.iter().filter(|parameter| parameter.required).map(|parameter| parameter.name).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), properties.into());
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema
}

/// The failure for an unknown parameter `name`; `word` is compared with the known names for a suggestion.
pub(super) fn unknown<'a>(name: &str, word: &str, known: impl Iterator<Item = &'a str> + Clone) -> Failure {
    const ALIKE: f64 = 0.8;
    let alike = known
        .clone()
        .map(|known| (strsim::jaro_winkler(known, word), known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    let next = match alike {
        Some((_, alike)) => format!("did you mean `{alike}`?"),
        None => format!("known parameters are: {}", known.collect::<Vec<_>>().join(", ")),
    };
    Failure::argument(format!("there is no parameter `{}`", cut(name)), next)
}
