//! What a daemon makes of what it finds: sockets that are gone, an index that is gone or garbage, damaged directories.

use pyexec_proto::JobId;
use serde_json::Value;

use crate::sandbox::Sandbox;

const SCRIPT: &str =
    "import os, time\nprint('before')\nwhile not os.path.exists('go'): time.sleep(0.005)\nprint('after')\n";

fn start_job(sandbox: &Sandbox) -> String {
    sandbox.write("script.py", SCRIPT);
    let id = sandbox.detach(&["script.py"]);
    sandbox.wait_until_running(&id);
    id
}

#[test]
fn a_job_is_adopted_although_the_runtime_directory_was_deleted() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let id = start_job(&sandbox);
    let before = sandbox.show(&id);
    daemon.kill();
    std::fs::remove_dir_all(sandbox.paths().runtime).expect("is there");
    daemon.start();
    assert_eq!(sandbox.wait_for_status(&id, "running")["pid"], before["pid"]);
    // Its supervisor is spoken to, not only watched.
    let mut logs = sandbox.attend(sandbox.cli(["logs", "-f", &id]));
    logs.wait_for_stdout("before\n");
    sandbox.pyexec(["kill", &id]).expect_code(0);
    assert_eq!(logs.end().expect_code(0).text(), "before\n");
    assert_eq!(sandbox.show(&id)["status"], "cancelled");
}

#[test]
fn a_job_ends_as_it_should_although_the_runtime_directory_was_deleted() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let id = start_job(&sandbox);
    std::fs::remove_dir_all(sandbox.paths().runtime).expect("is there");
    daemon.restart();
    sandbox.write("go", "");
    assert_eq!(sandbox.finished(&id)["exit_code"], 0);
    assert_eq!(sandbox.logs(&id), b"before\nafter\n");
}

/// Five jobs of different fates, and one that runs; every one as it is shown.
fn history(sandbox: &Sandbox) -> (Vec<Value>, String) {
    let mut shown = Vec::new();
    for arguments in [
        &["-c", "print('fine')"][..],
        &["--label", "night", "-c", "raise SystemExit(3)"],
        &["-c", "import os; os.abort()"],
        &["--timeout", "1ms", "-c", "import time; time.sleep(600)"],
    ] {
        let id = sandbox.detach(arguments);
        shown.push(sandbox.finished(&id));
    }
    let id = sandbox.detach(&["-c", "import time; time.sleep(600)"]);
    sandbox.pyexec(["kill", "--now", &id]).expect_code(0);
    shown.push(sandbox.finished(&id));
    (shown, start_job(sandbox))
}

fn assert_rebuilt_after(damage: impl Fn(&Sandbox)) {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let (shown, running) = history(&sandbox);
    let order = |sandbox: &Sandbox| -> Vec<Value> {
        let listing = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
        listing["jobs"].as_array().expect("is an array").iter().map(|job| job["id"].clone()).collect()
    };
    let before = order(&sandbox);
    daemon.kill();
    damage(&sandbox);
    daemon.start();
    sandbox.wait_until("all jobs are known again", || {
        let listed = order(&sandbox);
        if listed.len() == before.len() { Ok(()) } else { Err(format!("{listed:?}")) }
    });
    assert_eq!(order(&sandbox), before, "in another order");
    for job in &shown {
        assert_eq!(sandbox.show(job["id"].as_str().expect("is text")), *job);
    }
    sandbox.wait_until_running(&running);
    sandbox.write("go", "");
    assert_eq!(sandbox.finished(&running)["exit_code"], 0);
    assert_eq!(sandbox.logs(&running), b"before\nafter\n");
}

#[test]
fn an_index_that_was_deleted_is_made_again_from_the_run_directories() {
    assert_rebuilt_after(Sandbox::remove_index);
}

#[test]
fn an_index_that_is_garbage_is_made_again_from_the_run_directories() {
    assert_rebuilt_after(|sandbox| {
        for file in sandbox.index_files() {
            if file.exists() {
                std::fs::write(file, b"this is no database, and never was one\n".repeat(500)).expect("can be written");
            }
        }
    });
}

#[test]
fn an_index_that_was_truncated_is_made_again_from_the_run_directories() {
    assert_rebuilt_after(|sandbox| {
        let files = sandbox.index_files();
        // All of it first into the one file, as a checkpoint does; then half of it is lost.
        let length = std::fs::metadata(&files[0]).expect("is there").len();
        std::fs::OpenOptions::new()
            .write(true)
            .open(&files[0])
            .expect("is there")
            .set_len(length / 2)
            .expect("can be cut");
        for file in &files[1..] {
            let _ = std::fs::remove_file(file);
        }
    });
}

/// As many more jobs that have finished as `id` has.
fn multiply(sandbox: &Sandbox, id: &str, number: usize) {
    for _ in 0..number {
        let other = JobId::mint().to_string();
        let directory = sandbox.run_directory(&other);
        std::fs::create_dir(&directory).expect("can be made");
        for entry in std::fs::read_dir(sandbox.run_directory(id)).expect("is there") {
            let file = entry.expect("can be listed").path();
            if file.is_file() {
                let text = std::fs::read_to_string(&file).expect("is text").replace(id, &other);
                std::fs::write(directory.join(file.file_name().expect("has a name")), text).expect("can be written");
            }
        }
    }
}

#[test]
fn what_is_submitted_while_the_index_is_rebuilt_runs_once_and_what_was_half_made_goes() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let finished = sandbox.detach(&["-c", "print('fine')"]);
    sandbox.finished(&finished);
    daemon.kill();
    multiply(&sandbox, &finished, 600);
    let half_made = sandbox.paths().jobs().join(format!(".new-{}-{}", JobId::mint(), JobId::mint().simple()));
    std::fs::create_dir(&half_made).expect("can be made");
    std::fs::write(half_made.join("spec.json"), "{").expect("can be written");
    sandbox.remove_index();
    daemon.start();
    let submitted: Vec<String> =
        (0..10).map(|number| sandbox.detach(&["-c", &format!("open('ran', 'a').write('{number}\\n')")])).collect();
    for id in &submitted {
        assert_eq!(sandbox.finished(id)["exit_code"], 0);
    }
    sandbox.wait_until("all jobs are known", || {
        let total = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["total"].clone();
        if total == 611 { Ok(()) } else { Err(total) }
    });
    let ran = std::fs::read_to_string(sandbox.file("ran")).expect("they ran");
    let mut ran: Vec<&str> = ran.lines().collect();
    ran.sort();
    assert_eq!(ran, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert!(!half_made.exists());
}

#[test]
fn garbage_in_one_run_directory_is_that_jobs_affair() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let fine = start_job(&sandbox);
    let damaged = sandbox.detach(&["-c", "import time; time.sleep(600)"]);
    sandbox.wait_until_running(&damaged);
    daemon.kill();
    std::fs::write(sandbox.run_directory(&damaged).join("supervisor.json"), "{\"version\":").expect("can be written");
    std::fs::create_dir(sandbox.paths().jobs().join("no-id-at-all")).expect("can be made");
    std::fs::write(sandbox.paths().jobs().join("00000000-0000-4000-8000-000000000000"), "a file")
        .expect("can be written");
    daemon.start();
    sandbox.wait_until_running(&fine);
    sandbox.write("go", "");
    assert_eq!(sandbox.finished(&fine)["exit_code"], 0);
    // Its supervisor holds the lock, and is found at its usual socket.
    sandbox.pyexec(["kill", &damaged]).expect_code(0);
    assert_eq!(sandbox.show(&damaged)["status"], "cancelled");
}
