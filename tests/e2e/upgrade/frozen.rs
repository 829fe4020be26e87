//! Jobs of every kind, as `scripts/freeze.py` has left them, and what the programs of then said of them.

use std::path::Path;

use serde_json::{Value, json};

use super::{BOOT, change, copy, daemon, fixture, place_of, read};
use crate::sandbox::{Sandbox, file_names, manifest_directory};

/// By when they were made: each is a commit of that version.
pub(super) const VERSIONS: [&str; 2] = ["0.1.0-9420a69", "0.1.0-2e44aef"];

/// What had not ended when the daemon of then was killed.
const UNFINISHED: [&str; 4] = ["running", "running-interactive", "running-measured", "waiting"];

/// The first segment of the job that printed too much is 8 MiB of what its code says: it is not frozen.
fn write_first_segment(path: &Path) {
    let lines: String = (0..65536).map(|number| format!("{number:0127}\n")).collect();
    std::fs::write(path, lines).expect("can be written");
}

/// Fields may be added to what is told, and nothing else changes.
fn includes(now: &Value, then: &Value) -> bool {
    match (now, then) {
        (Value::Object(now), Value::Object(then)) => {
            then.iter().all(|(name, then)| now.get(name).is_some_and(|now| includes(now, then)))
        }
        (Value::Array(now), Value::Array(then)) => {
            now.len() == then.len() && now.iter().zip(then).all(|(now, then)| includes(now, then))
        }
        (now, then) => now == then,
    }
}

/// Gives a job that waits an environment, which is a secret and was not frozen, and `world` as that of who submitted it in
/// this boot. Without one it was in another boot.
fn let_wait(sandbox: &Sandbox, id: &str, world: Option<&Value>) {
    let directory = sandbox.run_directory(id);
    let path = sandbox.variables()[std::ffi::OsStr::new("PATH")].to_str().expect("is text").to_owned();
    let block = format!("PATH={path}\0GIVEN=by an older daemon\0");
    std::fs::write(directory.join("environment"), &block).expect("can be written");
    change(&directory.join("spec.json"), |spec| {
        spec["environment_bytes"] = block.len().into();
        match world {
            Some(world) if spec["submitter"].is_object() => spec["submitter"]["world"] = world.clone(),
            Some(_) => {}
            None => spec["boot_id"] = BOOT.into(),
        }
    });
}

/// Puts all jobs of a version where they would lie; their names and ids.
fn place_all(sandbox: &Sandbox, version: &str) -> Vec<(String, String)> {
    let names = file_names(&fixture("run-directories", version));
    assert_eq!(names.len(), file_names(&fixture("told", version)).len(), "each of {names:?} has been told");
    let place = |name: String| {
        let id = place_of(sandbox, version, &name);
        if name == "dropped-output" {
            write_first_segment(&sandbox.run_directory(&id).join("stdout.0"));
        } else if name == "waiting" {
            let_wait(sandbox, &id, None);
        }
        (name, id)
    };
    names.into_iter().map(place).collect()
}

#[track_caller]
fn assert_as_told(sandbox: &Sandbox, name: &str, id: &str, told: &Value) {
    let job = sandbox.show(id);
    for (field, value) in told["job"].as_object().expect("is one") {
        assert!(includes(&job[field], value), "{field} of {name} was {value}: {job}");
    }
    let length = told["stdout_length"].as_u64().expect("is a number");
    if length > 0 {
        let stdout = sandbox.logs(id);
        assert_eq!(stdout.len() as u64, length, "stdout of {name}");
        let end = told["stdout_end"].as_str().expect("is text");
        assert!(stdout.ends_with(end.as_bytes()), "stdout of {name} does not end with {end:?}");
    }
    if told["stderr"] != "" {
        assert_eq!(sandbox.pyexec(["logs", id, "--stderr"]).expect_code(0).stderr, told["stderr"], "stderr of {name}");
    }
    if told["artifacts"] != json!([]) {
        let artifacts = sandbox.pyexec(["artifacts", id, "--json"]).expect_code(0).json();
        assert!(includes(&artifacts["artifacts"], &told["artifacts"]), "artifacts of {name}: {artifacts}");
    }
}

#[test]
fn every_kind_of_job_is_told_as_it_was_from_the_index_of_then() {
    assert_all_as_told(true);
}

#[test]
fn every_kind_of_job_is_told_as_it_was_from_run_directories_alone() {
    assert_all_as_told(false);
}

#[track_caller]
fn assert_all_as_told(has_index: bool) {
    for version in VERSIONS {
        let sandbox = Sandbox::new();
        let jobs = place_all(&sandbox, version);
        if has_index {
            copy(&fixture("index", version), &sandbox.paths().state);
        }
        let _daemon = daemon(&sandbox);
        let listed = sandbox.pyexec(["jobs", "--all", "--json"]).expect_code(0).json();
        assert_eq!(listed["total"], jobs.len(), "{version}");
        for (name, id) in &jobs {
            let told = read(&fixture("told", version).join(format!("{name}.json")));
            // There was another boot since then. Only an index can know that what waits was never started.
            if name == "waiting" && has_index {
                assert_eq!(sandbox.finished(id)["status"], "completed", "{version}");
                assert_eq!(sandbox.logs(id), b"by an older daemon\n", "{version}");
            } else if UNFINISHED.contains(&name.as_str()) {
                let job = sandbox.show(id);
                assert_eq!((&job["status"], &job["reason"]), (&"failed".into(), &"lost".into()), "{name}: {job}");
                assert_eq!(job["created_at"], told["job"]["created_at"], "{name}: {job}");
                assert_eq!(sandbox.logs(id).len(), told["stdout_length"], "{name}");
            } else {
                assert_as_told(&sandbox, name, id, &told);
            }
        }
        assert_eq!(sandbox.daemon_log().contains("index=Whole"), has_index, "{}", sandbox.daemon_log());
    }
}

/// What the daemon of then had seen of who submitted it: here it is submitted by who runs this test.
fn world_of_this_test() -> Value {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    read(&sandbox.paths().state.join("daemon.lock"))["world"].clone()
}

#[test]
fn what_waited_then_is_run_in_the_same_boot() {
    let world = world_of_this_test();
    assert!(world["boot_id"].is_string(), "{world}");
    for version in VERSIONS {
        let sandbox = Sandbox::new();
        let id = place_of(&sandbox, version, "waiting");
        let_wait(&sandbox, &id, Some(&world));
        let _daemon = daemon(&sandbox);
        let job = sandbox.finished(&id);
        assert_eq!(
            (&job["status"], sandbox.logs(&id)),
            (&"completed".into(), b"by an older daemon\n".to_vec()),
            "{job}"
        );
    }
}

/// A file with a path, a name or a boot of the machine it was made on would be wrong on all others, and tell of it.
#[test]
fn nothing_that_is_frozen_names_the_machine_it_was_made_on() {
    fn look(path: &Path, found: &mut Vec<String>) {
        if path.is_dir() {
            for name in file_names(path) {
                look(&path.join(name), found);
            }
            return;
        }
        let content = String::from_utf8_lossy(&std::fs::read(path).expect("can be read")).into_owned();
        for (at, key) in content.match_indices("boot_id\":\"") {
            if !content[at + key.len()..].starts_with(BOOT) {
                found.push(format!("{}: a boot", path.display()));
            }
        }
        // Where tools usually lie, and where this checkout does; every fixture has a home, and programs of the system.
        let checkout: std::path::PathBuf = manifest_directory().components().take(2).collect();
        let checkout = Some(format!("{}/", checkout.display())).filter(|top| top != "/home/" && top != "/usr/");
        let tools = ["/root/", "/tmp/", "/usr/local/", "/mnt/", ".pyenv"].map(str::to_owned);
        for of_the_machine in tools.into_iter().chain(checkout) {
            if content.contains(&of_the_machine) {
                found.push(format!("{}: {of_the_machine}", path.display()));
            }
        }
    }
    let mut found = Vec::new();
    for version in VERSIONS {
        for kind in ["run-directories", "index", "settings", "told"] {
            look(&fixture(kind, version), &mut found);
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    assert!(manifest_directory().join("../scripts/freeze.py").is_file(), "it is what makes them");
}
