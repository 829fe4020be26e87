//! What is shown of jobs, which of them are ended, and which are forgotten.

use serde_json::Value;

use crate::sandbox::{Sandbox, file_names};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().map(String::as_str).collect()
}

fn ids(listing: &Value) -> Vec<&str> {
    listing["jobs"].as_array().expect("is an array").iter().map(|job| job["id"].as_str().expect("is text")).collect()
}

const SLEEP: &str = "import time; time.sleep(600)";

#[test]
fn a_row_and_a_job_have_the_fields_they_are_documented_to_have() {
    let sandbox = Sandbox::new();
    sandbox.write("fail.py", "import sys; print('out'); sys.exit(3)\n");
    let id = sandbox.detach(&["--label", "night", "--timeout", "90s", "-e", "A=1", "fail.py", "x"]);
    let job = sandbox.finished(&id);
    let listing = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
    assert_eq!(keys(&listing), ["jobs", "total"]);
    let row = &listing["jobs"][0];
    let fields = [
        "id",
        "label",
        "status",
        "reason",
        "created_at",
        "started_at",
        "completed_at",
        "elapsed_seconds",
        "exit_code",
        "pid",
        "command",
        "directory",
        "execution_strategy",
        "stdout_bytes",
        "stderr_bytes",
    ];
    for field in fields {
        assert!(keys(row).contains(&field), "a row has no {field}: {row}");
        assert_eq!(row[field], job[field], "{field}");
    }
    for field in ["message", "error", "dependencies", "variables", "timeout_seconds", "usage"] {
        assert!(keys(&job).contains(&field), "a job has no {field}: {job}");
    }
    for (field, value) in [
        ("id", Value::from(id.as_str())),
        ("label", "night".into()),
        ("status", "failed".into()),
        ("reason", "exit".into()),
        ("exit_code", 3.into()),
        ("command", "fail.py x".into()),
        ("directory", sandbox.work().to_str().expect("is UTF-8").into()),
        ("execution_strategy", "system-python".into()),
        ("stdout_bytes", 4.into()),
        ("stderr_bytes", 0.into()),
        ("timeout_seconds", 90.0.into()),
        ("variables", vec!["A"].into()),
        ("dependencies", Value::Array(vec![])),
        ("error", Value::Null),
        ("message", Value::Null),
    ] {
        assert_eq!(job[field], value, "{field} of {job}");
    }
    for field in ["created_at", "started_at", "completed_at"] {
        let time = job[field].as_str().expect("is text");
        assert!(time.len() == "2026-07-28T09:30:00.250Z".len() && time.ends_with('Z'), "{field} is {time}");
    }
    for field in ["user_seconds", "system_seconds", "peak_rss_mb", "minor_faults", "voluntary_switches"] {
        assert!(job["usage"][field].is_number(), "{field} of {job}");
    }
    assert_eq!(job["usage"]["peak_rss_scope"], "largest_process");
}

#[test]
fn a_row_knows_how_much_a_job_that_runs_has_printed() {
    let sandbox = Sandbox::new();
    sandbox.write("script.py", "import time; print('x' * 999, flush=True); time.sleep(600)\n");
    let id = sandbox.detach(&["script.py"]);
    sandbox.wait_until("it has printed", || {
        let job = sandbox.show(&id);
        if job["stdout_bytes"] == 1000 { Ok(()) } else { Err(job) }
    });
    let listing = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
    assert_eq!(listing["jobs"][0]["stdout_bytes"], 1000, "{listing}");
    sandbox.pyexec(["kill", "--now", &id]).expect_code(0);
}

#[test]
fn jobs_are_listed_newest_first_and_by_status_label_and_number() {
    let sandbox = Sandbox::new();
    let completed = sandbox.detach(&["--label", "a", "-c", "pass"]);
    let failed = sandbox.detach(&["--label", "b", "-c", "raise SystemExit(1)"]);
    let running = sandbox.detach(&["--label", "a", "-c", SLEEP]);
    sandbox.pyexec(["wait", &completed, &failed]).expect_code(1);
    sandbox.wait_until_running(&running);
    let (completed, failed, running) = (completed.as_str(), failed.as_str(), running.as_str());
    for (options, expected, total) in [
        (&[][..], &[running, failed, completed][..], 3),
        (&["-n", "2"], &[running, failed], 3),
        (&["--status", "completed"], &[completed], 1),
        (&["--status", "failed", "--status", "running"], &[running, failed], 2),
        (&["--label", "a"], &[running, completed], 2),
        (&["--label", "a", "--status", "running"], &[running], 1),
        (&["--label", "nobody"], &[], 0),
        (&["--all"], &[running, failed, completed], 3),
    ] {
        let listing = sandbox.pyexec([&["jobs", "--json"], options].concat()).expect_code(0).json();
        assert_eq!((ids(&listing), &listing["total"]), (expected.to_vec(), &total.into()), "{options:?}");
    }
    let table = sandbox.pyexec(["jobs"]).expect_code(0).text();
    assert!([completed, failed, running].iter().all(|id| table.contains(&id[..8])), "{table}");
    assert!(!table.contains('\x1b'), "colours go to terminals only: {table:?}");
    sandbox.pyexec(["kill", "--now", running]).expect_code(0);
}

#[test]
fn kill_ends_all_or_those_of_a_label_and_nothing_else() {
    let sandbox = Sandbox::new();
    let named = sandbox.detach(&["--label", "a", "-c", SLEEP]);
    let others = [sandbox.detach(&["-c", SLEEP]), sandbox.detach(&["--label", "b", "-c", SLEEP])];
    let killed = sandbox.pyexec(["kill", "--label", "a"]).expect_code(0);
    assert_eq!(killed.text(), format!("{named} cancelled\n"));
    assert!(others.iter().all(|id| sandbox.show(id)["status"] != "cancelled"));
    let killed = sandbox.pyexec(["kill", "--all"]).expect_code(0).text();
    assert!(others.iter().all(|id| killed.contains(&format!("{id} cancelled\n"))), "{killed}");
    assert_eq!(killed.lines().count(), 2, "{killed}");
    assert_eq!(sandbox.pyexec(["kill", &named]).expect_code(0).text(), format!("{named} already finished\n"));
    assert_eq!(sandbox.pyexec(["kill", "--all"]).expect_code(0).text(), "");
}

#[test]
fn wait_exits_as_the_last_of_its_jobs_did() {
    let sandbox = Sandbox::new();
    let [three, zero] = ["raise SystemExit(3)", "pass"].map(|code| sandbox.detach(&["-c", code]));
    sandbox.pyexec(["wait", &three, &zero]).expect_code(0);
    sandbox.pyexec(["wait", &zero, &three[..8]]).expect_code(3);
    sandbox.pyexec(["wait", &zero, "ffffffff"]).expect_code(127);
}

#[test]
fn prune_forgets_finished_jobs_and_removes_their_files() {
    let sandbox = Sandbox::new();
    let completed = sandbox.detach(&["-c", "print('x' * 5000)"]);
    let failed = sandbox.detach(&["-c", "raise SystemExit(1)"]);
    let running = sandbox.detach(&["-c", SLEEP]);
    sandbox.pyexec(["wait", &completed, &failed]).expect_code(1);
    sandbox.wait_until_running(&running);
    let prune = |options: &[&str]| sandbox.pyexec([&["prune", "--json"], options].concat()).expect_code(0).json();
    let left = || file_names(&sandbox.paths().jobs());
    let sorted = |ids: &[&String]| {
        let mut ids: Vec<String> = ids.iter().map(|id| (*id).clone()).collect();
        ids.sort();
        ids
    };
    let all = [&completed, &failed, &running];

    let pruned = prune(&[]);
    assert_eq!((&pruned["removed"], &pruned["remaining"]), (&0.into(), &3.into()), "none is a day old: {pruned}");
    let pruned = prune(&["--older-than", "0s", "--dry-run"]);
    assert_eq!((&pruned["removed"], &pruned["remaining"]), (&2.into(), &1.into()), "{pruned}");
    assert!(pruned["bytes_freed"].as_u64().is_some_and(|bytes| bytes > 5000), "{pruned}");
    assert_eq!(left(), sorted(&all), "a dry run removes nothing");

    let pruned = prune(&["--older-than", "0s", "--failed"]);
    assert_eq!((&pruned["removed"], &pruned["remaining"]), (&1.into(), &2.into()), "{pruned}");
    assert_eq!(left(), sorted(&[&completed, &running]));
    sandbox.pyexec(["show", &failed]).expect_code(127);

    prune(&["--older-than", "0s"]);
    assert_eq!(left(), sorted(&[&running]));
    let listing = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
    assert_eq!((ids(&listing), &listing["total"]), (vec![running.as_str()], &1.into()));
    sandbox.pyexec(["kill", "--now", &running]).expect_code(0);
    prune(&["--older-than", "0s"]);
    assert!(left().is_empty(), "{:?}", left());
}

#[test]
fn what_was_pruned_does_not_come_back_with_the_next_daemon() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let id = sandbox.detach(&["-c", "pass"]);
    sandbox.finished(&id);
    sandbox.pyexec(["prune", "--older-than", "0s"]).expect_code(0);
    daemon.restart();
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["total"], 0);
}

#[test]
fn text_of_a_script_can_not_play_tricks_on_a_listing() {
    let sandbox = Sandbox::new();
    let id = sandbox.detach(&["--label", "a\x1b[2Jb\nc", "-c", "pass # \x1b]0;title\x07"]);
    sandbox.finished(&id);
    for verb in [&["jobs"][..], &["show", &id]] {
        let shown = sandbox.pyexec(verb).expect_code(0).text();
        assert!(!shown.contains('\x1b') && !shown.contains('\x07'), "{verb:?}: {shown:?}");
    }
}
