//! A daemon is bound to five directories. Clients that have others are served by a daemon of their own, or told.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::sandbox::{PYEXEC, PYEXECD, Ran, Sandbox, can_change_users, process_state, send};

/// The command line with another value of a variable.
fn with(sandbox: &Sandbox, variable: &str, value: &Path, arguments: &[&str]) -> Ran {
    let mut command = sandbox.cli(arguments);
    command.env(variable, value);
    sandbox.attend(command).end()
}

fn other(sandbox: &Sandbox, name: &str) -> std::path::PathBuf {
    let directory = sandbox.root().join(name);
    std::fs::create_dir(&directory).expect("can be made");
    std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("can be set");
    directory
}

#[test]
fn two_state_directories_with_one_runtime_directory_have_a_daemon_each() {
    let mut sandbox = Sandbox::new();
    sandbox.set("PYEXEC_MAX_RUNNING", "1");
    let second_state = other(&sandbox, "state-2");
    let second = |arguments: &[&str]| with(&sandbox, "XDG_STATE_HOME", &second_state, arguments);
    let wait = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('end')";
    let running = sandbox.detach(&["-c", wait]);
    let waiting = sandbox.detach(&["-c", "print('waited')"]);
    sandbox.wait_until_running(&running);
    let own = second(&["run", "--no-uv", "-d", "-c", "print('of the second')"]).expect_code(0).text();
    second(&["wait", own.trim()]).expect_code(0);
    assert_eq!(sandbox.daemons().len(), 2, "{:?}", sandbox.daemons());
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 2);
    assert_eq!(second(&["jobs", "--json"]).json()["total"], 1);
    // The first daemon dies, and the second client calls first.
    sandbox.kill_daemon();
    assert_eq!(second(&["jobs", "--json"]).json()["total"], 1);
    sandbox.write("go", "");
    assert_eq!(sandbox.pyexec(["wait", &running]).expect_code(0).code, 0);
    assert_eq!(sandbox.finished(&waiting)["exit_code"], 0, "its queue stands still");
    // And the other way round: whoever finds the usual place taken.
    second(&["daemon", "stop"]).expect_code(0);
    assert_eq!(second(&["jobs", "--json"]).json()["total"], 1);
    assert_eq!(sandbox.daemons().len(), 2);
    second(&["daemon", "stop"]).expect_code(0);
}

#[test]
fn a_socket_that_was_named_and_is_another_state_directorys_is_refused_with_a_remedy_that_works() {
    let mut sandbox = Sandbox::new();
    let socket = sandbox.root().join("named.sock");
    sandbox.set("PYEXEC_SOCKET", &socket);
    sandbox.run(&["-c", "print(1)"]).expect_code(0);
    let second_state = other(&sandbox, "state-2");
    let refused =
        with(&sandbox, "XDG_STATE_HOME", &second_state, &["run", "--no-uv", "-c", "print(2)"]).expect_code(125);
    let (first, second) = (sandbox.paths().state, second_state.join("pyexec"));
    for said in [first.display(), second.display(), socket.display()] {
        assert!(refused.stderr.contains(&said.to_string()), "{said} is not named: {refused}");
    }
    assert!(refused.stderr.contains("hint: unset PYEXEC_SOCKET"), "{refused}");
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 1);
    let mut unset = sandbox.cli(["run", "--no-uv", "-c", "print(2)"]);
    unset.env("XDG_STATE_HOME", &second_state).env_remove("PYEXEC_SOCKET");
    assert_eq!(sandbox.attend(unset).end().expect_code(0).text(), "2\n");
}

#[test]
fn a_daemon_that_does_not_answer_is_named_and_ended_from_another_runtime_directory_too() {
    let sandbox = Sandbox::new();
    sandbox.pyexec(["jobs"]).expect_code(0);
    let daemon = sandbox.daemon_pid();
    let elsewhere = other(&sandbox, "run-2");
    let from_elsewhere = |arguments: &[&str]| with(&sandbox, "XDG_RUNTIME_DIR", &elsewhere, arguments);
    send(daemon, Signal::STOP);
    for arguments in [&["jobs"][..], &["daemon", "status"]] {
        let refused = from_elsewhere(arguments).expect_code(125);
        assert!(refused.stderr.contains(&format!("(process {daemon}) does not answer: it is stopped")), "{refused}");
    }
    // Its socket is gone as well.
    std::fs::remove_file(sandbox.paths().socket).expect("can be removed");
    let refused = from_elsewhere(&["jobs"]).expect_code(125);
    assert!(refused.stderr.contains(&format!("(process {daemon}) does not answer: it is stopped")), "{refused}");
    assert_eq!(from_elsewhere(&["daemon", "stop"]).expect_code(0).text(), format!("stopped, pid {daemon}\n"));
    from_elsewhere(&["jobs"]).expect_code(0);
    assert_eq!(sandbox.daemons().len(), 1);
    from_elsewhere(&["daemon", "stop"]).expect_code(0);
}

#[test]
fn a_daemon_of_another_state_directory_that_does_not_answer_is_in_nobodys_way_and_is_not_ended() {
    let sandbox = Sandbox::new();
    sandbox.pyexec(["jobs"]).expect_code(0);
    let daemon = sandbox.daemon_pid();
    send(daemon, Signal::STOP);
    let second_state = other(&sandbox, "state-2");
    let second = |arguments: &[&str]| with(&sandbox, "XDG_STATE_HOME", &second_state, arguments);
    assert_eq!(second(&["daemon", "stop"]).expect_code(0).text(), "not running\n");
    assert_eq!(second(&["run", "--no-uv", "-c", "print(2)"]).expect_code(0).text(), "2\n");
    assert_eq!(process_state(daemon), Some('T'));
    send(daemon, Signal::CONT);
    assert_eq!(sandbox.daemon_pid(), daemon);
    second(&["daemon", "stop"]).expect_code(0);
}

#[test]
fn a_home_that_is_no_absolute_path_is_refused_and_nothing_is_made() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.cli(["jobs"]);
    command.env("HOME", "relative").env_remove("XDG_STATE_HOME");
    let refused = sandbox.attend(command).end().expect_code(125);
    assert!(refused.stderr.contains("relative/.local/state/pyexec is not an absolute path"), "{refused}");
    assert!(!sandbox.file("relative").exists());
}

#[test]
fn saved_scripts_are_the_clients_own_whoever_has_started_the_daemon() {
    let sandbox = Sandbox::new();
    let script = sandbox.write("mine.py", "print('mine')");
    sandbox.pyexec(["scripts", "save", "mine", script.to_str().expect("is UTF-8")]).expect_code(0);
    sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    let elsewhere = other(&sandbox, "snap");
    let editor = |arguments: &[&str]| with(&sandbox, "XDG_DATA_HOME", &elsewhere, arguments);
    // The daemon is the editor's.
    assert_eq!(editor(&["scripts", "list", "--json"]).expect_code(0).json()["scripts"], serde_json::json!([]));
    assert_eq!(sandbox.daemons().len(), 1);
    assert!(sandbox.pyexec(["scripts", "list"]).expect_code(0).text().contains("mine"));
    assert_eq!(sandbox.pyexec(["scripts", "run", "--no-uv", "mine"]).expect_code(0).text(), "mine\n");
    editor(&["scripts", "save", "theirs", script.to_str().expect("is UTF-8")]).expect_code(0);
    assert!(elsewhere.join("pyexec/scripts/theirs.py").is_file(), "it lies elsewhere");
    assert!(!sandbox.pyexec(["scripts", "list"]).expect_code(0).text().contains("theirs"));
    editor(&["scripts", "run", "--no-uv", "mine"]).expect_code(127);
}

#[test]
fn other_settings_and_another_cache_than_the_daemons_are_said() {
    let sandbox = Sandbox::new();
    sandbox.pyexec(["jobs"]).expect_code(0);
    for (variable, name) in [("XDG_CONFIG_HOME", "config"), ("XDG_CACHE_HOME", "cache")] {
        let directory = other(&sandbox, &format!("other-{name}"));
        let yours = directory.join("pyexec");
        let status = with(&sandbox, variable, &directory, &["daemon", "status"]).expect_code(0);
        let ours = sandbox.root().join(name).join("pyexec");
        assert!(status.text().contains(&format!("{}; yours is {}", ours.display(), yours.display())), "{status}");
        let doctor = with(&sandbox, variable, &directory, &["doctor", "--json"]).json();
        let checks = doctor["checks"].as_array().expect("a list");
        let check = checks.iter().find(|check| check["name"] == format!("{name} directory of the daemon"));
        let check = check.unwrap_or_else(|| panic!("it is not said: {doctor}"));
        assert_eq!(check["status"], "warning", "{check}");
        assert!(
            check["hint"].as_str().is_some_and(|hint| hint.contains(variable) && hint.contains("restart")),
            "{check}"
        );
    }
    assert!(!sandbox.pyexec(["daemon", "status"]).text().contains("yours is"));
}

#[test]
fn in_the_home_of_another_user_nothing_is_made() {
    let sandbox = Sandbox::new();
    if !can_change_users() {
        return;
    }
    let home = sandbox.root().join("home");
    std::os::unix::fs::chown(&home, Some(4321), Some(4322)).expect("root may");
    for arguments in [&["run", "--no-uv", "-c", "pass"][..], &["jobs"], &["daemon", "start"], &["scripts", "list"]] {
        let mut command = Command::new(PYEXEC);
        command.env_clear().env("HOME", &home).env("PATH", std::env::var_os("PATH").expect("is set"));
        command.env("PYEXEC_DAEMON", PYEXECD).args(arguments).current_dir("/");
        let refused = sandbox.attend(command).end().expect_code(125);
        let said = format!("would be made in {}, which belongs to user 4321, not to you", home.display());
        assert!(refused.stderr.contains(&said), "{refused}");
        assert_eq!(home.read_dir().expect("can be listed").count(), 0, "something was made");
    }
}

#[test]
fn a_daemon_that_is_stopped_is_named_with_what_to_do_and_can_be_restarted() {
    let sandbox = Sandbox::new();
    let id = sandbox.detach(&["-c", "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)"]);
    sandbox.wait_until_running(&id);
    let daemon = sandbox.daemon_pid();
    send(daemon, Signal::STOP);
    sandbox.wait_until("it is stopped", || match process_state(daemon) {
        Some('T') => Ok(()),
        state => Err(format!("{state:?}")),
    });
    let refused = sandbox.pyexec(["jobs"]).expect_code(125);
    assert!(refused.stderr.contains(&format!("(process {daemon}) does not answer: it is stopped")), "{refused}");
    assert!(refused.stderr.contains(&format!("`kill -CONT {daemon}`")) && !refused.stderr.contains("PYEXEC_SOCKET"));
    sandbox.pyexec(["daemon", "restart"]).expect_code(0);
    assert_ne!(sandbox.daemon_pid(), daemon);
    sandbox.write("go", "");
    assert_eq!(sandbox.finished(&id)["exit_code"], 0);
}

#[test]
fn a_lock_that_is_a_pipe_is_not_waited_for() {
    for name in ["start.lock", "daemon.lock"] {
        let sandbox = Sandbox::new();
        let state = sandbox.paths().state;
        std::fs::create_dir_all(&state).expect("can be made");
        let lock = state.join(name);
        let made = Command::new("mkfifo").arg(&lock).status().expect("can be started");
        assert!(made.success());
        let refused = sandbox.pyexec(["jobs"]).expect_code(125);
        assert!(refused.stderr.contains(name) && refused.stderr.contains("no regular file"), "{refused}");
        sandbox.pyexec(["daemon", "status"]).expect_code(3);
        std::fs::remove_file(&lock).expect("is there");
        sandbox.pyexec(["jobs"]).expect_code(0);
    }
}
