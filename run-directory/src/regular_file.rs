//! Opening a file in a directory that a job may write to, as its run directory is.
//!
//! What a job has put there need not be what we put there. A link is not followed, a pipe is not waited for, a device is
//! not touched.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Opens it to be read; `None` when nothing has that name.
///
/// # Errors
/// Also where it is no regular file, with [`is_foreign`].
pub fn open(path: &Path) -> io::Result<Option<File>> {
    open_at(rustix::fs::CWD, path)
}

/// Likewise, from `directory` on.
pub fn open_at(directory: impl AsFd, path: impl AsRef<Path>) -> io::Result<Option<File>> {
    let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, path.as_ref(), how, Mode::empty()) {
        Ok(file) => {
            let file = File::from(file);
            if file.metadata()?.is_file() { Ok(Some(file)) } else { Err(foreign()) }
        }
        Err(Errno::NOENT) => Ok(None),
        // A link, a socket.
        Err(Errno::LOOP | Errno::NXIO) => Err(foreign()),
        Err(error) => Err(error.into()),
    }
}

/// Whether an error says that something else has the name of a file.
pub fn is_foreign(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NoRegularFile>())
}

#[derive(Debug, thiserror::Error)]
#[error("it is no regular file")]
struct NoRegularFile;

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, NoRegularFile)
}
