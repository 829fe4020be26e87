//! The files that a job names, read for its preparation, and those that its client has sent along.

use std::io::Write;
use std::path::{Path, PathBuf};

use pyexec_proto::job::{JobSource, JobSpec};
use pyexec_proto::paths::create_private;
use pyexec_proto::script::MAX_SOURCE_BYTES;
use pyexec_proto::{JobId, OsText};
use rustix::fs::OFlags;

use super::request::RequirementsFile;
use super::{EnvironmentError, passwords};
use crate::blocking::blocking;
use crate::client_files::{ClientFiles, Kind, Problem};
use crate::supervisor::record::private_file;

/// What may be read of a requirements file: a lock with hashes has some MiB.
pub(super) const MAX_REQUIREMENTS_BYTES: usize = 16 << 20;

/// Of what the client has sent, in the run directory: a directory with the script alone, which Python looks in for modules.
const SENT_SCRIPT: &str = "sent/script.py";
const SENT_REQUIREMENTS: &str = "requirements.txt";

/// Gives what the client has sent files in the run directory, and has the specification name those. It is as if the
/// client had named them in the first place.
pub(super) async fn place_sent(spec: JobSpec, run_directory: &Path) -> Result<JobSpec, EnvironmentError> {
    let is_sent = matches!(spec.source, JobSource::Content { .. }) || spec.environment.requirements_content.is_some();
    if !is_sent {
        return Ok(spec);
    }
    let run_directory = run_directory.to_owned();
    let placed = blocking(move || Ok(place(spec, &run_directory))).await;
    placed.map_err(|source| EnvironmentError::Script { path: SENT_SCRIPT.into(), source })?
}

fn place(mut spec: JobSpec, run_directory: &Path) -> Result<JobSpec, EnvironmentError> {
    if let JobSource::Content { content, .. } = &spec.source {
        let path = write_private(run_directory.join(SENT_SCRIPT), content.as_bytes())?;
        spec.source = JobSource::File { path: OsText::from(path) };
    }
    if let Some(content) = spec.environment.requirements_content.take() {
        // uv finds the passwords among its variables.
        let (content, _) = passwords::named(&content);
        let path = write_private(run_directory.join(SENT_REQUIREMENTS), content.as_bytes())?;
        spec.environment.requirements_file = Some(OsText::from(path));
    }
    Ok(spec)
}

/// A requirements file that a client has sent to be read once, for as long as this is not dropped.
#[derive(Debug)]
pub(super) struct SentRequirements(PathBuf);

impl SentRequirements {
    pub(super) fn write(directory: &Path, content: &str) -> Result<Self, EnvironmentError> {
        let path = directory.join(format!("sent-{}.txt", JobId::mint().simple()));
        write_private(path, content.as_bytes()).map(Self)
    }

    pub(super) fn path(&self) -> &Path {
        let Self(path) = self;
        path
    }
}

impl Drop for SentRequirements {
    fn drop(&mut self) {
        // One that stays is in nobody's way: it has no passwords in it.
        let _ = std::fs::remove_file(self.path());
    }
}

/// Again, if an earlier daemon has done so.
pub(super) fn write_private(path: PathBuf, content: &[u8]) -> Result<PathBuf, EnvironmentError> {
    let written = create_private(path.parent().unwrap_or(Path::new("/")))
        .and_then(|()| private_file(&path, OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY))
        .and_then(|mut file| file.write_all(content));
    match written {
        Ok(()) => Ok(path),
        Err(source) => Err(EnvironmentError::Script { path, source }),
    }
}

/// The text that will be run, for reading its header and its imports.
pub(super) struct Script {
    pub(super) text: Vec<u8>,
    /// Of a file that was not read, or not to its end, and why. Python is given it all the same.
    pub(super) unread: Option<(PathBuf, Problem)>,
}

pub(super) async fn script(spec: &JobSpec, files: &ClientFiles) -> Result<Script, EnvironmentError> {
    let path = match &spec.source {
        JobSource::Code { code } | JobSource::Stdin { code } | JobSource::Content { content: code, .. } => {
            return Ok(Script { text: code.as_bytes().to_vec(), unread: None });
        }
        // Its file is not looked for. To run it, it has to be there: that is all that is known of what it imports.
        JobSource::Module { module } => {
            let is_name = |name: &[u8]| !name.is_empty() && name.iter().all(|byte| is_of_name(*byte));
            let is_module = module.as_bytes().split(|byte| *byte == b'.').all(is_name);
            let text = if is_module { [b"import ", module.as_bytes()].concat() } else { Vec::new() };
            return Ok(Script { text, unread: None });
        }
        JobSource::File { path } => spec.directory.as_path().join(path.as_path()),
    };
    let (text, problem) = match files.open().beginning(&path, MAX_SOURCE_BYTES + 1).await {
        // One with a __main__.py.
        Err(Problem::NotAFile(Kind::Directory)) => (Vec::new(), None),
        Err(Problem::NotAFile(other)) => (Vec::new(), Some(Problem::NotAFile(other))),
        // With a __main__.py, too. As for uv, what is inside has no header.
        Ok(text) if is_zip(&text) => (Vec::new(), None),
        Ok(mut text) if text.len() > MAX_SOURCE_BYTES => {
            // Half a line may look like another one.
            text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
            (text, Some(Problem::TooLarge { most: MAX_SOURCE_BYTES }))
        }
        Ok(text) => (text, None),
        Err(problem) => return Err(EnvironmentError::Unreadable { path, problem }),
    };
    Ok(Script { text, unread: problem.map(|problem| (path, problem)) })
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// A zip file, perhaps after a first line that says what runs it.
fn is_zip(text: &[u8]) -> bool {
    let first_line = text.starts_with(b"#!").then(|| text.iter().position(|byte| *byte == b'\n')).flatten();
    let rest = &text[first_line.map_or(0, |end| end + 1)..];
    rest.starts_with(b"PK\x03\x04")
}

pub(super) async fn requirements_file(
    spec: &JobSpec,
    files: &ClientFiles,
) -> Result<Option<RequirementsFile>, EnvironmentError> {
    let Some(file) = &spec.environment.requirements_file else { return Ok(None) };
    let path = spec.directory.as_path().join(file.as_path());
    match files.read(&path, MAX_REQUIREMENTS_BYTES).await {
        Ok(content) => Ok(Some(RequirementsFile { path, content })),
        Err(problem) => Err(EnvironmentError::Unreadable { path, problem }),
    }
}

/// Whether uv would take this directory for a project's.
pub(super) async fn is_project(directory: &Path, files: &ClientFiles) -> Result<bool, EnvironmentError> {
    let path = directory.join("pyproject.toml");
    match files.kind(&path).await {
        Err(Problem::Io(_)) => Ok(false),
        Err(problem) => Err(EnvironmentError::Unreadable { path, problem }),
        Ok(kind) => Ok(kind == Some(Kind::File)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zip_file_is_known_by_how_it_begins() {
        for (text, expected) in [
            (&b"PK\x03\x04rest"[..], true),
            (b"#!/usr/bin/env python3\nPK\x03\x04rest", true),
            (b"#!/usr/bin/env python3 PK\x03\x04", false),
            (b"# PK\x03\x04", false),
            (b"PK = 3\n", false),
            (b"", false),
        ] {
            assert_eq!(is_zip(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_a_client_has_sent_is_a_file_with_no_password_in_it() {
        let run_directory = tempfile::tempdir().expect("a directory");
        let content = JobSource::Content { path: "/dev/fd/63".into(), content: "print(1)".into() };
        let mut spec = JobSpec::new(content, "/", pyexec_proto::environment::Interpreter::System);
        spec.environment.requirements_file = Some("/dev/fd/62".into());
        spec.environment.requirements_content = Some("a @ https://user:secret@host/a.whl\n".to_owned());
        // As it is kept.
        passwords::take(spec.environment.requirements_content.as_mut_slice());
        // Twice, as after the end of a daemon.
        for _ in 0..2 {
            let placed = place(spec.clone(), run_directory.path()).expect("can be written");
            let JobSource::File { path } = &placed.source else { panic!("{placed:?}") };
            assert_eq!(std::fs::read_to_string(path.as_path()).expect("is there"), "print(1)");
            assert!(path.as_path().starts_with(run_directory.path()), "{path}");
            let file = placed.environment.requirements_file.expect("is named");
            let text = std::fs::read_to_string(file.as_path()).expect("is there");
            assert!(text.starts_with("a @ https://user:${") && !text.contains("secret"), "{text}");
            assert_eq!(placed.environment.requirements_content, None);
        }
    }
}
