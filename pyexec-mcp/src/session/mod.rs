//! What every request needs, whatever it asks for: the daemon, the budget, and whose environment a job gets.
//!
//! Three lifetimes are kept apart, so that another transport can stand beside stdio. A [`Process`] is made once. An
//! [`Origin`] belongs to a transport: over stdio, the client is whoever started this process. A [`Session`] belongs to one
//! connection. This module knows nothing of the protocol.

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

/// One for each process.
pub(crate) struct Process {
    paths: Paths,
    client: OnceCell<Arc<Client>>,
    /// What was last wrong with the environment file, and has been told.
    told: Mutex<Vec<String>>,
}

impl Process {
    pub(crate) fn new(options: &Options) -> Result<Self, NoHome> {
        let mut paths = Paths::from_environment()?;
        if let Some(socket) = &options.socket {
            paths.socket = std::path::absolute(socket).unwrap_or_else(|_| PathBuf::from(socket));
        }
        Ok(Self { paths, client: OnceCell::new(), told: Mutex::default() })
    }
}

/// Where the requests of a transport come from.
pub(crate) struct Origin {
    /// Those of the host, which the environment file completes for jobs.
    variables: Vec<(OsString, OsString)>,
    /// `None` when that directory has been removed.
    directory: Option<PathBuf>,
}

impl Origin {
    /// Of clients that have started this process.
    pub(crate) fn of_this_process() -> Self {
        Self { variables: caller::variables_of_this_process(), directory: std::env::current_dir().ok() }
    }
}

/// One for each connection.
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

    /// The daemon: started if there is none, and found again by the client itself should it go away.
    pub(crate) async fn client(&self) -> Result<Arc<Client>, ClientError> {
        let connect = async || Client::connect(self.process.paths.clone(), Daemon::StartIfNone).await.map(Arc::new);
        Ok(self.process.client.get_or_try_init(connect).await?.clone())
    }

    /// The program that takes over from this one when the daemon is newer, and speaks no lower protocol than this.
    pub(crate) async fn successor(&self, protocol: u16) -> Result<PathBuf, NoSuccessor> {
        let paths = self.process.paths.clone();
        threads::beside(move || successor::find(&paths, protocol)).await.expect("nothing in it panics")
    }

    /// `pyexec.env` as it is now: it is read at each call, so that a change of it holds without a restart of the host.
    pub(crate) async fn environment_file(&self) -> EnvironmentFile {
        let path = self.process.paths.environment_file();
        threads::beside(move || EnvironmentFile::read(&path)).await.expect("nothing in it panics")
    }

    /// What is wrong with the environment file, unless an answer has told that already.
    pub(crate) fn untold(&self, file: &EnvironmentFile) -> Option<String> {
        let mut told = self.process.told.lock().expect("nobody panics while holding it");
        if *told == file.problems {
            return None;
        }
        told.clone_from(&file.problems);
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// How long a synchronous tool waits for its job.
    pub(crate) fn budget(&self, file: &EnvironmentFile) -> Duration {
        budget::of_setting(file)
    }

    /// Whose environment jobs get: the host's, completed by the environment file.
    pub(crate) fn caller(&self, file: &EnvironmentFile) -> Caller {
        Caller::with_variables(file.completing(self.origin.variables.clone()).into_iter())
    }

    /// Where relative paths start; `None` when that directory has been removed.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.origin.directory.as_deref()
    }

    /// Cancelled once the client has closed its end of the connection.
    pub(crate) fn end_of_input(&self) -> CancellationToken {
        self.end_of_input.clone()
    }
}
