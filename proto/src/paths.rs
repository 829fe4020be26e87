//! The paths of all files and directories. No other module builds such paths.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use directories::ProjectDirs;

use crate::id::JobId;
use crate::os_text::OsText;
use crate::variables::{INSTANCE_VARIABLE, SOCKET_VARIABLE};

/// The directories of one user, and the socket.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The name of an instance beside the default one. An instance has its own state and runtime directories, and
    /// shares the others.
    pub instance: Option<String>,
    /// Jobs, the index, logs: data that must survive a reboot.
    pub state: PathBuf,
    /// Scripts.
    pub data: PathBuf,
    /// Data that can be rebuilt.
    pub cache: PathBuf,
    pub config: PathBuf,
    /// Sockets.
    pub runtime: PathBuf,
    /// Where the daemon listens.
    pub socket: PathBuf,
}

/// The name of the socket.
const SOCKET: &str = "pyexecd.sock";

#[derive(Debug, thiserror::Error)]
pub enum NoHome {
    #[error("there is no home directory: HOME is not set")]
    NotSet,
    /// A relative path would mean another directory to the daemon than to its clients.
    #[error("{} is not an absolute path: HOME is relative", path.display())]
    Relative { path: PathBuf },
    #[error("{INSTANCE_VARIABLE} is `{given}`, which is not a valid instance name: {problem}")]
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

/// The longest name of an instance, in bytes: it is part of socket paths, whose length is limited.
const MAX_INSTANCE_BYTES: usize = 32;

/// The named instance; `None` for the default one.
fn instance(named: Option<OsString>) -> Result<Option<String>, NoHome> {
    let Some(named) = named.filter(|name| !name.is_empty()) else { return Ok(None) };
    let refused = |problem| {
        let given = OsText::from(named.as_os_str()).to_text();
        Err(NoHome::Instance { given: crate::sanitize::one_line(&given).into_owned(), problem })
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
    /// Reads the `XDG_*` variables, `HOME`, `PYEXEC_INSTANCE`, and `PYEXEC_SOCKET`.
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
                // The daemon has another working directory than the process that sets the variable.
                Some(named) => std::path::absolute(&named).unwrap_or_else(|_| PathBuf::from(named)),
                None => runtime.join(SOCKET),
            },
            state,
            runtime,
        })
    }

    /// Whether the socket is at its default path.
    pub fn has_default_socket(&self) -> bool {
        self.socket == self.runtime.join(SOCKET)
    }

    /// The socket path for a daemon whose default path is taken by the daemon of another state directory. Its name is
    /// derived from the state directory.
    pub fn socket_beside(&self) -> PathBuf {
        // FNV-1a gives the same hash in every build; the standard library's hash does not.
        let hash = self.state.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        self.runtime.join(format!("pyexecd-{:08x}.sock", hash >> 32))
    }

    /// Variables for the programs of pyexec, and for jobs started through the MCP server.
    pub fn environment_file(&self) -> PathBuf {
        self.config.join("pyexec.env")
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

    /// The directory for the artifacts of a job.
    pub fn artifacts(run_directory: &Path) -> PathBuf {
        run_directory.join("artifacts")
    }

    /// The file for inline code of a job.
    pub fn inline_script(run_directory: &Path) -> PathBuf {
        run_directory.join("code").join("script.py")
    }

    /// The locks by which daemons coordinate their use of a shared environment cache.
    pub fn cache_locks_in(cache: &Path) -> PathBuf {
        cache.join("locks")
    }

    pub fn logs(&self) -> PathBuf {
        self.state.join("log")
    }

    /// The daemon holds this lock as long as it runs.
    pub fn daemon_lock(&self) -> PathBuf {
        self.state.join("daemon.lock")
    }

    /// A client holds this lock while it starts the daemon.
    pub fn start_lock(&self) -> PathBuf {
        self.state.join("start.lock")
    }

    /// Scripts that were saved under a name.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
