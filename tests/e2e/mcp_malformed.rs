//! Messages that are wrong in every way: each is answered if somebody can be waiting for an answer, and harms nothing.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::mcp_session::{ERAS, Era, McpSession, structured_of};
use super::sandbox::Sandbox;
use super::seed::{number, seed};

#[test]
fn a_request_that_is_wrong_is_answered_with_its_id_and_the_right_code() {
    let sandbox = Sandbox::new();
    let nested = format!("{}1{}", "{\"a\":".repeat(126), "}".repeat(126));
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":"deep","method":"tools/call","params":{{"name":"py_list_jobs","arguments":{nested}}}}}"#
    );
    let request = |method: &str, params: Value| {
        json!({"jsonrpc": "2.0", "id": "x", "method": method, "params": params}).to_string().into_bytes()
    };
    let cases: Vec<(Vec<u8>, Value, i32)> = vec![
        (b"hello".into(), Value::Null, -32700),
        (b"{\"jsonrpc\":\"2.0\",\"method\":\"\xff\"}".into(), Value::Null, -32700),
        (deep.into(), "deep".into(), -32600),
        (b"42".into(), Value::Null, -32600),
        (b"{}".into(), Value::Null, -32600),
        (br#"{"jsonrpc":"2.0","id":77}"#.into(), 77.into(), -32600),
        (br#"{"jsonrpc":"2.0","id":5,"method":7}"#.into(), 5.into(), -32600),
        (br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.into(), Value::Null, -32600),
        (br#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#.into(), json!(1.5), -32600),
        (br#"{"jsonrpc":"2.0","id":10000000000000000000000,"method":"ping"}"#.into(), json!(1e22), -32600),
        (request("no/such", json!({})), "x".into(), -32601),
        (request("logging/setLevel", json!({"level": "info"})), "x".into(), -32601),
        (request("tools/list", json!([1])), "x".into(), -32602),
        (request("tools/call", json!({"arguments": {}})), "x".into(), -32602),
        (request("tools/call", json!({"name": "py_list_jobs", "arguments": []})), "x".into(), -32602),
        (request("completion/complete", json!({"ref": 1})), "x".into(), -32602),
        (request("initialize", json!({"protocolVersion": 1})), "x".into(), -32602),
    ];
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        // Before the first request that is right, and after it.
        for _ in 0..2 {
            for (line, id, code) in &cases {
                session.say(line);
                let answer = session.next();
                let shown = String::from_utf8_lossy(line);
                assert_eq!(
                    (answer.get("id"), &answer["error"]["code"]),
                    (Some(id), &(*code).into()),
                    "{shown}: {answer}"
                );
            }
            session.ask("tools/list", json!({}));
        }
        assert!(session.notifications.is_empty(), "{:?}", session.notifications);
    }
    // The parameter is named.
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    session.say(request("tools/call", json!({"name": "py_list_jobs", "arguments": []})));
    assert_eq!(session.next()["error"]["message"], "`arguments` is a list, not an object");
    // What a tool does not like is for the model to read.
    let refused = session.failure("py_list_jobs", json!({"limit": "many"}));
    assert!(refused.contains("`limit` is \"many\""), "{refused}");
}

/// JSON-RPC wants `id: null`; whoever sent the request waits for its own.
#[test]
fn what_is_no_json_is_answered_twice_when_its_id_can_be_seen() {
    let sandbox = Sandbox::new();
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        for line in [
            b"{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"ping\",\"params\":{\"x\":\"\xff\"}}".as_slice(),
            br#"{"jsonrpc":"2.0","method":"tools/call","params":{"x":"\ud83d"},"id":"x"}"#,
            b"{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"\0\"}",
            br#"{"jsonrpc":"2.0","id":"x","method":"ping""#,
        ] {
            session.say(line);
            for id in [Value::Null, "x".into()] {
                let answer = session.next();
                assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &(-32700).into()), "{answer}");
            }
        }
        session.ask("tools/list", json!({}));
    }
}

#[test]
fn what_nobody_waits_for_is_not_answered() {
    let sandbox = Sandbox::new();
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        for line in [
            "",
            " \t\r",
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":9}}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":[]}"#,
            r#"{"jsonrpc":"2.0","method":"no/such","params":7}"#,
            r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"py_list_jobs"}}"#,
            r#"{"jsonrpc":"2.0","id":9,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}"#,
        ] {
            session.say(line);
        }
        let id = session.request("tools/list", json!({}));
        let answer = session.next();
        assert_eq!(answer["id"], id, "{answer}");
    }
}

#[test]
fn a_line_beyond_the_largest_is_answered_with_the_id_in_it() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let long = format!(
        r#"{{"jsonrpc":"2.0","method":"tools/call","params":{{"name":"x","arguments":{{"a":"{}"}}}},"id":"long"}}"#,
        "x".repeat(128 << 20)
    );
    session.say(long);
    let answer = session.next();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&"long".into(), &(-32600).into()), "{answer}");
    session.ask("tools/list", json!({}));
}

#[test]
fn the_last_line_needs_no_end() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(super::mcp_session::PYEXEC_MCP);
    let request = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    command.stdin(std::fs::File::open(sandbox.write("request", request)).expect("is there"));
    let answered = command.output().expect("can be started");
    assert_eq!(String::from_utf8_lossy(&answered.stdout), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n");
}

#[test]
fn an_id_that_is_in_use_is_refused_and_the_request_that_has_it_is_answered() {
    let sandbox = Sandbox::new();
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        let code = "input()";
        let id = session.start_with(code, json!({"open_stdin": true}));
        let wait = json!({"job_id": id, "wait_seconds": 45, "markdown_output": false});
        let first = session.begin("py_job_status", wait.clone());
        session.say(json!({"jsonrpc": "2.0", "id": first, "method": "tools/list"}).to_string());
        let refused = session.next();
        assert_eq!((&refused["id"], &refused["error"]["code"]), (&first.into(), &(-32600).into()), "{refused}");
        session.structured("py_send_input", json!({"job_id": id, "text": "\n"}));
        assert_eq!(structured_of(&session.answer(first)["result"])["job"]["status"], "completed");
        // One that was cancelled is free, and what it still comes to answers nobody.
        let id = session.start_with(code, json!({"open_stdin": true}));
        let wait = json!({"job_id": id, "wait_seconds": 45, "markdown_output": false});
        let cancelled = session.begin("py_job_status", wait);
        session.notify("notifications/cancelled", json!({"requestId": cancelled}));
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {}
        });
        let params = if era == Era::Stateless { json!({"_meta": meta}) } else { json!({}) };
        let again = json!({"jsonrpc": "2.0", "id": cancelled, "method": "tools/list", "params": params});
        session.say(again.to_string());
        assert!(session.answer(cancelled)["result"]["tools"].is_array());
        session.structured("py_kill_job", json!({"job_id": id}));
        sandbox.finished(&id);
    }
}

#[test]
fn a_subscription_has_the_id_that_the_client_gave_it() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    // Ids of the client's and numbers of ours must not be the same by chance.
    for _ in 0..3 {
        session.ask("tools/list", json!({}));
        session.say("{}");
        session.next();
    }
    let id = session.start_with("input()", json!({"open_stdin": true}));
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}
    });
    let params = json!({"notifications": {"resourceSubscriptions": [format!("job-stream://{id}")]}, "_meta": meta});
    let listen = json!({"jsonrpc": "2.0", "id": "mine", "method": "subscriptions/listen", "params": params});
    session.say(listen.to_string());
    let name = "io.modelcontextprotocol/subscriptionId";
    let told = session.notification("notifications/subscriptions/acknowledged");
    assert_eq!(told["params"]["_meta"][name], "mine", "{told}");
    session.structured("py_send_input", json!({"job_id": id, "text": "\n"}));
    let told = session.notification("notifications/resources/updated");
    assert_eq!(told["params"]["_meta"][name], "mine", "{told}");
    sandbox.finished(&id);
}

#[test]
fn a_batch_is_answered_with_an_array_where_the_protocol_has_batches() {
    let sandbox = Sandbox::new();
    let ping = |id: &str| json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
    let notification = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    for version in ["2024-11-05", "2025-03-26"] {
        let mut session = McpSession::open(&sandbox, Era::Handshake(version));
        let handshake =
            json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "0"}});
        let initialize = json!({"jsonrpc": "2.0", "id": "d", "method": "initialize", "params": handshake});
        let unknown = json!({"jsonrpc": "2.0", "id": "c", "method": "no/such"});
        let call = json!({"jsonrpc": "2.0", "id": "e", "method": "tools/call", "params": {"name": "py_list_jobs"}});
        let members = [ping("a"), notification.clone(), unknown, 7.into(), initialize, call, ping("a"), ping("b")];
        session.say(Value::from(members.to_vec()).to_string());
        let answer = session.next();
        let answers = answer.as_array().unwrap_or_else(|| panic!("{version}: no array: {answer}"));
        let mut told: Vec<(&str, i64)> = answers
            .iter()
            .map(|answer| (answer["id"].as_str().unwrap_or(""), answer["error"]["code"].as_i64().unwrap_or(0)))
            .collect();
        told.sort_unstable();
        // Whether the first `a` is answered before the second is read is not said.
        let twice = told.iter().find(|(id, _)| *id == "a").copied().expect("is answered");
        assert!([-32600, 0].contains(&twice.1), "{told:?}");
        told.retain(|(id, _)| *id != "a");
        assert_eq!(told, [("", -32600), ("b", 0), ("c", -32601), ("d", -32600), ("e", 0)], "{version}: {answer}");
        // Nobody waits for an answer to this one.
        session.say(json!([notification.clone(), notification.clone()]).to_string());
        session.say("[]");
        let answer = session.next();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &(-32600).into()), "{answer}");
        // A request of it that is cancelled is left out.
        let id = session.start_with("input()", json!({"open_stdin": true}));
        let wait = json!({"name": "py_job_status", "arguments": {"job_id": id, "wait_seconds": 45}});
        let slow = json!({"jsonrpc": "2.0", "id": "slow", "method": "tools/call", "params": wait});
        session.say(json!([slow, ping("quick")]).to_string());
        session.notify("notifications/cancelled", json!({"requestId": "slow"}));
        let answer = session.next();
        assert_eq!(answer, json!([{"jsonrpc": "2.0", "id": "quick", "result": {}}]), "{version}");
        session.structured("py_kill_job", json!({"job_id": id}));
        sandbox.finished(&id);
    }
    for era in [Era::Stateless, Era::Handshake("2025-06-18"), Era::Handshake("2025-11-25")] {
        let mut session = McpSession::open(&sandbox, era);
        session.say(json!([ping("a"), ping("b")]).to_string());
        let answer = session.next();
        assert_eq!((answer.get("id"), &answer["error"]["code"]), (Some(&Value::Null), &(-32600).into()), "{answer}");
        // Whoever has sent it waits for these.
        for id in ["a", "b"] {
            let answer = session.next();
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&id.into(), &(-32600).into()), "{answer}");
        }
        session.ask("tools/list", json!({}));
    }
}

/// How many messages follow each other before the answers are looked at.
const WINDOW: usize = 40;

#[test]
fn after_each_of_ten_thousand_malformed_messages_the_next_request_is_answered() {
    let sandbox = Sandbox::new();
    let mut random = fastrand::Rng::with_seed(seed());
    let wanted = number("PYEXEC_TEST_MESSAGES").map_or(10_000, |count| usize::try_from(count).expect("is small"));
    let mut session = McpSession::open(&sandbox, Era::Handshake("2025-06-18"));
    let resident = |session: &McpSession<'_>| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", session.pid())).expect("it is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("is a number")
    };
    let (mut sent, mut before) = (0, None);
    while sent < wanted {
        // Once every kind of message has been seen, memory has the size that it stays at.
        if before.is_none() && sent >= wanted / 5 {
            before = Some(resident(&session));
        }
        let mut awaited: HashMap<String, Vec<Answer>> = HashMap::new();
        let mut lines = Vec::new();
        for number in sent..sent + WINDOW {
            let line = malformed(&mut random, number);
            for (id, answer) in expected(&line).into_iter().filter(|(id, _)| is_told_apart(id)) {
                awaited.entry(id).or_default().push(answer);
            }
            let ping = format!("\"ping-{number}\"");
            lines.extend([line, format!(r#"{{"jsonrpc":"2.0","id":{ping},"method":"ping"}}"#).into_bytes()]);
            awaited.insert(ping, vec![Answer::Result]);
        }
        sent += WINDOW;
        for line in &lines {
            session.say(line);
        }
        let mut left: usize = awaited.values().map(Vec::len).sum();
        while left > 0 {
            let message = session.next();
            let id = message["id"].to_string();
            let answer = match message.get("error") {
                None => Answer::Result,
                Some(error) => Answer::Error(error["code"].as_i64().expect("is a number")),
            };
            if !is_told_apart(&id) {
                continue;
            }
            // Of what is no JSON, more may be visible than this test sees.
            if !awaited.contains_key(&id) && answer == Answer::Error(-32700) {
                continue;
            }
            let open = awaited.get_mut(&id);
            let at = open.as_ref().and_then(|open| open.iter().position(|expected| expected.is(answer)));
            match (open, at) {
                (Some(open), Some(at)) => drop(open.remove(at)),
                (open, _) => {
                    let lines: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
                    panic!("{message}, where {open:?} was expected, to one of {lines:#?}");
                }
            }
            left -= 1;
        }
    }
    let (before, after) = (before.expect("was looked at"), resident(&session));
    assert!(after < before + 4096, "{before} KiB after {} messages, {after} KiB after {wanted}", wanted / 5);
    assert!(session.close().success());
}

/// Whether an `id` is of one message alone. Others, such as an empty text, come with several at the same time, and which of
/// them are answered with it depends on which of them are under way.
fn is_told_apart(id: &str) -> bool {
    let text = id.trim_matches('"');
    let is_own = text.split_once('-').is_some_and(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    id == "null" || (id.starts_with('"') && is_own)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Result,
    Error(i64),
    /// Of a request that may be right.
    Any,
}

impl Answer {
    fn is(self, other: Answer) -> bool {
        self == Answer::Any || self == other
    }
}

/// The answers that a line must get, by JSON-RPC's rules: their ids as JSON text, and what they are.
fn expected(line: &[u8]) -> Vec<(String, Answer)> {
    const INVALID: Answer = Answer::Error(-32600);
    let line = line.trim_ascii();
    if line.is_empty() {
        return vec![];
    }
    let nobody = |answer| vec![("null".to_owned(), answer)];
    let message = match serde_json::from_slice::<Value>(line) {
        Ok(message) => message,
        Err(error) => {
            let seen = line.strip_prefix(br#"{"id":"#).and_then(|rest| {
                let end = rest.iter().position(|byte| *byte == b',')?;
                let id = serde_json::from_slice::<Value>(&rest[..end]).ok().filter(Value::is_string)?;
                Some(id.to_string())
            });
            if error.to_string().contains("recursion limit") {
                return vec![(seen.unwrap_or("null".to_owned()), INVALID)];
            }
            let parse = Answer::Error(-32700);
            return nobody(parse).into_iter().chain(seen.map(|id| (id, parse))).collect();
        }
    };
    let refused_with_its_id = |member: &Value| {
        let answers = expected_to(member).into_iter().filter(|(id, _)| id != "null");
        answers.map(|(id, _)| (id, INVALID)).collect::<Vec<_>>()
    };
    // This version has no batches: each request in one is refused, and the whole.
    if let Some(members) = message.as_array() {
        return nobody(INVALID).into_iter().chain(members.iter().flat_map(refused_with_its_id)).collect();
    }
    expected_to(&message)
}

/// The same of what is JSON, and no batch.
fn expected_to(message: &Value) -> Vec<(String, Answer)> {
    const INVALID: Answer = Answer::Error(-32600);
    let nobody = |answer| vec![("null".to_owned(), answer)];
    let Some(members) = message.as_object() else { return nobody(INVALID) };
    let is_answer = members.contains_key("result") || members.contains_key("error");
    let id = match (members.get("id"), members.get("method")) {
        (_, None) if is_answer => return vec![],
        (None, Some(Value::String(_))) => return vec![],
        (None, _) => return nobody(INVALID),
        (Some(id), _) => id,
    };
    let is_whole =
        id.as_i64().is_some() || id.as_f64().is_some_and(|number| number.fract() == 0.0 && number.abs() < 9e15);
    let id = match id {
        Value::String(_) => id.to_string(),
        Value::Number(_) if is_whole => (id.as_f64().expect("is a number") as i64).to_string(),
        Value::Number(_) => return vec![(id.to_string(), INVALID)],
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return nobody(INVALID),
    };
    let answer = match members.get("method") {
        _ if is_answer || members.get("jsonrpc") != Some(&"2.0".into()) => INVALID,
        Some(Value::String(method)) if !METHODS.contains(&method.as_str()) => Answer::Error(-32601),
        Some(Value::String(_))
            if members.get("params").is_some_and(|params| !params.is_object() && !params.is_null()) =>
        {
            Answer::Error(-32602)
        }
        Some(Value::String(_)) => Answer::Any,
        _ => INVALID,
    };
    vec![(id, answer)]
}

const METHODS: [&str; 14] = [
    "initialize",
    "ping",
    "server/discover",
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "completion/complete",
    "subscriptions/listen",
];

/// A line that is wrong in one way or several, or by chance not at all. None of them starts a job or a daemon.
fn malformed(random: &mut fastrand::Rng, number: usize) -> Vec<u8> {
    // Twice, so that one that is damaged is not another's.
    let id = format!("{number:05}-{number:05}");
    let requests = [
        ("ping", json!({})),
        ("tools/list", json!({"cursor": "x"})),
        ("tools/call", json!({"name": "py_job_status", "arguments": {"wait_seconds": "7", "limits": {"nice": [1]}}})),
        ("prompts/list", json!({})),
        ("prompts/get", json!({"name": "write_script", "arguments": {"task": "x"}})),
        ("resources/templates/list", json!({"_meta": {"progressToken": 1}})),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "x", "value": ""}}),
        ),
        ("no/such", json!({"x": [1, 2, {"y": null}]})),
    ];
    let (method, params) = requests[random.usize(..requests.len())].clone();
    let mut message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    let text = message.to_string();
    let of_id = |rest: &[u8]| [format!("{{\"id\":\"{id}\",").as_bytes(), rest].concat();
    let strange: [&[u8]; 6] = [b"\xff", b"\xc3", b"\\ud800", b"\0", b"\x1f", b"\\x"];
    match random.u8(..9) {
        0 => (0..random.usize(1..200)).map(|_| printable(random.u8(..))).collect(),
        1 => text.as_bytes()[..random.usize(1..text.len())].to_vec(),
        2 => {
            let mut bytes = text.into_bytes();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = printable(random.u8(..));
            }
            bytes
        }
        3 => {
            let levels = random.usize(126..3000);
            let (open, close) = *random.choice(&[("[", "]"), ("{\"a\":", "}")]).expect("there are some");
            let nested = format!("{}1{}", open.repeat(levels), close.repeat(levels));
            of_id(
                format!(r#""jsonrpc":"2.0","method":"tools/call","params":{{"name":"x","arguments":{nested}}}}}"#)
                    .as_bytes(),
            )
        }
        4 => {
            let strange = random.choice(strange).expect("there are some");
            of_id(&[br#""method":"ping","params":{"x":""#.as_slice(), strange, b"\"}}"].concat())
        }
        5 => {
            if random.bool() {
                [text.as_bytes(), b" x"].concat()
            } else {
                of_id(b"x")
            }
        }
        6 => Value::from((0..random.usize(..4)).map(|_| message.clone()).collect::<Vec<_>>()).to_string().into_bytes(),
        _ => {
            for _ in 0..random.usize(1..4) {
                mutate(&mut message, random);
            }
            message.to_string().into_bytes()
        }
    }
}

/// No line of its own.
fn printable(byte: u8) -> u8 {
    if byte == b'\n' { b'"' } else { byte }
}

/// Replaces or removes something in it.
fn mutate(value: &mut Value, random: &mut fastrand::Rng) {
    match value {
        Value::Object(members) if !members.is_empty() && random.u8(..8) > 0 => {
            let name = members.keys().nth(random.usize(..members.len())).expect("there is one").clone();
            match random.u8(..8) {
                0 => drop(members.remove(&name)),
                1 => drop(
                    members.insert(["result", "error", "id", "method"][random.usize(..4)].to_owned(), junk(random)),
                ),
                _ => mutate(members.get_mut(&name).expect("is there"), random),
            }
        }
        Value::Array(items) if !items.is_empty() && random.bool() => {
            let at = random.usize(..items.len());
            mutate(&mut items[at], random);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            *value = junk(random);
        }
    }
}

fn junk(random: &mut fastrand::Rng) -> Value {
    match random.u8(..12) {
        0 => Value::Null,
        1 => random.bool().into(),
        2 => json!(1.5),
        3 => json!(1e300),
        4 => u64::MAX.into(),
        5 => json!([]),
        6 => json!({"a": [1, {"b": null}]}),
        7 => "".into(),
        8 => "\u{0}\u{202e}\u{1f600}".into(),
        9 => "x".repeat(random.usize(..5000)).into(),
        10 => json!(-(random.u32(1..) as i64)),
        _ => json!([[[[{"x": "2.0"}]]]]),
    }
}
