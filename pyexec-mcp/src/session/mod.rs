//! The context of every request: the daemon, the budget, and the environment of jobs.
//!
//! There are three lifetimes, so that other transports can be added beside stdio. There is one [`Process`]. An
//! [`Origin`] belongs to a transport: over stdio, the client is the process that started this one. A [`Session`]
//! belongs to one connection. This module knows nothing of the protocol.

mod budget;
mod caller;
mod successor;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyexec_client::caller::Caller;
use pyexec_client::environment_file::EnvironmentFile;
use pyexec_client::{Client, ClientError, Daemon, threads};
use pyexec_proto::paths::{NoHome, Paths};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::options::Options;
pub(crate) use successor::{NoSuccessor, protocols};

/// The state of the process.
pub(crate) struct Process {
    paths: Paths,
    client: OnceCell<Arc<Client>>,
    /// The last problems of the environment file that were reported.
    reported: Mutex<Vec<String>>,
}

impl Process {
    pub(crate) fn new(options: &Options) -> Result<Self, NoHome> {
        let mut paths = Paths::from_environment()?;
        if let Some(socket) = &options.socket {
            paths.socket = std::path::absolute(socket).unwrap_or_else(|_| PathBuf::from(socket));
        }
        Ok(Self { paths, client: OnceCell::new(), reported: Mutex::default() })
    }
}

/// The origin of a transport's requests.
pub(crate) struct Origin {
    /// The variables of the host. For jobs, the environment file adds to them.
    variables: Vec<(OsString, OsString)>,
    /// `None` if the directory was removed.
    directory: Option<PathBuf>,
}

impl Origin {
    /// The origin for clients that started this process.
    pub(crate) fn of_this_process() -> Self {
        Self { variables: caller::variables_of_this_process(), directory: std::env::current_dir().ok() }
    }
}

/// The state of one connection.
#[derive(Clone)]
pub(crate) struct Session {
    process: Arc<Process>,
    origin: Arc<Origin>,
    end_of_input: CancellationToken,
}

impl Session {
    pub(crate) fn new(process: Arc<Process>, origin: Arc<Origin>) -> Self {
        Self { process, origin, end_of_input: CancellationToken::new() }
    }

    /// The client of the daemon. It starts the daemon if there is none, and finds the next one if the daemon goes away.
    pub(crate) async fn client(&self) -> Result<Arc<Client>, ClientError> {
        let connect = async || Client::connect(self.process.paths.clone(), Daemon::StartIfNone).await.map(Arc::new);
        Ok(self.process.client.get_or_try_init(connect).await?.clone())
    }

    /// The program to hand over to if the daemon is newer and speaks no lower protocol than this.
    pub(crate) async fn successor(&self, protocol: u16) -> Result<PathBuf, NoSuccessor> {
        let paths = self.process.paths.clone();
        threads::run_on_thread(move || successor::find(&paths, protocol)).await.expect("nothing in it panics")
    }

    /// The current content of `pyexec.env`. It is read for each call, so that changes need no restart of the host.
    pub(crate) async fn environment_file(&self) -> EnvironmentFile {
        let path = self.process.paths.environment_file();
        threads::run_on_thread(move || EnvironmentFile::read(&path)).await.expect("nothing in it panics")
    }

    /// The problems of the environment file, unless an answer has already reported them.
    pub(crate) fn unreported(&self, file: &EnvironmentFile) -> Option<String> {
        let mut reported = self.process.reported.lock().expect("nobody panics while holding it");
        if *reported == file.problems {
            return None;
        }
        reported.clone_from(&file.problems);
        (!reported.is_empty()).then(|| reported.join("; "))
    }

    /// How long a synchronous tool waits for its job.
    pub(crate) fn budget(&self, file: &EnvironmentFile) -> Duration {
        budget::of_setting(file)
    }

    /// The environment of jobs: that of the host, with additions from the environment file.
    pub(crate) fn caller(&self, file: &EnvironmentFile) -> Caller {
        Caller::with_variables(file.completing(self.origin.variables.clone()).into_iter())
    }

    /// The directory for relative paths; `None` if it was removed.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.origin.directory.as_deref()
    }

    /// Cancelled once the client has closed its end of the connection.
    pub(crate) fn end_of_input(&self) -> CancellationToken {
        self.end_of_input.clone()
    }
}
