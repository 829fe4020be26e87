//! Where everything lives. The only place that knows.

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use directories::ProjectDirs;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::job::JobId;
use crate::os_text::OsText;
use crate::start::{INSTANCE_VARIABLE, SOCKET_VARIABLE, open_lock};

/// The directories of one user, and the socket.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The name of an instance beside the default one: it has a state and a runtime directory of its own, and shares the
    /// others.
    pub instance: Option<String>,
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

/// How the name of the lock of a daemon that uses the cache ends.
pub const CACHE_USER: &str = ".daemon";

/// A daemon that uses the environment cache, as it says in its lock there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheUser {
    pub pid: u32,
    /// Its state directory.
    pub state: OsText,
}

/// The name of the socket.
const SOCKET: &str = "pyexecd.sock";

#[derive(Debug, thiserror::Error)]
pub enum NoHome {
    #[error("there is no home directory: HOME is not set")]
    NotSet,
    /// The daemon has another working directory than its clients.
    #[error("{} is no absolute path: HOME is relative", path.display())]
    Relative { path: PathBuf },
    #[error("{INSTANCE_VARIABLE} is `{given}`, which is no name of an instance: {problem}")]
    Instance { given: String, problem: &'static str },
}

impl NoHome {
    pub fn hint(&self) -> String {
        match self {
            NoHome::NotSet | NoHome::Relative { .. } => {
                "set HOME to an absolute path, or the XDG_* directories".to_owned()
            }
            NoHome::Instance { .. } => {
                format!("name it with ASCII letters, digits, `-`, `_` and `.`; or unset {INSTANCE_VARIABLE}")
            }
        }
    }
}

/// The longest name of an instance, in bytes: it is part of the paths of sockets, which have little room.
const MAX_INSTANCE_BYTES: usize = 32;

/// The instance that somebody names, if it is not the default one.
fn instance(named: Option<OsString>) -> Result<Option<String>, NoHome> {
    let Some(named) = named.filter(|name| !name.is_empty()) else { return Ok(None) };
    let refused = |problem| {
        let given = OsText::from(named.as_os_str()).to_text();
        Err(NoHome::Instance { given: crate::harmless::one_line(&given).into_owned(), problem })
    };
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    match named.to_str() {
        Some(name) if !name.as_bytes().iter().all(is_plain) => refused("it has other characters than those of a name"),
        Some(name) if name.starts_with('.') => refused("it begins with a dot"),
        Some(name) if name.len() > MAX_INSTANCE_BYTES => refused("it is longer than 32 bytes"),
        Some(name) => Ok(Some(name.to_owned())),
        None => refused("it is not UTF-8"),
    }
}

/// The directory of an instance, beside that of the default one.
fn of_instance(directory: &Path, instance: Option<&str>) -> PathBuf {
    let named = |name: &str| {
        let mut file = directory.file_name().unwrap_or_default().to_owned();
        file.push("@");
        file.push(name);
        directory.with_file_name(file)
    };
    instance.map_or_else(|| directory.to_owned(), named)
}

impl Paths {
    /// From the `XDG_*` variables, `HOME`, `PYEXEC_INSTANCE`, and `PYEXEC_SOCKET`.
    pub fn from_environment() -> Result<Self, NoHome> {
        let dirs = ProjectDirs::from("", "", "pyexec").ok_or(NoHome::NotSet)?;
        let instance = instance(std::env::var_os(INSTANCE_VARIABLE))?;
        let state = of_instance(dirs.state_dir().unwrap_or_else(|| dirs.data_local_dir()), instance.as_deref());
        let runtime = dirs.runtime_dir().map_or_else(|| state.join("run"), |dir| of_instance(dir, instance.as_deref()));
        // `XDG_*` variables that are relative are ignored, as their specification demands.
        let all = [&state, dirs.data_local_dir(), dirs.cache_dir(), dirs.config_dir()];
        if let Some(relative) = all.into_iter().find(|directory| directory.is_relative()) {
            return Err(NoHome::Relative { path: relative.to_owned() });
        }
        let socket = std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty());
        Ok(Self {
            instance,
            data: dirs.data_local_dir().to_owned(),
            cache: dirs.cache_dir().to_owned(),
            config: dirs.config_dir().to_owned(),
            socket: match socket {
                // The daemon has another working directory than whoever named it.
                Some(named) => std::path::absolute(&named).unwrap_or_else(|_| PathBuf::from(named)),
                None => runtime.join(SOCKET),
            },
            state,
            runtime,
        })
    }

    /// Whether the daemon listens where it does by itself, and nobody has named another place.
    pub fn has_default_socket(&self) -> bool {
        self.socket == self.runtime.join(SOCKET)
    }

    /// Where a daemon of this state directory listens when that of another one has the usual place: the name is made from
    /// that of the directory.
    pub fn socket_beside(&self) -> PathBuf {
        // FNV-1a: the same in every build, which the standard library's hash is not.
        let hash = self.state.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        self.runtime.join(format!("pyexecd-{:08x}.sock", hash >> 32))
    }

    /// Whether the directories are this user's, and nobody else can put anything into them. What is not there yet is made
    /// later, but never below a directory of another user's; what is ours, and open to others, is closed.
    pub fn check(&self) -> Result<(), ForeignDirectory> {
        // Made by somebody else: `pyexec` in it could be replaced under us.
        if let Some(shared) = self.runtime.parent().filter(|_| !self.runtime.starts_with(&self.state)) {
            check_shared(shared)?;
        }
        let own = [
            (&self.state, "XDG_STATE_HOME"),
            (&self.data, "XDG_DATA_HOME"),
            (&self.cache, "XDG_CACHE_HOME"),
            (&self.config, "XDG_CONFIG_HOME"),
            (&self.runtime, "XDG_RUNTIME_DIR"),
        ];
        own.into_iter().try_for_each(|(directory, variable)| check_own(directory, variable))?;
        self.check_settings()
    }

    /// Whether the settings are this user's, or the system's.
    pub fn check_settings(&self) -> Result<(), ForeignDirectory> {
        check_settings(&self.config)?;
        check_settings(&self.config_file())
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

    /// The file of a job's code that was given inline.
    pub fn inline_script(run_directory: &Path) -> PathBuf {
        run_directory.join("code").join("script.py")
    }

    /// The locks of the environment cache, by which daemons that share it see each other.
    pub fn cache_locks_in(cache: &Path) -> PathBuf {
        cache.join("locks")
    }

    /// The daemons that use the cache, wherever their state is. Of each the lock is held: what is left of a dead one does not
    /// count.
    pub fn cache_users(&self) -> Vec<CacheUser> {
        let Ok(entries) = std::fs::read_dir(Self::cache_locks_in(&self.cache)) else { return Vec::new() };
        let is_held = |file: &File| flock(file, FlockOperation::NonBlockingLockShared).is_err();
        let user = |entry: std::fs::DirEntry| {
            entry.file_name().to_str()?.strip_suffix(CACHE_USER)?;
            let file = open_lock(&entry.path()).ok()?;
            if is_held(&file) { serde_json::from_reader(file).ok() } else { None }
        };
        entries.flatten().filter_map(user).collect()
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
        Self::scripts_in(&self.data)
    }

    /// The same in any data directory.
    pub fn scripts_in(data: &Path) -> PathBuf {
        data.join("scripts")
    }

    /// Code that was run without a file.
    pub fn autosaved_scripts(&self) -> PathBuf {
        Self::autosaved_scripts_in(&self.data)
    }

    /// The same in any data directory.
    pub fn autosaved_scripts_in(data: &Path) -> PathBuf {
        data.join("autosaved_scripts")
    }

    /// The control sockets of supervisors.
    pub fn supervisors(&self) -> PathBuf {
        self.runtime.join("jobs")
    }
}

/// A directory in which somebody else can put files of his in the place of ours.
#[derive(Debug, thiserror::Error)]
#[error("{} {problem}", path.display())]
pub struct ForeignDirectory {
    pub path: PathBuf,
    problem: String,
    /// What to do about it.
    pub hint: String,
}

/// The directory that `XDG_RUNTIME_DIR` names: of this user, as the specification of it demands; or one of the system's
/// that keeps what is ours from others, as `/tmp` does.
fn check_shared(directory: &Path) -> Result<(), ForeignDirectory> {
    let foreign = |problem: String| ForeignDirectory {
        path: directory.to_owned(),
        problem,
        hint: "let XDG_RUNTIME_DIR name a directory of your own with mode 0700, or unset it".to_owned(),
    };
    // What can not be looked at can not be used either, and says so then.
    let Ok(found) = std::fs::metadata(directory) else { return Ok(()) };
    let (user, mode) = (rustix::process::geteuid().as_raw(), found.mode() & 0o7777);
    if found.uid() != user && found.uid() != 0 {
        return Err(foreign(format!("belongs to user {}, not to you", found.uid())));
    }
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(foreign(format!("has mode {mode:04o}: other users can replace what is in it")));
    }
    Ok(())
}

fn check_own(directory: &Path, variable: &str) -> Result<(), ForeignDirectory> {
    let foreign = |problem: String| ForeignDirectory {
        path: directory.to_owned(),
        problem,
        hint: format!("remove it, or let {variable} name a directory of your own"),
    };
    let user = rustix::process::geteuid().as_raw();
    let found = match std::fs::symlink_metadata(directory) {
        Ok(found) => found,
        // It would be made in the nearest directory there is: root would leave something in a user's home that shuts him out.
        Err(_) => {
            let nearest = directory.ancestors().skip(1).find_map(|above| Some((above, std::fs::metadata(above).ok()?)));
            return match nearest {
                Some((above, found)) if found.uid() != user && found.uid() != 0 => Err(ForeignDirectory {
                    hint: format!(
                        "let {variable} name a directory of your own (after `sudo`, HOME may be another user's)"
                    ),
                    ..foreign(format!(
                        "would be made in {}, which belongs to user {}, not to you",
                        above.display(),
                        found.uid()
                    ))
                }),
                Some(_) | None => Ok(()),
            };
        }
    };
    // A link of one's own is a wish; one of somebody else's leads where he likes.
    if found.is_symlink() && found.uid() != user && found.uid() != 0 {
        return Err(foreign(format!("is a link that user {} has made", found.uid())));
    }
    let Ok(found) = std::fs::metadata(directory) else { return Ok(()) };
    if found.uid() != user {
        return Err(foreign(format!("belongs to user {}, not to you", found.uid())));
    }
    if found.mode() & 0o077 != 0 {
        let closed = PermissionsExt::from_mode(found.mode() & 0o700);
        std::fs::set_permissions(directory, closed)
            .map_err(|error| foreign(format!("is open to others, and can not be closed: {error}")))?;
    }
    Ok(())
}

/// The settings name programs that are run, so nobody else may have written them. Others may read them, and they may be the
/// system's: root is trusted in any case.
fn check_settings(path: &Path) -> Result<(), ForeignDirectory> {
    let foreign = |problem: String| ForeignDirectory {
        path: path.to_owned(),
        problem,
        hint: "remove it, or let XDG_CONFIG_HOME name a directory of your own".to_owned(),
    };
    let user = rustix::process::geteuid().as_raw();
    let is_foreign = |owner: u32| owner != user && owner != 0;
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if found.is_symlink() && is_foreign(found.uid()) {
        return Err(foreign(format!("is a link that user {} has made", found.uid())));
    }
    let Ok(found) = std::fs::metadata(path) else { return Ok(()) };
    if is_foreign(found.uid()) {
        return Err(foreign(format!("belongs to user {}, not to you", found.uid())));
    }
    if found.mode() & 0o022 != 0 {
        let closed = PermissionsExt::from_mode(found.mode() & 0o7755);
        std::fs::set_permissions(path, closed)
            .map_err(|error| foreign(format!("can be written to by others, which cannot be changed: {error}")))?;
    }
    Ok(())
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
    fn an_instance_has_a_name_that_is_safe_in_a_path_and_anything_else_is_refused_with_it() {
        let named = |name: &str| instance(Some(name.into()));
        for name in ["ci", "2", "no-network_3.1", &"n".repeat(MAX_INSTANCE_BYTES)] {
            assert_eq!(named(name).expect("is a name").as_deref(), Some(name));
        }
        assert_eq!(named("").expect("is none"), None);
        assert_eq!(instance(None).expect("is none"), None);
        let long = "n".repeat(MAX_INSTANCE_BYTES + 1);
        for name in ["a/b", "..", ".hidden", "a b", "a@b", "ä", "a\n", &long] {
            let refused = named(name).expect_err("is no name").to_string();
            assert!(refused.starts_with("PYEXEC_INSTANCE is `") && !refused.contains('\n'), "{refused}");
        }
        assert_eq!(of_instance(Path::new("/s/pyexec"), Some("ci")), Path::new("/s/pyexec@ci"));
        assert_eq!(of_instance(Path::new("/s/pyexec"), None), Path::new("/s/pyexec"));
    }

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
