//! Code that an agent gives as text is a script with a file of its own: what becomes of the file, and what answers say of it.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::mcp_session::{Era, McpSession};
use crate::sandbox::Sandbox;

const FAILS: &str = "import warnings\nwarnings.warn('careful')\nraise ValueError('the reason')\n";

#[test]
fn its_file_is_not_to_be_written_and_goes_with_the_job() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let code = "print(open(__file__).read() == open(0).read(), __file__)";
    let mut arguments = session.script(code);
    arguments["stdin"] = code.into();
    let ran = session.structured("py_run_script_in_dir", arguments);
    let id = ran["job_id"].as_str().expect("is text");
    let directory = sandbox.run_directory(id).join("code");
    assert_eq!(ran["stdout"], "True script.py\n", "{ran}");
    assert_eq!(sandbox.logs(id), format!("True {}/script.py\n", directory.display()).into_bytes());
    let mode = |path: &std::path::Path| path.metadata().expect("is there").permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join("script.py"))), (0o500, 0o400));
    sandbox.pyexec(["prune", "--older-than", "0s"]).expect_code(0);
    assert!(!sandbox.run_directory(id).exists());
}

#[test]
fn answers_name_the_script_and_what_is_kept_has_its_path() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let arguments = session.script(FAILS);
    let ran = session.structured("py_run_script_in_dir", arguments.clone());
    let said = ran["stderr"].as_str().expect("is text");
    assert!(said.starts_with("script.py:2: UserWarning: careful\n  warnings.warn('careful')\n"), "{said}");
    assert!(said.contains("  File \"script.py\", line 3, in <module>\n    raise ValueError('the reason')\n"), "{said}");
    let id = ran["job_id"].as_str().expect("is text").to_owned();
    let mut shown = vec![session.markdown("py_run_script_in_dir", arguments)];
    let by_id = json!({"job_id": id});
    shown.push(session.markdown("py_get_job_output", by_id.clone()));
    shown.push(session.markdown("py_job_status", by_id.clone()));
    let resource = session.ask("resources/read", json!({"uri": format!("job-stream://{id}")}));
    shown.push(resource["contents"][0]["text"].as_str().expect("is text").to_owned());
    let prompt = session.ask("prompts/get", json!({"name": "debug_failed_job", "arguments": by_id}));
    shown.push(prompt["messages"][0]["content"]["text"].as_str().unwrap_or_default().to_owned());
    for text in shown {
        assert!(text.contains("File \"script.py\", line 3"), "{text}");
        assert!(!text.contains("/code/script.py"), "{text}");
    }
    let path = sandbox.run_directory(&id).join("code/script.py");
    let printed = sandbox.pyexec(["logs", &id, "--stderr"]).expect_code(0).stderr;
    assert!(printed.contains(&format!("File \"{}\", line 3", path.display())), "{printed}");
}

#[test]
fn lists_say_what_it_is() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let mut arguments = session.script("\nprint('first')\nprint('second')\n");
    arguments["args"] = json!(["a", "b"]);
    let ran = session.structured("py_run_script_in_dir", arguments);
    let command = "script.py (\"print('first')\"…) a b";
    assert_eq!(sandbox.show(ran["job_id"].as_str().expect("is text"))["command"], command);
    assert!(sandbox.pyexec(["jobs"]).text().contains(command));
    assert_eq!(session.structured("py_list_jobs", json!({}))["jobs"][0]["command"], command);
}

#[test]
fn a_profile_names_its_functions_by_the_script() {
    let sandbox = crate::uv::sandbox_with_uv();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let code = "def slow(): return sum(range(100000))\nslow()\n";
    let arguments = json!({"script_content": code, "directory": sandbox.work()});
    let fields = session.structured("py_profile_script", arguments);
    let rows = fields["profile"]["by_cumulative"].as_array().expect("there are rows");
    assert!(rows.iter().any(|row| row["function"] == "script.py:1(slow)"), "{fields}");
}

#[test]
fn it_runs_in_a_fence() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let code = "import multiprocessing, sys\ndef double(x): return 2 * x\n\
                if __name__ == '__main__':\n    with multiprocessing.get_context('spawn').Pool(1) as pool: print(pool.map(double, [4]))\n";
    let mut arguments = session.script(code);
    arguments["limits"] = json!({"network": "none", "filesystem": "read-only"});
    assert_eq!(session.structured("py_run_script_in_dir", arguments)["stdout"], "[8]\n");
}

#[tokio::test]
async fn code_that_is_too_long_for_an_argument_is_run_from_a_file() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let client = sandbox.client().await;
    let mut submission =
        sandbox.submission(&format!("# {}\nimport sys; print(len(sys.argv[0]) > 2)\n", "x".repeat(200_000)));
    submission.spec.args = vec!["x".into()];
    let id = client.submit(submission).await.expect("is taken").id;
    let job = client.wait(id).await.expect("ends");
    assert_eq!(job.state.outcome().map(|outcome| outcome.verdict().exit_code), Some(Some(0)), "{job:?}");
    assert_eq!(sandbox.logs(&id.to_string()), b"True\n");
}
