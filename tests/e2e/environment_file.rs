//! `pyexec.env`: variables for the programs, and for what jobs of the MCP server inherit. Never for `pyexec run`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::mcp_session::{ERAS, Era, McpSession};
use crate::sandbox::{PYEXECD, Sandbox};

fn write(sandbox: &Sandbox, text: &str) -> PathBuf {
    let directory = sandbox.root().join("config/pyexec");
    std::fs::create_dir_all(&directory).expect("can be made");
    let path = directory.join("pyexec.env");
    std::fs::write(&path, text).expect("can be written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("is ours");
    path
}

/// What a job of the MCP server has of some variables.
fn seen(session: &mut McpSession<'_>, names: &[&str], other: &Value) -> Value {
    let code = format!("import json, os; print(json.dumps([os.environ.get(name) for name in {names:?}]))");
    let mut arguments = session.script(&code);
    arguments.as_object_mut().expect("is one").extend(other.as_object().expect("is one").clone());
    let result = session.structured("py_run_script_in_dir", arguments);
    serde_json::from_str(result["stdout"].as_str().expect("is text")).unwrap_or_else(|_| panic!("{result}"))
}

#[test]
fn a_job_of_the_server_inherits_what_the_host_has_not_set_and_the_call_wins() {
    let mut sandbox = Sandbox::new();
    sandbox.set("HOSTS", "host");
    let _daemon = sandbox.daemon();
    write(&sandbox, "HOSTS=file\nFILES=file\nCALLED=file\nENV_FILE=file\nPATH=/opt/of-the-file:/usr/bin\n");
    sandbox.write("job.env", "ENV_FILE=env_file\n");
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        let other = json!({"env_vars": {"CALLED": "call"}, "env_file": sandbox.file("job.env")});
        let names = ["HOSTS", "FILES", "CALLED", "ENV_FILE"];
        assert_eq!(seen(&mut session, &names, &other), json!(["host", "file", "call", "env_file"]));
        let path = seen(&mut session, &["PATH"], &json!({}));
        let path = path[0].as_str().expect("is text");
        assert!(path.ends_with(":/opt/of-the-file"), "it comes last, and /usr/bin is there once: {path}");
        assert_eq!(path.split(':').filter(|entry| *entry == "/usr/bin").count(), 1, "{path}");
    }
    let code = "import os; print(os.environ.get('FILES'), 'of-the-file' in os.environ['PATH'])";
    assert_eq!(sandbox.run(&["-c", code]).expect_code(0).text(), "None False\n", "never for `pyexec run`");
}

#[test]
fn a_change_of_the_file_holds_from_the_next_call_on() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    assert_eq!(seen(&mut session, &["A"], &json!({})), json!([null]));
    for value in ["1", "2"] {
        write(&sandbox, &format!("A={value}\n"));
        assert_eq!(seen(&mut session, &["A"], &json!({})), json!([value]));
    }
}

#[test]
fn a_broken_line_is_told_by_its_number_once_and_by_doctor_and_nothing_fails() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let path = write(&sandbox, "A=1\nhunter 2\n");
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        let first = session.call("py_list_jobs", json!({}))["content"].to_string();
        assert!(first.contains("pyexec.env, line 2: not of the form NAME=value"), "{first}");
        assert!(!first.contains("hunter"), "its text may be a secret: {first}");
        assert_eq!(seen(&mut session, &["A"], &json!({})), json!(["1"]), "what could be read holds");
        let second = session.call("py_list_jobs", json!({}))["content"].to_string();
        assert!(!second.contains("line 2"), "{second}");
    }
    let said = |status: &str, detail: &str| {
        let ran = sandbox.pyexec(["doctor", "--json"]);
        let document = ran.json();
        let checks = document["checks"].as_array().expect("is a list").clone();
        let check = checks.iter().find(|check| check["name"] == "environment file").expect("is told of");
        assert_eq!(check["status"], status, "{check}");
        assert!(check["detail"].as_str().is_some_and(|text| text.contains(detail)), "{check}");
        assert!(!check.to_string().contains("hunter"), "{check}");
    };
    said("problem", "line 2");
    write(&sandbox, "TOKEN=hunter\nB=2\n");
    said("ok", "pyexec.env: TOKEN, B");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("is ours");
    said("warning", "mode 644");
    std::fs::remove_file(&path).expect("is there");
    said("ok", "not there");
}

#[test]
fn a_file_that_is_none_is_not_waited_for() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let path = write(&sandbox, "");
    std::fs::remove_file(&path).expect("is there");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let answer = session.call("py_list_jobs", json!({}))["content"].to_string();
    assert!(answer.contains("is not a regular file"), "{answer}");
    assert_eq!(seen(&mut session, &["A"], &json!({})), json!([null]));
}

#[test]
fn settings_of_the_programs_are_below_their_own_variables_and_above_the_settings_file() {
    let mut sandbox = Sandbox::new();
    write(&sandbox, "PYEXEC_MAX_RUNNING=3\nPYEXEC_OUTPUT_BUFFERING=full\nSMART_ASYNC_TIMEOUT_SECONDS=0\nbroken\n");
    std::fs::write(sandbox.root().join("config/pyexec/config.toml"), "max_running = 5\noutput_bytes = 7\n")
        .expect("can be written");
    sandbox.set("PYEXEC_OUTPUT_BUFFERING", "line");
    let mut command = sandbox.command(PYEXECD);
    command.arg("--check-config");
    let printed = sandbox.attend(command).end().expect_code(0).text();
    for line in ["max_running = 3", "output_buffering = line", "output_bytes = 7"] {
        assert!(printed.lines().any(|found| found == line), "{line} is not in\n{printed}");
    }
    // The daemon starts all the same, and says in its log what is wrong.
    let _daemon = sandbox.daemon();
    let log = sandbox.pyexec(["daemon", "logs"]).expect_code(0).text();
    assert!(log.contains("pyexec.env, line 4: not of the form NAME=value"), "{log}");
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let code = "import time\nwhile True: time.sleep(0.01)";
    let script = session.script(code);
    let answer = session.call("py_run_script_in_dir", script);
    assert!(answer["content"].to_string().contains("py_job_status"), "the server does not wait for it: {answer}");
    sandbox.pyexec(["kill", "--all"]).expect_code(0);
}
