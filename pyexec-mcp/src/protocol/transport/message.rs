//! Parses a line of stdin into a request, a notification, a batch, or a refusal.
//!
//! The functions are pure. Refusals here are JSON-RPC errors; tool arguments are checked elsewhere. rmcp's own parser
//! is not used, because it does not answer invalid JSON, loses the `id` of messages of the wrong shape, and takes a
//! known method with invalid parameters for an unknown one.

use rmcp::model::{
    CancelledNotification, CancelledNotificationParam, ClientNotification, ClientRequest, ErrorData,
    InitializedNotification, RequestId,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::lines::MAX_LINE_BYTES;
use super::methods;
use super::visible_id::visible_id;
use crate::answer::shown::{cut, kind_of, shown};

/// UTF-8's byte order mark, which some Windows programs write first. RFC 8259 permits ignoring it.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

#[derive(Debug)]
pub(super) enum Parsed {
    One(Message),
    /// The members of a nonempty array.
    Batch(Vec<Value>),
    /// Invalid JSON, or nested too deep. Usually one refusal, see [`unreadable`].
    Unreadable(Vec<Refusal>),
}

#[derive(Debug)]
pub(super) enum Message {
    Request(RequestId, Box<ClientRequest>),
    Notification(ClientNotification),
    /// A message without an answer or an effect: an empty line, an unknown notification, or an answer to no request of
    /// ours.
    Nothing,
    Refused(Refusal),
}

/// An error answer.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    /// The JSON text of the `id` as written; `None` if it could not be read.
    pub(super) id: Option<String>,
    pub(super) error: ErrorData,
}

impl Refusal {
    pub(super) fn of(id: &RequestId, error: ErrorData) -> Self {
        let id = serde_json::to_string(id).expect("a number or text can be written");
        Self { id: Some(id), error }
    }

    fn invalid(id: Option<String>, problem: impl Into<String>) -> Self {
        Self { id, error: ErrorData::invalid_request(problem.into(), None) }
    }

    pub(super) fn too_long(id: Option<String>) -> Self {
        Self::invalid(id, format!("the message has more than {MAX_LINE_BYTES} bytes: put long data into a file"))
    }

    pub(super) fn id_in_use(id: &RequestId) -> Self {
        let shown = cut(&id.to_string());
        let problem =
            format!("a request with the id {shown} is still being answered: give each request an id of its own");
        Self::of(id, ErrorData::invalid_request(problem, None))
    }

    /// The error for a whole array, or for an empty one.
    pub(super) fn batch(problem: &'static str) -> Self {
        Self::invalid(None, problem)
    }

    /// The line of the answer. JSON-RPC requires an `id`, which is `null` if unknown.
    pub(super) fn line(&self) -> Vec<u8> {
        let id = self.id.as_deref().unwrap_or("null");
        let error = serde_json::to_string(&self.error).expect("it has text for keys");
        format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}").into_bytes()
    }
}

pub(super) fn parse(line: &[u8]) -> Parsed {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii();
    if line.is_empty() {
        return Parsed::One(Message::Nothing);
    }
    match serde_json::from_slice(line) {
        Ok(Value::Array(members)) if members.is_empty() => {
            Parsed::One(Message::Refused(Refusal::batch("the batch is empty: put at least one message into it")))
        }
        Ok(Value::Array(members)) => Parsed::Batch(members),
        Ok(value) => Parsed::One(message(value, |_| visible_id(line))),
        Err(error) => Parsed::Unreadable(unreadable(line, &error)),
    }
}

/// Parses a member of a batch as if it were a message of its own.
pub(super) fn member(value: Value) -> Message {
    message(value, |id| Some(id.to_string()))
}

/// The answer to one member of a batch that is refused as a whole; `None` for a notification.
pub(super) fn refused_member(value: Value, problem: &'static str) -> Option<Refusal> {
    match member(value) {
        Message::Request(id, _) => Some(Refusal::of(&id, ErrorData::invalid_request(problem, None))),
        Message::Refused(Refusal { id: Some(id), .. }) => Some(Refusal::invalid(Some(id), problem)),
        Message::Refused(Refusal { id: None, .. }) | Message::Notification(_) | Message::Nothing => None,
    }
}

/// A line that is nested too deep is valid JSON, and its request is refused. Invalid JSON is answered with `id: null`,
/// as JSON-RPC requires; if an `id` can be found in it, its sender waits for an answer with that `id`, which is sent
/// too.
fn unreadable(line: &[u8], error: &serde_json::Error) -> Vec<Refusal> {
    let id = visible_id(line);
    let problem = error.to_string();
    if problem.starts_with("recursion limit exceeded") {
        return vec![Refusal::invalid(id, "the message is nested too deep: the limit is 127 levels")];
    }
    let hint = if problem.contains("surrogate") || problem.contains("hex escape") {
        "half of a surrogate pair is no character: leave it out"
    } else {
        "each message is JSON in UTF-8 on a line of its own"
    };
    let error = ErrorData::parse_error(format!("the message is not valid JSON: {problem}; {hint}"), None);
    let nobody = Refusal { id: None, error: error.clone() };
    let sender = id.map(|id| Refusal { id: Some(id), error });
    [nobody].into_iter().chain(sender).collect()
}

/// `as_written` returns the text of the `id` in the line, because the parsed number may have lost digits.
fn message(value: Value, as_written: impl FnOnce(&Value) -> Option<String>) -> Message {
    let Value::Object(mut members) = value else {
        let problem = format!("the message is {}, not an object", kind_of(&value));
        return Message::Refused(Refusal::invalid(None, problem));
    };
    let is_answer = members.contains_key("result") || members.contains_key("error");
    let params = members.remove("params");
    let id = match (members.remove("id"), members.get("method")) {
        (_, None) if is_answer => return Message::Nothing,
        // A notification has no answer, even if it is invalid.
        (None, Some(Value::String(method))) => return notification(method, params),
        (None, _) => {
            return Message::Refused(Refusal::invalid(
                None,
                "the message has neither a `method` that is text nor an `id`",
            ));
        }
        (Some(id), _) => match RequestId::deserialize(&id) {
            Ok(id) => id,
            Err(_) => {
                let written = if id.is_number() { as_written(&id) } else { None };
                let seen = cut(written.as_deref().unwrap_or(&shown(&id)));
                let problem = format!("`id` is {seen}: give text, or a whole number of no more than 64 bits");
                return Message::Refused(Refusal::invalid(written, problem));
            }
        },
    };
    match request(&members, params, is_answer) {
        Ok(request) => Message::Request(id, Box::new(request)),
        Err(error) => Message::Refused(Refusal::of(&id, error)),
    }
}

fn request(members: &Map<String, Value>, params: Option<Value>, is_answer: bool) -> Result<ClientRequest, ErrorData> {
    let invalid = |problem: String| Err(ErrorData::invalid_request(problem, None));
    if is_answer {
        return invalid("the message is a request and an answer: leave out `result` and `error`".to_owned());
    }
    let version = members.get("jsonrpc").unwrap_or(&Value::Null);
    if version != "2.0" {
        return invalid(format!("`jsonrpc` is {}, not \"2.0\"", shown(version)));
    }
    match members.get("method") {
        Some(Value::String(method)) => methods::request(method, params),
        Some(other) => invalid(format!("`method` is {}, not text", shown(other))),
        None => invalid("`method` is missing".to_owned()),
    }
}

/// This server handles two notifications.
fn notification(method: &str, params: Option<Value>) -> Message {
    match method {
        "notifications/initialized" => {
            Message::Notification(ClientNotification::InitializedNotification(InitializedNotification {
                method: Default::default(),
                extensions: Default::default(),
            }))
        }
        "notifications/cancelled" => {
            let read = |params| serde_json::from_value::<CancelledNotificationParam>(params).ok();
            match params.and_then(read) {
                Some(params) if params.request_id.is_some() => {
                    Message::Notification(ClientNotification::CancelledNotification(CancelledNotification::new(params)))
                }
                Some(_) | None => Message::Nothing,
            }
        }
        _ => Message::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The errors that a line is answered with, as their code and `id`; `None` when it is taken or passed over.
    fn refusals(line: &[u8]) -> Vec<(i32, Option<String>)> {
        let refusals = match parse(line) {
            Parsed::One(Message::Refused(refusal)) => vec![refusal],
            Parsed::Unreadable(refusals) => refusals,
            Parsed::One(Message::Request(..) | Message::Notification(_) | Message::Nothing) | Parsed::Batch(_) => {
                vec![]
            }
        };
        for refusal in &refusals {
            let written: Value = serde_json::from_slice(&refusal.line()).expect("an answer is JSON");
            assert_eq!(written["jsonrpc"], "2.0", "{written}");
            assert!(written.get("id").is_some(), "{written}");
            assert!(written["error"]["message"].as_str().is_some_and(|text| text.len() < 300), "{written}");
        }
        refusals.into_iter().map(|refusal| (refusal.error.code.0, refusal.id)).collect()
    }

    #[test]
    fn what_is_wrong_is_answered_with_its_code_and_the_id_that_can_be_seen() {
        let deep = |levels: usize| {
            let arguments = format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
            format!(
                r#"{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{"name":"x","arguments":{arguments}}}}}"#
            )
        };
        let (too_deep, much_too_deep, unclosed) = (deep(126), deep(100_000), "[".repeat(1_000_000));
        type Answers<'a> = &'a [(i32, Option<&'a str>)];
        let cases: [(&[u8], Answers<'_>); 27] = [
            (b"hello", &[(-32700, None)]),
            (b"\0\x01", &[(-32700, None)]),
            (b"{\"jsonrpc\":\"2.0\"", &[(-32700, None)]),
            (br#"{"id":5,"method":"ping""#, &[(-32700, None), (-32700, Some("5"))]),
            (
                b"{\"id\":\"a\",\"method\":\"ping\",\"params\":{\"x\":\"\xff\"}}",
                &[(-32700, None), (-32700, Some("\"a\""))],
            ),
            (br#"{"id":5,"method":"ping","params":{"x":"\ud800"}}"#, &[(-32700, None), (-32700, Some("5"))]),
            (b"{\"id\":5,\"method\":\"ping\",\"params\":{\"x\":\"\0\"}}", &[(-32700, None), (-32700, Some("5"))]),
            (too_deep.as_bytes(), &[(-32600, Some("5"))]),
            (much_too_deep.as_bytes(), &[(-32600, Some("5"))]),
            (unclosed.as_bytes(), &[(-32600, None)]),
            (b"42", &[(-32600, None)]),
            (b"null", &[(-32600, None)]),
            (b"\"text\"", &[(-32600, None)]),
            (b"[]", &[(-32600, None)]),
            (b"{}", &[(-32600, None)]),
            (br#"{"foo":"bar"}"#, &[(-32600, None)]),
            (br#"{"jsonrpc":"2.0","method":1,"params":"bar"}"#, &[(-32600, None)]),
            (br#"{"jsonrpc":"2.0","id":77}"#, &[(-32600, Some("77"))]),
            (br#"{"jsonrpc":"2.0","id":5,"method":7}"#, &[(-32600, Some("5"))]),
            (br#"{"jsonrpc":"1.0","id":5,"method":"ping"}"#, &[(-32600, Some("5"))]),
            (br#"{"id":5,"method":"ping"}"#, &[(-32600, Some("5"))]),
            (br#"{"jsonrpc":"2.0","id":5,"method":"ping","result":{}}"#, &[(-32600, Some("5"))]),
            (br#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, &[(-32600, Some("1.5"))]),
            (
                br#"{"jsonrpc":"2.0","id":10000000000000000000000,"method":"ping"}"#,
                &[(-32600, Some("10000000000000000000000"))],
            ),
            (br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, &[(-32600, None)]),
            (br#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#, &[(-32600, None)]),
            (br#"{"jsonrpc":"2.0","id":5,"method":"tools/lst"}"#, &[(-32601, Some("5"))]),
        ];
        for (line, expected) in cases {
            let expected: Vec<(i32, Option<String>)> =
                expected.iter().map(|(code, id)| (*code, id.map(str::to_owned))).collect();
            assert_eq!(refusals(line), expected, "{:.100}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn what_nobody_waits_for_is_never_answered() {
        for line in [
            "",
            " \t\r",
            "\u{feff}",
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":[1]}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":{}}}"#,
            r#"{"method":"tools/call","params":7}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"id":[],"error":7}"#,
        ] {
            assert!(matches!(parse(line.as_bytes()), Parsed::One(Message::Nothing)), "{line}");
        }
    }

    #[test]
    fn what_is_right_is_taken() {
        for (line, id) in [
            (json!({"jsonrpc": "2.0", "id": 5, "method": "ping"}), RequestId::Number(5)),
            (json!({"jsonrpc": "2.0", "id": 5.0, "method": "ping", "params": {}}), RequestId::Number(5)),
            (json!({"jsonrpc": "2.0", "id": "", "method": "ping", "params": null}), RequestId::String("".into())),
            (json!({"jsonrpc": "2.0", "id": -1, "method": "ping", "more": [1]}), RequestId::Number(-1)),
        ] {
            for line in [line.to_string(), format!("\u{feff} {line}\r")] {
                let parsed = parse(line.as_bytes());
                assert!(matches!(&parsed, Parsed::One(Message::Request(read, _)) if *read == id), "{line}: {parsed:?}");
            }
        }
        let batch = json!([{"jsonrpc": "2.0", "id": 1, "method": "ping"}, 7]).to_string();
        assert!(matches!(parse(batch.as_bytes()), Parsed::Batch(members) if members.len() == 2));
        let cancelled = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}});
        let parsed = parse(cancelled.to_string().as_bytes());
        assert!(matches!(parsed, Parsed::One(Message::Notification(ClientNotification::CancelledNotification(_)))));
    }
}
