//! Every kind of file at every argument that names one: each is answered, others are served meanwhile, and the daemon takes no
//! memory for it.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use pyexec_proto::job::Submission;
use pyexec_proto::request::StopRequest;
use pyexec_proto::{JobSource, JobSpec};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::mcp_session::{Era, McpSession, text_of};
use crate::sandbox::{Ran, Sandbox, Stalled, in_mount_namespace, is_finished, process_state, send};
use crate::uv::sandbox_with_uv;

/// Names of files of every kind, with what a message calls them. `None`: it is not there.
const KINDS: [(&str, Option<&str>); 13] = [
    ("pipe", Some("pipe")),
    ("socket", Some("socket")),
    ("/dev/null", Some("device")),
    ("/dev/zero", Some("device")),
    ("directory", Some("directory")),
    ("endless", Some("bytes")),
    ("link-to-pipe", Some("pipe")),
    ("link-to-socket", Some("socket")),
    ("link-to-zero", Some("device")),
    ("link-to-directory", Some("directory")),
    ("gone", None),
    ("link-to-gone", None),
    ("pipe/below", None),
];

/// The socket is there for as long as what is returned.
fn make_kinds(sandbox: &Sandbox) -> UnixListener {
    make_pipe(sandbox, "pipe");
    std::fs::create_dir(sandbox.file("directory")).expect("can be made");
    let endless = std::fs::File::create(sandbox.file("endless")).expect("can be made");
    endless.set_len(1 << 40).expect("can be set");
    for (link, target) in [
        ("link-to-pipe", "pipe"),
        ("link-to-socket", "socket"),
        ("link-to-zero", "/dev/zero"),
        ("link-to-directory", "directory"),
        ("link-to-gone", "gone"),
    ] {
        std::os::unix::fs::symlink(target, sandbox.file(link)).expect("can be made");
    }
    UnixListener::bind(sandbox.file("socket")).expect("can be bound")
}

fn make_pipe(sandbox: &Sandbox, name: &str) {
    mknodat(CWD, sandbox.file(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("can be made");
}

#[track_caller]
fn assert_others_are_served(sandbox: &Sandbox) {
    sandbox.pyexec(["jobs", "--json"]).expect_code(0);
}

/// The most memory that the daemon has had.
#[track_caller]
fn assert_memory_is_bounded(sandbox: &Sandbox) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", sandbox.daemon_pid())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel says so");
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("is a number");
    assert!(kib < 150 << 10, "the daemon had {kib} KiB");
}

#[track_caller]
fn assert_said(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(ran.code, code, "{ran}");
    let error = ran.stderr.lines().next().unwrap_or_default();
    assert!(error.starts_with("error: ") && parts.iter().all(|part| error.contains(part)), "{parts:?}: {ran}");
    assert!(ran.stderr.lines().any(|line| line.starts_with("hint: ")), "{ran}");
}

/// Ends a job, however far it is.
#[track_caller]
fn end(sandbox: &Sandbox, id: &str) -> Value {
    sandbox.pyexec(["kill", "--now", id]).expect_code(0);
    sandbox.finished(id)
}

#[test]
fn every_kind_of_file_is_answered_on_the_command_line() {
    let sandbox = sandbox_with_uv();
    let _socket = make_kinds(&sandbox);
    let daemon = sandbox.daemon();
    for (kind, called) in KINDS {
        let refused = match called {
            Some(called) => (2, called),
            None => (127, "no such"),
        };
        for arguments in [
            &["run", "--no-uv", "--env-file", kind, "-c", "pass"][..],
            &["run", "--with-requirements", kind, "-c", "pass"],
            &["env", "create", "it", "--with-requirements", kind],
        ] {
            if kind.ends_with("pipe") {
                // The client reads it, and waits for somebody to write: see `arguments`.
                continue;
            }
            // Requirements are read when they are needed: that there are too many bytes of them is found then.
            let late = kind == "endless" && arguments[0] == "run" && arguments.contains(&"--with-requirements");
            let ran = sandbox.pyexec(arguments);
            if late {
                assert_eq!(ran.code, 126, "{ran}");
                assert!(ran.stderr.contains("endless: it has more than 16777216 bytes"), "{ran}");
            } else {
                assert_said(&ran, refused.0, &[kind, refused.1]);
            }
            assert_others_are_served(&sandbox);
        }
        // A working directory has to be one.
        if !kind.contains("directory") {
            let ran = sandbox.run(&["--dir", kind, "-c", "pass"]);
            assert_said(&ran, 127, &[kind, "no such directory"]);
        }
        // A script that is no regular file is Python's. Some it reads for ever.
        let run = ["run", "-d", "--no-uv", "--max-memory", "200M", kind];
        match called {
            Some("directory") => assert_said(&sandbox.pyexec(run), 2, &[kind, "__main__.py"]),
            None => assert_said(&sandbox.pyexec(run), 127, &[kind]),
            Some(_) => {
                let id = sandbox.pyexec(run).expect_code(0).text().trim_end().to_owned();
                assert_others_are_served(&sandbox);
                assert!(is_finished(&end(&sandbox, &id)));
            }
        }
        assert_others_are_served(&sandbox);
    }
    assert_memory_is_bounded(&sandbox);
    assert_eq!(sandbox.daemon_pid(), daemon.pid());
}

#[test]
fn a_script_that_is_a_pipe_reaches_python_whole_and_its_imports_are_not_guessed_at() {
    let sandbox = sandbox_with_uv();
    make_pipe(&sandbox, "pipe");
    let id = sandbox.pyexec(["run", "-d", "pipe"]).expect_code(0).text().trim_end().to_owned();
    // Opening it waits for the reader, which is Python.
    std::fs::write(sandbox.file("pipe"), "print('all', 'of', 'it')\n").expect("can be written");
    assert_eq!(sandbox.finished(&id)["exit_code"], 0, "{}", sandbox.show(&id));
    assert_eq!(sandbox.logs(&id), b"all of it\n");
    let ran = sandbox.pyexec(["run", "--auto-install", "pipe"]);
    assert_eq!(ran.code, 126, "{ran}");
    assert!(ran.stderr.contains("imports of ") && ran.stderr.contains("it is a pipe, not a regular file"), "{ran}");
    let ran = sandbox.pyexec(["run", "--auto-install", "--max-memory", "200M", "/dev/zero"]);
    assert_eq!(ran.code, 126, "{ran}");
    assert!(ran.stderr.contains("it is a device, not a regular file"), "{ran}");
    assert_memory_is_bounded(&sandbox);
}

/// A long script is run whole, though no more of it is looked at than is needed for its header.
#[test]
fn a_script_of_more_bytes_than_are_read_keeps_its_header_and_its_end() {
    let sandbox = sandbox_with_uv();
    let filler = format!("# {}\n", "x".repeat(97)).repeat(200_000);
    let script = format!("# /// script\n# requires-python = '>=3.99'\n# ///\n{filler}print('end')\n");
    sandbox.write("long.py", &script);
    let ran = sandbox.pyexec(["run", "long.py"]);
    assert_eq!(ran.code, 126, "its header was not read: {ran}");
    assert!(ran.stderr.contains(">=3.99"), "{ran}");
    sandbox.write("long.py", script.replace(">=3.99", ">=3.8"));
    assert_eq!(sandbox.pyexec(["run", "long.py"]).expect_code(0).text(), "end\n");
    let ran = sandbox.pyexec(["run", "--auto-install", "long.py"]);
    assert_eq!(ran.code, 126, "{ran}");
    assert!(ran.stderr.contains("it has more than 16777216 bytes"), "{ran}");
    assert_memory_is_bounded(&sandbox);
}

#[test]
fn what_the_command_line_opens_itself_is_answered_too() {
    let sandbox = Sandbox::new();
    let _socket = make_kinds(&sandbox);
    for (kind, called) in KINDS {
        let code = match (kind, called) {
            // As `cat` does, it waits for somebody to write: below.
            ("pipe" | "link-to-pipe", _) => continue,
            ("/dev/null", _) => 0,
            ("endless" | "/dev/zero" | "link-to-zero", _) => 2,
            ("gone" | "link-to-gone", _) => 127,
            _ => 125,
        };
        let ran = sandbox.pyexec(["scripts", "save", "it", kind, "--overwrite"]);
        assert_eq!(ran.code, code, "{kind}: {ran}");
        assert!(code == 0 || ran.stderr.contains(kind), "{kind}: {ran}");
    }
    let saving = sandbox.attend(sandbox.cli(["scripts", "save", "piped", "pipe"]));
    std::fs::write(sandbox.file("pipe"), "print('piped')\n").expect("can be written");
    saving.end().expect_code(0);
    assert_eq!(sandbox.pyexec(["scripts", "run", "--no-uv", "piped"]).expect_code(0).text(), "piped\n");

    let code = "import os; open(os.environ['PYEXEC_ARTIFACTS'] + '/left', 'w').write('left')";
    let id = sandbox.detach(&["-c", code]);
    sandbox.finished(&id);
    for (kind, _) in KINDS {
        let is_directory = kind.contains("directory") || kind.ends_with("gone");
        let ran = sandbox.pyexec(["artifacts", &id, "-o", kind, "--force"]);
        assert_eq!(ran.code, if is_directory { 0 } else { 125 }, "{kind}: {ran}");
        assert!(is_directory || ran.stderr.contains(kind), "{kind}: {ran}");
    }
}

#[test]
fn every_kind_of_file_is_answered_over_mcp() {
    let sandbox = Sandbox::new();
    let _socket = make_kinds(&sandbox);
    let mut session = McpSession::open(&sandbox, Era::Handshake("2025-06-18"));
    let mut other = McpSession::open(&sandbox, Era::Stateless);
    const TOOL: &str = "py_run_script_in_dir_async";
    for (kind, called) in KINDS {
        let path = sandbox.file(kind);
        let mut with = |arguments: Value| {
            let mut all = json!({"use_uv": false, "limits": {"memory_mb": 200}});
            for (name, value) in arguments.as_object().expect("is an object") {
                all[name] = value.clone();
            }
            let result = session.call(TOOL, all);
            other.structured("py_list_jobs", json!({}));
            result
        };
        let ran = with(json!({"directory": sandbox.work(), "script_content": "pass", "env_file": path}));
        assert_eq!(ran["isError"], true, "{kind}: {ran}");
        assert!(text_of(&ran).contains(called.unwrap_or("no such env file")), "{kind}: {ran}");

        let ran = with(json!({"directory": path, "script_content": "pass"}));
        let is_directory = kind.contains("directory");
        assert_eq!(ran["isError"], !is_directory, "{kind}: {ran}");
        assert!(is_directory || text_of(&ran).contains("no such directory"), "{kind}: {ran}");

        let ran = with(json!({"directory": sandbox.work(), "script_path": path}));
        let is_run = called.is_some() && !is_directory;
        assert_eq!(ran["isError"], !is_run, "{kind}: {ran}");
    }
    let jobs = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["jobs"].clone();
    for job in jobs.as_array().expect("is a list") {
        end(&sandbox, job["id"].as_str().expect("is text"));
    }
    assert_memory_is_bounded(&sandbox);
}

/// Where every path waits, until it is dropped.
fn stall(sandbox: &Sandbox) -> (Stalled, PathBuf) {
    let stalled = Stalled::mount(sandbox.file("stalled"));
    let at = stalled.path().to_owned();
    (stalled, at)
}

#[test]
fn a_file_system_that_does_not_answer_holds_up_its_own_jobs_alone() {
    if !Stalled::can_be_made()
        || !in_mount_namespace(module_path!(), "a_file_system_that_does_not_answer_holds_up_its_own_jobs_alone")
    {
        return;
    }
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.file("beside")).expect("can be made");
    let mut daemon = sandbox.daemon();
    let (mut stalled, at) = stall(&sandbox);
    let path = |name: &str| at.join(name).display().to_string();
    let here = at.display().to_string();

    let ran = sandbox.run(&["--env-file", &path("env"), "-c", "pass"]);
    assert_said(&ran, 126, &["cannot read the env file", "has not answered"]);
    // The command line looks for it in two places.
    let ran = sandbox.run(&["--dir", "beside", "--env-file", "stalled/env", "-c", "pass"]);
    assert_said(&ran, 126, &["cannot read the env file", "has not answered"]);
    let ran = sandbox.run(&["--dir", &here, "--filesystem", "workdir", "-c", "pass"]);
    assert_said(&ran, 126, &["filesystem fence", "has not answered"]);
    assert_others_are_served(&sandbox);

    // Its job is taken, waits by itself, and can be ended: where it is to be run, where its script is, and where its
    // interpreter may be.
    let in_directory = sandbox.detach(&["--dir", &here, "-c", "pass"]);
    let of_script = sandbox.detach(&[&path("script.py")]);
    let mut command = sandbox.cli(["run", "--no-uv", "-d", "-c", "pass"]);
    command.env("PATH", crate::sandbox::path_variable(&at));
    let of_interpreter = sandbox.attend(command).end().expect_code(0).text().trim_end().to_owned();
    assert_eq!(sandbox.run(&["-c", "print('others')"]).expect_code(0).text(), "others\n");
    for id in [&in_directory, &of_script, &of_interpreter] {
        assert!(!is_finished(&sandbox.show(id)), "{}", sandbox.show(id));
    }
    for id in [&of_script, &of_interpreter] {
        assert_eq!(end(&sandbox, id)["reason"], "killed");
    }

    // Its timeout counts, and so does a client that goes.
    let ran = sandbox.run(&["--dir", &here, "--timeout", "1s", "-c", "pass"]);
    assert_eq!(ran.code, 124, "{ran}");
    let attended = sandbox.attend_run(&["--dir", &here, "--label", "attended", "-c", "pass"]);
    sandbox.wait_until("its job is there", || {
        let jobs = sandbox.pyexec(["jobs", "--json"]).json()["jobs"].clone();
        let is_there = jobs.as_array().is_some_and(|jobs| jobs.iter().any(|job| job["label"] == "attended"));
        if is_there { Ok(()) } else { Err(jobs) }
    });
    attended.signal(Signal::INT);
    assert_eq!(attended.end().code, 130);

    // The next daemon finds the supervisor of a job that has not begun.
    daemon.kill();
    let daemon = sandbox.daemon();
    assert_others_are_served(&sandbox);
    assert!(!is_finished(&sandbox.show(&in_directory)));
    assert_eq!(end(&sandbox, &in_directory)["reason"], "killed");

    // Whoever waits when the server goes hears of it.
    let waiting = sandbox.detach(&["--dir", &here, "-c", "pass"]);
    stalled.end_server();
    let job = sandbox.finished(&waiting);
    assert_eq!(job["reason"], "spawn", "{job}");
    assert!(job["error"].as_str().is_some_and(|error| error.contains("could not enter")), "{job}");
    assert_eq!(sandbox.daemon_pid(), daemon.pid());
}

#[tokio::test]
async fn any_number_of_requests_for_a_file_system_that_does_not_answer_leave_others_alone() {
    if !Stalled::can_be_made()
        || !in_mount_namespace(
            module_path!(),
            "any_number_of_requests_for_a_file_system_that_does_not_answer_leave_others_alone",
        )
    {
        return;
    }
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let client = sandbox.client().await;
    let (_stalled, at) = stall(&sandbox);
    let submissions = (0..600).map(|number| {
        let submission = sandbox.submission("pass");
        let spec = submission.spec.clone();
        let spec = match number % 3 {
            0 => JobSpec { directory: at.clone().into(), ..spec },
            1 => JobSpec { env_file: Some(at.join("env").into()), ..spec },
            _ => JobSpec { source: JobSource::File { path: at.join("x.py").into() }, ..spec },
        };
        client.submit(Submission { spec, ..submission })
    });
    let answers = futures::future::join_all(submissions).await;
    let taken: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).map(|job| job.id).collect();
    assert_eq!(taken.len(), 400, "{answers:?}");
    // Lookers that nobody waits for are ended, and those that somebody waits for are few.
    sandbox.wait_until("no looker is left of those who had no answer in time", || {
        let lookers = sandbox.processes().into_iter().filter(crate::sandbox::Process::is_looker).count();
        if lookers <= 8 { Ok(()) } else { Err(lookers) }
    });
    assert_others_are_served(&sandbox);
    for id in &taken {
        client.stop(*id, StopRequest { now: true, grace_ms: None }).await.expect("is stopped");
    }
    for id in &taken {
        client.wait(*id).await.expect("ends");
    }
    assert_eq!(sandbox.run(&["-c", "print('others')"]).expect_code(0).text(), "others\n");
}

#[test]
fn a_file_system_that_does_not_answer_holds_up_no_other_request_of_a_session() {
    if !Stalled::can_be_made()
        || !in_mount_namespace(
            module_path!(),
            "a_file_system_that_does_not_answer_holds_up_no_other_request_of_a_session",
        )
    {
        return;
    }
    let sandbox = Sandbox::new();
    let (_stalled, at) = stall(&sandbox);
    let mut session = McpSession::open(&sandbox, Era::Handshake("2025-06-18"));
    let arguments = |name: &str, value: PathBuf| {
        let mut arguments = json!({"directory": sandbox.work(), "use_uv": false});
        if name != "script_path" {
            arguments["script_content"] = "pass".into();
        }
        arguments[name] = value.display().to_string().into();
        arguments
    };
    let of_env_file = session.begin("py_run_script_in_dir", arguments("env_file", at.join("env")));
    let in_directory = session.begin("py_run_script_in_dir_async", arguments("directory", at.clone()));
    let of_script = session.begin("py_run_script_in_dir_async", arguments("script_path", at.join("x.py")));
    let listing = session.begin("py_list_jobs", json!({}));
    let first = session.first_answer(&[listing, of_env_file, in_directory, of_script]);
    assert_eq!(first, listing);
    let refused = session.answer(of_env_file)["result"].clone();
    assert_eq!(refused["isError"], true, "{refused}");
    assert!(text_of(&refused).contains("has not answered"), "{refused}");
    for call in [in_directory, of_script] {
        let started = session.answer(call)["result"].clone();
        assert_eq!(started["isError"], false, "{started}");
    }
    let jobs = session.structured("py_list_jobs", json!({}))["jobs"].clone();
    assert_eq!(jobs.as_array().map(Vec::len), Some(2), "{jobs}");
    for job in jobs.as_array().expect("is a list") {
        let killed = session.structured("py_kill_job", json!({"job_id": job["id"]}));
        assert_eq!(killed["status"], "killed", "{killed}");
    }
}

#[test]
fn a_program_that_opens_such_a_file_itself_can_be_interrupted() {
    if !Stalled::can_be_made()
        || !in_mount_namespace(module_path!(), "a_program_that_opens_such_a_file_itself_can_be_interrupted")
    {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.detach(&["-c", "import os; open(os.environ['PYEXEC_ARTIFACTS'] + '/left', 'w').write('left')"]);
    sandbox.finished(&id);
    let (_stalled, at) = stall(&sandbox);
    let at = at.display().to_string();
    for arguments in [&["scripts", "save", "it", &at][..], &["artifacts", &id, "-o", &at]] {
        let mut command = sandbox.cli(arguments);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("can be started");
        sandbox.wait_until("it waits for the file system", || {
            let state = process_state(child.id());
            if state == Some('D') { Ok(()) } else { Err(format!("state {state:?}")) }
        });
        assert_others_are_served(&sandbox);
        send(child.id(), Signal::INT);
        assert!(!child.wait().expect("can be waited for").success());
    }
}

#[test]
fn a_looker_that_was_stopped_is_continued_and_no_file_system_is_blamed() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("variables.env", "A=1\n");
    let run = || {
        let print = "import os; print(os.environ['A'])";
        sandbox.run(&["--env-file", file.to_str().expect("is UTF-8"), "-c", print]).expect_code(0)
    };
    assert_eq!(run().text(), "1\n");
    let daemon = sandbox.daemon_pid();
    let looker = sandbox.processes().into_iter().find(|process| process.is_looker()).expect("it is kept");
    send(looker.pid, Signal::STOP);
    assert_eq!(run().text(), "1\n");
    assert_eq!(sandbox.daemon_pid(), daemon);
}
