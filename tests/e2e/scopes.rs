//! A control group of its own for each job, made by the user's service manager.

use std::process::Stdio;

use pyexec_proto::variables::SERVICE_MARK;
use rustix::process::Signal;
use serde_json::Value;
use zbus::OwnedVariant;

use crate::benchmarks::UNWAITED;
use crate::sandbox::{Ability, Sandbox, can, pid_of, send};
use crate::user_manager::{Asked, Mood, UserManager, text};

const OWN_GROUP: &str = "print(open('/proc/self/cgroup').read())";

/// Of the unified hierarchy, in which the manager of these tests makes them.
fn group_in(groups: &str) -> &str {
    groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default()
}

fn group_of(pid: u32) -> String {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    group_in(&groups).to_owned()
}

#[track_caller]
fn wait_for_description(manager: &UserManager, sandbox: &Sandbox, expected: &str) -> String {
    sandbox.wait_until(&format!("a unit is described as {expected:?}"), || {
        let units = manager.units();
        let found = units.iter().find(|unit| manager.description(unit).as_deref() == Some(expected));
        found.cloned().ok_or_else(|| format!("{:?}", manager.asked()))
    })
}

#[track_caller]
fn check(sandbox: &Sandbox, name: &str) -> Value {
    let document = sandbox.pyexec(["doctor", "--json"]).json();
    let found = document["checks"].as_array().expect("is a list").iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("nothing is said of {name}: {document}")).clone()
}

fn count(log: &str, words: &str) -> usize {
    log.matches(words).count()
}

#[test]
fn each_job_gets_a_scope_of_its_own_that_says_whose_it_is() {
    let (manager, sandbox) = UserManager::with_sandbox(Mood::Obliging);
    let daemon = sandbox.daemon();
    let code = format!("{OWN_GROUP}\nimport sys; sys.stdout.flush(); sys.stdin.read()");
    let ids = ["one", "two"].map(|label| sandbox.detach(&["-i", "--label", label, "-c", &code]));
    let mut units = Vec::new();
    for (id, label) in ids.iter().zip(["one", "two"]) {
        sandbox.wait_until_running(id);
        let unit = wait_for_description(&manager, &sandbox, &format!("pyexec job {id}: {label}"));
        let supervisor = sandbox.supervisor_of(id).pid;
        let asked = manager.asked();
        let started = asked.iter().find_map(|asked| match asked {
            Asked::Start { unit: started, mode, pids, properties } if *started == unit => {
                Some((mode.clone(), pids.clone(), properties.clone()))
            }
            Asked::Start { .. } | Asked::Set { .. } => None,
        });
        let (mode, pids, properties) = started.expect("was started");
        assert_eq!((mode.as_str(), pids), ("fail", vec![supervisor]));
        assert!(unit.starts_with(&format!("pyexec-{supervisor}-")) && unit.ends_with(".scope"), "{unit}");
        let expected = [
            ("Slice", OwnedVariant::from(zbus::Str::from("app-pyexec.slice"))),
            ("Delegate", true.into()),
            ("CollectMode", zbus::Str::from("inactive-or-failed").into()),
        ];
        for (name, value) in expected {
            assert_eq!(properties.get(name), Some(&value), "{name} of {properties:?}");
        }
        if manager.has_groups() {
            let leader = pid_of(&sandbox.show(id)["pid"]);
            assert!(group_of(leader).ends_with(&format!("/{unit}")), "{} is not in {unit}", group_of(leader));
            assert_eq!(group_of(supervisor), group_of(leader));
            assert_ne!(group_of(daemon.pid()), group_of(leader));
        }
        units.push(unit);
    }
    assert_ne!(units[0], units[1]);
    assert_eq!(
        (&check(&sandbox, "scopes")["status"], &check(&sandbox, "settings")["status"]),
        (&"ok".into(), &"ok".into())
    );
    for id in &ids {
        sandbox.pyexec(["send", id, "--eof"]).expect_code(0);
        assert_eq!(sandbox.finished(id)["exit_code"], 0);
    }
    // Nothing of the bus wakes the daemon any more.
    sandbox.wait_until("nothing is listened for", || {
        let matches = manager.matches();
        if matches.is_empty() { Ok(()) } else { Err(format!("{matches:?}")) }
    });
}

#[test]
fn a_manager_that_refuses_is_named_once_and_jobs_run_all_the_same() {
    for mood in [Mood::Refusing, Mood::Failing] {
        let (manager, sandbox) = UserManager::with_sandbox(mood);
        let _daemon = sandbox.daemon();
        for _ in 0..3 {
            sandbox.run(&["--max-memory", "500M", "-c", "pass"]).expect_code(0);
        }
        assert!(manager.units().len() > 1, "it is asked again: {:?}", manager.asked());
        assert_eq!(count(&sandbox.daemon_log(), "jobs get no scope of their own"), 1, "{}", sandbox.daemon_log());
        let said = check(&sandbox, "scopes");
        let why = if mood == Mood::Refusing { "no scopes here" } else { "failed" };
        assert!(said["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{said}");
        manager.set_mood(Mood::Obliging);
        let id = sandbox.detach(&["-c", "pass"]);
        wait_for_description(&manager, &sandbox, &format!("pyexec job {id}"));
        sandbox.finished(&id);
    }
}

#[test]
fn a_manager_that_hangs_is_left_alone_after_the_first_time() {
    let (manager, sandbox) = UserManager::with_sandbox(Mood::Silent);
    let _daemon = sandbox.daemon();
    for _ in 0..4 {
        sandbox.run(&["-c", "pass"]).expect_code(0);
    }
    assert_eq!(manager.units().len(), 1, "{:?}", manager.asked());
    assert_eq!(count(&sandbox.daemon_log(), "did not answer within"), 1, "{}", sandbox.daemon_log());
    assert!(check(&sandbox, "scopes")["detail"].as_str().is_some_and(|detail| detail.contains("did not answer")));
}

#[test]
fn a_manager_that_hangs_over_a_memory_limit_does_not_keep_the_job() {
    let (manager, sandbox) = UserManager::with_sandbox(Mood::SilentLater);
    let _daemon = sandbox.daemon();
    for _ in 0..3 {
        sandbox.run(&["--max-memory", "500M", "-c", "pass"]).expect_code(0);
    }
    let limits = manager.asked().into_iter().filter(|asked| matches!(asked, Asked::Set { .. })).count();
    assert_eq!(limits, 1, "{:?}", manager.asked());
}

#[test]
fn a_bus_that_goes_and_comes_back_is_found_by_the_next_job() {
    let (mut manager, sandbox) = UserManager::with_sandbox(Mood::Obliging);
    let _daemon = sandbox.daemon();
    let first = sandbox.detach(&["-c", "pass"]);
    wait_for_description(&manager, &sandbox, &format!("pyexec job {first}"));
    manager.stop();
    // The first of them still takes the supervisor that had been put into a scope.
    for _ in 0..2 {
        sandbox.run(&["-c", "pass"]).expect_code(0);
    }
    manager.start();
    let last = sandbox.detach(&["-c", OWN_GROUP]);
    let unit = wait_for_description(&manager, &sandbox, &format!("pyexec job {last}"));
    sandbox.finished(&last);
    if manager.has_groups() {
        let groups = String::from_utf8(sandbox.logs(&last)).expect("is text");
        assert!(group_in(&groups).ends_with(&unit), "{groups}");
    }
}

#[test]
fn a_memory_limit_is_the_kernels_too_before_the_job_starts() {
    let (manager, sandbox) = UserManager::with_sandbox(Mood::Obliging);
    let _daemon = sandbox.daemon();
    let code = "import os; print(os.path.exists('limited'))";
    assert_eq!(sandbox.run(&["--max-memory", "800M", "-c", code]).expect_code(0).text(), "True\n");
    let limited = manager.asked().into_iter().find_map(|asked| match asked {
        Asked::Set { unit, runtime, properties } if properties.contains_key("MemoryMax") => {
            Some((unit, runtime, properties))
        }
        Asked::Set { .. } | Asked::Start { .. } => None,
    });
    let (unit, runtime, properties) = limited.expect("was set");
    assert!(manager.units().contains(&unit) && runtime);
    // An eighth and 64 MiB more than what is watched for.
    let expected: u64 = (800 + 100 + 64) << 20;
    assert_eq!(properties.get("MemoryMax"), Some(&expected.into()));
    assert_eq!(properties.get("MemorySwapMax"), Some(&0u64.into()));
    assert!(properties.get("Description").and_then(text).is_some_and(|text| text.starts_with("pyexec job ")));
}

#[test]
fn a_label_can_not_become_a_line_of_the_managers_files() {
    let (manager, sandbox) = UserManager::with_sandbox(Mood::Obliging);
    let _daemon = sandbox.daemon();
    let id = sandbox.detach(&["--label", "a\nKillMode=none\x1b[2J\u{202e}", "-c", "pass"]);
    let expected = format!("pyexec job {id}: a\\nKillMode=none\\x1b[2J\\u{{202e}}");
    wait_for_description(&manager, &sandbox, &expected);
    sandbox.finished(&id);
}

#[test]
fn who_wants_no_scopes_asks_for_none() {
    let (manager, sandbox) = UserManager::with_sandbox(Mood::Obliging);
    let _daemon = sandbox.daemon_with(&[("PYEXEC_SCOPES", "never")]);
    sandbox.run(&["--max-memory", "500M", "-c", "pass"]).expect_code(0);
    assert!(manager.asked().is_empty(), "{:?}", manager.asked());
    assert!(check(&sandbox, "scopes")["detail"].as_str().is_some_and(|detail| detail.contains("switched off")));
}

#[test]
fn without_a_bus_that_is_said_once_and_nothing_is_missed() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    for _ in 0..2 {
        sandbox.run(&["-c", "pass"]).expect_code(0);
    }
    assert_eq!(count(&sandbox.daemon_log(), "jobs get no scope of their own"), 1, "{}", sandbox.daemon_log());
    let said = check(&sandbox, "scopes");
    assert_eq!(said["status"], "ok", "{said}");
}

/// As the manager does it when somebody stops the scope, or the session ends.
#[test]
fn a_scope_that_is_stopped_ends_its_job_with_a_record() {
    let (_manager, sandbox) = UserManager::with_sandbox(Mood::Obliging);
    let mut daemon = sandbox.daemon();
    let code = "
import os, signal, sys, time
def leave(*_):
    print('asked', flush=True)
    time.sleep(0.2)
    sys.exit(3)
signal.signal(signal.SIGTERM, leave)
os.write(1, b'ready\\n')
time.sleep(600)";
    let id = sandbox.detach(&["-c", code]);
    sandbox.wait_until("it is ready", || {
        let said = sandbox.logs(&id);
        if said == b"ready\n" { Ok(()) } else { Err(format!("{said:?}")) }
    });
    let leader = pid_of(&sandbox.show(&id)["pid"]);
    let supervisor = sandbox.supervisor_of(&id).pid;
    daemon.kill();
    // Its name is how it is known.
    let systemd = sandbox.file("systemd");
    std::fs::copy("/bin/sh", &systemd).expect("can be copied");
    let mut stop = sandbox.command(&systemd);
    let kill = format!("kill -TERM {supervisor}; kill -TERM {leader}; read -r _");
    stop.args(["-c", &kill]).env_remove(SERVICE_MARK).stdin(Stdio::piped());
    let mut stop = sandbox.attend(stop);
    // As the manager does, it outlives those it stops.
    let alive = stop.stdin();
    sandbox.wait_until_gone(supervisor);
    drop(alive);
    stop.end().expect_code(1);
    daemon.start();
    let job = sandbox.finished(&id);
    assert_eq!((&job["status"], &job["exit_code"]), (&"cancelled".into(), &3.into()), "{job}");
    // Once: who cleans up is not to be disturbed.
    assert_eq!(sandbox.logs(&id), b"ready\nasked\n");
}

/// There is one that waits for the next job, and no reason to wait for it.
#[test]
fn the_scope_of_a_supervisor_without_a_job_can_be_stopped_at_once() {
    let (manager, sandbox) = UserManager::with_sandbox(Mood::Obliging);
    let _daemon = sandbox.daemon();
    let spare = sandbox.wait_until("a supervisor waits", || {
        let spare = sandbox.processes().into_iter().find(|process| process.name() == "pyexec-spare");
        spare.map(|spare| spare.pid).ok_or("none")
    });
    send(spare, Signal::TERM);
    sandbox.wait_until_gone(spare);
    let id = sandbox.detach(&["-c", "pass"]);
    wait_for_description(&manager, &sandbox, &format!("pyexec job {id}"));
    assert_eq!(sandbox.finished(&id)["exit_code"], 0);
}

/// The kernel counts all that has run in the group, seen or not.
#[test]
fn in_a_scope_the_cpu_time_of_children_that_nobody_waits_for_is_exact() {
    let (manager, sandbox) = UserManager::with_sandbox(Mood::Obliging);
    let _daemon = sandbox.daemon();
    // Nobody looks before it is over.
    let seldom = ["--bench", "--json", "--runs", "2", "--sample-interval", "60s"];
    let document = sandbox.run(&[&seldom[..], &["-c", UNWAITED]].concat()).expect_code(0).json();
    if !can(Ability::ControlGroups, manager.has_groups()) {
        return;
    }
    let benchmark = &document["benchmark"];
    let note = benchmark["cpu_time_note"].as_str().unwrap_or_default();
    assert!(note.starts_with("the CPU time includes "), "{document}");
    for run in benchmark["measured"].as_array().expect("is a list") {
        let unwaited = run["unwaited_cpu_seconds"].as_f64().expect("is a number");
        assert!((1.0..2.0).contains(&unwaited), "{run}");
    }
    let id = document["job_id"].as_str().expect("is text");
    let usage = sandbox.show(id)["usage"].clone();
    assert!(usage["cpu_is_incomplete"] == false && usage["unwaited_cpu_seconds"].as_f64() >= Some(2.0), "{usage}");
}
