//! Why a client has no answer, or not the one it hoped for.

use std::path::PathBuf;
use std::time::Duration;

use pyexec_proto::error::Error;
use pyexec_proto::id::JobId;
use pyexec_proto::os_text::OsText;
use pyexec_proto::preamble::{Preamble, PreambleError};
use pyexec_proto::wire::MAX_FRAME_BYTES;
use pyexec_run_directory::ownership::ForeignDirectory;
use tarpc::client::RpcError;

use crate::start::process::ProcessState;
use crate::start::{Elsewhere, StartError, Unreachable};

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon answered, and the answer is no.
    #[error(transparent)]
    Refused(#[from] Error),
    #[error("no daemon is running")]
    NotRunning,
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Elsewhere(Elsewhere),
    #[error("/proc is not there, or does not show this process")]
    NoProc,
    #[error(transparent)]
    ForeignDirectory(#[from] ForeignDirectory),
    #[error("could not reach the daemon at {}", socket.display())]
    Connect { socket: PathBuf, source: std::io::Error },
    #[error("{} belongs to user {owner}, not to you", socket.display())]
    ForeignDaemon { socket: PathBuf, owner: u32 },
    #[error("no greeting from the daemon at {}: {source}", socket.display())]
    Preamble { socket: PathBuf, source: PreambleError },
    /// A daemon has the socket, and does not answer.
    #[error("the daemon, process {pid}, does not answer: {state}")]
    Unresponsive { pid: u32, state: ProcessState },
    /// A daemon answers there that keeps its jobs elsewhere, and no other may be started.
    #[error("the daemon at {} keeps its jobs in {theirs}, and yours are in {}", socket.display(), ours.display())]
    OtherState { socket: PathBuf, theirs: OsText, ours: PathBuf },
    #[error(
        "pyexecd {} speaks protocol {}-{}, this program ({}) speaks {}-{}",
        daemon.version, daemon.lowest, daemon.highest, client.version, client.lowest, client.highest
    )]
    Version { daemon: Preamble, client: Preamble },
    #[error("the daemon did not answer within {} s", limit.as_secs())]
    Late { limit: Duration },
    #[error("the connection to the daemon broke {attempts} times in a row")]
    Broken { attempts: u32, source: RpcError },
    /// The answer to a submission was lost, and perhaps only that.
    #[error("{source}; job {id} may have been taken all the same")]
    Unanswered { id: JobId, source: Box<ClientError> },
    #[error("the request is larger than {} MiB, and no daemon would take it", MAX_FRAME_BYTES >> 20)]
    TooLarge,
}

impl ClientError {
    /// Whether a daemon has looked at the request and said no. One that is leaving has not looked.
    pub fn is_answer(&self) -> bool {
        matches!(self, ClientError::Refused(refusal) if *refusal != Error::ShuttingDown)
    }
}

impl From<Unreachable> for ClientError {
    fn from(unreachable: Unreachable) -> Self {
        match unreachable {
            Unreachable::Elsewhere(elsewhere) => ClientError::Elsewhere(elsewhere),
            Unreachable::Silent { pid, state } => ClientError::Unresponsive { pid, state },
        }
    }
}
