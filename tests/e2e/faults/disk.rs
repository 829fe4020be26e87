//! A full disk, at each stage of a job: a small file system in memory, in a mount namespace of the test's own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::environment_sandbox::EnvironmentSandbox;
use crate::sandbox::{Attended, Sandbox, file_names, pid_of, python};

fn in_mount_namespace(test: &str) -> bool {
    crate::sandbox::in_mount_namespace(module_path!(), test)
}

/// A small file system at a directory.
struct Disk {
    at: PathBuf,
}

impl Disk {
    fn mount(at: PathBuf, megabytes: u32) -> Self {
        let options = format!("size={megabytes}m,mode=700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "pyexec-test"]).arg(&at).status();
        assert!(mounted.expect("there is a mount").success());
        Self { at }
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    /// To the last byte.
    fn fill(&self) {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(self.ballast()).expect("can be made");
        for size in [1 << 16, 1 << 12, 1] {
            let piece = vec![0; size];
            while file.write_all(&piece).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).expect("it was filled");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

fn state_of(sandbox: &Sandbox) -> PathBuf {
    sandbox.paths().state.parent().expect("has one").to_owned()
}

fn listed(sandbox: &Sandbox, id: &str) -> Value {
    let listing = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
    let jobs = listing["jobs"].as_array().expect("is an array");
    jobs.iter().find(|job| job["id"] == *id).unwrap_or_else(|| panic!("{id} is not in {listing}")).clone()
}

/// Says that it runs, waits for `go`, and prints 3 MB, more than there is room for.
const PRINTS: &str = "import os, time
open('begun', 'w').write('begun\\n')
while not os.path.exists('go'): time.sleep(0.005)
for line in range(30_000): print('x' * 99)
";

fn a_job_that_waits_for_room(sandbox: &Sandbox, disk: &Disk) -> String {
    let id = sandbox.detach(&["-c", PRINTS]);
    have_wait_for_room(sandbox, disk, &id);
    id
}

/// A job that prints, just submitted.
fn have_wait_for_room(sandbox: &Sandbox, disk: &Disk, id: &str) {
    sandbox.wait_for_file("begun");
    sandbox.wait_until_running(id);
    disk.fill();
    sandbox.write("go", "");
    sandbox.wait_until("it waits for room", || {
        let job = sandbox.show(id);
        if job["message"].as_str().is_some_and(|message| message.contains("No space left")) { Ok(()) } else { Err(job) }
    });
}

#[test]
fn a_job_that_prints_onto_a_full_disk_waits_and_loses_nothing() {
    if !in_mount_namespace("a_job_that_prints_onto_a_full_disk_waits_and_loses_nothing") {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = Disk::mount(state_of(&sandbox), 6);
    let mut daemon = sandbox.daemon();
    let id = a_job_that_waits_for_room(&sandbox, &disk);
    // Nothing new is taken on, and what is there can still be asked about.
    let refused = sandbox.run(&["-c", "print(1)"]).expect_code(125);
    assert!(refused.stderr.contains("No space left on device"), "{refused}");
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["total"], 1);
    // Another daemon finds it so, too.
    daemon.restart();
    sandbox.wait_until_running(&id);
    disk.make_room();
    assert_eq!(sandbox.finished(&id)["status"], "completed");
    assert_eq!(sandbox.logs(&id).len(), 3_000_000);
    assert_eq!(sandbox.run(&["-c", "print(1)"]).expect_code(0).text(), "1\n");
}

#[test]
fn how_a_job_ended_is_known_although_the_disk_is_full() {
    if !in_mount_namespace("how_a_job_ended_is_known_although_the_disk_is_full") {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = Disk::mount(state_of(&sandbox), 6);
    let mut daemon = sandbox.daemon();
    let id = sandbox
        .detach(&["-c", "import os, time\nwhile not os.path.exists('go'): time.sleep(0.005)\nraise SystemExit(7)"]);
    sandbox.wait_until_running(&id);
    disk.fill();
    sandbox.write("go", "");
    assert_eq!(sandbox.finished(&id)["exit_code"], 7);
    assert_eq!(listed(&sandbox, &id)["exit_code"], 7);
    assert_eq!(sandbox.pyexec(["jobs", "--json", "--status", "failed"]).json()["jobs"][0]["id"], *id);
    daemon.restart();
    assert_eq!(listed(&sandbox, &id)["exit_code"], 7);
    assert_eq!(sandbox.show(&id)["exit_code"], 7);
}

#[test]
fn a_job_that_can_not_start_on_a_full_disk_says_so() {
    if !in_mount_namespace("a_job_that_can_not_start_on_a_full_disk_says_so") {
        return;
    }
    let mut sandbox = Sandbox::new();
    sandbox.set("PYEXEC_MAX_RUNNING", "1");
    let disk = Disk::mount(state_of(&sandbox), 6);
    let _daemon = sandbox.daemon();
    let first = sandbox.detach(&["-c", "import os, time\nwhile not os.path.exists('go'): time.sleep(0.005)"]);
    sandbox.wait_until_running(&first);
    let second = sandbox.detach(&["-c", "open('ran', 'w')"]);
    disk.fill();
    sandbox.write("go", "");
    let job = sandbox.finished(&second);
    assert_eq!((&job["status"], &job["exit_code"]), (&"failed".into(), &Value::Null), "{job}");
    assert!(job["error"].as_str().is_some_and(|error| error.contains("No space left on device")), "{job}");
    assert!(!sandbox.file("ran").exists(), "it is said not to have run");
    assert_eq!(sandbox.finished(&first)["exit_code"], 0);
}

#[test]
fn a_daemon_starts_on_a_full_disk_and_a_prune_makes_room() {
    if !in_mount_namespace("a_daemon_starts_on_a_full_disk_and_a_prune_makes_room") {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = Disk::mount(state_of(&sandbox), 6);
    let ids: Vec<String> = {
        let _daemon = sandbox.daemon();
        let ids =
            [0, 3].map(|code| sandbox.detach(&["-c", &format!("print('x' * 500_000)\nraise SystemExit({code})")]));
        ids.iter().for_each(|id| drop(sandbox.finished(id)));
        ids.into()
    };
    without_log(&sandbox.paths().database());
    disk.fill();
    assert_eq!(
        (listed(&sandbox, &ids[0])["exit_code"].clone(), listed(&sandbox, &ids[1])["exit_code"].clone()),
        (0.into(), 3.into())
    );
    assert_eq!(sandbox.logs(&ids[1]).len(), 500_001);
    let status = sandbox.daemon_status();
    assert!(status["index_problem"].is_string(), "{status}");
    let doctor = sandbox.pyexec(["doctor"]);
    assert!(doctor.text().contains("its index cannot be used"), "{doctor}");
    let pruned = sandbox.pyexec(["prune", "--older-than", "0s", "--json"]).expect_code(0).json();
    assert_eq!((&pruned["removed"], &pruned["remaining"]), (&2.into(), &0.into()), "{pruned}");
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["total"], 0);
    assert!(std::fs::write(disk.at.join("room"), [0; 500_000]).is_ok());
    std::fs::remove_file(disk.at.join("room")).expect("is there");
    // The index comes back by itself, and knows that they are gone.
    sandbox.wait_until("the index is used again", || {
        sandbox.pyexec(["jobs"]);
        let status = sandbox.daemon_status();
        if status["index_problem"].is_null() && status["running"] == true { Ok(()) } else { Err(status) }
    });
    assert_eq!(sandbox.run(&["-c", "print(1)"]).expect_code(0).text(), "1\n");
    sandbox.wait_until("what was pruned is forgotten", || {
        let total = sandbox.pyexec(["jobs", "--json"]).json()["total"].clone();
        let left = file_names(&sandbox.paths().jobs());
        if total == 1 && left.len() == 1 { Ok(()) } else { Err(format!("{total} jobs, {left:?}")) }
    });
}

/// Takes away the log beside an index; the next daemon has to make one, for which there must be room.
fn without_log(database: &Path) {
    let program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA journal_mode = DELETE')";
    let ran = Command::new(python()).args(["-c", program]).arg(database).status();
    assert!(ran.expect("can be started").success());
}

#[test]
fn an_environment_for_which_there_is_no_room_is_said_to_be_just_that() {
    if !in_mount_namespace("an_environment_for_which_there_is_no_room_is_said_to_be_just_that") {
        return;
    }
    let sandbox = EnvironmentSandbox::new();
    let disk = Disk::mount(sandbox.paths().cache.parent().expect("has one").to_owned(), 4);
    let _daemon = sandbox.daemon();
    disk.fill();
    let with_six: &[&str] = &["--with", "six", "-c", "import six; print(six.__name__)"];
    let ran = sandbox.run_with_uv(with_six).expect_code(126);
    assert!(ran.stderr.contains("No space left on device"), "{ran}");
    disk.make_room();
    assert_eq!(sandbox.run_with_uv(with_six).expect_code(0).text(), "six\n");
    sandbox.wait_until_the_shelf_is_tidy();
}

#[test]
fn a_run_that_is_told_to_end_says_that_its_job_waits_for_room() {
    if !in_mount_namespace("a_run_that_is_told_to_end_says_that_its_job_waits_for_room") {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = Disk::mount(state_of(&sandbox), 6);
    let _daemon = sandbox.daemon();
    let mut run = sandbox.attend_run(&["-c", PRINTS]);
    sandbox.wait_for_file("begun");
    let listing = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
    let id = listing["jobs"][0]["id"].as_str().expect("is there");
    have_wait_for_room(&sandbox, &disk, id);
    run.signal(Signal::TERM);
    run.wait_for_stderr("has not ended yet");
    run.wait_for_stderr("No space left on device");
    disk.make_room();
    let ran = run.end().expect_code(143);
    let job = sandbox.show(id);
    assert_eq!((&job["status"], &job["stdout_bytes"]), (&"cancelled".into(), &ran.stdout.len().into()), "{job}");
    assert_eq!(ran.stdout, sandbox.logs(id));
}

#[test]
fn a_job_that_waits_for_room_can_be_killed() {
    if !in_mount_namespace("a_job_that_waits_for_room_can_be_killed") {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = Disk::mount(state_of(&sandbox), 6);
    let _daemon = sandbox.daemon();
    let id = a_job_that_waits_for_room(&sandbox, &disk);
    let mut killing: Attended<'_> = sandbox.attend(sandbox.cli(["kill", &id]));
    // Its processes are gone at once; what is still in its pipe is kept, once there is room.
    let pid = pid_of(&sandbox.show(&id)["pid"]);
    sandbox.wait_until_gone(pid);
    killing.wait_for_stderr("No space left on device");
    disk.make_room();
    killing.end().expect_code(0);
    let job = sandbox.show(&id);
    assert_eq!(job["status"], "cancelled", "{job}");
    assert_eq!(job["stdout_bytes"], sandbox.logs(&id).len(), "{job}");
}
