//! `pyexec doctor`: whatever is wrong with an installation, it says so, ends, and has changed nothing.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::Value;

use crate::sandbox::{PYEXECD, Ran, Sandbox, path_variable, pid_of, python};
use crate::uv::sandbox_with_uv;

/// A script on the `PATH` of a sandbox, which then finds nothing else there but Python.
fn with_program(sandbox: &mut Sandbox, name: &str, script: &str) {
    let bin = sandbox.root().join("bin");
    std::fs::create_dir_all(&bin).expect("can be made");
    put(&bin.join(name), script);
    let python = python().parent().expect("lies in a directory").to_owned();
    sandbox.set(
        "PATH",
        std::env::join_paths([&*bin, &*python, Path::new("/usr/bin"), Path::new("/bin")]).expect("can be joined"),
    );
}

fn put(path: &Path, script: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("can be written");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("can be set");
}

#[track_caller]
fn doctor(sandbox: &Sandbox) -> Ran {
    let ran = sandbox.pyexec(["doctor", "--json"]);
    for check in ran.json()["checks"].as_array().expect("is a list") {
        let is_ok = check["status"] == "ok";
        assert_eq!(check["hint"].is_null(), is_ok, "a hint, unless it is fine: {check}");
        assert!(check["name"].is_string() && check["detail"].is_string(), "{check}");
    }
    let problems = ran.json()["checks"].as_array().expect("is a list").iter().any(|check| check["status"] == "problem");
    ran.expect_code(i32::from(problems))
}

#[track_caller]
fn check(ran: &Ran, name: &str) -> Value {
    let document = ran.json();
    let found = document["checks"].as_array().expect("is a list").iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("nothing is said of {name}: {ran}")).clone()
}

#[track_caller]
fn assert_check(ran: &Ran, name: &str, status: &str, detail: &str) {
    let check = check(ran, name);
    assert_eq!(check["status"], status, "{check}");
    assert!(check["detail"].as_str().is_some_and(|said| said.contains(detail)), "{detail:?} is not in {check}");
}

#[test]
fn a_sound_installation_has_no_problem_and_no_daemon_is_started() {
    let mut sandbox = sandbox_with_uv();
    sandbox.set_pyexec_apart();
    let bin = sandbox.root().join("bin");
    std::fs::create_dir(&bin).expect("can be made");
    put(&bin.join("pyexec-mcp"), &format!("echo pyexec-mcp {}", env!("CARGO_PKG_VERSION")));
    sandbox.set("PATH", path_variable(&bin));
    let before = sandbox.files();
    let ran = doctor(&sandbox);
    for name in ["uv", "pythons", "python3", "pyexecd", "pyexec-mcp", "settings", "systemd", "MCP clients"] {
        assert_eq!(check(&ran, name)["status"], "ok", "{name}: {ran}");
    }
    assert_check(&ran, "daemon", "ok", "not running");
    assert_check(&ran, "memory", "ok", " available");
    for name in ["state", "data", "cache", "config", "runtime"] {
        assert_check(&ran, &format!("{name} directory"), "ok", "pyexec, not made yet");
    }
    ran.expect_code(0);
    assert!(sandbox.daemons().is_empty(), "a daemon was started");
    let new: Vec<_> = sandbox.files().into_iter().filter(|file| !before.contains(file)).collect();
    assert!(new.is_empty(), "{new:?}");
    let text = sandbox.pyexec(["doctor"]).expect_code(0).text();
    assert!(text.lines().any(|line| line == "ok       daemon: not running; it starts when it is needed"), "{text}");
    assert!(text.ends_with("no problems, no warnings\n"), "{text}");
}

#[test]
fn a_daemon_that_runs_is_described_with_its_socket() {
    let sandbox = sandbox_with_uv();
    let daemon = sandbox.daemon();
    let ran = doctor(&sandbox);
    assert_check(&ran, "daemon", "ok", &format!("{}, pid {}, ", env!("CARGO_PKG_VERSION"), daemon.pid()));
    let socket = sandbox.paths().socket;
    assert_check(&ran, "socket", "ok", &format!("{}, mode 0", socket.display()));
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).expect("can be set");
    assert_check(&doctor(&sandbox), "socket", "warning", "mode 0666: others may connect");
    assert_eq!(pid_of(&sandbox.daemon_status()["pid"]), daemon.pid());
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let mut sandbox = Sandbox::new();
    sandbox.set_pyexec_apart();
    let nothing = sandbox.root().join("nothing");
    std::fs::create_dir(&nothing).expect("can be made");
    sandbox.set("PATH", &nothing);
    let ran = doctor(&sandbox).expect_code(1);
    assert_check(&ran, "uv", "problem", "not found");
    assert_check(&ran, "python3", "warning", "none on PATH");
    assert_check(&ran, "pyexec-mcp", "warning", "not found");
    assert_check(&ran, "pyexecd", "ok", PYEXECD.path());
    sandbox.set("PYEXEC_DAEMON", sandbox.root().join("gone"));
    sandbox.set("PYEXEC_UV", sandbox.root().join("gone"));
    let ran = doctor(&sandbox).expect_code(1);
    assert_check(&ran, "pyexecd", "problem", "gone is not executable");
    assert_check(&ran, "uv", "problem", "is not executable");
}

#[test]
fn a_home_that_is_not_set_keeps_nobody_from_looking_at_the_rest() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.cli(["doctor", "--json"]);
    for name in ["HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"] {
        command.env_remove(name);
    }
    let ran = sandbox.attend(command).end();
    assert!(ran.code == 0 || ran.code == 1, "{ran}");
    assert_check(&ran, "python3", "ok", "");
}

#[test]
fn programs_that_never_answer_are_not_waited_for_and_do_not_stay() {
    let mut sandbox = Sandbox::new();
    // And does not end with what it has started either.
    with_program(&mut sandbox, "uv", "sleep 600 & sleep 600");
    let ran = doctor(&sandbox).expect_code(1);
    assert_check(&ran, "uv", "problem", "did not answer within");
    assert_check(&ran, "python3", "ok", "");
}

#[test]
fn programs_that_are_too_old_or_of_another_version_are_told() {
    let mut sandbox = Sandbox::new();
    sandbox.set_pyexec_apart();
    with_program(&mut sandbox, "uv", "echo uv 0.4.30");
    put(&sandbox.root().join("bin/pyexec-mcp"), "echo pyexec-mcp 9.9.9");
    let other = sandbox.root().join("bin/pyexecd");
    put(
        &other,
        "case $1 in --version) echo pyexecd 9.9.9;; *) echo 'error: pyexecd takes no such arguments' >&2; exit 2;; esac",
    );
    sandbox.set("PYEXEC_DAEMON", &other);
    let ran = doctor(&sandbox);
    assert_check(&ran, "uv", "warning", "0.4.30, ");
    assert_check(&ran, "pyexec-mcp", "warning", "9.9.9, ");
    assert_check(&ran, "pyexecd", "warning", "9.9.9, ");
    assert!(!ran.text().contains("\"settings\""), "{ran}");
}

#[test]
fn settings_that_no_daemon_starts_with_are_a_problem() {
    let sandbox = Sandbox::new();
    let file = sandbox.paths().config_file();
    std::fs::create_dir_all(file.parent().expect("has one")).expect("can be made");
    std::fs::write(&file, "max_running = \"many\"\n").expect("can be written");
    assert_check(&doctor(&sandbox), "settings", "problem", "max_running");
    std::fs::write(&file, "uv = \"/opt/no/uv\"\n").expect("can be written");
    let ran = doctor(&sandbox);
    assert_check(&ran, "settings", "ok", "config.toml");
    assert_check(&ran, "uv", "problem", "/opt/no/uv (from the settings or PYEXEC_UV) is not executable");
    let ran = sandbox.attend({
        let mut command = sandbox.command(PYEXECD);
        command.arg("--check-config");
        command
    });
    assert!(ran.end().expect_code(0).text().contains("\nuv = /opt/no/uv\n"));
}

#[test]
fn a_file_where_the_socket_belongs_is_a_problem_and_stays() {
    let mut sandbox = Sandbox::new();
    let precious = sandbox.write("precious.txt", "mine");
    sandbox.set("PYEXEC_SOCKET", &precious);
    assert_check(&doctor(&sandbox).expect_code(1), "socket", "problem", "precious.txt is not a socket");
    assert_eq!(std::fs::read_to_string(precious).expect("is still there"), "mine");
}

#[test]
fn a_socket_at_which_nobody_speaks_is_not_waited_for() {
    let mut sandbox = Sandbox::new();
    let path = sandbox.file("s");
    let _listener = UnixListener::bind(&path).expect("can be bound");
    sandbox.set("PYEXEC_SOCKET", &path);
    assert_check(&doctor(&sandbox).expect_code(1), "daemon", "problem", "");
}

#[test]
fn directories_that_can_not_be_made_are_problems() {
    let mut sandbox = Sandbox::new();
    let file = sandbox.write("file", "");
    sandbox.set("XDG_STATE_HOME", &file);
    // Not even root makes anything there.
    sandbox.set("XDG_CACHE_HOME", "/proc");
    let ran = doctor(&sandbox).expect_code(1);
    assert_check(&ran, "state directory", "problem", "file is no directory");
    assert_check(&ran, "cache directory", "problem", "/proc/pyexec: cannot be written to");
}

#[test]
fn systemd_is_asked_where_it_is_and_not_waited_for() {
    let mut sandbox = Sandbox::new();
    let manager = sandbox.root().join("run/systemd");
    std::fs::create_dir(&manager).expect("can be made");
    std::fs::write(manager.join("private"), "").expect("can be written");
    with_program(
        &mut sandbox,
        "systemctl",
        "printf 'Id=pyexecd.socket\\nLoadState=loaded\\nActiveState=active\\nUnitFileState=enabled\\n'",
    );
    put(&sandbox.root().join("bin/loginctl"), "echo no");
    let ran = doctor(&sandbox);
    assert_check(&ran, "systemd", "ok", "pyexecd.socket is enabled, active");
    assert_check(&ran, "lingering", "warning", "off");
    put(&sandbox.root().join("bin/systemctl"), "sleep 600");
    put(&sandbox.root().join("bin/loginctl"), "exit 1");
    assert_check(&doctor(&sandbox), "systemd", "warning", "did not answer");
}

#[test]
fn clients_are_told_from_those_that_can_not_start_anything() {
    let mut sandbox = Sandbox::new();
    sandbox.set_pyexec_apart();
    with_program(&mut sandbox, "pyexec-mcp", "echo pyexec-mcp 0.1.0");
    sandbox.pyexec(["mcp", "install", "--client", "cursor", "--client", "codex"]).expect_code(0);
    std::fs::create_dir(sandbox.root().join("config/zed")).expect("can be made");
    let home = sandbox.root().join("home");
    std::fs::write(home.join(".claude.json"), "{").expect("can be written");
    std::fs::write(home.join(".codex/config.toml"), "[mcp_servers.pyexec]\ncommand = \"/nowhere/x\"\n")
        .expect("can be");
    let ran = doctor(&sandbox);
    assert_check(&ran, "MCP client cursor", "ok", "connected: starts ");
    assert_check(&ran, "MCP client zed", "ok", "not connected; `pyexec mcp install --client zed`");
    assert_check(&ran, "MCP client codex", "warning", "/nowhere/x, which does not exist");
    assert_check(&ran, "MCP client claude-code", "warning", "line 1, column 1");
    assert!(!ran.text().contains("vscode"), "{ran}");
}

#[test]
fn an_error_of_the_daemons_start_names_the_doctor() {
    let mut sandbox = Sandbox::new();
    sandbox.set("PYEXEC_DAEMON", "/bin/false");
    let ran = sandbox.pyexec(["jobs"]).expect_code(125);
    assert!(ran.stderr.contains("hint: run `pyexec doctor`"), "{ran}");
}
