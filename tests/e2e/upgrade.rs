//! A newer daemon knows the jobs of an older one, and takes up those that run.
//!
//! `fixtures/run-directories` and `fixtures/index` hold what versions of the past have left behind. They are frozen: what a daemon of today makes of
//! them may get better, but no file there is ever changed. A version that changes the format adds a directory:
//! `scripts/freeze.py` makes one, whose jobs `frozen` looks at.

mod frozen;
mod settings;

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, TestDaemon, manifest_directory, started};

/// In the files, where the boot was that they were written in.
const BOOT: &str = "00000000-1111-4222-8333-444444444444";

/// Jobs that were frozen long ago have to be told also when they are older than history is kept.
const KEEPS_ALL: (&str, &str) = ("PYEXEC_RETENTION_MAX_AGE", "36500days");

fn fixture(kind: &str, version: &str) -> PathBuf {
    manifest_directory().join("fixtures").join(kind).join(version)
}

/// A daemon that forgets nothing because of its age.
#[track_caller]
fn daemon(sandbox: &Sandbox) -> TestDaemon<'_> {
    sandbox.daemon_with(&[KEEPS_ALL])
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("is there").trim_end().to_owned()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("can be made");
    for entry in std::fs::read_dir(from).expect("is there") {
        let entry = entry.expect("can be listed").path();
        let place = to.join(entry.file_name().expect("has a name"));
        if entry.is_dir() {
            copy(&entry, &place);
        } else {
            std::fs::copy(&entry, &place).expect("can be copied");
        }
    }
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("is there")).expect("is JSON")
}

/// Puts a job of the first version where it would lie, and returns its id.
fn place(sandbox: &Sandbox, name: &str) -> String {
    place_of(sandbox, "0.1.0", name)
}

/// Puts a job of the past where it would lie, and returns its id.
fn place_of(sandbox: &Sandbox, version: &str, name: &str) -> String {
    let from = fixture("run-directories", version).join(name);
    let id = read(&from.join("spec.json"))["id"].as_str().expect("is text").to_owned();
    copy(&from, &sandbox.run_directory(&id));
    id
}

/// What was written is of this boot.
fn change(path: &Path, change: impl Fn(&mut Value)) {
    let mut value = read(path);
    if value["boot_id"] == BOOT {
        value["boot_id"] = boot_id().into();
    }
    change(&mut value);
    std::fs::write(path, value.to_string()).expect("can be written");
}

#[test]
fn an_index_of_an_older_version_is_read_as_it_is() {
    let sandbox = Sandbox::new();
    let ids = ["failed", "measured", "timed-out", "cancelled"].map(|name| place(&sandbox, name));
    let index = fixture("index", "0.1.0").join("jobs.sqlite3");
    std::fs::copy(index, sandbox.paths().database()).expect("can be copied");
    let _daemon = daemon(&sandbox);
    let jobs = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
    let listed: Vec<&str> =
        jobs["jobs"].as_array().expect("a list").iter().filter_map(|job| job["id"].as_str()).collect();
    // Newest first.
    assert_eq!(listed, [&ids[3], &ids[2], &ids[1], &ids[0]], "{jobs}");
    assert_eq!(sandbox.show(&ids[0])["label"], "nightly");
    assert!(sandbox.daemon_log().contains("index=Whole"), "it was made anew: {}", sandbox.daemon_log());
}

/// Of the last build that spoke protocol 2: from its index, and without it from the run directory alone.
#[test]
fn what_a_build_of_protocol_2_has_left_is_told_as_it_was() {
    for has_index in [true, false] {
        let sandbox = Sandbox::new();
        let id = place_of(&sandbox, "0.1.0-protocol-2", "completed");
        if has_index {
            let index = fixture("index", "0.1.0-protocol-2").join("jobs.sqlite3");
            std::fs::copy(index, sandbox.paths().database()).expect("can be copied");
        }
        let _daemon = daemon(&sandbox);
        let job = sandbox.show(&id);
        assert_eq!((&job["status"], &job["label"]), (&"completed".into(), &"solid".into()), "{job}");
        assert_eq!(
            (&job["elapsed_seconds"], &job["usage"]["user_seconds"]),
            (&0.047111.into(), &0.038943.into()),
            "{job}"
        );
        assert_eq!(job["artifacts"][0]["path"], "table.csv", "{job}");
        assert_eq!(sandbox.logs(&id), b"out\n");
        assert_eq!(sandbox.daemon_log().contains("index=Whole"), has_index, "{}", sandbox.daemon_log());
    }
}

#[test]
fn what_has_ended_is_told_as_it_was() {
    let sandbox = Sandbox::new();
    let ids = ["failed", "measured", "timed-out", "cancelled"].map(|name| place(&sandbox, name));
    let _daemon = daemon(&sandbox);
    let [failed, measured, timed_out, cancelled] = ids;
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["total"], 4);

    let job = sandbox.show(&failed);
    let expected = json!({
        "status": "failed", "reason": "exit", "exit_code": 3, "label": "nightly", "directory": "/", "pid": 2126,
        "created_at": "2026-11-22T19:02:47.068Z", "started_at": "2026-11-22T19:02:47.152Z",
        "completed_at": "2026-11-22T19:02:47.194Z", "elapsed_seconds": 0.041855, "python_version_used": "3.11.2",
        "stdout_bytes": 4, "stderr_bytes": 4,
    });
    for (name, value) in expected.as_object().expect("is one") {
        assert_eq!(&job[name], value, "{name} of {job}");
    }
    assert_eq!(job["usage"]["user_seconds"], 0.013271, "{job}");
    assert_eq!(sandbox.logs(&failed), b"out\n");
    assert_eq!(sandbox.pyexec(["logs", &failed, "--stderr"]).expect_code(0).stderr, "err\n");
    let artifacts = sandbox.pyexec(["artifacts", &failed, "--json"]).expect_code(0).json();
    assert_eq!(artifacts["artifacts"][0]["path"], "table.csv", "{artifacts}");

    let job = sandbox.show(&measured);
    assert_eq!((&job["status"], &job["stdout_bytes"]), (&"completed".into(), &18.into()), "{job}");
    let walls = &job["benchmark"]["runs"];
    assert_eq!(walls.as_array().map_or(walls.as_u64(), |runs| Some(runs.len() as u64)), Some(2), "{job}");

    let job = sandbox.show(&timed_out);
    assert_eq!(
        (&job["status"], &job["reason"], &job["exit_code"]),
        (&"failed".into(), &"timed_out".into(), &(-15).into())
    );
    assert_eq!(sandbox.logs(&timed_out), b"begun\n");
    assert_eq!(sandbox.show(&cancelled)["status"], "cancelled");
}

#[test]
fn what_was_waiting_is_run_in_the_same_boot_and_not_after_another() {
    for same_boot in [true, false] {
        let sandbox = Sandbox::new();
        let id = place(&sandbox, "waiting");
        let directory = sandbox.run_directory(&id);
        let variables = sandbox.variables();
        let path = variables[std::ffi::OsStr::new("PATH")].to_str().expect("is text");
        let block = format!("PATH={path}\0GIVEN=by an older daemon\0");
        change(&directory.join("spec.json"), |spec| {
            spec["environment_bytes"] = block.len().into();
            spec["spec"]["source"] = json!({ "Code": { "code": "import os; print(os.environ['GIVEN'])" } });
            if !same_boot {
                spec["boot_id"] = BOOT.into();
            }
        });
        std::fs::write(directory.join("environment"), &block).expect("can be written");
        let _daemon = daemon(&sandbox);
        let job = sandbox.finished(&id);
        if same_boot {
            assert_eq!(
                (&job["status"], sandbox.logs(&id)),
                (&"completed".into(), b"by an older daemon\n".to_vec()),
                "{job}"
            );
        } else {
            assert_eq!((&job["reason"], sandbox.logs(&id)), (&"lost".into(), vec![]), "{job}");
            assert!(!directory.join("environment").exists(), "a secret is left");
        }
    }
}

/// Plays the part of a supervisor of 0.1.0, with the very words it used: this is what the format has promised.
struct OldSupervisor {
    listener: UnixListener,
    directory: PathBuf,
    _lock: std::fs::File,
}

impl OldSupervisor {
    fn new(sandbox: &Sandbox, id: &str) -> Self {
        let directory = sandbox.run_directory(id);
        let socket = sandbox.paths().supervisors().join(&id.replace('-', "")[..16]);
        std::fs::create_dir_all(sandbox.paths().supervisors()).expect("can be made");
        change(&directory.join("supervisor.json"), |identity| {
            identity["pid"] = std::process::id().into();
            identity["started"] = started(std::process::id()).into();
            identity["control_socket"] = socket.to_str().into();
        });
        std::fs::write(directory.join("stdout.0"), "begun\n").expect("can be written");
        let lock = std::fs::File::create(directory.join("lock")).expect("can be made");
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("is free");
        let listener = UnixListener::bind(socket).expect("can be bound");
        Self { listener, directory, _lock: lock }
    }

    /// Says that the job runs, hears that it is to stop, and says how it ended. Returns what it was told.
    fn serve(self) -> Vec<Value> {
        let (mut daemon, _) = self.listener.accept().expect("a daemon comes");
        let say = |stream: &mut std::os::unix::net::UnixStream, text: &str| {
            let length = u32::try_from(text.len()).expect("is short").to_le_bytes();
            stream.write_all(&[&length[..], &[0; 4], text.as_bytes()].concat()).expect("it listens");
        };
        say(&mut daemon, r#"{"type":"started","run":{"pid":4321,"started_at":1795374167306133}}"#);
        let mut told = Vec::new();
        loop {
            let mut header = [0; 8];
            daemon.read_exact(&mut header).expect("it says something");
            let length = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("are four")) as usize;
            let mut text = vec![0; length(0)];
            daemon.read_exact(&mut text).expect("it says all of it");
            daemon.read_exact(&mut vec![0; length(4)]).expect("it says all of it");
            let request: Value = serde_json::from_slice(&text).expect("is JSON");
            let stop = request["type"] == "stop";
            told.push(request);
            if stop {
                break;
            }
        }
        let run = concat!(
            r#"{"run":{"pid":4321,"started_at":1795374167306133},"exit":{"Signal":{"signal":15,"core_dumped":false}},"#,
            r#""stopped":"Cancelled","usage":{"user_us":7152,"system_us":7152,"max_rss_kib":8752,"minor_faults":970,"#,
            r#""major_faults":0,"voluntary_switches":2,"involuntary_switches":9,"blocks_read":0,"blocks_written":0},"#,
            r#""ended_at":1795374167614998,"elapsed_us":308843,"output":{"stdout":6,"stderr":0},"benchmark":null}"#,
        );
        let record = format!(r#"{{"version":1,"run":{run}}}"#);
        std::fs::write(self.directory.join("exit.json"), record).expect("can be written");
        say(&mut daemon, &format!(r#"{{"type":"ended","what":{{"run":{run}}},"unwritten":null}}"#));
        told
    }
}

#[test]
fn what_runs_under_an_older_supervisor_is_taken_up_and_can_be_stopped() {
    let jobs = frozen::VERSIONS
        .iter()
        .flat_map(|version| ["running", "running-interactive", "running-measured"].map(|name| (*version, name)));
    for (version, name) in [("0.1.0", "running")].into_iter().chain(jobs) {
        let sandbox = Sandbox::new();
        let id = place_of(&sandbox, version, name);
        change(&sandbox.run_directory(&id).join("spec.json"), |_| {});
        let supervisor = OldSupervisor::new(&sandbox, &id);
        let serving = std::thread::spawn(|| supervisor.serve());
        let _daemon = daemon(&sandbox);
        let job = sandbox.wait_for_status(&id, "running");
        assert_eq!(job["pid"], 4321, "{version} {job}");
        assert_eq!(sandbox.logs(&id), b"begun\n", "{version} {job}");
        sandbox.pyexec(["kill", &id]).expect_code(0);
        let told = serving.join().expect("is told to stop");
        assert_eq!(told.last(), Some(&json!({ "type": "stop", "reason": "Cancelled", "grace_ms": 5000 })), "{told:?}");
        let job = sandbox.show(&id);
        assert_eq!(
            (&job["status"], &job["exit_code"], &job["elapsed_seconds"]),
            (&"cancelled".into(), &(-15).into(), &0.308843.into()),
            "{version} {job}"
        );
    }
}
