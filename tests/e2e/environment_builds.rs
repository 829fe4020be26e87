//! An environment is built once, whole or not at all, and what the building takes can be seen and ended.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::environment_sandbox::{EnvironmentSandbox, environment_of, names};
use crate::sandbox::{Attended, is_alive, send};

const WAITS: &str = "import os, six, time\nopen('started', 'w').write('yes\\n')\nwhile not os.path.exists('go'): time.sleep(0.005)\nprint(six.__name__)\n";

#[test]
fn ten_jobs_that_want_the_same_new_environment_build_it_once() {
    let sandbox = EnvironmentSandbox::new();
    let _daemon = sandbox.daemon();
    let jobs: Vec<Attended<'_>> =
        (0..10).map(|_| sandbox.attend_with_uv(&["--with", "six", "-c", "import six; print(six.__name__)"])).collect();
    for job in jobs {
        assert_eq!(job.end().expect_code(0).text(), "six\n");
    }
    assert_eq!((sandbox.calls("venv"), sandbox.calls("pip sync")), (1, 1));
    assert_eq!(sandbox.on_the_shelf().len(), 1);
}

#[test]
fn a_job_is_pending_while_its_environment_is_built_and_shows_what_uv_says() {
    let sandbox = EnvironmentSandbox::new();
    let (id, _) = sandbox.held_job(&["--with", "six", "-c", "import six; print(six.__name__)"]);
    let job = sandbox.show(&id);
    assert_eq!(job["status"], "pending", "{job}");
    assert_eq!(job["message"], "its environment is being prepared", "{job}");
    let mut logs = sandbox.attend(sandbox.cli(["logs", "-f", &id]));
    logs.wait_for_stderr("Resolved 1 package");
    sandbox.let_installations_go_on();
    let ran = logs.end().expect_code(0);
    assert_eq!(ran.text(), "six\n", "{ran}");
    assert!(ran.stderr.contains(" + six=="), "{ran}");
    let job = sandbox.finished(&id);
    assert_eq!((&job["exit_code"], &job["message"]), (&0.into(), &serde_json::Value::Null), "{job}");
}

#[test]
fn a_job_is_cancelled_while_its_environment_is_built_and_nothing_is_left_of_either() {
    let sandbox = EnvironmentSandbox::new();
    let (id, uv) = sandbox.held_job(&["--with", "six", "-c", "open('it-ran', 'w')"]);
    sandbox.pyexec(["kill", &id]).expect_code(0);
    let job = sandbox.finished(&id);
    assert_eq!(job["status"], "cancelled", "{job}");
    sandbox.wait_until_gone(uv);
    sandbox.wait_until_the_shelf_is_tidy();
    assert_eq!(sandbox.on_the_shelf(), Vec::<String>::new());
    assert!(!sandbox.file("it-ran").exists());
    sandbox.let_installations_go_on();
    sandbox.run_with_uv(&["--with", "six", "-c", "import six"]).expect_code(0);
}

#[test]
fn ctrl_c_during_a_build_cancels_the_job() {
    let sandbox = EnvironmentSandbox::new();
    sandbox.hold_installations();
    let running = sandbox.attend_with_uv(&["--with", "six", "-c", "open('it-ran', 'w')"]);
    let uv = sandbox.wait_until_held();
    running.signal(Signal::INT);
    running.end().expect_code(130);
    let row = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["jobs"][0].clone();
    assert_eq!(row["status"], "cancelled", "{row}");
    sandbox.wait_until_gone(uv);
    sandbox.wait_until_the_shelf_is_tidy();
    assert!(!sandbox.file("it-ran").exists());
}

#[test]
fn a_build_goes_on_when_one_of_those_who_wait_for_it_is_cancelled() {
    let sandbox = EnvironmentSandbox::new();
    let (first, uv) = sandbox.held_job(&["--with", "six==1.16.0", "-c", "import six"]);
    let second = sandbox.detach_with_uv(&["--with", "six==1.16.0", "--label", "second", "-c", "import six"]);
    sandbox.wait_until("the second one has resolved what it wants", || {
        match sandbox.show(&second)["message"].as_str() {
            Some("its environment is being prepared") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    sandbox.pyexec(["kill", &second]).expect_code(0);
    assert_eq!(sandbox.finished(&second)["status"], "cancelled");
    assert!(is_alive(uv), "the build has ended with the one who only waited for it");
    sandbox.let_installations_go_on();
    assert_eq!(sandbox.finished(&first)["exit_code"], 0);
    assert_eq!(sandbox.calls("venv"), 1);
}

#[test]
fn a_build_that_takes_too_long_fails_its_job_and_says_which_setting_it_was() {
    let sandbox = EnvironmentSandbox::new();
    let _daemon = sandbox.daemon_with(&[("PYEXEC_ENVIRONMENT_TIMEOUT", "1s")]);
    sandbox.hold_installations();
    let ran = sandbox.run_with_uv(&["--with", "six", "-c", "open('it-ran', 'w')"]).expect_code(126);
    assert!(ran.stderr.contains("took longer than 1 s (`environment_timeout`)"), "{ran}");
    let row = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0].clone();
    assert_eq!((&row["status"], &row["reason"]), (&"failed".into(), &"environment".into()), "{row}");
    sandbox.wait_until_the_shelf_is_tidy();
    assert_eq!(sandbox.on_the_shelf(), Vec::<String>::new());
    let ran = sandbox.pyexec(["env", "create", "late", "--with", "six"]).expect_code(126);
    assert!(ran.stderr.contains("environment_timeout"), "{ran}");
    assert_eq!(sandbox.environments(), [] as [serde_json::Value; 0]);
}

#[test]
fn the_timeout_of_a_job_does_not_begin_before_its_process() {
    let sandbox = EnvironmentSandbox::new();
    let (id, _) = sandbox.held_job(&["--timeout", "1ms", "--with", "six", "-c", "import time; time.sleep(600)"]);
    let job = sandbox.show(&id);
    assert_eq!(job["status"], "pending", "{job}");
    sandbox.let_installations_go_on();
    let job = sandbox.finished(&id);
    assert_eq!((&job["reason"], job["started_at"].is_string()), (&"timed_out".into(), true), "{job}");
}

#[test]
fn a_build_that_fails_leaves_nothing_and_can_be_tried_again() {
    let sandbox = EnvironmentSandbox::new();
    let (id, uv) = sandbox.held_job(&["--with", "six", "-c", "import six"]);
    // As the kernel ends what takes too much memory.
    send(uv, Signal::KILL);
    let job = sandbox.finished(&id);
    assert_eq!((&job["status"], &job["reason"]), (&"failed".into(), &"environment".into()), "{job}");
    assert!(job["error"].as_str().is_some_and(|why| why.contains("could not be installed")), "{job}");
    sandbox.wait_until_the_shelf_is_tidy();
    assert_eq!(sandbox.on_the_shelf(), Vec::<String>::new());
    sandbox.let_installations_go_on();
    sandbox.run_with_uv(&["--with", "six", "-c", "import six"]).expect_code(0);
}

#[test]
fn a_job_whose_daemon_was_killed_in_the_middle_of_a_build_is_built_for_by_the_next() {
    let sandbox = EnvironmentSandbox::new();
    let mut daemon = sandbox.daemon();
    let (id, uv) = sandbox.held_job(&["--with", "six", "-c", "import six; print(six.__name__)"]);
    let before = sandbox.on_the_shelf();
    assert!(before.iter().all(|name| name.starts_with(".building-")) && before.len() == 1, "{before:?}");
    // The name may be used again; what was under it may not.
    let left_over = sandbox.shelf().join(&before[0]).join("left-over");
    std::fs::write(&left_over, "").expect("can be written");
    daemon.restart();
    sandbox.wait_until_gone(uv);
    // The next daemon's own.
    let second = sandbox.wait_until_held();
    assert_ne!(second, uv);
    assert!(!left_over.exists(), "{} is still there", left_over.display());
    assert_eq!(sandbox.show(&id)["status"], "pending");
    sandbox.let_installations_go_on();
    let job = sandbox.finished(&id);
    assert_eq!(job["exit_code"], 0, "{job}");
    assert_eq!(sandbox.logs(&id), b"six\n");
    assert_eq!(sandbox.on_the_shelf(), [environment_of(&job)]);
}

#[test]
fn a_daemon_that_stops_in_the_middle_of_a_build_leaves_no_uv_and_the_next_one_builds() {
    let sandbox = EnvironmentSandbox::new();
    let (id, uv) = sandbox.held_job(&["--with", "six", "-c", "import six; print(six.__name__)"]);
    sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    sandbox.wait_until_gone(uv);
    sandbox.pyexec(["daemon", "start"]).expect_code(0);
    sandbox.wait_until_held();
    sandbox.let_installations_go_on();
    let job = sandbox.finished(&id);
    assert_eq!(job["exit_code"], 0, "{job}");
    sandbox.wait_until_the_shelf_is_tidy();
    assert_eq!(sandbox.on_the_shelf(), [environment_of(&job)]);
}

/// A uv that hangs when it is called with these first words, with a program that it has started; as often as it is called
/// while `hangs` is there.
fn hanging_uv(sandbox: &mut EnvironmentSandbox, words: &str) {
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in '{words}'*) if [ -e '{hangs}' ]; then\n\
        sleep 600 &\necho \"$$ $!\" > '{there}.tmp'\nmv '{there}.tmp' '{there}'\nwait\nfi;; esac\nexec '{uv}' \"$@\"\n",
        hangs = sandbox.file("hangs").display(),
        there = sandbox.file("there").display(),
        uv = sandbox.root().join("uv").display(),
    );
    let path = sandbox.write("hanging-uv", script);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("can be made executable");
    sandbox.set("PYEXEC_UV", path);
    sandbox.write("hangs", "");
}

/// The processes of a uv that hangs.
#[track_caller]
fn hanging(sandbox: &EnvironmentSandbox) -> Vec<u32> {
    let pids = sandbox.wait_for_file("there").split(' ').map(|pid| pid.parse().expect("is a pid")).collect();
    std::fs::remove_file(sandbox.file("there")).expect("is there");
    pids
}

#[test]
fn a_short_call_of_uv_ends_whole_with_what_it_was_made_for() {
    for words in ["--version", "python find"] {
        let mut sandbox = EnvironmentSandbox::new();
        hanging_uv(&mut sandbox, words);
        let mut daemon = sandbox.daemon_with(&[("PYEXEC_ENVIRONMENT_TIMEOUT", "10m")]);
        // When its job is cancelled.
        let id = sandbox.detach_with_uv(&["--with", "six", "-c", "import six"]);
        let pids = hanging(&sandbox);
        sandbox.pyexec(["kill", &id]).expect_code(0);
        for pid in pids {
            sandbox.wait_until_gone(pid);
        }
        // When its daemon dies, and the next one comes.
        let id = sandbox.detach_with_uv(&["--with", "six", "-c", "import six"]);
        let pids = hanging(&sandbox);
        std::fs::remove_file(sandbox.file("hangs")).expect("is there");
        daemon.restart();
        for pid in pids {
            sandbox.wait_until_gone(pid);
        }
        assert_eq!(sandbox.finished(&id)["exit_code"], 0);
    }
}

#[test]
fn a_short_call_of_uv_that_takes_too_long_ends_whole() {
    let mut sandbox = EnvironmentSandbox::new();
    hanging_uv(&mut sandbox, "python find");
    let _daemon = sandbox.daemon_with(&[("PYEXEC_ENVIRONMENT_TIMEOUT", "1s")]);
    sandbox.run_with_uv(&["--with", "six", "-c", "import six"]).expect_code(126);
    for pid in hanging(&sandbox) {
        sandbox.wait_until_gone(pid);
    }
}

#[test]
fn a_named_environment_whose_daemon_was_killed_in_the_middle_of_it_is_made_by_the_next() {
    let sandbox = EnvironmentSandbox::new();
    let mut daemon = sandbox.daemon();
    sandbox.hold_installations();
    let creating = sandbox.attend(sandbox.cli(["env", "create", "tools", "--with", "six"]));
    let uv = sandbox.wait_until_held();
    daemon.restart();
    sandbox.wait_until_gone(uv);
    // Who asked for it has asked again.
    sandbox.wait_until_held();
    assert_eq!(sandbox.environments(), [] as [serde_json::Value; 0], "it has a name before it is there");
    sandbox.let_installations_go_on();
    creating.end().expect_code(0);
    assert_eq!(sandbox.environments()[0]["name"], "tools");
    sandbox.wait_until_the_shelf_is_tidy();
}

#[test]
fn the_cache_may_be_deleted_between_two_runs_and_during_one() {
    let sandbox = EnvironmentSandbox::new();
    sandbox.write("waits.py", WAITS);
    let id = sandbox.detach_with_uv(&["--with", "six", "waits.py"]);
    sandbox.wait_for_file("started");
    std::fs::remove_dir_all(sandbox.paths().cache).expect("is there");
    let arguments = ["--with", "six", "-c", "import six; print(six.__name__)"];
    assert_eq!(sandbox.run_with_uv(&arguments).expect_code(0).text(), "six\n");
    sandbox.write("go", "");
    sandbox.finished(&id);
    std::fs::remove_dir_all(sandbox.shelf()).expect("is there");
    assert_eq!(sandbox.run_with_uv(&arguments).expect_code(0).text(), "six\n");
    assert_eq!(sandbox.calls("venv"), 3);
}

#[test]
fn the_cache_may_be_deleted_during_a_build_and_there_is_never_half_an_environment() {
    let sandbox = EnvironmentSandbox::new();
    let arguments = ["--with", "six", "--with", "idna", "-c", "import idna, six"];
    let (id, _) = sandbox.held_job(&arguments);
    std::fs::remove_dir_all(sandbox.paths().cache).expect("is there");
    sandbox.let_installations_go_on();
    let job = sandbox.finished(&id);
    assert!(job["status"] == "completed" || job["reason"] == "environment", "{job}");
    for environment in sandbox.environments() {
        assert_eq!(names(&environment["packages"]), ["idna", "six"], "{environment}");
    }
    sandbox.run_with_uv(&arguments).expect_code(0);
}

#[test]
fn the_cache_of_uv_may_be_deleted() {
    let mut sandbox = EnvironmentSandbox::new();
    let own = sandbox.root().join("uv-cache");
    sandbox.set("UV_CACHE_DIR", &own);
    let arguments = ["--with", "six", "-c", "import six; print(six.__name__)"];
    sandbox.run_with_uv(&arguments).expect_code(0);
    std::fs::remove_dir_all(&own).expect("uv has used it");
    assert_eq!(sandbox.run_with_uv(&arguments).expect_code(0).stderr, "", "what is built needs no cache of uv's");
    std::fs::remove_dir_all(sandbox.paths().cache).expect("is there");
    assert_eq!(sandbox.run_with_uv(&arguments).expect_code(0).text(), "six\n");
}

#[test]
fn an_environment_that_was_damaged_is_built_again() {
    let sandbox = EnvironmentSandbox::new();
    let arguments = ["--with", "idna", "-c", "import idna"];
    let id = environment_of(&sandbox.shown(&arguments));
    let packages = sandbox.site_packages(&id);
    let metadata = std::fs::read_dir(&packages).expect("is there").flatten().map(|entry| entry.path());
    let metadata = metadata.into_iter().find(|path| path.extension().is_some_and(|end| end == "dist-info"));
    let environment = sandbox.shelf().join(&id);
    for (damaged, builds) in [
        (packages.join("idna"), 2),
        (metadata.expect("it says what is installed"), 3),
        (environment.join("bin"), 4),
        (environment.join("pyexec.json"), 5),
        (environment.join("lib"), 6),
    ] {
        if damaged.is_dir() {
            std::fs::remove_dir_all(&damaged).expect("can be removed");
        } else {
            std::fs::remove_file(&damaged).expect("can be removed");
        }
        assert_eq!(environment_of(&sandbox.shown(&arguments)), id, "without {}", damaged.display());
        assert_eq!(sandbox.calls("venv"), builds, "without {}", damaged.display());
    }
    assert_eq!(sandbox.on_the_shelf(), [id]);
}
