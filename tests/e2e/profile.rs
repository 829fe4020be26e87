//! Profiled jobs: where the time went is told, and nothing else is different.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::environment_sandbox::pythons;
use crate::mcp_session::{Era, McpSession};
use crate::sandbox::{Sandbox, path_variable};

const WORKS: &str = "def slow():\n    return sum(i * i for i in range(300000))\n\
    def fast():\n    return 1\nfor _ in range(3):\n    slow()\nfast()\n";

/// Of the oldest and the newest version there is here.
fn interpreters() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = pythons()
        .into_iter()
        .filter_map(|(version, path)| Some((version.split('.').nth(1)?.parse().ok()?, path)))
        .collect();
    found.sort();
    let last = found.len().saturating_sub(1);
    found.into_iter().enumerate().filter(|(at, _)| *at == 0 || *at == last).map(|(_, (_, path))| path).collect()
}

/// `python3` of this version, first on `PATH`.
fn directory_of(python: &Path) -> PathBuf {
    python.parent().expect("lies in a directory").to_owned()
}

fn function<'a>(rows: &'a Value, name: &str) -> &'a Value {
    let rows = rows.as_array().expect("is an array");
    let named = |row: &&Value| row["function"].as_str().is_some_and(|function| function.contains(name));
    rows.iter().find(named).unwrap_or_else(|| panic!("no {name} in {rows:?}"))
}

#[test]
fn the_time_is_told_by_function_and_kept_for_pstats() {
    let sandbox = Sandbox::new();
    sandbox.write("works.py", WORKS);
    for python in interpreters() {
        let path = path_variable(&directory_of(&python));
        let mut command = sandbox.cli(["run", "--no-uv", "--profile", "--top", "5", "--json", "works.py"]);
        let ran = sandbox.attend({
            command.env("PATH", &path);
            command
        });
        let result = ran.end().expect_code(0).json();
        let profile = &result["profile"];
        assert_eq!(profile["by_cumulative"].as_array().map(Vec::len), Some(5), "{profile}");
        let slow = function(&profile["by_cumulative"], "works.py:1(slow)");
        assert_eq!((&slow["ncalls"], &slow["primitive_calls"]), (&3.into(), &3.into()));
        function(&profile["by_own"], "<genexpr>");
        assert_eq!(profile["artifact"], "profile.prof");
        let paths: Vec<&str> = result["artifacts"]
            .as_array()
            .expect("there are some")
            .iter()
            .filter_map(|artifact| artifact["path"].as_str())
            .collect();
        assert_eq!(paths, ["profile.json", "profile.prof"]);
        let id = result["job_id"].as_str().expect("is text");
        sandbox.pyexec(["artifacts", id, "-o", "out", "--force"]).expect_code(0);
        let mut reader = sandbox.command(&python);
        reader.args(["-c", "import pstats; pstats.Stats('out/profile.prof').sort_stats('cumtime').print_stats(5)"]);
        let read = sandbox.attend(reader).end().expect_code(0).text();
        assert!(read.contains("(slow)"), "{read}");
    }
    let ran = sandbox.run(&["--profile", "-c", "print('out')"]).expect_code(0);
    assert_eq!(ran.text(), "out\n");
    assert!(ran.stderr.contains("by cumulative time:") && ran.stderr.contains("by own time:"), "{ran}");
}

/// What Python does to print a traceback is not what was to be profiled, and a directory that is gone is no reason to
/// have none.
#[test]
fn a_script_that_fails_is_profiled_and_so_is_one_whose_directory_is_gone() {
    let sandbox = Sandbox::new();
    sandbox.write("fails.py", "def broken():\n    1 / 0\nbroken()\n");
    let gone = "import os, tempfile\nplace = tempfile.mkdtemp()\nos.chdir(place)\nos.rmdir(place)\n\
                def \u{1d44e}bc(): pass\n\u{1d44e}bc()";
    for python in interpreters() {
        let profile = |arguments: &[&str]| {
            let mut command =
                sandbox.cli(["run", "--no-uv", "--profile", "--top", "9", "--json"].iter().chain(arguments));
            command.env("PATH", path_variable(&directory_of(&python)));
            sandbox.attend(command).end().json()["profile"].clone()
        };
        let failed = profile(&["fails.py"]);
        function(&failed["by_cumulative"], "fails.py:1(broken)");
        assert!(!failed.to_string().contains("traceback") && !failed.to_string().contains("linecache"), "{failed}");
        let gone = profile(&["-c", gone]);
        assert_eq!(gone["problem"], Value::Null, "{gone}");
    }
}

/// How it ends, what it says, and what it finds of itself.
#[test]
fn a_profiled_script_does_what_it_does_without() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.file("package")).expect("can be made");
    let looks =
        "import sys, os\nprint(sys.argv, sys.path[0], __name__, globals().get('__file__'), sorted(globals()))\n";
    sandbox.write("looks.py", looks);
    sandbox.write("package/__main__.py", looks);
    sandbox.write("raises.py", "def f():\n    raise ValueError('wrong')\nf()\n");
    sandbox.write("exits.py", "import sys\nprint('going')\nsys.exit(7)\n");
    sandbox.write("says.py", "import sys\nsys.exit('a message')\n");
    sandbox.write("interrupted.py", "raise KeyboardInterrupt\n");
    // What the profiler must not fall over.
    for shadow in ["profile.py", "cProfile.py", "json.py", "pstats.py"] {
        sandbox.write(shadow, "raise RuntimeError('it is the wrong one')\n");
    }
    let cases: [&[&str]; 9] = [
        &["looks.py", "a", "b c"],
        &["package", "x"],
        &["-c", looks, "x"],
        &["raises.py"],
        &["exits.py"],
        &["says.py"],
        &["interrupted.py"],
        &["-c", "import os; os._exit(9)"],
        &["-c", "syntax error("],
    ];
    for python in interpreters() {
        let path = path_variable(&directory_of(&python));
        for case in cases {
            let run = |options: &[&str]| {
                let mut command = sandbox.cli([&["run", "--no-uv", "--json"], options, case].concat());
                command.env("PATH", &path);
                let ran = sandbox.attend(command).end();
                let view = ran.json();
                (ran.code, view["stdout"].clone(), view["stderr"].clone(), view["exit_code"].clone(), view)
            };
            let (plain, profiled) = (run(&[]), run(&["--profile"]));
            assert_eq!(
                (&plain.0, &plain.1, &plain.2, &plain.3),
                (&profiled.0, &profiled.1, &profiled.2, &profiled.3),
                "{case:?} with {}",
                python.display()
            );
            let profile = &profiled.4["profile"];
            let gone = case.iter().any(|word| word.contains("_exit"));
            assert_eq!(profile["problem"].is_string(), gone, "{case:?}: {profile}");
            assert!(plain.4.get("profile").is_none());
        }
    }
}

#[test]
fn what_is_stopped_leaves_the_profile_so_far_or_says_why_there_is_none() {
    let sandbox = Sandbox::new();
    let code = "import time\ndef wait():\n    while True: time.sleep(0.01)\nprint('x' * 10)\nwait()";
    for python in interpreters() {
        let mut command = sandbox.cli(["run", "--no-uv", "--profile", "--json", "--timeout", "1s", "-c", code]);
        command.env("PATH", path_variable(&directory_of(&python)));
        let ran = sandbox.attend(command).end().expect_code(124).json();
        assert_eq!((&ran["exit_code"], &ran["reason"]), (&json!(-15), &"timed_out".into()), "{ran}");
        function(&ran["profile"]["by_cumulative"], "(wait)");
    }
    let ran = sandbox.run(&["--profile", "-c", "import os; os.kill(os.getpid(), 9)"]).expect_code(137);
    assert!(ran.stderr.contains("profile: no profile was written: signal 9"), "{ran}");
    // A handler of its own is the script's business.
    let own = "import signal, sys, os\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(4))\n\
        os.kill(os.getpid(), signal.SIGTERM)\n";
    let ran = sandbox.run(&["--profile", "--json", "-c", own]).expect_code(4).json();
    assert_eq!(ran["profile"]["artifact"], "profile.prof", "{ran}");
    let forks = "import os, time, signal\npid = os.fork()\nif pid == 0: time.sleep(600)\n\
        os.kill(pid, signal.SIGTERM); print(os.wait()[1])\n";
    let ran = sandbox.run(&["--profile", "--json", "-c", forks]).expect_code(0).json();
    assert_eq!((&ran["stdout"], &ran["profile"]["artifact"]), (&"15\n".into(), &"profile.prof".into()), "{ran}");
}

#[test]
fn a_profile_is_no_benchmark_and_a_summary_that_is_none_is_said_to_be() {
    let sandbox = Sandbox::new();
    sandbox.run(&["--profile", "--bench", "-c", "pass"]).expect_code(2);
    let forged = "import os, atexit\np = os.environ['PYEXEC_ARTIFACTS']\nopen(p + '/profile.json', 'w').write('{}')\nos._exit(0)";
    let ran = sandbox.run(&["--profile", "--json", "-c", forged]).expect_code(0).json();
    let problem = ran["profile"]["problem"].as_str().unwrap_or_default();
    assert!(problem.contains("profile.json cannot be read"), "{ran}");
}

#[test]
fn agents_get_the_tables() {
    let uv = crate::uv::sandbox_with_uv();
    uv.write("works.py", WORKS);
    let mut session = McpSession::open(&uv, Era::Stateless);
    let arguments = json!({"script_path": "works.py", "directory": uv.work(), "top": 3});
    let text = session.markdown("py_profile_script", arguments.clone());
    assert!(text.contains("by cumulative time:") && text.contains("(slow)"), "{text}");
    let fields = session.structured("py_profile_script", arguments);
    assert_eq!(fields["profile"]["by_own"].as_array().map(Vec::len), Some(3), "{fields}");
    let status = session.structured("py_job_status", json!({"job_id": fields["job_id"]}));
    assert_eq!(status["job"]["result"]["profile"], fields["profile"]);
}
