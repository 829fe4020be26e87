//! A job that is measured: what it is said to have taken is what it took, and its runs do not get in each other's way.
//!
//! Measurements are compared with what a script knows of itself, and with `/usr/bin/time`, as ratios. How long something
//! takes is asserted nowhere.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use pyexec_client::ClientError;
use pyexec_proto::benchmark::BenchmarkSpec;
use pyexec_proto::job::{Leftovers, StdinSource};
use pyexec_proto::{Error, Timestamp};
use serde_json::Value;

use crate::environment_sandbox::EnvironmentSandbox;
use crate::sandbox::{Attended, Sandbox, is_alive, python};

/// Counts the runs in the file `count`: `number` is that of this one, from 1 on.
const NUMBER: &str = "
import os, sys, time
number = len(open('count').read()) + 1 if os.path.exists('count') else 1
open('count', 'a').write('x')
";

/// Returns once the memory of the job has been looked at some more: while nothing is printed, that is all its supervisor
/// wakes for.
const LOOKED_AT: &str = "
import os, time
def looked_at(times=4):
    def wakes():
        with open(f'/proc/{os.getppid()}/status') as status:
            return next(int(line.split()[1]) for line in status if line.startswith('voluntary'))
    before = wakes()
    while wakes() < before + times: time.sleep(0.005)
";

fn runs_of(sandbox: &Sandbox) -> usize {
    std::fs::read(sandbox.file("count")).map_or(0, |count| count.len())
}

/// `pyexec run --bench --json`.
#[track_caller]
fn measure(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    sandbox.run(&[&["--bench", "--json"], arguments].concat()).expect_code(0).json()
}

#[track_caller]
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[track_caller]
fn rows(document: &Value) -> &[Value] {
    document["benchmark"]["measured"].as_array().unwrap_or_else(|| panic!("nothing was measured: {document}"))
}

/// The numbers that a script has printed.
fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace().map(|word| word.parse().unwrap_or_else(|_| panic!("{word} is no number"))).collect()
}

#[test]
fn each_run_is_measured_and_its_output_follows_that_of_the_one_before() {
    let sandbox = Sandbox::new();
    sandbox.write("script.py", format!("{NUMBER}print('run', number); print('error', number, file=sys.stderr)"));
    let view = measure(&sandbox, &["--warmup", "2", "--runs", "3", "script.py"]);
    let expected = |word: &str| (1..=5).map(|run| format!("{word} {run}\n")).collect::<String>();
    assert_eq!((&view["stdout"], &view["stderr"]), (&expected("run").into(), &expected("error").into()), "{view}");
    let benchmark = &view["benchmark"];
    assert_eq!(
        (&benchmark["runs"], &benchmark["runs_requested"], &benchmark["warmup_runs"], &benchmark["failed_runs"]),
        (&3.into(), &3.into(), &2.into(), &0.into()),
        "{view}"
    );
    assert_eq!(rows(&view).len(), 3);
    for row in rows(&view) {
        for what in ["wall_time_seconds", "user_time_seconds", "peak_rss_mb", "minor_page_faults"] {
            assert!(number(&row[what]) > 0.0, "{what}: {row}");
        }
        assert_eq!(row["exit_code"], 0, "{row}");
    }
    let wall = &benchmark["wall_time_seconds"];
    let of_all: f64 = rows(&view).iter().map(|row| number(&row["wall_time_seconds"])).sum();
    assert!((number(&wall["mean"]) - of_all / 3.0).abs() < 1e-6, "{view}");
    assert_eq!(view["wall_time_seconds"], wall["mean"], "{view}");
    assert_eq!(view["peak_rss_mb"], benchmark["peak_rss_mb"]["max"], "{view}");
    // From the first start to the last end, the warm-ups and what lies between included.
    assert!(number(&view["elapsed_seconds"]) > of_all, "{view}");
}

#[test]
fn every_job_is_said_to_have_taken_something_and_only_a_benchmark_has_statistics() {
    let sandbox = Sandbox::new();
    let view = sandbox.run(&["--json", "-c", "x = bytearray(100 << 20)"]).expect_code(0).json();
    assert_eq!(view["wall_time_seconds"], view["elapsed_seconds"], "{view}");
    assert!(number(&view["cpu_time_seconds"]) > 0.0, "{view}");
    assert!(number(&view["peak_rss_mb"]) > 100.0, "{view}");
    assert_eq!(view["peak_rss_scope"], "largest_process", "{view}");
    assert!(view.get("benchmark").is_none(), "{view}");
    let id = sandbox.detach(&["--bench", "--runs", "2", "-c", "pass"]);
    let job = sandbox.finished(&id);
    assert_eq!(job["benchmark"]["runs"], 2, "{job}");
    assert_eq!(job["usage"]["peak_rss_scope"], "tree_sampled", "{job}");
    let shown = sandbox.pyexec(["show", &id]).expect_code(0).text();
    assert!(shown.contains("\nbenchmark: 2 measured runs\n  wall time: "), "{shown}");
}

#[test]
fn at_a_terminal_the_figures_are_beside_the_output_and_not_in_it() {
    let sandbox = Sandbox::new();
    let ran = sandbox.run(&["--bench", "--runs", "2", "-c", "print('out')"]).expect_code(0);
    assert_eq!(ran.text(), "out\nout\n");
    assert!(ran.stderr.starts_with("benchmark: 2 measured runs\n"), "{ran}");
    for what in ["wall time", "cpu time", "peak memory", "page faults", "switches", "storage"] {
        assert!(ran.stderr.contains(&format!("\n  {what}:")), "{what} is missing: {ran}");
    }
}

#[test]
fn a_run_that_is_over_before_anybody_has_looked_has_an_exact_peak() {
    let sandbox = Sandbox::new();
    let code = "import resource; x = bytearray(50 << 20); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)";
    let view = measure(&sandbox, &["--sample-interval", "60", "-c", code]);
    let said = numbers(view["stdout"].as_str().expect("is text"))[0] / 1024.0;
    let peak = number(&view["peak_rss_mb"]);
    assert!((0.97..1.03).contains(&(peak / said)), "{peak} MiB, where the script itself knows of {said}");
    assert_eq!(rows(&view)[0]["tree_sampled_rss_mb"], Value::Null, "{view}");
    assert_eq!(
        (&view["benchmark"]["samples"], &view["benchmark"]["sample_interval_seconds"]),
        (&0.into(), &60.0.into())
    );
}

#[test]
fn time_is_what_the_script_itself_has_counted() {
    let sandbox = Sandbox::new();
    let code = "import resource, time; began = time.monotonic()\n\
                while sum((used := resource.getrusage(resource.RUSAGE_SELF))[:2]) < 0.5: sum(range(10000))\n\
                print(time.monotonic() - began, used.ru_utime + used.ru_stime)";
    let view = measure(&sandbox, &["--runs", "2", "-c", code]);
    let said = numbers(view["stdout"].as_str().expect("is text"));
    for (row, said) in rows(&view).iter().zip(said.chunks(2)) {
        let (wall, cpu) = (
            number(&row["wall_time_seconds"]),
            number(&row["user_time_seconds"]) + number(&row["system_time_seconds"]),
        );
        assert!(wall >= said[0] && wall >= cpu, "{wall} s, where the script alone has seen {said:?} go by: {row}");
        // The end of the interpreter is not in what it has said.
        assert!((said[1]..said[1] * 1.5).contains(&cpu), "{cpu} s of CPU, where the script has counted {said:?}");
    }
}

#[test]
fn the_peak_of_one_process_is_the_one_that_time_tells() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "large.py",
        format!("{LOOKED_AT}x = bytearray(200 << 20)\nif os.environ.get('PYEXEC_JOB_ID'): looked_at()\n"),
    );
    let view = measure(&sandbox, &["--sample-interval", "10ms", "large.py"]);
    let row = &rows(&view)[0];
    let (exact, sampled) = (number(&row["largest_process_rss_mb"]), number(&row["tree_sampled_rss_mb"]));
    assert!((0.97..1.03).contains(&(sampled / exact)), "{sampled} MiB sampled of {exact}");
    let told = told_by_time(&sandbox, &["large.py"]);
    let peak = number(&view["peak_rss_mb"]);
    assert!((0.97..1.03).contains(&(peak / told)), "{peak} MiB, where time says {told}");
}

/// The peak in MiB that `time -v` tells of a script: what `wait4` says of its process, and of those it has waited for.
fn told_by_time(sandbox: &Sandbox, arguments: &[&str]) -> f64 {
    let mut command = sandbox.command(python());
    if std::path::Path::new("/usr/bin/time").exists() {
        command = sandbox.command("/usr/bin/time");
        command.args(["-f", "%M"]).arg(python());
    } else {
        command.args(["-c", TIME, &python().display().to_string()]);
    }
    let timed = sandbox.attend({
        command.args(arguments);
        command
    });
    let last = timed.end().expect_code(0).stderr;
    numbers(last.lines().last().expect("says something"))[0] / 1024.0
}

/// As `time -f %M` where there is none.
const TIME: &str = "
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
";

/// Has four children with 200 MB each, all at the same time.
const CHILDREN: &str = "
import subprocess, sys
child = 'import sys; x = bytearray(200 * 10**6); print(1, flush=True); sys.stdin.read()'
pipe = subprocess.PIPE
children = [subprocess.Popen([sys.executable, '-c', child], stdin=pipe, stdout=pipe) for _ in range(4)]
for child in children: child.stdout.readline()
if os.environ.get('PYEXEC_JOB_ID'): looked_at()
for child in children: child.communicate()
";

#[test]
fn processes_that_run_together_are_counted_together_where_time_tells_the_largest() {
    let sandbox = Sandbox::new();
    sandbox.write("children.py", LOOKED_AT.to_owned() + CHILDREN);
    let view = measure(&sandbox, &["--sample-interval", "10ms", "children.py"]);
    assert_eq!(view["peak_rss_scope"], "tree_sampled", "{view}");
    let (peak, largest) = (number(&view["peak_rss_mb"]), number(&rows(&view)[0]["largest_process_rss_mb"]));
    let all = 800e6 / f64::from(1 << 20);
    assert!((0.9..1.1).contains(&(peak / all)), "{peak} MiB, where four children have {all}");
    let told = told_by_time(&sandbox, &["children.py"]);
    assert!((0.97..1.03).contains(&(largest / told)), "{largest} MiB, where time says {told}");
    assert!(told < all * 0.3, "{told} MiB of {all}");
}

/// The interpreter behind a shell that tells what it and the interpreter have used: both measure one run, so that it does
/// not matter how busy the machine is.
#[test]
fn cpu_time_is_what_a_shell_counts_of_the_same_run() {
    let mut sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.file("bin")).expect("can be made");
    let script = format!("#!/bin/sh\n'{}' \"$@\"\ntimes > '{}'\n", python().display(), sandbox.file("told").display());
    let wrapper = sandbox.write("bin/python3", script);
    std::fs::set_permissions(wrapper, PermissionsExt::from_mode(0o755)).expect("can be made executable");
    sandbox.set("PATH", crate::sandbox::path_variable(&sandbox.file("bin")));
    let code = "import os\nwhile sum(os.times()[:2]) < 1.5: sum(range(10000))\n\
                while sum(os.times()[:2]) < 2.0: os.stat('/')";
    let view = measure(&sandbox, &["-c", code]);
    let cpu = number(&view["cpu_time_seconds"]);
    // Two lines of user and system time, `0m1.510s 0m0.020s`: the shell's own, and its children's.
    let told = std::fs::read_to_string(sandbox.file("told")).expect("the shell has told");
    let seconds = |word: &str| {
        let (minutes, seconds) = word.trim_end_matches('s').split_once('m').expect("minutes and seconds");
        numbers(minutes)[0] * 60.0 + numbers(seconds)[0]
    };
    let told: f64 = told.split_whitespace().map(seconds).sum();
    assert!((0.97..1.03).contains(&(cpu / told)), "{cpu} s, where the shell says {told}");
}

#[test]
fn the_building_of_an_environment_is_in_no_measurement() {
    let sandbox = EnvironmentSandbox::new();
    sandbox.hold_installations();
    let line = ["run", "--bench", "--json", "--with", "six", "-c", "import six"];
    let measured = sandbox.attend(sandbox.cli(line));
    sandbox.wait_until_held();
    let held_until = Timestamp::now().to_string();
    sandbox.let_installations_go_on();
    let view = measured.end().expect_code(0).json();
    let job = sandbox.show(view["job_id"].as_str().expect("is text"));
    // Written so that they are in order as text.
    assert!(job["started_at"].as_str().is_some_and(|started| started > held_until.as_str()), "{held_until}: {job}");
    let (wall, all) = (number(&view["wall_time_seconds"]), number(&job["elapsed_seconds"]));
    assert!(wall <= all + 0.001, "{wall} s, where all of it took {all}");
}

#[test]
fn memory_that_forks_share_is_counted_once() {
    let sandbox = Sandbox::new();
    let code = format!(
        "{LOOKED_AT}
x = bytearray(200 << 20)
here, there = os.pipe()
for _ in range(3):
    if os.fork() == 0:
        os.close(there)
        os.read(here, 1)
        os._exit(0)
looked_at()
os.close(there)
for _ in range(3): os.wait()
"
    );
    let view = measure(&sandbox, &["--sample-interval", "10ms", "-c", &code]);
    let peak = number(&view["peak_rss_mb"]);
    assert!((200.0..300.0).contains(&peak), "{peak} MiB, where four processes share 200");
}

#[test]
fn the_first_run_that_fails_is_the_last() {
    let sandbox = Sandbox::new();
    sandbox.write("script.py", format!("{NUMBER}print(number)\nsys.exit(3 if number == 2 else 0)"));
    let view = sandbox.run(&["--bench", "--runs", "5", "--json", "script.py"]).expect_code(3).json();
    assert_eq!((&view["stdout"], &view["status"], &view["exit_code"]), (&"1\n2\n".into(), &"failed".into(), &3.into()));
    let benchmark = &view["benchmark"];
    assert_eq!((&benchmark["runs"], &benchmark["failed_runs"]), (&2.into(), &1.into()), "{view}");
    assert_eq!(rows(&view).iter().map(|row| &row["exit_code"]).collect::<Vec<_>>(), [0, 3]);
    assert_eq!(benchmark["wall_time_seconds"]["mean"], rows(&view)[0]["wall_time_seconds"], "{view}");
}

#[test]
fn a_warm_up_that_fails_leaves_nothing_measured() {
    let sandbox = Sandbox::new();
    let view = sandbox.run(&["--bench", "--warmup", "2", "--json", "-c", "raise SystemExit(4)"]).expect_code(4).json();
    assert_eq!((&view["benchmark"]["runs"], &view["benchmark"]["warmup_runs"]), (&0.into(), &1.into()), "{view}");
    assert_eq!(view["benchmark"]["wall_time_seconds"], Value::Null, "{view}");
    assert_eq!(view["wall_time_seconds"], view["elapsed_seconds"], "{view}");
}

#[test]
fn a_run_that_can_not_be_started_any_more_is_a_failure_of_the_job() {
    let mut sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.file("bin")).expect("can be made");
    sandbox.set("PATH", crate::sandbox::path_variable(&sandbox.file("bin")));
    std::os::unix::fs::symlink(python(), sandbox.file("bin/python3")).expect("can be linked");
    // Takes away the name that its interpreter goes by.
    let code = "import os; os.unlink('bin/python3'); print('ran')";
    let ran = sandbox.run(&["--bench", "--runs", "3", "-c", code]).expect_code(126);
    assert_eq!(ran.text(), "ran\n");
    assert!(ran.stderr.contains("error: run 2 of 3 could not be started"), "{ran}");
    let job = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["jobs"][0].clone();
    assert_eq!((&job["status"], &job["reason"], &job["exit_code"]), (&"failed".into(), &"spawn".into(), &Value::Null));
}

#[test]
fn a_timeout_counts_over_all_runs_and_ends_the_one_that_goes_on() {
    let sandbox = Sandbox::new();
    sandbox.write("script.py", format!("{NUMBER}print(number, os.getpid())\nif number == 2: time.sleep(600)"));
    let view =
        sandbox.run(&["--bench", "--runs", "4", "--timeout", "3s", "--json", "script.py"]).expect_code(124).json();
    assert_eq!((&view["status"], &view["reason"]), (&"failed".into(), &"timed_out".into()), "{view}");
    assert_eq!((rows(&view).len(), runs_of(&sandbox)), (2, 2), "{view}");
    assert_eq!(rows(&view)[1]["exit_code"], -15, "{view}");
    assert!(number(&view["elapsed_seconds"]) >= 3.0, "{view}");
    let second = numbers(view["stdout"].as_str().expect("is text"))[3] as u32;
    assert!(!is_alive(second), "the second run has survived");
}

/// Waits, in its second run, for the file `go`.
const SECOND_WAITS: &str = "
print(number)
if number == 2:
    open('second.tmp', 'w').write(f'{os.getpid()}\\n'); os.rename('second.tmp', 'second')
    while not os.path.exists('go'): time.sleep(0.005)
";

#[test]
fn a_cancel_ends_the_run_that_goes_on_and_there_is_no_other() {
    let sandbox = Sandbox::new();
    sandbox.write("script.py", format!("{NUMBER}{SECOND_WAITS}"));
    let id = sandbox.detach(&["--bench", "--runs", "4", "script.py"]);
    let second: u32 = sandbox.wait_for_file("second").parse().expect("is a pid");
    let killed = sandbox.pyexec(["kill", &id]).expect_code(0);
    assert_eq!(killed.text(), format!("{id} cancelled\n"));
    assert!(!is_alive(second), "the second run has survived");
    let job = sandbox.show(&id);
    assert_eq!((&job["status"], &job["exit_code"]), (&"cancelled".into(), &(-15).into()), "{job}");
    assert_eq!((rows(&job).len(), runs_of(&sandbox)), (2, 2), "{job}");
}

/// Leaves a grandchild in a session of its own that does not hear TERM.
const LEAVE_BEHIND: &str = "
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open('left.tmp', 'w').write(f'{os.getpid()}\\n'); os.rename('left.tmp', 'left')
        time.sleep(600)
    os._exit(0)
os.wait()
while not os.path.exists('left'): time.sleep(0.005)
";

#[test]
fn a_stop_between_two_runs_keeps_the_next_from_being_started() {
    let sandbox = Sandbox::new();
    sandbox.write("script.py", format!("{NUMBER}print(number)\n{LEAVE_BEHIND}"));
    let id = sandbox.detach(&["--bench", "--runs", "3", "--grace", "10m", "script.py"]);
    let left: u32 = sandbox.wait_for_file("left").parse().expect("is a pid");
    // The run has ended, and what it left behind has all the time in the world.
    let leader = crate::sandbox::pid_of(&sandbox.wait_for_status(&id, "running")["pid"]);
    sandbox.wait_until_gone(leader);
    sandbox.pyexec(["kill", "--now", &id]).expect_code(0);
    assert!(!is_alive(left), "what the run left behind has survived");
    let job = sandbox.show(&id);
    assert_eq!((&job["status"], &job["reason"]), (&"cancelled".into(), &"killed".into()), "{job}");
    assert_eq!((rows(&job).len(), runs_of(&sandbox), &rows(&job)[0]["exit_code"]), (1, 1, &0.into()), "{job}");
    sandbox.pyexec(["wait", &id]).expect_code(130);
}

#[test]
fn what_a_run_leaves_behind_is_gone_before_the_next_begins() {
    let sandbox = Sandbox::new();
    let second = "
if number == 2:
    left = int(open('left').read())
    print('gone' if not os.path.exists(f'/proc/{left}') else 'still there')
    sys.exit()
";
    sandbox.write("script.py", format!("{NUMBER}{second}{LEAVE_BEHIND}"));
    let view = measure(&sandbox, &["--runs", "2", "--grace", "1s", "script.py"]);
    assert_eq!(view["stdout"], "gone\n", "{view}");
}

#[test]
fn the_daemons_death_in_the_middle_changes_nothing() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    sandbox.write("script.py", format!("{NUMBER}{SECOND_WAITS}"));
    let id = sandbox.detach(&["--bench", "--runs", "3", "script.py"]);
    let second: u32 = sandbox.wait_for_file("second").parse().expect("is a pid");
    daemon.kill();
    assert!(is_alive(second), "the run has died with the daemon");
    daemon.start();
    // Told by the supervisor as soon as it is found again.
    sandbox.wait_until("the next daemon knows the run that goes on", || {
        let job = sandbox.show(&id);
        if job["pid"] == second && job["status"] == "running" { Ok(()) } else { Err(job) }
    });
    sandbox.write("go", "");
    let job = sandbox.finished(&id);
    assert_eq!((&job["status"], rows(&job).len()), (&"completed".into(), 3), "{job}");
    assert_eq!(sandbox.logs(&id), b"1\n2\n3\n");
    daemon.restart();
    assert_eq!(sandbox.show(&id)["benchmark"], job["benchmark"]);
}

#[test]
fn the_record_is_whole_when_no_daemon_was_there_to_see_the_end() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    sandbox.write("script.py", format!("{NUMBER}{SECOND_WAITS}"));
    let id = sandbox.detach(&["--bench", "--runs", "60", "--sample-interval", "1ms", "script.py"]);
    sandbox.wait_for_file("second");
    daemon.kill();
    sandbox.write("go", "");
    let record = sandbox.run_directory(&id).join("exit.json");
    sandbox.wait_until("the record is written", || if record.exists() { Ok(()) } else { Err("it is not there") });
    assert!(std::fs::metadata(&record).expect("is there").len() > 4096, "a record that always had room proves nothing");
    daemon.start();
    let job = sandbox.finished(&id);
    assert_eq!((&job["status"], rows(&job).len()), (&"completed".into(), 60), "{job}");
}

#[test]
fn a_run_that_goes_on_is_told_of_by_its_own_pid() {
    let sandbox = Sandbox::new();
    sandbox.write("script.py", format!("{NUMBER}{SECOND_WAITS}"));
    let id = sandbox.detach(&["--bench", "--runs", "2", "script.py"]);
    let second: u32 = sandbox.wait_for_file("second").parse().expect("is a pid");
    let first = sandbox.show(&id)["started_at"].clone();
    sandbox.wait_until("the pid is that of the second run", || {
        let job = sandbox.show(&id);
        if job["pid"] == second { Ok(()) } else { Err(job) }
    });
    sandbox.write("go", "");
    assert_eq!(sandbox.finished(&id)["started_at"], first, "it began with the first run");
}

#[test]
fn how_many_runs_are_over_is_the_progress_of_a_benchmark() {
    let sandbox = Sandbox::new();
    // Runs that follow each other within 100 ms are not worth a report.
    let lasting = "\nbegan = time.monotonic()\nwhile number == 1 and time.monotonic() < began + 0.2: pass\n";
    sandbox.write("script.py", format!("{NUMBER}{lasting}{SECOND_WAITS}"));
    let id = sandbox.detach(&["--bench", "--runs", "3", "--warmup", "1", "script.py"]);
    sandbox.wait_for_file("second");
    let progress = &sandbox.show(&id)["progress"];
    assert_eq!(
        (&progress["current"], &progress["total"], &progress["message"]),
        (&1.into(), &4.into(), &"run 2 of 4".into())
    );
    assert!(progress["eta_seconds"].as_f64().is_some_and(|left| left > 0.0), "{progress}");
    sandbox.write("go", "");
    // Of a script that says nothing itself there is nothing left to be said.
    assert_eq!(sandbox.finished(&id)["progress"], Value::Null);
}

#[test]
fn ten_megabytes_of_stderr_are_kept_of_each_run() {
    let sandbox = Sandbox::new();
    let code = "import sys; sys.stderr.write(('x' * 1023 + '\\n') * 10240)";
    let id = sandbox.detach(&["--bench", "--runs", "2", "-c", code]);
    let job = sandbox.finished(&id);
    assert_eq!((&job["stderr_bytes"], &job["benchmark"]["runs"]), (&(20 << 20).into(), &2.into()), "{job}");
}

/// With this on its stdin.
fn attend_with_stdin<'a>(sandbox: &'a Sandbox, arguments: &[&str], text: &str) -> Attended<'a> {
    let mut command = sandbox.cli(["run", "--no-uv", "--bench", "--runs", "3"].iter().chain(arguments));
    command.stdin(Stdio::piped());
    let mut run = sandbox.attend(command);
    std::io::Write::write_all(&mut run.stdin(), text.as_bytes()).expect("is read");
    run
}

#[test]
fn every_run_reads_the_same_stdin_from_its_beginning() {
    let sandbox = Sandbox::new();
    let text = "line\n".repeat(50_000);
    let code = "import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())";
    let ran = attend_with_stdin(&sandbox, &["--stdin", "-c", code], &text).end().expect_code(0);
    let printed = ran.text();
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 3, "{ran}");
    assert!(lines.iter().all(|line| *line == lines[0]), "{ran}");
    let length = "import sys; print(len(sys.stdin.read(10)), len(sys.stdin.read()))";
    let ran = attend_with_stdin(&sandbox, &["--stdin", "-c", length], &text).end().expect_code(0);
    assert_eq!(ran.text(), "10 249990\n".repeat(3));
    // Code, too.
    let ran = attend_with_stdin(&sandbox, &["-"], "print('from stdin')\n").end().expect_code(0);
    assert_eq!(ran.text(), "from stdin\n".repeat(3));
}

#[tokio::test]
async fn a_benchmark_that_can_not_be_is_refused() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let client = sandbox.client().await;
    let good = BenchmarkSpec::default();
    let cases = [
        (BenchmarkSpec { runs: 0, ..good }, StdinSource::Null, Leftovers::End, "runs"),
        (BenchmarkSpec { runs: 1_001, ..good }, StdinSource::Null, Leftovers::End, "runs"),
        (BenchmarkSpec { warmup_runs: 1_001, ..good }, StdinSource::Null, Leftovers::End, "warm-up runs"),
        (BenchmarkSpec { sample_interval_ms: 0, ..good }, StdinSource::Null, Leftovers::End, "sample interval"),
        (BenchmarkSpec { sample_interval_ms: 60_001, ..good }, StdinSource::Null, Leftovers::End, "sample interval"),
        (good, StdinSource::Open, Leftovers::End, "stdin"),
        (good, StdinSource::Null, Leftovers::Keep, "leftovers"),
    ];
    for (benchmark, stdin, leftovers, named) in cases {
        let mut submission = sandbox.submission("pass");
        submission.spec.benchmark = Some(benchmark);
        submission.spec.stdin = stdin;
        submission.spec.leftovers = leftovers;
        match client.submit(submission).await {
            Err(ClientError::Refused(Error::InvalidArgument { what, .. })) => {
                assert!(what.starts_with(named), "{benchmark:?}: {what}");
            }
            other => panic!("{benchmark:?} with {stdin:?} and {leftovers:?}: {other:?}"),
        }
    }
}

/// Two of them, of 0.5 s each. The kernel adds what they use to nobody's figures.
pub(crate) const UNWAITED: &str = "
import signal, subprocess, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
busy = 'import time\\nwhile time.process_time() < 0.5: pass'
for _ in range(2): subprocess.Popen([sys.executable, '-c', busy]).wait()
";

#[test]
fn children_that_nobody_waits_for_are_in_the_cpu_time_which_is_said_to_be_incomplete() {
    let sandbox = Sandbox::new();
    let document = measure(&sandbox, &["--runs", "2", "-c", UNWAITED]);
    let benchmark = &document["benchmark"];
    let note = benchmark["cpu_time_note"].as_str().unwrap_or_default();
    assert!(note.starts_with("the CPU time is incomplete: "), "{document}");
    for run in rows(&document) {
        let unwaited = number(&run["unwaited_cpu_seconds"]);
        assert!(unwaited > 0.3 && unwaited < 2.0, "{run}");
    }
    let mean = number(&benchmark["cpu_time_seconds"]["mean"]);
    assert!(mean > 0.3 && (number(&document["cpu_time_seconds"]) - mean).abs() < 1e-9, "{document}");
    // Who waits for his children is told nothing of the kind.
    let waits = UNWAITED.replace("SIG_IGN", "SIG_DFL");
    let document = measure(&sandbox, &["-c", &waits]);
    assert!(document["benchmark"]["cpu_time_note"].is_null(), "{document}");
    assert_eq!(number(&rows(&document)[0]["unwaited_cpu_seconds"]), 0.0, "{document}");
}
