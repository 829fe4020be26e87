//! What a job finds in its environment: whose variables, which Python, and what its imports bring along.

use std::path::Path;

use serde_json::json;

use crate::environment_sandbox::{EnvironmentSandbox, environment_of, names};
use crate::sandbox::{Ran, Sandbox, python};

fn prints(variables: &[&str]) -> String {
    format!("import os\nfor name in {variables:?}:\n    print(name, os.environ.get(name))\n")
}

#[test]
fn an_env_file_wins_over_the_caller_and_e_wins_over_both() {
    let mut sandbox = Sandbox::new();
    sandbox.set("CALLER", "caller");
    sandbox.set("FILE", "caller");
    sandbox.set("SET", "caller");
    let text = "\u{feff}# comment\nexport FILE=file\nSET='file'\nEXPANDED=\"${CALLER} and ${FILE}\"\n\
        DEFAULT=${NOWHERE:-default value}\nBARE=$CALLER\nSPACES=a b  # comment\nLINES=\"one\\ntwo\"\nNOTHING\n";
    sandbox.write("vars.env", text);
    let names = ["CALLER", "FILE", "SET", "EXPANDED", "DEFAULT", "BARE", "SPACES", "NOTHING"];
    let ran = sandbox.run(&["--env-file", "vars.env", "-e", "SET=set", "-c", &prints(&names)]).expect_code(0);
    let expected = "CALLER caller\nFILE file\nSET set\nEXPANDED caller and file\nDEFAULT default value\n\
        BARE $CALLER\nSPACES a b\nNOTHING None\n";
    assert_eq!(ran.text(), expected);
    let ran = sandbox.run(&["--env-file", "vars.env", "-c", "import os; print(os.environ['LINES'])"]).expect_code(0);
    assert_eq!(ran.text(), "one\ntwo\n");
}

#[test]
fn an_env_file_is_found_from_the_directory_of_the_job() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.file("below")).expect("can be made");
    sandbox.write("below/.env", "FROM=below\n");
    let ran = sandbox.run(&["--dir", "below", "--env-file", ".env", "-c", &prints(&["FROM"])]).expect_code(0);
    assert_eq!(ran.text(), "FROM below\n");
}

#[test]
fn an_env_file_that_can_not_be_read_is_refused_with_its_line_and_not_its_content() {
    let sandbox = Sandbox::new();
    sandbox.write("good.env", "A=1\n");
    for (text, line) in [
        ("A=1\nB=2\n=hunter2\n", "line 3"),
        ("A=1\ntoken: hunter2\n", "line 2"),
        ("A=1\n\n\nB=\"hunter2\nnever closed\n", "line 4"),
    ] {
        sandbox.write("bad.env", text);
        let ran = sandbox.run(&["--env-file", "bad.env", "-c", "open('it-ran', 'w')"]).expect_code(2);
        assert!(ran.stderr.contains(line) && ran.stderr.contains("bad.env"), "{text:?}: {ran}");
        assert!(!ran.stderr.contains("hunter2"), "{text:?}: {ran}");
    }
    let ran = sandbox.run(&["--env-file", "none.env", "-c", "open('it-ran', 'w')"]).expect_code(127);
    assert!(ran.stderr.contains("none.env"), "{ran}");
    let ran = sandbox.run(&["--env-file", ".", "-c", "open('it-ran', 'w')"]);
    assert!(ran.code == 2 || ran.code == 127, "{ran}");
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["total"], 0);
    assert!(!sandbox.file("it-ran").exists());
    let left = std::fs::read_dir(sandbox.paths().jobs()).map(|entries| entries.count()).unwrap_or(0);
    assert_eq!(left, 0);
}

#[test]
fn an_allowlist_keeps_the_callers_other_variables_out_but_not_what_was_set_for_the_job() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon_with(&[("PYEXEC_INHERIT_ENV", "PATH,HOME,LC_*")]);
    sandbox.write("vars.env", "FROM_FILE=${SECRET:-nothing}\n");
    let code = prints(&["SECRET", "LC_MINE", "GIVEN", "FROM_FILE"]) + "print('PATH' in os.environ)\n";
    let mut command = sandbox.cli(["run", "--no-uv", "--env-file", "vars.env", "-e", "GIVEN=set", "-c", code.as_str()]);
    command.envs([("SECRET", "caller"), ("LC_MINE", "caller"), ("GIVEN", "caller")]);
    let ran = sandbox.attend(command).end().expect_code(0);
    assert_eq!(ran.text(), "SECRET None\nLC_MINE caller\nGIVEN set\nFROM_FILE nothing\nTrue\n");
}

#[test]
fn a_job_has_the_callers_variables_and_not_the_daemons() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon_with(&[("ONLY_THE_DAEMONS", "daemon"), ("BOTH", "daemon")]);
    let code = prints(&["ONLY_THE_DAEMONS", "BOTH"]);
    let mut command = sandbox.cli(["run", "--no-uv", "-c", code.as_str()]);
    command.env("BOTH", "caller");
    let ran = sandbox.attend(command).end().expect_code(0);
    assert_eq!(ran.text(), "ONLY_THE_DAEMONS None\nBOTH caller\n");
}

#[test]
fn a_job_runs_in_its_environment_and_not_in_the_one_the_caller_had_activated() {
    let mut sandbox = EnvironmentSandbox::new();
    sandbox.set("VIRTUAL_ENV", "/nowhere/venv");
    sandbox.set("PYTHONHOME", "");
    let code = "import os, sys\nprint(sys.prefix)\nprint(os.environ['VIRTUAL_ENV'])\n\
        print(os.environ['PATH'].split(':')[0])\nprint(sys.executable)\nprint(sys.prefix != sys.base_prefix)\n";
    for with in [&["--with", "six"][..], &[]] {
        let job = sandbox.shown(&[with, &["-c", code]].concat());
        let prefix = sandbox.shelf().join(environment_of(&job));
        let prefix = prefix.display();
        let log = sandbox.logs(job["id"].as_str().expect("is text"));
        let expected = format!("{prefix}\n{prefix}\n{prefix}/bin\n{prefix}/bin/python\nTrue\n");
        assert_eq!(String::from_utf8_lossy(&log), expected, "{with:?}");
    }
}

#[test]
fn a_program_that_a_package_brings_is_found() {
    let sandbox = EnvironmentSandbox::new();
    let code = "import shutil, subprocess, sys\nprogram = shutil.which('wheel')\n\
        print(program.startswith(sys.prefix))\nsubprocess.run(['wheel', 'version'], check=True)\n";
    let ran = sandbox.run_with_uv(&["--with", "wheel==0.42.0", "-c", code]).expect_code(0);
    assert_eq!(ran.text(), "True\nwheel 0.42.0\n");
}

/// Writes down every TERM until it is killed, and who it is.
const COUNTS_TERMS: &str = "import os, signal, time\n\
    terms = os.open('terms', os.O_CREAT | os.O_APPEND | os.O_WRONLY)\n\
    signal.signal(signal.SIGTERM, lambda *_: os.write(terms, b'TERM\\n'))\n\
    open('pid', 'w').write(f'{os.getpid()}\\n')\n\
    while True: time.sleep(600)\n";

#[track_caller]
fn assert_one_term(sandbox: &EnvironmentSandbox, arguments: &[&str]) -> (String, String) {
    sandbox.write("counts.py", COUNTS_TERMS);
    let id = sandbox.detach_with_uv(&[arguments, &["counts.py"]].concat());
    let python = sandbox.wait_for_file("pid");
    let started = sandbox.show(&id)["pid"].to_string();
    // Long enough for one that is passed on to arrive, and all that came until the KILL is counted.
    sandbox.pyexec(["kill", "--grace", "500ms", &id]).expect_code(0);
    assert_eq!(sandbox.finished(&id)["status"], "cancelled");
    assert_eq!(std::fs::read_to_string(sandbox.file("terms")).expect("is there"), "TERM\n", "{arguments:?}");
    (python, started)
}

#[test]
fn a_signal_reaches_python_once_because_nothing_stands_in_between() {
    let sandbox = EnvironmentSandbox::new();
    let (python, started) = assert_one_term(&sandbox, &["--with", "six"]);
    assert_eq!(python, started, "what was started is not Python itself");
}

#[test]
fn a_signal_reaches_the_python_of_a_project_once() {
    let sandbox = EnvironmentSandbox::new();
    sandbox.write("pyproject.toml", "[project]\nname = \"tiny\"\nversion = \"0\"\nrequires-python = \">=3.8\"\n");
    let (python, started) = assert_one_term(&sandbox, &[]);
    assert_eq!(python, started, "what was started is not Python itself");
}

#[test]
fn a_signal_reaches_python_once_though_uv_stands_in_between() {
    let sandbox = EnvironmentSandbox::new();
    sandbox.write("pyproject.toml", "[project]\nname = \"tiny\"\nversion = \"0\"\nrequires-python = \">=3.8\"\n");
    let (python, started) = assert_one_term(&sandbox, &["--with", "six"]);
    assert_ne!(python, started, "uv was to be in between");
}

#[test]
fn what_a_script_imports_is_installed_where_it_is_known_and_reported_where_it_is_not() {
    let sandbox = EnvironmentSandbox::new();
    sandbox.write("beside.py", "");
    sandbox.write(
        "script.py",
        "'''import humanize'''\nimport json, os.path\nimport beside\nimport six\nfrom dateutil import parser\n\
        text = 'import idna'\ntry:\n    import pyexec_not_known_xyz\nexcept ImportError:\n    print('fine')\n",
    );
    let job = sandbox.shown(&["--auto-install", "--with", "python-dateutil==2.8.2", "script.py"]);
    assert_eq!(names(&job["resolved_dependencies"]), ["python-dateutil", "six"], "{job}");
    assert_eq!(job["unknown_imports"], json!(["pyexec_not_known_xyz"]), "{job}");
    let id = job["id"].as_str().expect("is text");
    let logs = sandbox.pyexec(["logs", id]).expect_code(0);
    assert_eq!(logs.text(), "fine\n");
    assert!(logs.stderr.contains("pyexec_not_known_xyz"), "{logs}");
    // It is off unless it is asked for.
    sandbox.run_with_uv(&["-c", "import six"]).expect_code(1);
    let job = sandbox.shown(&["--auto-install", "-c", "import six"]);
    assert_eq!(names(&job["resolved_dependencies"]), ["six"], "{job}");
}

#[test]
fn a_script_that_is_no_python_is_pythons_to_refuse() {
    let sandbox = EnvironmentSandbox::new();
    let ran = sandbox.run_with_uv(&["--auto-install", "-c", "import six import idna"]).expect_code(1);
    assert!(ran.stderr.contains("SyntaxError"), "{ran}");
}

#[test]
fn without_uv_all_that_does_not_need_it_works_and_the_rest_says_how_to_get_it() {
    let mut sandbox = Sandbox::new();
    let without = std::env::join_paths([python().parent().unwrap_or(Path::new("/")), Path::new("/bin")]);
    sandbox.set("PATH", without.expect("can be joined"));
    assert_eq!(sandbox.run(&["-c", "print(1)"]).expect_code(0).text(), "1\n");
    sandbox.pyexec(["env", "list"]).expect_code(0);
    sandbox.pyexec(["env", "prune"]).expect_code(0);
    let says_three_ways = |ran: Ran| {
        let hint = ran.stderr.lines().find(|line| line.starts_with("hint: ")).unwrap_or_default().to_owned();
        for way in ["https://astral.sh/uv", "pip", "cargo"] {
            assert!(hint.contains(way), "{way} is no way: {ran}");
        }
    };
    says_three_ways(sandbox.pyexec(["run", "--with", "six", "-c", "pass"]).expect_code(126));
    says_three_ways(sandbox.pyexec(["run", "-c", "pass"]).expect_code(126));
    says_three_ways(sandbox.pyexec(["env", "create", "tools", "--with", "six"]).expect_code(126));
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 1);
}
