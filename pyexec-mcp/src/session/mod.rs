//! What every request needs, whatever it asks for: the daemon, the budget, and whose environment a job gets.
//!
//! Three lifetimes are kept apart, so that another transport can stand beside stdio. A [`Process`] is made once. An
//! [`Origin`] belongs to a transport: over stdio, the client is whoever started this process. A [`Session`] belongs to one
//! connection. This module knows nothing of the protocol.

mod budget;
mod caller;
mod successor;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pyexec_client::caller::Caller;
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
    budget: Duration,
}

impl Process {
    pub(crate) fn new(options: &Options) -> Result<Self, NoHome> {
        let mut paths = Paths::from_environment()?;
        if let Some(socket) = &options.socket {
            paths.socket = std::path::absolute(socket).unwrap_or_else(|_| PathBuf::from(socket));
        }
        Ok(Self { paths, client: OnceCell::new(), budget: budget::from_environment() })
    }
}

/// Where the requests of a transport come from.
pub(crate) struct Origin {
    caller: Caller,
    /// `None` when that directory has been removed.
    directory: Option<PathBuf>,
}

impl Origin {
    /// Of clients that have started this process.
    pub(crate) fn of_this_process() -> Self {
        Self { caller: caller::of_this_process(), directory: std::env::current_dir().ok() }
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

    /// How long a synchronous tool waits for its job.
    pub(crate) fn budget(&self) -> Duration {
        self.process.budget
    }

    /// Whose environment jobs get.
    pub(crate) fn caller(&self) -> &Caller {
        &self.origin.caller
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
