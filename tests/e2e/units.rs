//! `pyexec daemon install`: systemd's units of the user. No manager runs here: programs of our own play its part.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::sandbox::{Ability, PYEXECD, Sandbox, can, path_variable};

/// Write down how they are called, and answer with what the file `answer` says, if there is one.
fn with_manager() -> Sandbox {
    let mut sandbox = Sandbox::new();
    let bin = sandbox.file("bin");
    std::fs::create_dir(&bin).expect("can be made");
    for program in ["systemctl", "loginctl"] {
        let script = format!(
            "#!/bin/sh\necho \"{program} $*\" >> '{}'\n[ ! -e '{answer}' ] || {{ cat '{answer}' >&2; exit 1; }}\n",
            sandbox.file("called").display(),
            answer = sandbox.file("answer").display(),
        );
        let path = sandbox.write(&format!("bin/{program}"), script);
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("can be made executable");
    }
    sandbox.set("PATH", path_variable(&bin));
    sandbox
}

fn units(sandbox: &Sandbox) -> PathBuf {
    sandbox.root().join("config/systemd/user")
}

fn called(sandbox: &Sandbox) -> Vec<String> {
    let called = std::fs::read_to_string(sandbox.file("called")).unwrap_or_default();
    let _ = std::fs::remove_file(sandbox.file("called"));
    called.lines().map(str::to_owned).collect()
}

#[test]
fn units_are_placed_enabled_and_taken_out_again() {
    let sandbox = with_manager();
    let job = sandbox.detach(&["-c", "import time; time.sleep(600)"]);
    sandbox.wait_until_running(&job);
    let installed = sandbox.pyexec(["daemon", "install", "--linger"]).expect_code(0).text();
    assert_eq!(installed.lines().filter(|line| line.starts_with("wrote ")).count(), 2, "{installed}");
    assert_eq!(
        called(&sandbox),
        ["systemctl --user daemon-reload", "systemctl --user enable --now pyexecd.socket", "loginctl enable-linger"]
    );
    let service = std::fs::read_to_string(units(&sandbox).join("pyexecd.service")).expect("is there");
    assert!(service.contains(&format!("ExecStart={PYEXECD}\n")), "{service}");
    for setting in ["Type=notify", "KillMode=process", "Delegate=yes", "Restart=always", "OOMPolicy=continue"] {
        assert!(service.lines().any(|line| line == setting), "{setting} is missing: {service}");
    }
    // The daemon has given up its socket to the manager; the job has not noticed.
    assert!(sandbox.daemons().is_empty());
    verify(&sandbox);
    let again = sandbox.pyexec(["daemon", "install"]).expect_code(0).text();
    assert_eq!(again.lines().filter(|line| line.starts_with("unchanged: ")).count(), 2, "{again}");
    called(&sandbox);
    sandbox.pyexec(["daemon", "uninstall"]).expect_code(0);
    assert_eq!(
        called(&sandbox),
        ["systemctl --user disable --now pyexecd.socket pyexecd.service", "systemctl --user daemon-reload"]
    );
    assert_eq!(std::fs::read_dir(units(&sandbox)).expect("is there").count(), 0);
    assert_eq!(sandbox.pyexec(["daemon", "uninstall"]).expect_code(0).text(), "not installed\n");
    assert_eq!(sandbox.show(&job)["status"], "running");
    sandbox.pyexec(["kill", "--now", &job]).expect_code(0);
}

#[test]
fn the_doctor_looks_at_what_the_manager_made_of_the_units() {
    let sandbox = with_manager();
    std::fs::create_dir(sandbox.root().join("run/systemd")).expect("can be made");
    std::fs::write(sandbox.root().join("run/systemd/private"), "").expect("can be written");
    sandbox.pyexec(["daemon", "install"]).expect_code(0);
    let shown = |kill_mode: &str| {
        let script = format!(
            "#!/bin/sh\nprintf 'Id=pyexecd.socket\\nLoadState=loaded\\nActiveState=active\\nUnitFileState=enabled\\n\\n\
             Id=pyexecd.service\\nLoadState=loaded\\nActiveState=active\\nKillMode={kill_mode}\\nDelegate=yes\\n\
             OOMPolicy=continue\\nDropInPaths=/x/10-mine.conf\\n'\n"
        );
        // Not written in place: it may be running.
        let new = sandbox.write("new", script);
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).expect("can be made executable");
        std::fs::rename(new, sandbox.file("bin/systemctl")).expect("can be put there");
    };
    let checks = || sandbox.pyexec(["doctor", "--json"]).json()["checks"].as_array().expect("is a list").clone();
    let named = |name: &str| checks().into_iter().find(|check| check["name"] == name);
    shown("process");
    assert_eq!(named("units").expect("is said")["status"], "ok");
    assert_eq!(named("pyexecd.service"), None);
    // No daemon runs, and there is no bus.
    assert_eq!(named("scopes").expect("is said")["status"], "warning");
    std::fs::write(sandbox.root().join("run/bus"), "").expect("can be written");
    assert_eq!(named("scopes").expect("is said")["status"], "ok");
    shown("control-group");
    let service = named("pyexecd.service").expect("is said");
    assert_eq!(service["status"], "problem", "{service}");
    assert!(service["hint"].as_str().is_some_and(|hint| hint.contains("/x/10-mine.conf")), "{service}");
    let unit = units(&sandbox).join("pyexecd.service");
    let text = std::fs::read_to_string(&unit).expect("is there").replace("Restart=always", "Restart=no");
    std::fs::write(&unit, text).expect("can be written");
    let differ = named("units").expect("is said");
    assert_eq!(differ["status"], "warning", "{differ}");
    assert!(differ["detail"].as_str().is_some_and(|detail| detail.contains("user/pyexecd.service")), "{differ}");
}

/// By systemd's own check.
fn verify(sandbox: &Sandbox) {
    if !can(Ability::SystemdAnalyze, Path::new("/usr/bin/systemd-analyze").exists()) {
        return;
    }
    let mut check = sandbox.command("/usr/bin/systemd-analyze");
    check.args(["verify", "--user", "--man=no"]);
    check.args(["pyexecd.socket", "pyexecd.service"].map(|name| units(sandbox).join(name)));
    let checked = sandbox.attend(check).end().expect_code(0);
    assert!(!checked.stderr.contains("pyexecd"), "{checked}");
}

#[test]
fn where_no_manager_answers_that_is_said_and_nothing_is_lost() {
    let sandbox = with_manager();
    sandbox.write("answer", "Failed to connect to bus: No medium found\n");
    let refused = sandbox.pyexec(["daemon", "install"]).expect_code(125);
    assert!(refused.stderr.contains("No medium found") && refused.stderr.contains("\nhint: "), "{refused}");
    assert!(units(&sandbox).join("pyexecd.socket").exists());
    sandbox.run(&["-c", "pass"]).expect_code(0);
    let refused = sandbox.pyexec(["daemon", "uninstall"]).expect_code(125);
    assert!(refused.stderr.contains("No medium found"), "{refused}");
    assert!(!units(&sandbox).join("pyexecd.socket").exists());
}

#[test]
fn units_of_somebody_else_are_left_alone() {
    let sandbox = with_manager();
    std::fs::create_dir_all(units(&sandbox)).expect("can be made");
    let own = units(&sandbox).join("pyexecd.socket");
    std::fs::write(&own, "[Unit]\nDescription=mine\n").expect("can be written");
    for verb in ["install", "uninstall"] {
        let refused = sandbox.pyexec(["daemon", verb]).expect_code(125);
        assert!(refused.stderr.contains("was not written by pyexec"), "{refused}");
    }
    assert_eq!(std::fs::read_to_string(own).expect("is there"), "[Unit]\nDescription=mine\n");
    assert!(called(&sandbox).is_empty());
}
