//! Environments that are kept: listed, named, refreshed, and removed only when nobody uses them.

use serde_json::{Value, json};

use crate::environment_sandbox::{EnvironmentSandbox, environment_of, names};
use crate::sandbox::{NOBODY, can_change_users};

const WAITS: &str = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.005)\n";
const NOTHING: [Value; 0] = [];

/// A job that uses an environment until the file `go` is there.
#[track_caller]
fn start_user(sandbox: &EnvironmentSandbox, arguments: &[&str]) -> (String, String) {
    sandbox.write("waits.py", WAITS);
    let id = sandbox.detach_with_uv(&[arguments, &["waits.py"]].concat());
    sandbox.wait_until_running(&id);
    let environment = environment_of(&sandbox.show(&id));
    (id, environment)
}

#[track_caller]
fn ids(sandbox: &EnvironmentSandbox) -> Vec<String> {
    let environments = sandbox.environments();
    let mut ids: Vec<String> =
        environments.iter().map(|environment| environment["id"].as_str().unwrap_or_default().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn an_environment_that_a_running_job_uses_is_not_removed_by_this_daemon_or_the_next() {
    let sandbox = EnvironmentSandbox::new();
    let mut daemon = sandbox.daemon();
    let (job, environment) = start_user(&sandbox, &["--with", "six"]);
    let unused = environment_of(&sandbox.shown(&["--with", "idna", "-c", "import idna"]));
    let listed = sandbox.environments();
    let used = listed.iter().find(|listed| listed["id"] == environment.as_str()).expect("it is listed");
    assert_eq!(used["used_by"], json!([job]), "{used}");
    let pruned = sandbox.pyexec(["env", "prune"]).expect_code(0);
    assert!(pruned.text().starts_with("removed 1 environment, freed "), "{pruned}");
    assert_eq!(ids(&sandbox), std::slice::from_ref(&environment), "{unused} was to go");
    daemon.restart();
    sandbox.wait_until_running(&job);
    let pruned = sandbox.pyexec(["env", "prune"]).expect_code(0);
    assert!(pruned.text().starts_with("removed 0 environments"), "{pruned}");
    sandbox.pyexec(["env", "rm", &environment]).expect_code(0);
    assert_eq!(ids(&sandbox), std::slice::from_ref(&environment));
    sandbox.write("go", "");
    assert_eq!(sandbox.finished(&job)["exit_code"], 0);
    let pruned = sandbox.pyexec(["env", "prune"]).expect_code(0);
    assert!(pruned.text().starts_with("removed 1 environment, freed "), "{pruned}");
    assert_eq!(sandbox.environments(), NOTHING);
    assert_eq!(sandbox.on_the_shelf(), Vec::<String>::new());
}

/// A file of somebody else's, as a job leaves that is run with sudo: in one environment, and in what an earlier daemon was
/// building and removing.
#[test]
fn what_cannot_be_removed_of_an_environment_is_named_and_stops_no_other() {
    if !can_change_users() {
        return;
    }
    let mut sandbox = EnvironmentSandbox::new();
    sandbox.set_unprivileged();
    let [kept, gone] = ["idna", "six"]
        .map(|package| environment_of(&sandbox.shown(&["--with", package, "-c", &format!("import {package}")])));
    sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    let leave_foreign = |directory: &std::path::Path| {
        let foreign = directory.join("__pycache__");
        std::fs::create_dir_all(&foreign).expect("can be made");
        std::fs::write(foreign.join("file"), "theirs").expect("can be written");
        std::os::unix::fs::chown(&foreign, Some(NOBODY), Some(NOBODY)).expect("can be given away");
    };
    leave_foreign(&sandbox.site_packages(&kept).join("idna"));
    let shelf = sandbox.shelf();
    for name in [".building-a-0", ".building-b-0", ".removed-a", ".removed-b"] {
        std::fs::create_dir_all(shelf.join(name).join("inside")).expect("can be made");
    }
    leave_foreign(&shelf.join(".building-a-0"));
    leave_foreign(&shelf.join(".removed-a"));
    let left = || {
        let mut left: Vec<String> = sandbox.on_the_shelf().into_iter().filter(|name| name.starts_with('.')).collect();
        left.sort();
        left
    };
    assert_eq!(ids(&sandbox).len(), 2);
    sandbox.wait_until("the next daemon has tidied each by itself, and said what stays", || {
        let (left, log) = (left(), sandbox.daemon_log());
        let is_said = left.iter().all(|name| log.contains(&shelf.join(name).display().to_string()));
        if left == [".building-a-0", ".removed-a"] && is_said { Ok(()) } else { Err(format!("{left:?}")) }
    });

    let pruned = sandbox.pyexec(["env", "prune"]).expect_code(125);
    assert!(pruned.text().starts_with("removed 1 environment"), "{gone} was to go: {pruned}");
    for said in [kept.as_str(), ".removed-a/__pycache__", "idna/__pycache__", "2 environments could not be removed"] {
        assert!(pruned.stderr.contains(said), "{said} is missing: {pruned}");
    }
    assert_eq!(sandbox.environments(), NOTHING);
    let doctor = sandbox.pyexec(["doctor"]).text();
    assert!(
        doctor.contains("environments: what is left of some that were removed") && doctor.contains(".removed-a"),
        "{doctor}"
    );
    // It is in nobody's way.
    assert_eq!(environment_of(&sandbox.shown(&["--with", "idna", "-c", "import idna"])), kept);
}

#[test]
fn above_its_size_the_cache_loses_what_is_neither_used_nor_named() {
    let sandbox = EnvironmentSandbox::new();
    let _daemon = sandbox.daemon_with(&[("PYEXEC_ENVIRONMENT_CACHE_BYTES", "1")]);
    let named = sandbox.pyexec(["env", "create", "kept", "--with", "idna", "--json"]).expect_code(0).json();
    let (job, used) = start_user(&sandbox, &["--with", "six"]);
    let unused = environment_of(&sandbox.shown(&["--with", "humanize", "-c", "import humanize"]));
    // What comes next makes room.
    let last = environment_of(&sandbox.shown(&["--with", "packaging", "-c", "import packaging"]));
    sandbox.wait_until("the unused one is evicted", || {
        let left = ids(&sandbox);
        if left.contains(&unused) { Err(left.join(" ")) } else { Ok(()) }
    });
    let mut expected = [named["id"].as_str().expect("it is built").to_owned(), used, last];
    expected.sort();
    assert_eq!(ids(&sandbox), expected);
    sandbox.write("go", "");
    assert_eq!(sandbox.finished(&job)["exit_code"], 0);
}

#[test]
fn a_named_environment_is_created_listed_used_and_removed() {
    let sandbox = EnvironmentSandbox::new();
    let created = sandbox.pyexec(["env", "create", "tools", "--with", "six==1.16.0", "--with", "idna", "--json"]);
    let created = created.expect_code(0).json();
    assert_eq!(created["name"], "tools");
    assert_eq!(names(&created["packages"]), ["idna", "six"], "{created}");
    let job = sandbox.shown(&["--environment", "tools", "-c", "import idna, six"]);
    assert_eq!(job["resolved_dependencies"], created["packages"], "{job}");
    assert_eq!(job["python_version_used"], created["python"], "{job}");
    assert_eq!(job["environment"], "tools", "{job}");
    assert_eq!(sandbox.calls("venv"), 1);

    let listed = sandbox.environments();
    assert_eq!(listed.len(), 1, "{listed:?}");
    for field in ["name", "id", "python", "packages", "bytes"] {
        assert_eq!(listed[0][field], created[field], "{field}");
    }
    assert!(listed[0]["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{listed:?}");
    assert!(listed[0]["last_used"].as_str().is_some_and(|at| at.ends_with('Z')), "{listed:?}");
    assert_eq!(listed[0]["used_by"], json!([]));
    let table = sandbox.pyexec(["env", "list"]).expect_code(0).text();
    assert!(table.contains("tools") && table.contains("six==1.16.0"), "{table}");

    let pruned = sandbox.pyexec(["env", "prune"]).expect_code(0);
    assert!(pruned.text().starts_with("removed 0 environments"), "{pruned}");
    let removed = sandbox.pyexec(["env", "rm", "tools"]).expect_code(0);
    assert!(removed.text().starts_with("tools removed"), "{removed}");
    assert_eq!(sandbox.environments(), NOTHING);
    assert_eq!(sandbox.on_the_shelf(), Vec::<String>::new());
    sandbox.run_with_uv(&["--environment", "tools", "-c", "pass"]).expect_code(127);
}

#[test]
fn a_named_environment_is_built_again_to_the_same_packages_when_the_cache_is_gone() {
    let sandbox = EnvironmentSandbox::new();
    let create = ["env", "create", "tools", "--with", "six<1.17", "--with", "idna<3.7", "--json"];
    let created = sandbox.pyexec(create).expect_code(0).json();
    std::fs::remove_dir_all(sandbox.paths().cache).expect("is there");
    let listed = sandbox.environments();
    assert_eq!((&listed[0]["name"], &listed[0]["id"]), (&json!("tools"), &Value::Null), "{listed:?}");
    assert_eq!(listed[0]["packages"], created["packages"]);
    let compiled = sandbox.calls("pip compile");
    let job = sandbox.shown(&["--environment", "tools", "-c", "import idna, six"]);
    assert_eq!(job["resolved_dependencies"], created["packages"], "{job}");
    assert_eq!(sandbox.calls("pip compile"), compiled, "it was resolved again");
    assert_eq!(sandbox.environments()[0]["id"], created["id"]);
}

#[test]
fn a_name_is_given_once_and_refresh_makes_it_anew() {
    let sandbox = EnvironmentSandbox::new();
    sandbox.pyexec(["env", "create", "tools", "--with", "idna"]).expect_code(0);
    let before = sandbox.environments();
    let refused = sandbox.pyexec(["env", "create", "tools", "--with", "six"]).expect_code(2);
    assert!(refused.stderr.contains("tools") && refused.stderr.contains("hint: "), "{refused}");
    assert_eq!(sandbox.environments(), before);
    sandbox.pyexec(["env", "create", "tools", "--refresh", "--with", "six"]).expect_code(0);
    let job = sandbox.shown(&["--environment", "tools", "-c", "import six"]);
    assert_eq!(names(&job["resolved_dependencies"]), ["six"], "{job}");
}

#[test]
fn what_can_not_be_created_is_refused_and_no_name_is_left_of_it() {
    let sandbox = EnvironmentSandbox::new();
    let long = "n".repeat(65);
    for (arguments, code, named) in [
        (&["env", "create", "../up", "--with", "six"][..], 2, "../up"),
        (&["env", "create", "a/b"], 2, "a/b"),
        (&["env", "create", ".hidden"], 2, ".hidden"),
        (&["env", "create", ""], 2, "name"),
        (&["env", "create", "a b"], 2, "a b"),
        (&["env", "create", &long], 2, "nnnn"),
        (&["env", "create", "ok", "--with", "==garbage"], 2, "==garbage"),
        (&["env", "create", "ok", "--with=-e ."], 2, "-e ."),
        (&["env", "create", "ok", "--python", "2.9"], 2, "2.9"),
        (&["env", "create", "ok", "--python", "3.77"], 126, "3.77"),
        (&["env", "create", "ok", "--with", "six==999"], 126, "six==999"),
        (&["env", "create", "ok", "--with-requirements", "none.txt"], 127, "none.txt"),
        (&["env", "rm", "unknown"], 127, "unknown"),
        (&["env", "rm", "../up"], 127, "../up"),
        (&["run", "--environment", "unknown", "-c", "pass"], 127, "unknown"),
        (&["run", "--environment", "../up", "-c", "pass"], 127, "../up"),
        (&["run", "--environment", "ok", "--with", "six", "-c", "pass"], 2, "--with"),
        (&["run", "--environment", "ok", "--python", "3.12", "-c", "pass"], 2, "--python"),
        (&["run", "--no-uv", "--environment", "ok", "-c", "pass"], 2, "uv"),
    ] {
        let ran = sandbox.pyexec(arguments).expect_code(code);
        assert!(ran.stderr.contains(named), "{arguments:?}: {ran}");
        let errors = ran.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{arguments:?}: {ran}");
    }
    assert_eq!(sandbox.environments(), NOTHING);
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 0);
    assert_eq!(sandbox.on_the_shelf(), Vec::<String>::new());
}

#[test]
fn two_names_for_the_same_content_share_it_until_both_are_gone() {
    let sandbox = EnvironmentSandbox::new();
    for name in ["one", "two"] {
        sandbox.pyexec(["env", "create", name, "--with", "six"]).expect_code(0);
    }
    assert_eq!((sandbox.calls("venv"), sandbox.environments().len()), (1, 2));
    let removed = sandbox.pyexec(["env", "rm", "one"]).expect_code(0);
    assert!(removed.text().contains("kept"), "{removed}");
    sandbox.run_with_uv(&["--environment", "two", "-c", "import six"]).expect_code(0);
    sandbox.pyexec(["env", "rm", "two"]).expect_code(0);
    assert_eq!(sandbox.on_the_shelf(), Vec::<String>::new());
}

#[test]
fn what_is_not_pinned_is_resolved_again_after_its_time_and_on_refresh() {
    let sandbox = EnvironmentSandbox::new();
    let mut daemon = sandbox.daemon();
    let loose = ["--with", "six", "-c", "import six"];
    sandbox.run_with_uv(&loose).expect_code(0);
    sandbox.run_with_uv(&loose).expect_code(0);
    assert_eq!(sandbox.calls("pip compile"), 1, "within its time");
    sandbox.run_with_uv(&[&["--refresh"], &loose[..]].concat()).expect_code(0);
    assert_eq!(sandbox.calls("pip compile"), 2, "on --refresh");
    daemon.kill();
    let _daemon = sandbox.daemon_with(&[("PYEXEC_ENVIRONMENT_MAX_AGE", "0s")]);
    sandbox.run_with_uv(&loose).expect_code(0);
    assert_eq!(sandbox.calls("pip compile"), 3, "after its time");
    let pinned = ["--with", "six==1.16.0", "-c", "import six"];
    sandbox.run_with_uv(&pinned).expect_code(0);
    sandbox.run_with_uv(&pinned).expect_code(0);
    assert_eq!(sandbox.calls("pip compile"), 4, "what is pinned stays what it is");
}

#[test]
fn what_can_not_be_resolved_again_is_what_it_was() {
    let mut sandbox = EnvironmentSandbox::new();
    let daemon = sandbox.daemon_with(&[("PYEXEC_ENVIRONMENT_MAX_AGE", "0s")]);
    let arguments = ["--with", "six<1.17", "-c", "import six"];
    let before = environment_of(&sandbox.shown(&arguments));
    drop(daemon);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"] {
        sandbox.set(name, "http://127.0.0.1:9");
    }
    let _daemon = sandbox.daemon_with(&[("PYEXEC_ENVIRONMENT_MAX_AGE", "0s")]);
    // Its own cache, which might know the answer, is out of reach, too.
    let mut command = sandbox.cli(["run", "-d"].iter().chain(&arguments));
    command.env("UV_CACHE_DIR", sandbox.root().join("another-cache"));
    let id = sandbox.attend(command).end().expect_code(0).text().trim_end().to_owned();
    let job = sandbox.finished(&id);
    assert_eq!((job["exit_code"].as_i64(), environment_of(&job)), (Some(0), before), "{job}");
    let said = sandbox.pyexec(["logs", &id, "--stderr"]).text() + &sandbox.pyexec(["logs", &id, "--stderr"]).stderr;
    assert!(said.contains("going on with what was resolved"), "{said}");
}
