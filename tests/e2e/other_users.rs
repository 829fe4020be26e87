//! What users of the same machine can do to each other: nothing.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::sandbox::{NOBODY, STRANGER, Sandbox, can_change_users};

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("is ours");
}

/// Connects, says what a client would, and prints what it hears.
const GREET: &str = "
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
try:
    s.connect(sys.argv[1])
    try: s.sendall(b'PYEXEC/1 1-1 0.1.0'.ljust(64, b'\\0'))
    except BrokenPipeError: pass
    try: print('heard', s.recv(1000))
    except ConnectionResetError: print('heard', b'')
except OSError as error:
    print(type(error).__name__)
";

#[test]
fn another_user_reaches_no_daemon_and_where_modes_were_loosened_is_not_answered() {
    if !can_change_users() {
        return;
    }
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    let paths = sandbox.paths();
    let client = Sandbox::of_nobody();
    let mut command = client.cli(["jobs"]);
    command.env("PYEXEC_SOCKET", &paths.socket);
    set_mode(sandbox.root(), 0o755);
    set_mode(&sandbox.root().join("run"), 0o755);
    let refused = client.attend(command).end().expect_code(125);
    assert!(refused.stderr.contains("cannot connect to the daemon") && refused.stderr.contains("denied"), "{refused}");
    let socket = paths.socket.to_str().expect("is text");
    assert_eq!(sandbox.python_as(NOBODY, GREET, &[socket]).text(), "PermissionError\n");
    // Somebody has been careless.
    set_mode(&paths.runtime, 0o777);
    set_mode(&paths.socket, 0o777);
    assert_eq!(sandbox.python_as(NOBODY, GREET, &[socket]).text(), "heard b''\n");
    let mut command = client.cli(["jobs"]);
    command.env("PYEXEC_SOCKET", &paths.socket);
    let refused = client.attend(command).end().expect_code(125);
    assert!(refused.stderr.contains("belongs to user 0, not to you"), "{refused}");
    assert!(refused.stderr.contains("hint: point PYEXEC_SOCKET at a socket of your own"), "{refused}");
    let log = sandbox.daemon_log();
    assert!(log.contains("a connection of another user was refused uid=65534"), "{log}");
    assert_eq!(sandbox.daemon_pid(), daemon.pid(), "it is the same, and answers its own user");
}

#[test]
fn not_even_root_is_answered_by_a_daemon_and_a_supervisor_of_another_user() {
    if !can_change_users() {
        return;
    }
    let sandbox = Sandbox::of_nobody();
    let id = sandbox.detach(&["-c", "import time; time.sleep(600)"]);
    sandbox.wait_until_running(&id);
    let paths = sandbox.paths();
    let controls: Vec<PathBuf> = std::fs::read_dir(paths.supervisors())
        .expect("is there")
        .map(|entry| entry.expect("is there").path())
        .collect();
    assert!(!controls.is_empty(), "the supervisor listens nowhere");
    for (socket, user) in controls.iter().map(|socket| (socket, 0)).chain([(&paths.socket, 0)]) {
        let heard = sandbox.python_as(user, GREET, &[socket.to_str().expect("is text")]);
        assert_eq!(heard.text(), "heard b''\n", "{}", socket.display());
    }
    for directory in [&paths.runtime, &paths.supervisors()] {
        set_mode(directory, 0o777);
    }
    for socket in &controls {
        set_mode(socket, 0o777);
        let heard = sandbox.python_as(STRANGER, GREET, &[socket.to_str().expect("is text")]);
        assert_eq!(heard.text(), "heard b''\n", "{}", socket.display());
    }
    // As root, whose own daemon this is not.
    let mut client = Sandbox::new();
    client.set("PYEXEC_SOCKET", &paths.socket);
    let refused = client.pyexec(["jobs"]).expect_code(125);
    assert!(refused.stderr.contains("belongs to user 65534, not to you"), "{refused}");
    assert_eq!(sandbox.show(&id)["status"], "running");
    sandbox.pyexec(["kill", "--now", &id]).expect_code(0);
    assert_eq!(sandbox.finished(&id)["status"], "cancelled");
}

/// Tries all that could be done to each path, and prints what could.
const TRY: &str = "
import os, socket, sys
def connect(path):
    # What has no room in an address is reached through its directory.
    if len(os.fsencode(path)) > 107:
        directory = os.open(os.path.dirname(path), os.O_PATH)
        path = f'/proc/self/fd/{directory}/{os.path.basename(path)}'
    socket.socket(socket.AF_UNIX).connect(path)
for path in sys.stdin.read().split('\\0'):
    tries = {
        'read': lambda: os.open(path, os.O_RDONLY | os.O_NONBLOCK),
        'write': lambda: os.open(path, os.O_WRONLY | os.O_NONBLOCK),
        'list': lambda: os.listdir(path),
        'connect': lambda: connect(path),
        'remove': lambda: os.rmdir(path) if os.path.isdir(path) else os.unlink(path),
    }
    for name, attempt in tries.items():
        try: attempt()
        # The second is said of any directory that is opened to be written to.
        except (PermissionError, IsADirectoryError): continue
        except OSError as error: print(path, name, error)
        else: print(path, name)
";

fn all_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("can be listed") {
        let path = entry.expect("can be listed").path();
        if path.symlink_metadata().is_ok_and(|data| data.is_dir()) {
            all_below(&path, found);
        }
        found.push(path);
    }
}

#[test]
fn nothing_of_a_daemon_its_supervisors_and_its_jobs_can_be_opened_by_others() {
    if !can_change_users() {
        return;
    }
    let mut sandbox = Sandbox::of_nobody();
    sandbox.set("PYEXEC_MAX_RUNNING", "1");
    let code = "import os, time
open(os.environ['PYEXEC_ARTIFACTS'] + '/left', 'w').write('x')
import pyexec_progress; pyexec_progress.progress(1, 2)
print('ready', flush=True)
time.sleep(600)";
    let ended = sandbox.run(&["-e", "TOKEN=secret", "-c", "print('over')"]).expect_code(0);
    assert_eq!(ended.text(), "over\n");
    let running = sandbox.detach(&["-c", code]);
    sandbox.wait_until("the job has printed", || {
        let logs = sandbox.logs(&running);
        if logs == b"ready\n" { Ok(()) } else { Err(format!("{logs:?}")) }
    });
    let mut command = sandbox.cli(["run", "--no-uv", "-d", "--stdin", "-e", "TOKEN=secret", "-c", "pass"]);
    command.stdin(Stdio::from(std::fs::File::open("/etc/passwd").expect("is there")));
    let waiting = sandbox.attend(command).end().expect_code(0).text().trim_end().to_owned();
    let source = sandbox.write("saved.py", "print('saved')");
    set_mode(&source, 0o644);
    sandbox.pyexec(["scripts", "save", "saved.py", "saved.py"]).expect_code(0);
    let paths = sandbox.paths();
    let mut all = Vec::new();
    for directory in [&paths.state, &paths.data, &paths.cache, &paths.runtime] {
        if directory.exists() {
            all_below(directory, &mut all);
            all.push(directory.clone());
        }
    }
    // What is to be hidden is there.
    let waits = sandbox.run_directory(&waiting);
    let runs = sandbox.run_directory(&running);
    for expected in [
        paths.socket.clone(),
        paths.daemon_lock(),
        paths.database(),
        paths.scripts().join("saved.py"),
        waits.join("environment"),
        waits.join("stdin"),
        runs.join("stdout.0"),
        runs.join("supervisor.json"),
        runs.join("progress"),
        runs.join("artifacts/left"),
    ] {
        assert!(all.contains(&expected), "{} is not there", expected.display());
    }
    for kind in ["exit.json", ".log"] {
        assert!(all.iter().any(|path| path.to_string_lossy().ends_with(kind)), "no {kind}");
    }
    assert!(all.iter().any(|path| path.parent() == Some(&paths.supervisors())), "no control socket");
    for path in &all {
        let found = path.symlink_metadata().expect("is there");
        assert_eq!(found.uid(), NOBODY, "of {}", path.display());
        // Made by the job, with its client's umask: the directory around it is what keeps others out.
        let of_the_job = path.starts_with(runs.join("artifacts"))
            || path.ends_with("progress")
            || path.components().any(|part| part.as_os_str() == "__pycache__");
        if !of_the_job || found.file_type().is_socket() {
            assert_eq!(found.mode() & 0o077, 0, "{:o} {}", found.mode(), path.display());
        }
    }
    let list = all.iter().map(|path| path.to_str().expect("is text")).collect::<Vec<_>>().join("\0");
    let mut command = sandbox.command("setpriv");
    command.args(["--reuid=65533", "--regid=65533", "--clear-groups", "--", "/usr/bin/python3", "-c", TRY]);
    command.current_dir("/").stdin(Stdio::piped());
    let mut tried = sandbox.attend(command);
    std::io::Write::write_all(&mut tried.stdin(), list.as_bytes()).expect("is read");
    assert_eq!(tried.end().expect_code(0).text(), "", "could be done to it by another user");
    sandbox.pyexec(["kill", "--now", &waiting, &running]).expect_code(0);
}

#[test]
fn a_client_and_its_daemon_have_the_rights_of_their_user_and_no_more() {
    if !can_change_users() {
        return;
    }
    let sandbox = Sandbox::of_nobody();
    // All of it is root's.
    let script = sandbox.write("secret.py", "print('ran')");
    let variables = sandbox.write("secret.env", "A=1");
    let requirements = sandbox.write("requirements.txt", "six");
    for file in [&script, &variables, &requirements] {
        set_mode(file, 0o600);
    }
    let directory = sandbox.file("shut");
    std::fs::create_dir(&directory).expect("can be made");
    std::fs::write(directory.join("pyproject.toml"), "[project]\nname = 'x'\nversion = '0'\n").expect("can be written");
    std::fs::write(directory.join("x.py"), "").expect("can be written");
    set_mode(&directory, 0o700);
    for (arguments, named) in [
        (&["run", "--no-uv", "--env-file", "secret.env", "-c", "pass"][..], "secret.env"),
        (&["run", "--no-uv", "--dir", "shut", "-c", "pass"], "shut"),
        (&["run", "--no-uv", "shut/x.py"], "shut"),
        (&["run", "--no-uv", "--env-file", "shut/x.py", "-c", "pass"], "shut"),
        (&["scripts", "save", "stolen.py", "secret.py"], "secret.py"),
        (&["run", "--no-uv", "secret.py"], "secret.py"),
    ] {
        let ran = sandbox.pyexec(arguments);
        assert_ne!(ran.code, 0, "{arguments:?}: {ran}");
        assert!(ran.stdout.is_empty(), "{arguments:?}: {ran}");
        let said = ran.stderr.to_lowercase();
        assert!(said.contains("permission denied") && said.contains(named), "{arguments:?}: {ran}");
    }
    assert!(sandbox.pyexec(["scripts", "list"]).expect_code(0).stdout.is_empty(), "something was saved");
}

#[test]
fn directories_of_somebody_else_are_not_taken_for_ones_own() {
    if !can_change_users() {
        return;
    }
    let chown = |path: &Path, user| std::os::unix::fs::lchown(path, Some(user), Some(user)).expect("can be given away");
    let refused = |sandbox: &Sandbox, what: &str, problem: &str, hint: &str| {
        for verb in [&["jobs"][..], &["run", "--no-uv", "-c", "print('ran')"], &["daemon", "start"]] {
            let ran = sandbox.pyexec(verb).expect_code(125);
            assert!(ran.stdout.is_empty() && ran.stderr.contains(problem), "{what}, {verb:?}: {ran}");
            assert!(ran.stderr.contains("hint: ") && ran.stderr.contains(hint), "{what}, {verb:?}: {ran}");
        }
        // Nor does a daemon that is started by something else.
        let mut command = sandbox.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        command.arg(sandbox.root().join("programs/pyexecd"));
        let ran = sandbox.attend(command).end().expect_code(1);
        assert!(ran.stderr.contains(problem) && ran.stderr.contains(hint), "{what}: {ran}");
        assert!(sandbox.daemons().is_empty(), "{what}: there is a daemon");
    };

    let sandbox = Sandbox::of_nobody();
    let run = sandbox.root().join("run");
    chown(&run, STRANGER);
    refused(&sandbox, "a runtime directory of another's", "run belongs to user 65533, not to you", "XDG_RUNTIME_DIR");
    chown(&run, NOBODY);
    set_mode(&run, 0o777);
    refused(&sandbox, "an open runtime directory", "run has mode 0777: other users can replace", "XDG_RUNTIME_DIR");
    set_mode(&run, 0o700);

    let planted = sandbox.root().join("planted");
    std::fs::create_dir(&planted).expect("can be made");
    set_mode(&planted, 0o777);
    for (home, variable) in [("run", "XDG_RUNTIME_DIR"), ("state", "XDG_STATE_HOME"), ("data", "XDG_DATA_HOME")] {
        let place = sandbox.root().join(home).join("pyexec");
        std::os::unix::fs::symlink(&planted, &place).expect("can be made");
        chown(&place, STRANGER);
        let link = format!("{home}/pyexec is a link that user 65533 has made");
        refused(&sandbox, "a link of another's", &link, variable);
        assert_eq!(std::fs::read_dir(&planted).expect("is there").count(), 0, "something was put there");
        std::fs::remove_file(&place).expect("is there");
        std::fs::create_dir(&place).expect("can be made");
        chown(&place, STRANGER);
        let directory = format!("{home}/pyexec belongs to user 65533, not to you");
        refused(&sandbox, "a directory of another's", &directory, variable);
        std::fs::remove_dir(&place).expect("is empty");
    }

    // One's own, left open, is closed.
    let state = sandbox.root().join("state/pyexec");
    std::fs::create_dir(&state).expect("can be made");
    chown(&state, NOBODY);
    set_mode(&state, 0o777);
    sandbox.pyexec(["jobs"]).expect_code(0);
    assert_eq!(state.metadata().expect("is there").mode() & 0o7777, 0o700);
}
