//! Output that appears line by line without the script flushing, and without `python -u`.
//!
//! A directory in front of `PYTHONPATH` holds a `sitecustomize.py` that switches line buffering on, takes itself out of
//! everything it can be seen in, and lets the user's own run. Where Python is told to ignore its environment (`-I`,
//! `-E`, `-S`) this does nothing, and output comes in Python's own blocks.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use pyexec_proto::job::Variables;
use pyexec_proto::paths::create_private;

const MODULE: &str = include_str!("sitecustomize.py");
const PYTHONPATH: &str = "PYTHONPATH";

/// Puts our directory in front of what `variables` has.
pub(super) fn arrange(cache: &Path, variables: &mut Variables) -> io::Result<()> {
    let mut path = OsString::from(directory(cache)?);
    if let Some(own) = variables.get(PYTHONPATH).filter(|own| !own.is_empty()) {
        path.push(":");
        path.push(own);
    }
    variables.set(OsStr::new(PYTHONPATH), &path);
    Ok(())
}

/// The directory, made again if somebody has emptied the cache.
fn directory(cache: &Path) -> io::Result<PathBuf> {
    let directory = cache.join(concat!("line-buffering-", env!("CARGO_PKG_VERSION")));
    let module = directory.join("sitecustomize.py");
    if std::fs::metadata(&module).is_ok_and(|file| file.len() == MODULE.len() as u64) {
        return Ok(directory);
    }
    create_private(&directory)?;
    // Whole or not at all: a job that starts meanwhile must not read half of it.
    let temporary = directory.join(format!("{}.tmp", pyexec_proto::JobId::mint().simple()));
    std::fs::write(&temporary, MODULE)?;
    std::fs::rename(&temporary, &module)?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_path_stays_behind_ours() {
        let cache = tempfile::tempdir().expect("a directory");
        let mut variables: Variables = [(PYTHONPATH.into(), "a::b".into())].into_iter().collect();
        arrange(cache.path(), &mut variables).expect("can be arranged");
        let path = variables.get(PYTHONPATH).expect("is set").to_str().expect("is UTF-8");
        assert!(path.starts_with(cache.path().to_str().expect("is UTF-8")) && path.ends_with(":a::b"), "{path}");
    }

    #[test]
    fn a_deleted_or_truncated_module_is_made_again() {
        let cache = tempfile::tempdir().expect("a directory");
        let module = directory(cache.path()).expect("is made").join("sitecustomize.py");
        for damage in [true, false] {
            if damage {
                std::fs::write(&module, "").expect("can be truncated");
            } else {
                std::fs::remove_dir_all(cache.path()).expect("can be deleted");
            }
            directory(cache.path()).expect("is made again");
            assert_eq!(std::fs::read_to_string(&module).expect("is there"), MODULE);
        }
    }
}
