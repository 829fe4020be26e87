//! The errors that the daemon answers a request with.

use serde::{Deserialize, Serialize};

use crate::artifact::NoArtifact;
use crate::id::JobId;
use crate::os_text::OsText;

/// The set is closed and serializable. `pyexec` and `pyexec-mcp` each add a hint in their own terms for every variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    #[error("no job `{given}`")]
    NoSuchJob { given: String },
    #[error("`{given}` matches {} jobs: {}", candidates.len(), list(candidates))]
    AmbiguousJob { given: String, candidates: Vec<JobId> },
    #[error("job {id} already exists with a different specification")]
    IdTaken { id: JobId },
    #[error("{what} `{given}`: {problem}")]
    InvalidArgument { what: String, given: String, problem: String, hint: String },
    #[error("no such {what}: {path}")]
    NotFound { what: Named, path: OsText },
    /// No interpreter was found, or the environment cannot be built.
    #[error("{problem}")]
    Environment { problem: String, hint: String },
    /// The kernel, or another option of the job, rules this fence out.
    #[error("a {fence} fence cannot be set up here: {problem}")]
    NoFence { fence: String, problem: String, hint: String },
    /// The caller is inside a fence, or the daemon cannot tell that it is not.
    #[error("refused: jobs inside a fence may not change anything through the daemon, and this process {why}")]
    Fenced { why: String },
    #[error("job {id} takes no input: {why}")]
    NoInput { id: JobId, why: NoInput },
    #[error("the daemon is shutting down")]
    ShuttingDown,
    #[error("could not {doing}: {problem}")]
    Storage { doing: String, problem: String },
    #[error("job {id} has no artifact `{path}`: {why}")]
    NoArtifact { id: JobId, path: OsText, why: NoArtifact },
    /// A prune or the retention policy is removing this job at the moment.
    #[error("job {id} is being removed")]
    BeingRemoved { id: JobId },
    /// The index still lists the job, but its files are gone.
    #[error("job {id}: {}", output_removed(path))]
    OutputRemoved { id: JobId, path: OsText },
    /// A job of this client would run in other namespaces, or with another root directory, than the client has.
    /// `by_manager`: systemd manages the daemon, so that a restart would put it into the same place again.
    #[error("this would not run in the same place as its caller: the daemon {how}")]
    OtherWorld { how: String, by_manager: bool },
}

/// The sentence shown wherever a job's files are gone from its run directory.
pub fn output_removed(run_directory: &OsText) -> String {
    format!("its output was removed and is no longer in {run_directory}")
}

/// The kind of a named thing that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Named {
    Script,
    Directory,
    EnvFile,
    RequirementsFile,
    Environment,
    SavedScript,
    AutosavedScript,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Named::Script => "script",
            Named::Directory => "directory",
            Named::EnvFile => "env file",
            Named::RequirementsFile => "requirements file",
            Named::Environment => "environment",
            Named::SavedScript => "saved script",
            Named::AutosavedScript => "autosaved script",
        })
    }
}

/// Why a job cannot be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NoInput {
    #[error("it was not started with its stdin open")]
    NotOpened,
    #[error("it has not started yet")]
    NotStarted,
    #[error("it has finished")]
    Finished,
    #[error("its stdin has been closed")]
    Closed,
    #[error("the job closed its stdin itself")]
    ClosedByJob,
    #[error("its supervisor (process {pid}) does not answer: it {held}")]
    NoAnswer { pid: u32, held: Held },
}

/// What keeps a supervisor from answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// A signal has stopped it.
    Stopped,
    Traced,
    /// It waits in the kernel without interruption, usually for a disk.
    Disk,
    /// No cause can be seen from outside.
    Busy,
    /// It has no control socket.
    OutOfReach,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Held::Stopped => "is stopped by a signal",
            Held::Traced => "is held by a debugger",
            Held::Disk => "waits in the kernel, usually for a disk",
            Held::Busy => "is busy",
            Held::OutOfReach => "has no control socket",
        })
    }
}

impl Error {
    /// A hint that only the daemon can give. For all other errors, each front end has a hint of its own.
    pub fn daemon_hint(&self) -> Option<&str> {
        match self {
            Error::InvalidArgument { hint, .. } | Error::Environment { hint, .. } | Error::NoFence { hint, .. } => {
                Some(hint)
            }
            Error::NoSuchJob { .. }
            | Error::AmbiguousJob { .. }
            | Error::IdTaken { .. }
            | Error::NotFound { .. }
            | Error::Fenced { .. }
            | Error::NoInput { .. }
            | Error::ShuttingDown
            | Error::Storage { .. }
            | Error::NoArtifact { .. }
            | Error::BeingRemoved { .. }
            | Error::OutputRemoved { .. }
            | Error::OtherWorld { .. } => None,
        }
    }
}

fn list(ids: &[JobId]) -> String {
    const SHOWN: usize = 8;
    let mut shown: Vec<String> = ids.iter().take(SHOWN).map(JobId::to_string).collect();
    if ids.len() > SHOWN {
        shown.push(format!("and {} more", ids.len() - SHOWN));
    }
    shown.join(", ")
}
