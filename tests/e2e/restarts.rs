//! Nobody gives up on a job that lives: waits go on through any number of daemons, and what fails all the same names the
//! job and the call that follows it.

use std::path::Path;

use serde_json::json;

use crate::mcp_session::{ERAS, Era, McpSession, text_of};
use crate::sandbox::{PYEXECD, Sandbox, send};

/// More than a request was ever sent again.
const RESTARTS: usize = 8;

/// Waits for the test, and then prints and exits with 3.
const JOB: &str = "import os, sys, time
print('begin', flush=True)
while not os.path.exists('go'): time.sleep(0.01)
print('end')
sys.exit(3)";

/// The pid of a daemon that is not `before`, whoever has started it.
fn next_daemon(sandbox: &Sandbox, before: u32) -> u32 {
    sandbox.wait_until("the next daemon answers", || {
        let status = sandbox.daemon_status();
        let pid = status["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        pid.filter(|pid| *pid != before).ok_or(status)
    })
}

/// Kills daemon after daemon; whoever waits starts the next.
fn kill_daemons(sandbox: &Sandbox) {
    let mut daemon = sandbox.daemon_pid();
    for _ in 0..RESTARTS {
        send(daemon, rustix::process::Signal::KILL);
        daemon = next_daemon(sandbox, daemon);
    }
}

#[test]
fn run_wait_logs_and_bench_go_on_through_any_number_of_daemons() {
    let sandbox = Sandbox::new();
    let id = sandbox.detach(&["-c", JOB]);
    let mut waiting = vec![
        (3, sandbox.attend_run(&["-c", JOB])),
        (3, sandbox.attend_run(&["--json", "-c", JOB])),
        (3, sandbox.attend(sandbox.cli(["wait", &id]))),
        (0, sandbox.attend(sandbox.cli(["logs", "-f", &id]))),
        (3, sandbox.attend(sandbox.cli(["bench", "--runs", "1", "--warmup", "0", "--no-uv", "-c", JOB]))),
    ];
    for index in [0, 3] {
        waiting[index].1.wait_for_stdout("begin");
    }
    sandbox.wait_until("all jobs run", || {
        let running = sandbox.pyexec(["jobs", "--status", "running", "--json"]).json();
        if running["total"] == 4 { Ok(()) } else { Err(running.to_string()) }
    });
    kill_daemons(&sandbox);
    sandbox.write("go", "");
    for (code, client) in waiting {
        let ran = client.end().expect_code(code);
        assert!(!ran.stderr.contains("daemon") && !ran.stderr.contains("not affected"), "{ran}");
    }
    assert_eq!(sandbox.logs(&id), b"begin\nend\n");
    let jobs = sandbox.pyexec(["jobs", "--json"]).json();
    assert_eq!(jobs["total"], 4, "one was run again: {jobs}");
}

#[test]
fn calls_of_agents_and_subscriptions_go_on_through_any_number_of_daemons() {
    for era in ERAS {
        let sandbox = Sandbox::new();
        let id = sandbox.detach(&["-c", JOB]);
        let mut session = McpSession::open_with(&sandbox, era, &[], &[("SMART_ASYNC_TIMEOUT_SECONDS", "600")]);
        let arguments = session.script(JOB);
        let run = session.begin("py_run_script_in_dir", arguments);
        let status = session.begin("py_job_status", json!({"job_id": id, "wait_seconds": 45}));
        let uri = format!("job-stream://{id}");
        match era {
            Era::Stateless => {
                let wanted = json!({"notifications": {"resourceSubscriptions": [uri]}});
                session.request("subscriptions/listen", wanted);
            }
            Era::Handshake(_) => drop(session.ask("resources/subscribe", json!({"uri": uri}))),
        }
        // What was printed before.
        session.notification("notifications/resources/updated");
        sandbox.wait_until("both jobs run", || {
            let running = sandbox.pyexec(["jobs", "--status", "running", "--json"]).json();
            if running["total"] == 2 { Ok(()) } else { Err(running.to_string()) }
        });
        kill_daemons(&sandbox);
        session.notifications.clear();
        sandbox.write("go", "");
        session.notification("notifications/resources/updated");
        for call in [run, status] {
            let text = text_of(&session.answer(call)["result"]);
            assert!(text.starts_with("**Failed** · exit code 3") && text.contains("begin\nend"), "{text}");
        }
        assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 2);
    }
}

/// A daemon's program that can be taken away.
fn own_program(sandbox: &Sandbox) -> std::path::PathBuf {
    let program = sandbox.root().join("pyexecd");
    std::fs::copy(PYEXECD, &program).expect("can be copied");
    program
}

fn ends_as_it_should(sandbox: &mut Sandbox, id: &str) {
    sandbox.set("PYEXEC_DAEMON", PYEXECD);
    sandbox.write("go", "");
    assert_eq!(sandbox.finished(id)["exit_code"], 3);
    assert_eq!(sandbox.logs(id), b"begin\nend\n");
}

#[test]
fn an_agent_whose_wait_fails_is_told_the_job_and_how_to_follow_it_and_not_to_run_it_again() {
    let mut sandbox = Sandbox::new();
    let program = own_program(&sandbox);
    sandbox.set("PYEXEC_DAEMON", &program);
    let texts = {
        let mut session = McpSession::open(&sandbox, Era::Stateless);
        let arguments = session.script(JOB);
        let run = session.begin("py_run_script_in_dir", arguments);
        let id = sandbox.wait_until("the job runs", || {
            let jobs = sandbox.pyexec(["jobs", "--status", "running", "--json"]).json();
            jobs["jobs"][0]["id"].as_str().map(str::to_owned).ok_or_else(|| jobs.to_string())
        });
        std::fs::remove_file(&program).expect("is there");
        send(sandbox.daemon_pid(), rustix::process::Signal::KILL);
        let ran = session.answer(run)["result"].clone();
        assert_eq!(ran["isError"], true, "{ran}");
        let mut texts = vec![("py_run_script_in_dir", text_of(&ran))];
        for tool in ["py_job_status", "py_get_job_output", "py_cancel_job"] {
            texts.push((tool, session.failure(tool, json!({"job_id": id}))));
        }
        for (tool, text) in &texts {
            assert!(text.contains(&format!("Job `{id}` was accepted")), "{tool}: {text}");
            assert!(text.contains(&format!("**Next:** py_job_status(job_id=\"{id}\"")), "{tool}: {text}");
            assert!(text.contains("do not run it again") && !text.contains("try again"), "{tool}: {text}");
        }
        id
    };
    ends_as_it_should(&mut sandbox, &texts);
}

#[test]
fn a_wait_that_fails_names_its_job_and_says_that_it_goes_on() {
    let mut sandbox = Sandbox::new();
    let program = own_program(&sandbox);
    sandbox.set("PYEXEC_DAEMON", &program);
    let id = sandbox.detach(&["-c", JOB]);
    sandbox.wait_until_running(&id);
    let waiting = [
        sandbox.attend(sandbox.cli(["wait", &id])),
        sandbox.attend(sandbox.cli(["logs", "-f", &id])),
        sandbox.attend_run(&["-c", JOB]),
    ];
    sandbox.wait_until("the other job runs, too", || {
        let running = sandbox.pyexec(["jobs", "--status", "running", "--json"]).json();
        if running["total"] == 2 { Ok(()) } else { Err(running.to_string()) }
    });
    std::fs::remove_file(&program).expect("is there");
    send(sandbox.daemon_pid(), rustix::process::Signal::KILL);
    let [waited, followed, ran] = waiting.map(|client| client.end().expect_code(125));
    for told in [&waited, &followed] {
        assert!(told.stderr.contains(&format!("note: job {id} is not affected; `pyexec wait {id}`")), "{told}");
    }
    // Also when there was no daemon from the first.
    for words in [
        &["wait", &id][..],
        &["logs", "-f", &id],
        &["logs", &id],
        &["show", &id],
        &["kill", &id],
        &["send", &id, "x"],
        &["artifacts", &id],
    ] {
        let told = sandbox.pyexec(words).expect_code(125);
        assert!(told.stderr.contains(&format!("note: job {id} is not affected; `pyexec wait {id}`")), "{told}");
    }
    let other = ran.stderr.split("note: job ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    assert!(other.len() == id.len() && other != id, "{ran}");
    let other = other.to_owned();
    assert!(!Path::new(&program).exists());
    ends_as_it_should(&mut sandbox, &id);
    assert_eq!(sandbox.finished(&other)["exit_code"], 3);
}
