//! How a job's Python starts: its output appears line by line without the script flushing and without `python -u`, and it
//! can import `pyexec_progress`.
//!
//! A directory in front of `PYTHONPATH` holds a `sitecustomize.py` that sees to both, takes itself out of everything it
//! can be seen in, and lets the user's own run. What stays is one finder, the last that Python asks. Where Python is told
//! to ignore its environment (`-I`, `-E`, `-S`) this does nothing: output comes in Python's own blocks, and the import
//! fails.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use pyexec_proto::job::{Buffering, Variables};
use pyexec_proto::paths::create_private;

const STARTUP: &str = include_str!("sitecustomize.py");
const PROGRESS: &str = include_str!("pyexec_progress.py");
const PYTHONPATH: &str = "PYTHONPATH";

/// Puts our directory in front of what `variables` has.
pub(super) fn arrange(cache: &Path, buffering: Buffering, variables: &mut Variables) -> io::Result<()> {
    let mut path = OsString::from(directory(cache, buffering)?);
    if let Some(own) = variables.get(PYTHONPATH).filter(|own| !own.is_empty()) {
        path.push(":");
        path.push(own);
    }
    variables.set(OsStr::new(PYTHONPATH), &path);
    Ok(())
}

/// The directory, made again if somebody has emptied the cache.
fn directory(cache: &Path, buffering: Buffering) -> io::Result<PathBuf> {
    let all = cache.join(concat!("python-", env!("CARGO_PKG_VERSION")));
    // `sitecustomize.py` reads off its name what it is to do.
    let directory = all.join(match buffering {
        Buffering::Line => "line",
        Buffering::Full => "full",
    });
    provide(&all.join("pyexec-modules"), "pyexec_progress.py", PROGRESS)?;
    provide(&directory, "sitecustomize.py", STARTUP)?;
    Ok(directory)
}

fn provide(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    let module = directory.join(name);
    if std::fs::metadata(&module).is_ok_and(|file| file.len() == text.len() as u64) {
        return Ok(());
    }
    create_private(directory)?;
    // Whole or not at all: a job that starts meanwhile must not read half of it.
    let temporary = directory.join(format!("{}.tmp", pyexec_proto::JobId::mint().simple()));
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, &module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_path_stays_behind_ours() {
        let cache = tempfile::tempdir().expect("a directory");
        let mut variables: Variables = [(PYTHONPATH.into(), "a::b".into())].into_iter().collect();
        arrange(cache.path(), Buffering::Line, &mut variables).expect("can be arranged");
        let path = variables.get(PYTHONPATH).expect("is set").to_str().expect("is UTF-8");
        assert!(path.starts_with(cache.path().to_str().expect("is UTF-8")) && path.ends_with(":a::b"), "{path}");
    }

    #[test]
    fn a_deleted_or_truncated_module_is_made_again() {
        let cache = tempfile::tempdir().expect("a directory");
        for buffering in [Buffering::Line, Buffering::Full] {
            let made = directory(cache.path(), buffering).expect("is made");
            let modules = made.parent().expect("has one").join("pyexec-modules/pyexec_progress.py");
            for (module, text) in [(made.join("sitecustomize.py"), STARTUP), (modules, PROGRESS)] {
                for damage in [true, false] {
                    if damage {
                        std::fs::write(&module, "").expect("can be truncated");
                    } else {
                        std::fs::remove_dir_all(cache.path()).expect("can be deleted");
                    }
                    directory(cache.path(), buffering).expect("is made again");
                    assert_eq!(std::fs::read_to_string(&module).expect("is there"), text);
                }
            }
        }
    }
}
