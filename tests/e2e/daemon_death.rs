//! The daemon's death is not an event: jobs go on, end, are timed out and cancelled, and the next daemon knows it all.

use pyexec_proto::Timestamp;
use serde_json::Value;

use crate::sandbox::{Sandbox, TestDaemon, is_alive, pid_of};

/// Prints a line, waits for the file `go`, prints on and exits with 7.
const SCRIPT: &str = "
import os, sys, time
print('before')
open('started', 'w').write(f'{os.getpid()}\\n')
while not os.path.exists('go'): time.sleep(0.005)
for number in range(1000): print('after', number)
print('last words', file=sys.stderr)
sys.exit(7)
";

fn expected_output() -> String {
    let after: String = (0..1000).map(|number| format!("after {number}\n")).collect();
    format!("before\n{after}")
}

/// A job that runs and waits for `go`; its id and its pid.
fn start_job(sandbox: &Sandbox, options: &[&str]) -> (String, u32) {
    sandbox.write("script.py", SCRIPT);
    let id = sandbox.detach(&[options, &["script.py"]].concat());
    let pid = sandbox.wait_for_file("started").parse().expect("is a pid");
    // Out of the pipe: a supervisor that is killed takes with it what it has not read yet, and nothing else.
    sandbox.wait_until("its first line is kept", || match sandbox.logs(&id) {
        kept if kept == b"before\n" => Ok(()),
        kept => Err(format!("{kept:?}")),
    });
    (id, pid)
}

fn assert_ended_with_seven(sandbox: &Sandbox, id: &str, job: &Value) {
    assert_eq!(
        (&job["status"], &job["reason"], &job["exit_code"]),
        (&"failed".into(), &"exit".into(), &7.into()),
        "{job}"
    );
    assert_eq!(String::from_utf8_lossy(&sandbox.logs(id)), expected_output());
    let stderr = sandbox.pyexec(["logs", id, "--stderr"]).expect_code(0).stderr;
    assert_eq!(stderr, "last words\n");
    assert_eq!(job["stdout_bytes"], expected_output().len(), "{job}");
    assert_eq!(job["stderr_bytes"], "last words\n".len(), "{job}");
    let usage = &job["usage"];
    assert!(usage["peak_rss_mb"].as_f64().is_some_and(|peak| peak > 2.0), "{job}");
    assert!(usage["user_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{job}");
}

/// Times in RFC 3339 with the same number of digits are ordered as text.
fn time<'a>(job: &'a Value, name: &str) -> &'a str {
    job[name].as_str().unwrap_or_else(|| panic!("{name} is no time: {job}"))
}

#[test]
fn a_job_outlives_its_daemon_and_the_next_one_sees_it_end() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let (id, pid) = start_job(&sandbox, &[]);
    let before = sandbox.show(&id);
    daemon.kill();
    assert!(is_alive(pid), "the job has died with the daemon");
    daemon.start();
    let adopted = sandbox.wait_for_status(&id, "running");
    for kept in ["pid", "created_at", "started_at", "command", "directory"] {
        assert_eq!(adopted[kept], before[kept], "{kept} has changed with the daemon: {adopted}");
    }
    sandbox.write("go", "");
    let job = sandbox.finished(&id);
    assert_ended_with_seven(&sandbox, &id, &job);
    assert_eq!(job["started_at"], before["started_at"]);
    assert!(time(&job, "completed_at") > time(&job, "started_at"), "{job}");
}

#[test]
fn a_job_that_ends_while_no_daemon_runs_is_known_to_the_next_one() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let (id, pid) = start_job(&sandbox, &[]);
    let before = sandbox.show(&id);
    daemon.kill();
    sandbox.write("go", "");
    sandbox.wait_until_gone(pid);
    wait_until_supervisors_are_gone(&sandbox);
    let restarted = Timestamp::now().to_string();
    daemon.start();
    let job = sandbox.finished(&id);
    assert_ended_with_seven(&sandbox, &id, &job);
    assert_eq!(job["started_at"], before["started_at"]);
    // It is when it ended, not when somebody heard of it: no daemon ran then.
    assert!(time(&job, "completed_at") <= restarted.as_str(), "{job}, and the daemon was started again at {restarted}");
}

fn wait_until_supervisors_are_gone(sandbox: &Sandbox) {
    sandbox.wait_until("no supervisor is left", || {
        let left = sandbox.processes();
        if left.iter().any(crate::sandbox::Process::is_supervisor) { Err(format!("{left:?}")) } else { Ok(()) }
    });
}

#[test]
fn a_job_is_timed_out_although_no_daemon_runs() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let (id, pid) = start_job(&sandbox, &["--timeout", "3s"]);
    daemon.kill();
    sandbox.wait_until_gone(pid);
    wait_until_supervisors_are_gone(&sandbox);
    daemon.start();
    let waited = sandbox.pyexec(["wait", &id]).expect_code(124);
    assert!(waited.stderr.contains("timed out"), "{waited}");
    let job = sandbox.show(&id);
    assert_eq!((&job["status"], &job["reason"]), (&"failed".into(), &"timed_out".into()), "{job}");
    assert_eq!(sandbox.logs(&id), b"before\n");
    assert!(job["elapsed_seconds"].as_f64().is_some_and(|seconds| seconds >= 3.0), "{job}");
}

#[test]
fn a_cancel_right_after_the_restart_ends_the_job() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let (id, pid) = start_job(&sandbox, &[]);
    daemon.restart();
    // The first thing the new daemon hears.
    let killed = sandbox.pyexec(["kill", &id]).expect_code(0);
    assert_eq!(killed.text(), format!("{id} cancelled\n"));
    assert!(!is_alive(pid), "the job is said to be cancelled, and runs");
    let job = sandbox.show(&id);
    assert_eq!((&job["status"], &job["exit_code"]), (&"cancelled".into(), &(-15).into()), "{job}");
}

#[test]
fn a_cancel_that_the_daemon_did_not_live_to_see_through_is_seen_through_by_the_next() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let (id, pid) = start_job(&sandbox, &["--grace", "1s"]);
    let kill = sandbox.attend(sandbox.cli(["kill", &id]));
    // Killed at some moment of the stop, whichever it is.
    daemon.kill();
    daemon.start();
    kill.end().expect_code(0);
    assert!(!is_alive(pid));
    assert_eq!(sandbox.finished(&id)["status"], "cancelled");
}

#[test]
fn a_run_goes_on_over_the_death_of_its_daemon() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    sandbox.write("script.py", SCRIPT);
    let mut run = sandbox.attend_run(&["script.py"]);
    run.wait_for_stdout("before\n");
    daemon.restart();
    sandbox.write("go", "");
    let ran = run.end().expect_code(7);
    assert_eq!((ran.text(), ran.stderr.as_str()), (expected_output(), "last words\n"));
}

#[test]
fn a_run_starts_the_next_daemon_itself_when_its_own_has_died() {
    let sandbox = Sandbox::new();
    sandbox.write("script.py", SCRIPT);
    let mut run = sandbox.attend_run(&["script.py"]);
    run.wait_for_stdout("before\n");
    sandbox.kill_daemon();
    sandbox.write("go", "");
    let ran = run.end().expect_code(7);
    assert_eq!(ran.text(), expected_output());
}

#[test]
fn a_job_whose_supervisor_was_killed_is_lost_and_leaves_nothing_running() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let (id, pid) = start_job(&sandbox, &[]);
    kill_supervisor(&sandbox, &id);
    assert_lost(&sandbox, &id, pid);
}

#[test]
fn a_job_whose_supervisor_was_killed_while_no_daemon_ran_is_lost_and_leaves_nothing_running() {
    let sandbox = Sandbox::new();
    let mut daemon: TestDaemon<'_> = sandbox.daemon();
    let (id, pid) = start_job(&sandbox, &[]);
    daemon.kill();
    kill_supervisor(&sandbox, &id);
    daemon.start();
    assert_lost(&sandbox, &id, pid);
}

fn kill_supervisor(sandbox: &Sandbox, id: &str) {
    let supervisor = sandbox.supervisor_of(id);
    crate::sandbox::send(supervisor.pid, rustix::process::Signal::KILL);
    sandbox.wait_until_gone(supervisor.pid);
}

fn assert_lost(sandbox: &Sandbox, id: &str, pid: u32) {
    let waited = sandbox.pyexec(["wait", id]).expect_code(125);
    assert!(waited.stderr.contains("lost"), "{waited}");
    let job = sandbox.show(id);
    assert_eq!(
        (&job["status"], &job["reason"], &job["exit_code"]),
        (&"failed".into(), &"lost".into(), &Value::Null),
        "{job}"
    );
    assert_eq!(pid_of(&job["pid"]), pid);
    sandbox.wait_until_gone(pid);
    assert_eq!(sandbox.logs(id), b"before\n");
}
