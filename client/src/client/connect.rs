//! Connects to a daemon and exchanges greetings.

use std::path::{Path, PathBuf};

use pyexec_proto::greeting::{Directories, Greeting};
use pyexec_proto::preamble::{Preamble, PreambleError};
use pyexec_proto::service::PyexecClient;
use pyexec_proto::wire;
use pyexec_run_directory::socket::socket_address;
use tokio::net::UnixStream;

use crate::error::ClientError;
use crate::start::process::DaemonProcess;

/// A connection on which calls can be made.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: PyexecClient,
    /// The directories that the daemon uses.
    pub(super) directories: Directories,
}

pub(super) async fn connect(at: &Path, ours: &Greeting) -> Result<Connection, ClientError> {
    let socket = || at.to_owned();
    let connect = async {
        let (address, _directory) = socket_address(at)?;
        UnixStream::connect(address).await
    };
    let mut stream = connect.await.map_err(|source| ClientError::Connect { socket: socket(), source })?;
    // A daemon in a pid namespace that is not below ours has the pid 0 here, which rustix takes for an error.
    let peer = stream.peer_cred().map_err(|source| ClientError::Connect { socket: socket(), source })?;
    if peer.uid() != rustix::process::geteuid().as_raw() {
        return Err(ClientError::ForeignDaemon { socket: socket(), owner: peer.uid() });
    }
    let greeting = match ours.exchange(&mut stream).await {
        Ok((_, Some(greeting))) => greeting,
        Ok((daemon, None)) => return Err(ClientError::Version { daemon, client: Preamble::ours() }),
        // The daemon exited between accepting and greeting; the caller asks the next one.
        Err(PreambleError::Io(source)) => {
            let source = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, source);
            return Err(ClientError::Connect { socket: socket(), source });
        }
        Err(PreambleError::Silent) => return Err(silent(socket(), peer.pid().unwrap_or(0))),
        Err(source) => return Err(ClientError::Preamble { socket: socket(), source }),
    };
    let client = PyexecClient::new(tarpc::client::Config::default(), wire::call(stream)).spawn();
    Ok(Connection { client, directories: greeting.directories })
}

/// The error for a listener that sends no greeting. If the kernel reports a daemon as the listener, the error names it.
fn silent(socket: PathBuf, listener: i32) -> ClientError {
    match u32::try_from(listener).ok().and_then(DaemonProcess::find) {
        Some(process) => ClientError::Unresponsive { pid: process.pid(), state: process.state() },
        None => ClientError::Preamble { socket, source: PreambleError::Silent },
    }
}
