//! Calls that are cancelled, watched and wrong, and output that is nasty.

use serde_json::{Value, json};

use super::mcp_session::{ERAS, Era, McpSession, structured_of, text_of};
use super::sandbox::Sandbox;

#[test]
fn cancelling_a_request_cancels_its_job() {
    let sandbox = Sandbox::new();
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        let label = format!("{era:?}");
        let mut arguments = session.script("import time\nprint('begun', flush=True)\ntime.sleep(1000)");
        arguments["job_label"] = label.clone().into();
        let call = session.begin("py_run_script_in_dir", arguments);
        let id = running(&sandbox, &label);
        session.notify("notifications/cancelled", json!({"requestId": call, "reason": "no more"}));
        let job = sandbox.finished(&id);
        assert_eq!((&job["status"], &job["reason"]), (&"cancelled".into(), &"cancelled".into()), "{job}");
        assert_eq!(sandbox.logs(&id), b"begun\n");
        // The session goes on, and a wait that is cancelled ends no job.
        let id = session.start("import time; time.sleep(1000)");
        let wait = session.begin("py_job_status", json!({"job_id": id, "wait_seconds": 45}));
        session.notify("notifications/cancelled", json!({"requestId": wait}));
        assert_eq!(session.structured("py_job_status", json!({"job_id": id}))["job"]["reason"], Value::Null);
        assert_eq!(session.structured("py_kill_job", json!({"job_id": id}))["status"], "killed");
    }
}

#[test]
fn whoever_gives_a_progress_token_is_told_while_waiting() {
    let sandbox = Sandbox::new();
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        let gate = format!("gate-{}", session.pid());
        let code = format!("import os, time\nprint('12345')\nwhile not os.path.exists({gate:?}): time.sleep(0.01)");
        let arguments = session.script(&code);
        let params = json!({
            "name": "py_run_script_in_dir", "arguments": arguments, "_meta": {"progressToken": "mine"}
        });
        let call = session.request("tools/call", params);
        let mut last = 0.0;
        for round in 0..3 {
            let told = session.notification("notifications/progress");
            assert_eq!(told["params"]["progressToken"], "mine");
            let progress = told["params"]["progress"].as_f64().expect("is a number");
            assert!(progress > last, "{progress} after {last}");
            last = progress;
            let message = told["params"]["message"].as_str().expect("is text");
            assert!(round < 2 || message.starts_with("running, 6 bytes on stdout"), "{message}");
        }
        // Who waits for a job by its id is told alike.
        let jobs = session.structured("py_list_running_jobs", json!({}));
        let id = &jobs["jobs"][0]["job_id"];
        let wait = |tool: &str, more: Value| {
            let mut arguments = json!({"job_id": id, "wait_seconds": 45});
            arguments.as_object_mut().expect("is one").extend(more.as_object().expect("is one").clone());
            json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": tool}})
        };
        let waits = [("py_job_status", json!({})), ("py_get_job_output", json!({"stdout_cursor": 6}))];
        let waits = waits.map(|(tool, more)| (tool, session.request("tools/call", wait(tool, more))));
        for (tool, _) in &waits {
            loop {
                let told = session.notification("notifications/progress");
                if told["params"]["progressToken"] == *tool {
                    break;
                }
            }
        }
        sandbox.write(&gate, "");
        assert!(text_of(&session.answer(call)["result"]).starts_with("**Completed**"));
        for (_, wait) in waits {
            assert_eq!(session.answer(wait)["result"]["isError"], false);
        }
    }
}

/// Passes over the last word about a job that there is not, which may come before or after.
fn wait_for_news(session: &mut McpSession, uri: &str) {
    loop {
        let told = session.notification("notifications/resources/updated")["params"]["uri"].clone();
        if told == uri {
            return;
        }
        assert_eq!(told, "job-stream://00000000-0000-4000-8000-000000000000");
    }
}

#[test]
fn subscribers_are_told_of_output_and_of_the_end() {
    let sandbox = Sandbox::new();
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        let code = "import sys\nfor line in sys.stdin: print('got', line, end='')";
        let id = session.start_with(code, json!({"open_stdin": true}));
        let silent = session.start_with(code, json!({"open_stdin": true, "stream": false}));
        let (uri, silent_uri) = (format!("job-stream://{id}"), format!("job-stream://{silent}"));
        match era {
            Era::Stateless => {
                let uris = [&uri, &silent_uri, &"job-stream://00000000-0000-4000-8000-000000000000".to_owned()];
                let filter = json!({"notifications": {"resourceSubscriptions": uris}});
                session.request("subscriptions/listen", filter);
                session.notification("notifications/subscriptions/acknowledged");
            }
            Era::Handshake(_) => {
                session.ask("resources/subscribe", json!({"uri": uri}));
                session.ask("resources/subscribe", json!({"uri": silent_uri}));
                let unknown = session.request("resources/subscribe", json!({"uri": "job-stream://ffffffff"}));
                assert_eq!(session.answer(unknown)["error"]["code"], -32002);
            }
        }
        session.structured("py_send_input", json!({"job_id": silent, "text": "quiet\n", "close": true}));
        session.structured("py_send_input", json!({"job_id": id, "text": "one\n"}));
        wait_for_news(&mut session, &uri);
        let read = session.ask("resources/read", json!({"uri": uri}));
        assert_eq!(read["contents"][0]["text"], "---STDOUT---\ngot one\n\n---STDERR---\n");
        session.structured("py_send_input", json!({"job_id": id, "text": "two\n", "close": true}));
        // Of the output, of the end, or of both at once.
        wait_for_news(&mut session, &uri);
        sandbox.finished(&id);
        sandbox.finished(&silent);
        let read = session.ask("resources/read", json!({"uri": uri}));
        assert_eq!(read["contents"][0]["text"], "---STDOUT---\ngot one\ngot two\n\n---STDERR---\n");
        let told = session.notifications.iter().filter(|told| told["params"]["uri"] == silent_uri).count();
        assert_eq!(told, 0, "somebody who wanted no notices got some");
        if let Era::Handshake(_) = era {
            session.ask("resources/unsubscribe", json!({"uri": uri}));
        }
        let missing = session.request("resources/read", json!({"uri": "job-stream://ffffffff"}));
        let code = if era == Era::Stateless { -32602 } else { -32002 };
        assert_eq!(session.answer(missing)["error"]["code"], code);
    }
}

#[test]
fn wrong_arguments_are_refused_with_cause_and_next_step() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let work = sandbox.work();
    let cases = [
        (
            "py_run_script_in_dir",
            json!({"directory": work, "script_content": "1", "script_path": "x.py"}),
            "both given",
            "one of them",
        ),
        ("py_run_script_in_dir", json!({"directory": work}), "neither script_path nor script_content", "one of them"),
        ("py_run_script_in_dir", json!({"directory": work, "script_path": ""}), "neither script_path", "one of them"),
        ("py_run_script_in_dir", json!({"script_content": "1"}), "`directory` is missing", "must exist"),
        (
            "py_run_script_in_dir",
            json!({"directory": "/no/such", "script_content": "1"}),
            "no such directory: /no/such",
            "create",
        ),
        (
            "py_run_script_in_dir",
            json!({"directory": work, "script_path": "gone.py", "use_uv": false}),
            "gone.py",
            "script_content",
        ),
        ("py_run_script_in_dir", json!({"directory": work, "script_content": 5}), "`script_content` is 5", "text"),
        (
            "py_run_script_in_dir",
            json!({"directory": work, "script_content": "1", "timeout_seconds": "long"}),
            "\"long\"",
            "number",
        ),
        (
            "py_run_script_in_dir",
            json!({"directory": work, "script_content": "1", "scriptpath": "x"}),
            "no parameter `scriptpath`",
            "script_path",
        ),
        (
            "py_run_script_in_dir",
            json!({"directory": work, "script_content": "1", "markdown_output": "no"}),
            "`markdown_output` is \"no\"",
            "true or false",
        ),
        (
            "py_run_script_in_dir",
            json!({"directory": work, "script_content": "1", "use_uv": false, "python_version": "3.12"}),
            "python_version",
            "use_uv",
        ),
        (
            "py_run_script_in_dir",
            json!({"directory": work, "script_content": "1", "python_version": "3"}),
            "`3`",
            "3.12",
        ),
        (
            "py_run_script_in_dir",
            json!({"directory": work, "script_content": "1", "env_file": "gone.env", "use_uv": false}),
            "gone.env",
            "env_file",
        ),
        (
            "py_run_script_in_dir",
            json!({"directory": work, "script_content": "1", "stdin": "a", "open_stdin": true}),
            "both given",
            "py_send_input",
        ),
        (
            "py_run_script_in_dir",
            json!({"directory": work, "script_content": "1", "limits": {"memory": 5}}),
            "limits.memory",
            "memory_mb",
        ),
        (
            "py_run_script_in_dir",
            json!({"directory": work, "script_content": "1\u{0}", "use_uv": false}),
            "NUL",
            "\\x00",
        ),
        (
            "py_run_script_with_dependencies",
            json!({"script_content": "1", "dependencies": "numpy"}),
            "`dependencies` is \"numpy\"",
            "list",
        ),
        (
            "py_run_script_with_dependencies",
            json!({"script_content": "1", "dependencies": ["a"], "environment": "e"}),
            "both given",
            "leave out",
        ),
        (
            "py_job_status",
            json!({"job_id": "ffffffff-ffff-4fff-8fff-ffffffffffff"}),
            "no job `ffffffff",
            "py_list_jobs",
        ),
        ("py_job_status", json!({"job_id": "../../etc/passwd"}), "no job `../../etc/passwd`", "py_list_jobs"),
        ("py_job_status", json!({"job_id": ""}), "no job", "py_list_jobs"),
        ("py_job_status", json!({}), "`job_id` is missing", "py_job_status requires it"),
        ("py_job_status", json!({"job_id": "abcd", "wait_seconds": 60}), "`wait_seconds` is 60", "0 to 45"),
        ("py_get_job_output", json!({"job_id": "ffff", "stdout_cursor": -1}), "`stdout_cursor` is -1", "0 or more"),
        ("py_cancel_job", json!({"job_id": "ffff"}), "no job", "py_list_jobs"),
        ("py_kill_job", json!({"job_id": "ffff"}), "no job", "py_list_jobs"),
        ("py_send_input", json!({"job_id": "ffff", "text": "x"}), "no job", "py_list_jobs"),
        ("py_list_jobs", json!({"status_filter": "done"}), "\"done\"", "pending, running"),
        ("py_list_jobs", json!({"page": "x"}), "page", "first page"),
        ("py_list_jobs", json!({"limit": 0}), "`limit` is 0", "1 to"),
        ("py_prune_jobs", json!({"max_age_hours": -1}), "-1", "0"),
    ];
    for (tool, arguments, cause, next) in cases {
        for markdown in [Value::Null, false.into()] {
            let mut arguments = arguments.clone();
            if arguments.get("markdown_output").is_none() {
                arguments["markdown_output"] = markdown;
            }
            let said = session.failure(tool, arguments.clone());
            let (problem, advice) = said.split_once("\n\n**Next:** ").unwrap_or_else(|| panic!("{arguments}: {said}"));
            assert!(problem.starts_with("**Error:** ") && problem.contains(cause), "{tool} {arguments}: {said}");
            assert!(advice.contains(next), "{tool} {arguments}: {said}");
        }
    }
    assert_eq!(session.structured("py_list_jobs", json!({}))["total"], 0, "something was run nevertheless");
}

#[test]
fn what_no_daemon_would_take_is_refused_and_disturbs_no_other_call() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let id = session.start_with("input()", json!({"open_stdin": true}));
    let wait = session.begin("py_job_status", json!({"job_id": id, "wait_seconds": 45, "markdown_output": false}));
    let pid = sandbox.daemon_pid();
    let said = session.failure("py_run_script_in_dir", session.script(&"#".repeat(33 << 20)));
    assert!(said.contains("larger than 32 MiB") && said.contains("**Next:** put long data into a file"), "{said}");
    assert_eq!(sandbox.daemon_pid(), pid);
    session.structured("py_send_input", json!({"job_id": id, "text": "x\n"}));
    assert_eq!(structured_of(&session.answer(wait)["result"])["job"]["status"], "completed");
}

#[test]
fn half_a_character_is_nothing_that_was_waited_for() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let code = "import os\nos.write(1, b'a\\xe2\\x82')\ninput()\nos.write(1, b'\\xac')\ninput()";
    let id = session.start_with(code, json!({"open_stdin": true}));
    let mut output = json!({"stdout_bytes": 0});
    while output["stdout_bytes"] != 3 {
        output = session.structured("py_get_job_output", json!({"job_id": id, "wait_seconds": 45}));
    }
    assert_eq!((&output["stdout"], &output["next_stdout_cursor"]), (&"a".into(), &1.into()), "{output}");
    assert_eq!(output["more"], false, "half a character can not be read: {output}");
    let read = json!({"job_id": id, "stdout_cursor": 1, "wait_seconds": 45, "markdown_output": false});
    let status =
        json!({"job_id": id, "cursor": "1.0", "until": "output", "wait_seconds": 45, "markdown_output": false});
    let (read, status) = (session.begin("py_get_job_output", read), session.begin("py_job_status", status));
    session.structured("py_send_input", json!({"job_id": id, "text": "\n"}));
    assert_eq!(structured_of(&session.answer(read)["result"])["stdout"], "€");
    assert_eq!(structured_of(&session.answer(status)["result"])["new_stdout"], "€");
    session.structured("py_kill_job", json!({"job_id": id}));
}

#[test]
fn a_job_whose_output_can_not_be_written_can_be_killed() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let id = session.start_with("input()\nwhile True: print('x' * 9999)", json!({"open_stdin": true}));
    sandbox.wait_until_running(&id);
    // As if the disk were full: there is no second file for it to go on in.
    std::fs::create_dir(sandbox.run_directory(&id).join("stdout.1")).expect("can be made");
    session.structured("py_send_input", json!({"job_id": id, "text": "\n"}));
    let mut job = json!({"message": null});
    while job["message"].is_null() {
        job = session.structured("py_job_status", json!({"job_id": id, "incremental": false}))["job"].clone();
    }
    assert!(job["message"].as_str().is_some_and(|why| why.contains("cannot be written")), "{job}");
    assert_eq!(session.structured("py_kill_job", json!({"job_id": id}))["status"], "killed");
    let job = sandbox.finished(&id);
    assert_eq!((&job["stdout_bytes"], &job["exit_code"]), (&(8 << 20).into(), &(-9).into()), "{job}");
}

#[test]
fn what_was_measured_is_in_the_result_and_says_which_runs_it_is_about() {
    let sandbox = Sandbox::new();
    sandbox
        .write("script.py", "import os, sys\nfirst = not os.path.exists('ran')\nopen('ran', 'w')\nsys.exit(not first)");
    let id = sandbox.detach(&["--bench", "--runs", "3", "script.py"]);
    sandbox.finished(&id);
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let job = session.structured("py_job_status", json!({"job_id": id}))["job"].clone();
    assert_eq!(
        (&job["result"]["benchmark"]["runs"], &job["result"]["benchmark"]["failed_runs"]),
        (&2.into(), &1.into())
    );
    assert_eq!(job.get("benchmark"), None, "once is enough: {job}");
    let said = session.markdown("py_job_status", json!({"job_id": id}));
    assert!(said.contains("\n\n1 of 3 runs; the next did not exit with 0 and is excluded:\n\n|"), "{said}");
}

#[test]
fn input_for_a_job_that_takes_none_is_refused() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let id = session.start("import time; time.sleep(1000)");
    sandbox.wait_until_running(&id);
    let said = session.failure("py_send_input", json!({"job_id": id, "text": "x"}));
    assert!(said.contains("not started with its stdin open") && said.contains("open_stdin=true"), "{said}");
    session.structured("py_kill_job", json!({"job_id": id}));
    let id = session.start_with("input()", json!({"open_stdin": true}));
    session.structured("py_send_input", json!({"job_id": id, "text": "x\n"}));
    sandbox.finished(&id);
    let said = session.failure("py_send_input", json!({"job_id": id, "text": "x"}));
    assert!(said.contains("it has finished"), "{said}");
}

#[test]
fn more_input_than_the_buffer_holds_is_taken_in_part() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let code = "import os, sys, time\nwhile not os.path.exists('gate'): time.sleep(0.01)\nprint(len(sys.stdin.read()))";
    let id = session.start_with(code, json!({"open_stdin": true}));
    let text = "é".repeat(2 << 20);
    let written = session.structured("py_send_input", json!({"job_id": id, "text": text, "close": true}));
    let bytes = written["bytes_written"].as_u64().expect("is a number");
    assert!(bytes > 0 && bytes < text.len() as u64 && written["closed"] == false, "{written}");
    sandbox.write("gate", "");
    // The rest of it, in as many calls as it takes.
    let mut at = usize::try_from(bytes).expect("fits");
    while at < text.len() {
        // Whole characters: what is left over from one is sent with the rest.
        assert!(text.is_char_boundary(at), "a character was cut at {at}");
        let written = session.structured("py_send_input", json!({"job_id": id, "text": &text[at..], "close": true}));
        at += usize::try_from(written["bytes_written"].as_u64().expect("is a number")).expect("fits");
    }
    sandbox.finished(&id);
    assert_eq!(sandbox.logs(&id), format!("{}\n", 2 << 20).into_bytes());
}

/// Output that breaks out of fences, terminals, encodings and bounds.
#[test]
fn whatever_is_printed_the_answer_is_valid_and_bounded() {
    let sandbox = Sandbox::new();
    let cases: [(&str, &str); 7] = [
        ("fences", "print('```\\n# out\\n``````\\n'); print('~~~')"),
        ("ansi", "print('\\x1b[31mred\\x1b[0m \\x1b]0;title\\x07 \\x1b[2J')"),
        ("nul", "import sys; sys.stdout.buffer.write(b'a\\0b\\x7f\\x1b\\n')"),
        ("invalid", "import sys; sys.stdout.buffer.write(bytes(range(256)) * 300)"),
        ("long lines", "for _ in range(5): print('x' * 1_000_000)"),
        ("surrogates", "import sys; sys.stdout.buffer.write('\\ud800'.encode('utf-8', 'surrogatepass') * 10_000)"),
        (
            "much",
            "import sys\nblock = b'0123456789abcde\\n' * 65536\nfor _ in range(100): sys.stdout.buffer.write(block)",
        ),
    ];
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    for (what, code) in cases {
        let arguments = session.script(code);
        let markdown = session.markdown("py_run_script_in_dir", arguments.clone());
        assert!(markdown.starts_with("**Completed** · exit code 0"), "{what}: {markdown:.200}");
        // One character of replacement has three bytes.
        assert!(markdown.len() < 3 * (16 << 10) + 1000, "{what}: {} bytes", markdown.len());
        assert!(!markdown.contains('\u{1b}') && !markdown.contains('\0'), "{what}: {markdown:?}");
        assert!(fences_are_closed(&markdown), "{what}: {markdown:.2000}");
        let result = session.structured("py_run_script_in_dir", arguments);
        let stdout = result["stdout"].as_str().expect("is text");
        assert!(stdout.len() < 3 * (16 << 10) + 1000, "{what}: {} bytes", stdout.len());
        let id = result["job_id"].as_str().expect("is text");
        let read = session.ask("resources/read", json!({"uri": format!("job-stream://{id}")}));
        let text = read["contents"][0]["text"].as_str().expect("is text");
        assert!(text.starts_with("---STDOUT---\n") && text.ends_with("\n---STDERR---\n"), "{what}");
        assert!(text.len() <= 3 * (1 << 20) + 100, "{what}: {} bytes", text.len());
    }
}

/// Outside of a block that a fence has opened, no line is a fence that is not an opening one.
fn fences_are_closed(markdown: &str) -> bool {
    let mut open: Option<&str> = None;
    for line in markdown.lines() {
        let is_fence = line.len() >= 3 && line.bytes().all(|byte| byte == b'`');
        match open {
            None if is_fence => open = Some(line),
            Some(fence) if is_fence && line.len() >= fence.len() => open = None,
            None | Some(_) => {}
        }
    }
    open.is_none() && markdown.lines().filter(|line| line.starts_with("# ")).count() <= 1
}

#[test]
fn cursors_reassemble_the_exact_text() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let text = "aé€😀\r\n\t\u{1b}[0m```\n\u{0}".repeat(500);
    sandbox.write("text", &text);
    let code = "import os, sys, time\ndata = open('text', 'rb').read()\nhalf = len(data) // 2 + 1\nout = sys.stdout.buffer\n\
        out.write(data[:half]); out.flush()\nwhile not os.path.exists('gate'): time.sleep(0.01)\nout.write(data[half:])";
    let id = session.start(code);
    let (mut read, mut cursor) = (String::new(), 0);
    let mut sizes = [4, 5, 7, 1000, 4096].into_iter().cycle();
    loop {
        let size: u64 = sizes.next().expect("goes on");
        let arguments = json!({
            "job_id": id, "stdout_cursor": cursor, "max_output_bytes": size, "wait_seconds": 45
        });
        let chunk = session.structured("py_get_job_output", arguments);
        let new = chunk["stdout"].as_str().expect("is text");
        assert!(new.len() as u64 <= size, "{} bytes of {size}", new.len());
        read.push_str(new);
        cursor = chunk["next_stdout_cursor"].as_u64().expect("is a number");
        assert_eq!(cursor, read.len() as u64, "a byte offset of what was read");
        if !sandbox.file("gate").exists() && read.len() + 4 > text.len() / 2 {
            sandbox.write("gate", "");
        }
        if chunk["status"] == "finished" && chunk["more"] == false {
            break;
        }
    }
    assert!(read == text, "{} bytes of {}", read.len(), text.len());
    // The same through py_job_status, from the beginning.
    let (mut read, mut cursor) = (String::new(), "0.0".to_owned());
    while read.len() < text.len() {
        let arguments = json!({"job_id": id, "cursor": cursor, "max_output_bytes": 333});
        let status = session.structured("py_job_status", arguments);
        read.push_str(status["new_stdout"].as_str().expect("is text"));
        cursor = status["next_cursor"].as_str().expect("is text").to_owned();
    }
    assert!(read == text, "{} bytes of {}", read.len(), text.len());
    let beyond = session.failure("py_get_job_output", json!({"job_id": id, "stdout_cursor": text.len() + 1}));
    assert!(beyond.contains("stdout_cursor is"), "{beyond}");
}

#[test]
fn half_a_character_is_not_worth_an_answer() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let code = "import os, sys, time\nout = sys.stdout.buffer\nout.write(b'\\xc3'); out.flush()\n\
        while not os.path.exists('gate'): time.sleep(0.01)\nout.write(b'\\xa9'); out.flush()\n\
        while not os.path.exists('end'): time.sleep(0.01)";
    let id = session.start(code);
    sandbox.wait_until("half of it is there", || {
        let job = sandbox.show(&id);
        if job["stdout_bytes"] == 1 { Ok(()) } else { Err(job.to_string()) }
    });
    let now = session.structured("py_get_job_output", json!({"job_id": id}));
    assert_eq!((&now["stdout"], &now["next_stdout_cursor"], &now["more"]), (&"".into(), &0.into(), &false.into()));
    let waits = [
        session.begin("py_get_job_output", json!({"job_id": id, "wait_seconds": 45})),
        session.begin("py_job_status", json!({"job_id": id, "cursor": "0.0", "until": "output", "wait_seconds": 45})),
    ];
    // Answered before, they would say that there is nothing.
    let quick = session.begin("py_list_jobs", json!({}));
    assert_eq!(session.first_answer(&[waits[0], waits[1], quick]), quick);
    sandbox.write("gate", "");
    for wait in waits {
        let text = text_of(&session.answer(wait)["result"]);
        assert!(text.contains("```\né\n```"), "{text}");
    }
    sandbox.write("end", "");
    sandbox.finished(&id);
}

#[test]
fn a_job_does_not_hold_the_servers_stdout() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let code = "import os, sys\nfor fd in (0, 1, 2): os.fstat(fd)\nprint(sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:3])\n\
        print(sys.stdin.read() == '')";
    let arguments = session.script(code);
    assert_eq!(session.structured("py_run_script_in_dir", arguments)["stdout"], "[0, 1, 2]\nTrue\n");
}

#[test]
fn the_budget_is_a_setting_and_zero_promotes_at_once() {
    let sandbox = Sandbox::new();
    let variables = [("SMART_ASYNC_TIMEOUT_SECONDS", "0")];
    let mut session = McpSession::open_with(&sandbox, Era::Stateless, &[], &variables);
    let mut arguments = session.script("import time; time.sleep(1000)");
    arguments["markdown_output"] = false.into();
    let promoted = structured_of(&session.call("py_run_script_in_dir", arguments));
    assert!(["pending", "running"].contains(&promoted["status"].as_str().expect("is text")), "{promoted}");
    let id = promoted["job_id"].as_str().expect("is text");
    sandbox.wait_until_running(id);
    let cancelled = session.structured("py_cancel_job", json!({"job_id": id}));
    assert_eq!(cancelled, json!({"job_id": id, "status": "cancelled", "exit_code": -15}));
    let again = session.structured("py_cancel_job", json!({"job_id": id}));
    assert_eq!(again, json!({"job_id": id, "status": "already-finished", "exit_code": -15}));
}

/// The job of this label, once it has begun to print.
fn running(sandbox: &Sandbox, label: &str) -> String {
    sandbox.wait_until("the job has begun", || {
        let jobs = sandbox.pyexec(["jobs", "--label", label, "--json"]).json();
        match jobs["jobs"][0]["id"].as_str() {
            Some(id) if sandbox.logs(id) == b"begun\n" => Ok(id.to_owned()),
            _ => Err(jobs.to_string()),
        }
    })
}
