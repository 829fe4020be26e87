//! Hashes that a file of requirements gives (`--hash`, `--require-hashes`), from resolving to installing.
//!
//! `uv pip compile` writes the hashes that an index tells, whatever the file says, so those of the file are put back in
//! their place: what is installed is then checked against what was asked for, also when only some requirements have
//! hashes, as `uv pip install -r` does. Finding versions and checking bytes is uv's business.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use pyexec_proto::job::Variables;
use pyexec_proto::url_password::masked;

use crate::client_files::ClientFiles;

use super::discovery::is_on;
use super::request::{RequirementsFile, hex, is_volatile, normalized_name};

/// How many files one may include, directly and through others, and how large each may be.
const MAX_INCLUDED: usize = 100;
const MAX_INCLUDED_BYTES: usize = 1 << 20;

/// What the requirements of a job are to be checked against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hashes {
    given: Vec<Given>,
    /// Nothing may be installed without one.
    required: bool,
    /// Options for indexes: they have to be told to who installs, too.
    pub(super) has_options: bool,
    /// A requirement whose content can change, and that no hash holds.
    changing: Option<String>,
    /// Of the files that were read, but for the first.
    included: Vec<u8>,
}

/// What one requirement says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    name: String,
    /// Where it is pinned.
    version: Option<String>,
    /// `sha256:…`
    hashes: Vec<String>,
}

impl Hashes {
    /// As the file, those it includes, and the caller's `UV_REQUIRE_HASHES` say.
    pub(super) async fn of(file: Option<&RequirementsFile>, variables: &Variables, files: &ClientFiles) -> Self {
        let (mut hashes, mut waiting) = Self::of_file(file, variables);
        let mut seen = HashSet::new();
        while let Some(path) = waiting.pop() {
            if seen.len() < MAX_INCLUDED && seen.insert(path.clone()) {
                // uv says what is wrong with one that cannot be read.
                let Ok(content) = files.read(&path, MAX_INCLUDED_BYTES).await else { continue };
                hashes.included.extend_from_slice(&content);
                waiting.extend(hashes.read(&content, &path));
            }
        }
        hashes
    }

    /// Without those that the file includes, which are returned.
    fn of_file(file: Option<&RequirementsFile>, variables: &Variables) -> (Self, Vec<PathBuf>) {
        let mut hashes = Self { required: is_on(variables, "UV_REQUIRE_HASHES"), ..Self::default() };
        let included = file.map(|RequirementsFile { path, content }| hashes.read(content, path));
        (hashes, included.unwrap_or_default())
    }

    /// Takes in one file, and returns those that it includes.
    fn read(&mut self, content: &[u8], path: &Path) -> Vec<PathBuf> {
        let mut included = Vec::new();
        for line in logical_lines(&String::from_utf8_lossy(content)) {
            if let Some(other) = included_by(&line) {
                if other.contains("://") {
                    self.changing.get_or_insert_with(|| masked(&line).into_owned());
                } else {
                    included.push(path.parent().unwrap_or(path).join(other));
                }
                continue;
            }
            let (requirement, hashes) = split(&line);
            if requirement == "--require-hashes" {
                self.required = true;
            } else if requirement.starts_with("-e") || requirement.starts_with("--editable") {
                self.changing.get_or_insert_with(|| masked(requirement).into_owned());
            } else if requirement.starts_with('-') {
                self.has_options = true;
            } else if let (Some((name, version)), false) = (named(requirement), hashes.is_empty()) {
                self.given.push(Given { name, version, hashes });
            } else if is_volatile(requirement) {
                self.changing.get_or_insert_with(|| masked(requirement).into_owned());
            }
        }
        included
    }

    /// Whether there is anything to check.
    pub(super) fn are_wanted(&self) -> bool {
        self.required || !self.given.is_empty()
    }

    /// What keeps a request with hashes from being resolved once, and installed from that: something that changes under
    /// the same name.
    pub(super) fn changing(&self, requirements: &[String]) -> Option<String> {
        let first = requirements.iter().find(|requirement| is_volatile(requirement));
        self.changing.clone().or_else(|| first.map(|requirement| masked(requirement).into_owned()))
    }

    /// What a resolution is remembered under: `key`, unless there are hashes.
    pub(super) fn key(&self, key: String) -> String {
        if !self.are_wanted() {
            return key;
        }
        hex([key.as_bytes(), b"hashes", &self.included].join(&b"\0"[..]).as_slice())
    }

    /// The lock with the hashes that were given, in place of those that the index tells.
    ///
    /// # Errors
    /// The packages without a hash, where each has to have one.
    pub(super) fn hold(&self, lock: &str) -> Result<String, Vec<String>> {
        if !self.are_wanted() {
            return Ok(lock.to_owned());
        }
        let (mut held, mut missing) = (String::new(), Vec::new());
        let mut is_replaced = false;
        for line in lock.lines() {
            if line.trim_start().starts_with("--hash=") {
                if !is_replaced {
                    held.push_str(line);
                    held.push('\n');
                }
                continue;
            }
            let requirement = line.trim_end_matches('\\').trim_end();
            let hashes = self.hashes_of(requirement);
            is_replaced = !hashes.is_empty();
            if is_replaced {
                held.push_str(requirement);
                hashes.iter().for_each(|hash| held.push_str(&format!(" \\\n    --hash={hash}")));
            } else {
                held.push_str(line);
                let is_option = requirement.starts_with('-') && !requirement.starts_with("-e ");
                let is_package = !(requirement.is_empty() || requirement.starts_with('#') || is_option);
                if self.required && is_package {
                    missing.push(masked(requirement).into_owned());
                }
            }
            held.push('\n');
        }
        if missing.is_empty() { Ok(held) } else { Err(missing) }
    }

    /// Those for this version where there are any, or else those for the package.
    fn hashes_of(&self, requirement: &str) -> Vec<&str> {
        let Some((name, version)) = named(requirement) else { return Vec::new() };
        let of_name: Vec<&Given> = self.given.iter().filter(|given| given.name == name).collect();
        let of_version: Vec<&Given> = of_name.iter().filter(|given| given.version == version).copied().collect();
        let chosen = if of_version.is_empty() { of_name } else { of_version };
        chosen.iter().flat_map(|given| given.hashes.iter().map(String::as_str)).collect()
    }
}

/// Lines as pip reads them: continued by a backslash, without comments, none empty.
pub(super) fn logical_lines(content: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for part in content.lines() {
        let is_comment =
            |(place, _): &(usize, &str)| part[..*place].chars().next_back().is_none_or(char::is_whitespace);
        let comment = part.match_indices('#').find(is_comment).map(|(place, _)| place);
        let bare = &part[..comment.unwrap_or(part.len())];
        match bare.strip_suffix('\\') {
            Some(begun) if comment.is_none() => line.push_str(begun),
            _ => {
                line.push_str(bare);
                lines.push(std::mem::take(&mut line));
            }
        }
    }
    lines.push(line);
    lines.iter().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// The file that a line includes, as requirements or as constraints.
pub(super) fn included_by(line: &str) -> Option<&str> {
    let long = ["--requirement", "--constraint"].iter().find_map(|option| {
        let rest = line.strip_prefix(option)?;
        rest.strip_prefix('=').or_else(|| rest.starts_with(char::is_whitespace).then_some(rest))
    });
    let short = || ["-r", "-c"].iter().find_map(|option| line.strip_prefix(option));
    long.or_else(short).map(|rest| rest.trim().trim_matches('"'))
}

/// The requirement of a line, and its hashes.
fn split(line: &str) -> (&str, Vec<String>) {
    // In front of the first option of its own. An option may itself be the line.
    let begins_option =
        |(place, blank): &(usize, char)| blank.is_whitespace() && line[place + blank.len_utf8()..].starts_with("--");
    let end = line.char_indices().find(begins_option).map_or(line.len(), |(place, _)| place);
    let mut hashes = Vec::new();
    let mut words = line[end..].split_whitespace();
    while let Some(word) = words.next() {
        let hash = match word.strip_prefix("--hash") {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        hashes.extend(hash.map(str::to_owned));
    }
    (line[..end].trim(), hashes)
}

/// Which package a requirement names, and the version that it pins.
fn named(requirement: &str) -> Option<(String, Option<String>)> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let end = requirement.find(|letter| !is_name(letter)).unwrap_or(requirement.len());
    let (name, rest) = requirement.split_at(end);
    let is_of_a_file =
        rest.starts_with([':', '/']) || name.is_empty() || name.starts_with('.') || name.ends_with(".whl");
    if is_of_a_file {
        // The name of a wheel begins with that of its package.
        let path = requirement.split(['?', '#', ';', ' ']).next().unwrap_or_default();
        let file = path.rsplit('/').next().unwrap_or_default();
        let (name, _) = file.strip_suffix(".whl")?.split_once('-')?;
        return Some((normalized_name(name), None));
    }
    if name.starts_with('-') {
        return None;
    }
    let version = rest.split_once("==").map(|(_, version)| version.trim_start_matches('='));
    let version = version.and_then(|version| version.split([' ', ';', ',', '\t']).find(|word| !word.is_empty()));
    Some((normalized_name(name), version.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(content: &str) -> Hashes {
        let file = RequirementsFile { path: "/nowhere/requirements.txt".into(), content: content.into() };
        Hashes::of_file(Some(&file), &Variables::default()).0
    }

    const LOCK: &str = "a-b==1.0 \\\n    --hash=sha256:i1 \\\n    --hash=sha256:i2\nc==2 ; python_version > '3' \\\n    --hash=sha256:i3\n";

    #[test]
    fn hashes_that_are_given_take_the_place_of_those_that_the_index_tells() {
        let c = "c==2 ; python_version > '3' \\\n    --hash=sha256:i3\n";
        for (content, first) in [
            ("A.b==1.0 --hash=sha256:x", "a-b==1.0 \\\n    --hash=sha256:x\n"),
            (
                "a_b == 1.0 \\\n  --hash sha256:x \\\n  --hash=sha512:y # why\n",
                "a-b==1.0 \\\n    --hash=sha256:x \\\n    --hash=sha512:y\n",
            ),
            ("a-b[extra]>=1 ; python_version > '3' --hash=sha256:x", "a-b==1.0 \\\n    --hash=sha256:x\n"),
            // Those for another version are not for this one, unless there are no others.
            ("a-b==1.0 --hash=sha256:x\na-b==2 --hash=sha256:y", "a-b==1.0 \\\n    --hash=sha256:x\n"),
            ("a-b==1\t--hash=sha256:x\r\n", "a-b==1.0 \\\n    --hash=sha256:x\n"),
            ("# a comment\\\na-b==1.0 --hash=sha256:x", "a-b==1.0 \\\n    --hash=sha256:x\n"),
        ] {
            let hashes = hashes(content);
            assert!(hashes.are_wanted());
            assert_eq!(hashes.hold(LOCK), Ok(format!("{first}{c}")), "{content}");
        }
    }

    #[test]
    fn where_none_are_given_the_lock_and_its_key_stay_as_they_are() {
        for content in ["", "a-b==1.0", "-r other.txt", "a-b # --hash=sha256:x", "--index-url https://host\na-b"] {
            let hashes = hashes(content);
            assert!(!hashes.are_wanted(), "{content}");
            assert_eq!(hashes.hold(LOCK).as_deref(), Ok(LOCK));
            assert_eq!(hashes.key("key".to_owned()), "key");
        }
    }

    #[test]
    fn where_each_has_to_have_one_those_without_are_named() {
        let with = |content: &str, variable: &str| {
            let file = RequirementsFile { path: "/nowhere/r".into(), content: content.into() };
            let variables = [("UV_REQUIRE_HASHES".into(), variable.into())].into_iter().collect();
            Hashes::of_file(Some(&file), &variables).0.hold(LOCK)
        };
        let one = "a-b==1.0 --hash=sha256:x";
        let missing = Err(vec!["c==2 ; python_version > '3'".to_owned()]);
        assert_eq!(with(&format!("--require-hashes\n{one}"), ""), missing);
        assert_eq!(with(one, "1"), missing);
        assert_eq!(with(one, "True"), missing);
        assert!(with(one, "0").is_ok());
        assert!(with(&format!("{one}\nc==2 --hash=sha256:y"), "1").is_ok());
        let editable = hashes("--require-hashes").hold("--index-url https://host\n-e file:///x\n");
        assert_eq!(editable, Err(vec!["-e file:///x".to_owned()]));
    }

    #[test]
    fn a_url_is_held_by_its_hash_and_what_changes_is_named() {
        let url = "d @ https://u:secret@host/d.whl";
        let lock = format!("{url} \\\n    --hash=sha256:i\n");
        let held = Ok(format!("{url} \\\n    --hash=sha256:x\n"));
        for content in [&format!("{url} --hash=sha256:x"), "https://host/D-1-py3-none-any.whl --hash=sha256:x"] {
            assert_eq!(hashes(content).hold(&lock), held, "{content}");
            assert_eq!(hashes(content).changing(&[]), None, "{content}");
        }
        for (content, changing) in [
            (url, "d @ https://u:****@host/d.whl"),
            ("-e .", "-e ."),
            ("./d", "./d"),
            ("-r https://host/r.txt", "-r https://host/r.txt"),
        ] {
            let hashes = hashes(&format!("a==1 --hash=sha256:x\n{content}"));
            assert_eq!(hashes.changing(&[]).as_deref(), Some(changing));
        }
        assert_eq!(hashes("a==1 --hash=sha256:x").changing(&["./d".to_owned()]).as_deref(), Some("./d"));
    }

    #[tokio::test]
    async fn files_that_are_included_count_however_they_are_named_and_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let write =
            |name: &str, content: &str| std::fs::write(directory.path().join(name), content).expect("is written");
        std::fs::create_dir(directory.path().join("sub")).expect("is made");
        write("sub/one.txt", "-r two.txt\n");
        write("sub/two.txt", "-c=../nothing\n--requirement=../three.txt\n-r one.txt\n");
        write("three.txt", "a-b==1.0 --hash=sha256:x\n");
        let path = directory.path().join("requirements.txt");
        let files = ClientFiles::in_threads();
        for include in ["-r sub/one.txt", "-rsub/one.txt", "--constraint sub/one.txt", "--requirement=\"sub/one.txt\""]
        {
            let file = RequirementsFile { path: path.clone(), content: include.into() };
            let before = Hashes::of(Some(&file), &Variables::default(), &files).await;
            assert!(before.hold(LOCK).is_ok_and(|lock| lock.contains("sha256:x") && !lock.contains("i1")), "{include}");
            write("three.txt", "a-b==1.0 --hash=sha256:y\n");
            let after = Hashes::of(Some(&file), &Variables::default(), &files).await;
            assert_ne!(before.key(String::new()), after.key(String::new()));
            write("three.txt", "a-b==1.0 --hash=sha256:x\n");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_file_is_taken(content in "([-a-z.:/@= #\\\\\né]{0,8}(--hash)?[=: ]?){0,6}", lock: String) {
            let _ = hashes(&content).hold(&lock);
        }
    }
}
