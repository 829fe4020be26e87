//! One connection to a daemon, from connecting to the end of the greeting, and who it is that answers.

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
pub(super) struct Dialled {
    pub(super) client: PyexecClient,
    /// Of the daemon, as it is bound.
    pub(super) theirs: Directories,
}

pub(super) async fn dial(at: &Path, ours: &Greeting) -> Result<Dialled, ClientError> {
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
    let theirs = match ours.exchange(&mut stream).await {
        Ok((_, Some(theirs))) => theirs,
        Ok((daemon, None)) => return Err(ClientError::Version { daemon, client: Preamble::ours() }),
        // The daemon went away between accepting and greeting: the next one is to be asked.
        Err(PreambleError::Io(source)) => {
            let source = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, source);
            return Err(ClientError::Connect { socket: socket(), source });
        }
        Err(PreambleError::Silent) => return Err(silent(socket(), peer.pid().unwrap_or(0))),
        Err(source) => return Err(ClientError::Preamble { socket: socket(), source }),
    };
    let client = PyexecClient::new(tarpc::client::Config::default(), wire::call(stream)).spawn();
    Ok(Dialled { client, theirs: theirs.directories })
}

/// Somebody has the socket and says nothing. The kernel knows who made it listen: a daemon is named, with what it does.
fn silent(socket: PathBuf, listener: i32) -> ClientError {
    match u32::try_from(listener).ok().and_then(DaemonProcess::find) {
        Some(process) => ClientError::Unresponsive { pid: process.pid(), state: process.state() },
        None => ClientError::Preamble { socket, source: PreambleError::Silent },
    }
}
