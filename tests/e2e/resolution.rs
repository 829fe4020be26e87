//! What decides the versions that a job gets: settings, files that variables name, locks and indexes. What is remembered is
//! remembered for exactly that.

use std::process::Command;

use crate::environment_sandbox::{EnvironmentSandbox, environment_of};
use crate::file_server::FileServer;
use crate::sandbox::Ran;
use crate::uv::lock_script;
use crate::wheels::{self, wheel};

const PRINTS: &str = "import tried_a; print(tried_a.__version__)";
const LOWEST: &str = "resolution = 'lowest'\n";

/// uv finds two versions of `tried-a` in a directory, and nothing else.
fn sandbox_with_packages() -> EnvironmentSandbox {
    let mut sandbox = EnvironmentSandbox::new();
    for version in ["1.0", "2.0"] {
        wheel(&sandbox, "tried-a", version);
    }
    let cache = sandbox.root().join("uv-cache");
    sandbox.set("UV_CACHE_DIR", cache);
    user_settings(
        &sandbox,
        &format!("no-index = true\nfind-links = [{:?}]\n", wheels::directory(&sandbox).display().to_string()),
    );
    sandbox
}

fn user_settings(sandbox: &EnvironmentSandbox, text: &str) {
    let directory = sandbox.root().join("config/uv");
    std::fs::create_dir_all(&directory).expect("can be made");
    std::fs::write(directory.join("uv.toml"), text).expect("can be written");
}

#[track_caller]
fn run(sandbox: &EnvironmentSandbox, variables: &[(&str, &str)], arguments: &[&str]) -> Ran {
    let mut command = sandbox.cli(["run"].iter().chain(arguments));
    command.envs(variables.iter().copied());
    sandbox.attend(command).end()
}

#[test]
fn what_is_remembered_holds_for_what_the_files_said_that_decided_it() {
    let mut sandbox = sandbox_with_packages();
    wheel(&sandbox, "tried-b", "1.0");
    let links = sandbox.root().join("more");
    std::fs::create_dir(&links).expect("can be made");
    let wheels = wheels::directory(&sandbox);
    let copy = |name: &str| std::fs::copy(wheels.join(name), links.join(name)).expect("can be copied");
    copy("tried_a-1.0-py3-none-any.whl");
    sandbox.write("includes.txt", "-r included.txt\n");
    let named = |more: &str| format!("no-index = true\nfind-links = [{:?}]\n{more}", wheels.display().to_string());
    let (lowest, highest) = (named(LOWEST), named(""));
    for (variable, value, file, before, after) in [
        ("", "", "uv.toml", LOWEST, ""),
        ("", "", "pyproject.toml", "[tool.uv]\nresolution = 'lowest'\n", "[tool.uv]\nresolution = 'highest'\n"),
        ("UV_CONFIG_FILE", "named.toml", "named.toml", lowest.as_str(), highest.as_str()),
        ("UV_CONSTRAINT", "other.txt limits.txt", "limits.txt", "tried-a<2\n", "tried-a>=1\n"),
        ("UV_CONSTRAINT", "includes.txt", "included.txt", "tried-a<2\n", "tried-a>=1\n"),
        ("UV_OVERRIDE", "forced.txt", "forced.txt", "tried-a==1.0\n", "tried-a==2.0\n"),
    ] {
        sandbox.write("other.txt", "");
        sandbox.write(file, before);
        let variables = [(variable, value)];
        let variables = if variable.is_empty() { &[][..] } else { &variables };
        // A script with a header, because a directory with a pyproject.toml may be a project's.
        sandbox.write("s.py", format!("# /// script\n# dependencies = ['tried-a']\n# ///\n{PRINTS}\n"));
        let ran = run(&sandbox, variables, &["s.py"]).expect_code(0);
        assert_eq!(ran.text(), "1.0\n", "{variable} {file}: {ran}");
        let calls = sandbox.calls("pip");
        assert_eq!(run(&sandbox, variables, &["s.py"]).expect_code(0).text(), "1.0\n");
        assert_eq!(sandbox.calls("pip"), calls, "{variable} {file}: the second run asked uv");
        sandbox.write(file, after);
        let ran = run(&sandbox, variables, &["s.py"]).expect_code(0);
        assert_eq!(ran.text(), "2.0\n", "{variable} {file}: {ran}");
        std::fs::remove_file(sandbox.file(file)).expect("is there");
    }
    // What lies in a directory of packages.
    user_settings(&sandbox, "no-index = true\n");
    let links_value = links.display().to_string();
    for (variables, settings) in [
        (&[("UV_FIND_LINKS", links_value.as_str())][..], ""),
        (&[("UV_FIND_LINKS", "../more")], ""),
        (&[], "find-links = ['../more']\n"),
    ] {
        sandbox.write("uv.toml", settings);
        let arguments = ["--with", "tried-a", "-c", PRINTS];
        assert_eq!(run(&sandbox, variables, &arguments).expect_code(0).text(), "1.0\n", "{variables:?} {settings}");
        copy("tried_a-2.0-py3-none-any.whl");
        assert_eq!(run(&sandbox, variables, &arguments).expect_code(0).text(), "2.0\n", "{variables:?} {settings}");
        std::fs::remove_file(links.join("tried_a-2.0-py3-none-any.whl")).expect("is there");
    }
    // What cannot be known is asked for anew: an address on the web may say something else at any time.
    sandbox.write("uv.toml", "");
    sandbox.set("UV_CONSTRAINT", "http://127.0.0.1:9/limits.txt");
    let ran = run(&sandbox, &[("UV_FIND_LINKS", "../more")], &["--with", "tried-a", "-c", PRINTS]).expect_code(126);
    assert!(ran.stderr.contains("127.0.0.1:9"), "{ran}");
}

#[test]
fn directories_with_the_same_settings_share_what_was_resolved_and_others_do_not() {
    let sandbox = sandbox_with_packages();
    for (directory, settings) in [("one", LOWEST), ("two", LOWEST), ("three", "resolution = 'highest'\n")] {
        std::fs::create_dir(sandbox.file(directory)).expect("can be made");
        sandbox.write(&format!("{directory}/uv.toml"), settings);
    }
    let job = |directory: &str| sandbox.shown(&["--dir", directory, "--with", "tried-a", "-c", "import tried_a"]);
    let (one, two, three) = (job("one"), job("two"), job("three"));
    assert_eq!(environment_of(&one), environment_of(&two));
    assert_eq!(sandbox.calls("pip compile"), 2);
    assert_eq!(one["resolved_dependencies"], serde_json::json!(["tried-a==1.0"]), "{one}");
    assert_eq!(three["resolved_dependencies"], serde_json::json!(["tried-a==2.0"]), "{three}");
}

#[test]
fn settings_that_only_uv_run_understands_are_left_to_it_at_every_run() {
    let sandbox = sandbox_with_packages();
    for (settings, version) in [
        ("[pip]\nresolution = 'lowest'\n", "2.0"),
        ("constraint-dependencies = ['tried-a<2']\n", "2.0"),
        ("override-dependencies = ['tried-a==1.0']\n", "2.0"),
        ("resolution = 'lowest'\npreview = true\n", "1.0"),
    ] {
        sandbox.write("uv.toml", settings);
        let ran = run(&sandbox, &[], &["--with", "tried-a", "-c", PRINTS]).expect_code(0);
        assert_eq!(ran.text(), format!("{version}\n"), "{settings}: {ran}");
    }
    assert_eq!(sandbox.calls("pip compile"), 0);
    // What has no requirements has nothing to resolve.
    let calls = sandbox.calls("run");
    assert_eq!(run(&sandbox, &[], &["-c", "print(1)"]).expect_code(0).text(), "1\n");
    assert_eq!(sandbox.calls("run"), calls);
    // A variable that `uv run` does not read is not passed over in silence.
    sandbox.write("limits.txt", "tried-a<2\n");
    let ran = run(&sandbox, &[("UV_CONSTRAINT", "limits.txt")], &["--with", "tried-a", "-c", PRINTS]).expect_code(0);
    assert!(ran.stderr.contains("UV_CONSTRAINT does not hold for this job"), "{ran}");
}

#[test]
fn settings_that_uv_cannot_read_are_the_outcome_of_the_job_in_the_words_of_uv() {
    let sandbox = sandbox_with_packages();
    for settings in ["resolution = \n", "no-such-setting = 1\n", "required-version = '>=99'\n"] {
        sandbox.write("uv.toml", settings);
        for with in [&[][..], &["--with", "tried-a"]] {
            let ran = sandbox.run_with_uv(&[with, &["-c", "open('it-ran', 'w')"]].concat()).expect_code(126);
            assert!(ran.stderr.contains("uv.toml") || ran.stderr.contains(">=99"), "{settings} {with:?}: {ran}");
        }
    }
    assert!(!sandbox.file("it-ran").exists());
}

#[test]
fn which_python_was_found_is_remembered_for_what_decided_it() {
    let sandbox = EnvironmentSandbox::new();
    std::fs::create_dir(sandbox.file("managed")).expect("can be made");
    sandbox.write("managed/uv.toml", "python-preference = 'only-managed'\n");
    let code = ["-c", "print(1)"];
    run(&sandbox, &[], &code).expect_code(0);
    // None is uv's own here, and it may not get one.
    let refused = |variables: &[(&str, &str)], arguments: &[&str]| {
        let ran = run(&sandbox, variables, &[arguments, &code].concat()).expect_code(126);
        assert!(ran.stderr.contains("there is no Python"), "{variables:?} {arguments:?}: {ran}");
    };
    refused(&[("UV_MANAGED_PYTHON", "1")], &[]);
    refused(&[("UV_PYTHON_PREFERENCE", "only-managed")], &[]);
    refused(&[], &["--dir", "managed"]);
    let calls = sandbox.calls("python find");
    run(&sandbox, &[], &code).expect_code(0);
    assert_eq!(sandbox.calls("python find"), calls, "uv was asked again");
}

#[test]
fn a_lock_is_asked_of_uv_once_and_what_uv_refuses_is_refused() {
    let sandbox = sandbox_with_packages();
    sandbox.write("uv.toml", LOWEST);
    let header = "# /// script\n# dependencies = ['tried-a']\n# ///\n";
    sandbox.write("s.py", format!("{header}{PRINTS}\n"));
    lock_script(&sandbox, "s.py");
    std::fs::remove_file(sandbox.file("uv.toml")).expect("is there");
    let lock = std::fs::read_to_string(sandbox.file("s.py.lock")).expect("is there");
    let lock = lock.replace("[options]\nresolution-mode = \"lowest\"\n", "");
    sandbox.write("s.py.lock", &lock);
    for _ in 0..2 {
        assert_eq!(run(&sandbox, &[], &["s.py"]).expect_code(0).text(), "1.0\n");
    }
    assert_eq!((sandbox.calls("export"), sandbox.calls("pip compile")), (1, 0));
    // In a fence, too: uv has done its part before.
    assert_eq!(std::fs::read_to_string(sandbox.file("s.py.lock")).expect("is there"), lock, "it was written");
    let outdated = header.replace("['tried-a']", "['tried-a', 'tried-a>=1']");
    sandbox.write("s.py", format!("{outdated}open('it-ran', 'w')\n"));
    let ran = run(&sandbox, &[("UV_LOCKED", "1")], &["s.py"]).expect_code(126);
    assert!(ran.stderr.contains("UV_LOCKED"), "{ran}");
    assert_eq!(std::fs::read_to_string(sandbox.file("s.py.lock")).expect("is there"), lock, "it was written");
    sandbox.write("s.py.lock", "no lock\n");
    let ran = run(&sandbox, &[], &["s.py"]).expect_code(126);
    assert!(ran.stderr.contains("lock"), "{ran}");
    assert!(!sandbox.file("it-ran").exists());
}

/// The default index has `tried-a`, and uv has asked it.
fn sandbox_with_index() -> (EnvironmentSandbox, FileServer) {
    let mut sandbox = EnvironmentSandbox::new();
    wheel(&sandbox, "tried-a", "1.0");
    let wheels = wheels::directory(&sandbox);
    let packages = sandbox.root().join("packages/tried-a");
    std::fs::create_dir_all(&packages).expect("can be made");
    let name = "tried_a-1.0-py3-none-any.whl";
    std::fs::copy(wheels.join(name), packages.join(name)).expect("can be copied");
    let index = FileServer::of(packages.parent().expect("it has one"));
    let cache = sandbox.root().join("uv-cache");
    sandbox.set("UV_CACHE_DIR", cache);
    sandbox.set("UV_DEFAULT_INDEX", index.url(""));
    sandbox.set("UV_HTTP_TIMEOUT", "10");
    let ran = sandbox.run_with_uv(&["--with", "tried-a", "-c", PRINTS]).expect_code(0);
    assert_eq!(ran.text(), "1.0\n", "{ran}");
    (sandbox, index)
}

#[test]
fn an_index_that_refuses_is_not_replaced_by_what_uv_has_kept_of_another_one() {
    let (sandbox, default) = sandbox_with_index();
    let arguments = ["--with", "tried-a<9", "-c", PRINTS];
    let refused = |url: &str, variables: &[(&str, &str)], more: &[&str]| {
        let ran = run(&sandbox, variables, &[more, &arguments].concat()).expect_code(126);
        let address = url.trim_end_matches('/').trim_start_matches("http://");
        assert!(ran.stderr.contains(address), "{variables:?} {more:?}: {ran}");
        let mut plain = Command::new(crate::uv::uv());
        plain.args(["run", "-q", "--no-project", "--with", "tried-a<9", "python", "-c", PRINTS]).env_clear();
        plain.envs(sandbox.variables()).envs(variables.iter().copied()).current_dir(sandbox.work());
        let plain = plain.output().expect("uv can be started");
        assert!(!plain.status.success(), "uv run does otherwise: {plain:?}");
    };
    for code in [401, 403, 500, 503] {
        let index = FileServer::that_answers(code);
        let url = index.url("");
        refused(&url, &[("UV_INDEX", &url)], &[]);
    }
    let nobody = "http://127.0.0.1:9/";
    for variable in ["UV_INDEX", "UV_EXTRA_INDEX_URL"] {
        refused(nobody, &[(variable, nobody)], &[]);
        refused(nobody, &[(variable, nobody)], &["--refresh"]);
    }
    refused(nobody, &[("UV_DEFAULT_INDEX", nobody)], &[]);
    let settings = format!("[[index]]\nurl = '{nobody}'\n");
    sandbox.write("uv.toml", &settings);
    refused(nobody, &[], &[]);
    std::fs::remove_file(sandbox.file("uv.toml")).expect("is there");
    user_settings(&sandbox, &settings);
    refused(nobody, &[], &[]);
    user_settings(&sandbox, "");
    // In a script's own settings: the job could not be started, and is not one that has failed.
    sandbox.write(
        "s.py",
        format!(
            "# /// script\n# dependencies = ['tried-a']\n# [[tool.uv.index]]\n# url = '{nobody}'\n# ///\n{PRINTS}\n"
        ),
    );
    let ran = run(&sandbox, &[], &["s.py"]).expect_code(126);
    assert!(ran.stderr.contains("127.0.0.1:9"), "{ran}");
    // What was resolved with the index that answers is there as before.
    drop(default);
    assert_eq!(sandbox.run_with_uv(&["--with", "tried-a", "-c", PRINTS]).expect_code(0).text(), "1.0\n");
}

#[test]
fn when_an_index_is_gone_only_what_this_very_request_resolved_to_is_used_and_it_is_said() {
    let (sandbox, default) = sandbox_with_index();
    sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    let _daemon = sandbox.daemon_with(&[("PYEXEC_ENVIRONMENT_MAX_AGE", "0s")]);
    drop(default);
    // Nor does uv's own cache stand in for it.
    std::fs::remove_dir_all(sandbox.root().join("uv-cache")).expect("uv has used it");
    let ran = sandbox.run_with_uv(&["--with", "tried-a", "-c", PRINTS]).expect_code(0);
    assert_eq!(ran.text(), "1.0\n", "{ran}");
    assert!(ran.stderr.contains("could not be resolved again; going on with what was resolved"), "{ran}");
    sandbox.run_with_uv(&["--refresh", "--with", "tried-a", "-c", PRINTS]).expect_code(126);
    sandbox.run_with_uv(&["--with", "tried-a<9", "-c", PRINTS]).expect_code(126);
    run(&sandbox, &[("UV_INDEX", "http://127.0.0.1:9/")], &["--with", "tried-a", "-c", PRINTS]).expect_code(126);
}

#[test]
fn what_was_resolved_without_a_network_is_resolved_again_with_one() {
    let (sandbox, _index) = sandbox_with_index();
    let arguments = ["--with", "tried-a>=1", "-c", PRINTS];
    let compiled = sandbox.calls("pip compile");
    for _ in 0..2 {
        run(&sandbox, &[("UV_OFFLINE", "1")], &arguments).expect_code(0);
    }
    assert_eq!(sandbox.calls("pip compile"), compiled + 1, "it is good for the next run without one");
    run(&sandbox, &[], &arguments).expect_code(0);
    assert_eq!(sandbox.calls("pip compile"), compiled + 2, "it was taken for what the index says");
    // And what was resolved with one is good without.
    sandbox.run_with_uv(&["--with", "tried-a>=0", "-c", PRINTS]).expect_code(0);
    run(&sandbox, &[("UV_OFFLINE", "1")], &["--with", "tried-a>=0", "-c", PRINTS]).expect_code(0);
    assert_eq!(sandbox.calls("pip compile"), compiled + 3);
}

#[test]
fn a_named_environment_is_made_with_the_settings_of_its_directory_and_is_the_same_everywhere() {
    let sandbox = sandbox_with_packages();
    let pythons: Vec<String> = crate::environment_sandbox::pythons().into_keys().collect();
    let oldest = pythons.first().expect("there is a Python");
    std::fs::create_dir(sandbox.file("there")).expect("can be made");
    sandbox.write("there/uv.toml", LOWEST);
    sandbox.write("there/.python-version", format!("{oldest}\n"));
    let mut create = sandbox.cli(["env", "create", "tools", "--with", "tried-a"]);
    create.current_dir(sandbox.file("there"));
    sandbox.attend(create).end().expect_code(0);
    sandbox.write("uv.toml", "resolution = 'highest'\n");
    let code = format!("import sys; print('%d.%d' % sys.version_info[:2]); {PRINTS}");
    let ran = run(&sandbox, &[], &["--environment", "tools", "-c", &code]).expect_code(0);
    assert_eq!(ran.text(), format!("{oldest}\n1.0\n"));
    assert_eq!(sandbox.calls("venv"), 1, "it was built again");
}

#[test]
fn a_script_that_is_kept_or_sent_is_run_with_the_settings_of_the_working_directory() {
    let sandbox = sandbox_with_packages();
    let header = format!("# /// script\n# dependencies = ['tried-a']\n# ///\n{PRINTS}\n");
    sandbox.write("s.py", &header);
    sandbox.pyexec(["scripts", "save", "kept", "s.py"]).expect_code(0);
    sandbox.write("uv.toml", LOWEST);
    let ran = sandbox.pyexec(["scripts", "run", "kept"]).expect_code(0);
    assert_eq!(ran.text(), "1.0\n", "{ran}");
    for source in [&["-c", &header][..], &["-"]] {
        let mut command = sandbox.cli(["run"].iter().chain(source));
        command.stdin(std::fs::File::open(sandbox.file("s.py")).expect("is there"));
        let ran = sandbox.attend(command).end().expect_code(0);
        assert_eq!(ran.text(), "1.0\n", "{source:?}: {ran}");
    }
    let mut session = crate::mcp_session::McpSession::open(&sandbox, crate::mcp_session::ERAS[0]);
    let arguments = serde_json::json!({"directory": sandbox.work(), "script_content": header});
    let told = session.structured("py_run_script_in_dir", arguments);
    assert_eq!(told["stdout"], "1.0\n", "{told}");
}
