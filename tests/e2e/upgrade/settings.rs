//! What users, editors and earlier versions have written outside of run directories: settings, scripts, environments.

use std::path::Path;

use serde_json::Value;

use super::{copy, daemon, fixture, frozen, read};
use crate::mcp_install::{CLIENTS, put_program};
use crate::mcp_session::{Era, McpSession};
use crate::sandbox::{PYEXECD, Sandbox, file_names, path_variable};
use crate::wheels;

/// Where the home was that was frozen.
const HOME: &str = "/home/of-somebody";

/// Copies files, with the home of `sandbox` in place of that of then.
fn settle(sandbox: &Sandbox, from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("can be made");
    for name in file_names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            settle(sandbox, &from, &to);
        } else {
            let text = std::fs::read_to_string(&from).expect("is text");
            let root = sandbox.root().to_str().expect("is text");
            std::fs::write(&to, text.replace(HOME, root)).expect("can be written");
        }
    }
}

/// A sandbox with the settings of then, each in its place.
fn of_then(mut sandbox: Sandbox, version: &str) -> Sandbox {
    let settings = fixture("settings", version);
    for directory in ["config", "data", "home"] {
        settle(&sandbox, &settings.join(directory), &sandbox.root().join(directory));
    }
    sandbox.set_pyexec_apart();
    sandbox
}

/// A document of then, with the paths of the sandbox.
fn told(sandbox: &Sandbox, version: &str, name: &str) -> Value {
    let text = std::fs::read_to_string(fixture("settings", version).join(name)).expect("is there");
    serde_json::from_str(&text.replace(HOME, sandbox.root().to_str().expect("is text"))).expect("is JSON")
}

#[test]
fn a_daemon_takes_every_setting_of_then() {
    for version in frozen::VERSIONS {
        let sandbox = of_then(Sandbox::new(), version);
        let mut command = sandbox.command(PYEXECD);
        command.arg("--check-config");
        let ran = sandbox.attend(command).end().expect_code(0);
        let text = ran.text();
        for line in [
            "max_running = 3",
            "output_buffering = full",
            "output_bytes = 16777216",
            "capture_figures = false",
            "inherit_env = PATH,LANG,HOME,XDG_*,UV_*,TMPDIR",
            "environment_max_age = 12h",
            "environment_timeout = 5m",
            "environment_cache_bytes = 1073741824",
            "scopes = never",
            "retention_max_jobs = 5000",
            "retention_max_bytes = 2147483648",
            "retention_min_age = 30m",
            "log = info",
        ] {
            assert!(text.lines().any(|said| said == line), "{version}: no line `{line}` in\n{text}");
        }
        let _daemon = sandbox.daemon();
        // `full` is what they say: without it, lines that are printed to a pipe come at once.
        let code = "import sys; print(sys.stdout.line_buffering)";
        assert_eq!(sandbox.run(&["-c", code]).expect_code(0).text(), "False\n", "{version}");
    }
}

#[test]
fn scripts_that_were_kept_then_are_listed_shown_and_run() {
    for version in frozen::VERSIONS {
        let sandbox = of_then(Sandbox::new(), version);
        let _daemon = daemon(&sandbox);
        let listed = sandbox.pyexec(["scripts", "list", "--autosaved", "--json"]).expect_code(0).json();
        assert_eq!(listed, told(&sandbox, version, "scripts.json"), "{version}");
        assert_eq!(
            sandbox.pyexec(["scripts", "show", "of_then.py"]).expect_code(0).text(),
            "# Greets.\nprint('kept')\n"
        );
        assert_eq!(sandbox.pyexec(["scripts", "run", "--no-uv", "of_then.py"]).expect_code(0).text(), "kept\n");
        let autosaved = listed["scripts"][1]["name"].as_str().expect("is text");
        let shown = sandbox.pyexec(["scripts", "show", "--autosaved", autosaved]).expect_code(0);
        assert_eq!(shown.text(), "print('autosaved')\n");
        let mut session = McpSession::open(&sandbox, Era::Stateless);
        let named = serde_json::json!({ "script_name": autosaved, "autosaved": true });
        let viewed = session.structured("py_view_script", named);
        let sidecar = &viewed["metadata"];
        assert_eq!(
            (&sidecar["tool"], &sidecar["parameters"]["env_vars"]["TOKEN"]),
            (&"py_run_script_in_dir".into(), &"***".into()),
            "{viewed}"
        );
    }
}

#[test]
fn an_environment_that_was_named_then_is_listed_and_made_again() {
    for version in frozen::VERSIONS {
        let sandbox = wheels::sandbox_without_index();
        let settings = fixture("settings", version);
        settle(&sandbox, &settings.join("data"), &sandbox.root().join("data"));
        // The record holds the hash of its package.
        copy(&settings.join("wheels"), &wheels::directory(&sandbox));
        let _daemon = daemon(&sandbox);
        let listed = sandbox.pyexec(["env", "list", "--json"]).expect_code(0).json();
        let of_then = &told(&sandbox, version, "environments.json")["environments"][0];
        for field in ["name", "packages"] {
            assert_eq!(listed["environments"][0][field], of_then[field], "{version}: {listed}");
        }
        let code = "import frozen_package; print(frozen_package.__version__)";
        let ran = sandbox.pyexec(["run", "--environment", "of-then", "-c", code]).expect_code(0);
        assert_eq!(ran.text(), "1.0\n", "{version}");
    }
}

#[test]
fn what_was_installed_for_clients_then_is_known_and_can_be_taken_out() {
    for version in frozen::VERSIONS {
        let mut sandbox = of_then(Sandbox::new(), version);
        let bin = sandbox.root().join("bin");
        put_program(&bin);
        sandbox.set("PATH", path_variable(&bin));
        for (client, file) in CLIENTS {
            let path = sandbox.root().join(file);
            let again = sandbox.pyexec(["mcp", "install", "--client", client]).expect_code(0);
            assert_eq!(again.text(), format!("{client}: already in {}\n", path.display()), "{version}");
            sandbox.pyexec(["mcp", "uninstall", "--client", client]).expect_code(0);
            let left = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(!left.contains("pyexec"), "{version} {client}: {left}");
        }
    }
}

/// Nothing of what was frozen is left unread by the tests above.
#[test]
fn every_file_of_settings_then_is_of_a_kind_that_is_looked_at() {
    for version in frozen::VERSIONS {
        let settings = fixture("settings", version);
        let config = read(&settings.join("environments.json"));
        assert_eq!(config["environments"][0]["name"], "of-then");
        assert_eq!(
            file_names(&settings),
            ["config", "data", "environments.json", "home", "scripts.json", "wheels"],
            "{version}"
        );
        assert_eq!(file_names(&settings.join("data/pyexec")), ["autosaved_scripts", "environments", "scripts"]);
    }
}
