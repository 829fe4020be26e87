//! stdin: passed on byte for byte, never more than a job takes, and never in the way of anybody else.

use std::io::Write;
use std::process::Stdio;

use crate::sandbox::{Sandbox, python};

const HASH: &str =
    "import hashlib, sys; data = sys.stdin.buffer.read(); print(len(data), hashlib.sha256(data).hexdigest())";

/// 10 MB that never repeat.
fn ten_megabytes() -> Vec<u8> {
    (0..2_500_000u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

#[test]
fn ten_megabytes_of_stdin_arrive_byte_for_byte() {
    let sandbox = Sandbox::new();
    let path = sandbox.write("data", ten_megabytes());
    let from_file = || Stdio::from(std::fs::File::open(&path).expect("is there"));
    let mut plain = sandbox.command(python());
    plain.args(["-c", HASH]).stdin(from_file());
    let expected = sandbox.attend(plain).end().expect_code(0).text();
    assert!(expected.starts_with("10000000 "), "{expected}");

    let mut command = sandbox.cli(["run", "--no-uv", "-c", HASH]);
    command.stdin(from_file());
    assert_eq!(sandbox.attend(command).end().expect_code(0).text(), expected);

    let mut command = sandbox.cli(["run", "--no-uv", "-c", HASH]);
    command.stdin(Stdio::piped());
    let mut run = sandbox.attend(command);
    run.stdin().write_all(&ten_megabytes()).expect("is read");
    assert_eq!(run.end().expect_code(0).text(), expected);

    let mut command = sandbox.cli(["run", "--no-uv", "-d", "--stdin", "-c", HASH]);
    command.stdin(from_file());
    let id = sandbox.attend(command).end().expect_code(0).text();
    sandbox.finished(id.trim_end());
    assert_eq!(String::from_utf8_lossy(&sandbox.logs(id.trim_end())), expected);
}

#[test]
fn a_job_without_input_reads_an_end_of_file_at_once() {
    let sandbox = Sandbox::new();
    assert_eq!(
        sandbox.run(&["-c", "print(repr(input('?')) if False else repr(open(0).read()))"]).expect_code(0).text(),
        "''\n"
    );
}

#[test]
fn lines_sent_to_a_job_are_read_by_it_until_its_input_is_closed() {
    let sandbox = Sandbox::new();
    let code = "import sys\nfor line in sys.stdin: print('got', line.rstrip())\nprint('end')";
    let id = sandbox.detach(&["-i", "-c", code]);
    let mut logs = sandbox.attend(sandbox.cli(["logs", "-f", &id]));
    for word in ["hello", "wörld", "--flag"] {
        sandbox.wait_until_running(&id);
        sandbox.pyexec(["send", &id, word]).expect_code(0);
        logs.wait_for_stdout(&format!("got {word}\n"));
    }
    sandbox.pyexec(["send", &id, "last", "--no-newline", "--eof"]).expect_code(0);
    let ran = logs.end().expect_code(0);
    assert_eq!(ran.text(), "got hello\ngot wörld\ngot --flag\ngot last\nend\n");
    assert_eq!(sandbox.finished(&id)["exit_code"], 0);
}

/// Jobs that wait for their turn always have to be waited for; of those that are just being started, some.
#[test]
fn a_line_sent_to_a_job_that_has_not_started_yet_is_read_once_it_has() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon_with(&[("PYEXEC_MAX_RUNNING", "1")]);
    let first = sandbox.detach(&["-i", "-c", "print(input())"]);
    let waits = sandbox.detach(&["-i", "-c", "print(input())"]);
    let send = sandbox.attend(sandbox.cli(["send", &waits, "late"]));
    assert_eq!(sandbox.show(&waits)["status"], "pending");
    sandbox.pyexec(["send", &first, "early"]).expect_code(0);
    send.end().expect_code(0);
    for (id, expected) in [(&first, "early\n"), (&waits, "late\n")] {
        assert_eq!(sandbox.finished(id)["exit_code"], 0);
        assert_eq!(String::from_utf8_lossy(&sandbox.logs(id)), expected);
    }
}

#[test]
fn a_line_for_a_job_that_never_starts_is_refused_when_that_is_known() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon_with(&[("PYEXEC_MAX_RUNNING", "1")]);
    let first = sandbox.detach(&["-c", "import time; time.sleep(600)"]);
    let waits = sandbox.detach(&["-i", "-c", "print(input())"]);
    let send = sandbox.attend(sandbox.cli(["send", &waits, "text"]));
    assert_eq!(sandbox.show(&waits)["status"], "pending");
    sandbox.pyexec(["kill", &waits]).expect_code(0);
    let refused = send.end().expect_code(125);
    assert_eq!(refused.stderr, format!("error: job {waits} takes no input: it has finished\n"));
    sandbox.pyexec(["kill", "--now", &first]).expect_code(0);
}

#[test]
fn input_outlives_the_daemon_that_took_it() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let code = "import os, sys, time\nwhile not os.path.exists('go'): time.sleep(0.005)\nprint(sys.stdin.read())";
    let id = sandbox.detach(&["-i", "-c", code]);
    sandbox.wait_until_running(&id);
    sandbox.pyexec(["send", &id, "before"]).expect_code(0);
    daemon.restart();
    sandbox.wait_until_running(&id);
    sandbox.pyexec(["send", &id, "after", "--eof"]).expect_code(0);
    sandbox.write("go", "");
    sandbox.finished(&id);
    assert_eq!(String::from_utf8_lossy(&sandbox.logs(&id)), "before\nafter\n\n");
}

#[test]
fn stdin_passed_on_by_run_survives_the_death_of_the_daemon_byte_for_byte() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let data = ten_megabytes();
    sandbox.write("data", &data);
    let mut plain = sandbox.command(python());
    plain.args(["-c", HASH]).stdin(std::fs::File::open(sandbox.file("data")).expect("is there"));
    let expected = sandbox.attend(plain).end().expect_code(0).text();
    let code = format!("import os, time\nprint('ready')\nwhile not os.path.exists('go'): time.sleep(0.005)\n{HASH}");
    let mut command = sandbox.cli(["run", "--no-uv", "-c", &code]);
    command.stdin(Stdio::piped());
    let mut run = sandbox.attend(command);
    run.wait_for_stdout("ready\n");
    let mut stdin = run.stdin();
    // More than the job's buffer holds, so that some of it is under way when the daemon dies.
    let writing = std::thread::spawn(move || stdin.write_all(&data));
    daemon.restart();
    sandbox.write("go", "");
    let ran = run.end().expect_code(0);
    assert_eq!(ran.text(), format!("ready\n{expected}"), "{ran}");
    writing.join().expect("does not panic").expect("is read to its end");
}

#[test]
fn a_job_that_does_not_read_its_input_keeps_nobody_waiting() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let code = "import time; print('ready'); time.sleep(600)";
    let id = sandbox.detach(&["-i", "-c", code]);
    sandbox.wait_until_running(&id);
    let text = "x".repeat(100_000);
    sandbox.pyexec(["send", &id, &text]).expect_code(0);
    let row = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["jobs"][0].clone();
    assert_eq!((&row["id"], &row["status"]), (&id.clone().into(), &"running".into()), "{row}");
    // Until the buffer is full, which says how much it took and waits for nobody.
    let full = sandbox.wait_until("the buffer is full", || {
        let sent = sandbox.pyexec(["send", &id, &text]);
        if sent.code == 0 { Err(sent) } else { Ok(sent) }
    });
    assert_eq!(full.code, 125, "{full}");
    assert!(full.stderr.contains("its input buffer is full") && full.stderr.contains("hint: "), "{full}");

    // Another one has a client that waits for room the whole time.
    let mut command = sandbox.cli(["run", "--no-uv", "-c", code]);
    command.stdin(Stdio::piped());
    let mut run = sandbox.attend(command);
    run.wait_for_stdout("ready\n");
    let mut stdin = run.stdin();
    let writing = std::thread::spawn(move || stdin.write_all(&vec![0; 8 << 20]));
    for _ in 0..5 {
        assert_eq!(sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["total"], 2);
    }
    sandbox.pyexec(["kill", "--now", "--all"]).expect_code(0);
    run.end().expect_code(137);
    writing.join().expect("does not panic").expect_err("nobody has read it all");
}

#[test]
fn input_for_a_job_that_takes_none_is_refused_and_says_why() {
    let sandbox = Sandbox::new();
    let code = "import time; time.sleep(600)";
    let id = sandbox.detach(&["-c", code]);
    sandbox.wait_until_running(&id);
    let ran = sandbox.pyexec(["send", &id, "text"]).expect_code(125);
    assert_eq!(
        ran.stderr,
        format!(
            "error: job {id} takes no input: it was not started with its stdin open\nhint: start it with `pyexec run -i` to write to it later\n"
        )
    );
    sandbox.pyexec(["kill", "--now", &id]).expect_code(0);

    let id = sandbox.detach(&["-i", "-c", "import os, time; os.close(0); print('closed'); time.sleep(600)"]);
    let mut logs = sandbox.attend(sandbox.cli(["logs", "-f", &id]));
    logs.wait_for_stdout("closed\n");
    // The first may find the pipe still there; what it says then is that the job has closed it.
    let refused = sandbox.wait_until("input is refused", || {
        let sent = sandbox.pyexec(["send", &id, "text"]);
        if sent.code == 0 { Err(sent) } else { Ok(sent) }
    });
    assert_eq!(
        (refused.code, refused.stderr),
        (125, format!("error: job {id} takes no input: the job closed its stdin itself\n"))
    );
    sandbox.pyexec(["kill", "--now", &id]).expect_code(0);
    logs.end().expect_code(0);
    let ran = sandbox.pyexec(["send", &id, "text"]).expect_code(125);
    assert_eq!(ran.stderr, format!("error: job {id} takes no input: it has finished\n"));
}
