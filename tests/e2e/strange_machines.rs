//! Shells with limits, machines without what others have, homes that several machines have: what does not work says so, at
//! once and with what to do, and never panics.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::FlockOperation;
use serde_json::json;

use crate::sandbox::{NOBODY, PYEXECD, Ran, Sandbox, can_change_users, starter};

/// A user without any power, as most are: root is held back by few limits.
fn of_ordinary_user() -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.set_other_user();
    sandbox
}

fn run_under(sandbox: &Sandbox, limit: &str, soft: u64, hard: Option<u64>, arguments: &[&str]) -> Ran {
    let hard = hard.map_or_else(|| "resource.RLIM_INFINITY".to_owned(), |hard| hard.to_string());
    starter(sandbox, &format!("resource.setrlimit(resource.RLIMIT_{limit}, ({soft}, {hard}))"), arguments)
}

#[track_caller]
fn assert_no_panic(ran: &Ran) {
    assert!(!ran.stderr.contains("panicked"), "{ran}");
}

const SIXTEEN: u64 = 16 << 10;

#[test]
fn a_soft_limit_on_file_sizes_is_the_callers_jobs_and_not_the_daemons() {
    let sandbox = of_ordinary_user();
    let show = "import os, resource\nprint(resource.getrlimit(resource.RLIMIT_FSIZE)[0])\nprint('x' * 100_000)";
    let ran = run_under(&sandbox, "FSIZE", SIXTEEN, None, &["run", "--no-uv", "-c", show]).expect_code(0);
    assert_eq!(ran.text(), format!("{SIXTEEN}\n{}\n", "x".repeat(100_000)), "the output is no file of the job's");
    // Neither the daemon nor a supervisor is ended by a limit that is met later.
    let is_ignored = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).expect("says so");
        u64::from_str_radix(ignored, 16).expect("is a mask") & (1 << (rustix::process::Signal::XFSZ.as_raw() - 1)) != 0
    };
    for process in sandbox.processes() {
        assert!(is_ignored(process.pid), "{process}");
    }
    // Python itself ignores this signal, and gives it back to what it starts.
    let end =
        "import subprocess\nprint(subprocess.run(['dd', 'if=/dev/zero', 'of=large', 'bs=64K', 'count=1']).returncode)";
    let ran = run_under(&sandbox, "FSIZE", SIXTEEN, None, &["run", "--no-uv", "-c", end]).expect_code(0);
    assert_eq!(ran.text(), format!("-{}\n", rustix::process::Signal::XFSZ.as_raw()));
}

#[test]
fn a_hard_limit_on_file_sizes_is_named_where_a_daemon_cannot_live_with_it() {
    let sandbox = of_ordinary_user();
    let ran = run_under(&sandbox, "FSIZE", SIXTEEN, Some(SIXTEEN), &["run", "--no-uv", "-c", "pass"]).expect_code(125);
    assert!(ran.stderr.contains("at most 16384 bytes here (`ulimit -f`)") && ran.stderr.contains("hint: "), "{ran}");
    // It is the starter's, and nobody else's.
    sandbox.run(&["-c", "pass"]).expect_code(0);
    run_under(&sandbox, "FSIZE", SIXTEEN, Some(SIXTEEN), &["run", "--no-uv", "-c", "pass"]).expect_code(0);
}

#[test]
fn a_user_near_the_limit_on_processes_gets_an_error_and_no_panic() {
    let sandbox = of_ordinary_user();
    for limit in 1..10 {
        let ran = run_under(&sandbox, "NPROC", limit, Some(limit), &["run", "--no-uv", "-c", "pass"]);
        assert_no_panic(&ran);
        // From some number on the daemon has its thread and the job no process.
        assert!(matches!(ran.code, 0 | 125 | 126), "with {limit}: {ran}");
        assert!(ran.code == 0 || ran.stderr.starts_with("error: "), "with {limit}: {ran}");
        sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    }
    // With a daemon, the client needs itself only.
    sandbox.pyexec(["daemon", "start"]).expect_code(0);
    let arguments = ["run", "--no-uv", "-c", "print(6 * 7)"];
    assert_eq!(run_under(&sandbox, "NPROC", 1, Some(1), &arguments).expect_code(0).text(), "42\n");
    let ran = run_under(&sandbox, "NPROC", 1, Some(1), &["doctor"]);
    assert_no_panic(&ran);
    // Nor does a daemon panic that gets no thread beyond its first.
    let log = sandbox.daemon_log();
    assert!(!log.contains("a panic"), "{log}");
}

#[test]
fn a_shell_with_little_address_space_gets_no_panic() {
    let sandbox = of_ordinary_user();
    sandbox.pyexec(["daemon", "start"]).expect_code(0);
    for megabytes in [16, 24, 32, 48] {
        let bytes = megabytes << 20;
        let ran = run_under(&sandbox, "AS", bytes, Some(bytes), &["run", "--no-uv", "-c", "pass"]);
        assert_no_panic(&ran);
    }
    let bytes = 200 << 20;
    run_under(&sandbox, "AS", bytes, Some(bytes), &["run", "--no-uv", "-c", "pass"]).expect_code(0);
}

#[test]
fn a_shell_with_few_descriptors_gets_an_error_that_names_the_limit_and_no_panic() {
    let sandbox = of_ordinary_user();
    for limit in (5..24).chain([40, 60]) {
        let ran = run_under(&sandbox, "NOFILE", limit, Some(limit), &["run", "--no-uv", "-c", "pass"]);
        assert_no_panic(&ran);
        assert!(matches!(ran.code, 0 | 125 | 126), "with {limit}: {ran}");
        if ran.code == 125 {
            assert!(ran.stderr.contains(&format!("`ulimit -n` is {limit}")), "with {limit}: {ran}");
        }
        sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    }
    // A soft limit is enough for a client, and no daemon's.
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    run_under(&sandbox, "NOFILE", 20, hard, &["run", "--no-uv", "-c", "pass"]).expect_code(0);
}

#[test]
fn hard_limits_of_a_daemon_that_are_below_a_callers_are_told() {
    let sandbox = of_ordinary_user();
    run_under(&sandbox, "CPU", 300, Some(300), &["daemon", "start"]).expect_code(0);
    let id = sandbox.detach(&["-c", "import resource; print(resource.getrlimit(resource.RLIMIT_CPU)[0])"]);
    let job = sandbox.finished(&id);
    assert_eq!(sandbox.logs(&id), b"300\n");
    let told = "CPU time (`ulimit -t`) is 300 s, the daemon's own limit, instead of unlimited";
    assert_eq!(job["lowered_limits"], json!([told]), "{job}");
    let shown = sandbox.pyexec(["show", &id]).expect_code(0).text();
    assert!(shown.lines().any(|line| line.starts_with("limits") && line.ends_with(told)), "{shown}");
    let doctor = sandbox.pyexec(["doctor"]).text();
    assert!(doctor.contains("CPU time (`ulimit -t`) 300 s instead of unlimited"), "{doctor}");
    // What is below the daemon's anyway, and a daemon without such limits, are nothing to tell of.
    sandbox.pyexec(["daemon", "restart"]).expect_code(0);
    let id = sandbox.detach(&["-c", "pass"]);
    let job = sandbox.finished(&id);
    assert_eq!(job.get("lowered_limits"), None, "{job}");
    let doctor = sandbox.pyexec(["doctor"]).text();
    assert!(doctor.contains("resource limits: jobs have all that this shell has"), "{doctor}");
}

/// What makes `unshare` run a program where /proc is an empty directory. Root needs no user namespace for it, and has one
/// all the same.
const HIDE_PROC: [&str; 6] =
    ["--mount", "--map-root-user", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"];

#[test]
fn a_client_without_proc_is_told_so_and_no_daemon_starts_without_it() {
    let mut sandbox = Sandbox::new();
    sandbox.set_through(&[&["unshare"], &HIDE_PROC[..]].concat());
    let ran = sandbox.run(&["-c", "pass"]).expect_code(125);
    assert!(ran.stderr.contains("/proc is not mounted") && ran.stderr.contains("hint: `mount -t proc"), "{ran}");
    let mut daemon = sandbox.command("unshare");
    daemon.args(HIDE_PROC).arg(PYEXECD);
    let ran = sandbox.attend(daemon).end().expect_code(1);
    assert!(ran.stderr.contains("/proc is not mounted"), "{ran}");
    // Whoever has one is served.
    sandbox.set_through(&[]);
    sandbox.run(&["-c", "pass"]).expect_code(0);
}

#[test]
fn a_daemon_with_this_home_on_another_machine_or_in_a_container_is_told_of_at_once() {
    let sandbox = Sandbox::new();
    let here = pyexec_run_directory::place::here();
    let elsewhere = [
        (json!({"host": "far", "boot_id": "other", "pid_namespace": here.pid_namespace}), "on another machine, `far`"),
        (json!({"host": "box", "boot_id": here.boot_id, "pid_namespace": "pid:[1]"}), "in another container"),
    ];
    let lock_path = sandbox.paths().daemon_lock();
    std::fs::create_dir_all(sandbox.paths().state).expect("can be made");
    for (place, told) in elsewhere {
        let running = json!({"pid": 1, "socket": "/nowhere/pyexecd.sock", "place": place});
        std::fs::write(&lock_path, running.to_string()).expect("can be written");
        let lock = File::open(&lock_path).expect("is there");
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).expect("nobody else has it");
        for arguments in [&["run", "--no-uv", "-c", "pass"][..], &["daemon", "status"], &["daemon", "stop"], &["jobs"]]
        {
            let ran = sandbox.pyexec(arguments).expect_code(125);
            assert!(ran.stderr.contains(told) && ran.stderr.contains("XDG_STATE_HOME"), "{arguments:?}: {ran}");
        }
        let doctor = sandbox.pyexec(["doctor"]).expect_code(1).text();
        assert!(doctor.contains(told), "{doctor}");
        // Locks that do not hold between the machines: all that can be told is that it has not left.
        drop(lock);
        let doctor = sandbox.pyexec(["doctor"]).text();
        assert!(doctor.contains("warning  daemon elsewhere") && doctor.contains(told), "{doctor}");
    }
    sandbox.run(&["-c", "pass"]).expect_code(0);
    let doctor = sandbox.pyexec(["doctor"]).text();
    assert!(!doctor.contains("elsewhere"), "{doctor}");
}

#[test]
fn a_directory_that_cannot_be_written_is_named_with_its_variable() {
    let mut sandbox = Sandbox::new();
    sandbox.set_unprivileged();
    let paths = sandbox.paths();
    let close = |directory: &std::path::Path, mode| {
        std::fs::create_dir_all(directory).expect("can be made");
        std::fs::set_permissions(directory, PermissionsExt::from_mode(mode)).expect("is ours");
    };
    close(&paths.cache, 0o500);
    let ran = sandbox.run(&["-c", "pass"]).expect_code(126);
    let named = paths.cache.to_str().expect("is text");
    assert!(ran.stderr.contains(named) && ran.stderr.contains("XDG_CACHE_HOME"), "{ran}");
    close(&paths.cache, 0o700);
    sandbox.run(&["-c", "pass"]).expect_code(0);
    sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    let named = paths.state.to_str().expect("is text");
    for gone in [paths.daemon_lock(), paths.start_lock()] {
        std::fs::remove_file(gone).expect("is there");
        close(&paths.state, 0o500);
        let ran = sandbox.run(&["-c", "pass"]).expect_code(125);
        close(&paths.state, 0o700);
        assert!(ran.stderr.contains(named) && ran.stderr.contains("XDG_STATE_HOME"), "{ran}");
    }
}

#[test]
fn settings_of_another_user_are_refused_and_such_as_others_may_write_are_closed() {
    if !can_change_users() {
        return;
    }
    use std::os::unix::fs::{chown, lchown, symlink};
    let sandbox = Sandbox::new();
    let (directory, file) = (sandbox.paths().config, sandbox.paths().config_file());
    std::fs::create_dir(&directory).expect("can be made");
    std::fs::write(&file, "max_running = 3\n").expect("can be written");
    let refused = |path: &std::path::Path, problem: &str| {
        for ran in [sandbox.run(&["-c", "pass"]).expect_code(125), sandbox.pyexec(["jobs"]).expect_code(125)] {
            let told = format!("{} {problem}", path.display());
            assert!(ran.stderr.contains(&told) && ran.stderr.contains("XDG_CONFIG_HOME"), "{ran}");
        }
        let doctor = sandbox.pyexec(["doctor"]).expect_code(1).text();
        assert!(doctor.contains("problem  settings: ") && doctor.contains(problem), "{doctor}");
        let daemon = sandbox.attend(sandbox.command(PYEXECD)).end().expect_code(1);
        assert!(daemon.stderr.contains(problem), "{daemon}");
    };
    chown(&file, Some(NOBODY), None).expect("can be given away");
    refused(&file, "belongs to user 65534, not to you");
    chown(&file, Some(0), None).expect("can be taken back");
    chown(&directory, Some(NOBODY), None).expect("can be given away");
    refused(&directory, "belongs to user 65534, not to you");
    chown(&directory, Some(0), None).expect("can be taken back");
    let elsewhere = sandbox.write("config.toml", "max_running = 3\n");
    std::fs::remove_file(&file).expect("is there");
    symlink(&elsewhere, &file).expect("can be made");
    lchown(&file, Some(NOBODY), None).expect("can be given away");
    refused(&file, "is a link that user 65534 has made");
    lchown(&file, Some(0), None).expect("can be taken back");
    std::fs::set_permissions(&elsewhere, PermissionsExt::from_mode(0o666)).expect("is ours");
    sandbox.run(&["-c", "pass"]).expect_code(0);
    assert_eq!(elsewhere.metadata().expect("is there").permissions().mode() & 0o777, 0o644);
}

/// The first job holds the only place there is until `go` is there; the second makes the file `second`.
fn one_runs_and_one_waits(sandbox: &mut Sandbox) -> (String, String) {
    sandbox.set("PYEXEC_MAX_RUNNING", "1");
    let first = sandbox.detach(&["-c", "import os, time\nwhile not os.path.exists('go'): time.sleep(0.005)"]);
    sandbox.wait_until_running(&first);
    let second = sandbox.detach(&["-c", "open('second', 'w').write('ran\\n')"]);
    (first, second)
}

#[test]
fn a_job_that_waits_when_the_daemon_dies_has_its_turn_although_nobody_calls() {
    let mut sandbox = Sandbox::new();
    let (first, second) = one_runs_and_one_waits(&mut sandbox);
    sandbox.kill_daemon();
    sandbox.write("go", "");
    assert_eq!(sandbox.wait_for_file("second"), "ran");
    for id in [first, second] {
        assert_eq!(sandbox.finished(&id)["exit_code"], 0);
    }
    assert_eq!(sandbox.daemons().len(), 1);
}

fn wait_until_nothing_runs(sandbox: &Sandbox) {
    sandbox.wait_until("no process is left", || {
        let left = sandbox.processes();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn a_daemon_that_was_told_to_leave_stays_away_though_a_job_waits() {
    let mut sandbox = Sandbox::new();
    let (_, second) = one_runs_and_one_waits(&mut sandbox);
    sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    sandbox.write("go", "");
    wait_until_nothing_runs(&sandbox);
    assert!(!sandbox.file("second").exists());
    // Until somebody calls.
    assert_eq!(sandbox.finished(&second)["exit_code"], 0);
}

#[test]
fn no_daemon_is_started_when_nothing_waits_for_one() {
    let sandbox = Sandbox::new();
    let id = sandbox.detach(&["-c", "import os, time\nwhile not os.path.exists('go'): time.sleep(0.005)"]);
    sandbox.wait_until_running(&id);
    sandbox.kill_daemon();
    sandbox.write("go", "");
    wait_until_nothing_runs(&sandbox);
}
