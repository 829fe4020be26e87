//! `pyexec.env`: variables for programs that a desktop or an editor starts without the user's shell environment.
//!
//! The programs of pyexec read it for settings that the process environment does not have, and the MCP server reads it for
//! the environment of jobs. `pyexec run` never passes it to jobs. An unreadable file or line is not a failure: its problems
//! are reported, and the other lines are in effect.
//!
//! Its syntax is that of the crate `dotenvy`, whose functions that change the environment of the process are not used. The
//! `env_file` of a job is something else, and is read as python-dotenv reads it.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pyexec_proto::variables::{JOB_ID_VARIABLE, SERVICE_MARK};
use rustix::fs::{Mode, OFlags};

/// The largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 64 << 10;

/// Any other mode causes a warning: such a file often holds passwords.
const PRIVATE: u32 = 0o600;

const SEARCH_PATH: &str = "PATH";

/// The readable content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentFile {
    /// In the order of the file; the last one wins if a name occurs twice.
    pub variables: Vec<(String, String)>,
    /// Sentences that name the line but no value: values may be secret.
    pub problems: Vec<String>,
    /// Set if other users may read the file.
    pub warning: Option<String>,
    pub exists: bool,
}

impl EnvironmentFile {
    /// Reads the file, which need not exist. Only a regular file is read, so that reading never waits for another process.
    pub fn read(path: &Path) -> Self {
        let failed = |problem: String| Self {
            problems: vec![format!("{}: {problem}", path.display())],
            exists: true,
            ..Self::default()
        };
        let (text, mode) = match bounded(path) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => return failed(error.to_string()),
        };
        let (variables, problems) = parsed(&text);
        let problems = problems.into_iter().map(|problem| format!("{}, {problem}", path.display())).collect();
        let warning = (mode != PRIVATE)
            .then(|| format!("{} has mode {mode:o}, so that other users may read what is in it", path.display()));
        Self { variables, problems, warning, exists: true }
    }

    /// The value of a setting in the file. Callers look in the process environment first.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Adds the variables of the file to those of `host`. The host's values win; only the entries of the file's `PATH` that
    /// the host does not have are appended to the host's.
    pub fn completing(&self, host: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
        let mut variables = host;
        for (name, value) in &self.variables {
            // Only the daemon sets these.
            if [JOB_ID_VARIABLE, SERVICE_MARK].contains(&name.as_str()) {
                continue;
            }
            match variables.iter_mut().find(|(known, _)| known == name.as_str()) {
                Some((_, path)) if name == SEARCH_PATH => *path = appended(path, value),
                Some(_) => {}
                None if name == SEARCH_PATH => variables.push((name.into(), appended(OsStr::new(""), value))),
                None => variables.push((name.into(), value.into())),
            }
        }
        variables
    }
}

/// Appends `entries` to a search path, without empty ones, which would mean the working directory of each job.
fn appended(path: &OsStr, entries: &str) -> OsString {
    let mut path = path.to_owned();
    for entry in std::env::split_paths(entries).filter(|entry| !entry.as_os_str().is_empty()) {
        if std::env::split_paths(&path).any(|known| known == entry) {
            continue;
        }
        if !path.is_empty() {
            path.push(":");
        }
        path.push(entry);
    }
    path
}

/// The content of a regular file, and its permissions.
fn bounded(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("is not a regular file, and is not read"));
    }
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("is larger than {MAX_BYTES} bytes, and is not read")));
    }
    Ok((text, metadata.mode() & 0o7777))
}

/// Reads a text line by line and counts the lines, because `dotenvy` does not report the line number of an error.
struct CountedLines<'a> {
    rest: &'a [u8],
    count: &'a Cell<usize>,
}

impl Read for CountedLines<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let line = self.rest.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        let length = line.len().min(buffer.len());
        buffer[..length].copy_from_slice(&line[..length]);
        self.rest = &self.rest[length..];
        if line[..length].ends_with(b"\n") {
            self.count.set(self.count.get() + 1);
        }
        Ok(length)
    }
}

/// The variables of a text, and what is wrong with lines of it.
fn parsed(text: &[u8]) -> (Vec<(String, String)>, Vec<String>) {
    let mut text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).to_vec();
    // dotenvy takes a blank at the end of the last line for a line that is not finished.
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    let count = Cell::new(0);
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut problems = Vec::new();
    for item in dotenvy::Iter::new(CountedLines { rest: &text, count: &count }) {
        match item {
            Ok((name, value)) if value.contains('\0') => {
                problems.push(format!("line {}: the value of {name} has a NUL character", count.get()));
            }
            Ok((name, value)) => {
                variables.retain(|(known, _)| *known != name);
                variables.push((name, value));
            }
            // What has no end is handed out with all that follows it.
            Err(dotenvy::Error::LineParse(lines, _)) if lines.ends_with('\n') => {
                let first = count.get() + 1 - lines.matches('\n').count();
                problems.push(format!("line {first}: a quote is not closed"));
            }
            Err(dotenvy::Error::LineParse(lines, _)) => {
                let first = count.get() - lines.matches('\n').count();
                problems.push(format!("line {first}: not of the form NAME=value"));
            }
            // Only a line that is not UTF-8 comes to this.
            Err(_) => problems.push(format!("line {}: not UTF-8", count.get())),
        }
    }
    (variables, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn lines_that_cannot_be_read_are_named_by_their_number_without_their_text_and_the_others_hold() {
        for (text, expected, problems) in [
            ("A=1\n# no\n\nexport B='two words' # why\n", &[("A", "1"), ("B", "two words")][..], &[][..]),
            ("\u{feff}A=1", &[("A", "1")], &[]),
            ("A=1 ", &[("A", "1")], &[]),
            ("A=1\r\nB=2\r\n", &[("A", "1"), ("B", "2")], &[]),
            ("A=1\nA=2\n", &[("A", "2")], &[]),
            ("A=1\nhunter 2\nB=2\n", &[("A", "1"), ("B", "2")], &["line 2: not of the form NAME=value"]),
            ("\n\n=x\n", &[], &["line 3: not of the form NAME=value"]),
            ("A='one\ntwo'\nhunter 2\n", &[("A", "one\ntwo")], &["line 3: not of the form NAME=value"]),
            ("A=1\nB=\"x\n\nC=3\n", &[("A", "1")], &["line 2: a quote is not closed"]),
            ("A=1\nB=a\0b\nC=3\n", &[("A", "1"), ("C", "3")], &["line 2: the value of B has a NUL character"]),
        ] {
            let (read, wrong) = parsed(text.as_bytes());
            assert_eq!(read, variables(expected), "{text:?}: {wrong:?}");
            assert_eq!(wrong, problems, "{text:?}");
        }
        let (read, wrong) = parsed(b"A=1\nB=\xff\nC=3\n");
        assert_eq!((read, wrong), (variables(&[("A", "1"), ("C", "3")]), vec!["line 2: not UTF-8".to_owned()]));
    }

    #[test]
    fn what_the_host_has_stays_and_its_path_is_made_longer() {
        let host = |pairs: &[(&str, &str)]| -> Vec<(OsString, OsString)> {
            pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
        };
        let file = EnvironmentFile {
            variables: variables(&[
                ("PATH", "/uv:/bin::/uv"),
                ("PROXY", "file"),
                ("EMPTY", "file"),
                (SERVICE_MARK, "x"),
            ]),
            ..EnvironmentFile::default()
        };
        assert_eq!(
            file.completing(host(&[("EMPTY", ""), ("PATH", "/usr/bin:/bin")])),
            host(&[("EMPTY", ""), ("PATH", "/usr/bin:/bin:/uv"), ("PROXY", "file")])
        );
        assert_eq!(
            file.completing(host(&[("PROXY", "host")])),
            host(&[("PROXY", "host"), ("PATH", "/uv:/bin"), ("EMPTY", "file")])
        );
        assert_eq!(file.value("PROXY"), Some("file"));
    }

    #[test]
    fn only_a_regular_file_of_bounded_size_is_read_and_one_that_others_may_read_is_warned_of() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pyexec.env");
        assert_eq!(EnvironmentFile::read(&path), EnvironmentFile::default(), "it need not be there");
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("is ours");
        std::fs::write(&path, "A=1\n").expect("can be written");
        mode(0o600);
        let read = EnvironmentFile::read(&path);
        assert_eq!((read.value("A"), &read.warning, read.problems.len()), (Some("1"), &None, 0));
        mode(0o640);
        let warning = EnvironmentFile::read(&path).warning.expect("others may read it");
        assert!(warning.contains("mode 640"), "{warning}");
        std::fs::write(&path, "#".repeat(MAX_BYTES as usize)).expect("can be written");
        assert_eq!(EnvironmentFile::read(&path).problems, Vec::<String>::new());
        std::fs::write(&path, "#".repeat(MAX_BYTES as usize + 1)).expect("can be written");
        assert!(EnvironmentFile::read(&path).problems[0].contains("65536"));
        std::fs::remove_file(&path).expect("is there");
        // Nobody ever writes to it.
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .expect("a pipe");
        assert!(EnvironmentFile::read(&path).problems[0].contains("not a regular file"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_in_the_file_it_is_read_or_refused(text: Vec<u8>, lines in "([A-Z=$'\"\\\\# {}\n]|\\PC){0,80}") {
            for text in [&text[..], lines.as_bytes()] {
                let (variables, problems) = parsed(text);
                let count = text.split(|byte| *byte == b'\n').count();
                proptest::prop_assert!(variables.len() + problems.len() <= count);
                for problem in problems {
                    let number = problem.strip_prefix("line ").and_then(|rest| rest.split(':').next()).expect("is named");
                    proptest::prop_assert!((1..=count).contains(&number.parse().expect("is a number")), "{}", problem);
                }
            }
        }
    }
}
