//! Which distributions a script's imports need: for `auto_install_deps`.
//!
//! Owns two things. [`PROBE`] finds the imports with Python's own parser, as only that knows what is an import and what
//! is text, and what belongs to Python; running it is the caller's business. [`decide`] turns imports into
//! distributions by a table, and only by it: installing whatever has the name of an import is how squatters get in.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use serde::Deserialize;

/// A program for every Python since 3.8, to be run as `python -I -c PROBE DIRECTORY…` with the script on stdin. What
/// the directories (absolute paths: the script's own, its working directory) have as modules is not an import. Neither
/// is what only a type checker sees. [`read_answer`] reads what it prints.
pub const PROBE: &str = include_str!("imports_probe.py");

/// What [`PROBE`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probed {
    /// The dotted names of what is imported, sorted: `import a.b` is `a.b`, `from a.b import c` is `a.b.c`.
    Imports(Vec<String>),
    /// That Python can not parse the script.
    SyntaxError { message: String, line: Option<usize> },
}

/// What [`PROBE`] printed is not an answer; a parser that crashed prints nothing.
#[derive(Debug, thiserror::Error)]
#[error("python did not say what the script imports: {source}; is this interpreter older than 3.8?")]
pub struct UnreadableAnswer {
    source: serde_json::Error,
}

/// Reads what [`PROBE`] printed.
///
/// # Errors
///
/// Anything else than its one line of JSON.
pub fn read_answer(printed: &[u8]) -> Result<Probed, UnreadableAnswer> {
    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Answer {
        Imports(Vec<String>),
        SyntaxError { message: String, line: Option<usize> },
    }
    match serde_json::from_slice(printed) {
        Ok(Answer::Imports(imports)) => Ok(Probed::Imports(imports)),
        Ok(Answer::SyntaxError { message, line }) => Ok(Probed::SyntaxError { message, line }),
        Err(source) => Err(UnreadableAnswer { source }),
    }
}

/// What to do about imports. Both lists are sorted and have nothing twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Names of distributions to install along with the requirements.
    pub install: Vec<String>,
    /// Imports of which nobody knows where they come from, to be reported.
    pub unknown: Vec<String>,
}

/// Decides what to install so that the imports work, given what is required already (PEP 508).
///
/// A requirement satisfies an import if it is for a distribution that the table has for it, or one of its name:
/// `zope-event` provides `zope.event`. No requirement is looked into any deeper: what it depends on is uv's business.
pub fn decide(imports: &[String], requirements: &[String]) -> Decision {
    let required: HashSet<String> = requirements.iter().filter_map(|requirement| required_name(requirement)).collect();
    let mut install = BTreeSet::new();
    let mut unknown = BTreeSet::new();
    for import in imports {
        let entry = parents(import).find_map(|name| DISTRIBUTIONS.get(name));
        let by_its_name = parents(import).any(|name| required.contains(&normalized(name)));
        match entry {
            _ if by_its_name => {}
            Some(entry) if entry.all().any(|distribution| required.contains(&normalized(distribution))) => {}
            Some(entry) => {
                install.insert(entry.preferred.to_owned());
            }
            None => {
                unknown.insert(shown(import).to_owned());
            }
        }
    }
    Decision { install: install.into_iter().collect(), unknown: unknown.into_iter().collect() }
}

/// The distributions that provide an import.
#[derive(Debug)]
struct Entry {
    preferred: &'static str,
    others: Vec<&'static str>,
}

impl Entry {
    fn all(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.preferred).chain(self.others.iter().copied())
    }
}

/// The lines of the table: an import and its distributions.
fn lines() -> impl Iterator<Item = (&'static str, Entry)> {
    include_str!("import_names.txt").lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, Entry { preferred: words.next()?, others: words.collect() }))
    })
}

static DISTRIBUTIONS: LazyLock<HashMap<&str, Entry>> = LazyLock::new(|| lines().collect());

/// Packages that several distributions share, such as `google`: the parents of all dotted names in the table.
static SHARED: LazyLock<HashSet<&str>> =
    LazyLock::new(|| DISTRIBUTIONS.keys().flat_map(|name| parents(name).skip(1)).collect());

/// A dotted name, what it is part of, and so on: `a.b.c`, `a.b`, `a`.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| Some(name.rsplit_once('.')?.0))
}

/// As much of a name as says where it comes from: `foo` for `foo.bar.baz`, but `google.foo` for `google.foo.bar`.
fn shown(import: &str) -> &str {
    parents(import).take_while(|name| !SHARED.contains(name)).last().unwrap_or(import)
}

/// PEP 503: names that differ in case, and in runs of `-`, `_` and `.`, are the same.
fn normalized(name: &str) -> String {
    let mut normalized = String::new();
    for character in name.chars() {
        match character {
            '-' | '_' | '.' if normalized.ends_with('-') => {}
            '-' | '_' | '.' => normalized.push('-'),
            _ => normalized.push(character.to_ascii_lowercase()),
        }
    }
    normalized
}

/// The normalized name in a PEP 508 requirement; `None` where it has none, as a path or a bare URL.
fn required_name(requirement: &str) -> Option<String> {
    let requirement = requirement.trim_start();
    let is_in_name = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    let end = requirement.find(|character| !is_in_name(character)).unwrap_or(requirement.len());
    let (name, rest) = requirement.split_at(end);
    let begins_and_ends_well =
        name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.ends_with(|c: char| c.is_ascii_alphanumeric());
    let rest = rest.trim_start();
    let goes_on_well = rest.is_empty() || rest.starts_with(['[', '(', '<', '>', '=', '!', '~', ';', '@', ',']);
    (begins_and_ends_well && goes_on_well).then(|| normalized(name))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};

    use super::*;
    use crate::oracle::pythons;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_decision_of_the_table_is_made() {
        struct Case {
            imports: &'static [&'static str],
            requirements: &'static [&'static str],
            install: &'static [&'static str],
            unknown: &'static [&'static str],
        }
        let case = |imports, requirements, install, unknown| Case { imports, requirements, install, unknown };
        let cases = [
            case(&[], &["requests"], &[], &[]),
            case(&["numpy"], &[], &["numpy"], &[]),
            case(&["cv2", "yaml", "PIL.Image"], &[], &["Pillow", "PyYAML", "opencv-python"], &[]),
            case(&["numpy", "numpy.linalg.norm"], &[], &["numpy"], &[]),
            // Names are those of imports, to the letter.
            case(&["pil", "NumPy", "pillow"], &[], &[], &["NumPy", "pil", "pillow"]),
            case(&["nonesuch.module.name", "nonesuch"], &[], &[], &["nonesuch"]),
            // What is required already, in whatever spelling.
            case(&["numpy"], &["NumPy >= 1.26 ; python_version > '3.8'"], &[], &[]),
            case(&["yaml"], &["pyyaml==6.0"], &[], &[]),
            case(&["sklearn"], &["Scikit.Learn[tests]"], &[], &[]),
            case(&["bs4"], &["beautifulsoup4 @ file:///x.whl"], &[], &[]),
            case(&["cv2"], &["opencv_python_headless"], &[], &[]),
            case(&["jwt"], &["jwt"], &[], &[]),
            case(&["some_thing.part"], &["some-thing(>1)"], &[], &[]),
            case(&["some_thing"], &["some-thing-else"], &[], &["some_thing"]),
            case(
                &["numpy"],
                &["git+https://numpy", "./numpy", "-r numpy", "https://x/numpy.whl", "-numpy", ""],
                &["numpy"],
                &[],
            ),
            // Packages that several distributions share.
            case(&["google.protobuf.message"], &[], &["protobuf"], &[]),
            case(
                &["google.cloud.storage", "google.cloud.bigquery.Client"],
                &[],
                &["google-cloud-bigquery", "google-cloud-storage"],
                &[],
            ),
            case(
                &["google.nonesuch.x", "google.cloud.nonesuch.x"],
                &[],
                &[],
                &["google.cloud.nonesuch", "google.nonesuch"],
            ),
            case(&["google", "google.cloud"], &[], &[], &["google", "google.cloud"]),
            case(&["google.cloud.nonesuch.x"], &["google-cloud-nonesuch"], &[], &[]),
            case(&["opentelemetry.exporter.otlp.proto.grpc.x"], &[], &["opentelemetry-exporter-otlp-proto-grpc"], &[]),
            case(&["zope.event"], &["zope.event"], &[], &[]),
        ];
        for Case { imports, requirements, install, unknown } in cases {
            let expected = Decision { install: owned(install), unknown: owned(unknown) };
            assert_eq!(decide(&owned(imports), &owned(requirements)), expected, "{imports:?} with {requirements:?}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_has_no_import_twice_and_only_valid_names() {
        let lines: Vec<_> = lines().collect();
        assert!(lines.len() >= 300, "{} entries", lines.len());
        for pair in lines.windows(2) {
            assert!(pair[0].0 < pair[1].0, "{} comes before {}", pair[0].0, pair[1].0);
        }
        for (import, entry) in &lines {
            let is_identifier =
                |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !part.is_empty();
            assert!(import.split('.').all(is_identifier), "{import} can not be imported");
            let mut seen = HashSet::new();
            for distribution in entry.all() {
                assert_eq!(required_name(distribution), Some(normalized(distribution)), "{import}: {distribution}");
                assert!(seen.insert(normalized(distribution)), "{import}: {distribution} twice");
            }
        }
        let text = include_str!("import_names.txt");
        let entries = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        assert_eq!(entries.count(), lines.len(), "a line has an import and no distribution");
    }

    #[test]
    fn an_entry_does_not_give_away_a_package_that_others_share() {
        for name in DISTRIBUTIONS.keys().filter(|name| !name.contains('.')) {
            assert!(!SHARED.contains(name), "{name} has an entry, and so have names in it");
        }
    }

    #[test]
    fn what_is_not_an_answer_is_an_error() {
        for printed in ["", "Traceback", "{}", "{\"imports\": 3}", "[]", "{\"imports\": []} x"] {
            assert!(read_answer(printed.as_bytes()).is_err(), "{printed:?}");
        }
    }

    /// A directory for one test, gone with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str, files: &[&str]) -> Directory {
            let directory = std::env::temp_dir().join(format!("pyexec-imports-{}-{name}", std::process::id()));
            for file in files {
                let file = directory.join(file);
                std::fs::create_dir_all(file.parent().expect("a file has a directory")).expect("a directory");
                std::fs::write(file, "").expect("a file");
            }
            Directory(directory)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn probe(python: &Path, script: &[u8], directories: &[&Path]) -> Probed {
        let mut process = Command::new(python)
            .args(["-I", "-c", PROBE])
            .args(directories)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("could not start {}: {error}", python.display()));
        let mut stdin = process.stdin.take().expect("stdin was asked to be a pipe");
        stdin.write_all(script).expect("the probe reads the script");
        drop(stdin);
        let output = process.wait_with_output().expect("the probe ends");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{} complained", python.display());
        read_answer(&output.stdout).expect("an answer")
    }

    fn assert_finds(script: &[u8], directories: &[&Path], expected: &[&str]) {
        for python in pythons() {
            let found = probe(&python, script, directories);
            let script = String::from_utf8_lossy(script);
            assert_eq!(found, Probed::Imports(owned(expected)), "{}: {script}", python.display());
        }
    }

    #[test]
    fn every_form_of_import_is_found_and_nothing_else() {
        let script = br#"#!/usr/bin/env python3
"""import text"""
from __future__ import annotations
import cv2, yaml
import a.b.c as d
import os.path, csv, asyncio, winreg, __main__, sqlite3, xml.etree
from PIL import Image, ImageDraw as draw
from star.inner import *
from . import sibling
from .sibling import name
from .. import parent
try:
    import in_try
except ImportError:
    in_try = None
    import in_except
else:
    import in_else
finally:
    import in_finally
def function():
    import in_function
    async def inner():
        async with x:
            for y in z:
                while True:
                    import deep
class Class:
    import in_class
if __name__ == "__main__":
    import in_main
elif x:
    import in_elif
else:
    import in_last
# import comment
print("import string", "\d", importlib)
"#;
        assert_finds(
            script,
            &[],
            &[
                "PIL.Image",
                "PIL.ImageDraw",
                "a.b.c",
                "cv2",
                "deep",
                "in_class",
                "in_elif",
                "in_else",
                "in_except",
                "in_finally",
                "in_function",
                "in_last",
                "in_main",
                "in_try",
                "star.inner",
                "yaml",
            ],
        );
    }

    #[test]
    fn what_only_a_type_checker_sees_is_not_an_import() {
        let script = b"from typing import TYPE_CHECKING\nimport typing as t\n\
            if TYPE_CHECKING:\n import a\nelse:\n import b\n\
            if t.TYPE_CHECKING:\n import c\nelif x:\n import d\n\
            if not TYPE_CHECKING:\n import e\nelse:\n import f\n\
            if not t.TYPE_CHECKING: import g\n\
            if TYPE_CHECKING and x:\n import h\n\
            def i():\n if TYPE_CHECKING:\n  import j\n";
        assert_finds(script, &[], &["b", "d", "e", "g", "h"]);
    }

    #[test]
    fn what_the_directories_of_the_script_have_is_not_an_import() {
        let first = Directory::new(
            "first",
            &["single.py", "package/__init__.py", "spaces/module.py", "requests/fixture.json", "spaces/empty/x.txt"],
        );
        let second = Directory::new("second", &["other.py", "numpy.txt", "spaces/second.py"]);
        let script = b"import single, package.anything, other.x, requests, numpy, spaces\n\
            from spaces import module\nimport spaces.second, spaces.missing, spaces.empty.y\n\
            from requests import get";
        let expected = ["numpy", "requests", "requests.get", "spaces.empty.y", "spaces.missing"];
        assert_finds(script, &[&first.0, &second.0], &expected);
        assert_finds(b"import single, nothing", &[&second.0, Path::new("/nonexistent")], &["nothing", "single"]);
    }

    #[test]
    fn a_directory_that_is_not_given_hides_nothing() {
        let directory = Directory::new("here", &["local.py"]);
        assert_finds(b"import local", &[], &["local"]);
        assert_finds(b"import local", &[&directory.0], &[]);
    }

    #[test]
    fn the_encoding_of_the_script_is_what_its_cookie_says() {
        assert_finds(b"# coding: latin-1\nx = '\xe4'\nimport a", &[], &["a"]);
        assert_finds(b"\xef\xbb\xbfimport a\r\nimport b\r\n", &[], &["a", "b"]);
        assert_finds("import \u{e4}".as_bytes(), &[], &["\u{e4}"]);
    }

    #[test]
    fn a_script_that_is_not_python_is_told_with_its_line() {
        for python in pythons() {
            for (script, expected) in [
                (&b"import a\nimport\n"[..], Some(2)),
                (b"if x:\npass", Some(2)),
                (b"print 'x'", Some(1)),
                (b"# coding: nonesuch\nimport a", None),
                (b"x = '\xe4'", None),
                (b"import a\0", None),
            ] {
                match probe(&python, script, &[]) {
                    Probed::SyntaxError { line, message } => {
                        assert!(expected.is_none() || line == expected, "line {line:?} of {script:?}: {message}");
                        assert!(!message.is_empty(), "{script:?}");
                    }
                    Probed::Imports(imports) => panic!("{} found {imports:?} in {script:?}", python.display()),
                }
            }
        }
    }
}
