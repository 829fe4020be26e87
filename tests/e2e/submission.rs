//! A submission may be repeated, whatever happens in between, and its job runs once.

use std::sync::Arc;

use pyexec_client::{Client, ClientError};
use pyexec_proto::exit::ExitStatus;
use pyexec_proto::job::{Submission, Watching};
use pyexec_proto::state::Outcome;
use pyexec_proto::{Error, JobDetail, JobState};
use serde_json::{Value, json};

use crate::mcp_session::{Era, McpSession};
use crate::sandbox::Sandbox;

/// Leaves a trace of every run.
const CODE: &str = "open('runs', 'a').write('run\\n'); print('ran')";

fn runs(sandbox: &Sandbox) -> usize {
    std::fs::read_to_string(sandbox.file("runs")).unwrap_or_default().lines().count()
}

#[track_caller]
fn assert_completed(job: &JobDetail) {
    let JobState::Finished(Outcome::Ended(record)) = &job.state else { panic!("{job:?}") };
    assert_eq!(record.exit, ExitStatus::Success);
}

/// Again and again while there is no daemon, or one that goes away.
async fn submit_until_it_is_taken(client: &Client, submission: &Submission) -> JobDetail {
    loop {
        let error = match client.submit(submission.clone()).await {
            Ok(job) => return job,
            // It was sent to a daemon that has gone since.
            Err(ClientError::Unanswered { source, .. }) => *source,
            Err(error) => error,
        };
        let has_gone = matches!(error, ClientError::NotRunning | ClientError::Broken { .. });
        assert!(has_gone, "{error}: {error:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_same_submission_twice_is_one_job_that_runs_once() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let client = sandbox.client().await;
    let submission = sandbox.submission(CODE);
    let first = client.submit(submission.clone()).await.expect("is taken");
    let second = client.submit(submission.clone()).await.expect("is taken again");
    assert_eq!((first.id, &first.spec, first.created_at), (second.id, &second.spec, second.created_at));
    assert_completed(&client.wait(first.id).await.expect("ends"));
    // Also when it has long ended, and whoever watches it.
    let watching = Watching { waited_for: true, notify_output: false, attached: true };
    assert_ne!(submission.watching, watching);
    let third = client.submit(Submission { watching, ..submission }).await.expect("is taken again");
    assert_completed(&third);
    assert_eq!(third.created_at, first.created_at);
    assert_eq!(runs(&sandbox), 1);
}

#[tokio::test]
async fn the_same_submission_is_one_job_also_when_the_daemon_is_killed_between_the_two() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let submission = sandbox.submission(CODE);
    let first = sandbox.client().await.submit(submission.clone()).await.expect("is taken");
    daemon.restart();
    let client = sandbox.client().await;
    let second = client.submit(submission).await.expect("is taken again");
    assert_eq!((first.id, first.created_at), (second.id, second.created_at));
    assert_completed(&client.wait(first.id).await.expect("ends"));
    assert_eq!(runs(&sandbox), 1);
}

#[tokio::test]
async fn a_daemon_killed_at_any_moment_of_a_submission_leaves_one_job_that_runs_once() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    for round in 0..20 {
        let submission = sandbox.submission(CODE);
        let client = Arc::new(sandbox.client().await);
        let submitting = tokio::spawn({
            let (client, submission) = (client.clone(), submission.clone());
            async move { submit_until_it_is_taken(&client, &submission).await }
        });
        // Some other moment each time.
        for _ in 0..round * 40 {
            tokio::task::yield_now().await;
        }
        daemon.restart();
        let job = submitting.await.expect("does not panic");
        let again = submit_until_it_is_taken(&client, &submission).await;
        assert_eq!((job.id, job.created_at), (again.id, again.created_at));
        assert_completed(&client.wait(job.id).await.expect("ends"));
        assert_eq!(runs(&sandbox), round + 1, "in round {round}");
    }
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 20);
}

#[tokio::test]
async fn eight_clients_with_the_same_submission_get_one_job_that_runs_once() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    for round in 1..=5 {
        let submission = sandbox.submission(CODE);
        let mut submitting = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (client, submission) = (sandbox.client().await, submission.clone());
            submitting.spawn(async move { client.submit(submission).await });
        }
        let jobs = submitting.join_all().await;
        let created: Vec<_> = jobs.into_iter().map(|job| job.expect("is taken").created_at).collect();
        assert!(created.iter().all(|at| *at == created[0]), "{created:?}");
        assert_completed(&sandbox.client().await.wait(submission.id).await.expect("ends"));
        assert_eq!(runs(&sandbox), round);
    }
}

#[tokio::test]
async fn an_id_that_is_taken_is_refused_for_anything_else() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let client = sandbox.client().await;
    let submission = sandbox.submission(CODE);
    client.submit(submission.clone()).await.expect("is taken");
    let mut other = submission.clone();
    other.spec.label = Some("other".to_owned());
    for _ in 0..2 {
        match client.submit(other.clone()).await {
            Err(ClientError::Refused(Error::IdTaken { id })) => assert_eq!(id, submission.id),
            answer => panic!("{answer:?}"),
        }
        client.wait(submission.id).await.expect("ends");
        daemon.restart();
    }
    assert_eq!(runs(&sandbox), 1);
}

#[tokio::test]
async fn what_a_job_was_given_survives_the_daemon_while_it_waits() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon_with(&[("PYEXEC_MAX_RUNNING", "1")]);
    let holder = sandbox.detach(&["-i", "-c", "input()"]);
    let client = sandbox.client().await;
    let mut submission = sandbox.submission("import os, sys; print(sys.stdin.read(), os.environ['GIVEN'])");
    submission.environment.set("GIVEN".as_ref(), "value".as_ref());
    submission.spec.stdin = pyexec_proto::job::StdinSource::Given;
    submission.stdin = b"typed".to_vec();
    let id = client.submit(submission).await.expect("is taken").id;
    daemon.restart();
    assert_eq!(client.show(id).await.expect("is known").state, JobState::Queued);
    sandbox.wait_until_running(&holder);
    sandbox.pyexec(["send", &holder, "", "--eof"]).expect_code(0);
    assert_completed(&client.wait(id).await.expect("ends"));
    assert_eq!(String::from_utf8_lossy(&sandbox.logs(&id.to_string())), "typed value\n");
}

/// What is kept of the job that was asked for.
fn kept_specification(sandbox: &Sandbox, id: &str) -> Value {
    let directory = sandbox.paths().run_directory(id.parse().expect("is an id"));
    let text = std::fs::read_to_string(directory.join("spec.json")).expect("is there");
    let mut kept: Value = serde_json::from_str(&text).expect("is JSON");
    kept["spec"].take()
}

/// The same wish, in the terms of the command line and of a tool; `differs` is what has to be another in the two.
#[track_caller]
fn assert_same_job(sandbox: &Sandbox, line: &[&str], tool: &str, arguments: Value, differs: &[&str]) {
    let typed = sandbox.pyexec(["run", "-d"].iter().chain(line)).expect_code(0).text();
    let mut session = McpSession::open(sandbox, Era::Stateless);
    let called = session.structured(tool, arguments);
    let called = called["job_id"].as_str().expect("is text");
    let [mut typed, mut called] = [typed.trim_end(), called].map(|id| kept_specification(sandbox, id));
    assert!(typed.as_object().is_some_and(|members| members.len() > 20), "{typed}");
    for path in differs {
        let [one, other] = [&mut typed, &mut called].map(|spec| spec.pointer_mut(path).expect("is in both").take());
        assert_ne!(one, other, "{path} is the same in both");
    }
    assert_eq!(typed, called);
}

#[test]
fn the_command_line_and_a_tool_make_the_same_job_of_the_same_wish() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    sandbox.write("x.py", "print(1)\n");
    sandbox.write("mod.py", "print(1)\n");
    sandbox.write("vars", "FROM_FILE=1\n");
    let directory = sandbox.work();
    let in_directory = "py_run_script_in_dir";
    let bare = json!({"directory": directory, "use_uv": false, "script_path": "x.py", "async_mode": true,
        "timeout_seconds": 0});
    assert_same_job(&sandbox, &["--no-uv", "x.py"], in_directory, bare, &[]);
    let line = [
        "--no-uv",
        "-e",
        "A=1",
        "-e",
        "B=2",
        "--env-file",
        "vars",
        "--timeout",
        "90s",
        "--label",
        "l",
        "--max-memory",
        "1GiB",
        "--max-cpu",
        "30s",
        "--max-processes",
        "50",
        "--max-output",
        "1000000",
        "--on-output-limit",
        "stop",
        "-m",
        "mod",
        "a",
        "b c",
    ];
    let all = json!({
        "directory": directory,
        "use_uv": false,
        "module": "mod",
        "args": ["a", "b c"],
        "env_vars": {"A": "1", "B": "2"},
        "env_file": "vars",
        "timeout_seconds": 90,
        "job_label": "l",
        "limits": {
            "memory_mb": 1024, "cpu_seconds": 30, "processes": 50, "output_bytes": 1_000_000, "on_output_limit": "stop",
        },
        "async_mode": true,
    });
    assert_same_job(&sandbox, &line, in_directory, all, &[]);
    let given = json!({"directory": directory, "use_uv": false, "script_path": "x.py", "stdin": "", "async_mode": true,
        "timeout_seconds": 0});
    assert_same_job(&sandbox, &["--no-uv", "--stdin", "x.py"], in_directory, given, &[]);
    // Code that an agent gives has a file, and that of a shell is `python -c`.
    let code = json!({"directory": directory, "use_uv": false, "script_content": "print(1)", "async_mode": true,
        "timeout_seconds": 0});
    assert_same_job(&sandbox, &["--no-uv", "-c", "print(1)"], in_directory, code, &["/source"]);
}
