//! Arguments as models and hosts really send them, where they can mean only one thing.

use serde_json::{Value, json};

use super::mcp_session::{Era, McpSession};
use super::sandbox::Sandbox;

#[test]
fn json_that_arrives_as_text_is_taken_where_the_schema_wants_something_else() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let code = "import os, sys\nprint(sys.argv[1:], os.environ['A'], os.nice(0))";
    let arguments = json!({
        "directory": sandbox.work(),
        "script_content": code,
        "use_uv": "false",
        "args": "[\"x\", \"[1]\"]",
        "env_vars": "{\"A\": \"{}\"}",
        "timeout_seconds": "30.0",
        "max_output_bytes": "100",
        "limits": "{\"nice\": \"19\", \"memory_mb\": \"512\"}",
        "markdown_output": "false"
    });
    let result = session.call("py_run_script_in_dir", arguments);
    assert_eq!(result["structuredContent"]["stdout"], "['x', '[1]'] {} 19\n", "{result}");
    let id = result["structuredContent"]["job_id"].as_str().expect("is text");
    let job = sandbox.show(id);
    assert_eq!(job["timeout_seconds"].as_f64(), Some(30.0), "{job}");
    let listed = session.structured("py_list_jobs", json!({"limit": "1.0", "page": "", "status_filter": ""}));
    assert_eq!(listed["total"], 1);
}

#[test]
fn empty_text_is_left_out_unless_it_is_a_value() {
    let sandbox = Sandbox::new();
    sandbox.write("script.py", "import sys\nprint(repr(sys.stdin.read()))");
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let everything = |more: Value| {
        let mut arguments = json!({
            "directory": sandbox.work(), "script_path": "", "script_content": "", "use_uv": false, "python_version": "",
            "args": "", "env_vars": "", "env_file": "", "timeout_seconds": "", "job_label": "", "stdin": "",
            "open_stdin": "", "auto_install_deps": null, "limits": "", "async_mode": "", "images": "", "max_output_bytes": ""
        });
        arguments.as_object_mut().expect("is one").extend(more.as_object().expect("is one").clone());
        arguments
    };
    let ran = session.structured("py_run_script_in_dir", everything(json!({"script_path": "script.py"})));
    assert_eq!(ran["stdout"], "''\n", "{ran}");
    // No code is code.
    let ran = session.structured("py_run_script_in_dir", everything(json!({})));
    assert_eq!((&ran["exit_code"], &ran["stdout"]), (&0.into(), &"".into()), "{ran}");
    // Beside an open stdin, an empty one is none.
    let open = everything(json!({"script_path": "script.py", "open_stdin": true, "async_mode": true}));
    let id = session.structured("py_run_script_in_dir", open)["job_id"].as_str().expect("is text").to_owned();
    session.structured("py_send_input", json!({"job_id": id, "text": "x"}));
    let sent = session.structured("py_send_input", json!({"job_id": id, "text": "", "close": true}));
    assert_eq!(sent["closed"], true, "{sent}");
    sandbox.finished(&id);
    assert_eq!(sandbox.logs(&id), b"'x'\n");
    // What is needed is not left out by being empty.
    let refused = session.failure("py_job_status", json!({"job_id": ""}));
    assert!(refused.contains("no job"), "{refused}");
}

#[test]
fn a_home_directory_and_file_uris_are_understood_wherever_a_path_is_taken() {
    let mut sandbox = Sandbox::new();
    let home = sandbox.file("ho me");
    std::fs::create_dir_all(home.join("wörk")).expect("can be made");
    sandbox.set("HOME", &home);
    std::fs::write(home.join("wörk/a b.py"), "import os\nprint(os.getcwd(), os.environ['A'])").expect("can be written");
    std::fs::write(home.join("wörk/vars"), "A=1\n").expect("can be written");
    let uri = |path: &str| format!("file://{}/{path}", home.to_str().expect("is text").replace(' ', "%20"));
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    for (directory, script, variables) in [
        ("~/wörk".to_owned(), "~/wörk/a b.py".to_owned(), "~/wörk/vars".to_owned()),
        (uri("w%C3%B6rk"), uri("w%c3%b6rk/a%20b.py"), uri("w%C3%B6rk/vars").replace("file://", "file://localhost")),
        (uri("wörk"), "a b.py".to_owned(), "vars".to_owned()),
    ] {
        let arguments = json!({"directory": directory, "script_path": script, "env_file": variables, "use_uv": false});
        let ran = session.structured("py_run_script_in_dir", arguments.clone());
        assert_eq!(ran["stdout"], format!("{} 1\n", home.join("wörk").display()), "{arguments}: {ran}");
    }
    let ran = session.structured(
        "py_run_script_in_dir",
        json!({"directory": "~", "script_content": "import os; print(os.getcwd())", "use_uv": false}),
    );
    assert_eq!(ran["stdout"], format!("{}\n", home.display()));
    let refused = session.failure(
        "py_run_script_in_dir",
        json!({"directory": "file://server/share", "script_content": "1", "use_uv": false}),
    );
    assert!(refused.contains("another machine") && refused.contains("**Next:** "), "{refused}");
}

#[test]
fn what_hosts_add_by_themselves_is_left_aside_and_a_mistyped_name_is_not() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let added = json!({
        "toolCallId": "call_1", "sessionId": "abc", "action": "sendMessage", "chatInput": "hi", "tool": "x", "random_string": ""
    });
    let mut arguments = session.script("print(1)");
    arguments.as_object_mut().expect("is one").extend(added.as_object().expect("is one").clone());
    assert_eq!(session.structured("py_run_script_in_dir", arguments)["stdout"], "1\n");
    assert!(session.markdown("py_list_running_jobs", added).contains("No jobs"));
    let mut arguments = session.script("print(1)");
    arguments["scriptpath"] = "x".into();
    let refused = session.failure("py_run_script_in_dir", arguments);
    assert!(refused.contains("no parameter `scriptpath`") && refused.contains("`script_path`"), "{refused}");
    // No tool has a parameter that would be left aside.
    for tool in session.ask("tools/list", json!({}))["tools"].as_array().expect("is a list") {
        for name in tool["inputSchema"]["properties"].as_object().expect("is an object").keys() {
            assert!(
                !["toolCallId", "sessionId", "action", "chatInput", "tool", "random_string"].contains(&name.as_str())
            );
        }
    }
}
