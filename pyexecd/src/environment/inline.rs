//! The file of code that a job brought along: Python is given a script, so that a process that a job starts anew can import
//! it, and a traceback has its lines.
//!
//! It lies in a directory of its own in the run directory, goes when that goes, and neither may be written to. The code is in
//! the specification too: a file that is damaged, or half made, is made again when the job is prepared again.

use std::fs::{DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pyexec_proto::OsText;
use pyexec_proto::job::{JobSource, MAX_ARGUMENT_BYTES};
use pyexec_proto::paths::Paths;
use rustix::fs::{Mode, OFlags};

use super::EnvironmentError;
use crate::blocking::blocking;

/// Makes the file of a job's code, where it is to be run from one, and returns its path.
pub(super) async fn place(source: &JobSource, run_directory: &Path) -> Result<Option<PathBuf>, EnvironmentError> {
    let Some(code) = code(source).cloned() else { return Ok(None) };
    let directory = run_directory.to_owned();
    let failed = |source| EnvironmentError::Script { path: Paths::inline_script(run_directory), source };
    blocking(move || write(&directory, &code)).await.map(Some).map_err(failed)
}

/// The code that is run from a file of ours. What is given with `-c` is, where it is longer than an argument may be.
fn code(source: &JobSource) -> Option<&OsText> {
    match source {
        JobSource::Inline { code } => Some(code),
        JobSource::Code { code } => (code.as_bytes().len() >= MAX_ARGUMENT_BYTES).then_some(code),
        JobSource::File { .. } | JobSource::Stdin { .. } | JobSource::Module { .. } | JobSource::Content { .. } => None,
    }
}

fn write(run_directory: &Path, code: &OsText) -> io::Result<PathBuf> {
    const WHILE_IT_IS_MADE: u32 = 0o700;
    const MADE: u32 = 0o500;
    let file = Paths::inline_script(run_directory);
    let directory = file.parent().expect("it lies in a directory");
    match DirBuilder::new().mode(WHILE_IT_IS_MADE).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // By a daemon that died before the job was started.
            std::fs::set_permissions(directory, Permissions::from_mode(WHILE_IT_IS_MADE))?;
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        made => made?,
    }
    let how = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    std::fs::File::from(rustix::fs::open(&file, how, Mode::RUSR)?).write_all(code.as_bytes())?;
    std::fs::set_permissions(directory, Permissions::from_mode(MADE))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_daemon_that_died_has_left_of_it_is_made_anew() {
        let run_directory = tempfile::tempdir().expect("a directory");
        let mode = |path: &Path| path.metadata().expect("is there").permissions().mode() & 0o777;
        for left in ["nothing", "an empty directory", "half a file", "all of it"] {
            let file = Paths::inline_script(run_directory.path());
            let directory = file.parent().expect("lies in one");
            if directory.exists() {
                std::fs::set_permissions(directory, Permissions::from_mode(0o700)).expect("is ours");
            }
            match left {
                "an empty directory" => std::fs::remove_file(&file).expect("is there"),
                "half a file" => {
                    std::fs::remove_file(&file).expect("is there");
                    std::fs::write(&file, "print(").expect("can be written");
                }
                _ => {}
            }
            assert_eq!(write(run_directory.path(), &"print(1)".into()).expect(left), file);
            assert_eq!(std::fs::read_to_string(&file).expect(left), "print(1)", "{left}");
            assert_eq!((mode(&file), mode(directory)), (0o400, 0o500), "{left}");
        }
    }

    #[test]
    fn code_has_a_file_if_it_is_a_script_or_too_long_for_an_argument() {
        let of = |length: usize| OsText::from("#".repeat(length));
        let longest = MAX_ARGUMENT_BYTES - 1;
        assert!(code(&JobSource::Inline { code: of(1) }).is_some());
        assert!(code(&JobSource::Code { code: of(longest) }).is_none());
        assert!(code(&JobSource::Code { code: of(longest + 1) }).is_some());
        assert!(code(&JobSource::Stdin { code: of(longest + 1) }).is_none());
    }
}
