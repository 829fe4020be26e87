//! `pyexec daemon`: started, stopped and restarted without a job noticing.

use crate::sandbox::{Sandbox, is_alive, pid_of};

const SCRIPT: &str =
    "import os, time\nprint('before')\nwhile not os.path.exists('go'): time.sleep(0.005)\nprint('after')\n";

#[test]
fn status_tells_what_runs_and_never_starts_anything() {
    let sandbox = Sandbox::new();
    for _ in 0..2 {
        let ran = sandbox.pyexec(["daemon", "status", "--json"]).expect_code(3);
        assert_eq!(ran.json()["running"], false, "{ran}");
        assert_eq!(sandbox.pyexec(["daemon", "status"]).expect_code(3).text(), "not running\n");
        assert!(sandbox.daemons().is_empty());
    }
    assert_eq!(sandbox.pyexec(["daemon", "stop"]).expect_code(0).text(), "not running\n");
    assert!(sandbox.daemons().is_empty());
    sandbox.write("script.py", SCRIPT);
    let id = sandbox.detach(&["script.py"]);
    sandbox.wait_until_running(&id);
    let status = sandbox.pyexec(["daemon", "status", "--json"]).expect_code(0).json();
    let daemons = sandbox.daemons();
    assert_eq!(daemons.len(), 1, "{daemons:?}");
    assert_eq!(pid_of(&status["pid"]), daemons[0].pid, "{status}");
    assert_eq!((&status["running"], &status["jobs_running"]), (&true.into(), &1.into()), "{status}");
    assert_eq!(status["socket"], sandbox.paths().socket.to_str().expect("is UTF-8"), "{status}");
    assert!(status["version"].is_string() && status["uptime_seconds"].is_u64(), "{status}");
    assert!(status["rss_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{status}");
    let memory = |field: &str| status[field].as_u64().expect("the kernel says it");
    assert!((1..=memory("memory_total_bytes")).contains(&memory("memory_available_bytes")), "{status}");
    let text = sandbox.pyexec(["daemon", "status"]).expect_code(0).text();
    assert!(text.lines().any(|line| line.starts_with("machine") && line.ends_with("memory available")), "{text}");
    sandbox.write("go", "");
    sandbox.finished(&id);
}

#[test]
fn a_stopped_daemon_leaves_its_jobs_running_and_the_next_one_adopts_them() {
    let sandbox = Sandbox::new();
    sandbox.write("script.py", SCRIPT);
    let id = sandbox.detach(&["script.py"]);
    sandbox.wait_until_running(&id);
    let job = pid_of(&sandbox.show(&id)["pid"]);
    let daemon = sandbox.daemon_pid();
    let stopped = sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    assert_eq!(stopped.text(), format!("stopped, pid {daemon}; 1 running job goes on\n"));
    sandbox.wait_until_gone(daemon);
    assert!(sandbox.daemons().is_empty() && is_alive(job));
    assert!(!sandbox.paths().socket.exists(), "the socket is left behind");

    let started = sandbox.pyexec(["daemon", "start"]).expect_code(0);
    let next = sandbox.daemon_pid();
    assert_eq!(started.text(), format!("started, pid {next}\n"));
    assert_eq!(sandbox.pyexec(["daemon", "start"]).expect_code(0).text(), format!("already running, pid {next}\n"));
    assert_eq!(sandbox.wait_for_status(&id, "running")["pid"], job);

    let restarted = sandbox.pyexec(["daemon", "restart"]).expect_code(0);
    let last = sandbox.daemon_pid();
    assert_ne!(next, last);
    assert_eq!(restarted.text(), format!("restarted, pid {last}\n"));
    sandbox.write("go", "");
    assert_eq!(sandbox.finished(&id)["exit_code"], 0);
    assert_eq!(sandbox.logs(&id), b"before\nafter\n");
}

#[test]
fn a_run_does_not_notice_that_its_daemon_is_stopped_and_started() {
    let sandbox = Sandbox::new();
    sandbox.write("script.py", SCRIPT);
    let mut run = sandbox.attend_run(&["script.py"]);
    run.wait_for_stdout("before\n");
    sandbox.pyexec(["daemon", "restart"]).expect_code(0);
    sandbox.write("go", "");
    assert_eq!(run.end().expect_code(0).text(), "before\nafter\n");
}

#[test]
fn a_daemon_that_a_job_started_does_not_end_with_the_job() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    sandbox.write(
        "start.py",
        format!(
            "
import os, subprocess, time
print('ready')
while not os.path.exists('go'): time.sleep(0.005)
subprocess.run([{:?}, 'daemon', 'start'], check=True)
",
            crate::sandbox::PYEXEC
        ),
    );
    let id = sandbox.detach(&["start.py"]);
    let mut logs = sandbox.attend(sandbox.cli(["logs", "-f", &id]));
    logs.wait_for_stdout("ready");
    drop(logs);
    daemon.kill();
    sandbox.write("go", "");
    // Without asking: that would start one, too.
    sandbox.wait_until("the job has ended and a daemon runs", || {
        let left = sandbox.processes();
        let of_no_job =
            |process: &crate::sandbox::Process| process.is_daemon() || process.is_spare() || process.is_looker();
        let only_daemon = sandbox.daemons().len() == 1 && left.iter().all(of_no_job);
        if only_daemon { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let pid = sandbox.daemons()[0].pid;
    assert_eq!(sandbox.finished(&id)["exit_code"], 0);
    assert_eq!(sandbox.daemon_pid(), pid);
    assert!(String::from_utf8_lossy(&sandbox.logs(&id)).contains(&format!("started, pid {pid}")));
}

#[test]
fn a_job_does_not_inherit_what_is_its_daemons() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let code = "import os\nprint(sorted(os.listdir('/proc/self/fd'))[:-1], os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())";
    assert_eq!(sandbox.run(&["-c", code]).expect_code(0).text(), "['0', '1', '2'] True True\n");
}

#[test]
fn the_log_says_what_happened_and_completions_are_printed() {
    let sandbox = Sandbox::new();
    let ran = sandbox.pyexec(["daemon", "logs"]).expect_code(125);
    assert!(ran.stderr.starts_with("error: no daemon log") && ran.stderr.contains("\nhint: "), "{ran}");
    let id = sandbox.detach(&["-c", "pass"]);
    sandbox.finished(&id);
    let log = sandbox.pyexec(["daemon", "logs"]).expect_code(0).text();
    assert!(log.contains(&format!("finished job={id}")), "{log}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(sandbox.pyexec(["completions", shell]).expect_code(0).text().contains("pyexec"), "{shell}");
    }
}

#[test]
fn stop_holds_for_a_daemon_that_was_killed_before() {
    let sandbox = Sandbox::new();
    sandbox.pyexec(["jobs"]).expect_code(0);
    sandbox.kill_daemon();
    let ended = || pyexec_run_directory::lock_file::last_to_be_ended(&sandbox.paths());
    assert!(ended().is_some(), "a supervisor would start the next one");
    assert_eq!(sandbox.pyexec(["daemon", "stop"]).expect_code(0).text(), "not running\n");
    assert_eq!(ended(), None);
}
