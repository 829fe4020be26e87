//! [`ClientError`]: every way in which a call of [`crate::Client`] can fail.

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

/// Why a call to the daemon failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon answered with an error.
    #[error(transparent)]
    Refused(#[from] Error),
    #[error("no daemon is running")]
    NotRunning,
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Elsewhere(Elsewhere),
    #[error("/proc is not mounted, or does not show this process")]
    NoProc,
    #[error(transparent)]
    ForeignDirectory(#[from] ForeignDirectory),
    #[error("cannot connect to the daemon at {}", socket.display())]
    Connect { socket: PathBuf, source: std::io::Error },
    #[error("{} belongs to user {owner}, not to you", socket.display())]
    ForeignDaemon { socket: PathBuf, owner: u32 },
    #[error("no greeting from the daemon at {}: {source}", socket.display())]
    Preamble { socket: PathBuf, source: PreambleError },
    /// A daemon owns the socket but does not answer.
    #[error("the daemon (process {pid}) does not answer: {state}")]
    Unresponsive { pid: u32, state: ProcessState },
    /// The daemon at the socket uses another state directory, and this client may not start one.
    #[error("the daemon at {} uses the state directory {theirs}, this program uses {}", socket.display(), ours.display())]
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
    /// The answer to a submission was lost. The daemon may have accepted the job.
    #[error("{source}; the daemon may have accepted job {id} nevertheless")]
    Unanswered { id: JobId, source: Box<ClientError> },
    #[error("the request is larger than {} MiB, the most that a daemon accepts", MAX_FRAME_BYTES >> 20)]
    TooLarge,
}

impl ClientError {
    /// Whether the daemon examined the request and refused it. A daemon that is shutting down does not examine requests.
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
