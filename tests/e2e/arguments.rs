//! What the command line of `pyexec` says beyond what `python3` takes: how jobs are called that run a module or a file that
//! only the caller can open, and what is refused. [`crate::as_plain`] compares what is run.

use std::process::Stdio;

use pyexec_proto::JobSource;
use pyexec_proto::job::Submission;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::json;

use crate::mcp_session::{Era, McpSession};
use crate::sandbox::{Attended, PYEXEC, Ran, Sandbox};
use crate::wheels::{sandbox_without_index, wheel};

/// A line of `bash`, in which `$0` is the command line.
#[track_caller]
fn attend_shell<'a>(sandbox: &'a Sandbox, line: &str) -> Attended<'a> {
    let mut bash = sandbox.command("bash");
    bash.args(["-c", line]).arg(PYEXEC);
    sandbox.attend(bash)
}

#[track_caller]
fn shell(sandbox: &Sandbox, line: &str) -> Ran {
    attend_shell(sandbox, line).end()
}

#[test]
fn a_job_is_called_by_the_module_or_the_path_it_was_given() {
    let sandbox = Sandbox::new();
    sandbox.write("mod.py", "import sys; print(sys.argv[1:])\n");
    let of_module = sandbox.detach(&["-m", "mod", "--flag", "-d"]);
    assert_eq!(sandbox.finished(&of_module)["command"], "-m mod --flag -d");
    let of_content = shell(&sandbox, "\"$0\" run --no-uv -d <(echo 'print(1)') --flag").expect_code(0).text();
    let shown = sandbox.finished(of_content.trim_end());
    let command = shown["command"].as_str().expect("is text");
    assert!(command.starts_with("/dev/fd/") && command.ends_with(" --flag"), "{shown}");
    let listed = sandbox.pyexec(["jobs"]).expect_code(0).text();
    assert!(listed.contains("-m mod --flag -d") && listed.contains(command), "{listed}");
    let told = sandbox.pyexec(["show", &of_module]).expect_code(0).text();
    assert!(told.contains("-m mod --flag -d"), "{told}");

    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let arguments = json!({"directory": sandbox.work(), "use_uv": false, "module": "nosuch", "args": ["-d"]});
    let answer = session.structured("py_run_script_in_dir", arguments);
    assert_eq!((&answer["exit_code"], &answer["status"]), (&1.into(), &"failed".into()), "{answer}");
    let id = answer["job_id"].as_str().expect("is text");
    assert_eq!(sandbox.show(id)["command"], "-m nosuch -d");
    let listed = session.markdown("py_list_jobs", json!({}));
    assert!(listed.contains("-m nosuch -d"), "{listed}");
    let prompt = session.ask("prompts/get", json!({"name": "debug_failed_job", "arguments": {"job_id": id}}));
    assert!(prompt.to_string().contains("It ran the module `nosuch` (python -m) in "), "{prompt}");
    for (arguments, said) in [
        (json!({"module": "m", "script_path": "x.py"}), "script_path and module are both given"),
        (json!({"module": "m", "script_content": "1"}), "script_content and module are both given"),
        (json!({"module": "m", "script_path": "x.py", "script_content": "1"}), "are all given"),
        (json!({"module": ""}), "neither script_path nor script_content nor module is given"),
        (json!({"module": 1}), "`module` is 1, not text"),
    ] {
        let mut given = arguments.clone();
        given["directory"] = sandbox.work().display().to_string().into();
        let refused = session.failure("py_run_script_in_dir", given);
        assert!(refused.contains(said), "{arguments}: {refused}");
    }
}

#[test]
fn a_module_can_be_measured_and_profiled() {
    let sandbox = Sandbox::new();
    sandbox.write("mod.py", "def counted(): return sum(range(3_000_000))\ncounted()\n");
    let line = ["bench", "--no-uv", "--runs", "2", "--json", "-m", "mod", "mod.py", "--", "--flag"];
    let results = sandbox.pyexec(line).expect_code(0).json()["results"].clone();
    let called: Vec<_> = [0, 1].map(|at: usize| results[at]["script"].clone()).into();
    assert_eq!(called, ["mod.py", "-m mod"], "{results}");
    let profile = sandbox.run(&["--profile", "--json", "-m", "mod"]).expect_code(0).json()["profile"].clone();
    assert!(profile["by_cumulative"].to_string().contains("mod.py:1(counted)"), "{profile}");
}

#[test]
fn a_pipe_of_the_shell_as_an_argument_is_refused_with_the_reason() {
    let sandbox = Sandbox::new();
    sandbox.write("s.py", "import sys; print(sys.argv[1:])\n");
    for line in [
        "\"$0\" run --no-uv s.py --flag <(echo x)",
        "\"$0\" run --no-uv s.py --input=<(echo x)",
        "\"$0\" run --no-uv -d -m s <(echo x)",
        "\"$0\" bench --no-uv s.py -- <(echo x)",
        "exec 9< <(echo x); \"$0\" run --no-uv s.py /proc/self/fd/9",
    ] {
        let ran = shell(&sandbox, line).expect_code(2);
        let says = ["error: the argument /", "fd/", "a job cannot open it", "hint: write the content into a file"];
        assert!(says.iter().all(|part| ran.stderr.contains(part)), "{line}: {ran}");
    }
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 0, "none of them ran");
    // What only looks like one is an argument like any other.
    let ran = shell(&sandbox, "\"$0\" run --no-uv s.py /dev/fd/99 <(echo x)x /dev/stdin").expect_code(0).text();
    assert!(ran.starts_with("['/dev/fd/99', '/dev/fd/") && ran.contains("x', '/dev/stdin']"), "{ran}");
}

#[test]
fn what_cannot_be_read_for_the_job_is_an_error_and_nothing_is_run() {
    let sandbox = Sandbox::new();
    for (line, code, parts) in [
        ("\"$0\" run --no-uv /dev/fd/99", 127, &["cannot read the script /dev/fd/99"][..]),
        ("\"$0\" run --no-uv --env-file /dev/fd/99 -c pass", 127, &["cannot read the env file /dev/fd/99"]),
        ("\"$0\" run --with-requirements /dev/fd/99 -c pass", 127, &["the requirements file /dev/fd/99"]),
        ("exec 9< .; \"$0\" run --no-uv /dev/fd/9", 125, &["cannot read the script /dev/fd/9", "directory"]),
        ("\"$0\" run --no-uv <(yes)", 2, &["the script /dev/fd/", "has more than 16777216 bytes"]),
        ("\"$0\" run --no-uv --env-file <(yes) -c pass", 2, &["the env file /dev/fd/", "has more than"]),
        ("\"$0\" run --with-requirements <(yes) -c pass", 2, &["the requirements file /dev/fd/", "has more than"]),
        ("\"$0\" run --with-requirements <(printf '\\377') -c pass", 2, &["the requirements file is not UTF-8"]),
        ("\"$0\" run --no-uv --env-file <(echo =x) -c pass", 2, &["env file `/dev/fd/", "line 1"]),
    ] {
        let ran = shell(&sandbox, line);
        assert_eq!(ran.code, code, "{line}: {ran}");
        assert!(parts.iter().all(|part| ran.stderr.contains(part)), "{line}: {ran}");
        assert!(ran.stderr.contains("hint: "), "{line}: {ran}");
    }
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 0, "none of them ran");
}

#[test]
fn an_interrupt_ends_the_wait_for_a_pipe_that_does_not_end() {
    let sandbox = Sandbox::new();
    let fifo = sandbox.file("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("can be made");
    for arguments in
        [&["run", "--no-uv", "--env-file", "fifo", "-c", "pass"][..], &["run", "--with-requirements", "fifo", "x"]]
    {
        let waiting = sandbox.attend(sandbox.cli(arguments));
        // Opening it waits for the reader.
        let writer = std::fs::File::options().write(true).open(&fifo).expect("is there");
        waiting.signal(Signal::INT);
        assert_eq!(waiting.end().code, -2, "{arguments:?}");
        drop(writer);
    }
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 0, "none of them ran");
    let reading = sandbox.attend_run(&["--env-file", "fifo", "-c", "import os; print(os.environ['GIVEN'])"]);
    std::fs::write(&fifo, "GIVEN=through a pipe\n").expect("is read");
    assert_eq!(reading.end().expect_code(0).text(), "through a pipe\n");
}

#[test]
fn scripts_that_are_compared_share_what_was_read_once() {
    let sandbox = Sandbox::new();
    let print = "import os; print(os.environ['GIVEN'])";
    sandbox.write("a.py", print);
    let line =
        "\"$0\" bench --no-uv --runs 1 --warmup 0 --show-output --env-file <(echo GIVEN=1) a.py a.py <(cat a.py)";
    let ran = shell(&sandbox, line).expect_code(0);
    assert_eq!(ran.text().lines().filter(|line| *line == "1").count(), 3, "{ran}");
}

#[test]
fn a_script_that_was_read_for_the_job_waits_for_its_turn_over_a_restart_of_the_daemon() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon_with(&[("PYEXEC_MAX_RUNNING", "1")]);
    let first = sandbox.detach(&["-c", "import os, time\nwhile not os.path.exists('go'): time.sleep(0.005)"]);
    let line = "\"$0\" run --no-uv -d --env-file <(echo GIVEN=1) <(echo 'import os; print(os.environ[\"GIVEN\"])')";
    let id = shell(&sandbox, line).expect_code(0).text().trim_end().to_owned();
    daemon.restart();
    sandbox.write("go", "");
    sandbox.finished(&first);
    assert_eq!(sandbox.finished(&id)["exit_code"], 0);
    assert_eq!(sandbox.logs(&id), b"1\n");
}

#[tokio::test]
async fn the_same_submission_of_what_was_read_is_the_same_job() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let client = sandbox.client().await;
    let mut submission = sandbox.submission("");
    let content = "import os; open('ran', 'a').write(os.environ['GIVEN'])".into();
    submission.spec.source = JobSource::Content { path: "/dev/fd/63".into(), content };
    submission.spec.env_file = Some("/dev/fd/62".into());
    submission.env_file = Some(b"GIVEN=once\n".to_vec());
    let submit = |submission: &Submission| client.submit(submission.clone());
    let first = submit(&submission).await.expect("is taken");
    client.wait(first.id).await.expect("it ends");
    let again = submit(&submission).await.expect("is the same job");
    assert_eq!((again.id, again.created_at), (first.id, first.created_at));
    assert_eq!(std::fs::read_to_string(sandbox.file("ran")).expect("it ran"), "once");
    submission.spec.source = JobSource::Module { module: "other".into() };
    submit(&submission).await.expect_err("another job of this id");
}

/// `uv run` has the header, and Python then finds the pipe empty: there is nothing to compare this with.
#[test]
fn the_header_of_a_script_that_was_read_for_the_job_is_honoured() {
    let sandbox = sandbox_without_index();
    wheel(&sandbox, "tried-a", "1.0");
    wheel(&sandbox, "tried-b", "1.0");
    sandbox
        .write("s.py", "# /// script\n# dependencies = ['tried-a']\n# ///\nimport tried_a, tried_b; print('both')\n");
    sandbox.write("settings.py", "# /// script\n# [tool.uv]\n# no-index = true\n# ///\nprint('ran')\n");
    let ran = shell(&sandbox, "\"$0\" run --with-requirements <(echo tried-b) <(cat s.py)").expect_code(0);
    assert_eq!(ran.text(), "both\n");
    assert_eq!(shell(&sandbox, "\"$0\" run <(cat settings.py)").expect_code(0).text(), "ran\n");
    let ran = shell(&sandbox, "\"$0\" run <(echo '# /// script'; echo 'print(1)')").expect_code(126);
    assert!(ran.stderr.contains("line 1: the `# /// script` block is not closed"), "{ran}");
    // With a requirement that uv resolves anew, it is uv that reads the file.
    let ran = shell(&sandbox, "\"$0\" run --with-requirements <(ls \"$UV_FIND_LINKS\"/tried_b*) -c 'import tried_b'");
    ran.expect_code(0);
}

#[test]
fn a_module_is_what_auto_install_looks_for() {
    let sandbox = sandbox_without_index();
    wheel(&sandbox, "six", "1.0");
    sandbox.write("mod.py", "import six\n");
    sandbox.run_with_uv(&["--auto-install", "-m", "six", "--flag"]).expect_code(0);
    // What a module that is there imports is not looked for.
    let ran = sandbox.run_with_uv(&["--auto-install", "-m", "mod"]).expect_code(1);
    assert!(ran.stderr.contains("No module named 'six'"), "{ran}");
}

#[test]
fn a_script_that_cannot_be_found_ends_with_a_code_of_pyexecs_own() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.file("empty")).expect("can be made");
    let mut command = sandbox.cli(["run", "--no-uv", "missing.py", "--flag"]);
    command.stdin(Stdio::null());
    let ran = sandbox.attend(command).end().expect_code(127);
    assert!(ran.stderr.contains("missing.py"), "{ran}");
    let ran = sandbox.run(&["empty", "--flag"]).expect_code(2);
    assert!(ran.stderr.contains("`empty`") && ran.stderr.contains("__main__.py"), "{ran}");
}
