//! The protocol's stream: what comes early, late, long, broken or all at once.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::mcp_session::{ERAS, Era, McpSession, PYEXEC_MCP, structured_of, text_of};
use super::sandbox::{Sandbox, contains};

#[test]
fn every_version_back_to_2024_is_spoken_by_the_same_program() {
    let sandbox = Sandbox::new();
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut session = McpSession::open(&sandbox, Era::Handshake(version));
        let tools = session.ask("tools/list", json!({}));
        assert_eq!(tools["tools"][0]["name"], "py_run_script_in_dir", "{version}");
        assert!(tools.get("resultType").is_none(), "{version}: {tools}");
    }
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let discovered = session.ask("server/discover", json!({}));
    let versions = discovered["supportedVersions"].as_array().expect("is a list");
    assert!(versions.contains(&"2026-07-28".into()), "{discovered}");
    let tools = session.ask("tools/list", json!({}));
    assert_eq!(tools["resultType"], "complete");
    assert!(tools["ttlMs"].as_u64().is_some_and(|ttl| ttl > 0), "{tools}");
}

#[test]
fn lists_need_no_daemon() {
    let sandbox = Sandbox::new();
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        assert_eq!(session.ask("tools/list", json!({}))["tools"].as_array().map(Vec::len), Some(20));
        assert_eq!(session.ask("prompts/list", json!({}))["prompts"].as_array().map(Vec::len), Some(2));
        let templates = session.ask("resources/templates/list", json!({}));
        assert_eq!(templates["resourceTemplates"][0]["uriTemplate"], "job-stream://{job_id}");
    }
    assert!(sandbox.daemons().is_empty());
}

#[test]
fn a_list_in_the_core_is_short_and_other_tools_are_unknown_there() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open_with(&sandbox, Era::Stateless, &["--toolset", "core"], &[]);
    assert_eq!(session.ask("tools/list", json!({}))["tools"].as_array().map(Vec::len), Some(6));
    let id = session.begin("py_prune_jobs", json!({}));
    let answer = session.answer(id);
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    assert!(answer["error"]["message"].as_str().is_some_and(|message| message.contains("py_prune_jobs")), "{answer}");
}

#[test]
fn a_notification_before_the_first_request_is_no_reason_to_leave() {
    let sandbox = Sandbox::new();
    for era in ERAS {
        let mut command = sandbox.command(PYEXEC_MCP);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("can be started");
        let mut stdin = child.stdin.take().expect("is a pipe");
        let request = match era {
            Era::Stateless => json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {}
            }}}),
            Era::Handshake(version) => json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
                "protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "tests", "version": "0"}
            }}),
        };
        let early = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 9}});
        stdin.write_all(format!("{early}\n{request}\n").as_bytes()).expect("is read");
        drop(stdin);
        let mut said = String::new();
        child.stdout.take().expect("is a pipe").read_to_string(&mut said).expect("is text");
        assert!(child.wait().expect("can be reaped").success());
        let answer: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{era:?}: {said:?}"));
        assert!(answer["result"].is_object(), "{era:?}: {answer}");
    }
}

#[test]
fn the_end_of_stdin_is_the_end_of_the_server_and_of_no_job() {
    let sandbox = Sandbox::new();
    for era in ERAS {
        // Before anything was asked, after a request, and while calls and subscriptions are under way.
        assert!(sandbox.command(PYEXEC_MCP).status().expect("can be started").success());
        let mut session = McpSession::open(&sandbox, era);
        let gate = format!("gate-{}", session.pid());
        let code = format!("import os, time\nwhile not os.path.exists({gate:?}): time.sleep(0.01)\nprint('went on')");
        let id = session.start(&code);
        let arguments = session.script(&code);
        session.begin("py_run_script_in_dir", arguments);
        session.begin("py_job_status", json!({"job_id": id, "wait_seconds": 45}));
        session.begin("py_get_job_output", json!({"job_id": id, "wait_seconds": 45}));
        match era {
            Era::Stateless => {
                let uris = [format!("job-stream://{id}")];
                session.request("subscriptions/listen", json!({"notifications": {"resourceSubscriptions": uris}}));
            }
            Era::Handshake(_) => {
                session.ask("resources/subscribe", json!({"uri": format!("job-stream://{id}")}));
            }
        }
        sandbox.wait_until("both jobs run", || {
            let running = sandbox.pyexec(["jobs", "--status", "running", "--json"]).json();
            if running["total"] == 2 { Ok(()) } else { Err(running.to_string()) }
        });
        let pid = session.pid();
        let before = Instant::now();
        assert!(session.close().success());
        // The promise is 100 ms on a machine that has time; what is told apart here is rmcp's own five seconds.
        assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
        sandbox.wait_until_gone(pid);
        let running = sandbox.pyexec(["jobs", "--status", "running", "--json"]).json();
        assert_eq!(running["total"], 2, "the end of a session has ended a job: {running}");
        sandbox.write(&gate, "");
        assert_eq!(sandbox.finished(&id)["status"], "completed");
        sandbox.wait_until("the other one has ended too", || {
            let running = sandbox.pyexec(["jobs", "--status", "running", "--json"]).json();
            if running["total"] == 0 { Ok(()) } else { Err(running.to_string()) }
        });
    }
}

#[test]
fn a_request_that_was_sent_before_the_end_of_stdin_is_answered() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    // The daemon is dialled by now.
    session.markdown("py_list_jobs", json!({}));
    let id = session.begin("py_list_jobs", json!({}));
    session.end_input();
    assert_eq!(text_of(&session.answer(id)["result"]), "No jobs.");
}

#[test]
fn long_lines_come_through_both_ways() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    // More than rmcp takes by itself, and more than the kernel takes as an argument.
    let code = format!("text = {:?}\nprint(len(text))", "x".repeat(17 << 20));
    let answer = session.failure("py_run_script_in_dir", session.script(&code));
    assert!(answer.contains("16777216 bytes is the most"), "{answer}");
    let code = format!("text = {:?}\nprint(len(text))\nprint(text[:500_000])", "é".repeat(4 << 20));
    let mut arguments = session.script(&code);
    arguments["max_output_bytes"] = (1 << 20).into();
    let result = session.structured("py_run_script_in_dir", arguments);
    assert_eq!(result["stdout"], format!("{}\n{}\n", 4 << 20, "é".repeat(500_000)));
}

#[test]
fn sockets_do_as_well_as_pipes() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open_over_sockets(&sandbox, Era::Stateless);
    let arguments = session.script("print('over a socket')");
    assert!(session.markdown("py_run_script_in_dir", arguments).contains("over a socket"));
    assert!(session.close().success());
}

#[test]
fn files_do_as_well_as_pipes() {
    let sandbox = Sandbox::new();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}
    });
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
    let input = sandbox.write("requests", format!("{request}\n"));
    let output = sandbox.file("answers");
    let mut command = sandbox.command(PYEXEC_MCP);
    command.stdin(std::fs::File::open(input).expect("is there"));
    command.stdout(std::fs::File::create(&output).expect("can be made"));
    assert!(command.status().expect("can be started").success());
    let answers = std::fs::read_to_string(output).expect("is there");
    let answer: Value = serde_json::from_str(&answers).unwrap_or_else(|_| panic!("{answers:?}"));
    assert_eq!(answer["id"], 1);
}

#[test]
fn sixty_four_calls_are_under_way_at_once_and_the_quick_ones_overtake() {
    let sandbox = Sandbox::new();
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        let gate = format!("gate-{}", session.pid());
        let id = session.start(&format!("import os, time\nwhile not os.path.exists({gate:?}): time.sleep(0.01)"));
        let slow: Vec<u64> = (0..63)
            .map(|_| {
                session.begin("py_job_status", json!({"job_id": id, "wait_seconds": 45, "markdown_output": false}))
            })
            .collect();
        let quick = session.begin("py_list_jobs", json!({}));
        let all: Vec<u64> = slow.iter().copied().chain([quick]).collect();
        assert_eq!(session.first_answer(&all), quick, "a quick call waits for slow ones");
        session.answer(quick);
        sandbox.write(&gate, "");
        for call in slow {
            let status = structured_of(&session.answer(call)["result"]);
            assert_eq!(status["job"]["status"], "completed");
            assert_eq!(status["job"]["id"], id);
        }
    }
}

#[test]
fn a_client_that_does_not_read_holds_up_nothing_but_itself() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(PYEXEC_MCP);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("can be started");
    let mut stdin = child.stdin.take().expect("is a pipe");
    let request = |id: u32, tool: &str, arguments: Value| {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "progressToken": id
        });
        let params = json!({"name": tool, "arguments": arguments, "_meta": meta});
        format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}))
    };
    let work = sandbox.work();
    // Answers that are larger than a pipe, of which nobody reads any.
    let code = "print('x' * 1_000_000)";
    let big = json!({"directory": work, "script_content": code, "use_uv": false, "max_output_bytes": 1 << 20});
    stdin.write_all(request(1, "py_run_script_in_dir", big).as_bytes()).expect("is read");
    let writes = "open('done', 'w').write('done\\n')";
    let next = json!({"directory": work, "script_content": writes, "use_uv": false});
    stdin.write_all(request(2, "py_run_script_in_dir", next).as_bytes()).expect("is read");
    assert_eq!(sandbox.wait_for_file("done"), "done");
    // Read at last, it is all there.
    drop(stdin);
    let _ = child.kill();
    let _ = child.wait();
}

#[test]
fn nothing_but_the_protocol_reaches_stdout() {
    let sandbox = Sandbox::new();
    // A daemon that can not be started is complained of at length, on stderr and in the answer.
    let variables = [("PYEXEC_DAEMON", "/bin/echo")];
    let mut session = McpSession::open_with(&sandbox, Era::Stateless, &[], &variables);
    let failed = session.failure("py_list_jobs", json!({}));
    assert!(failed.contains("did not start") && failed.contains("pyexec doctor"), "{failed}");
    assert!(session.close().success());
}

#[test]
fn a_wrong_option_is_explained_on_stderr() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(PYEXEC_MCP);
    let ran = command.arg("--toolset").arg("most").output().expect("can be started");
    assert_eq!(ran.status.code(), Some(2));
    assert!(ran.stdout.is_empty());
    assert!(contains(&ran.stderr, "full, core"), "{}", String::from_utf8_lossy(&ran.stderr));
}
