//! The socket the daemon listens on: systemd's, or its own, which nobody else's is taken for.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use pyexec_run_directory::private::create_private;
use pyexec_run_directory::socket::socket_address;
use rustix::fs::Mode;
use tokio::net::{UnixListener, UnixStream};

#[derive(Debug)]
pub(crate) struct Listener {
    listener: UnixListener,
    /// Of a socket that is ours to make and to remove.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    path: PathBuf,
    /// Device and inode: what has that name later may be somebody else's.
    identity: (u64, u64),
}

impl Listener {
    /// # Errors
    /// When something that is not a socket has the name, or somebody answers there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if let Some(handed_over) = listenfd::ListenFd::from_env().take_unix_listener(0)? {
            handed_over.set_nonblocking(true)?;
            return Ok(Self { listener: UnixListener::from_std(handed_over)?, own: None });
        }
        let (listener, own) = bind(path)?;
        Ok(Self { listener, own: Some(own) })
    }

    pub(crate) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Makes the socket again if its name is gone; `false` when there was no need.
    pub(crate) fn restore(&mut self) -> io::Result<bool> {
        let Some(own) = &self.own else { return Ok(false) };
        if identity(&own.path).is_some_and(|now| now == own.identity) {
            return Ok(false);
        }
        let (listener, own) = bind(&own.path)?;
        self.listener = listener;
        self.own = Some(own);
        Ok(true)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(own) = &self.own
            && identity(&own.path).is_some_and(|now| now == own.identity)
        {
            let _ = std::fs::remove_file(&own.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|data| (data.dev(), data.ino()))
}

fn bind(path: &Path) -> io::Result<(UnixListener, Own)> {
    if let Some(directory) = path.parent() {
        create_private(directory)?;
    }
    make_room(path)?;
    let (address, _directory) = socket_address(path)?;
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
    let identity = identity(path).ok_or(io::ErrorKind::NotFound)?;
    Ok((UnixListener::from_std(listener)?, Own { path: path.to_owned(), identity }))
}

/// Takes a socket away that nobody listens on any more, and nothing else.
fn make_room(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there, and no socket"));
    }
    let (address, _directory) = socket_address(path)?;
    match StdStream::connect(address) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody else listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
    }
}
