//! Why a client has no answer, or not the one it hoped for.

use std::path::PathBuf;
use std::time::Duration;

use pyexec_proto::error::Error;
use pyexec_proto::id::JobId;
use pyexec_proto::os_text::OsText;
use pyexec_proto::preamble::{Preamble, PreambleError};
use pyexec_proto::variables::SOCKET_VARIABLE;
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

    pub fn hint(&self) -> Option<String> {
        Some(match self {
            ClientError::Refused(error) => return error.hint(),
            ClientError::NotRunning => "`pyexec daemon start` starts one; so does `pyexec run`".into(),
            ClientError::Start(error) => error.hint(),
            ClientError::Elsewhere(error) => error.hint(),
            ClientError::NoProc => {
                "`mount -t proc proc /proc` makes it, in a container or chroot too; pyexec needs it to tell processes \
                apart"
                    .into()
            }
            ClientError::ForeignDirectory(error) => error.hint.clone(),
            ClientError::Connect { .. } => "`pyexec daemon restart` makes a new one, jobs that run are not affected; \
                `pyexec doctor` looks for what may be wrong"
                .into(),
            ClientError::ForeignDaemon { .. } => "point PYEXEC_SOCKET at a socket of your own, or unset it".into(),
            ClientError::Preamble { .. } => {
                "something else may be listening there: look at PYEXEC_SOCKET; `pyexec doctor` does, too".into()
            }
            ClientError::Unresponsive { pid, state: ProcessState::Stopped } => format!(
                "`kill -CONT {pid}` lets it go on; `pyexec daemon restart` ends it and starts another; jobs that run are \
                 not affected"
            ),
            ClientError::Unresponsive { .. } => {
                "`pyexec daemon logs` says what it is busy with; `pyexec daemon restart` \
                ends it, by force if need be, and starts another; jobs that run are not affected"
                    .into()
            }
            ClientError::OtherState { .. } => format!(
                "unset {SOCKET_VARIABLE}, and pyexec starts a daemon of yours beside it; or let {SOCKET_VARIABLE} name \
                 another socket"
            ),
            ClientError::Version { daemon, client } if daemon.highest < client.lowest => {
                "the daemon is the older one: `pyexec daemon restart` starts the installed version; jobs go on".into()
            }
            ClientError::Version { .. } => {
                "this program is the older one: upgrade it, or restart the editor that started it".into()
            }
            ClientError::Late { .. } | ClientError::Broken { .. } => {
                "`pyexec daemon logs` says what it is busy with; `pyexec doctor` looks for what may be wrong".into()
            }
            ClientError::Unanswered { id, .. } => {
                format!("`pyexec show {id}` says what became of it: look before running it again")
            }
            ClientError::TooLarge => "put what is that long into a file, and let the script open that".into(),
        })
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
