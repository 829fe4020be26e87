//! Values of environment variables, and what is typed into a job, rest nowhere.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::sandbox::{Sandbox, contains};

/// In no source file in one piece, so that no test finds its own text.
fn secret() -> String {
    ["hunter", "-", "2", "-of-pyexec"].concat()
}

#[track_caller]
fn assert_in_no_file(sandbox: &Sandbox, when: &str) {
    for path in sandbox.files() {
        let content = std::fs::read(&path).unwrap_or_default();
        assert!(!contains(&content, &secret()), "{when}, the secret is in {}", path.display());
    }
}

#[track_caller]
fn assert_shown_nowhere(sandbox: &Sandbox, id: &str) {
    for verb in [
        &["show", id][..],
        &["show", id, "--json"],
        &["jobs"],
        &["jobs", "--all", "--json"],
        &["logs", id],
        &["daemon", "logs"],
        &["daemon", "status"],
    ] {
        let ran = sandbox.pyexec(verb).expect_code(0);
        assert!(!contains(&ran.stdout, &secret()) && !ran.stderr.contains(&secret()), "{verb:?} shows it: {ran}");
    }
}

const CODE: &str = "
import os, time
print('started')
while not os.path.exists('go'): time.sleep(0.005)
print(os.environ['TOKEN'][:6])
";

#[test]
fn a_secret_is_in_no_file_once_the_job_has_started_and_shown_nowhere() {
    let mut sandbox = Sandbox::new();
    sandbox.set("PYEXEC_LOG", "trace");
    let mut daemon = sandbox.daemon();
    sandbox.write("script.py", CODE);
    let assignment = format!("TOKEN={}", secret());
    let mut run = sandbox.attend_run(&["-e", &assignment, "script.py"]);
    run.wait_for_stdout("started\n");
    let id = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0]["id"].as_str().expect("is text").to_owned();
    assert_in_no_file(&sandbox, "while it runs");
    assert_shown_nowhere(&sandbox, &id);
    assert_eq!(sandbox.show(&id)["variables"], serde_json::json!(["TOKEN"]), "the names are kept");
    daemon.restart();
    assert_in_no_file(&sandbox, "after a restart of the daemon");
    sandbox.write("go", "");
    assert_eq!(run.end().expect_code(0).text(), "started\nhunter\n");
    assert_in_no_file(&sandbox, "when it has ended");
    assert_shown_nowhere(&sandbox, &id);
}

#[test]
fn a_secret_in_variables_that_a_command_prints_is_in_no_file_once_the_job_has_started() {
    let mut sandbox = Sandbox::new();
    sandbox.set("PYEXEC_LOG", "trace");
    let mut daemon = sandbox.daemon();
    sandbox.write("script.py", CODE);
    let mut bash = sandbox.command("bash");
    bash.args(["-c", "\"$0\" run --no-uv --env-file <(echo \"TOKEN=$GIVEN\") script.py"]);
    bash.arg(crate::sandbox::PYEXEC).env("GIVEN", secret());
    let mut run = sandbox.attend(bash);
    run.wait_for_stdout("started\n");
    let id = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0]["id"].as_str().expect("is text").to_owned();
    assert_in_no_file(&sandbox, "while it runs");
    assert_shown_nowhere(&sandbox, &id);
    daemon.restart();
    sandbox.write("go", "");
    assert_eq!(run.end().expect_code(0).text(), "started\nhunter\n");
    assert_in_no_file(&sandbox, "when it has ended");
}

#[test]
fn a_secret_of_a_job_that_could_not_start_is_in_no_file() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.file("bin")).expect("can be made");
    let broken = sandbox.write("bin/python3", "#!/nowhere/at/all\n");
    std::fs::set_permissions(broken, PermissionsExt::from_mode(0o755)).expect("can be made executable");
    let mut command = sandbox.cli(["run", "--no-uv", "-e", &format!("TOKEN={}", secret()), "-c", "pass"]);
    command.env("PATH", crate::sandbox::path_variable(&sandbox.file("bin")));
    sandbox.attend(command).end().expect_code(126);
    assert_in_no_file(&sandbox, "when it could not be started");
}

#[test]
fn a_secret_of_a_job_that_waits_is_its_owners_alone_and_goes_with_a_cancel() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon_with(&[("PYEXEC_MAX_RUNNING", "1")]);
    let first = sandbox.detach(&["-c", "import time; time.sleep(600)"]);
    let mut command =
        sandbox.cli(["run", "--no-uv", "-d", "--stdin", "-e", &format!("TOKEN={}", secret()), "-c", "pass"]);
    let typed = sandbox.write("typed", format!("password: {}\n", secret()));
    command.stdin(Stdio::from(std::fs::File::open(&typed).expect("is there")));
    let id = sandbox.attend(command).end().expect_code(0).text().trim_end().to_owned();
    std::fs::remove_file(typed).expect("is there");
    daemon.restart();
    assert_eq!(sandbox.wait_for_status(&id, "pending")["status"], "pending");
    let holding: Vec<_> = sandbox
        .files()
        .into_iter()
        .filter(|path| contains(&std::fs::read(path).unwrap_or_default(), &secret()))
        .collect();
    assert!(!holding.is_empty(), "a job that waits has to have its environment somewhere");
    for path in holding {
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "of {}", path.display());
    }
    assert_shown_nowhere(&sandbox, &id);
    sandbox.pyexec(["kill", &id]).expect_code(0);
    assert_in_no_file(&sandbox, "when it has been cancelled");
    assert_eq!(sandbox.pyexec(["wait", &id]).code, 130);
    sandbox.pyexec(["kill", "--now", &first]).expect_code(0);
    assert_in_no_file(&sandbox, "at the end");
}

#[test]
fn text_for_stdin_is_in_no_file_once_the_job_has_started() {
    let sandbox = Sandbox::new();
    let code =
        "import os, sys, time\nprint(len(sys.stdin.readline()))\nwhile not os.path.exists('go'): time.sleep(0.005)";
    let mut command = sandbox.cli(["run", "--no-uv", "-d", "--stdin", "-c", code]);
    command.stdin(Stdio::piped());
    let mut run = sandbox.attend(command);
    std::io::Write::write_all(&mut run.stdin(), format!("{}\n", secret()).as_bytes()).expect("is read");
    let id = run.end().expect_code(0).text().trim_end().to_owned();
    let mut logs = sandbox.attend(sandbox.cli(["logs", "-f", &id]));
    logs.wait_for_stdout(&format!("{}\n", secret().len() + 1));
    assert_in_no_file(&sandbox, "while it runs");
    assert_shown_nowhere(&sandbox, &id);
    sandbox.write("go", "");
    logs.end().expect_code(0);
    assert_in_no_file(&sandbox, "when it has ended");
}

#[test]
fn text_sent_to_a_job_is_in_no_file() {
    let mut sandbox = Sandbox::new();
    sandbox.set("PYEXEC_LOG", "trace");
    let id = sandbox.detach(&[
        "-i",
        "-c",
        "import os, sys, time\nprint(len(input()))\nwhile not os.path.exists('go'): time.sleep(0.005)",
    ]);
    sandbox.wait_until_running(&id);
    sandbox.pyexec(["send", &id, &secret()]).expect_code(0);
    let mut logs = sandbox.attend(sandbox.cli(["logs", "-f", &id]));
    logs.wait_for_stdout(&format!("{}\n", secret().len()));
    assert_in_no_file(&sandbox, "once it has been read");
    assert_shown_nowhere(&sandbox, &id);
    sandbox.write("go", "");
    logs.end().expect_code(0);
}

#[test]
fn nothing_of_ours_can_be_read_by_others() {
    let sandbox = Sandbox::new();
    let id = sandbox.detach(&["-c", "print(1)"]);
    sandbox.finished(&id);
    let paths = sandbox.paths();
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o7777;
    for directory in [
        &paths.state,
        &paths.runtime,
        &paths.jobs(),
        &paths.run_directory(id.parse().expect("is an id")),
        &paths.logs(),
    ] {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
    assert_eq!(mode(&paths.socket), 0o600);
    for file in sandbox.files().iter().filter(|file| file.starts_with(&paths.state)) {
        assert_eq!(mode(file) & 0o077, 0, "{} is open to others", file.display());
    }
}
