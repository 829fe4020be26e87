//! The documents: what the programs know is said as they say it, and every link leads somewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::sandbox::{PYEXEC, PYEXEC_MCP, PYEXECD, Program, Sandbox, manifest_directory};

/// The pages of `docs/` that a program prints, with the arguments that ask for them.
const PAGES: [(&str, Program, &[&str]); 4] = [
    ("commands.md", PYEXEC, &["--reference", "commands"]),
    ("exit-codes.md", PYEXEC, &["--reference", "exit-codes"]),
    ("settings.md", PYEXECD, &["--reference"]),
    ("tools.md", PYEXEC_MCP, &["--reference"]),
];

/// Writes the pages, instead of comparing them.
const WRITE_VARIABLE: &str = "PYEXEC_WRITE_DOCS";

/// Variables that are no user's: between the programs, and for development.
const INTERNAL: [&str; 5] =
    ["PYEXEC_FAIL_POINT", "PYEXEC_PREPARING", "PYEXEC_SERVICE", "PYEXEC_STATE", "PYEXEC_URL_PASSWORD_"];

/// What the names of those begin with that tests read.
const OF_TESTS: [&str; 2] = ["PYEXEC_TEST_", "PYEXEC_WRITE_"];

fn workspace() -> PathBuf {
    manifest_directory().parent().expect("the crate lies in the workspace").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).expect("can be listed").map(|entry| entry.expect("can be listed").path()).collect()
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

#[test]
fn the_pages_of_the_reference_are_what_the_programs_say() {
    for (page, program, arguments) in PAGES {
        let said = Command::new(program).args(arguments).env_clear().output().expect("can be started");
        assert!(said.status.success() && said.stderr.is_empty(), "{program} {arguments:?}: {said:?}");
        let said = String::from_utf8(said.stdout).expect("is text");
        let path = workspace().join("docs").join(page);
        if std::env::var_os(WRITE_VARIABLE).is_some() {
            std::fs::write(&path, &said).expect("can be written");
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        let different = said.lines().zip(written.lines()).find(|(said, written)| said != written);
        assert!(
            said == written,
            "docs/{page} is not what {program} says, first in {different:?}\nhint: scripts/docs.sh renews it"
        );
    }
}

/// The targets of links in a document, code left out.
fn links(text: &str) -> Vec<&str> {
    let prose = text.split("\n```").step_by(2);
    let inline = prose.clone().flat_map(|prose| prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
    let defined = prose.flat_map(str::lines).filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
    inline.chain(defined.map(|(_, target)| target)).collect()
}

/// As GitHub names the place of a heading.
fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(kept).map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

/// Whether the file has a heading of this anchor; any file has the empty one.
fn has_place(file: &Path, place: &str) -> bool {
    let is_it = |line: &str| line.starts_with('#') && anchor(line.trim_start_matches('#')) == place;
    file.exists() && (place.is_empty() || read(file).lines().any(is_it))
}

#[test]
fn every_link_in_the_documents_leads_to_a_file_and_a_heading() {
    let root = workspace();
    let mut found = 0;
    let mut broken = Vec::new();
    for document in
        [entries(&root), entries(&root.join("docs"))].concat().iter().filter(|path| has_extension(path, "md"))
    {
        for link in links(&read(document)).into_iter().filter(|link| !link.contains("://")) {
            found += 1;
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { document.clone() } else { document.with_file_name(file) };
            if !has_place(&target, place) {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(found > 20, "only {found} links were found");
    assert!(broken.is_empty(), "these lead nowhere: {broken:#?}");
}

/// The texts in quotation marks that are names of variables of pyexec.
fn variables(code: &str) -> BTreeSet<String> {
    let is_name = |letter: char| letter == '_' || letter.is_ascii_uppercase();
    let names = code.split('"').filter(|text| text.starts_with("PYEXEC_") && text.chars().all(is_name));
    let whole = names.filter(|name| *name != "PYEXEC_" && !OF_TESTS.iter().any(|prefix| name.starts_with(prefix)));
    whole.map(str::to_owned).collect()
}

fn variables_below(directory: &Path) -> BTreeSet<String> {
    let of_entry = |path: PathBuf| {
        if path.is_dir() {
            variables_below(&path)
        } else if has_extension(&path, "rs") {
            variables(&read(&path))
        } else {
            BTreeSet::new()
        }
    };
    entries(directory).into_iter().flat_map(of_entry).collect()
}

#[test]
fn every_variable_in_the_code_is_documented_or_internal() {
    let sources = entries(&workspace()).into_iter().map(|member| member.join("src")).filter(|sources| sources.is_dir());
    let found: BTreeSet<String> = sources.flat_map(|sources| variables_below(&sources)).collect();
    assert!(found.len() > 10, "only {found:?} were found");
    let page = read(&workspace().join("docs/settings.md"));
    let is_known = |name: &&String| page.contains(&format!("`{name}`")) || INTERNAL.contains(&name.as_str());
    let unknown: Vec<&String> = found.iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "neither docs/settings.md nor INTERNAL has {unknown:?}");
}

/// The names of all members, at any depth.
fn members(document: &Value) -> BTreeSet<String> {
    match document {
        Value::Object(object) => {
            object.iter().flat_map(|(name, value)| members(value).into_iter().chain([name.clone()])).collect()
        }
        Value::Array(items) => items.iter().flat_map(members).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => BTreeSet::new(),
    }
}

#[test]
fn every_field_that_json_has_is_documented() {
    let sandbox = Sandbox::new();
    let script = sandbox.write("tool.py", "import os\nopen(os.environ['PYEXEC_ARTIFACTS'] + '/a b', 'w').close()\n");
    let script = script.to_str().expect("is text");
    let json = |arguments: &[&str]| sandbox.pyexec(arguments).expect_code(0).json();
    let run = json(&["run", "--no-uv", "--json", "--profile", script]);
    let id = run["job_id"].as_str().expect("is an id").to_owned();
    let bench = json(&["bench", "--no-uv", "--json", "--runs", "2", script]);
    let measured = bench["results"][0]["job_id"].as_str().expect("is an id").to_owned();
    sandbox.pyexec(["scripts", "save", "tool", script]).expect_code(0);
    let documents = [
        run,
        bench,
        json(&["run", "--no-uv", "--json", "-d", script]),
        json(&["show", "--json", &measured]),
        json(&["jobs", "--json"]),
        json(&["artifacts", "--json", &id]),
        json(&["artifacts", "--json", &id, "-o", "copies"]),
        json(&["prune", "--json", "--dry-run"]),
        json(&["scripts", "list", "--json"]),
        json(&["scripts", "show", "--json", "tool"]),
        json(&["env", "list", "--json"]),
        json(&["daemon", "status", "--json"]),
        sandbox.pyexec(["doctor", "--json"]).json(),
    ];
    let page = read(&workspace().join("docs/json.md"));
    let fields: BTreeSet<String> = documents.iter().flat_map(members).collect();
    assert!(fields.len() > 80, "only {fields:?} were found");
    // In a list of several, or in an example.
    let is_known = |name: &&String| page.contains(&format!("`{name}`")) || page.contains(&format!("\"{name}\""));
    let unknown: Vec<&String> = fields.iter().filter(|name| !is_known(name)).collect();
    assert!(unknown.is_empty(), "docs/json.md does not have {unknown:?}");
}
