//! How much of a job's output is kept, and that nobody who reads it all loses any.

use std::io::Read;
use std::process::Stdio;

use serde_json::json;

use crate::mcp_session::{Era, McpSession, text_of};
use crate::sandbox::{Sandbox, pid_of, send};

/// What the log is cut into.
const SEGMENT: usize = 8 << 20;

/// Prints so many lines of 64 bytes, each with its number, and says when it is done.
const NUMBERS: &str = "
import sys
for first in range(0, int(sys.argv[1]), 1024):
    sys.stdout.write(''.join(f'{number:063d}\\n' for number in range(first, first + 1024)))
sys.stdout.flush()
open('done', 'w').write('x\\n')
";

const LINES: usize = 1 << 20;

/// The bytes of [`NUMBERS`] from one offset to another.
fn numbers(from: usize, to: usize) -> Vec<u8> {
    let lines: String = (from / 64..to.div_ceil(64)).map(|number| format!("{number:063}\n")).collect();
    lines.as_bytes()[from % 64..from % 64 + to - from].to_vec()
}

/// Which segments of stdout there are.
fn segments(sandbox: &Sandbox, id: &str) -> Vec<u64> {
    let entries = std::fs::read_dir(sandbox.run_directory(id)).expect("is there").flatten();
    let mut numbers: Vec<u64> =
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("stdout.")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn the_beginning_and_the_end_stay_and_cursors_stay_valid() {
    let sandbox = Sandbox::new();
    sandbox.write("numbers.py", NUMBERS);
    let id = sandbox.detach(&["--max-output", "24M", "numbers.py", &LINES.to_string()]);
    let job = sandbox.finished(&id);
    let all = LINES * 64;
    assert_eq!((&job["status"], &job["stdout_bytes"]), (&"completed".into(), &all.into()), "{job}");
    // All of it is a whole number of segments.
    assert_eq!(segments(&sandbox, &id), [0, 6, 7]);
    let logs = sandbox.pyexec(["logs", &id, "--stdout"]).expect_code(0);
    assert!(logs.stdout == [numbers(0, SEGMENT), numbers(6 * SEGMENT, all)].concat(), "{} bytes", logs.stdout.len());
    assert!(logs.stderr.contains(&format!("{} bytes of stdout are no longer kept", 5 * SEGMENT)), "{}", logs.stderr);
    let from = (7 * SEGMENT + 100).to_string();
    let end = sandbox.pyexec(["logs", &id, "--stdout", "--since-byte", &from]).expect_code(0);
    assert!(end.stdout == numbers(7 * SEGMENT + 100, all) && end.stderr.is_empty(), "{}", end.stderr);
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let inside = json!({"job_id": id, "stdout_cursor": SEGMENT + 5, "max_output_bytes": 64});
    let read = session.structured("py_get_job_output", inside.clone());
    assert_eq!(read["stdout"], String::from_utf8(numbers(6 * SEGMENT, 6 * SEGMENT + 64)).expect("are digits"));
    assert_eq!(
        (&read["missing_bytes"], &read["next_stdout_cursor"]),
        (&(5 * SEGMENT - 5).into(), &(6 * SEGMENT + 64).into())
    );
    let said = text_of(&session.call("py_get_job_output", inside));
    assert!(said.contains(&format!("{} bytes are no longer kept", 5 * SEGMENT - 5)), "{said}");
}

/// However long he takes, and whatever becomes of the daemon.
#[test]
fn a_run_that_is_attached_reads_every_byte() {
    let mut sandbox = Sandbox::new();
    sandbox.set("PYEXEC_OUTPUT_BYTES", (2 * SEGMENT).to_string());
    sandbox.write("numbers.py", NUMBERS);
    let mut command = sandbox.cli(["run", "--no-uv", "--label", "read", "numbers.py", &LINES.to_string()]);
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("can be started");
    let written = |sandbox: &Sandbox| {
        let jobs = sandbox.pyexec(["jobs", "--label", "read", "--json"]).json();
        jobs["jobs"][0]["stdout_bytes"].as_u64().unwrap_or(0)
    };
    // Nobody has read what does not fit into a pipe: the job waits.
    sandbox.wait_until("as much is printed as is kept", || match written(&sandbox) {
        bytes if bytes >= 2 * SEGMENT as u64 => Ok(()),
        bytes => Err(bytes),
    });
    sandbox.kill_daemon();
    let bytes = written(&sandbox);
    assert!(bytes < 4 * SEGMENT as u64 && !sandbox.file("done").exists(), "{bytes} bytes of {}", LINES * 64);
    let mut stdout = Vec::new();
    run.stdout.take().expect("is a pipe").read_to_end(&mut stdout).expect("can be read");
    let ended = run.wait_with_output().expect("can be waited for");
    assert!(ended.status.success(), "{ended:?}");
    assert!(stdout == numbers(0, LINES * 64), "{} bytes of {}", stdout.len(), LINES * 64);
    // Once it had been read, it was not kept.
    let id = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0]["id"].as_str().expect("is text").to_owned();
    assert_eq!(segments(&sandbox, &id), [0, 7]);
}

#[test]
fn a_reader_who_has_gone_holds_nothing_up() {
    let mut sandbox = Sandbox::new();
    sandbox.set("PYEXEC_OUTPUT_BYTES", (2 * SEGMENT).to_string());
    sandbox.write("numbers.py", NUMBERS);
    let mut command = sandbox.cli(["run", "--no-uv", "numbers.py", &LINES.to_string()]);
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("can be started");
    let first = || sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0].clone();
    sandbox.wait_until("as much is printed as is kept", || match first()["stdout_bytes"].as_u64() {
        Some(bytes) if bytes >= 2 * SEGMENT as u64 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    send(run.id(), rustix::process::Signal::KILL);
    run.wait().expect("can be waited for");
    let job = sandbox.finished(first()["id"].as_str().expect("is text"));
    assert_eq!((&job["status"], &job["stdout_bytes"]), (&"completed".into(), &(LINES * 64).into()), "{job}");
}

#[test]
fn a_job_that_is_to_print_no_more_is_ended() {
    let sandbox = Sandbox::new();
    sandbox.write("numbers.py", format!("{NUMBERS}import time; time.sleep(600)\n"));
    let limited = ["--max-output", "1M", "--on-output-limit", "stop", "numbers.py"];
    let ran = sandbox.run(&[&limited[..], &[&LINES.to_string()]].concat()).expect_code(143);
    assert!(ran.stderr.contains("it printed more than its limit allows"), "{}", ran.stderr);
    assert!(ran.stdout.len() > 1 << 20 && ran.stdout == numbers(0, ran.stdout.len()), "{} bytes", ran.stdout.len());
    assert!(ran.stdout.len() < 2 * SEGMENT, "{} bytes", ran.stdout.len());
    let job = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0].clone();
    assert_eq!((&job["status"], &job["reason"]), (&"failed".into(), &"output_limit".into()), "{job}");
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let mut arguments = session.script("for _ in range(100_000): print('x' * 99)");
    arguments["limits"] = json!({"output_bytes": 1_000_000, "on_output_limit": "stop"});
    let ran = session.structured("py_run_script_in_dir", arguments);
    assert_eq!(ran["reason"], "output_limit", "{}", ran["reason"]);
}

/// And is not held up by it: what is kept of a job whose pid is known may be read while it runs.
#[test]
fn the_oldest_are_dropped_while_the_job_runs() {
    let sandbox = Sandbox::new();
    sandbox
        .write("numbers.py", format!("{NUMBERS}import os, time\nwhile not os.path.exists('end'): time.sleep(0.01)\n"));
    let id = sandbox.detach(&["--max-output", "16M", "numbers.py", &LINES.to_string()]);
    sandbox.wait_for_file("done");
    sandbox.wait_until("only so much is kept", || match segments(&sandbox, &id) {
        kept if kept == [0, 7] => Ok(()),
        kept => Err(format!("{kept:?}")),
    });
    assert!(crate::sandbox::is_alive(pid_of(&sandbox.show(&id)["pid"])));
    let tail = sandbox.pyexec(["logs", &id, "--stdout", "--tail", "2"]).expect_code(0);
    assert!(tail.stdout == numbers((LINES - 2) * 64, LINES * 64), "{tail}");
    sandbox.write("end", "");
    sandbox.finished(&id);
}
