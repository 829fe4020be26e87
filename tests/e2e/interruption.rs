//! What becomes of a job when whoever runs it is interrupted.

use rustix::process::Signal;

use crate::sandbox::{Attended, Sandbox, is_alive};

/// Says that it is ready without `print`, in which a handler that prints may not be called.
const DEAF: &str = "
import os, signal, time
def deaf(*_): print('never mind')
signal.signal(signal.SIGTERM, deaf)
os.write(1, b'ready %d\\n' % os.getpid())
while True: time.sleep(600)
";

const OBEDIENT: &str = "import os, time; print('ready', os.getpid()); time.sleep(600)";

fn only_job(sandbox: &Sandbox) -> String {
    let listing = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
    assert_eq!(listing["total"], 1, "{listing}");
    listing["jobs"][0]["id"].as_str().expect("is text").to_owned()
}

fn ready<'a>(sandbox: &'a Sandbox, arguments: &[&str]) -> Attended<'a> {
    let mut run = sandbox.attend_run(arguments);
    run.wait_for_stdout("ready");
    run
}

#[test]
fn an_interrupt_cancels_the_job() {
    let sandbox = Sandbox::new();
    let run = ready(&sandbox, &["-c", OBEDIENT]);
    run.signal(Signal::INT);
    run.end().expect_code(130);
    let job = sandbox.show(&only_job(&sandbox));
    assert_eq!(
        (&job["status"], &job["reason"], &job["exit_code"]),
        (&"cancelled".into(), &"cancelled".into(), &(-15).into()),
        "{job}"
    );
}

#[test]
fn a_second_interrupt_kills_a_job_that_did_not_mind_the_first() {
    let sandbox = Sandbox::new();
    sandbox.write("deaf.py", DEAF);
    let mut run = ready(&sandbox, &["--grace", "10m", "deaf.py"]);
    run.signal(Signal::INT);
    run.wait_for_stdout("never mind");
    run.signal(Signal::INT);
    run.end().expect_code(130);
    let job = sandbox.show(&only_job(&sandbox));
    assert_eq!(
        (&job["status"], &job["reason"], &job["exit_code"]),
        (&"cancelled".into(), &"killed".into(), &(-9).into()),
        "{job}"
    );
}

#[test]
fn a_termination_cancels_the_job_too() {
    let sandbox = Sandbox::new();
    let run = ready(&sandbox, &["-c", OBEDIENT]);
    run.signal(Signal::TERM);
    run.end().expect_code(143);
    assert_eq!(sandbox.show(&only_job(&sandbox))["status"], "cancelled");
}

#[test]
fn a_terminal_that_hangs_up_leaves_the_job_alone() {
    let sandbox = Sandbox::new();
    let run = ready(&sandbox, &["-c", OBEDIENT]);
    run.signal(Signal::HUP);
    run.end().expect_code(129);
    let id = only_job(&sandbox);
    assert_eq!(sandbox.show(&id)["status"], "running");
    sandbox.pyexec(["kill", &id]).expect_code(0);
}

#[test]
fn a_client_that_is_killed_leaves_the_job_and_its_output_alone() {
    let sandbox = Sandbox::new();
    let code = "import os, time; print('ready')\nwhile not os.path.exists('go'): time.sleep(0.005)\nprint('x' * 3000000); raise SystemExit(7)";
    let run = ready(&sandbox, &["-c", code]);
    run.signal(Signal::KILL);
    assert_eq!(run.end().code, -9);
    sandbox.write("go", "");
    let id = only_job(&sandbox);
    assert_eq!(sandbox.finished(&id)["exit_code"], 7);
    assert_eq!(sandbox.logs(&id), format!("ready\n{}\n", "x".repeat(3_000_000)).into_bytes());
}

#[test]
fn an_interrupt_of_a_wait_or_of_logs_leaves_the_job_alone() {
    let sandbox = Sandbox::new();
    let id = sandbox.detach(&["-c", OBEDIENT]);
    let mut logs = sandbox.attend(sandbox.cli(["logs", "-f", &id]));
    logs.wait_for_stdout("ready");
    let pid: u32 =
        String::from_utf8_lossy(&sandbox.logs(&id)).trim_start_matches("ready ").trim().parse().expect("is a pid");
    logs.signal(Signal::INT);
    assert_ne!(logs.end().code, 0);
    let wait = sandbox.attend(sandbox.cli(["wait", &id]));
    wait.signal(Signal::INT);
    assert_ne!(wait.end().code, 0);
    assert!(is_alive(pid), "the job has ended with its reader");
    sandbox.pyexec(["kill", &id]).expect_code(0);
}
