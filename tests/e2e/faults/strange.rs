//! What a daemon may find that is not its own doing: clocks, pids and boots that do not fit, left-overs, crowds.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::sandbox::{Sandbox, is_alive, python, send, started};

/// Runs a Python program over files of a daemon that does not run.
fn edit(program: &str, arguments: &[&Path]) {
    let ran = Command::new(python()).args(["-c", program]).args(arguments).status().expect("can be started");
    assert!(ran.success());
}

const FOREVER: &[&str] = &["-c", "import time; time.sleep(600)"];

/// All that was written was written by a clock a day ahead of ours: as if ours had been set back.
#[test]
fn a_clock_that_is_set_back_changes_nothing_that_matters() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let finished = sandbox.detach(&["-c", "raise SystemExit(3)"]);
    sandbox.finished(&finished);
    let running =
        sandbox.detach(&["-c", "import os, time\nprint('on')\nwhile not os.path.exists('go'): time.sleep(0.01)"]);
    sandbox.wait_until_running(&running);
    daemon.kill();
    edit(
        "import sqlite3, sys\n\
        index = sqlite3.connect(sys.argv[1])\n\
        day = 24 * 3600 * 10**6\n\
        index.execute('UPDATE jobs SET created_at = created_at + ?, started_at = started_at + ?, ended_at = ended_at + ?', [day] * 3)\n\
        index.commit()\n",
        &[&sandbox.paths().database()],
    );
    daemon.start();
    let later = sandbox.detach(&["--timeout", "500ms", "-c", "import time; time.sleep(600)"]);
    assert_eq!(sandbox.finished(&later)["reason"], "timed_out");
    let listing = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
    let order: Vec<&Value> = listing["jobs"].as_array().expect("is an array").iter().map(|job| &job["id"]).collect();
    assert_eq!(order, [&json!(later), &json!(running), &json!(finished)], "in the order of submission");
    // What ended tomorrow has not been over for an hour.
    let pruned = sandbox.pyexec(["prune", "--older-than", "1h", "--json"]).expect_code(0).json();
    assert_eq!(pruned["removed"], 0, "{pruned}");
    sandbox.write("go", "");
    let job = sandbox.finished(&running);
    assert!(job["exit_code"] == 0 && job["elapsed_seconds"].as_f64().is_some_and(|took| took >= 0.0), "{job}");
}

/// The clock is 400 days ahead, or the machine was off for as long: nobody saw that time pass.
#[test]
fn a_clock_that_is_ahead_makes_nobody_forget_a_job_for_its_age() {
    let mut sandbox = Sandbox::new();
    let jobs: Vec<String> = (0..3)
        .map(|_| {
            let id = sandbox.detach(&["-c", "print('kept')"]);
            sandbox.finished(&id);
            id
        })
        .collect();
    let clock = sandbox.paths().state.join("clock.json");
    sandbox.wait_until("a daemon has looked at the clock", || if clock.exists() { Ok(()) } else { Err("not yet") });
    sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    edit(
        "import json, sqlite3, sys\n\
        index = sqlite3.connect(sys.argv[1])\n\
        days = 400 * 24 * 3600 * 10**6\n\
        index.execute('UPDATE jobs SET created_at = created_at - ?, started_at = started_at - ?, ended_at = ended_at - ?', [days] * 3)\n\
        index.commit()\n\
        clock = json.load(open(sys.argv[2]))\n\
        clock['last'].update(at=clock['last']['at'] - days, boot_id='another')\n\
        json.dump(clock, open(sys.argv[2], 'w'))\n",
        &[&sandbox.paths().database(), &clock],
    );
    sandbox.set("PYEXEC_RETENTION_MAX_AGE", "90d");
    sandbox.set("PYEXEC_RETENTION_MIN_AGE", "0s");
    // What is beyond a number goes all the same, and says that the history has been looked at.
    sandbox.set("PYEXEC_RETENTION_MAX_JOBS", "2");
    sandbox.wait_until("the oldest is gone", || {
        let listing = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
        if listing["total"] == 2 { Ok(()) } else { Err(listing) }
    });
    for daemon in ["the same", "the next"] {
        for id in &jobs[1..] {
            assert_eq!(sandbox.logs(id), b"kept\n", "{daemon} daemon");
        }
        sandbox.pyexec(["daemon", "restart"]).expect_code(0);
    }
}

/// Somebody else, who happens to have a pid that is named somewhere.
struct Innocent(Child);

impl Innocent {
    fn new(sandbox: &Sandbox) -> Self {
        // Ends at any signal.
        Self(sandbox.command(python()).args(["-c", "import time; time.sleep(600)"]).spawn().expect("can be started"))
    }

    fn assert_unharmed(&mut self) {
        assert!(self.0.try_wait().expect("is our child").is_none(), "a stranger was ended");
    }
}

impl Drop for Innocent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `supervisor.json` names `pid` instead, with what else is in `changes`.
fn rename_supervisor(sandbox: &Sandbox, id: &str, changes: &Value) {
    let path = sandbox.run_directory(id).join("supervisor.json");
    let mut identity: Value = serde_json::from_slice(&std::fs::read(&path).expect("is there")).expect("is JSON");
    for (name, value) in changes.as_object().expect("is an object") {
        identity[name] = value.clone();
    }
    std::fs::write(&path, identity.to_string()).expect("can be written");
}

#[test]
fn a_pid_that_belongs_to_somebody_else_by_now_is_left_alone() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let mut innocent = Innocent::new(&sandbox);
    let stranger = innocent.0.id();
    let kinds = [
        ("its pid alone", json!({ "pid": stranger })),
        ("a pid of an earlier boot", json!({ "pid": stranger, "started": started(stranger), "boot_id": "another" })),
        ("a pid that starts as it did", json!({ "pid": stranger, "started": started(stranger) })),
    ];
    let jobs: Vec<(&str, String)> = kinds
        .iter()
        .map(|(what, changes)| {
            let id = sandbox.detach(FOREVER);
            sandbox.wait_until_running(&id);
            let supervisor = sandbox.supervisor_of(&id);
            send(supervisor.pid, Signal::KILL);
            sandbox.wait_until_gone(supervisor.pid);
            sandbox.finished(&id);
            rename_supervisor(&sandbox, &id, changes);
            (*what, id)
        })
        .collect();
    daemon.kill();
    sandbox.remove_index();
    for (_, id) in &jobs {
        std::fs::remove_file(sandbox.run_directory(id).join("outcome.json")).expect("says that it is lost");
    }
    daemon.start();
    for (what, id) in &jobs {
        let job = sandbox.finished(id);
        assert_eq!((&job["status"], &job["reason"]), (&"failed".into(), &"lost".into()), "{what}: {job}");
        innocent.assert_unharmed();
    }
}

#[test]
fn a_supervisor_that_lives_is_found_although_its_name_is_somebody_elses() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let mut innocent = Innocent::new(&sandbox);
    let id = sandbox.detach(FOREVER);
    sandbox.wait_until_running(&id);
    daemon.kill();
    rename_supervisor(&sandbox, &id, &json!({ "pid": innocent.0.id() }));
    daemon.start();
    sandbox.wait_until_running(&id);
    sandbox.pyexec(["kill", &id]).expect_code(0);
    assert_eq!(sandbox.show(&id)["status"], "cancelled");
    innocent.assert_unharmed();
}

#[test]
fn left_overs_of_all_kinds_are_in_nobodys_way() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let id = sandbox.detach(&["-c", "print('fine')"]);
    sandbox.finished(&id);
    daemon.kill();
    let (paths, mut innocent) = (sandbox.paths(), Innocent::new(&sandbox));
    // A lock that names a process that lives, and is no daemon.
    let claim = json!({ "pid": innocent.0.id(), "socket": paths.socket.to_str() });
    std::fs::write(paths.daemon_lock(), claim.to_string()).expect("can be written");
    for (directory, name) in [
        (paths.jobs(), ".new-00000000-0000-4000-8000-000000000000-0"),
        (paths.jobs(), ".removed-00000000-0000-4000-8000-000000000000"),
        (paths.supervisors(), "0123456789abcdef"),
    ] {
        std::fs::create_dir_all(&directory).expect("can be made");
        if name.starts_with('.') {
            std::fs::create_dir(directory.join(name)).expect("can be made");
            std::fs::write(directory.join(name).join("spec.json"), "{").expect("can be written");
        } else {
            drop(std::os::unix::net::UnixListener::bind(directory.join(name)).expect("can be bound"));
        }
    }
    for name in ["exit.json.tmp", "supervisor.json.tmp"] {
        std::fs::write(sandbox.run_directory(&id).join(name), "{\"ver").expect("can be written");
    }
    std::fs::write(paths.state.join("jobs.sqlite3-journal"), "no journal at all").expect("can be written");
    daemon.start();
    assert_eq!(sandbox.show(&id)["exit_code"], 0);
    assert_eq!(sandbox.logs(&id), b"fine\n");
    assert_eq!(sandbox.run(&["-c", "print(1)"]).expect_code(0).text(), "1\n");
    sandbox.wait_until("what was half made and half removed is gone", || {
        let entries =
            std::fs::read_dir(paths.jobs()).expect("is there").map(|entry| entry.expect("is there").file_name());
        let odd: Vec<_> = entries.filter(|name| name.to_string_lossy().starts_with('.')).collect();
        if odd.is_empty() { Ok(()) } else { Err(format!("{odd:?}")) }
    });
    innocent.assert_unharmed();
}

#[test]
fn a_job_that_shuts_its_run_directory_is_known_to_its_end_and_can_be_pruned() {
    let mut sandbox = Sandbox::new();
    sandbox.set_unprivileged();
    let code = "import os\nos.chmod(os.path.dirname(os.environ['PYEXEC_ARTIFACTS']), 0)\nprint('shut')";
    let id = sandbox.detach(&["-c", code]);
    assert_eq!(sandbox.finished(&id)["exit_code"], 0);
    assert_eq!(sandbox.logs(&id), b"shut\n");
    let shut = sandbox.run_directory(&id);
    std::fs::set_permissions(&shut, PermissionsExt::from_mode(0o000)).expect("is ours");
    let pruned = sandbox.pyexec(["prune", "--older-than", "0s", "--json"]).expect_code(0).json();
    assert_eq!(pruned["removed"], 1, "{pruned}");
    assert!(!shut.exists());
}

/// Returns once a daemon uses it again, and it knows of so many jobs.
#[track_caller]
fn wait_for_the_index(sandbox: &Sandbox, jobs: usize) {
    sandbox.wait_until("the index is used again, and knows all jobs", || {
        let listing = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
        let status = sandbox.daemon_status();
        if status["index_problem"].is_null() && status["running"] == true && listing["total"] == jobs {
            Ok(())
        } else {
            Err(format!("{status}, {}", listing["total"]))
        }
    });
}

/// Somebody who holds the index until he is dropped.
fn hold_the_index(sandbox: &Sandbox, first: &str) -> Innocent {
    let program = "import sqlite3, sys\n\
        index = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
        index.execute(sys.argv[2])\n\
        index.execute('BEGIN EXCLUSIVE')\n\
        print('held', flush=True)\n\
        sys.stdin.read()\n";
    let mut command = sandbox.command(python());
    command.args(["-c", program]).arg(sandbox.paths().database()).arg(first);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = Innocent(command.spawn().expect("can be started"));
    let mut said = [0; 4];
    std::io::Read::read_exact(holder.0.stdout.as_mut().expect("is a pipe"), &mut said).expect("it says so");
    holder
}

/// As somebody does who looks into it with the tools of SQLite.
#[test]
fn an_index_that_is_taken_from_a_daemon_that_runs_is_in_nobodys_way() {
    let mut sandbox = Sandbox::new();
    sandbox.set("PYEXEC_MAX_RUNNING", "2");
    let _daemon = sandbox.daemon();
    let finished = sandbox.detach(&["-c", "print('fine')\nraise SystemExit(3)"]);
    sandbox.finished(&finished);
    let running = [(); 2].map(|()| sandbox.detach(FOREVER));
    running.iter().for_each(|id| sandbox.wait_until_running(id));
    let waiting = sandbox.detach(&["-c", "raise SystemExit(5)"]);
    let holder = hold_the_index(&sandbox, "PRAGMA user_version");
    // All of it while it is held: what is stopped, what ends, what waits, and what is new.
    sandbox.pyexec(["kill", &running[0]]).expect_code(0);
    sandbox.pyexec(["wait", &waiting]).expect_code(5);
    sandbox.run(&["-c", "raise SystemExit(6)"]).expect_code(6);
    let listing = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
    let statuses: Vec<&Value> =
        listing["jobs"].as_array().expect("is an array").iter().map(|job| &job["status"]).collect();
    assert_eq!(statuses, ["failed", "failed", "running", "cancelled", "failed"], "{listing}");
    assert_eq!(sandbox.show(&finished)["exit_code"], 3);
    assert_eq!(sandbox.logs(&finished), b"fine\n");
    let status = sandbox.daemon_status();
    assert!(status["index_problem"].as_str().is_some_and(|why| why.contains("locked")), "{status}");
    sandbox.pyexec(["kill", "--now", &running[1]]).expect_code(0);
    let pruned = sandbox.pyexec(["prune", "--older-than", "0s", "--failed", "--json"]).expect_code(0).json();
    assert_eq!(pruned["removed"], 5, "{pruned}");
    drop(holder);
    wait_for_the_index(&sandbox, 0);
}

#[test]
fn an_index_that_is_held_by_somebody_else_is_done_without_for_a_while() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let id = sandbox.detach(&["-c", "raise SystemExit(3)"]);
    sandbox.finished(&id);
    daemon.kill();
    let holder = hold_the_index(&sandbox, "PRAGMA locking_mode = EXCLUSIVE");
    daemon.start();
    assert!(sandbox.daemon_status()["index_problem"].as_str().is_some_and(|why| why.contains("locked")));
    assert_eq!(sandbox.show(&id)["exit_code"], 3);
    let meanwhile = sandbox.detach(&["-c", "raise SystemExit(4)"]);
    assert_eq!(sandbox.finished(&meanwhile)["exit_code"], 4);
    drop(holder);
    wait_for_the_index(&sandbox, 2);
    assert_eq!(sandbox.show(&meanwhile)["exit_code"], 4);
}

#[test]
fn an_index_that_may_only_be_read_is_done_without_for_a_while() {
    let mut sandbox = Sandbox::new();
    sandbox.set_unprivileged();
    let id = sandbox.detach(&["-c", "raise SystemExit(3)"]);
    sandbox.finished(&id);
    sandbox.kill_daemon();
    let set_mode = |mode| {
        for file in sandbox.index_files().iter().filter(|file| file.exists()) {
            std::fs::set_permissions(file, PermissionsExt::from_mode(mode)).expect("are ours");
        }
    };
    set_mode(0o400);
    assert_eq!(sandbox.show(&id)["exit_code"], 3);
    let status = sandbox.daemon_status();
    assert!(status["index_problem"].is_string(), "{status}");
    assert_eq!(sandbox.run(&["-c", "print(1)"]).expect_code(0).text(), "1\n");
    set_mode(0o600);
    wait_for_the_index(&sandbox, 2);
}

#[test]
fn a_thousand_clients_that_make_no_sense_are_in_nobodys_way() {
    const CROWD: usize = 1000;
    let limit = getrlimit(Resource::Nofile);
    let wanted = Some(CROWD as u64 + 200);
    setrlimit(Resource::Nofile, Rlimit { current: wanted.min(limit.maximum).or(wanted), maximum: limit.maximum })
        .expect("can be raised");
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    let greeting = sandbox.opening();
    let crowd: Vec<UnixStream> = (0..CROWD)
        .map(|number| {
            let mut stream = UnixStream::connect(sandbox.paths().socket).expect("somebody listens");
            let said: &[&[u8]] = match number % 5 {
                0 => &[],
                1 => &[b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"],
                2 => &[&greeting[..greeting.len() / 2]],
                // Half a frame; one that claims to have 4 GB.
                3 => &[&greeting, &[0, 0, 0, 200, 1, 2, 3]],
                _ => &[&greeting, &[0xff, 0xff, 0xff, 0xff, 1, 2, 3]],
            };
            for piece in said {
                // It may have hung up on us by now.
                let _ = stream.write_all(piece);
            }
            stream
        })
        .collect();
    for _ in 0..3 {
        assert_eq!(sandbox.run(&["-c", "print('fine')"]).expect_code(0).text(), "fine\n");
    }
    assert_eq!(sandbox.daemon_pid(), daemon.pid());
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it lives");
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("is told").trim_end_matches("kB").trim();
    assert!(peak.parse::<u64>().expect("is a number") < 200 << 10, "a client was believed: {peak} KiB");
    drop(crowd);
    assert_eq!(sandbox.run(&["-c", "print('fine')"]).expect_code(0).text(), "fine\n");
    assert!(is_alive(daemon.pid()));
}
