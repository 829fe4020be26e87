//! How far a job has got: as it says itself, and as it draws it.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::environment_sandbox::EnvironmentSandbox;
use crate::mcp_session::{Era, McpSession};
use crate::python_start::interpreters;
use crate::sandbox::{Sandbox, manifest_directory, path_variable};

/// Reports, says so in a file, and waits for the next.
const REPORTS: &str = "
import os, time
from pyexec_progress import progress
def until(name):
    while not os.path.exists(name): time.sleep(0.005)
progress(3, 10, 'third')
open('said', 'w').write('3\\n')
until('go')
progress(7, 10, 'seventh')
open('said-more', 'w').write('7\\n')
until('end')
";

/// Draws what it is given, and waits.
const DRAWS: &str = "
import os, sys, time
sys.stderr.write(sys.argv[1])
sys.stderr.flush()
open('drawn', 'w').write('x\\n')
while not os.path.exists('end'): time.sleep(0.005)
";

fn module() -> PathBuf {
    manifest_directory().join("../python/src/startup/pyexec_progress.py")
}

/// Current, total and message.
fn told(progress: &Value) -> (Option<f64>, Option<f64>, Option<&str>) {
    (progress["current"].as_f64(), progress["total"].as_f64(), progress["message"].as_str())
}

#[track_caller]
fn assert_told(job: &Value, current: f64, total: f64, message: &str) {
    assert_eq!(told(&job["progress"]), (Some(current), Some(total), Some(message)), "{job}");
}

/// Waits for what a job that draws from time to time has drawn in the end.
#[track_caller]
fn wait_until_told(sandbox: &Sandbox, id: &str, wanted: (Option<f64>, Option<f64>, Option<&str>)) -> Value {
    sandbox.wait_until(&format!("job {id} is at {wanted:?}"), || {
        let job = sandbox.show(id);
        if told(&job["progress"]) == wanted { Ok(job) } else { Err(job["progress"].to_string()) }
    })
}

#[test]
fn a_job_says_how_far_it_is_in_every_interpreter_and_everybody_is_shown_it() {
    for interpreter in interpreters() {
        let sandbox = Sandbox::new();
        let mut command = sandbox.cli(["run", "--no-uv", "-d", "-c", REPORTS]);
        command.env("PATH", path_variable(interpreter.parent().expect("lies in a directory")));
        let id = sandbox.attend(command).end().expect_code(0).text().trim_end().to_owned();
        sandbox.wait_for_file("said");
        let job = sandbox.show(&id);
        let fields: Vec<&String> = job["progress"].as_object().expect("is there").keys().collect();
        assert_eq!(fields, ["current", "eta_seconds", "message", "rate", "total"]);
        assert_told(&job, 3.0, 10.0, "third");
        assert_eq!(job["progress"]["current"].to_string(), "3");
        let listed = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0].clone();
        assert_told(&listed, 3.0, 10.0, "third");
        let table = sandbox.pyexec(["jobs"]).text();
        assert!(table.contains("PROGRESS") && table.contains(" 30%"), "{table}");
        let shown = sandbox.pyexec(["show", &id]).text();
        assert!(shown.contains("30% (3/10), third"), "{shown}");
        sandbox.write("go", "");
        sandbox.wait_for_file("said-more");
        let job = sandbox.show(&id);
        assert_told(&job, 7.0, 10.0, "seventh");
        assert!(job["progress"]["rate"].as_f64().is_some_and(|rate| rate > 0.0), "{job}");
        assert!(job["progress"]["eta_seconds"].as_f64().is_some_and(|eta| eta > 0.0), "{job}");
        sandbox.write("end", "");
        let job = sandbox.finished(&id);
        assert_eq!(
            (&job["status"], &job["stdout_bytes"], &job["stderr_bytes"]),
            (&"completed".into(), &0.into(), &0.into())
        );
        assert_told(&job, 7.0, 10.0, "seventh");
        assert_eq!(job["progress"]["eta_seconds"], Value::Null, "nothing is to be expected of it");
    }
}

#[test]
fn progress_survives_the_daemon_and_is_kept_with_the_job() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let reports = sandbox.detach(&["-c", REPORTS]);
    let draws = sandbox.detach(&["-c", DRAWS, "\r[##--------] 20/100\r[####------] 40/100"]);
    let quiet = sandbox.detach(&["-c", "print('3/4 cup of sugar')"]);
    sandbox.wait_for_file("said");
    sandbox.wait_for_file("drawn");
    wait_until_told(&sandbox, &draws, (Some(40.0), Some(100.0), None));
    daemon.restart();
    assert_told(&sandbox.show(&reports), 3.0, 10.0, "third");
    assert_eq!(told(&sandbox.show(&draws)["progress"]), (Some(40.0), Some(100.0), None));
    daemon.kill();
    sandbox.write("go", "");
    sandbox.wait_for_file("said-more");
    sandbox.write("end", "");
    daemon.start();
    let assert_kept = || {
        assert_told(&sandbox.finished(&reports), 7.0, 10.0, "seventh");
        assert_eq!(told(&sandbox.finished(&draws)["progress"]), (Some(40.0), Some(100.0), None));
        assert_eq!(sandbox.finished(&quiet)["progress"], Value::Null);
        let listed = sandbox.pyexec(["jobs", "--json"]).json();
        let all = |row: usize| told(&listed["jobs"][row]["progress"]);
        assert_eq!((all(2).0, all(1).0, all(0).0), (Some(7.0), Some(40.0), None), "{listed}");
    };
    assert_kept();
    // The index is made anew from the run directories.
    daemon.kill();
    let state = sandbox.paths().state;
    for entry in std::fs::read_dir(&state).expect("is there").flatten() {
        if entry.file_name().to_string_lossy().starts_with("jobs.sqlite3") {
            std::fs::remove_file(entry.path()).expect("can be removed");
        }
    }
    daemon.start();
    assert_kept();
    // And what has been looked at once does not depend on the output any more.
    for id in [&reports, &draws] {
        let directory = sandbox.run_directory(id);
        for name in ["stderr.0", "progress"] {
            let _ = std::fs::remove_file(directory.join(name));
        }
    }
    assert_kept();
}

#[test]
fn the_terminal_sequence_is_understood_and_ordinary_output_is_not_mistaken() {
    for (text, wanted) in [
        ("\x1b]9;4;1;45\x07", (Some(45.0), Some(100.0), None)),
        ("\x1b]9;4;1;45\x1b\\[####------] 40/100\n", (Some(45.0), Some(100.0), None)),
        ("\x1b]9;4;1;45\x07\x1b]9;4;0;0\x07", (None, None, None)),
        ("add 3/4 cup\n2024-03-10 GET /a/1/2 200\ntests/test_45.py::test_1_of_2 PASSED\n", (None, None, None)),
    ] {
        let sandbox = Sandbox::new();
        let id = sandbox.detach(&["-c", DRAWS, text]);
        sandbox.wait_for_file("drawn");
        // All of it has arrived.
        sandbox.wait_until("it is there", || {
            let job = sandbox.show(&id);
            if job["stderr_bytes"] == text.len() { Ok(()) } else { Err(job.to_string()) }
        });
        assert_eq!(told(&sandbox.show(&id)["progress"]), wanted, "{text:?}");
        sandbox.write("end", "");
        sandbox.finished(&id);
    }
}

#[test]
fn a_module_of_that_name_that_the_user_has_is_the_one_that_is_imported() {
    let sandbox = Sandbox::new();
    sandbox.write("pyexec_progress.py", "def progress(*_): print('my own')\n");
    sandbox.write("script.py", "import pyexec_progress; pyexec_progress.progress(1)\n");
    assert_eq!(sandbox.run(&["script.py"]).expect_code(0).text(), "my own\n");
    // A module that nobody has is as unknown as ever, and ours is there however lines are buffered.
    let code = "import importlib.util as u; print(u.find_spec('nobody_has_this'), u.find_spec('pyexec_progress').name)";
    for buffering in ["line", "full"] {
        std::fs::create_dir_all(sandbox.file("empty")).expect("can be made");
        let ran = sandbox.run(&["--dir", "empty", "--buffering", buffering, "-c", code]).expect_code(0);
        assert_eq!(ran.text(), "None pyexec_progress\n");
    }
}

#[test]
fn what_a_job_starts_reports_for_it_too() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "script.py",
        "
import json, multiprocessing, os, subprocess, sys
from pyexec_progress import progress

def said():
    with open(os.environ['PYEXEC_PROGRESS']) as file: return json.load(file)['message']

def work(number, name):
    for i in range(50): progress(i, 100, 'on the way')
    progress(number, 10, name)

if __name__ == '__main__':
    how = sys.argv[1]
    if how == 'os.fork':
        child = os.fork()
        if child == 0:
            work(3, how)
            sys.exit()
        code = os.waitpid(child, 0)[1]
    elif how == 'program':
        code = subprocess.call([sys.executable, '-c', 'from script import work; work(1, \"program\")'])
    else:
        child = multiprocessing.get_context(how).Process(target=work, args=(2, how))
        child.start()
        child.join()
        code = child.exitcode
    print(code, said())
",
    );
    for interpreter in interpreters() {
        for how in ["fork", "spawn", "forkserver", "os.fork", "program"] {
            let mut command = sandbox.cli(["run", "--no-uv", "script.py", how]);
            command.env("PATH", path_variable(interpreter.parent().expect("lies in a directory")));
            let ran = sandbox.attend(command).end().expect_code(0);
            assert_eq!(ran.text(), format!("0 {how}\n"), "{}: {ran}", interpreter.display());
        }
    }
}

#[test]
fn outside_of_a_job_a_copy_of_the_module_does_nothing() {
    let sandbox = Sandbox::new();
    std::fs::copy(module(), sandbox.file("pyexec_progress.py")).expect("can be copied");
    let code = "import os, sys, threading; before = (dict(os.environ), list(sys.path))
from pyexec_progress import progress
progress(1, 2, 'm'); progress(object(), 'x', []); progress(float('nan'))
assert before == (dict(os.environ), list(sys.path)) and threading.active_count() == 1";
    for interpreter in interpreters() {
        for place in [None, Some("/nowhere/at/all"), Some("/dev/null/x")] {
            let mut command = sandbox.command(&interpreter);
            command.args(["-B", "-c", code]);
            if let Some(place) = place {
                command.env("PYEXEC_PROGRESS", place);
            }
            let ran = sandbox.attend(command).end().expect_code(0);
            assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("", ""), "{}", interpreter.display());
        }
    }
    assert_eq!(std::fs::read_dir(sandbox.work()).expect("is there").count(), 1, "it has written something");
}

#[test]
fn what_can_not_be_reported_harms_nobody() {
    let sandbox = Sandbox::new();
    let code = "
import os
from pyexec_progress import progress
class Strange:
    def __str__(self): raise RuntimeError('no')
    __float__ = __str__
for given in [('x',), (None,), (float('inf'), 3), (1, 'y'), (1, 2, Strange()), (Strange(),), (10 ** 400,), (1, float('nan'))]:
    progress(*given)
print(os.path.exists(os.environ['PYEXEC_PROGRESS']))
progress(True, 2, 'm' * 1000000)
";
    let ran = sandbox.run(&["-c", code]).expect_code(0);
    assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("False\n", ""));
    let progress = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0]["progress"].clone();
    assert_told(&json!({"progress": progress}), 1.0, 2.0, &"m".repeat(200));
}

#[test]
fn a_job_that_puts_something_else_in_the_place_of_its_report_is_not_believed() {
    let sandbox = Sandbox::new();
    sandbox.write("elsewhere", "{\"current\": 3}");
    for (number, make) in [
        "os.mkfifo(path)",
        "os.symlink(os.path.abspath('elsewhere'), path)",
        "os.mkdir(path)",
        "open(path, 'w').write('{' * 99999)",
    ]
    .into_iter()
    .enumerate()
    {
        let code = format!(
            "import os, time\npath = os.environ['PYEXEC_PROGRESS']\n{make}\nopen('made-{number}', 'w').write('x\\n')\n\
             while not os.path.exists('end'): time.sleep(0.005)"
        );
        let id = sandbox.detach(&["-c", &code]);
        sandbox.wait_for_file(&format!("made-{number}"));
        assert_eq!(sandbox.show(&id)["progress"], Value::Null, "{make}");
        assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0]["progress"], Value::Null, "{make}");
    }
    sandbox.write("end", "");
}

/// Each store is a rename, made at the time that the record says.
/// The last of many reports in a moment is not left for the next one, which may be an hour away.
#[test]
fn what_a_burst_of_reports_came_to_is_known_without_another() {
    let code = "
import os, time, warnings
warnings.simplefilter('error')
from pyexec_progress import progress
for i in range(1000): progress(i, 1000, 'many')
if os.fork() == 0: os._exit(0)
os.wait()
for step in 'abcd': progress(ord(step) - 96, 9, 'caf\\udce9 ' + step)
while not os.path.exists('end'): time.sleep(0.005)
import threading
assert threading.active_count() == 1
";
    for interpreter in interpreters() {
        let sandbox = Sandbox::new();
        let mut command = sandbox.cli(["run", "--no-uv", "-d", "-c", code]);
        command.env("PATH", path_variable(interpreter.parent().expect("lies in a directory")));
        let id = sandbox.attend(command).end().expect_code(0).text().trim_end().to_owned();
        wait_until_told(&sandbox, &id, (Some(4.0), Some(9.0), Some("caf? d")));
        sandbox.write("end", "");
        let job = sandbox.finished(&id);
        assert_eq!((&job["exit_code"], &job["stderr_bytes"]), (&0.into(), &0.into()), "{job}");
    }
}

#[test]
fn no_more_than_ten_reports_a_second_are_stored_whatever_the_script_does() {
    let sandbox = Sandbox::new();
    let code = "
import json, os
import pyexec_progress
rename = os.rename
def counted(source, target):
    at = json.load(open(source))['at']
    rename(source, target)
    with open('stores', 'a') as file: file.write(f'{at}\\n')
os.rename = counted
open('stores', 'w').close()
children = [os.fork() for _ in range(2)]
me = children.index(0) if 0 in children else 2
i = 0
while open('stores').read().count('\\n') < 20:
    for _ in range(1000):
        i += 1
        pyexec_progress.progress(i, None, str(me))
if 0 not in children:
    for child in children: os.waitpid(child, 0)
";
    let code = code.replace(
        "children = [os.fork() for _ in range(2)]",
        "children = [os.fork()]\nif 0 not in children: children.append(os.fork())",
    );
    sandbox.run(&["-c", &code]).expect_code(0);
    let stores = std::fs::read_to_string(sandbox.file("stores")).expect("is there");
    let mut times: Vec<f64> = stores.lines().map(|line| line.parse().expect("is a time")).collect();
    times.sort_by(f64::total_cmp);
    assert!(times.len() >= 20);
    for window in times.windows(11) {
        assert!(window[10] - window[0] >= 1.0, "eleven in less than a second: {window:?}");
    }
}

#[test]
fn who_waits_through_mcp_is_told_how_far_the_job_is() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    // Numbers that are larger than the seconds that may have been told of before.
    let code = REPORTS.replace("(3, 10,", "(300, 1000,").replace("(7, 10,", "(700, 1000,");
    let arguments = session.script(&code);
    let params = json!({"name": "py_run_script_in_dir", "arguments": arguments, "_meta": {"progressToken": "mine"}});
    let call = session.request("tools/call", params);
    let mut last = 0.0;
    let mut wait = |session: &mut McpSession, current: f64, message: &str| loop {
        let told = session.notification("notifications/progress")["params"].clone();
        let progress = told["progress"].as_f64().expect("is a number");
        assert!(progress > last, "{told} after {last}");
        last = progress;
        if told["message"].as_str().is_some_and(|said| said.contains(message)) {
            assert_eq!((told["total"].as_f64(), progress.floor()), (Some(1000.0), current), "{told}");
            return;
        }
    };
    wait(&mut session, 300.0, "30% (300/1000), third");
    // Told of again and again, with no more than the number before.
    wait(&mut session, 300.0, "third");
    let jobs = session.structured("py_list_running_jobs", json!({}));
    assert_told(&jobs["jobs"][0], 300.0, 1000.0, "third");
    let id = jobs["jobs"][0]["job_id"].clone();
    assert_told(&session.structured("py_job_status", json!({"job_id": id}))["job"], 300.0, 1000.0, "third");
    assert_told(&session.structured("py_list_jobs", json!({}))["jobs"][0], 300.0, 1000.0, "third");
    sandbox.write("go", "");
    wait(&mut session, 700.0, "seventh");
    sandbox.write("end", "");
    session.answer(call);
    let status = session.structured("py_job_status", json!({"job_id": id, "wait_seconds": 45}));
    assert_told(&status["job"], 700.0, 1000.0, "seventh");
}

const REAL_BARS: &str = "
import os, sys, time
kind = sys.argv[1]
def wait():
    open('at-' + kind, 'w').write('x\\n')
    while not os.path.exists('end'): time.sleep(0.005)
if 'TTY_COMPATIBLE' in os.environ:
    # What is drawn is to be read here, not what is reported of it.
    import rich.live
    assert rich.live._RefreshThread.__name__ == 'Refreshing'
    rich.live._RefreshThread = rich.live._RefreshThread.__base__
if kind.startswith('tqdm'):
    from tqdm.auto import tqdm, trange
    if kind == 'tqdm-known':
        for i in tqdm(range(20), desc='items', mininterval=0, miniters=1):
            if i == 9: wait()
    elif kind == 'tqdm-unknown':
        for i in tqdm((i for i in range(20)), desc='lines', mininterval=0, miniters=1):
            if i == 9: wait()
    elif kind == 'tqdm-nested':
        for i in trange(4, desc='outer', mininterval=0, miniters=1):
            for j in trange(10, desc='inner', leave=bool(i % 2), mininterval=0, miniters=1):
                if (i, j) == (2, 5): wait()
elif kind == 'rich-track':
    from rich.progress import track
    for i in track(range(20), description='Working'):
        if i == 9: wait()
elif kind == 'rich-unknown':
    from rich.progress import Progress
    with Progress() as progress:
        task = progress.add_task('Polling', total=None)
        wait()
elif kind == 'rich-tasks':
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    with Progress(TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn()) as progress:
        outer, inner = progress.add_task('Outer', total=4), progress.add_task('Inner', total=10)
        for i in range(4):
            progress.reset(inner)
            for j in range(10):
                if (i, j) == (2, 5): wait()
                progress.advance(inner)
            progress.advance(outer)
elif kind == 'rich-fails':
    from rich.progress import Progress
    with Progress() as progress:
        progress.add_task('[bold]Fetching[/bold] it', total=3, completed=1)
        print('inside', flush=True)
        progress.advance(99)
";

/// What [`REAL_BARS`] is told of in the middle of it: current, total, message.
type Told = (&'static str, Option<f64>, Option<f64>, &'static str);

/// Each kind is known as far as it is while it waits; in the end all of it is done, and that is kept.
#[track_caller]
fn assert_bars_are_known(options: &[&str], kinds: &[Told]) {
    let sandbox = EnvironmentSandbox::new();
    sandbox.write("bars.py", REAL_BARS);
    let with = ["--with", "tqdm", "--with", "rich"];
    let start = |kind| sandbox.detach_with_uv(&[&with[..], options, &["bars.py", kind]].concat());
    let started: Vec<(String, Told)> = kinds.iter().map(|told| (start(told.0), *told)).collect();
    for (id, (kind, current, total, message)) in &started {
        sandbox.wait_for_file(&format!("at-{kind}"));
        wait_until_told(&sandbox, id, (*current, *total, Some(message)));
    }
    sandbox.write("end", "");
    for (id, (kind, _, total, _)) in &started {
        let job = sandbox.finished(id);
        assert_eq!(job["exit_code"], 0, "{job}");
        // Nothing is left to do but of that which nobody knew the end of.
        if total.is_some() {
            assert_eq!(job["progress"]["current"], job["progress"]["total"], "{kind}: {job}");
        } else {
            assert_eq!(job["progress"]["total"], Value::Null, "{kind}: {job}");
        }
    }
}

#[test]
fn bars_that_the_real_tqdm_and_rich_draw_are_read_at_every_width() {
    for columns in ["COLUMNS=40", "COLUMNS=80", "COLUMNS=200"] {
        assert_bars_are_known(
            &["-e", columns, "-e", "TTY_COMPATIBLE=1"],
            &[
                ("tqdm-known", Some(9.0), Some(20.0), "items"),
                ("tqdm-unknown", Some(9.0), None, "lines"),
                ("tqdm-nested", Some(2.0), Some(4.0), "outer"),
                ("rich-track", Some(45.0), Some(100.0), "Working"),
                ("rich-unknown", None, None, "Polling"),
                ("rich-tasks", Some(2.0), Some(4.0), "Outer"),
            ],
        );
    }
}

/// Away from a terminal rich draws no bars.
#[test]
fn how_far_the_bars_of_rich_are_is_known_though_they_are_not_drawn() {
    assert_bars_are_known(
        &[],
        &[
            ("rich-track", Some(9.0), Some(20.0), "Working"),
            ("rich-unknown", Some(0.0), None, "Polling"),
            ("rich-tasks", Some(2.0), Some(4.0), "Outer"),
        ],
    );
}

/// Also not of an error, whose traceback names every function on the way.
#[test]
fn not_a_byte_of_what_a_script_with_rich_prints_is_another() {
    let sandbox = EnvironmentSandbox::new();
    let script = sandbox.write("bars.py", REAL_BARS);
    sandbox.write("end", "");
    let which = ["run", "--with", "rich", "--with", "tqdm", "-c", "import sys; print(sys.executable)"];
    let python = sandbox.pyexec(which).expect_code(0).text();
    for kind in ["rich-track", "rich-tasks", "rich-fails"] {
        let id = sandbox.detach_with_uv(&["--with", "rich", "--with", "tqdm", &script.display().to_string(), kind]);
        let job = sandbox.finished(&id);
        let mut plain = sandbox.command(python.trim_end());
        plain.arg(&script).arg(kind);
        let plain = sandbox.attend(plain).end();
        assert_eq!(job["exit_code"], plain.code, "{job}");
        assert_eq!(String::from_utf8_lossy(&sandbox.logs(&id)), plain.text(), "{kind}");
        let stderr = sandbox.pyexec(["logs", &id, "--stderr"]).expect_code(0).stderr;
        let said_by_uv = stderr.find("Traceback").unwrap_or(stderr.len());
        let in_plain = plain.stderr.find("Traceback").unwrap_or(plain.stderr.len());
        assert_eq!(stderr[said_by_uv..], plain.stderr[in_plain..], "{kind}");
        if kind == "rich-fails" {
            assert!(plain.code == 1 && stderr.contains("KeyError: 99"), "{stderr}");
            assert_eq!(told(&job["progress"]), (Some(1.0), Some(3.0), Some("Fetching it")), "{job}");
        }
    }
}

#[test]
fn a_job_with_packages_of_its_own_can_report_too() {
    let sandbox = EnvironmentSandbox::new();
    let code = "from pyexec_progress import progress; import six; progress(1, 2, six.__name__)";
    let job = sandbox.shown(&["--with", "six", "-c", code]);
    assert_told(&job, 1.0, 2.0, "six");
}
