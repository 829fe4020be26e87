//! What can not work is refused with one clear sentence, the documented exit code, and a hint; and nothing is made of it.

use pyexec_proto::JobId;

use crate::sandbox::{Ran, Sandbox};

#[track_caller]
fn assert_refused(sandbox: &Sandbox, arguments: &[&str], ran: &Ran, code: i32, named: &str) {
    assert_eq!(ran.code, code, "{arguments:?}: {ran}");
    assert!(ran.stdout.is_empty(), "{arguments:?}: {ran}");
    let errors: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{arguments:?} has not one error: {ran}");
    assert!(errors[0].contains(named), "{arguments:?} does not name {named}: {ran}");
    let hints = ran.stderr.lines().filter(|line| line.starts_with("hint: ")).count();
    assert_eq!(hints, 1, "{arguments:?} has not one hint: {ran}");
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["total"], 0, "{arguments:?} made a job");
    let left: Vec<_> =
        std::fs::read_dir(sandbox.paths().jobs()).map(|entries| entries.flatten().collect()).unwrap_or_default();
    assert!(left.is_empty(), "{arguments:?} left {left:?}");
}

#[test]
fn what_can_not_run_is_refused_and_nothing_is_made_of_it() {
    let sandbox = Sandbox::new();
    sandbox.write("there.py", "");
    sandbox.write("file", "");
    let long_label = "l".repeat(300);
    for (arguments, code, named) in [
        (&["run", "--no-uv", "missing.py"][..], 127, "missing.py"),
        (&["run", "--no-uv", "/nowhere/missing.py"], 127, "/nowhere/missing.py"),
        (&["run", "--no-uv", "."], 2, "`.`"),
        (&["run", "--no-uv", "--dir", "/nowhere", "-c", "pass"], 127, "/nowhere"),
        (&["run", "--no-uv", "--dir", "file", "-c", "pass"], 127, "file"),
        (&["run", "--no-uv", "--timeout", "abc", "there.py"], 2, "abc"),
        (&["run", "--no-uv", "--timeout", "-1s", "there.py"], 2, "-1"),
        (&["run", "--no-uv", "--grace", "soon", "there.py"], 2, "soon"),
        (&["run", "--no-uv", "-e", "NAME", "there.py"], 2, "NAME"),
        (&["run", "--no-uv", "-e", "=value", "there.py"], 2, "=value"),
        (&["run", "--no-uv", "--with", "six", "there.py"], 2, "--with"),
        (&["run", "--no-uv", "--python", "3.12", "there.py"], 2, "--python"),
        (&["run", "--python", "3.5", "there.py"], 2, "3.5"),
        (&["run", "--python", "three", "there.py"], 2, "three"),
        (&["run", "--no-uv", "--label", &long_label, "there.py"], 2, "label"),
        (&["run", "--no-uv"], 2, ""),
        (&["run", "--no-uv", "--nonsense", "there.py"], 2, "--nonsense"),
        (&["show", "00000000-0000-4000-8000-000000000000"], 127, "00000000-0000-4000-8000-000000000000"),
        (&["show", "abcd"], 127, "abcd"),
        (&["show", "abc"], 127, "abc"),
        (&["show", "no/such/../id"], 127, "no/such/../id"),
        (&["show", ""], 127, ""),
        (&["logs", "abcd"], 127, "abcd"),
        (&["wait", "abcd"], 127, "abcd"),
        (&["kill", "abcd"], 127, "abcd"),
        (&["send", "abcd", "text"], 127, "abcd"),
        (&["jobs", "--status", "sleeping"], 2, "sleeping"),
        (&["prune", "--older-than", "yesterday"], 2, "yesterday"),
        (&["nonsense"], 2, "nonsense"),
        (&["daemon"], 2, "command"),
        (&[], 2, "command"),
    ] {
        let ran = sandbox.pyexec(arguments);
        assert_refused(&sandbox, arguments, &ran, code, named);
    }
}

#[test]
fn a_python_that_is_not_there_is_refused() {
    let sandbox = Sandbox::new();
    let arguments = ["run", "--no-uv", "-c", "pass"];
    let mut command = sandbox.cli(arguments);
    command.env("PATH", sandbox.work());
    let ran = sandbox.attend(command).end();
    assert_refused(&sandbox, &arguments, &ran, 126, "python3");
}

#[test]
fn a_missing_uv_is_said_with_three_ways_to_get_it() {
    let sandbox = Sandbox::new();
    let arguments = ["run", "-c", "pass"];
    for (name, value) in [("PATH", sandbox.work()), ("PYEXEC_UV", sandbox.file("no-uv"))] {
        let mut command = sandbox.cli(arguments);
        command.env(name, value);
        let ran = sandbox.attend(command).end();
        assert_refused(&sandbox, &arguments, &ran, 126, "uv");
        let hint = ran.stderr.lines().last().unwrap_or_default();
        for way in ["curl", "pip", "cargo"] {
            assert!(hint.contains(way), "{way} is no way: {ran}");
        }
    }
}

#[tokio::test]
async fn a_prefix_that_fits_several_jobs_is_refused_and_lists_them() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let client = sandbox.client().await;
    let ids = ["abcd0000-0000-4000-8000-000000000001", "abcd0000-0000-4000-8000-000000000002"];
    for id in ids {
        let mut submission = sandbox.submission("print(1)");
        submission.id = id.parse::<JobId>().expect("is an id");
        client.submit(submission).await.expect("is taken");
        client.wait(id.parse().expect("is an id")).await.expect("ends");
    }
    for verb in ["show", "logs", "wait", "kill"] {
        let ran = sandbox.pyexec([verb, "abcd"]).expect_code(2);
        let error = ran.stderr.lines().next().unwrap_or_default();
        assert!(error.starts_with("error: `abcd` matches 2 jobs: "), "{ran}");
        assert!(ids.iter().all(|id| error.contains(id)), "{ran}");
        assert!(ran.stderr.ends_with("hint: type more of the id\n"), "{ran}");
    }
    assert_eq!(sandbox.show(ids[0])["id"], ids[0]);
}

#[test]
fn a_program_that_can_not_be_run_is_a_job_that_could_not_start() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.file("bin")).expect("can be made");
    let broken = sandbox.write("bin/python3", "#!/nowhere/at/all\n");
    std::fs::set_permissions(broken, PermissionsExt::from_mode(0o755)).expect("can be made executable");
    let mut command = sandbox.cli(["run", "--no-uv", "-c", "pass"]);
    command.env("PATH", crate::sandbox::path_variable(&sandbox.file("bin")));
    let ran = sandbox.attend(command).end().expect_code(126);
    assert!(ran.stderr.starts_with("error: cannot start the job: could not run "), "{ran}");
    let row = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0].clone();
    assert_eq!((&row["status"], &row["reason"]), (&"failed".into(), &"spawn".into()), "{row}");
}
