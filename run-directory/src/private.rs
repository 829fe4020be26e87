//! Directories and lock files that only their user may enter and open.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Makes a directory, and its parents, that only its user may enter.
pub fn create_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Opens a lock file, or makes it. Something else in its place, a pipe above all, is not waited for.
///
/// # Errors
/// Of the file system; and when it is no regular file.
pub fn open_lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits();
    let mut options = File::options();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(flags.cast_signed());
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file: remove it"));
    }
    Ok(file)
}
