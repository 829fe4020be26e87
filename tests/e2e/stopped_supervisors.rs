//! A supervisor that is stopped, by its own job or by anybody else, keeps no promise from being kept.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use crate::sandbox::{Ability, Sandbox, can, is_alive, pid_of, process_state, send};

/// Stops its supervisor once.
const STOPS_ONCE: &str = "
import os, signal, sys, time
print('before', flush=True)
os.kill(os.getppid(), signal.SIGSTOP)
if sys.argv[1:] == ['exit']: sys.exit(3)
time.sleep(600)
";

/// Stops its supervisor for as long as it lives, and ignores what can be ignored.
const STOPS_AGAIN: &str = "
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True: os.kill(os.getppid(), signal.SIGSTOP)
";

#[track_caller]
fn wait_until_stopped(sandbox: &Sandbox, pid: u32) {
    sandbox.wait_until("the supervisor is stopped", || match process_state(pid) {
        Some('T') => Ok(()),
        state => Err(format!("{state:?}")),
    });
}

/// A job whose supervisor has been stopped; its id, and the pid of that supervisor.
#[track_caller]
fn stopped(sandbox: &Sandbox, options: &[&str], script: &str, arguments: &[&str]) -> (String, u32) {
    sandbox.write("stops.py", script);
    let id = sandbox.detach(&[options, &["stops.py"], arguments].concat());
    let supervisor = sandbox.wait_until("the job has a supervisor", || {
        let name = format!("pyexec-{}", &id[..8]);
        sandbox.processes().iter().find(|process| process.name() == name).map(|found| found.pid).ok_or("none yet")
    });
    wait_until_stopped(sandbox, supervisor);
    (id, supervisor)
}

#[test]
fn a_job_that_stops_its_supervisor_is_timed_out_all_the_same() {
    let sandbox = Sandbox::new();
    for (script, options) in [(STOPS_ONCE, &["--grace", "10s"]), (STOPS_AGAIN, &["--grace", "1s"])] {
        sandbox.write("stops.py", script);
        sandbox.run(&[options, &["--timeout", "1s", "stops.py"][..]].concat()).expect_code(124);
    }
}

#[test]
fn a_job_that_stops_its_supervisor_can_be_killed_and_cancelled() {
    let sandbox = Sandbox::new();
    for (script, verb, said) in [
        (STOPS_ONCE, &["kill", "--now"][..], "killed"),
        (STOPS_ONCE, &["kill"], "cancelled"),
        (STOPS_AGAIN, &["kill", "--now"], "killed"),
        (STOPS_AGAIN, &["kill", "--grace", "1s"], "cancelled"),
    ] {
        let (id, _) = stopped(&sandbox, &[], script, &[]);
        let ended = sandbox.pyexec([verb, &[&id]].concat()).expect_code(0);
        assert_eq!(ended.text(), format!("{id} {said}\n"), "{ended}");
    }
}

#[test]
fn a_supervisor_that_was_stopped_before_it_had_a_job_runs_one() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let spare = sandbox.wait_until("a supervisor waits", || {
        let spare = sandbox.processes().into_iter().find(|process| process.name() == "pyexec-spare");
        spare.map(|spare| spare.pid).ok_or("none")
    });
    send(spare, Signal::STOP);
    wait_until_stopped(&sandbox, spare);
    let code = "import os; print(os.getppid())";
    assert_eq!(sandbox.run(&["-c", code]).expect_code(0).text(), format!("{spare}\n"));
}

#[test]
fn run_ends_on_a_signal_though_the_supervisor_is_stopped() {
    let sandbox = Sandbox::new();
    let mut run = sandbox.attend_run(&["-c", "import time; print('ready'); time.sleep(600)"]);
    run.wait_for_stdout("ready\n");
    let id = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0]["id"].as_str().expect("is text").to_owned();
    let supervisor = sandbox.supervisor_of(&id).pid;
    // Who is attached makes the daemon tell it something, and so go on, at the beginning.
    sandbox.wait_until("the supervisor is stopped", || {
        send(supervisor, Signal::STOP);
        if process_state(supervisor) == Some('T') { Ok(()) } else { Err("not yet") }
    });
    run.signal(Signal::TERM);
    run.end().expect_code(143);
    assert_eq!(sandbox.finished(&id)["reason"], "cancelled");
}

#[test]
fn how_a_job_ended_while_its_supervisor_was_stopped_is_told_when_somebody_asks_for_its_end() {
    let sandbox = Sandbox::new();
    let (id, _) = stopped(&sandbox, &[], STOPS_ONCE, &["exit"]);
    // It has stopped its supervisor, and is about to end.
    sandbox.wait_until_running(&id);
    sandbox.wait_until_gone(crate::sandbox::pid_of(&sandbox.show(&id)["pid"]));
    let ended = sandbox.pyexec(["kill", "--now", &id]).expect_code(0);
    let job = sandbox.show(&id);
    assert_eq!((&job["reason"], &job["exit_code"]), (&"exit".into(), &3.into()), "{job}");
    assert_eq!(ended.text(), format!("{id} already finished\n"));
}

#[test]
fn the_next_daemon_lets_a_supervisor_go_on_that_was_stopped_under_the_last() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let (id, supervisor) = stopped(&sandbox, &["--timeout", "4s", "--grace", "10s"], STOPS_ONCE, &[]);
    daemon.restart();
    sandbox.wait_until("the supervisor goes on", || match process_state(supervisor) {
        Some('T') | None => Err(format!("{:?}", process_state(supervisor))),
        Some(_) => Ok(()),
    });
    // Once more, and nobody tells it anything any more: its timeout is kept.
    send(supervisor, Signal::STOP);
    let job = sandbox.finished(&id);
    assert_eq!((&job["status"], &job["reason"]), (&"failed".into(), &"timed_out".into()), "{job}");
    let (id, _) = stopped(&sandbox, &[], STOPS_AGAIN, &[]);
    daemon.restart();
    assert_eq!(sandbox.pyexec(["kill", "--now", &id]).expect_code(0).text(), format!("{id} killed\n"));
}

#[test]
fn input_for_a_job_whose_supervisor_is_stopped_arrives() {
    let sandbox = Sandbox::new();
    let code = "import os, signal; os.kill(os.getppid(), signal.SIGSTOP); print(input())";
    let (id, _) = stopped(&sandbox, &["-i"], code, &[]);
    sandbox.pyexec(["send", &id, "text"]).expect_code(0);
    assert_eq!(sandbox.finished(&id)["exit_code"], 0);
    assert_eq!(sandbox.logs(&id), b"text\n");
}

/// Not by the job, so that holding that still is no help.
#[test]
fn a_supervisor_that_somebody_stops_over_and_over_is_named_and_then_done_without() {
    let sandbox = Sandbox::new();
    let id = sandbox.detach(&["-i", "-c", "import time; time.sleep(600)"]);
    sandbox.wait_until_running(&id);
    let (supervisor, leader) = (sandbox.supervisor_of(&id).pid, pid_of(&sandbox.show(&id)["pid"]));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| {
            // What is stopped as soon as it goes on gets nothing done.
            while !over.load(Ordering::Relaxed) && is_alive(supervisor) {
                send(supervisor, Signal::STOP);
            }
        });
        wait_until_stopped(&sandbox, supervisor);
        let sent = sandbox.pyexec(["send", &id, "text"]);
        let killed = sandbox.pyexec(["kill", "--now", &id]);
        over.store(true, Ordering::Relaxed);
        stopping.join().expect("does not panic");
        // It may be lucky, and take either all the same.
        if sent.code != 0 {
            let error =
                format!("error: job {id} takes no input: its supervisor (process {supervisor}) does not answer: it ");
            assert!(sent.code == 125 && sent.stderr.starts_with(&error), "{sent}");
            assert!(
                sent.stderr.contains("hint: ") && sent.stderr.contains(&format!("pyexec kill --now {id}")),
                "{sent}"
            );
        }
        assert_eq!(killed.code, 0, "{killed}");
    });
    assert!(!is_alive(leader), "the job has survived");
    let job = sandbox.finished(&id);
    assert!(job["reason"] == "lost" || job["reason"] == "killed", "{job}");
}

/// As on a file system without room for one more name.
#[test]
fn a_job_whose_supervisor_has_no_socket_is_stopped_by_the_next_daemon() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let supervisors = sandbox.paths().supervisors();
    let _ = std::fs::remove_dir_all(&supervisors);
    std::fs::write(&supervisors, "in the way").expect("can be written");
    let start = |options: &[&str]| {
        let id = sandbox.detach(&[options, &["-i", "-c", "import time; time.sleep(600)"]].concat());
        sandbox.wait_until_running(&id);
        (id.clone(), pid_of(&sandbox.show(&id)["pid"]))
    };
    let (cancelled, killed, left) = (start(&[]), start(&["--grace", "10m"]), start(&[]));
    daemon.restart();
    let ended = sandbox.pyexec(["kill", &cancelled.0]).expect_code(0);
    assert_eq!(ended.text(), format!("{} cancelled\n", cancelled.0));
    sandbox.pyexec(["kill", "--now", &killed.0]).expect_code(0);
    for (id, leader) in [&cancelled, &killed] {
        assert!(!is_alive(*leader), "job {id} has survived");
        assert_eq!(sandbox.finished(id)["status"], "cancelled");
    }
    // What cannot be said by signal is refused, with the reason.
    let sent = sandbox.pyexec(["send", &left.0, "text"]).expect_code(125);
    assert!(sent.stderr.contains("does not answer: it has no control socket"), "{sent}");
    let message = sandbox.show(&left.0)["message"].clone();
    assert!(message.as_str().is_some_and(|message| message.contains("cannot be reached at ")), "{message}");
    // With room again, it is found.
    std::fs::remove_file(&supervisors).expect("is there");
    daemon.restart();
    assert_eq!(sandbox.pyexec(["kill", "--now", &left.0]).expect_code(0).text(), format!("{} killed\n", left.0));
}

/// No signal lets it go on. It is the job itself that holds it, so that it can record the end once the job has been killed.
#[test]
fn a_supervisor_that_a_debugger_holds_is_named_and_its_job_killed_all_the_same() {
    let sandbox = Sandbox::new();
    let code = "
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
ATTACH, ALL = 16, 0x40000000
if libc.ptrace(ATTACH, os.getppid(), 0, 0): result = os.strerror(ctypes.get_errno())
else: result = 'held' if os.waitpid(os.getppid(), ALL) else ''
with open('result.tmp', 'w') as file: file.write(result + '\\n')
os.rename('result.tmp', 'result')
time.sleep(600)
";
    let id = sandbox.detach(&["-c", code]);
    // Only root may hold what is not its child, on most machines.
    if !can(Ability::Tracing, sandbox.wait_for_file("result") == "held") {
        sandbox.pyexec(["kill", "--now", &id]).expect_code(0);
        return;
    }
    let supervisor = sandbox.supervisor_of(&id).pid;
    assert_eq!(process_state(supervisor), Some('t'));
    let killed = sandbox.pyexec(["kill", "--now", &id]).expect_code(0);
    let named = format!("its supervisor (process {supervisor}) does not answer: it is held by a debugger");
    assert!(killed.stderr.contains(&named), "{killed}");
    let job = sandbox.finished(&id);
    assert!(["killed", "signal", "lost"].contains(&job["reason"].as_str().unwrap_or_default()), "{job}");
}
