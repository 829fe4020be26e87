//! The server, the daemon, or both, die at the worst time: the job is the same for whoever asks next.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use pyexec_proto::preamble::{LENGTH, Preamble};
use serde_json::{Value, json};

use super::mcp_session::{ERAS, Era, McpSession, structured_of, text_of};
use super::sandbox::Sandbox;

/// Prints, waits until `gate` is there, and prints again.
fn gated(gate: &str) -> String {
    format!(
        "import os, sys, time\nprint('before')\nprint('aside', file=sys.stderr)\n\
         while not os.path.exists({gate:?}): time.sleep(0.01)\nprint('after')\nsys.exit(3)\n"
    )
}

/// Promotes at once what does not end at once.
const IMPATIENT: [(&str, &str); 1] = [("SMART_ASYNC_TIMEOUT_SECONDS", "0.2")];

/// A result without what is another job's own.
fn without_identity(result: &Value, own: &str) -> Value {
    let text = result.to_string().replace(own, "THIS-JOB");
    let mut result: Value = serde_json::from_str(&text).expect("is JSON still");
    let members = result.as_object_mut().expect("is an object");
    for varies in ["elapsed_seconds", "wall_time_seconds", "cpu_time_seconds", "peak_rss_mb"] {
        if let Some(value) = members.get_mut(varies) {
            assert!(value.is_number(), "{varies}: {value}");
            *value = 0.into();
        }
    }
    result
}

#[test]
fn a_promoted_job_gives_the_result_it_would_have_given_inline_whatever_has_been_restarted() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    for era in ERAS {
        let mut patient = McpSession::open(&sandbox, era);
        // With more output than an answer shows.
        let code = |gate: &str| format!("print('x' * 40_000 + 'é')\n{}", gated(gate));
        sandbox.write("open", "");
        let arguments = patient.script(&code("open"));
        let inline = patient.structured("py_run_script_in_dir", arguments);
        assert_eq!((&inline["status"], &inline["exit_code"]), (&"failed".into(), &3.into()), "{inline}");

        let gate = format!("gate-{}", patient.pid());
        let mut session = McpSession::open_with(&sandbox, era, &[], &IMPATIENT);
        let mut arguments = session.script(&code(&gate));
        arguments["markdown_output"] = false.into();
        let answer = session.call("py_run_script_in_dir", arguments);
        let promoted = structured_of(&answer);
        assert_eq!(promoted["status"], "running", "{promoted}");
        let id = promoted["job_id"].as_str().expect("is text").to_owned();
        let message = promoted["message"].as_str().expect("is text");
        assert!(message.contains(&id) && message.contains("py_job_status"), "{message}");

        session.kill();
        daemon.restart();
        sandbox.write(&gate, "");
        sandbox.finished(&id);

        let mut results = vec![];
        for restart in [false, true] {
            if restart {
                daemon.restart();
            }
            let mut next = McpSession::open(&sandbox, era);
            let status = next.structured("py_job_status", json!({"job_id": id, "wait_seconds": 45}));
            assert_eq!(status["job"]["status"], "failed");
            results.push(status["job"]["result"].clone());
        }
        assert_eq!(results[0].to_string(), results[1].to_string(), "another restart makes another result");
        let inline_id = inline["job_id"].as_str().expect("is text");
        let shown = without_identity(&results[0], &id);
        // The code differs in the name of its gate, which nothing shows.
        assert_eq!(shown, without_identity(&inline, inline_id));

        // In markdown, too.
        let mut next = McpSession::open(&sandbox, era);
        let markdown = next.markdown("py_job_status", json!({"job_id": id}));
        assert!(markdown.starts_with("**Failed** · exit code 3 · "), "{markdown}");
        assert!(markdown.contains("bytes left out: py_get_job_output("), "{markdown}");
    }
}

#[test]
fn a_call_that_waits_goes_on_waiting_for_the_same_job_when_the_daemon_is_killed() {
    let sandbox = Sandbox::new();
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        let gate = format!("gate-{}", session.pid());
        let mut arguments = session.script(&gated(&gate));
        arguments["job_label"] = gate.clone().into();
        let run = session.begin("py_run_script_in_dir", arguments);
        let id = sandbox.wait_until("the job runs", || {
            let jobs = sandbox.pyexec(["jobs", "--label", &gate, "--status", "running", "--json"]).json();
            jobs["jobs"][0]["id"].as_str().map(str::to_owned).ok_or_else(|| jobs.to_string())
        });
        sandbox.wait_until("the job has printed", || {
            let job = sandbox.show(&id);
            if job["stdout_bytes"] == 7 && job["stderr_bytes"] == 6 { Ok(()) } else { Err(job.to_string()) }
        });
        let waits = [
            session.begin("py_job_status", json!({"job_id": id, "wait_seconds": 45})),
            session.begin(
                "py_get_job_output",
                json!({"job_id": id, "stdout_cursor": 7, "stderr_cursor": 6, "wait_seconds": 45}),
            ),
        ];
        sandbox.kill_daemon();
        // One that comes after it is answered by the next daemon, over the same connection.
        assert!(session.markdown("py_list_running_jobs", json!({})).contains(&id));
        sandbox.kill_daemon();
        sandbox.write(&gate, "");
        let ran = text_of(&session.answer(run)["result"]);
        assert!(ran.starts_with("**Failed** · exit code 3") && ran.contains(&id), "{ran}");
        assert!(ran.contains("before\nafter"), "{ran}");
        for wait in waits {
            let waited = text_of(&session.answer(wait)["result"]);
            assert!(waited.contains("after"), "{waited}");
        }
        let jobs = sandbox.pyexec(["jobs", "--label", &gate, "--json"]).json();
        assert_eq!(jobs["total"], 1, "it was run again: {jobs}");
    }
}

#[test]
fn cursors_stay_valid_over_restarts_of_everything() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let id = session.start(&gated("gate"));
    let read = session.structured("py_get_job_output", json!({"job_id": id, "wait_seconds": 45}));
    let status = session
        .structured("py_job_status", json!({"job_id": id, "until": "output", "cursor": "0.0", "wait_seconds": 45}));
    assert_eq!(status["new_stdout"], "before\n");
    session.kill();
    daemon.restart();
    sandbox.write("gate", "");
    sandbox.finished(&id);
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let cursors =
        json!({"job_id": id, "stdout_cursor": read["next_stdout_cursor"], "stderr_cursor": read["next_stderr_cursor"]});
    let rest = session.structured("py_get_job_output", cursors);
    let whole =
        |stream: &str| format!("{}{}", read[stream].as_str().unwrap_or("?"), rest[stream].as_str().unwrap_or("?"));
    assert_eq!((whole("stdout"), whole("stderr")), ("before\nafter\n".to_owned(), "aside\n".to_owned()));
    let rest = session.structured("py_job_status", json!({"job_id": id, "cursor": status["next_cursor"]}));
    assert_eq!(rest["new_stdout"], "after\n");
}

#[test]
fn a_server_killed_in_the_middle_of_a_run_leaves_the_job_to_the_next() {
    let sandbox = Sandbox::new();
    let mut first = McpSession::open(&sandbox, Era::Stateless);
    let mut second = McpSession::open(&sandbox, Era::Handshake("2024-11-05"));
    let mut arguments = first.script(&gated("gate"));
    arguments["job_label"] = "mine".into();
    first.begin("py_run_script_in_dir", arguments);
    // Both see the same jobs.
    let id = sandbox.wait_until("the other server sees the job run", || {
        let jobs = second.structured("py_list_jobs", json!({"label_filter": "mine", "status_filter": "running"}));
        jobs["jobs"][0]["id"].as_str().map(str::to_owned).ok_or_else(|| jobs.to_string())
    });
    first.kill();
    sandbox.write("gate", "");
    let status = second.structured("py_job_status", json!({"job_id": id, "wait_seconds": 45}));
    assert_eq!(status["job"]["result"]["stdout"], "before\nafter\n");
    assert_eq!(status["job"]["result"]["stderr"], "aside\n");
    assert_eq!(status["job"]["exit_code"], 3);
}

#[test]
fn a_daemon_that_is_not_there_is_started_also_in_the_middle_of_a_session() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let arguments = session.script("print(1)");
    session.markdown("py_run_script_in_dir", arguments.clone());
    let first = sandbox.daemon_pid();
    sandbox.kill_daemon();
    session.markdown("py_run_script_in_dir", arguments.clone());
    assert_ne!(sandbox.daemon_pid(), first);
    sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    let ran = session.structured("py_run_script_in_dir", arguments);
    assert_eq!(ran["stdout"], "1\n");
    assert_eq!(session.structured("py_list_jobs", json!({}))["total"], 3);
}

#[test]
fn without_a_daemon_that_can_be_started_the_reason_is_told() {
    let sandbox = Sandbox::new();
    for (daemon, problem) in [("/nowhere/pyexecd", "cannot run /nowhere/pyexecd"), ("/bin/false", "did not start")] {
        let mut session = McpSession::open_with(&sandbox, Era::Stateless, &[], &[("PYEXEC_DAEMON", daemon)]);
        for _ in 0..2 {
            let arguments = session.script("print(1)");
            let failed = session.failure("py_run_script_in_dir", arguments);
            assert!(failed.starts_with("**Error:** ") && failed.contains(problem), "{failed}");
            assert!(failed.contains("**Next:** ") && failed.contains("`pyexec doctor`"), "{failed}");
        }
    }
}

#[test]
fn a_server_that_is_too_old_says_to_restart_it() {
    let sandbox = Sandbox::new();
    let socket = sandbox.root().join("other.sock");
    let lowest = Preamble::ours().highest + 1;
    let newer = Preamble { lowest, highest: 900, version: "7.7.7".to_owned() };
    let upgraded = greets_as(&socket, newer, None);
    let named = socket.to_str().expect("is text");
    let mut session = McpSession::open_with(&sandbox, Era::Stateless, &["--socket", named], &[]);
    let failed = session.failure("py_list_jobs", json!({}));
    let said = format!("**Error:** pyexecd 7.7.7 speaks protocol {lowest}-900");
    assert!(failed.starts_with(&said), "{failed}");
    assert!(failed.contains("**Next:** this MCP server is older than the daemon: restart it"), "{failed}");
    drop(upgraded);
    assert!(sandbox.daemons().is_empty(), "one was started nevertheless");
}

#[test]
fn a_daemon_of_the_next_version_that_still_speaks_ours_is_spoken_to() {
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    let socket = sandbox.root().join("other.sock");
    let newer = Preamble { highest: Preamble::ours().highest + 1, version: "7.7.7".to_owned(), ..Preamble::ours() };
    let _upgraded = greets_as(&socket, newer, Some(sandbox.paths().socket));
    let named = socket.to_str().expect("is text");
    let mut session = McpSession::open_with(&sandbox, Era::Stateless, &["--socket", named], &[]);
    let arguments = session.script("print('spoken to')");
    assert_eq!(session.structured("py_run_script_in_dir", arguments)["stdout"], "spoken to\n");
    assert_eq!(sandbox.daemon_pid(), daemon.pid());
}

#[test]
fn a_socket_that_is_named_is_where_the_daemon_is_started() {
    let sandbox = Sandbox::new();
    let socket = sandbox.root().join("named.sock");
    let named = socket.to_str().expect("is text");
    let mut session = McpSession::open_with(&sandbox, Era::Stateless, &["--socket", named], &[]);
    assert!(session.markdown("py_list_jobs", json!({})).contains("No jobs"));
    assert!(socket.exists());
    assert_eq!(sandbox.daemons().len(), 1);
}

/// Somebody at a socket who greets like this, and then passes everything on to the daemon at `behind`, if there is one.
fn greets_as(socket: &Path, greeting: Preamble, behind: Option<PathBuf>) -> std::thread::JoinHandle<()> {
    let listener = UnixListener::bind(socket).expect("can be bound");
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(mut client) = client else { break };
            let mut theirs = [0; LENGTH];
            client.write_all(&greeting.encode()).and_then(|()| client.read_exact(&mut theirs)).expect("greets");
            let Some(behind) = &behind else { continue };
            let mut daemon = UnixStream::connect(behind).expect("the daemon listens");
            daemon.write_all(&theirs).and_then(|()| daemon.read_exact(&mut [0; LENGTH])).expect("greets");
            let mut ways = [(client.try_clone(), daemon.try_clone()), (daemon.try_clone(), client.try_clone())];
            for way in &mut ways {
                let (Ok(from), Ok(to)) = way else { continue };
                let (mut from, mut to) = (from.try_clone().expect("can be"), to.try_clone().expect("can be"));
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    })
}
