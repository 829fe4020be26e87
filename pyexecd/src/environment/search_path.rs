//! Programs on the caller's `PATH`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where a program of this name may be. Relative entries of `PATH` are passed over: the daemon's working directory is not
/// the caller's.
pub(super) fn on_path(name: &str, path: Option<&OsStr>) -> Vec<PathBuf> {
    let entries = path.unwrap_or_default().as_bytes().split(|byte| *byte == b':');
    let entries = entries.map(|entry| Path::new(OsStr::from_bytes(entry))).filter(|entry| entry.is_absolute());
    entries.map(|entry| entry.join(name)).collect()
}
