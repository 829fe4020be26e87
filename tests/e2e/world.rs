//! Where jobs run, and how the kernel schedules them there: as their submitter, or not at all.

use std::process::{Command, Stdio};

use rustix::process::geteuid;
use serde_json::{Value, json};

use crate::mcp_session::{Era, McpSession, text_of};
use crate::sandbox::{Ability, PYEXEC, PYEXEC_MCP, Ran, Sandbox, can, can_change_users, python, starter};

/// What a process has of the kernel, on one line.
const PROBE: &str = "
import ctypes, os, resource
libc, mask = ctypes.CDLL(None), os.umask(0)
os.umask(mask)
ioprio_get = {'x86_64': 252, 'aarch64': 31}[os.uname().machine]
print(sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0), os.sched_getparam(0).sched_priority,
      os.getpriority(os.PRIO_PROCESS, 0), libc.syscall(ioprio_get, 1, 0), libc.prctl(30, 0, 0, 0, 0),
      hex(libc.personality(0xffffffff)), open('/proc/self/oom_score_adj').read().strip(), oct(mask),
      os.getgid(), sorted(os.getgroups()), [resource.getrlimit(number) for number in range(16)])
";

/// As much as any process may change: nothing of it takes a privilege.
const UNUSUAL: &str = "
import ctypes
libc = ctypes.CDLL(None)
ioprio_set = {'x86_64': 251, 'aarch64': 30}[os.uname().machine]
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
os.nice(1)
libc.syscall(ioprio_set, 1, 0, 3 << 13)
libc.prctl(29, 123456, 0, 0, 0)
libc.personality(0x0040000)
open('/proc/self/oom_score_adj', 'w').write('1000')
os.umask(0o027)
";

/// And of limits, which the daemon has as whoever started it, where it may not raise them.
const LIMITED: &str = "
for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_SIGPENDING, resource.RLIMIT_MSGQUEUE):
    soft, hard = resource.getrlimit(limit)
    resource.setrlimit(limit, (min(soft, 300), min(hard, 4000)))
";

/// The probe's line of a plain Python after `before`.
fn plain(sandbox: &Sandbox, before: &str) -> String {
    let program = format!("import os, resource, sys\n{before}\nos.execv(sys.argv[1], ['python3', '-c', {PROBE:?}])");
    let mut command = sandbox.command(python());
    command.args(["-c", &program]).arg(python());
    sandbox.attend(command).end().expect_code(0).text()
}

#[test]
fn a_job_that_waits_has_what_its_submitter_had_also_after_a_restart_of_the_daemon() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon_with(&[("PYEXEC_MAX_RUNNING", "1")]);
    let hold = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)";
    let holder = sandbox.detach(&["-c", hold]);
    sandbox.wait_until_running(&holder);
    let unusual = format!("{UNUSUAL}{LIMITED}");
    let submitted = starter(&sandbox, &unusual, &["run", "--no-uv", "-d", "-c", PROBE]).expect_code(0).text();
    let usual = sandbox.detach(&["-c", PROBE]);
    daemon.restart();
    sandbox.write("go", "");
    for (id, before) in [(submitted.trim(), unusual.as_str()), (&usual, "")] {
        let job = sandbox.finished(id);
        assert_eq!(job["exit_code"], 0, "{job}");
        assert_eq!(job.get("not_taken_over"), None, "{job}");
        assert_eq!(String::from_utf8_lossy(&sandbox.logs(id)), plain(&sandbox, before));
    }
}

#[test]
fn a_daemon_that_was_started_by_somebody_unusual_hands_nothing_of_that_on() {
    let sandbox = Sandbox::new();
    starter(&sandbox, UNUSUAL, &["daemon", "start"]).expect_code(0);
    let [has, plainly] = [sandbox.run(&["-c", PROBE]).expect_code(0).text(), plain(&sandbox, "")];
    // What only root may lower again.
    if geteuid().is_root() {
        assert_eq!(has, plainly);
    } else {
        assert_eq!(has.split(' ').next(), plainly.split(' ').next());
        let id = sandbox.detach(&["-c", "pass"]);
        let told = sandbox.finished(&id)["not_taken_over"].to_string();
        assert!(told.contains("nice value is 1, the daemon's own, instead of 0"), "{told}");
    }
}

#[test]
fn a_benchmark_is_measured_under_its_submitters_conditions_and_its_exports_say_so() {
    let sandbox = Sandbox::new();
    let options = ["bench", "--no-uv", "--runs", "2", "--json", "--export-json", "x.json", "--export-markdown", "x.md"];
    let ran = starter(&sandbox, UNUSUAL, &[&options[..], &["-c", PROBE]].concat()).expect_code(0);
    let cpu = "import os; print(max(os.sched_getaffinity(0)))";
    let mut command = sandbox.command(python());
    command.args(["-c", cpu]);
    let cpu = sandbox.attend(command).end().expect_code(0).text().trim().to_owned();
    let nice = rustix::process::getpriority_process(None).expect("can be asked for") + 1;
    let expected = json!({
        "cpu_affinity": cpu, "cpu_scheduling": "batch", "io_scheduling": "idle", "nice": nice.min(19),
        "oom_score_adj": 1000, "timer_slack_ns": 123_456, "personality": 0x0040000
    });
    let exported = std::fs::read_to_string(sandbox.file("x.json")).expect("is written");
    for document in [ran.json(), serde_json::from_str(&exported).expect("is JSON")] {
        let benchmark = &document["results"][0]["benchmark"];
        assert_eq!(benchmark["conditions"], expected, "{document}");
        assert_eq!(benchmark["not_taken_over"], json!([]), "{document}");
    }
    let told = format!("CPUs {cpu}, scheduling batch, nice {}, I/O idle, timer slack 123456 ns", nice.min(19));
    let table = std::fs::read_to_string(sandbox.file("x.md")).expect("is written");
    assert!(table.contains(&format!("Measured with {told}, addresses not randomized.\n")), "{table}");
    let id = ran.json()["results"][0]["job_id"].as_str().expect("is an id").to_owned();
    let lines = sandbox.logs(&id);
    let lines = String::from_utf8_lossy(&lines);
    assert_eq!(lines.lines().count(), 3, "warm-up and two runs: {lines}");
    assert!(lines.lines().all(|line| format!("{line}\n") == plain(&sandbox, UNUSUAL)), "{lines}");
    assert!(sandbox.pyexec(["show", &id]).expect_code(0).text().contains(&told));
}

#[test]
fn what_only_root_may_set_is_told_of_in_show_exports_and_doctor_and_not_by_the_job() {
    if !can_change_users() {
        return;
    }
    const PRIVILEGED: [&str; 9] = ["ionice", "-c1", "-n2", "chrt", "-f", "7", "nice", "-n", "-5"];
    let mut sandbox = Sandbox::of_nobody();
    let mut tried = sandbox.command(PRIVILEGED[0]);
    let permitted = tried.args(&PRIVILEGED[1..]).arg("true").status().is_ok_and(|status| status.success());
    if !can(Ability::RealTime, permitted) {
        return;
    }
    sandbox.pyexec(["daemon", "start"]).expect_code(0);
    let as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    sandbox.set_through(&[&PRIVILEGED[..], &as_nobody].concat());
    let told = [
        "nice value is 0, the daemon's own, instead of -5",
        "CPU scheduling is other, the daemon's own, instead of fifo 7",
        "I/O scheduling is none, the daemon's own, instead of realtime 2",
    ];
    let probe = "import os; print(os.sched_getscheduler(0), os.nice(0))";
    let ran = sandbox.run(&["-c", probe]).expect_code(0);
    assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("0 0\n", ""));
    let id = sandbox.detach(&["-c", probe]);
    assert_eq!(sandbox.finished(&id)["not_taken_over"], json!(told));
    let shown = sandbox.pyexec(["show", &id]).expect_code(0).text();
    assert!(
        shown.lines().any(|line| line.starts_with("not taken over") && line.ends_with(&told.join("; "))),
        "{shown}"
    );
    let measured = sandbox.pyexec(["bench", "--no-uv", "--runs", "1", "--json", "-c", "pass"]).expect_code(0).json();
    let benchmark = &measured["results"][0]["benchmark"];
    assert_eq!(benchmark["not_taken_over"], json!(told), "{measured}");
    let has = |name: &str| benchmark["conditions"][name].clone();
    assert_eq!((has("cpu_scheduling"), has("nice"), has("io_scheduling")), (json!("other"), json!(0), json!("none")));
    let doctor = sandbox.pyexec(["doctor"]).text();
    assert!(doctor.contains(&format!("warning  scheduling: of a job from here, {}", told.join("; "))), "{doctor}");
    sandbox.set_through(&as_nobody);
    assert!(!sandbox.pyexec(["doctor"]).text().contains("scheduling:"), "a usual shell has nothing to be told");
}

/// What starts a program in namespaces of its own; `None` where that is not permitted, and a test without it is meant.
#[track_caller]
fn unshared(sandbox: &Sandbox, options: &[&'static str]) -> Option<Vec<&'static str>> {
    let as_root: &[&str] = if geteuid().is_root() { &[] } else { &["--user", "--map-root-user"] };
    let words = [&["unshare"], as_root, options].concat();
    let mut command = sandbox.command(words[0]);
    let made = command.args(&words[1..]).arg("true").stderr(Stdio::null()).status();
    if made.is_ok_and(|status| status.success()) {
        return Some(words);
    }
    can(Ability::Namespaces, false);
    None
}

/// A shell's script in there; `$1` is the command line.
fn script(sandbox: &Sandbox, through: &[&str], script: &str) -> Command {
    let mut command = sandbox.command(through[0]);
    command.args(&through[1..]).args(["sh", "-c", script, "sh", PYEXEC.path()]);
    command
}

fn inside(sandbox: &Sandbox, through: &[&str], arguments: &[&str]) -> Ran {
    let mut command = sandbox.command(through[0]);
    command.args(&through[1..]).arg(PYEXEC).args(arguments);
    sandbox.attend(command).end()
}

#[test]
fn a_job_from_another_namespace_is_refused_with_what_differs_and_all_but_running_goes_on_to_work() {
    let sandbox = Sandbox::new();
    let sleeper = sandbox.detach(&["-c", "import time; print('out', flush=True); time.sleep(600)"]);
    sandbox.wait_until_running(&sleeper);
    let kinds: [(&[&str], &str); 4] = [
        (&["--net"], "another network namespace (net:["),
        (&["--mount"], "another mount namespace (mnt:["),
        (&["--user", "--map-root-user"], "another user namespace (user:["),
        (&["--pid", "--fork", "--mount-proc", "--kill-child"], "another pid namespace (pid:["),
    ];
    for (options, named) in kinds {
        let Some(through) = unshared(&sandbox, options) else { return };
        for arguments in [
            &["run", "--no-uv", "-c", "open('ran', 'w')"][..],
            &["run", "--no-uv", "-d", "-c", "open('ran', 'w')"],
            &["bench", "--no-uv", "--runs", "1", "-c", "open('ran', 'w')"],
            &["env", "create", "x", "--with", "./x"],
        ] {
            let refused = inside(&sandbox, &through, arguments);
            assert_eq!(refused.code, 126, "{arguments:?} with {options:?}: {refused}");
            assert!(
                refused.stderr.contains("this would not run in the same place as its caller: the daemon has "),
                "{refused}"
            );
            assert!(refused.stderr.contains(named), "{options:?}: {refused}");
            assert!(refused.stderr.contains("hint: `pyexec daemon restart` from here"), "{refused}");
            assert!(refused.stderr.contains("`PYEXEC_INSTANCE=NAME`"), "{refused}");
        }
        for arguments in [&["jobs"][..], &["show", &sleeper], &["logs", &sleeper], &["daemon", "status"]] {
            inside(&sandbox, &through, arguments).expect_code(0);
        }
        let status = inside(&sandbox, &through, &["daemon", "status", "--json"]).json();
        let refused = status["refuses_jobs_from_here"].as_str().unwrap_or_default();
        assert!(refused.contains(named), "{status}");
        let doctor = inside(&sandbox, &through, &["doctor"]).text();
        assert!(doctor.contains("warning  where jobs run: ") && doctor.contains(named), "{doctor}");
    }
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 1);
    assert!(!sandbox.file("ran").exists(), "it has run elsewhere");
    let Some(through) = unshared(&sandbox, &["--net"]) else { return };
    inside(&sandbox, &through, &["kill", "--now", &sleeper]).expect_code(0);
    assert_eq!(sandbox.finished(&sleeper)["status"], "cancelled");
    let doctor = sandbox.pyexec(["doctor"]).text();
    assert!(doctor.contains("ok       where jobs run: "), "{doctor}");
}

#[test]
fn both_remedies_that_are_named_have_the_job_run_where_its_submitter_is() {
    const DEVICES: &str = "import socket; print([name for _, name in socket.if_nameindex()])";
    let sandbox = Sandbox::new();
    let Some(through) = unshared(&sandbox, &["--net"]) else { return };
    sandbox.pyexec(["daemon", "start"]).expect_code(0);
    let own = format!("export PYEXEC_INSTANCE=alone; \"$1\" run --no-uv -c \"{DEVICES}\" && \"$1\" daemon stop");
    let ran = sandbox.attend(script(&sandbox, &through, &own)).end().expect_code(0);
    assert_eq!(ran.text().lines().next(), Some("['lo']"), "{ran}");
    let restart = format!("\"$1\" daemon restart && \"$1\" run --no-uv -c \"{DEVICES}\"");
    let ran = sandbox.attend(script(&sandbox, &through, &restart)).end().expect_code(0);
    assert_eq!(ran.text().lines().nth(1), Some("['lo']"), "{ran}");
    // From here on it is the others who would not be where they are.
    let refused = sandbox.run(&["-c", "pass"]).expect_code(126);
    // From within a user namespace the daemon cannot look at them.
    let named = if geteuid().is_root() { "has another network namespace" } else { "in another user namespace or" };
    assert!(refused.stderr.contains(named), "{refused}");
    sandbox.pyexec(["daemon", "restart"]).expect_code(0);
    sandbox.run(&["-c", "pass"]).expect_code(0);
}

#[test]
fn a_daemon_in_a_container_is_reached_from_outside_and_runs_nothing_for_there() {
    let sandbox = Sandbox::new();
    let Some(through) = unshared(&sandbox, &["--pid", "--fork", "--mount-proc", "--kill-child"]) else { return };
    let start = "\"$1\" run --no-uv -d -c 'import time; time.sleep(600)' && read end";
    let mut command = script(&sandbox, &through, start);
    command.stdin(Stdio::piped());
    let mut container = sandbox.attend(command);
    container.wait_for_stdout("\n");
    for arguments in [&["run", "--no-uv", "-c", "open('ran', 'w')"][..], &["env", "create", "x"]] {
        let refused = sandbox.pyexec(arguments).expect_code(126);
        assert!(refused.stderr.contains("the daemon runs in another pid namespace"), "{refused}");
        assert!(refused.stderr.contains("hint: ") && !refused.stderr.contains("os error 0"), "{refused}");
    }
    // It might be in anybody's fence.
    let refused = sandbox.pyexec(["scripts", "rm", "x"]).expect_code(125);
    assert!(refused.stderr.contains("in a pid namespace into which the daemon cannot see"), "{refused}");
    let listed = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
    let id = listed["jobs"][0]["id"].as_str().expect("is an id").to_owned();
    sandbox.pyexec(["kill", "--now", &id]).expect_code(0);
    assert_eq!(sandbox.finished(&id)["status"], "cancelled");
    sandbox.pyexec(["daemon", "restart"]).expect_code(0);
    drop(container.stdin());
    container.end();
    assert_eq!(sandbox.run(&["-c", "print('outside')"]).expect_code(0).text(), "outside\n");
}

#[test]
fn a_job_that_waited_while_the_daemon_was_moved_elsewhere_is_not_run_there() {
    let sandbox = Sandbox::new();
    let Some(through) = unshared(&sandbox, &["--net"]) else { return };
    let daemon = sandbox.daemon_with(&[("PYEXEC_MAX_RUNNING", "1")]);
    let holder = sandbox.detach(&["-c", "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)"]);
    sandbox.wait_until_running(&holder);
    let waiting = sandbox.detach(&["-c", "open('ran', 'w')"]);
    drop(daemon);
    inside(&sandbox, &through, &["daemon", "start"]).expect_code(0);
    sandbox.write("go", "");
    let ended = sandbox.pyexec(["wait", &waiting]).expect_code(126);
    assert_eq!(sandbox.finished(&holder)["exit_code"], 0);
    let told = sandbox.show(&waiting)["error"].to_string();
    assert!(told.contains("it was submitted where the daemon, which has been restarted since, does not run"), "{told}");
    assert!(told.contains("another network namespace"), "{told}, {ended}");
    assert!(!sandbox.file("ran").exists(), "it has run elsewhere");
}

#[test]
fn agents_are_refused_as_the_command_line_is() {
    let sandbox = Sandbox::new();
    let Some(through) = unshared(&sandbox, &["--net"]) else { return };
    sandbox.pyexec(["daemon", "start"]).expect_code(0);
    let mut command = sandbox.command(through[0]);
    command.args(&through[1..]).arg(PYEXEC_MCP);
    let mut session = McpSession::open_command(&sandbox, Era::Handshake("2025-06-18"), command);
    let script = session.script("open('ran', 'w')");
    let refused = session.call("py_run_script_in_dir", script);
    let told = text_of(&refused);
    assert!(refused["isError"] == true && told.contains("another network namespace (net:["), "{refused}");
    assert!(told.contains("`pyexec daemon restart`") && told.contains("`PYEXEC_INSTANCE=NAME`"), "{refused}");
    assert!(session.call("py_list_jobs", json!({}))["isError"] != true, "they may look");
    assert!(!sandbox.file("ran").exists(), "it has run elsewhere");
}

#[test]
fn a_user_who_has_become_a_member_of_a_group_since_is_told_that_the_daemon_is_not() {
    if !can_change_users() {
        return;
    }
    const GROUPS: &str = "import os; print(os.getgid(), sorted(os.getgroups()))";
    let mut sandbox = Sandbox::of_nobody();
    sandbox.pyexec(["daemon", "start"]).expect_code(0);
    let logins: [([&str; 3], &str, &str); 2] = [
        (["--regid=65534", "--groups=4321", "--"], "other supplementary groups (none, here 4321)", "65534 [4321]\n"),
        (["--regid=4321", "--groups=65534", "--"], "another primary group (65534, here 4321)", "4321 [65534]\n"),
    ];
    for (login, named, has) in logins {
        sandbox.set_through(&[&["setpriv", "--reuid=65534"][..], &login].concat());
        let refused = sandbox.run(&["-c", GROUPS]).expect_code(126);
        assert!(refused.stderr.contains(named) && refused.stderr.contains("hint: "), "{refused}");
        sandbox.pyexec(["jobs"]).expect_code(0);
        let mut own = sandbox.cli(["run", "--no-uv", "-c", GROUPS]);
        own.env("PYEXEC_INSTANCE", "login");
        assert_eq!(sandbox.attend(own).end().expect_code(0).text(), has);
        let mut stop = sandbox.cli(["daemon", "stop"]);
        stop.env("PYEXEC_INSTANCE", "login");
        sandbox.attend(stop).end().expect_code(0);
    }
}

#[test]
fn roots_jobs_have_the_groups_of_their_submitter_also_in_a_fence() {
    if !can_change_users() {
        return;
    }
    const GROUPS: &str = "import os; print(os.getresgid(), sorted(os.getgroups()))";
    let mut sandbox = Sandbox::new();
    sandbox.pyexec(["daemon", "start"]).expect_code(0);
    sandbox.set_through(&["setpriv", "--regid=4321", "--groups=4,27"]);
    for fence in [&[][..], &["--network", "none", "--filesystem", "workdir"]] {
        let ran = sandbox.run(&[fence, &["-c", GROUPS]].concat()).expect_code(0);
        assert_eq!(ran.text(), "(4321, 4321, 4321) [4, 27]\n", "{fence:?}");
    }
}

/// The command line of an instance.
fn of(sandbox: &Sandbox, instance: &str, arguments: &[&str]) -> Ran {
    let mut command = sandbox.cli(arguments);
    command.env("PYEXEC_INSTANCE", instance);
    sandbox.attend(command).end()
}

#[test]
fn an_instance_has_a_daemon_and_jobs_of_its_own_and_shares_scripts() {
    let sandbox = Sandbox::new();
    sandbox.run(&["-c", "pass"]).expect_code(0);
    let file = sandbox.write("mine.py", "print('mine')");
    sandbox.pyexec(["scripts", "save", "mine", file.to_str().expect("is UTF-8")]).expect_code(0);
    // What a job starts is of the same instance.
    let nested =
        format!("import subprocess; subprocess.run([{:?}, 'run', '--no-uv', '-c', 'print(2)'])", PYEXEC.path());
    assert_eq!(of(&sandbox, "ci", &["run", "--no-uv", "-c", &nested]).expect_code(0).text(), "2\n");
    let total = |ran: Ran| ran.expect_code(0).json()["total"].clone();
    assert_eq!(total(of(&sandbox, "ci", &["jobs", "--json"])), 2);
    assert_eq!(total(sandbox.pyexec(["jobs", "--json"])), 1);
    assert_eq!(sandbox.daemons().len(), 2);
    assert_eq!(of(&sandbox, "ci", &["scripts", "run", "--no-uv", "mine"]).expect_code(0).text(), "mine\n");
    let status = of(&sandbox, "ci", &["daemon", "status", "--json"]).json();
    let paths = sandbox.paths();
    let beside = |path: &std::path::Path| path.with_file_name("pyexec@ci");
    assert_eq!(status["instance"], "ci", "{status}");
    let socket = beside(&paths.runtime).join("pyexecd.sock");
    assert_eq!(status["socket"].as_str(), socket.to_str(), "{status}");
    assert_eq!(sandbox.daemon_status()["instance"], Value::Null);
    let lock = std::fs::read_to_string(beside(&paths.state).join("daemon.lock")).expect("is there");
    let lock: Value = serde_json::from_str(&lock).expect("is JSON");
    assert_eq!((&lock["instance"], &lock["world"]), (&json!("ci"), &status["world"]), "{lock}");
    assert!(status["world"]["network_namespace"].as_str().is_some_and(|name| name.starts_with("net:[")), "{status}");
    let told = of(&sandbox, "ci", &["daemon", "status"]).text();
    assert!(told.contains("instance:") && told.contains("namespaces:") && told.contains("net:["), "{told}");
    assert!(of(&sandbox, "ci", &["doctor"]).text().contains(", instance `ci`, "), "doctor does not name it");
    let mut session = McpSession::open_with(&sandbox, Era::Stateless, &[], &[("PYEXEC_INSTANCE", "ci")]);
    let script = session.script("print('agent')");
    session.structured("py_run_script_in_dir", script);
    session.close();
    assert_eq!(total(of(&sandbox, "ci", &["jobs", "--json"])), 4);
    // It is found again when its daemon has died, and its waiting jobs are its own.
    of(&sandbox, "ci", &["daemon", "restart"]).expect_code(0);
    assert_eq!(total(of(&sandbox, "ci", &["jobs", "--json"])), 4);
    of(&sandbox, "ci", &["daemon", "stop"]).expect_code(0);
    assert_eq!(sandbox.daemons().len(), 1);
}

#[test]
fn what_is_no_name_of_an_instance_is_refused_by_all_programs_and_units_are_the_default_ones() {
    let sandbox = Sandbox::new();
    let long = "n".repeat(33);
    for wrong in ["a/b", "../x", ".", "a b", &long] {
        let refused = of(&sandbox, wrong, &["jobs"]).expect_code(125);
        assert!(refused.stderr.contains(&format!("PYEXEC_INSTANCE is `{wrong}`")), "{refused}");
        assert!(refused.stderr.contains("hint: name it with ASCII letters"), "{refused}");
    }
    for program in [crate::sandbox::PYEXECD, PYEXEC_MCP] {
        let mut command = sandbox.command(program);
        command.env("PYEXEC_INSTANCE", "a/b");
        let refused = sandbox.attend(command).end();
        assert!(refused.code != 0 && refused.stderr.contains("PYEXEC_INSTANCE is `a/b`"), "{refused}");
    }
    let refused = of(&sandbox, "ci", &["daemon", "install"]).expect_code(2);
    assert!(refused.stderr.contains("systemd's units are the default instance's"), "{refused}");
    assert!(sandbox.daemons().is_empty());
    assert_eq!(of(&sandbox, "", &["run", "--no-uv", "-c", "print(1)"]).expect_code(0).text(), "1\n");
    assert_eq!(sandbox.daemon_status()["instance"], Value::Null);
}
