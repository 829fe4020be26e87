//! What the crates depend on, by their manifests and by cargo.

use std::collections::BTreeSet;
use std::process::Command;

use super::{members, read, workspace};

fn manifest(member: &str) -> toml::Table {
    read(&workspace().join(member).join("Cargo.toml")).parse().expect("is TOML")
}

fn package(member: &str) -> String {
    manifest(member)["package"]["name"].as_str().expect("is text").to_owned()
}

/// The crates by their directories, without that of the tests, which imports all.
pub(super) fn crates() -> BTreeSet<String> {
    members().into_iter().filter(|member| member != "tests").collect()
}

/// Between crates of ours, of all kinds of dependencies but those of tests.
pub(super) fn dependencies() -> BTreeSet<(String, String)> {
    let ours: Vec<(String, String)> = crates().into_iter().map(|member| (package(&member), member)).collect();
    let mut found = BTreeSet::new();
    for (_, member) in &ours {
        let manifest = manifest(member);
        for table in ["dependencies", "build-dependencies"] {
            let names =
                manifest.get(table).and_then(|table| table.as_table()).into_iter().flat_map(|table| table.keys());
            for name in names {
                if let Some((_, to)) = ours.iter().find(|(package, _)| package == name) {
                    found.insert((member.clone(), to.clone()));
                }
            }
        }
    }
    found
}

/// Every package that a crate of ours is built with, without those of its tests and of its build.
fn built_with(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut command = Command::new(cargo);
    command.args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let asked = command.args(["--package", package]).current_dir(workspace()).output().expect("cargo can be started");
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let text = String::from_utf8(asked.stdout).expect("is UTF-8");
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// A process for each job is to be small, and has one thread.
#[test]
fn the_supervisor_is_built_without_a_runtime_an_index_and_a_bus() {
    let found = built_with("pyexec-supervisor");
    assert!(found.contains("pyexec-run-directory"), "that is what it writes to: {found:?}");
    for forbidden in ["tokio", "tarpc", "rusqlite", "zbus", "pyexec-client"] {
        assert!(!found.contains(forbidden), "pyexec-supervisor is built with {forbidden}");
        assert!(built_with("pyexecd").contains(forbidden), "{forbidden} is the name of no package");
    }
}

#[test]
fn the_vocabulary_is_built_without_a_runtime_unless_its_wire_is_asked_for() {
    let found = built_with("pyexec-proto");
    assert!(found.contains("serde"), "{found:?}");
    for forbidden in ["tokio", "tarpc"] {
        assert!(!found.contains(forbidden), "pyexec-proto is built with {forbidden}");
    }
}
