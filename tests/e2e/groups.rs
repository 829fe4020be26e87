//! The groups of the suite, in `.config/nextest.toml`: each test is in exactly one.

use std::collections::BTreeMap;

use crate::sandbox::manifest_directory;

/// What selects the tests of the programs, before and after the list of their modules.
const LISTED: (&str, &str) = ("package(pyexec-tests) and test(/^(", ")(::|$)/)");
const NOT_LISTED: &str = "package(pyexec-tests) and not test(/^(";

/// The filter of each profile.
fn filters() -> BTreeMap<String, String> {
    let file = manifest_directory().join("../.config/nextest.toml");
    let text = std::fs::read_to_string(&file).expect("can be read");
    let table: toml::Table = text.parse().expect("is TOML");
    let profiles = table["profile"].as_table().expect("is a table");
    let filter = |profile: &toml::Value| profile["default-filter"].as_str().expect("is text").to_owned();
    profiles.iter().map(|(name, profile)| (name.clone(), filter(profile))).collect()
}

fn modules(filter: &str, before: &str) -> Vec<String> {
    let list = filter.strip_prefix(before).and_then(|rest| rest.strip_suffix(LISTED.1));
    let list = list.unwrap_or_else(|| panic!("`{filter}` is not `{before}…{}`", LISTED.1));
    list.split('|').map(str::to_owned).collect()
}

#[test]
fn every_test_is_in_exactly_one_group() {
    let mut filters = filters();
    assert_eq!(filters.remove("unit").as_deref(), Some("not package(pyexec-tests)"));
    let left_out = filters.remove("e2e").expect("is a group");
    let mut listed: Vec<String> = filters.values().flat_map(|filter| modules(filter, LISTED.0)).collect();
    let mut left_out = modules(&left_out, NOT_LISTED);
    listed.sort();
    left_out.sort();
    assert_eq!(listed, left_out, "`e2e` leaves out what the others have, and nothing else");
    let once = listed.windows(2).all(|two| two[0] != two[1]);
    assert!(once, "a module is in two groups: {listed:?}");
}

#[test]
fn every_module_that_a_group_names_exists() {
    let directory = manifest_directory().join("e2e");
    for (group, filter) in filters().into_iter().filter(|(group, _)| group != "unit" && group != "e2e") {
        for module in modules(&filter, LISTED.0) {
            let (path, test) = match module.rsplit_once("::") {
                Some((path, last)) if !directory.join(module.replace("::", "/")).with_extension("rs").exists() => {
                    (path.to_owned(), Some(last.to_owned()))
                }
                Some(_) | None => (module.clone(), None),
            };
            let file = directory.join(path.replace("::", "/")).with_extension("rs");
            let text = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{group}: no module `{module}`"));
            let is_there = test.is_none_or(|test| text.contains(&format!("fn {test}(")));
            assert!(is_there, "{group}: no test `{module}`");
        }
    }
}
