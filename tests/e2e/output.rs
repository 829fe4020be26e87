//! Output: every byte, in order, whatever a job does with its streams.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::sandbox::{Sandbox, python};

#[test]
fn a_job_that_opens_dev_stdout_loses_nothing_that_was_printed_before() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "open.py",
        "
print('before')
with open('/dev/stdout', 'w') as again: again.write('again\\n')
print('after')
",
    );
    assert_eq!(sandbox.run(&["open.py"]).expect_code(0).text(), "before\nagain\nafter\n");
}

#[test]
fn a_child_that_tees_to_dev_stderr_loses_nothing_that_was_printed_before() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "tee.py",
        "
import subprocess, sys
print('before', file=sys.stderr)
print('out')
subprocess.run(['tee', '/dev/stderr'], input=b'teed\\n', check=True)
print('after', file=sys.stderr)
",
    );
    let ran = sandbox.run(&["tee.py"]).expect_code(0);
    assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("out\nteed\n", "before\nteed\nafter\n"));
}

/// 200 lines of 1 MB each, with every byte but a newline in them, so that hardly any of it is UTF-8.
const FLOOD: &str = "
import sys
block = bytes(byte for byte in range(256) if byte != 10) * 3922
out = sys.stdout.buffer
for number in range(200):
    out.write(b'%d ' % number + block[:1000000] + b'\\n')
";

#[test]
fn two_hundred_megabytes_come_through_byte_for_byte_and_the_daemon_does_not_grow() {
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    sandbox.write("flood.py", FLOOD);
    // What a first job costs the daemon is no growth.
    sandbox.run(&["-c", "print('x' * 3000000)"]).expect_code(0);
    let before = peak_memory(daemon.pid());

    let into = |name: &str| Stdio::from(File::create(sandbox.file(name)).expect("can be made"));
    let mut plain = sandbox.command(python());
    plain.arg("flood.py").stdout(into("expected"));
    assert!(plain.status().expect("runs").success());
    let mut run = sandbox.cli(["run", "--no-uv", "flood.py"]);
    run.stdout(into("actual"));
    assert!(run.status().expect("runs").success());

    let grown = peak_memory(daemon.pid()).saturating_sub(before);
    assert!(grown < 32 << 10, "the daemon has grown by {grown} KiB, from {before}");
    assert_same_content(&sandbox.file("expected"), &sandbox.file("actual"), 200_000_000);
    // Read again from what is kept, at once.
    let id = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0]["id"].as_str().expect("is text").to_owned();
    let mut logs = sandbox.cli(["logs", &id]);
    logs.stdout(into("kept"));
    assert!(logs.status().expect("runs").success());
    assert_same_content(&sandbox.file("expected"), &sandbox.file("kept"), 200_000_000);
    let grown = peak_memory(daemon.pid()).saturating_sub(before);
    assert!(grown < 32 << 10, "the daemon has grown by {grown} KiB, from {before}");
}

/// The most this process ever had in memory, in KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("is told");
    line.trim().trim_end_matches(" kB").parse().expect("is a number")
}

fn assert_same_content(expected: &Path, actual: &Path, at_least: u64) {
    let mut files = [expected, actual].map(|path| File::open(path).expect("is there"));
    let lengths = [0, 1].map(|index: usize| files[index].metadata().expect("is there").len());
    assert!(lengths[0] >= at_least && lengths[0] == lengths[1], "{lengths:?} bytes");
    let mut at = 0;
    loop {
        let blocks = files.each_mut().map(|file| {
            let mut block = Vec::new();
            file.take(1 << 20).read_to_end(&mut block).expect("can be read");
            block
        });
        assert!(blocks[0] == blocks[1], "they differ in the megabyte at {at}");
        if blocks[0].is_empty() {
            return;
        }
        at += blocks[0].len();
    }
}

#[test]
fn output_without_a_newline_at_its_end_is_output() {
    let sandbox = Sandbox::new();
    let code = "import sys; sys.stdout.write('no newline'); sys.stderr.buffer.write(b'\\xff\\xfe')";
    let id = sandbox.detach(&["-c", code]);
    sandbox.finished(&id);
    assert_eq!(sandbox.logs(&id), b"no newline");
    assert_eq!(sandbox.show(&id)["stderr_bytes"], 2);
}

#[test]
fn logs_show_either_stream_its_end_or_from_a_byte_on() {
    let sandbox = Sandbox::new();
    let code = "import sys\nfor n in range(10): print('out', n); print('err', n, file=sys.stderr)";
    let id = sandbox.detach(&["-c", code]);
    sandbox.finished(&id);
    let all = |word: &str, from: usize| (from..10).map(|n| format!("{word} {n}\n")).collect::<String>();
    for (options, out, err) in [
        (&[][..], all("out", 0), all("err", 0)),
        (&["--stdout"], all("out", 0), String::new()),
        (&["--stderr"], String::new(), all("err", 0)),
        (&["--tail", "3"], all("out", 7), all("err", 7)),
        (&["--tail", "0"], String::new(), String::new()),
        (&["--tail", "99", "--stdout"], all("out", 0), String::new()),
        (&["--since-byte", "12", "--stdout"], all("out", 2), String::new()),
        (&["--since-byte", "15", "--stdout"], all("out", 2)[3..].to_owned(), String::new()),
        (&["--since-byte", "9999"], String::new(), String::new()),
        (&["-f"], all("out", 0), all("err", 0)),
        (&["-f", "--tail", "1"], all("out", 9), all("err", 9)),
    ] {
        // Any prefix of the id will do.
        let ran = sandbox.pyexec([&["logs", &id[..8]], options].concat()).expect_code(0);
        assert_eq!((ran.text(), &ran.stderr), (out, &err), "logs {options:?}");
    }
}

#[test]
fn logs_follow_a_job_while_it_runs_and_end_with_it() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "script.py",
        "
import os, time
for n in range(3):
    print('line', n)
    while not os.path.exists(f'go{n}'): time.sleep(0.005)
",
    );
    let id = sandbox.detach(&["script.py"]);
    let mut logs = sandbox.attend(sandbox.cli(["logs", "-f", &id]));
    for n in 0..3 {
        logs.wait_for_stdout(&format!("line {n}\n"));
        // Without -f it does not wait for more.
        let so_far: String = (0..=n).map(|n| format!("line {n}\n")).collect();
        assert_eq!(sandbox.pyexec(["logs", &id]).expect_code(0).text(), so_far);
        sandbox.write(&format!("go{n}"), "");
    }
    assert_eq!(logs.end().expect_code(0).text(), "line 0\nline 1\nline 2\n");
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_job() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command("sh");
    let pipeline = "\"$0\" run --no-uv --grace 1s -c 'while True: print(\"y\")' | head -n 2";
    command.args(["-c", pipeline, crate::sandbox::PYEXEC.path()]);
    assert_eq!(sandbox.attend(command).end().expect_code(0).text(), "y\ny\n");
    let id = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0]["id"].as_str().expect("is text").to_owned();
    assert_eq!(sandbox.finished(&id)["status"], "cancelled");
}

/// Starts a command whose stdout is a pipe, and returns it when it has printed one line that nobody reads on from.
fn read_one_line(mut command: Command, expected: &str) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("can be started");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("is a pipe")).read_line(&mut line).expect("can be read");
    assert_eq!(line, expected);
    child
}

#[track_caller]
fn exit_code(sandbox: &Sandbox, mut child: Child) -> Option<i32> {
    let status = sandbox.wait_until("the command has ended", || match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(format!("{other:?}")),
    });
    status.code()
}

#[test]
fn whoever_follows_a_silent_job_ends_with_the_reader() {
    let sandbox = Sandbox::new();
    let code = "import sys, time; print('ready'); print('err', file=sys.stderr); time.sleep(600)";
    let id = sandbox.detach(&["-c", code]);
    let follow = read_one_line(sandbox.cli(["logs", "-f", &id]), "ready\n");
    assert_eq!(exit_code(&sandbox, follow), Some(141));
    let mut into_stdout = sandbox.command("sh");
    into_stdout.args([
        "-c",
        "exec \"$0\" logs -f --stderr \"$1\" 2>&1 > /dev/null",
        crate::sandbox::PYEXEC.path(),
        &id,
    ]);
    let follow = read_one_line(into_stdout, "err\n");
    assert_eq!(exit_code(&sandbox, follow), Some(141));
    assert_eq!(sandbox.show(&id)["status"], "running");
    sandbox.pyexec(["kill", "--now", &id]).expect_code(0);
}

/// As with a pipe between two programs: the first line that nobody takes is the end, and no other has to follow it.
#[test]
fn a_job_is_cancelled_with_the_first_line_that_nobody_takes() {
    let sandbox = Sandbox::new();
    let code = "import os, time
print('one')
while not os.path.exists('go'): time.sleep(0.005)
print('two')
time.sleep(600)";
    let run = read_one_line(sandbox.cli(["run", "--no-uv", "--grace", "1s", "-c", code]), "one\n");
    let id = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0]["id"].as_str().expect("is text").to_owned();
    assert_eq!(sandbox.show(&id)["status"], "running");
    sandbox.write("go", "");
    assert_eq!(exit_code(&sandbox, run), Some(141));
    assert_eq!(sandbox.finished(&id)["status"], "cancelled");
}

#[test]
fn python_is_left_its_own_buffering_where_that_is_asked_for() {
    let sandbox = Sandbox::new();
    let code = "import sys; print(sys.stdout.line_buffering)";
    assert_eq!(sandbox.run(&["-c", code]).expect_code(0).text(), "True\n");
    assert_eq!(sandbox.run(&["--buffering", "full", "-c", code]).expect_code(0).text(), "False\n");
    let other = Sandbox::new();
    let _daemon = other.daemon_with(&[("PYEXEC_OUTPUT_BUFFERING", "full")]);
    assert_eq!(other.run(&["-c", code]).expect_code(0).text(), "False\n");
    assert_eq!(other.run(&["--buffering", "line", "-c", code]).expect_code(0).text(), "True\n");
}
