//! Short forms of untrusted values for messages.

use pyexec_proto::url_password::masked;
use serde_json::Value;

/// The value with passwords in URLs masked; for a list or an object, only its type.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) | Value::Array(_) => kind_of(value).to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => cut(&masked(&value.to_string())),
    }
}

pub(crate) fn cut(text: &str) -> String {
    const SHOWN: usize = 80;
    if text.chars().count() <= SHOWN { text.to_owned() } else { text.chars().take(SHOWN).chain(['…']).collect() }
}

pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_refused_is_shown_without_its_password() {
        let value = Value::from("six @ https://user:secret@host/six.whl");
        assert_eq!(shown(&value), "\"six @ https://user:****@host/six.whl\"");
    }
}
