//! Whoever happens to start the daemon leaves nothing of itself with it, and takes nothing that is somebody else's.

use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::sandbox::{PYEXECD, Sandbox, starter};

#[test]
fn a_lock_that_the_starter_holds_by_a_descriptor_is_free_when_it_has_ended() {
    let sandbox = Sandbox::new();
    let lock = sandbox.write("lock", "");
    let take = format!(
        "import fcntl\nfd = os.open({lock:?}, os.O_RDWR)\nos.set_inheritable(fd, True)\nfcntl.flock(fd, fcntl.LOCK_EX)"
    );
    starter(&sandbox, &take, &["jobs"]).expect_code(0);
    assert_eq!(sandbox.daemons().len(), 1);
    let file = std::fs::File::open(&lock).expect("is there");
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("nobody holds it");
}

#[test]
fn signals_that_the_starter_ignores_are_not_ignored_by_supervisors_and_jobs() {
    let sandbox = Sandbox::new();
    let ignore = "for s in (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1): signal.signal(s, signal.SIG_IGN)";
    let ran = starter(&sandbox, ignore, &["run", "--no-uv", "-c", "import sys; print(1); sys.exit(3)"]);
    assert_eq!(ran.expect_code(3).text(), "1\n");
    let timed_out = ["run", "--no-uv", "--timeout", "300ms", "-c", "import time; time.sleep(600)"];
    starter(&sandbox, ignore, &timed_out).expect_code(124);
}

#[test]
fn a_job_runs_under_its_own_clients_limits_and_not_under_the_starters() {
    const SHOW: &str = "import os, resource as r; print(r.getrlimit(r.RLIMIT_NOFILE)[0], \
        r.getrlimit(r.RLIMIT_CORE), os.getpriority(os.PRIO_PROCESS, 0))";
    // The tests themselves may have been started with another than the usual one.
    let niceness = rustix::process::nice(0).expect("can be asked for");
    let sandbox = Sandbox::new();
    // Soft limits and priorities that nobody else should get.
    let narrow = "resource.setrlimit(resource.RLIMIT_NOFILE, (99, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))";
    starter(&sandbox, narrow, &["daemon", "start"]).expect_code(0);
    let own = "resource.setrlimit(resource.RLIMIT_NOFILE, (777, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
os.nice(5)";
    let shown = starter(&sandbox, own, &["run", "--no-uv", "-c", SHOW]).expect_code(0).text();
    assert_eq!(shown, format!("777 (0, 0) {}\n", (niceness + 5).min(19)));
    let plain = sandbox.attend({
        let mut command = sandbox.command("python3");
        command.args(["-c", SHOW]);
        command
    });
    assert_eq!(sandbox.run(&["-c", SHOW]).expect_code(0).text(), plain.end().expect_code(0).text());
}

#[test]
fn a_file_that_is_no_socket_is_not_taken_for_one() {
    let mut sandbox = Sandbox::new();
    let precious = sandbox.write("precious.txt", "mine");
    sandbox.set("PYEXEC_SOCKET", &precious);
    let refused = sandbox.pyexec(["jobs"]).expect_code(125);
    assert!(refused.stderr.contains("no socket"), "{refused}");
    assert_eq!(std::fs::read_to_string(precious).expect("is still there"), "mine");
}

#[test]
fn a_daemon_of_another_state_directory_does_not_take_the_socket() {
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    let mut other = sandbox.command(PYEXECD);
    other.env("XDG_STATE_HOME", sandbox.root().join("other-state"));
    let refused = sandbox.attend(other).end().expect_code(1);
    assert!(refused.stderr.contains("somebody else listens there"), "{refused}");
    assert_eq!(sandbox.daemon_pid(), daemon.pid());
}

#[test]
fn a_daemon_whose_socket_has_been_swept_away_is_found_and_makes_it_again() {
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    let socket = sandbox.paths().socket;
    std::fs::remove_file(&socket).expect("is there");
    sandbox.pyexec(["jobs"]).expect_code(0);
    UnixStream::connect(&socket).expect("is there again");
    assert_eq!(sandbox.daemon_pid(), daemon.pid());
}

#[test]
fn a_client_with_another_runtime_directory_finds_the_daemon() {
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    let mut elsewhere = sandbox.cli(["daemon", "status", "--json"]);
    elsewhere.env("XDG_RUNTIME_DIR", sandbox.root().join("other-run"));
    let status = sandbox.attend(elsewhere).end().expect_code(0).json();
    assert_eq!(status["pid"], Value::from(daemon.pid()));
}

#[test]
fn a_job_whose_run_directory_is_deleted_goes_on_to_its_end() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let script = "
import os, time
print('ready', flush=True)
while not os.path.exists('go'): time.sleep(0.005)
for n in range(200000): print(n)
print('yes', file=open('done', 'w'))
";
    let id = sandbox.detach(&["-c", script]);
    let mut logs = sandbox.attend(sandbox.cli(["logs", "-f", &id]));
    logs.wait_for_stdout("ready");
    drop(logs);
    std::fs::remove_dir_all(sandbox.run_directory(&id)).expect("is there");
    sandbox.write("go", "");
    sandbox.wait_for_file("done");
    assert_eq!(sandbox.finished(&id)["exit_code"], 0);
}

#[test]
fn input_that_a_job_did_not_live_to_read_is_no_error() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.cli(["run", "--no-uv", "-c", "import os; os.read(0, 1)"]);
    command.stdin(std::process::Stdio::piped());
    let mut run = sandbox.attend(command);
    let mut stdin = run.stdin();
    let writing = std::thread::spawn(move || {
        use std::io::Write;
        // Until nobody reads any more.
        let _ = stdin.write_all(&vec![b'x'; 8 << 20]);
    });
    let ran = run.end().expect_code(0);
    assert_eq!(ran.stderr, "");
    writing.join().expect("does not panic");
}

/// Plays the part of the user's service manager: notes what it is asked, and runs the daemon with the environment it is given.
const SYSTEMD_RUN: &str = r#"#!/usr/bin/env python3
import os, socket, subprocess, sys, time
asked = sys.argv[1:]
words = asked[:asked.index('--')]
open(os.environ['ASKED'], 'w').write('\n'.join(words) + '\n')
variables = dict(word[len('--setenv='):].split('=', 1) for word in words if word.startswith('--setenv='))
ready = os.path.join(variables['XDG_RUNTIME_DIR'], 'notify')
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(ready)
variables['NOTIFY_SOCKET'] = ready
subprocess.Popen(asked[asked.index('--') + 1:], env=variables, start_new_session=True,
                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while b'READY=1' not in listener.recv(4096): pass
"#;

#[test]
fn where_a_service_manager_answers_the_daemon_is_a_unit_of_its_own() {
    use std::os::unix::fs::PermissionsExt;
    let mut sandbox = Sandbox::new();
    let bin = sandbox.file("bin");
    std::fs::create_dir(&bin).expect("can be made");
    for (name, text) in [("systemd-run", SYSTEMD_RUN), ("systemctl", "#!/bin/sh\nexit 1\n")] {
        std::fs::write(bin.join(name), text).expect("can be written");
        std::fs::set_permissions(bin.join(name), PermissionsExt::from_mode(0o755)).expect("can be set");
    }
    let manager = sandbox.paths().runtime.parent().expect("has one").join("systemd");
    std::fs::create_dir(&manager).expect("can be made");
    std::fs::write(manager.join("private"), "").expect("can be written");
    let asked = sandbox.file("asked");
    sandbox.set("ASKED", &asked);
    sandbox.set("PATH", crate::sandbox::path_variable(&bin));
    assert_eq!(sandbox.run(&["-c", "print(6 * 7)"]).expect_code(0).text(), "42\n");
    let asked = std::fs::read_to_string(asked).expect("was asked");
    for word in ["--user", "--unit=pyexecd", "--property=Type=notify", "--property=KillMode=process"] {
        assert!(asked.lines().any(|line| line == word), "{word} is not in\n{asked}");
    }
    assert!(!asked.contains("PYEXEC_JOB_ID"), "{asked}");
    assert_eq!(sandbox.daemons().len(), 1);
    // The unit is the default instance's.
    std::fs::remove_file(sandbox.file("asked")).expect("is there");
    sandbox.set("PYEXEC_INSTANCE", "other");
    assert_eq!(sandbox.run(&["-c", "print(6 * 7)"]).expect_code(0).text(), "42\n");
    assert_eq!(sandbox.daemons().len(), 2);
    assert!(!sandbox.file("asked").exists(), "the manager was asked to start another instance");
}

#[test]
fn clients_that_leave_without_waiting_for_their_answer_do_not_take_the_daemon_with_them() {
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    for _ in 0..5 {
        // In the middle of a wait, with output on its way to them.
        let printing = "import time\nfor n in range(200): print('x' * 100000)\ntime.sleep(600)";
        let mut run = sandbox.attend_run(&["-c", printing]);
        run.wait_for_stdout("x");
        run.signal(rustix::process::Signal::KILL);
        drop(run);
    }
    assert_eq!(sandbox.daemon_pid(), daemon.pid());
    sandbox.pyexec(["kill", "--all", "--now"]).expect_code(0);
}
