//! Where everything lives. The only place that knows.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use directories::ProjectDirs;

use crate::job::JobId;
use crate::start::SOCKET_VARIABLE;

/// The directories of one user, and the socket.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Jobs, the index, logs: what must survive a reboot.
    pub state: PathBuf,
    /// Scripts.
    pub data: PathBuf,
    /// What can be made again.
    pub cache: PathBuf,
    pub config: PathBuf,
    /// Sockets.
    pub runtime: PathBuf,
    /// Where the daemon listens.
    pub socket: PathBuf,
}

#[derive(Debug, thiserror::Error)]
#[error("there is no home directory: HOME is not set")]
pub struct NoHome;

impl Paths {
    /// From the `XDG_*` variables, `HOME`, and `PYEXEC_SOCKET`.
    pub fn from_environment() -> Result<Self, NoHome> {
        let dirs = ProjectDirs::from("", "", "pyexec").ok_or(NoHome)?;
        let state = dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()).to_owned();
        let runtime = dirs.runtime_dir().map_or_else(|| state.join("run"), Path::to_owned);
        let socket = std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty());
        Ok(Self {
            data: dirs.data_local_dir().to_owned(),
            cache: dirs.cache_dir().to_owned(),
            config: dirs.config_dir().to_owned(),
            socket: match socket {
                // The daemon has another working directory than whoever named it.
                Some(named) => std::path::absolute(&named).unwrap_or_else(|_| PathBuf::from(named)),
                None => runtime.join("pyexecd.sock"),
            },
            state,
            runtime,
        })
    }

    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.toml")
    }

    pub fn database(&self) -> PathBuf {
        self.state.join("jobs.sqlite3")
    }

    pub fn jobs(&self) -> PathBuf {
        self.state.join("jobs")
    }

    pub fn run_directory(&self, id: JobId) -> PathBuf {
        self.jobs().join(id.to_string())
    }

    /// What a job leaves for others.
    pub fn artifacts(run_directory: &Path) -> PathBuf {
        run_directory.join("artifacts")
    }

    pub fn logs(&self) -> PathBuf {
        self.state.join("log")
    }

    /// Held by the daemon for its whole life.
    pub fn daemon_lock(&self) -> PathBuf {
        self.state.join("daemon.lock")
    }

    /// Held by the one client that starts the daemon.
    pub fn start_lock(&self) -> PathBuf {
        self.state.join("start.lock")
    }

    /// Scripts that somebody saved under a name.
    pub fn scripts(&self) -> PathBuf {
        self.data.join("scripts")
    }

    /// Code that was run without a file.
    pub fn autosaved_scripts(&self) -> PathBuf {
        self.data.join("autosaved_scripts")
    }

    /// The control sockets of supervisors.
    pub fn supervisors(&self) -> PathBuf {
        self.runtime.join("jobs")
    }
}

/// Makes a directory, and its parents, that only its user may enter.
pub fn create_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

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
