//! A `pyexec-mcp` that is older than the daemon has a newer one take over from it: whoever has it open goes on as before.
//!
//! Which protocol a program speaks is pretended, so that one build plays both versions.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use pyexec_proto::preamble::{PRETENDED_PROTOCOL_VARIABLE, PROTOCOL};
use serde_json::{Value, json};

use super::mcp_session::{ERAS, Era, McpSession, PYEXEC_MCP, text_of};
use super::sandbox::{PYEXECD, Sandbox, TestDaemon};

/// What the server that is replaced speaks, and the daemon that it begins with.
const OLDER: u16 = PROTOCOL - 1;

/// Two installations of one build: one of them pretends to speak [`OLDER`].
struct Upgrade {
    sandbox: Sandbox,
}

impl Upgrade {
    fn new() -> Self {
        let mut sandbox = Sandbox::new();
        sandbox.set(PRETENDED_PROTOCOL_VARIABLE, OLDER.to_string());
        let upgrade = Self { sandbox };
        std::fs::create_dir(upgrade.newer()).expect("can be made");
        // The daemon is known by the name of its file.
        if std::fs::hard_link(PYEXECD.path(), upgrade.daemon_program()).is_err() {
            std::fs::copy(PYEXECD.path(), upgrade.daemon_program()).expect("can be copied");
        }
        upgrade
    }

    fn newer(&self) -> PathBuf {
        self.sandbox.root().join("newer")
    }

    fn daemon_program(&self) -> PathBuf {
        self.newer().join("pyexecd")
    }

    /// What each `pyexec-mcp` that took over from another was given, a line for each.
    fn executed(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.newer().join("executed")).unwrap_or_default();
        text.lines().filter(|line| *line != "--protocols").map(str::to_owned).collect()
    }

    /// Installs a `pyexec-mcp` beside the newer daemon that speaks `protocol`.
    fn install(&self, protocol: u16) {
        self.install_script(protocol, "");
    }

    /// The same, with something that it does first.
    fn install_script(&self, protocol: u16, first: &str) {
        let (variable, real) = (PRETENDED_PROTOCOL_VARIABLE, PYEXEC_MCP.path());
        let noted = self.newer().join("executed");
        let script = format!(
            "#!/bin/sh\n{first}\necho \"$@\" >> '{}'\n{variable}={protocol} exec '{real}' \"$@\"\n",
            noted.display()
        );
        self.write_program(&script);
    }

    /// Whatever is called `pyexec-mcp` beside the newer daemon.
    fn write_program(&self, script: &str) {
        let program = self.newer().join("pyexec-mcp");
        // Never one that is being written: what runs is not changed.
        let written = self.newer().join("written");
        std::fs::write(&written, script).expect("can be written");
        std::fs::set_permissions(&written, PermissionsExt::from_mode(0o755)).expect("is ours");
        std::fs::rename(written, program).expect("is ours");
    }

    fn older_daemon(&self) -> TestDaemon<'_> {
        self.sandbox.daemon()
    }

    /// Ends the older daemon and starts the newer one.
    fn upgrade<'a>(&'a self, mut older: TestDaemon<'a>) -> TestDaemon<'a> {
        older.kill();
        let newer = self.daemon_program();
        self.sandbox.daemon_in_place_of_any(&newer, &[(PRETENDED_PROTOCOL_VARIABLE, &PROTOCOL.to_string())])
    }

    fn gated(&self, gate: &str) -> String {
        format!(
            "import os, time\nprint('begun', flush=True)\nwhile not os.path.exists({gate:?}): time.sleep(0.01)\nprint('done')"
        )
    }
}

fn has_printed(session: &mut McpSession<'_>, id: &str) {
    let status = session
        .structured("py_job_status", json!({"job_id": id, "until": "output", "cursor": "0.0", "wait_seconds": 45}));
    assert_eq!(status["new_stdout"], "begun\n", "{status}");
}

#[test]
fn calls_before_and_after_an_upgrade_are_answered_over_the_same_connection() {
    for era in ERAS {
        let upgrade = Upgrade::new();
        upgrade.install(PROTOCOL);
        let older = upgrade.older_daemon();
        let mut session = McpSession::open_with(&upgrade.sandbox, era, &["--toolset", "core"], &[]);
        let arguments = session.script("print('before')");
        assert!(session.markdown("py_run_script_in_dir", arguments).contains("before"));
        let daemon = upgrade.upgrade(older);
        let pid = session.pid();
        // One that runs something, others that only look.
        let arguments = session.script("print('after')");
        let ran = session.begin("py_run_script_in_dir", arguments);
        let listed: Vec<u64> = (0..5).map(|_| session.begin("py_list_jobs", json!({}))).collect();
        let resources = session.request("resources/list", json!({}));
        let answer = session.answer(ran);
        assert!(text_of(&answer["result"]).contains("after"), "{era:?}: {answer}");
        for id in listed {
            let answer = session.answer(id);
            assert_eq!(answer["result"]["isError"], false, "{era:?}: {answer}");
        }
        let answer = session.answer(resources);
        assert!(answer["result"]["resources"].is_array(), "{era:?}: {answer}");
        assert_eq!(session.pid(), pid);
        let executed = upgrade.executed();
        assert_eq!(executed.len(), 1, "{era:?}: {executed:?}");
        assert!(executed[0].starts_with("--toolset core --handover "), "{era:?}: {executed:?}");
        // It is the same session: of the core, with what the client said of itself.
        assert_eq!(session.ask("tools/list", json!({}))["tools"].as_array().map(Vec::len), Some(6));
        let jobs = session.structured("py_list_jobs", json!({}));
        assert_eq!(jobs["total"], 2, "{era:?}: something ran twice, or not at all: {jobs}");
        assert!(session.close().success());
        drop(daemon);
    }
}

#[test]
fn a_run_that_waits_is_waited_for_by_the_newer_server_and_not_started_again() {
    for era in ERAS {
        let upgrade = Upgrade::new();
        upgrade.install(PROTOCOL);
        let older = upgrade.older_daemon();
        let mut session = McpSession::open_with(&upgrade.sandbox, era, &[], &[("SMART_ASYNC_TIMEOUT_SECONDS", "600")]);
        let mut arguments = session.script(&upgrade.gated("gate"));
        arguments["job_label"] = "waited for".into();
        let run = session.begin("py_run_script_in_dir", arguments);
        let id = upgrade.sandbox.wait_until("the job runs", || {
            let jobs = session.structured("py_list_jobs", json!({"label_filter": "waited for"}));
            jobs["jobs"][0]["id"].as_str().map(str::to_owned).ok_or_else(|| jobs.to_string())
        });
        has_printed(&mut session, &id);
        let _daemon = upgrade.upgrade(older);
        // Answered by the newer server already.
        assert!(session.markdown("py_list_running_jobs", json!({})).contains(&id));
        upgrade.sandbox.write("gate", "");
        let answer = session.answer(run);
        let text = text_of(&answer["result"]);
        assert!(text.contains("begun\ndone") && text.contains(&id), "{era:?}: {answer}");
        assert_eq!(upgrade.executed().len(), 1, "{era:?}");
        let jobs = session.structured("py_list_jobs", json!({}));
        assert_eq!(jobs["total"], 1, "{era:?}: it was started again: {jobs}");
    }
}

#[test]
fn subscribers_are_told_by_the_newer_server_what_happens_after_an_upgrade() {
    for era in ERAS {
        let upgrade = Upgrade::new();
        upgrade.install(PROTOCOL);
        let older = upgrade.older_daemon();
        let mut session = McpSession::open(&upgrade.sandbox, era);
        let id = session.start(&upgrade.gated("gate"));
        let uri = format!("job-stream://{id}");
        let listening = match era {
            Era::Stateless => {
                let notifications = json!({"resourceSubscriptions": [uri]});
                let listening = session.request("subscriptions/listen", json!({"notifications": notifications}));
                session.notification("notifications/subscriptions/acknowledged");
                Some(listening)
            }
            Era::Handshake(_) => {
                session.ask("resources/subscribe", json!({"uri": uri}));
                None
            }
        };
        has_printed(&mut session, &id);
        let told = session.notification("notifications/resources/updated");
        assert_eq!(told["params"]["uri"], uri, "{told}");
        // Nothing is asked: that it hears of the newer daemon is the subscription's own doing.
        let _daemon = upgrade.upgrade(older);
        upgrade.sandbox.wait_until("the newer server has been executed", || {
            let executed = upgrade.executed();
            if executed.len() == 1 { Ok(()) } else { Err(format!("{executed:?}")) }
        });
        session.notifications.clear();
        upgrade.sandbox.write("gate", "");
        let told = session.notification("notifications/resources/updated");
        assert_eq!(told["params"]["uri"], uri, "{told}");
        if let Some(listening) = listening {
            assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], listening, "{told}");
        }
        let status = session.structured("py_job_status", json!({"job_id": id, "wait_seconds": 45}));
        assert_eq!(status["job"]["status"], "completed", "{status}");
        let again = |notification: &Value| notification["method"] == "notifications/subscriptions/acknowledged";
        assert!(!session.notifications.iter().any(again), "a subscription is acknowledged twice");
    }
}

#[test]
fn half_a_line_that_was_read_before_an_upgrade_is_the_beginning_of_the_rest() {
    let upgrade = Upgrade::new();
    upgrade.install(PROTOCOL);
    let older = upgrade.older_daemon();
    let mut session = McpSession::open(&upgrade.sandbox, Era::Handshake("2025-06-18"));
    session.markdown("py_list_jobs", json!({}));
    let _daemon = upgrade.upgrade(older);
    let request = json!({"jsonrpc": "2.0", "id": "half", "method": "resources/templates/list"}).to_string();
    let (begin, end) = request.split_at(20);
    // In one write, which a pipe takes whole: what is read with the call has the beginning of the next line behind it.
    let call = json!({"jsonrpc": "2.0", "id": 1000, "method": "tools/call", "params": {"name": "py_list_jobs"}});
    session.say_without_end(format!("{call}\n{begin}"));
    assert_eq!(session.answer(1000)["result"]["isError"], false);
    assert_eq!(upgrade.executed().len(), 1);
    session.say(end);
    let answer = session.next();
    assert_eq!(answer["id"], "half", "{answer}");
    assert!(answer["result"]["resourceTemplates"].is_array(), "{answer}");
}

#[test]
fn a_server_that_took_over_and_does_not_speak_the_daemons_protocol_either_does_not_try_again() {
    for era in ERAS {
        let upgrade = Upgrade::new();
        // What it says of itself is wrong.
        upgrade
            .install_script(OLDER, &format!("if [ \"$1\" = --protocols ]; then echo {PROTOCOL}-{PROTOCOL}; exit; fi"));
        let older = upgrade.older_daemon();
        let mut session = McpSession::open(&upgrade.sandbox, era);
        session.markdown("py_list_jobs", json!({}));
        let _daemon = upgrade.upgrade(older);
        for _ in 0..2 {
            let result = session.call("py_list_jobs", json!({}));
            let said = result["content"].to_string();
            assert_eq!(result["isError"], true, "{era:?}: {result}");
            assert!(said.contains("this one has taken over from an older one"), "{era:?}: {result}");
            assert!(text_of(&result).contains("restart it"), "{era:?}: {result}");
        }
        assert_eq!(upgrade.executed().len(), 1, "{era:?}: it executes itself again and again");
    }
}

#[test]
fn without_a_newer_server_the_answer_says_so_and_the_next_call_finds_one() {
    let upgrade = Upgrade::new();
    let older = upgrade.older_daemon();
    let mut session = McpSession::open(&upgrade.sandbox, Era::Stateless);
    session.markdown("py_list_jobs", json!({}));
    let _daemon = upgrade.upgrade(older);
    // None; one from before servers could take over; one that cannot be executed.
    let scripts = [None, Some("#!/bin/sh\necho 'unexpected argument' >&2\nexit 2\n"), Some("#!/nowhere/sh\n")];
    for script in scripts {
        if let Some(script) = script {
            upgrade.write_program(script);
        }
        let result = session.call("py_list_jobs", json!({}));
        assert_eq!(result["isError"], true, "{script:?}: {result}");
        assert!(result["content"].to_string().contains("No newer server has taken over"), "{script:?}: {result}");
        assert!(text_of(&result).contains("restart it"), "{script:?}: {result}");
        let id = session.request("resources/list", json!({}));
        let answer = session.answer(id);
        assert_eq!(answer["error"]["code"], -32001, "{script:?}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("No newer server has taken over"), "{script:?}: {answer}");
    }
    upgrade.install(OLDER);
    let result = session.call("py_list_jobs", json!({}));
    let said = result["content"].to_string();
    assert!(said.contains("newer/pyexec-mcp does not speak the daemon's protocol"), "{result}");
    assert!(upgrade.executed().is_empty());
    // One that is gone by the time that it is executed.
    upgrade.write_program(&format!("#!/bin/sh\nrm \"$0\"\necho {PROTOCOL}-{PROTOCOL}\n"));
    let id = session.begin("py_list_jobs", json!({}));
    let answer = session.answer(id);
    let said = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("newer/pyexec-mcp cannot be executed"), "{answer}");
    upgrade.install(PROTOCOL);
    assert!(session.markdown("py_list_jobs", json!({})).contains("No jobs"));
    assert_eq!(upgrade.executed().len(), 1);
}
