//! What the tests themselves have to be, so that all of them are run.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{read, rust_files, workspace};

fn declared_module(line: &str) -> Option<String> {
    Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
}

#[test]
fn every_file_of_the_end_to_end_tests_is_a_module() {
    let directory = workspace().join("tests/e2e");
    let files = rust_files(&directory);
    let declared: BTreeSet<PathBuf> = files
        .iter()
        .flat_map(|file| {
            let below = if file.ends_with("main.rs") { directory.clone() } else { file.with_extension("") };
            let names: Vec<String> = read(file).lines().filter_map(declared_module).collect();
            names.into_iter().map(move |name| below.join(name).with_extension("rs"))
        })
        .collect();
    let files: BTreeSet<PathBuf> = files.into_iter().filter(|file| !file.ends_with("main.rs")).collect();
    assert!(declared.len() > 50, "only {} were found", declared.len());
    let forgotten: Vec<_> = declared.symmetric_difference(&files).collect();
    assert!(forgotten.is_empty(), "a test in a file that is no module is never run: {forgotten:?}");
}

#[test]
fn every_scenario_for_clients_is_played() {
    let played = read(&workspace().join("tests/e2e/mcp_clients.rs"));
    let directory = workspace().join("tests/clients");
    let scenarios: Vec<String> = std::fs::read_dir(&directory)
        .expect("can be listed")
        .map(|entry| entry.expect("can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .flat_map(|path| read(&path).lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| Some(line.strip_prefix("async def ")?.strip_suffix("(clients):")?.to_owned()))
        .collect();
    assert!(!scenarios.is_empty());
    let forgotten: Vec<&String> = scenarios
        .iter()
        .filter(|name| {
            !played.split(|letter: char| letter != '_' && !letter.is_alphanumeric()).any(|word| word == *name)
        })
        .collect();
    assert!(forgotten.is_empty(), "no client plays {forgotten:?}");
}
