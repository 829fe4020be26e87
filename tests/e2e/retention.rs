//! The history of jobs is bounded without anybody asking for it.

use crate::sandbox::Sandbox;

/// As many jobs, each of which leaves a megabyte; the ids, the oldest first.
fn finished_jobs(sandbox: &Sandbox, number: usize) -> Vec<String> {
    let code = "import os; open(os.environ['PYEXEC_ARTIFACTS'] + '/file', 'wb').write(os.urandom(1 << 20))";
    (0..number)
        .map(|_| {
            let id = sandbox.detach(&["-c", code]);
            sandbox.finished(&id);
            id
        })
        .collect()
}

fn ids(sandbox: &Sandbox) -> Vec<String> {
    let jobs = sandbox.pyexec(["jobs", "--all", "--json"]).expect_code(0).json();
    let ids = jobs["jobs"].as_array().expect("is an array").iter();
    ids.rev().map(|job| job["id"].as_str().expect("is text").to_owned()).collect()
}

#[track_caller]
fn assert_left(sandbox: &Sandbox, expected: &[String]) {
    sandbox.wait_until("only these are left", || match ids(sandbox) {
        left if left == expected => Ok(()),
        left => Err(format!("{left:?}")),
    });
    sandbox.wait_until("and no files of others", || {
        let directories = std::fs::read_dir(sandbox.paths().jobs()).expect("is there").count();
        if directories == expected.len() { Ok(()) } else { Err(directories) }
    });
}

#[test]
fn the_oldest_go_beyond_a_number_and_beyond_a_size() {
    for (setting, value) in [("PYEXEC_RETENTION_MAX_JOBS", "3"), ("PYEXEC_RETENTION_MAX_BYTES", "3900000")] {
        let mut sandbox = Sandbox::new();
        let all = finished_jobs(&sandbox, 5);
        assert_eq!(ids(&sandbox), all);
        sandbox.pyexec(["daemon", "stop"]).expect_code(0);
        sandbox.set("PYEXEC_RETENTION_MIN_AGE", "0s");
        sandbox.set(setting, value);
        assert_left(&sandbox, &all[2..]);
        // What is left is whole.
        let last = sandbox.pyexec(["artifacts", &all[4], "file"]).expect_code(0);
        assert_eq!(last.stdout.len(), 1 << 20);
    }
}

/// Whatever the bounds are: somebody may be about to look at it.
#[test]
fn what_has_just_ended_stays() {
    let mut sandbox = Sandbox::new();
    sandbox.set("PYEXEC_RETENTION_MAX_JOBS", "0");
    sandbox.set("PYEXEC_RETENTION_MAX_BYTES", "0");
    let all = finished_jobs(&sandbox, 2);
    sandbox.pyexec(["daemon", "restart"]).expect_code(0);
    // The next start has looked by the time that it forgets.
    sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    assert_eq!(ids(&sandbox), all);
    sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    sandbox.set("PYEXEC_RETENTION_MIN_AGE", "0s");
    assert_left(&sandbox, &[]);
}

#[test]
fn an_index_without_sizes_is_measured_again() {
    let mut sandbox = Sandbox::new();
    let all = finished_jobs(&sandbox, 3);
    sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    std::fs::remove_file(sandbox.paths().database()).expect("is there");
    sandbox.set("PYEXEC_RETENTION_MIN_AGE", "0s");
    sandbox.set("PYEXEC_RETENTION_MAX_BYTES", "1900000");
    assert_left(&sandbox, &all[2..]);
}
