//! What the daemon answers when it can not do what it was asked.

use serde::{Deserialize, Serialize};

use crate::artifact::NoArtifact;
use crate::id::JobId;
use crate::os_text::OsText;

/// Closed and serialisable. What the reader can do, the faces say for every variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Error {
    #[error("no job `{given}`")]
    NoSuchJob { given: String },
    #[error("`{given}` fits {} jobs: {}", candidates.len(), list(candidates))]
    AmbiguousJob { given: String, candidates: Vec<JobId> },
    #[error("job {id} exists already, and was asked to do something else")]
    IdTaken { id: JobId },
    #[error("{what} `{given}`: {problem}")]
    InvalidArgument { what: String, given: String, problem: String, hint: String },
    #[error("no such {what}: {path}")]
    NotFound { what: Named, path: OsText },
    /// No interpreter, or nothing to make an environment with.
    #[error("{problem}")]
    Environment { problem: String, hint: String },
    /// The kernel, or what the job asks for besides, does not allow it.
    #[error("a {fence} fence can not be had here: {problem}")]
    NoFence { fence: String, problem: String, hint: String },
    /// The caller is inside a fence, or can not be told from one that is.
    #[error("the daemon does nothing for a job in a fence, and this process {why}")]
    Fenced { why: String },
    #[error("job {id} takes no input: {why}")]
    NoInput { id: JobId, why: NoInput },
    #[error("the daemon is shutting down")]
    ShuttingDown,
    #[error("could not {doing}: {problem}")]
    Storage { doing: String, problem: String },
    #[error("job {id} has no artifact `{path}`: {why}")]
    NoArtifact { id: JobId, path: OsText, why: NoArtifact },
    /// Somebody prunes it at this moment, or retention does.
    #[error("job {id} is being removed")]
    BeingRemoved { id: JobId },
    /// Its row is there, and its files are not.
    #[error("job {id}: {}", output_removed(path))]
    OutputRemoved { id: JobId, path: OsText },
    /// What is to be run for this caller would not run where the caller does. `by_manager`: the daemon is a unit of systemd's, and would be
    /// started in the same place again.
    #[error("this would not run where it is asked for: the daemon {how}")]
    OtherWorld { how: String, by_manager: bool },
}

/// What is said of a job whose files are gone from its run directory, wherever it is shown.
pub fn output_removed(run_directory: &OsText) -> String {
    format!("its output was removed, and is not in {run_directory} any more")
}

/// Something that was named and is not there.
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

/// Why a job can not be written to.
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
    #[error("it closed its stdin itself")]
    ClosedByJob,
    #[error("its supervisor (process {pid}) does not answer: it {held}")]
    NoAnswer { pid: u32, held: Held },
}

/// What keeps a process of ours from answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// By a signal.
    Stopped,
    Traced,
    /// It waits in the kernel.
    Disk,
    /// Nothing that could be seen.
    Busy,
    /// It has no socket to speak to it on.
    OutOfReach,
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Held::Stopped => "is stopped by a signal",
            Held::Traced => "is held by a debugger",
            Held::Disk => "waits in the kernel, mostly for a disk",
            Held::Busy => "is busy",
            Held::OutOfReach => "has no control socket",
        })
    }
}

impl Error {
    /// What can be done, where only the daemon knows it. What else can be done, each face says in its own terms.
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
