//! The methods of this server, and the required shape of their parameters.
//!
//! Unlisted members are accepted, because later versions of the protocol add some. An unlisted method does not exist,
//! even if rmcp knows it.

use rmcp::ErrorData;
use rmcp::model::{
    ClientRequest, ConstString, DiscoverRequestParams, ErrorCode, Extensions, GetMeta, PaginatedRequestParams,
    PingRequest, Request, RequestMetaObject, RequestOptionalParam,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::answer::shown::{cut, kind_of, shown};

/// The required shape of a member of `params`.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Text,
    /// An object with these members, and possibly others.
    Object(&'static [Member]),
    /// An object whose values are text.
    Texts,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    name: &'static str,
    shape: Shape,
    is_needed: bool,
}

const fn needed(name: &'static str, shape: Shape) -> Member {
    Member { name, shape, is_needed: true }
}

const fn optional(name: &'static str, shape: Shape) -> Member {
    Member { name, shape, is_needed: false }
}

const INITIALIZE: &[Member] = &[
    needed("protocolVersion", Shape::Text),
    needed("capabilities", Shape::Object(&[])),
    needed("clientInfo", Shape::Object(&[needed("name", Shape::Text), needed("version", Shape::Text)])),
];
const CALL: &[Member] = &[needed("name", Shape::Text), optional("arguments", Shape::Object(&[]))];
const URI: &[Member] = &[needed("uri", Shape::Text)];
const PAGE: &[Member] = &[optional("cursor", Shape::Text)];
const COMPLETE: &[Member] = &[
    needed("ref", Shape::Object(&[needed("type", Shape::Text)])),
    needed("argument", Shape::Object(&[needed("name", Shape::Text), needed("value", Shape::Text)])),
    optional("context", Shape::Object(&[optional("arguments", Shape::Texts)])),
];
const LISTEN: &[Member] = &[needed("notifications", Shape::Object(&[]))];
const NOTHING: &[Member] = &[];

/// Parses a request from its method and parameters, or returns the error to answer with.
pub(super) fn request(method: &str, params: Option<Value>) -> Result<ClientRequest, ErrorData> {
    let members = match method {
        "initialize" => INITIALIZE,
        "ping" | "server/discover" => NOTHING,
        "tools/call" | "prompts/get" => CALL,
        "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" => PAGE,
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => URI,
        "completion/complete" => COMPLETE,
        "subscriptions/listen" => LISTEN,
        _ => {
            let problem = format!("there is no method `{}`", cut(method));
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, problem, None));
        }
    };
    let mut params = match params {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(params)) => params,
        Some(other) => return Err(wrong("params", &other, "an object")),
    };
    let meta = match params.remove("_meta") {
        None | Some(Value::Null) => None,
        Some(Value::Object(meta)) => Some(meta),
        Some(other) => return Err(wrong("_meta", &other, "an object")),
    };
    check("", members, &params)?;
    let mut request = typed(method, params)?;
    if let Some(meta) = meta {
        *request.get_meta_mut() = RequestMetaObject::from(meta);
    }
    Ok(request)
}

fn typed(method: &str, params: Map<String, Value>) -> Result<ClientRequest, ErrorData> {
    fn of<M: Default, P: DeserializeOwned>(params: Map<String, Value>) -> Result<Request<M, P>, serde_json::Error> {
        serde_json::from_value(Value::Object(params)).map(Request::new)
    }
    fn page<M: ConstString>(
        params: Map<String, Value>,
    ) -> Result<RequestOptionalParam<M, PaginatedRequestParams>, serde_json::Error> {
        serde_json::from_value(Value::Object(params)).map(RequestOptionalParam::with_param)
    }
    let read = match method {
        "initialize" => of(params).map(ClientRequest::InitializeRequest),
        "ping" => {
            Ok(ClientRequest::PingRequest(PingRequest { method: Default::default(), extensions: Extensions::new() }))
        }
        "server/discover" => Ok(ClientRequest::DiscoverRequest(Request::new(DiscoverRequestParams {}))),
        "tools/call" => of(params).map(ClientRequest::CallToolRequest),
        "tools/list" => page(params).map(ClientRequest::ListToolsRequest),
        "prompts/get" => of(params).map(ClientRequest::GetPromptRequest),
        "prompts/list" => page(params).map(ClientRequest::ListPromptsRequest),
        "resources/list" => page(params).map(ClientRequest::ListResourcesRequest),
        "resources/templates/list" => page(params).map(ClientRequest::ListResourceTemplatesRequest),
        "resources/read" => of(params).map(ClientRequest::ReadResourceRequest),
        "resources/subscribe" => of(params).map(ClientRequest::SubscribeRequest),
        "resources/unsubscribe" => of(params).map(ClientRequest::UnsubscribeRequest),
        "completion/complete" => of(params).map(ClientRequest::CompleteRequest),
        "subscriptions/listen" => of(params).map(ClientRequest::SubscriptionsListenRequest),
        other => unreachable!("{other} has members that were checked, and no type"),
    };
    // Requirements beyond the tables, such as the members of each type of `ref`.
    read.map_err(|error| {
        ErrorData::invalid_params(format!("the parameters of {method} are wrong: {}", cut(&error.to_string())), None)
    })
}

fn wrong(name: &str, value: &Value, expected: &str) -> ErrorData {
    let seen = if name == "params" { kind_of(value).to_owned() } else { shown(value) };
    ErrorData::invalid_params(format!("`{name}` is {seen}, not {expected}"), None)
}

/// `within` is the name of the enclosing object, with a trailing dot.
fn check(within: &str, members: &[Member], given: &Map<String, Value>) -> Result<(), ErrorData> {
    for member in members {
        let name = format!("{within}{}", member.name);
        match given.get(member.name) {
            None if member.is_needed => return Err(ErrorData::invalid_params(format!("`{name}` is missing"), None)),
            None => {}
            Some(Value::Null) if !member.is_needed => {}
            Some(value) => member.shape.check(&name, value)?,
        }
    }
    Ok(())
}

impl Shape {
    fn check(self, name: &str, value: &Value) -> Result<(), ErrorData> {
        match (self, value) {
            (Shape::Text, Value::String(_)) => Ok(()),
            (Shape::Text, _) => Err(wrong(name, value, "text")),
            (Shape::Object(members), Value::Object(given)) => check(&format!("{name}."), members, given),
            (Shape::Texts, Value::Object(given)) => match given.iter().find(|(_, value)| !value.is_string()) {
                Some((member, value)) => Err(wrong(&format!("{name}.{}", cut(member)), value, "text")),
                None => Ok(()),
            },
            (Shape::Object(_) | Shape::Texts, _) => Err(wrong(name, value, "an object")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_parameter_that_is_wrong_is_named() {
        let cases = [
            ("tools/list", json!([1]), "`params` is a list, not an object"),
            ("tools/list", json!("x"), "`params` is text, not an object"),
            ("ping", json!(7), "`params` is a number, not an object"),
            ("ping", json!({"_meta": 7}), "`_meta` is 7, not an object"),
            ("tools/list", json!({"cursor": 7}), "`cursor` is 7, not text"),
            ("tools/call", json!({}), "`name` is missing"),
            ("tools/call", json!(null), "`name` is missing"),
            ("tools/call", json!({"name": null}), "`name` is null, not text"),
            ("tools/call", json!({"name": "x", "arguments": []}), "`arguments` is a list, not an object"),
            ("tools/call", json!({"name": "x", "arguments": "{}"}), "`arguments` is \"{}\", not an object"),
            ("prompts/get", json!({"name": ["x"]}), "`name` is a list, not text"),
            ("resources/read", json!({}), "`uri` is missing"),
            ("resources/subscribe", json!({"uri": 1}), "`uri` is 1, not text"),
            ("resources/unsubscribe", json!({"uri": {}}), "`uri` is an object, not text"),
            ("completion/complete", json!({"ref": "x"}), "`ref` is \"x\", not an object"),
            ("completion/complete", json!({"ref": {}}), "`ref.type` is missing"),
            ("completion/complete", json!({"ref": {"type": "ref/prompt"}}), "`argument` is missing"),
            (
                "completion/complete",
                json!({"ref": {"type": "ref/prompt"}, "argument": {"name": "a", "value": 1}}),
                "`argument.value` is 1, not text",
            ),
            (
                "completion/complete",
                json!({"ref": {"type": "ref/prompt"}, "argument": {"name": "a", "value": ""}}),
                "missing field `name`",
            ),
            (
                "completion/complete",
                json!({"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "a", "value": ""},
                    "context": {"arguments": {"b": 1}}}),
                "`context.arguments.b` is 1, not text",
            ),
            ("subscriptions/listen", json!({}), "`notifications` is missing"),
            ("subscriptions/listen", json!({"notifications": {"resourceSubscriptions": 1}}), "wrong: invalid type"),
            ("initialize", json!({"capabilities": {}}), "`protocolVersion` is missing"),
            (
                "initialize",
                json!({"protocolVersion": "1", "capabilities": {}, "clientInfo": {"name": "x"}}),
                "`clientInfo.version` is missing",
            ),
        ];
        for (method, params, problem) in cases {
            let error = request(method, Some(params.clone())).expect_err("is wrong");
            assert_eq!(error.code, ErrorCode::INVALID_PARAMS, "{method} {params}");
            assert!(error.message.contains(problem), "{method} {params}: {}", error.message);
        }
        for method in ["tools/lst", "logging/setLevel", "tasks/get", "", "notifications/initialized"] {
            let error = request(method, Some(json!([1]))).expect_err("does not exist");
            assert_eq!(error.code, ErrorCode::METHOD_NOT_FOUND, "{method}");
        }
        let error = request(&"x".repeat(70_000), None).expect_err("does not exist");
        assert!(error.message.len() < 200, "{}", error.message);
    }

    #[test]
    fn a_request_of_each_method_is_read_with_its_metadata() {
        let cases = [
            (
                "initialize",
                json!({"protocolVersion": "2025-06-18", "capabilities": {"roots": {"listChanged": true}},
                "clientInfo": {"name": "x", "version": "1", "title": "X"}}),
            ),
            ("ping", json!({})),
            ("server/discover", json!({"more": 1})),
            ("tools/call", json!({"name": "x", "arguments": {"a": [1, {"b": null}]}, "task": {"ttl": 1}})),
            ("tools/call", json!({"name": "x", "arguments": null})),
            ("tools/list", json!({"cursor": "x"})),
            ("prompts/get", json!({"name": "x", "arguments": {"a": "b"}})),
            ("prompts/list", json!({"cursor": null})),
            ("resources/list", json!({})),
            ("resources/templates/list", json!({})),
            ("resources/read", json!({"uri": "x"})),
            ("resources/subscribe", json!({"uri": "x"})),
            ("resources/unsubscribe", json!({"uri": "x"})),
            (
                "completion/complete",
                json!({"ref": {"type": "ref/resource", "uri": "x"}, "argument": {"name": "a", "value": ""},
                "context": {"arguments": {"b": "c"}}}),
            ),
            ("subscriptions/listen", json!({"notifications": {"resourceSubscriptions": ["x"]}})),
        ];
        for (method, mut params) in cases {
            params["_meta"] = json!({"progressToken": 7});
            let read = request(method, Some(params)).unwrap_or_else(|error| panic!("{method}: {error:?}"));
            assert_eq!(read.method(), method);
            assert_eq!(read.get_meta().get("progressToken"), Some(&json!(7)), "{method}");
        }
        let read = request("tools/call", Some(json!({"name": "x", "arguments": {"a": 1}}))).expect("is right");
        assert!(matches!(&read, ClientRequest::CallToolRequest(call) if call.params.arguments.as_ref()
            .is_some_and(|arguments| arguments.get("a") == Some(&json!(1)))));
    }
}
