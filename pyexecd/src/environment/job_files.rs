//! The files that a job names, read for its preparation.

use std::path::PathBuf;

use pyexec_proto::job::{JobSource, JobSpec};
use pyexec_proto::script::MAX_SOURCE_BYTES;

use super::EnvironmentError;
use super::request::RequirementsFile;
use crate::client_files::{ClientFiles, Kind, Problem};

/// What may be read of a requirements file: a lock with hashes has some MiB.
pub(super) const MAX_REQUIREMENTS_BYTES: usize = 16 << 20;

/// The text that will be run, for reading its header and its imports.
pub(super) struct Script {
    pub(super) text: Vec<u8>,
    /// Of a file that was not read, or not to its end, and why. Python is given it all the same.
    pub(super) unread: Option<(PathBuf, Problem)>,
}

pub(super) async fn script(spec: &JobSpec, files: &ClientFiles) -> Result<Script, EnvironmentError> {
    let path = match &spec.source {
        JobSource::Code { code }
        | JobSource::Stdin { code }
        | JobSource::Inline { code }
        | JobSource::Content { content: code, .. } => {
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
}
