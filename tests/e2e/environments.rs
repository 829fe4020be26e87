//! A job gets the packages and the Python it asks for, and a second one that asks for the same pays nothing for it.

use serde_json::json;

use crate::environment_sandbox::{EnvironmentSandbox, environment_of, names, pythons};
use crate::mcp_session::{ERAS, McpSession};
use crate::sandbox::python;
use crate::wheels::{self, sandbox_without_index, wheel};

const IMPORTS_SIX: &str = "import six, sys; print(six.__version__, '%d.%d' % sys.version_info[:2])";
const SAYS_WHICH_PYTHON: &str = "import sys; print('%d.%d' % sys.version_info[:2])";

#[test]
fn results_name_the_python_and_the_packages_that_are_installed() {
    let sandbox = EnvironmentSandbox::new();
    let code = "import importlib.metadata as m, platform\n\
        print(platform.python_version())\n\
        print(*sorted(f'{d.metadata[\"Name\"].lower()}=={d.version}' for d in m.distributions()))\n";
    let view = sandbox.run_with_uv(&["--json", "--with", "humanize==4.9.0", "--with", "six", "-c", code]);
    let view = view.expect_code(0).json();
    let lines: Vec<&str> = view["stdout"].as_str().expect("is text").lines().collect();
    assert_eq!(view["python_version_used"], lines[0], "{view}");
    assert_eq!(view["resolved_dependencies"], json!(lines[1].split(' ').collect::<Vec<_>>()), "{view}");
    assert!(lines[1].starts_with("humanize==4.9.0 six=="), "{view}");
    assert_eq!(view["execution_strategy"], "uv-run");
    let job = sandbox.show(view["job_id"].as_str().expect("is text"));
    for field in ["python_version_used", "resolved_dependencies"] {
        assert_eq!(job[field], view[field], "{field}");
    }
    assert_eq!(job["dependencies"], json!(["humanize==4.9.0", "six"]));
}

#[test]
fn a_package_that_only_another_one_needs_is_listed() {
    let sandbox = EnvironmentSandbox::new();
    let job = sandbox.shown(&["--with", "python-dateutil==2.8.2", "-c", "import dateutil.parser, six"]);
    assert_eq!(names(&job["resolved_dependencies"]), ["python-dateutil", "six"], "{job}");
}

#[test]
fn requirements_in_another_order_and_spelling_are_the_same_environment_and_uv_is_not_asked() {
    let sandbox = EnvironmentSandbox::new();
    let first = sandbox.shown(&["--with", "python-dateutil", "--with", "idna>=3,<4", "-c", "import dateutil, idna"]);
    let calls = sandbox.calls("pip") + sandbox.calls("venv");
    let arguments = ["--with", " IDNA < 4, >= 3", "--with", "Python_DateUtil", "-c", "import dateutil, idna"];
    let second = sandbox.shown(&arguments);
    assert_eq!(environment_of(&second), environment_of(&first));
    assert_eq!(sandbox.run_with_uv(&arguments).expect_code(0).stderr, "");
    assert_eq!(sandbox.calls("pip") + sandbox.calls("venv"), calls, "uv was asked again");
    assert_eq!(sandbox.environments().len(), 1);
}

#[test]
fn what_was_built_once_runs_without_a_network() {
    let mut sandbox = EnvironmentSandbox::new();
    sandbox.run_with_uv(&["--with", "six", "-c", IMPORTS_SIX]).expect_code(0);
    cut_off(&mut sandbox);
    let ran = sandbox.run_with_uv(&["--with", "six", "-c", IMPORTS_SIX]).expect_code(0);
    assert_eq!(ran.stderr, "", "{ran}");
}

#[test]
fn without_a_network_uv_builds_from_what_it_has_kept() {
    let mut sandbox = EnvironmentSandbox::new();
    sandbox.run_with_uv(&["--with", "six", "-c", IMPORTS_SIX]).expect_code(0);
    std::fs::remove_dir_all(sandbox.paths().cache).expect("is there");
    cut_off(&mut sandbox);
    sandbox.run_with_uv(&["--with", "six", "-c", IMPORTS_SIX]).expect_code(0);
    // And this it has never had.
    let ran = sandbox.run_with_uv(&["--with", "six==1.10.0", "--with", "zope.event==4.0.1", "-c", "pass"]);
    assert!(ran.expect_code(126).stderr.contains("could not be resolved"));
}

/// Neither uv nor what it asks of the system gets through.
fn cut_off(sandbox: &mut EnvironmentSandbox) {
    sandbox.set("UV_OFFLINE", "1");
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"] {
        sandbox.set(name, "http://127.0.0.1:9");
    }
}

#[test]
fn another_index_is_asked_anew_and_one_that_can_not_be_reached_is_said() {
    let mut sandbox = EnvironmentSandbox::new();
    sandbox.run_with_uv(&["--with", "six", "-c", IMPORTS_SIX]).expect_code(0);
    sandbox.set("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple");
    let ran = sandbox.run_with_uv(&["--with", "six", "-c", IMPORTS_SIX]).expect_code(126);
    assert!(ran.stderr.contains("127.0.0.1:9"), "{ran}");
    assert_eq!(
        ran.stderr.lines().filter(|line| line.starts_with("error: cannot build the environment")).count(),
        1,
        "{ran}"
    );
}

#[test]
fn a_header_is_honoured_wherever_the_script_comes_from_and_with_adds_to_it() {
    let sandbox = EnvironmentSandbox::new();
    let script = "# /// script\n# requires-python = \">=3.8\"\n# dependencies = [\"six\"]\n# ///\nimport six\n\
        try:\n    import idna\nexcept ImportError:\n    print('six')\nelse:\n    print('six idna')\n";
    let file = sandbox.write("script.py", script);
    for with in [&[][..], &["--with", "idna"]] {
        for source in [&["script.py"][..], &["-c", script], &["-"]] {
            let mut command = sandbox.cli(["run"].iter().chain(with).chain(source));
            command.stdin(std::fs::File::open(&file).expect("is there"));
            let ran = sandbox.attend(command).end().expect_code(0);
            let expected = if with.is_empty() { "six\n" } else { "six idna\n" };
            assert_eq!(ran.text(), expected, "{source:?} {with:?}: {ran}");
        }
    }
    assert_eq!(sandbox.calls("venv"), 2, "the same header is the same environment");
}

#[test]
fn a_header_chooses_the_python_unless_the_command_line_does() {
    let sandbox = EnvironmentSandbox::new();
    let pythons: Vec<String> = pythons().into_keys().collect();
    let [oldest, .., newest] = pythons.as_slice() else { panic!("one Python is not enough: {pythons:?}") };
    for wanted in [oldest, newest] {
        let script = format!("# /// script\n# requires-python = \"=={wanted}.*\"\n# ///\n{SAYS_WHICH_PYTHON}\n");
        sandbox.write("script.py", script);
        assert_eq!(sandbox.run_with_uv(&["script.py"]).expect_code(0).text(), format!("{wanted}\n"));
        let ran = sandbox.run_with_uv(&["--python", newest, "script.py"]).expect_code(0);
        assert_eq!(ran.text(), format!("{newest}\n"));
    }
}

#[test]
fn a_header_that_is_broken_is_said_with_its_line_and_nothing_is_built() {
    let sandbox = EnvironmentSandbox::new();
    for (header, line) in [
        ("# /// script\n# dependencies = [\n# = 3\n# ///\n", "line"),
        ("#!/usr/bin/env python\n\n# /// script\n# dependencies = [\"six\"]\n# oops\n# ///\n", "line 5"),
        ("# /// script\n# dependencies = \"six\"\n# ///\n", "line 2"),
        ("# /// script\n# dependencies = []\n# ///\n\n# /// script\n# dependencies = []\n# ///\n", "line 5"),
    ] {
        sandbox.write("script.py", format!("{header}open('it-ran', 'w')\n"));
        let ran = sandbox.run_with_uv(&["script.py"]).expect_code(126);
        assert!(ran.stderr.contains("header") && ran.stderr.contains(line), "{header}: {ran}");
        assert!(!sandbox.file("it-ran").exists());
    }
    assert_eq!(sandbox.on_the_shelf(), Vec::<String>::new());
}

#[test]
fn a_python_that_is_asked_for_is_exactly_that_minor_version() {
    let sandbox = EnvironmentSandbox::new();
    let pythons = pythons();
    assert!(pythons.len() > 1, "one Python is not enough: {pythons:?}");
    for wanted in pythons.keys() {
        let ran = sandbox.run_with_uv(&["--json", "--python", wanted, "--with", "six", "-c", IMPORTS_SIX]);
        let view = ran.expect_code(0).json();
        let used = view["python_version_used"].as_str().expect("is text");
        assert!(used.starts_with(&format!("{wanted}.")), "{view}");
        assert!(view["stdout"].as_str().expect("is text").ends_with(&format!(" {wanted}\n")), "{view}");
    }
    assert_eq!(sandbox.environments().len(), pythons.len());
}

#[test]
fn a_python_that_is_not_here_is_refused_with_those_that_are() {
    let sandbox = EnvironmentSandbox::new();
    let ran = sandbox.run_with_uv(&["--python", "3.77", "--with", "six", "-c", "pass"]).expect_code(126);
    let error = ran.stderr.lines().next().unwrap_or_default();
    assert!(error.starts_with("error: there is no Python 3.77 here"), "{ran}");
    for known in pythons().keys() {
        assert!(error.contains(known.as_str()), "{known} is not listed: {ran}");
    }
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 0);
    assert_eq!(sandbox.on_the_shelf(), Vec::<String>::new());
}

#[test]
fn a_python_that_may_not_be_downloaded_is_refused_with_those_that_are_here() {
    let mut sandbox = EnvironmentSandbox::new();
    let pythons: Vec<String> = pythons().into_keys().collect();
    // One that is known and not in the only directory that is looked in.
    let [missing, _, ..] = pythons.as_slice() else { panic!("one Python is not enough: {pythons:?}") };
    let directory = python().parent().expect("a file lies in a directory").to_owned();
    sandbox.set("PATH", directory);
    let ran = sandbox.run_with_uv(&["--python", missing, "--with", "six", "-c", "pass"]).expect_code(126);
    assert!(ran.stderr.contains(&format!("there is no Python {missing} here")), "{ran}");
    assert_eq!(sandbox.on_the_shelf(), Vec::<String>::new());
}

#[test]
fn what_is_no_requirement_and_no_version_is_a_usage_error_and_nothing_is_made_of_it() {
    let sandbox = EnvironmentSandbox::new();
    for (arguments, named) in [
        (&["--with", "==garbage"][..], "==garbage"),
        (&["--with=-e ."], "-e ."),
        (&["--with=--index-url http://127.0.0.1:9"], "--index-url"),
        (&["--with", "six\nidna"], "six"),
        (&["--with", "# six"], "# six"),
        (&["--python", "2.9"], "2.9"),
        (&["--python", "3.12.x; rm -rf"], "3.12.x; rm -rf"),
        (&["--python", "3.7"], "3.7"),
        (&["--python", ""], "--python"),
    ] {
        let ran = sandbox.run_with_uv(&[arguments, &["-c", "open('it-ran', 'w')"]].concat()).expect_code(2);
        let errors: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{arguments:?}: {ran}");
        assert!(ran.stderr.contains(named), "{arguments:?}: {ran}");
    }
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["total"], 0);
    assert!(!sandbox.file("it-ran").exists());
    assert_eq!(sandbox.on_the_shelf(), Vec::<String>::new());
}

#[test]
fn what_can_not_be_resolved_is_the_outcome_of_the_job_in_the_words_of_uv() {
    let sandbox = EnvironmentSandbox::new();
    for (arguments, named) in [
        (&["--with", "six==garbage"][..], "garbage"),
        (&["--with", "pyexec-no-such-package-here"], "pyexec-no-such-package-here"),
        (&["--with", "six==1.16.0", "--with", "six==1.17.0"], "six==1.16.0"),
        (&["--with", "six==999"], "six==999"),
        (&["--with", "python-dateutil==2.8.2", "--with", "six<1.5"], "python-dateutil"),
    ] {
        let ran = sandbox.run_with_uv(&[arguments, &["--json", "-c", "open('it-ran', 'w')"]].concat());
        let view = ran.clone().expect_code(126).json();
        assert_eq!((&view["status"], &view["reason"]), (&json!("failed"), &json!("environment")), "{view}");
        let why = view["error"].as_str().expect("it says why");
        assert!(why.contains("could not be resolved") && why.contains(named), "{arguments:?}: {why}");
        assert!(!why.contains("Caused by: error"), "a stack of causes: {why}");
        assert_eq!(ran.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{arguments:?}: {ran}");
    }
    assert!(!sandbox.file("it-ran").exists());
    assert_eq!(sandbox.environments(), [] as [serde_json::Value; 0]);
    assert_eq!(sandbox.on_the_shelf(), Vec::<String>::new());
}

#[test]
fn one_with_names_several_packages_or_none() {
    let sandbox = sandbox_without_index();
    wheel(&sandbox, "tried-a", "1.0");
    wheel(&sandbox, "tried-b", "1.0");
    let job = sandbox.shown(&["--with", "tried-a==1.0,tried-b>=1,<2", "--with", "", "-c", "import tried_a, tried_b"]);
    assert_eq!(job["dependencies"], json!(["tried-a==1.0", "tried-b>=1,<2"]));
    assert_eq!(job["resolved_dependencies"], json!(["tried-a==1.0", "tried-b==1.0"]));
}

#[test]
fn a_header_that_is_not_closed_or_not_valid_is_told_with_its_line_and_nothing_runs() {
    let sandbox = sandbox_without_index();
    let code = "open('ran', 'w')\n";
    for (header, line, said) in [
        ("# /// script\n# requires-python = '>=3.99'\n", 1, "is not closed"),
        ("# /// script\n# requires-python = '>=3.99'\n\n# ///\n", 1, "is not closed"),
        ("import os\n# /// script\n# requires-python = '>=3.99'\n# /// \n", 4, "has blanks after it"),
        ("# /// script\n# dependencies = [\n# ///\n", 2, "is not what PEP 723 says"),
        ("# /// script\n# x = 1\n# ///\n\n# /// script\n# x = 1\n# ///\n", 5, "a second `# /// script` block"),
    ] {
        sandbox.write("script.py", format!("{header}{code}"));
        for arguments in [&["script.py"][..], &["-c", &format!("{header}{code}")]] {
            let ran = sandbox.run_with_uv(arguments).expect_code(126);
            assert!(ran.stderr.contains(&format!("line {line}: ")) && ran.stderr.contains(said), "{header:?}: {ran}");
        }
    }
    assert!(!sandbox.file("ran").exists());
}

#[test]
fn a_python_that_the_script_excludes_is_warned_of_and_runs() {
    let sandbox = sandbox_without_index();
    let version = pythons().into_keys().next().expect("there is a Python");
    let code = format!("# /// script\n# requires-python = '!={version}.*'\n# ///\n{SAYS_WHICH_PYTHON}");
    let ran = sandbox.run_with_uv(&["--python", &version, "-c", &code]).expect_code(0);
    assert_eq!(ran.text(), format!("{version}\n"));
    let warning = format!("which the script's `requires-python` excludes: `!={version}.*`\n");
    assert!(
        ran.stderr.starts_with("warning: the requested interpreter is Python 3") && ran.stderr.ends_with(&warning),
        "{ran}"
    );
    let mut session = McpSession::open(&sandbox, ERAS[0]);
    let told = session
        .structured("py_run_script_with_dependencies", json!({"script_content": code, "python_version": version}));
    assert!(told["stderr"].as_str().is_some_and(|stderr| stderr.ends_with(&warning)), "{told}");
    // One that it does not exclude.
    let fitting = code.replace("!=", "==");
    assert_eq!(sandbox.run_with_uv(&["--python", &version, "-c", &fitting]).expect_code(0).stderr, "");
}

/// SHA-256 of nothing that is installed here.
const OTHER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn a_package_whose_hash_is_another_is_not_installed() {
    let sandbox = sandbox_without_index();
    let right = wheel(&sandbox, "tried-a", "1.0");
    wheel(&sandbox, "tried-b", "1.0");
    let wheels = wheels::directory(&sandbox).display().to_string();
    sandbox.write("right.txt", format!("tried-a==1.0 --hash=sha256:{OTHER} --hash=sha256:{right}\ntried-b\n"));
    sandbox.write("wrong.txt", format!("tried-a==1.0 \\\n    --hash=sha256:{OTHER}\ntried-b\n"));
    sandbox.write("includes.txt", "-r wrong.txt\n");
    sandbox.write("options.txt", format!("--find-links {wheels}\ntried-a==1.0 --hash=sha256:{OTHER}\n"));
    let with = |file: &'static str| ["--with-requirements", file, "-c", "import tried_a; print('ran')"];
    // First what would be in the cache then.
    assert_eq!(sandbox.run_with_uv(&with("right.txt")).expect_code(0).text(), "ran\n");
    for file in ["wrong.txt", "includes.txt", "options.txt"] {
        let ran = sandbox.run_with_uv(&with(file)).expect_code(126);
        assert!(ran.stderr.contains("Hash mismatch for `tried-a==1.0`") && ran.stdout.is_empty(), "{file}: {ran}");
        let created = sandbox.pyexec(["env", "create", "wrong", "--with-requirements", file]);
        assert!(created.code != 0 && created.stderr.contains("Hash mismatch"), "{file}: {created}");
    }
    sandbox.write("options.txt", format!("--find-links {wheels}\ntried-a==1.0 --hash=sha256:{right}\n"));
    assert_eq!(sandbox.run_with_uv(&with("options.txt")).expect_code(0).text(), "ran\n");
}

#[test]
fn where_hashes_are_required_nothing_is_installed_without_one() {
    let mut sandbox = sandbox_without_index();
    let right = wheel(&sandbox, "tried-a", "1.0");
    wheel(&sandbox, "tried-b", "1.0");
    let all = format!("tried-a==1.0 --hash=sha256:{right}\n");
    sandbox.write("required.txt", format!("--require-hashes\n{all}"));
    sandbox.write("all.txt", &all);
    sandbox.write("some.txt", format!("--require-hashes\n{all}tried-b==1.0\n"));
    sandbox.write("script.py", "# /// script\n# dependencies = ['tried-b']\n# ///\nprint('ran')\n");
    sandbox.write("settings.py", "# /// script\n# [tool.uv]\n# no-index = true\n# ///\nprint('ran')\n");
    let prints = ["-c", "import tried_a; print('ran')"];
    let required = [&["--with-requirements", "required.txt"][..], &prints].concat();
    assert_eq!(sandbox.run_with_uv(&required).expect_code(0).text(), "ran\n");
    let refused = |sandbox: &EnvironmentSandbox, arguments: &[&str], said: &str| {
        let ran = sandbox.run_with_uv(arguments).expect_code(126);
        assert!(ran.stderr.contains(said) && ran.stdout.is_empty(), "{arguments:?}: {ran}");
    };
    let none = "have to have hashes, and there are none for: tried-b==1.0";
    refused(&sandbox, &["--with-requirements", "some.txt", "-c", "print('ran')"], none);
    refused(&sandbox, &["--with-requirements", "required.txt", "--with", "tried-b", "-c", "print('ran')"], none);
    refused(&sandbox, &["--with-requirements", "required.txt", "script.py"], none);
    let changing = "can not be checked together with `";
    refused(&sandbox, &["--with-requirements", "all.txt", "--with", "./tried-b", "-c", "print('ran')"], changing);
    refused(&sandbox, &["--with-requirements", "all.txt", "settings.py"], "with `[tool.uv]`");
    sandbox.kill_daemon();
    sandbox.set("UV_REQUIRE_HASHES", "1");
    refused(&sandbox, &["script.py"], none);
    refused(&sandbox, &["--with", "tried-b", "-c", "print('ran')"], none);
    let all = [&["--with-requirements", "all.txt"][..], &prints].concat();
    assert_eq!(sandbox.run_with_uv(&all).expect_code(0).text(), "ran\n");
    assert_eq!(sandbox.run_with_uv(&["-c", "print('ran')"]).expect_code(0).text(), "ran\n");
}
