//! `pyexec run`: a script runs as it would by itself, and what it says and leaves with comes back.

use std::process::Stdio;

use crate::sandbox::{Sandbox, python};

#[test]
fn output_and_exit_code_of_a_script_come_back() {
    let sandbox = Sandbox::new();
    sandbox.write("seven.py", "import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(7)\n");
    let ran = sandbox.run(&["seven.py"]).expect_code(7);
    assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_line_is_visible_before_the_script_goes_on() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "script.py",
        concat!(
            "import os, time, sys\n",
            "print('first')\n",
            "while not os.path.exists('go'): time.sleep(0.005)\n",
            "print('second', file=sys.stderr)\n",
            "while not os.path.exists('on'): time.sleep(0.005)\n",
            "print('third')\n",
        ),
    );
    let mut run = sandbox.attend_run(&["script.py"]);
    run.wait_for_stdout("first\n");
    sandbox.write("go", "");
    run.wait_for_stderr("second\n");
    sandbox.write("on", "");
    assert_eq!(run.end().expect_code(0).text(), "first\nthird\n");
}

#[test]
fn every_way_to_end_has_its_exit_code() {
    let sandbox = Sandbox::new();
    for (code, expected) in [
        ("pass", 0),
        ("raise SystemExit(1)", 1),
        ("raise SystemExit(255)", 255),
        ("1/0", 1),
        ("import os; os._exit(42)", 42),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139),
    ] {
        let ran = sandbox.run(&["-c", code]);
        assert_eq!(ran.code, expected, "{code}: {ran}");
        let id = sandbox.detach(&["-c", code]);
        let waited = sandbox.pyexec(["wait", &id]);
        assert_eq!(waited.code, expected, "waited for {code}: {waited}");
    }
}

#[test]
fn a_traceback_is_the_interpreters_own() {
    let sandbox = Sandbox::new();
    sandbox.write("bad.py", "def f():\n    1/0\nf()\n");
    let plain = sandbox.attend({
        let mut command = sandbox.command(python());
        command.arg("bad.py");
        command
    });
    let plain = plain.end().expect_code(1);
    assert_eq!(sandbox.run(&["bad.py"]).expect_code(1).stderr, plain.stderr);
}

#[test]
fn arguments_arrive_as_they_were_typed() {
    let sandbox = Sandbox::new();
    sandbox.write("argv.py", "import sys; print(sys.argv)\n");
    let ran = sandbox.run(&["argv.py", "a b", "ü", "", "--json", "*"]).expect_code(0);
    assert_eq!(ran.text(), "['argv.py', 'a b', 'ü', '', '--json', '*']\n");
    let ran = sandbox.run(&["-c", "import sys; print(sys.argv)", "--", "--flag"]).expect_code(0);
    assert_eq!(ran.text(), "['-c', '--', '--flag']\n");
}

#[test]
fn code_comes_from_stdin_when_asked_for() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.cli(["run", "--no-uv", "-", "x"]);
    command.stdin(Stdio::piped());
    let mut run = sandbox.attend(command);
    std::io::Write::write_all(&mut run.stdin(), b"import sys\nprint(sys.argv, __name__)\n").expect("is read");
    assert_eq!(run.end().expect_code(0).text(), "['-', 'x'] __main__\n");
}

#[test]
fn a_job_has_the_directory_umask_and_environment_of_its_client_and_not_the_daemons() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon_with(&[("WHOSE", "daemon"), ("ONLY_DAEMON", "1")]);
    let code = "import os; os.umask(m := os.umask(0)); e = os.environ; \
                print(os.getcwd(), oct(m), e.get('WHOSE'), e.get('ONLY_DAEMON'), e.get('PYEXEC_SERVICE'), e.get('GIVEN'))";
    let mut command = sandbox.command("sh");
    command.env("WHOSE", "client").arg("-c").arg("umask 027 && exec \"$@\"").arg("sh");
    command.args([crate::sandbox::PYEXEC.path(), "run", "--no-uv", "-e", "GIVEN=a=b", "-c", code]);
    let ran = sandbox.attend(command).end().expect_code(0);
    let work = sandbox.work();
    assert_eq!(ran.text(), format!("{} 0o27 client None None a=b\n", work.display()));
}

#[test]
fn the_directory_can_be_named() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.file("sub")).expect("can be made");
    sandbox.write("sub/where.py", "import os; print(os.path.basename(os.getcwd()))\n");
    let ran = sandbox.run(&["--dir", "sub", "where.py"]).expect_code(0);
    assert_eq!(ran.text(), "sub\n");
}

#[test]
fn an_interrupt_that_was_ignored_by_the_starter_is_not_ignored_in_the_job() {
    let sandbox = Sandbox::new();
    let code = "import os, signal\ntry:\n os.kill(os.getpid(), signal.SIGINT); print('ignored')\n\
                except KeyboardInterrupt: print('interrupted')\nprint(signal.getsignal(signal.SIGHUP) == signal.SIG_DFL)";
    let mut command = sandbox.command("sh");
    command.arg("-c").arg("trap '' INT HUP; exec \"$@\"").arg("sh");
    command.args([crate::sandbox::PYEXEC.path(), "run", "--no-uv", "-c", code]);
    let ran = sandbox.attend(command).end().expect_code(0);
    assert_eq!(ran.text(), "interrupted\nTrue\n");
}

#[test]
fn json_is_one_document_with_the_output_in_it() {
    let sandbox = Sandbox::new();
    let code = "import sys; print('out'); sys.stderr.write('err'); sys.exit(3)";
    let ran = sandbox.run(&["--json", "-c", code]).expect_code(3);
    let view = ran.json();
    assert_eq!(view["stdout"], "out\n", "{view}");
    assert_eq!(view["stderr"], "err", "{view}");
    assert_eq!((&view["exit_code"], &view["status"], &view["reason"]), (&3.into(), &"failed".into(), &"exit".into()));
    assert_eq!(view["execution_strategy"], "system-python");
    assert!(view["elapsed_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{view}");
    assert!(view["job_id"].is_string(), "{view}");
}

#[test]
fn a_timeout_ends_the_job_and_keeps_what_it_printed() {
    let sandbox = Sandbox::new();
    sandbox.write("slow.py", "import time\nprint('before')\nwhile True: time.sleep(60)\n");
    let ran = sandbox.run(&["--timeout", "1s", "slow.py"]).expect_code(124);
    assert_eq!(ran.text(), "before\n");
    assert!(ran.stderr.starts_with("error: timed out after 1"), "{ran}");
    let view = sandbox.run(&["--timeout", "1s", "--json", "slow.py"]).expect_code(124).json();
    assert_eq!((&view["status"], &view["reason"]), (&"failed".into(), &"timed_out".into()), "{view}");
    assert_eq!((&view["stdout"], &view["stderr"]), (&"before\n".into(), &"[TIMEOUT]\n".into()), "{view}");
    assert_eq!(view["exit_code"], -15, "{view}");
    let logs = sandbox.pyexec(["logs", view["job_id"].as_str().expect("is text")]).expect_code(0);
    assert_eq!((logs.text().as_str(), logs.stderr.as_str()), ("before\n", ""));
}
