//! What is pruned goes, each job by itself; what cannot go stays and is named; and whoever asks for what has gone is told so.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::mcp_session::{Era, McpSession, text_of};
use crate::sandbox::{NOBODY, Ran, Sandbox, can_change_users, file_names};

const EVERYTHING: [&str; 3] = ["prune", "--older-than", "0s"];
/// A job does this to itself.
const REMOVES_ITS_DIRECTORY: &str = "import os, shutil\nprint('before', flush=True)\n\
    here = os.path.dirname(os.environ['PYEXEC_ARTIFACTS'])\n\
    while not os.path.exists(here + '/stdout.0'): pass\n\
    shutil.rmtree(here)\nprint('after', flush=True)\n";
/// The same, and nothing is printed that could be lost.
const SILENTLY: &str =
    "import os, shutil; shutil.rmtree(os.path.dirname(os.environ['PYEXEC_ARTIFACTS']), ignore_errors=True)";

/// A directory with a file in it that belongs to somebody else: as containers and sudo leave them.
fn leave_what_is_foreign(directory: &Path) -> PathBuf {
    let foreign = directory.join("foreign");
    std::fs::create_dir(&foreign).expect("can be made");
    std::fs::write(foreign.join("file"), "theirs").expect("can be written");
    std::fs::set_permissions(&foreign, PermissionsExt::from_mode(0o755)).expect("can be set");
    chown(&foreign, Some(NOBODY), Some(NOBODY)).expect("can be given away");
    foreign
}

fn finished_job(sandbox: &Sandbox, code: &str) -> String {
    let id = sandbox.detach(&["-c", code]);
    sandbox.finished(&id);
    id
}

fn listed(sandbox: &Sandbox) -> Vec<String> {
    let jobs = sandbox.pyexec(["jobs", "--all", "--json"]).expect_code(0).json();
    let ids = jobs["jobs"].as_array().expect("is an array").iter();
    ids.map(|job| job["id"].as_str().expect("is text").to_owned()).collect()
}

const LEAVES_A_FILE: &str =
    "import os; print('printed'); open(os.environ['PYEXEC_ARTIFACTS'] + '/a', 'w').write('kept')";

/// What stays is whole: its output, its artifacts, and its record.
#[track_caller]
fn assert_whole(sandbox: &Sandbox, id: &str) {
    assert_eq!(sandbox.logs(id), b"printed\n");
    assert_eq!(sandbox.pyexec(["artifacts", id, "a"]).expect_code(0).text(), "kept");
    let job = sandbox.show(id);
    assert_eq!((&job["exit_code"], &job["message"]), (&0.into(), &Value::Null), "{job}");
}

#[test]
fn a_job_that_cannot_be_removed_is_kept_and_named_and_stops_no_other() {
    if !can_change_users() {
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.set_unprivileged();
    let first = finished_job(&sandbox, LEAVES_A_FILE);
    let kept = finished_job(&sandbox, LEAVES_A_FILE);
    let last = finished_job(&sandbox, LEAVES_A_FILE);
    let foreign = leave_what_is_foreign(&sandbox.run_directory(&kept).join("artifacts"));
    let path = foreign.display().to_string();

    let pruned = sandbox.pyexec(EVERYTHING).expect_code(125);
    assert!(pruned.text().starts_with("removed 2 jobs"), "{pruned}");
    for said in [kept.as_str(), &path, "Permission denied", "1 job could not be removed", "hint: "] {
        assert!(pruned.stderr.contains(said), "{said} is missing: {pruned}");
    }
    assert_eq!(listed(&sandbox), std::slice::from_ref(&kept), "{first} and {last} were to go");
    assert_eq!(file_names(&sandbox.paths().jobs()), std::slice::from_ref(&kept));
    assert_whole(&sandbox, &kept);

    // The same to agents, and to the next daemon.
    sandbox.pyexec(["daemon", "restart"]).expect_code(0);
    assert_whole(&sandbox, &kept);
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let answer = session.structured("py_prune_jobs", json!({"max_age_hours": 0}));
    let named = json!([{"id": kept, "path": path, "problem": "Permission denied (os error 13)"}]);
    assert_eq!((&answer["removed"], &answer["not_removed"]), (&0.into(), &named), "{answer}");
    let text = session.markdown("py_prune_jobs", json!({"max_age_hours": 0}));
    assert!(text.contains("**Not removed:** 1") && text.contains(&path), "{text}");
    drop(session);

    std::fs::remove_dir_all(&foreign).expect("is ours to remove");
    let pruned = sandbox.pyexec([&EVERYTHING[..], &["--json"]].concat()).expect_code(0).json();
    assert_eq!((&pruned["removed"], &pruned["not_removed"]), (&1.into(), &json!([])), "{pruned}");
    assert!(listed(&sandbox).is_empty() && file_names(&sandbox.paths().jobs()).is_empty());
}

#[test]
fn retention_passes_over_a_job_that_cannot_be_removed() {
    if !can_change_users() {
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.set_unprivileged();
    let [first, kept, last] = [(); 3].map(|()| finished_job(&sandbox, LEAVES_A_FILE));
    let foreign = leave_what_is_foreign(&sandbox.run_directory(&kept).join("artifacts"));
    sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    sandbox.set("PYEXEC_RETENTION_MIN_AGE", "0s");
    sandbox.set("PYEXEC_RETENTION_MAX_JOBS", "0");
    sandbox.wait_until("the others are gone", || match listed(&sandbox) {
        left if left == [kept.clone()] => Ok(()),
        left => Err(format!("{left:?} of {first}, {kept}, {last}")),
    });
    sandbox.wait_until("it is named in the log", || {
        let log = sandbox.daemon_log();
        if log.contains(&foreign.display().to_string()) { Ok(()) } else { Err(log) }
    });
    assert_whole(&sandbox, &kept);
}

#[test]
fn a_link_or_a_file_in_the_place_of_a_run_directory_goes_and_where_it_leads_stays() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let outside = sandbox.file("outside");
    std::fs::create_dir(&outside).expect("can be made");
    std::fs::write(outside.join("stdout.0"), "not of this job\n").expect("can be written");
    std::fs::create_dir(outside.join("artifacts")).expect("can be made");
    std::fs::write(outside.join("artifacts/secret"), "secret").expect("can be written");
    let replaces = |what: &str| {
        format!(
            "import os, shutil\nprint('printed', flush=True)\nhere = os.path.dirname(os.environ['PYEXEC_ARTIFACTS'])\n\
             outside = {:?}\nwhile not os.path.exists(here + '/stdout.0'): pass\nshutil.rmtree(here)\n{what}",
            outside.display().to_string()
        )
    };
    let jobs = ["os.symlink(outside, here)", "open(here, 'w').write('file')"]
        .map(|what| finished_job(&sandbox, &replaces(what)));
    let other = finished_job(&sandbox, "print('other')");
    for id in &jobs {
        let logs = sandbox.pyexec(["logs", id]).expect_code(127);
        assert!(logs.stdout.is_empty() && logs.stderr.contains("its output was removed"), "{logs}");
        let artifacts = sandbox.pyexec(["artifacts", id, "secret"]).expect_code(127);
        assert!(artifacts.stdout.is_empty() && artifacts.stderr.contains("was removed"), "{artifacts}");
    }
    // An earlier daemon may have begun with one.
    daemon.kill();
    let begun = sandbox.paths().jobs().join(format!(".removed-{}", jobs[0]));
    std::fs::rename(sandbox.run_directory(&jobs[0]), &begun).expect("can be renamed");
    daemon.start();
    sandbox.wait_until("it is forgotten", || match listed(&sandbox) {
        left if left.contains(&jobs[0]) || begun.symlink_metadata().is_ok() => Err(format!("{left:?}")),
        _ => Ok(()),
    });
    sandbox.pyexec(EVERYTHING).expect_code(0);
    assert!(listed(&sandbox).is_empty(), "{other} and the others were to go");
    assert!(file_names(&sandbox.paths().jobs()).is_empty());
    assert_eq!(std::fs::read_to_string(outside.join("artifacts/secret")).expect("is there"), "secret");
    assert_eq!(std::fs::read_to_string(outside.join("stdout.0")).expect("is there"), "not of this job\n");
}

#[track_caller]
fn assert_says_where(sandbox: &Sandbox, id: &str, said: &str) {
    let directory = sandbox.run_directory(id).display().to_string();
    assert!(said.contains("its output was removed") && said.contains(&directory), "{said}");
}

/// Every verb and every tool that shows something of it.
fn assert_said_everywhere(sandbox: &Sandbox, id: &str) {
    for verb in [&["logs", id][..], &["logs", "-f", id], &["logs", "--tail", "1", id], &["logs", "--stdout", id]] {
        let ran: Ran = sandbox.pyexec(verb).expect_code(127);
        assert_says_where(sandbox, id, &ran.stderr);
    }
    let job = sandbox.show(id);
    assert_says_where(sandbox, id, job["message"].as_str().unwrap_or_default());
    assert_eq!((&job["status"], &job["exit_code"]), (&"completed".into(), &0.into()), "{job}");
    assert_says_where(sandbox, id, &sandbox.pyexec(["show", id]).expect_code(0).text());
    let mut session = McpSession::open(sandbox, Era::Stateless);
    let status = session.structured("py_job_status", json!({"job_id": id, "images": true}));
    assert_says_where(sandbox, id, status["job"]["message"].as_str().unwrap_or_default());
    assert_says_where(sandbox, id, status["job"]["result"]["output_problem"].as_str().unwrap_or_default());
    let text = session.markdown("py_job_status", json!({"job_id": id}));
    assert_says_where(sandbox, id, &text);
    assert_says_where(sandbox, id, &session.failure("py_get_job_output", json!({"job_id": id})));
    let asked = session.request("resources/read", json!({"uri": format!("job-stream://{id}")}));
    let read = session.answer(asked);
    assert_says_where(sandbox, id, &read["error"]["message"].to_string());
}

#[test]
fn that_its_output_is_gone_is_said_wherever_a_job_is_shown() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let ran = sandbox.run(&["-c", REMOVES_ITS_DIRECTORY]).expect_code(0);
    let id = listed(&sandbox).remove(0);
    assert_says_where(&sandbox, &id, &ran.stderr);
    assert_said_everywhere(&sandbox, &id);
    for verb in [&["artifacts", &id][..], &["artifacts", &id, "x"], &["artifacts", &id, "-o", "out"]] {
        let ran = sandbox.pyexec(verb).expect_code(127);
        assert_says_where(&sandbox, &id, &ran.stderr);
    }

    // One that printed nothing may have left files.
    let ran = sandbox.run(&["-c", SILENTLY]).expect_code(0);
    assert_says_where(&sandbox, &listed(&sandbox)[0], &ran.stderr);

    // As a document, and to an agent that waits.
    let ran = sandbox.run(&["--json", "-c", REMOVES_ITS_DIRECTORY]).expect_code(0).json();
    let id = ran["job_id"].as_str().expect("is text");
    assert_says_where(&sandbox, id, ran["output_problem"].as_str().unwrap_or_default());
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let answer = session.call("py_run_script_in_dir", session.script(REMOVES_ITS_DIRECTORY));
    assert_says_where(&sandbox, &listed(&sandbox)[0], &text_of(&answer));
    drop(session);

    // Somebody who makes room by hand.
    let id = finished_job(&sandbox, "print('printed')");
    std::fs::remove_file(sandbox.run_directory(&id).join("stdout.0")).expect("is there");
    assert_said_everywhere(&sandbox, &id);
    sandbox.pyexec(EVERYTHING).expect_code(0);
    assert!(listed(&sandbox).is_empty());
}

/// A job that prints nothing has no output to lose.
#[test]
fn a_job_that_is_whole_is_not_said_to_have_lost_anything() {
    let sandbox = Sandbox::new();
    for code in ["pass", "print('out')", "import sys; sys.stderr.write('err')", "print('x' * 20_000_000)"] {
        let ran = sandbox.run(&["-c", code]).expect_code(0);
        assert!(!ran.stderr.contains("removed"), "{code}: {ran}");
        let id = listed(&sandbox).remove(0);
        assert_eq!(sandbox.show(&id)["message"], Value::Null, "{code}");
        sandbox.pyexec(["logs", &id]).expect_code(0);
    }
    // What is dropped because only so much is kept has not been removed by anybody.
    let id = sandbox.detach(&["--max-output", "8MiB", "-c", "print('x' * 40_000_000)"]);
    sandbox.finished(&id);
    let logs = sandbox.pyexec(["logs", &id]).expect_code(0);
    assert!(logs.stderr.contains("no longer kept") && !logs.stderr.contains("removed"), "{}", logs.stderr);
}

#[test]
fn while_jobs_are_pruned_each_is_whole_or_not_there() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let many = "import os\nfor n in range(20000):\n    \
        os.close(os.open(os.environ['PYEXEC_ARTIFACTS'] + f'/{n}', os.O_CREAT | os.O_WRONLY))";
    finished_job(&sandbox, many);
    let few =
        "import os\nfor n in range(10): open(os.environ['PYEXEC_ARTIFACTS'] + f'/{n}', 'w').write('x')\nprint('out')";
    let few = finished_job(&sandbox, few);
    let mut pruning = sandbox.cli(EVERYTHING).spawn().expect("can be started");
    for round in 0.. {
        let is_over = pruning.try_wait().expect("is our child").is_some();
        let logs = sandbox.pyexec(["logs", &few]);
        match logs.code {
            0 => assert_eq!(logs.text(), "out\n", "{logs}"),
            127 => assert!(logs.stderr.contains("is being removed") || logs.stderr.contains("no job"), "{logs}"),
            _ => panic!("{logs}"),
        }
        let out = format!("out-{round}");
        let copied = sandbox.pyexec(["artifacts", &few, "-o", &out]);
        let there = std::fs::read_dir(sandbox.file(&out)).map_or(0, Iterator::count);
        match copied.code {
            0 => assert_eq!(there, 10, "{copied}"),
            125 | 127 => assert!(copied.stderr.contains("error: "), "{copied}"),
            _ => panic!("{copied}"),
        }
        if is_over {
            assert_eq!((logs.code, copied.code), (127, 127), "it was pruned");
            break;
        }
    }
}
