//! Jobs that uv starts. `PYEXEC_TEST_UV` names the uv; those that need packages use an index, and all share uv's cache.

use std::path::PathBuf;

use crate::sandbox::{Sandbox, is_alive};

/// The uv that tests are to use.
pub(crate) fn uv() -> PathBuf {
    let uv = std::env::var_os("PYEXEC_TEST_UV").expect(
        "PYEXEC_TEST_UV names no uv: set it to the path of one (`pip install --target DIR uv` has it in DIR/bin/uv)",
    );
    uv.into()
}

/// What tests of several runs share, where this user may write.
fn shared_directory() -> PathBuf {
    std::env::var_os("PYEXEC_TEST_SHARED").map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from)
}

/// Has uv itself write the lock beside a script in [`Sandbox::work`].
#[track_caller]
pub(crate) fn lock_script(sandbox: &Sandbox, script: &str) {
    // Not through the sandbox's own uv, whose calls are counted.
    let ran = sandbox.command(uv()).args(["lock", "--quiet", "--script", script]).status();
    assert!(ran.expect("uv can be started").success());
}

pub(crate) fn sandbox_with_uv() -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.set("PYEXEC_UV", uv());
    sandbox.set("UV_CACHE_DIR", shared_directory().join("uv-cache"));
    sandbox.set("UV_PYTHON_DOWNLOADS", "never");
    // What the machine needs to reach an index at all.
    for name in
        ["PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "HTTPS_PROXY", "https_proxy", "SSL_CERT_FILE", "NO_PROXY"]
    {
        if let Some(value) = std::env::var_os(name) {
            sandbox.set(name, value);
        }
    }
    sandbox
}

#[test]
fn a_script_runs_with_uv_as_without() {
    let sandbox = sandbox_with_uv();
    sandbox.write(
        "seven.py",
        "import sys\nprint(sys.argv, sys.stdout.line_buffering)\nprint('err', file=sys.stderr)\nsys.exit(7)\n",
    );
    let ran = sandbox.pyexec(["run", "seven.py", "a b"]).expect_code(7);
    assert_eq!((ran.text().as_str(), ran.stderr.as_str()), ("['seven.py', 'a b'] True\n", "err\n"));
    let view = sandbox.pyexec(["run", "--json", "-c", "print(1)"]).expect_code(0).json();
    assert_eq!((&view["execution_strategy"], &view["stdout"]), (&"uv-run".into(), &"1\n".into()), "{view}");
}

#[test]
fn a_job_of_uv_is_cancelled_with_all_that_it_started() {
    let sandbox = sandbox_with_uv();
    sandbox.write("script.py", "import os, time\nopen('pid', 'w').write(f'{os.getpid()}\\n')\ntime.sleep(600)\n");
    let id = sandbox.pyexec(["run", "-d", "script.py"]).expect_code(0).text().trim_end().to_owned();
    let python = sandbox.wait_for_file("pid").parse().expect("is a pid");
    sandbox.pyexec(["kill", &id]).expect_code(0);
    assert!(!is_alive(python), "Python has survived uv");
    assert_eq!(sandbox.show(&id)["status"], "cancelled");
}

#[test]
fn a_version_that_is_not_there_is_refused_and_nothing_is_made_of_it() {
    let sandbox = sandbox_with_uv();
    let ran = sandbox.pyexec(["run", "--python", "3.99", "-c", "pass"]).expect_code(126);
    assert!(ran.stderr.starts_with("error: there is no Python 3.99 here"), "{ran}");
    assert!(ran.stderr.contains("\nhint: "), "{ran}");
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["total"], 0);
}

#[test]
fn a_package_that_is_asked_for_can_be_imported() {
    let sandbox = sandbox_with_uv();
    let ran = sandbox.pyexec(["run", "--with", "six", "-c", "import six; print(six.__name__)"]).expect_code(0);
    assert_eq!(ran.text(), "six\n", "{ran}");
    let job = sandbox.pyexec(["jobs", "--json"]).json()["jobs"][0]["id"].clone();
    assert_eq!(sandbox.show(job.as_str().expect("is text"))["dependencies"], serde_json::json!(["six"]));
}
