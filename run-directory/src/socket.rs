//! Sockets of the local machine, however long their paths are.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// A path for the socket at `path` that fits into `sun_path`, which has room for 107 bytes, however long `path` is.
///
/// The returned descriptor must live until the address has been used.
pub fn socket_address(path: &Path) -> io::Result<(PathBuf, Option<OwnedFd>)> {
    const ROOM: usize = 107;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` names no socket", path.display())));
    };
    if path.as_os_str().len() <= ROOM {
        return Ok((path.to_owned(), None));
    }
    use rustix::fs::{Mode, OFlags};
    let directory = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let through = format!("/proc/self/fd/{}", directory.as_raw_fd());
    Ok((Path::new(&through).join(name), Some(directory)))
}

/// Whether a daemon listens there.
pub fn listens(socket: &Path) -> bool {
    match socket_address(socket).and_then(|(address, _directory)| UnixStream::connect(address)) {
        Ok(_) => true,
        Err(error) => !nobody_listens(&error),
    }
}

/// Whether the error means that there is no daemon, rather than one that cannot be reached.
pub fn nobody_listens(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private::create_private;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_socket_in_a_deep_directory_can_be_bound_and_reached() {
        let home = tempfile::tempdir().expect("a directory");
        let deep = home.path().join("d".repeat(100)).join("e".repeat(100));
        create_private(&deep).expect("can be made");
        let path = deep.join("pyexecd.sock");
        let (address, _directory) = socket_address(&path).expect("has an address");
        let _listener = UnixListener::bind(address).expect("can be bound");
        let (address, _directory) = socket_address(&path).expect("has an address");
        UnixStream::connect(address).expect("can be reached");
    }
}
