//! What an agent's code has of a project: its environment where that is there, which only a script of the project makes.

use std::ffi::OsStr;

use serde_json::{Value, json};

use crate::environment_sandbox::{EnvironmentSandbox, names};
use crate::mcp_session::{Era, McpSession};

const SAYS_WHERE: &str = "import sys; print(sys.prefix)";

fn open(sandbox: &EnvironmentSandbox) -> McpSession<'_> {
    McpSession::open(sandbox, Era::Handshake("2025-06-18"))
}

fn write_project(sandbox: &EnvironmentSandbox, below: &str, dependency: &str) {
    let project = format!(
        "[project]\nname = \"p\"\nversion = \"0\"\nrequires-python = \">=3.8\"\ndependencies = [{dependency}]\n"
    );
    std::fs::create_dir_all(sandbox.file(below)).expect("can be made");
    sandbox.write(&format!("{below}/pyproject.toml"), project);
}

fn in_directory(sandbox: &EnvironmentSandbox, below: &str, other: Value) -> Value {
    let mut arguments = other;
    arguments["directory"] = json!(sandbox.file(below));
    arguments
}

#[test]
fn inline_code_makes_no_environment_of_a_project_and_runs_in_one_that_is_there() {
    let sandbox = EnvironmentSandbox::new();
    let mut session = open(&sandbox);
    write_project(&sandbox, "p", "\"six\"");
    std::fs::create_dir(sandbox.file("p/below")).expect("can be made");
    let call = |what: Value| in_directory(&sandbox, "p/below", what);
    let given = || call(json!({"script_content": SAYS_WHERE}));
    let result = session.structured("py_run_script_in_dir", given());
    let shelf = sandbox.shelf();
    assert!(
        result["stdout"].as_str().is_some_and(|text| text.starts_with(shelf.to_str().expect("is text"))),
        "{result}"
    );
    assert_eq!(result["project"], json!({"use": "left_out", "path": sandbox.file("p")}), "{result}");
    let text = session.markdown("py_run_script_in_dir", given());
    assert!(text.contains(&format!("without `{}`", sandbox.file("p").display())), "{text}");
    assert!(!sandbox.file("p/.venv").exists() && !sandbox.file("p/uv.lock").exists(), "uv has made the project");

    // Nor does a script that lies outside of it.
    sandbox.write("outside.py", SAYS_WHERE);
    let result = session.structured("py_run_script_in_dir", call(json!({"script_path": "../../outside.py"})));
    assert_eq!(result["project"], json!({"use": "left_out", "path": sandbox.file("p")}), "{result}");
    assert!(!sandbox.file("p/.venv").exists() && !sandbox.file("p/uv.lock").exists(), "uv has made the project");

    // A script of the project makes it.
    sandbox.write("p/below/script.py", "import six\n");
    let result = session.structured("py_run_script_in_dir", call(json!({"script_path": "script.py"})));
    assert_eq!(result["project"], json!({"use": "synced", "path": sandbox.file("p")}), "{result}");
    assert_eq!(names(&result["resolved_dependencies"]), ["six"], "{result}");

    let prefix = sandbox.file("p/.venv").canonicalize().expect("it was made");
    write_project(&sandbox, "p", "\"six\", \"idna\"");
    let lock = std::fs::read(sandbox.file("p/uv.lock")).expect("it was written");
    let result = session.structured("py_run_script_in_dir", given());
    assert_eq!(result["stdout"], format!("{}\n", prefix.display()), "{result}");
    assert_eq!(result["project"], json!({"use": "as_found", "path": sandbox.file("p/.venv")}), "{result}");
    assert_eq!(names(&result["resolved_dependencies"]), ["six"], "it was synced: {result}");
    assert_eq!(std::fs::read(sandbox.file("p/uv.lock")).expect("is there"), lock);
    let text = session.markdown("py_run_script_in_dir", given());
    assert!(text.contains(&format!("in environment `{}`, unchanged", sandbox.file("p/.venv").display())), "{text}");

    let result = session.structured(
        "py_run_script_with_dependencies",
        call(json!({"script_content": "import six, humanize", "dependencies": ["humanize"]})),
    );
    assert_eq!(names(&result["resolved_dependencies"]), ["humanize", "six"], "{result}");
    assert_eq!(result["project"]["use"], "as_found", "{result}");

    let result =
        session.structured("py_run_script_in_dir", call(json!({"script_content": SAYS_WHERE, "no_project": true})));
    assert!(
        result["stdout"].as_str().is_some_and(|text| text.starts_with(shelf.to_str().expect("is text"))),
        "{result}"
    );
    assert_eq!(result["project"], Value::Null, "{result}");
    session.close();
}

#[test]
fn inline_code_of_a_member_runs_in_the_environment_of_its_workspace() {
    let sandbox = EnvironmentSandbox::new();
    let mut session = open(&sandbox);
    sandbox.write("pyproject.toml", "[tool.uv.workspace]\nmembers = [\"m\"]\n");
    write_project(&sandbox, "m", "");
    sandbox.write("m/script.py", SAYS_WHERE);
    let made =
        session.structured("py_run_script_in_dir", in_directory(&sandbox, "m", json!({"script_path": "script.py"})));
    let found =
        session.structured("py_run_script_in_dir", in_directory(&sandbox, "m", json!({"script_content": SAYS_WHERE})));
    assert_eq!(found["stdout"], made["stdout"], "{found}");
    assert_eq!(found["project"], json!({"use": "as_found", "path": sandbox.file(".venv")}), "{found}");
    session.close();
}

#[test]
fn inline_code_does_not_fail_with_the_project_above_it_and_a_script_says_how_to_do_without() {
    let sandbox = EnvironmentSandbox::new();
    let mut session = open(&sandbox);
    for (name, project) in
        [("toml", "[project\n"), ("index", "[project]\nname = 'p'\nversion = '0'\ndependencies = ['./none']\n")]
    {
        std::fs::create_dir_all(sandbox.file(&format!("{name}/below"))).expect("can be made");
        sandbox.write(&format!("{name}/pyproject.toml"), project);
        sandbox.write(&format!("{name}/below/script.py"), "print(1)\n");
        let call = |what: Value| in_directory(&sandbox, &format!("{name}/below"), what);
        let result = session.structured("py_run_script_in_dir", call(json!({"script_content": "print(1)"})));
        assert_eq!((&result["stdout"], &result["exit_code"]), (&json!("1\n"), &json!(0)), "{name}: {result}");
        let given = json!({"script_path": "script.py", "markdown_output": false});
        let result = session.call("py_run_script_in_dir", call(given))["structuredContent"].clone();
        assert_eq!(
            (&result["status"], &result["reason"]),
            (&json!("failed"), &json!("environment")),
            "{name}: {result}"
        );
        let error = result["error"].as_str().expect("is text");
        assert!(
            error.starts_with("the project's environment could not be made") && error.contains("`no_project=true`")
        );
        assert!(result["next_step"].as_str().is_some_and(|step| step.contains("no_project=true")), "{name}: {result}");
        let result =
            session.structured("py_run_script_in_dir", call(json!({"script_path": "script.py", "no_project": true})));
        assert_eq!(result["stdout"], "1\n", "{name}: {result}");
    }
    session.close();
}

#[test]
fn an_environment_that_does_not_suit_inline_code_is_left_out() {
    let sandbox = EnvironmentSandbox::new();
    let mut session = open(&sandbox);
    write_project(&sandbox, "p", "");
    sandbox.write("p/script.py", "import sys; print('%d.%d' % sys.version_info[:2])");
    let made =
        session.structured("py_run_script_in_dir", in_directory(&sandbox, "p", json!({"script_path": "script.py"})));
    let version = made["stdout"].as_str().expect("is text").trim().to_owned();
    let other = crate::environment_sandbox::pythons().into_keys().find(|other| *other != version).expect("another one");
    let given = json!({"script_content": "import sys; print('%d.%d' % sys.version_info[:2])", "python_version": other});
    let result = session.structured("py_run_script_in_dir", in_directory(&sandbox, "p", given));
    assert_eq!(result["stdout"], format!("{other}\n"), "{result}");
    assert_eq!(result["project"], json!({"use": "left_out", "path": sandbox.file("p")}), "{result}");
    // Broken by somebody who has removed its Python.
    let programs = std::fs::read_dir(sandbox.file("p/.venv/bin")).expect("is there").flatten();
    for python in programs.filter(|entry| entry.file_name().to_string_lossy().starts_with("python")) {
        std::fs::remove_file(python.path()).expect("is there");
    }
    let result =
        session.structured("py_run_script_in_dir", in_directory(&sandbox, "p", json!({"script_content": SAYS_WHERE})));
    assert_eq!(result["exit_code"], 0, "{result}");
    assert_eq!(result["project"]["use"], "left_out", "{result}");
    session.close();
}

#[test]
fn in_a_fence_packages_of_inline_code_are_not_laid_over_an_environment() {
    let sandbox = EnvironmentSandbox::new();
    let mut session = open(&sandbox);
    write_project(&sandbox, "p", "");
    sandbox.write("p/script.py", "");
    session.structured("py_run_script_in_dir", in_directory(&sandbox, "p", json!({"script_path": "script.py"})));
    let given = json!({
        "script_content": "import six; print(six.__name__)",
        "dependencies": ["six"],
        "limits": {"filesystem": "read-only"},
    });
    let result = session.structured("py_run_script_with_dependencies", in_directory(&sandbox, "p", given));
    assert_eq!(result["stdout"], "six\n", "{result}");
    assert_eq!(result["project"], json!({"use": "left_out", "path": sandbox.file("p/.venv")}), "{result}");
    session.close();
}

#[test]
fn the_environment_that_the_server_is_installed_in_is_none_of_a_job() {
    let sandbox = EnvironmentSandbox::new();
    std::fs::create_dir_all(sandbox.root().join("tool/bin")).expect("can be made");
    let tool = sandbox.root().join("tool");
    let made = std::process::Command::new(crate::sandbox::python())
        .args(["-m", "venv", "--without-pip"])
        .arg(&tool)
        .status()
        .expect("can be run");
    assert!(made.success());
    let server = tool.join("bin/pyexec-mcp");
    std::fs::copy(crate::mcp_session::PYEXEC_MCP, &server).expect("can be copied");
    let mut command = sandbox.command(&server);
    command.env("VIRTUAL_ENV", &tool);
    let path = &sandbox.variables()[OsStr::new("PATH")];
    let path = std::env::join_paths([tool.join("bin")].into_iter().chain(std::env::split_paths(path)));
    command.env("PATH", path.expect("can be joined"));
    let mut session = McpSession::open_command(&sandbox, Era::Handshake("2025-06-18"), command);
    let given =
        json!({"script_content": "import os, sys; print(sys.prefix, os.environ['VIRTUAL_ENV'], os.environ['PATH'])"});
    let result = session.structured("py_run_script_in_dir", in_directory(&sandbox, "", given));
    let tool = tool.to_str().expect("is UTF-8");
    assert!(result["exit_code"] == 0 && !result["stdout"].as_str().expect("is text").contains(tool), "{result}");
    session.close();
}
