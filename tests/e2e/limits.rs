//! What all processes of a job together may use, and what becomes of one that goes beyond.

use serde_json::json;

use crate::mcp_session::{Era, McpSession};
use crate::sandbox::{Sandbox, is_alive};

/// `children(n, code)` starts so many, whose pids are known before they do what they are to do; then they wait.
const CHILDREN: &str = "
import os, subprocess, sys, time
def children(number, code=''):
    known = 'import os, sys, time\\nwhile not os.path.exists(\"pids\"): time.sleep(0.005)\\n'
    wait = known + code + '\\nprint(flush=True); time.sleep(600)'
    running = [subprocess.Popen([sys.executable, '-c', wait], stdout=subprocess.PIPE) for _ in range(number)]
    open('pids.tmp', 'w').write(' '.join(str(child.pid) for child in running) + '\\n')
    os.rename('pids.tmp', 'pids')
    for child in running: child.stdout.readline()
def looked_at(times):
    def wakes():
        with open(f'/proc/{os.getppid()}/status') as status:
            return next(int(line.split()[1]) for line in status if line.startswith('voluntary'))
    before = wakes()
    while wakes() < before + times: time.sleep(0.01)
print('before', flush=True)
";

#[track_caller]
fn assert_all_gone(sandbox: &Sandbox) {
    for pid in sandbox.wait_for_file("pids").split_whitespace() {
        assert!(!is_alive(pid.parse().expect("is a pid")), "{pid} has survived");
    }
}

#[test]
fn a_job_with_more_memory_than_its_limit_is_ended_with_all_its_processes() {
    let sandbox = Sandbox::new();
    sandbox.write("job.py", format!("{CHILDREN}children(3, 'x = bytearray(60 << 20)')\ntime.sleep(600)"));
    let ran = sandbox.run(&["--max-memory", "150M", "job.py"]).expect_code(137);
    assert_eq!(ran.text(), "before\n");
    assert!(ran.stderr.contains("it used more memory than its limit allows"), "{ran}");
    assert_all_gone(&sandbox);
    let job = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0].clone();
    assert_eq!(
        (&job["status"], &job["reason"], &job["exit_code"]),
        (&"failed".into(), &"memory_limit".into(), &(-9).into())
    );
}

#[test]
fn memory_that_processes_share_counts_once() {
    let sandbox = Sandbox::new();
    let code = format!(
        "{CHILDREN}
x = bytearray(100 << 20)
here, there = os.pipe()
for _ in range(3):
    if os.fork() == 0:
        os.close(there); os.read(here, 1); os._exit(0)
looked_at(5)
os.close(there)
for _ in range(3): os.wait()
"
    );
    sandbox.run(&["--max-memory", "200M", "-c", &code]).expect_code(0);
}

#[test]
fn a_job_with_more_cpu_time_than_its_limit_may_take_its_leave() {
    let sandbox = Sandbox::new();
    // The one that works is a child of a child, and the one before it has ended.
    let code = format!(
        "{CHILDREN}
import signal
def leave(*_): print('bye', flush=True); os._exit(0)
signal.signal(signal.SIGTERM, leave)
busy = 'import time\\nwhile time.process_time() < 0.4: pass'
for _ in range(30): subprocess.run(['sh', '-c', f'{{sys.executable}} -c \"{{busy}}\"; true'])
"
    );
    let ran = sandbox.run(&["--max-cpu", "1", "-c", &code]).expect_code(1);
    assert_eq!(ran.text(), "before\nbye\n");
    assert!(ran.stderr.contains("it used more CPU time than its limit allows"), "{ran}");
}

/// The kernel adds what they use to nobody's figures.
#[test]
fn children_that_nobody_waits_for_count_towards_the_limit_of_cpu_time() {
    let sandbox = Sandbox::new();
    let code = "
import signal, subprocess, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
busy = 'import time\\nwhile time.process_time() < 0.5: pass'
for _ in range(40): subprocess.Popen([sys.executable, '-c', busy]).wait()
";
    let ran = sandbox.run(&["--max-cpu", "1", "-c", code]).expect_code(143);
    assert!(ran.stderr.contains("it used more CPU time than its limit allows"), "{ran}");
    let id = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0]["id"].as_str().expect("is text").to_owned();
    let usage = sandbox.show(&id)["usage"].clone();
    assert_eq!(usage["cpu_is_incomplete"], true, "{usage}");
    assert!(usage["unwaited_cpu_seconds"].as_f64().is_some_and(|seconds| seconds > 0.1), "{usage}");
    let shown = sandbox.pyexec(["show", &id]).expect_code(0).text();
    assert!(shown.contains("of processes that no parent waited for"), "{shown}");
}

#[test]
fn a_job_with_more_processes_than_its_limit_is_ended_with_all_of_them() {
    let sandbox = Sandbox::new();
    let within = format!("{CHILDREN}children(3)\nlooked_at(4)\nprint('within')");
    let ran = sandbox.run(&["--max-processes", "4", "-c", &within]).expect_code(0);
    assert_eq!(ran.text(), "before\nwithin\n");
    assert_all_gone(&sandbox);
    std::fs::remove_file(sandbox.file("pids")).expect("is there");
    let beyond = format!("{CHILDREN}children(30)\ntime.sleep(600)");
    let ran = sandbox.run(&["--max-processes", "10", "-c", &beyond]).expect_code(137);
    assert!(ran.stderr.contains("it had more processes than its limit allows"), "{ran}");
    // The job's supervisor, which has told of its end, may be about to leave.
    let of_no_job =
        |process: &crate::sandbox::Process| process.is_daemon() || process.is_supervisor() || process.is_looker();
    let left: Vec<_> = sandbox.processes().into_iter().filter(|process| !of_no_job(process)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn agents_set_limits_and_are_told_which_was_met() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let mut arguments = session.script("x = bytearray(300 << 20)\nimport time; time.sleep(600)");
    arguments["limits"] = json!({"memory_mb": 100.5, "cpu_seconds": 60, "processes": 8, "nice": 1});
    let ran = session.structured("py_run_script_in_dir", arguments.clone());
    assert_eq!((&ran["status"], &ran["reason"]), (&"failed".into(), &"memory_limit".into()), "{ran}");
    assert!(ran["error"].as_str().is_some_and(|error| error.contains("more memory than its limit")), "{ran}");
    for (wrong, named) in
        [(json!({"memory_mb": 0}), "limits.memory_mb"), (json!({"processes": 0.5}), "limits.processes")]
    {
        arguments["limits"] = wrong;
        let refused = session.call("py_run_script_in_dir", arguments.clone());
        assert!(refused["isError"] == true && refused.to_string().contains(named), "{refused}");
    }
    sandbox.run(&["--max-memory", "1K", "-c", "pass"]).expect_code(2);
    sandbox.run(&["--max-processes", "0", "-c", "pass"]).expect_code(2);
}

/// Nobody else watches: not a daemon that has died.
#[test]
fn a_limit_holds_without_a_daemon() {
    let sandbox = Sandbox::new();
    let code = format!(
        "{CHILDREN}
while not os.path.exists('go'): time.sleep(0.01)
x = bytearray(200 << 20)
time.sleep(600)"
    );
    let id = sandbox.detach(&["--max-memory", "100M", "-c", &code]);
    sandbox.wait_until_running(&id);
    let leader = crate::sandbox::pid_of(&sandbox.show(&id)["pid"]);
    sandbox.kill_daemon();
    sandbox.write("go", "");
    sandbox.wait_until_gone(leader);
    let job = sandbox.finished(&id);
    assert_eq!(job["reason"], "memory_limit", "{job}");
}
