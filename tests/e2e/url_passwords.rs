//! A password in the URL of a requirement is used, and neither shown nor kept.

use serde_json::json;

use crate::environment_sandbox::EnvironmentSandbox;
use crate::file_server::FileServer;
use crate::mcp_session::{ERAS, McpSession};
use crate::sandbox::{Ran, contains, file_names};
use crate::wheels::{self, sandbox_without_index, wheel};

const USER: &str = "someone";

/// In no source file in one piece, so that no test finds its own text.
fn secret() -> String {
    ["open", "-sesame-", "of-pyexec"].concat()
}

/// A package behind a password, and the URL of it.
fn protected(sandbox: &EnvironmentSandbox) -> (FileServer, String) {
    wheel(sandbox, "tried-a", "1.0");
    let credentials = format!("{USER}:{}", secret());
    let server = FileServer::with_password(&wheels::directory(sandbox), &credentials);
    let url = wheels::url(&server.url(&credentials), "tried-a");
    (server, url)
}

/// Also not in what uv is started with, which the sandbox's uv writes down, and others see in `ps`.
#[track_caller]
fn assert_in_no_file(sandbox: &EnvironmentSandbox, when: &str) {
    for path in sandbox.files() {
        let content = std::fs::read(&path).unwrap_or_default();
        assert!(!contains(&content, &secret()), "{when}, the password is in {}", path.display());
    }
}

#[track_caller]
fn assert_not_in(ran: &Ran) {
    assert!(!contains(&ran.stdout, &secret()) && !ran.stderr.contains(&secret()), "it is shown: {ran}");
}

#[track_caller]
fn assert_shown_nowhere(sandbox: &EnvironmentSandbox, id: &str) {
    for verb in [
        &["show", id][..],
        &["show", id, "--json"],
        &["jobs", "--all", "--json"],
        &["logs", id],
        &["env", "list", "--json"],
        &["daemon", "logs"],
    ] {
        assert_not_in(&sandbox.pyexec(verb).expect_code(0));
    }
}

const CODE: &str = "
import os, time, tried_a
print(tried_a.__version__, flush=True)
while not os.path.exists('go'): time.sleep(0.005)
";

#[track_caller]
fn assert_waits_with_its_environment(sandbox: &EnvironmentSandbox, id: &str) {
    assert_shown_nowhere(sandbox, id);
    let directory = sandbox.run_directory(id);
    let waits_with: Vec<String> = file_names(&directory)
        .into_iter()
        .filter(|name| contains(&std::fs::read(directory.join(name)).unwrap_or_default(), &secret()))
        .collect();
    assert_eq!(waits_with, ["environment"], "it waits in the file that goes when the job starts");
}

/// Once the job before it has been told to end.
#[track_caller]
fn assert_runs_without_a_trace(sandbox: &EnvironmentSandbox, first: &str, id: &str) {
    sandbox.write("first", "");
    sandbox.finished(first);
    sandbox.wait_until("it has printed", || match sandbox.logs(id) {
        printed if contains(&printed, "1.0\n") => Ok(()),
        printed => Err(String::from_utf8_lossy(&printed).into_owned()),
    });
    assert_in_no_file(sandbox, "while it runs");
    assert_shown_nowhere(sandbox, id);
}

#[test]
fn a_password_of_a_requirement_is_in_no_file_once_the_job_has_started_and_shown_nowhere() {
    let mut sandbox = sandbox_without_index();
    sandbox.set("PYEXEC_LOG", "trace");
    let (_server, url) = protected(&sandbox);
    let mut daemon = sandbox.daemon_with(&[("PYEXEC_MAX_RUNNING", "1"), ("PYEXEC_LOG", "trace")]);
    let first = sandbox.detach(&["-c", "import os, time\nwhile not os.path.exists('first'): time.sleep(0.005)"]);
    let id = sandbox.detach_with_uv(&["--with", &format!("tried-a @ {url}"), "-c", CODE]);
    assert_waits_with_its_environment(&sandbox, &id);
    // The daemon that builds is not the one that was told the password.
    daemon.restart();
    assert_runs_without_a_trace(&sandbox, &first, &id);
    let masked = format!("tried-a @ {}", url.replace(&secret(), "****"));
    assert_eq!(sandbox.show(&id)["dependencies"], json!([masked]));
    sandbox.write("go", "");
    assert_eq!(sandbox.finished(&id)["exit_code"], 0);
    assert_in_no_file(&sandbox, "when it has ended");
}

/// `--with-requirements <(…)`: the content is read by the client, and kept for as long as the job waits.
#[test]
fn a_password_in_requirements_that_a_command_prints_is_in_no_file_once_the_job_has_started() {
    let sandbox = sandbox_without_index();
    let (_server, url) = protected(&sandbox);
    let mut daemon = sandbox.daemon_with(&[("PYEXEC_MAX_RUNNING", "1"), ("PYEXEC_LOG", "trace")]);
    let first = sandbox.detach(&["-c", "import os, time\nwhile not os.path.exists('first'): time.sleep(0.005)"]);
    let mut bash = sandbox.command("bash");
    bash.args(["-c", "\"$0\" run -d --with-requirements <(echo \"$GIVEN\") -c \"$1\""]);
    bash.arg(crate::sandbox::PYEXEC).arg(CODE).env("GIVEN", format!("tried-a @ {url}"));
    let id = sandbox.attend(bash).end().expect_code(0).text().trim_end().to_owned();
    assert_waits_with_its_environment(&sandbox, &id);
    daemon.restart();
    assert_runs_without_a_trace(&sandbox, &first, &id);
    sandbox.write("go", "");
    assert_eq!(sandbox.finished(&id)["exit_code"], 0);
    assert_in_no_file(&sandbox, "when it has ended");

    let mut bash = sandbox.command("bash");
    bash.args(["-c", "\"$0\" env create kept --with-requirements <(echo \"$GIVEN\")"]);
    bash.arg(crate::sandbox::PYEXEC).env("GIVEN", format!("tried-a @ {url}"));
    assert_not_in(&sandbox.attend(bash).end().expect_code(0));
    let run = ["--environment", "kept", "-c", "import tried_a; print('imported')"];
    assert_eq!(sandbox.run_with_uv(&run).expect_code(0).text(), "imported\n");
    assert_in_no_file(&sandbox, "when an environment was made");
}

#[test]
fn neither_a_header_nor_a_project_shows_the_password_to_who_lists_processes() {
    let sandbox = sandbox_without_index();
    let (_server, url) = protected(&sandbox);
    let header = format!("# /// script\n# dependencies = ['tried-a @ {url}']\n# ///\nimport tried_a");
    sandbox.write("script.py", header);
    sandbox.run_with_uv(&["script.py"]).expect_code(0);
    std::fs::create_dir(sandbox.file("project")).expect("can be made");
    sandbox.write("project/pyproject.toml", "[project]\nname = 'p'\nversion = '1'\n");
    let directory = sandbox.file("project").display().to_string();
    let with = format!("tried-a @ {url}");
    sandbox.run_with_uv(&["--dir", &directory, "--with", &with, "-c", "import tried_a"]).expect_code(0);
    let calls = std::fs::read_to_string(sandbox.root().join("uv-calls")).expect("uv was called");
    assert!(calls.contains("tried-a @ http") && !calls.contains(&secret()), "{calls}");
}

#[test]
fn a_wrong_password_is_told_without_being_shown() {
    let sandbox = sandbox_without_index();
    let (server, _) = protected(&sandbox);
    let wrong = format!("{USER}:{}", secret().replace("open", "shut"));
    let url = wheels::url(&server.url(&wrong), "tried-a");
    let ran = sandbox.run_with_uv(&["--with", &format!("tried-a @ {url}"), "-c", "pass"]);
    let ran = ran.expect_code(126);
    assert!(ran.stderr.contains("401") && ran.stderr.contains("someone:****@"), "{ran}");
    assert!(!ran.stderr.contains("shut") && !ran.stderr.contains("PYEXEC_URL"), "{ran}");
    // What is no requirement at all is refused before uv sees it.
    let ran = sandbox.run_with_uv(&["--with", &format!("http://{USER}:{}@host/x\ny", secret()), "-c", "pass"]);
    assert_not_in(&ran.expect_code(2));
}

#[test]
fn agents_see_no_password_of_theirs_again_and_none_is_kept_beside_their_code() {
    let sandbox = sandbox_without_index();
    let (_server, url) = protected(&sandbox);
    let requirement = format!("tried-a @ {url}");
    for era in ERAS {
        let mut session = McpSession::open(&sandbox, era);
        let arguments = json!({"script_content": "import tried_a", "dependencies": [requirement]});
        let told = session.structured("py_run_script_with_dependencies", arguments);
        assert_eq!(told["exit_code"], 0, "{told}");
        assert!(!told.to_string().contains(&secret()), "{told}");
        let status = session.markdown("py_job_status", json!({"job_id": told["job_id"]}));
        assert!(!status.contains(&secret()), "{status}");
        let save = json!({"script_name": "kept", "source": "import tried_a", "dependencies": [requirement]});
        let refused = session.failure("py_save_script", save);
        assert!(refused.contains("****") && refused.contains("TOKEN") && !refused.contains(&secret()), "{refused}");
    }
    assert_in_no_file(&sandbox, "after the calls");
}

#[test]
fn a_named_environment_is_made_with_a_password_and_asks_for_it_when_it_has_to_be_made_again() {
    let sandbox = sandbox_without_index();
    let (_server, url) = protected(&sandbox);
    let requirement = format!("tried-a @ {url}");
    sandbox.write("requirements.txt", &requirement);
    for with in [["--with", &requirement], ["--with-requirements", "requirements.txt"]] {
        let create = [&["env", "create", "kept"][..], &with, &["--refresh"]].concat();
        assert_not_in(&sandbox.pyexec(&create).expect_code(0));
        if with[0] == "--with-requirements" {
            std::fs::remove_file(sandbox.file("requirements.txt")).expect("is there");
        }
        let run = ["--environment", "kept", "-c", "import tried_a; print('imported')"];
        assert_eq!(sandbox.run_with_uv(&run).expect_code(0).text(), "imported\n");
        sandbox.pyexec(["env", "list", "--json"]).expect_code(0);
        std::fs::remove_dir_all(sandbox.shelf()).expect("can be removed");
        let refused = sandbox.run_with_uv(&run).expect_code(126);
        let masked = format!("the password in `tried-a @ {}` is not kept", url.replace(&secret(), "****"));
        assert!(refused.stderr.contains(&masked) && refused.stderr.contains("env create NAME --refresh"), "{refused}");
        if with[0] == "--with-requirements" {
            assert_in_no_file(&sandbox, "when they were made");
        }
    }
}
