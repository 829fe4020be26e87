//! The status of a daemon.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::greeting::Directories;
use crate::os_text::OsText;
use crate::world::World;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    pub pid: u32,
    pub version: String,
    pub socket: OsText,
    pub uptime_seconds: u64,
    pub jobs_running: u64,
    pub jobs_pending: u64,
    pub rss_bytes: u64,
    /// Why the index on disk cannot be used. Until it can, the daemon keeps the index in memory.
    pub index_problem: Option<String>,
    pub scopes: JobScopes,
    /// The directories the daemon uses, taken from the environment of the process that started it.
    pub directories: Directories,
    /// The name of the instance; `None` for the default one.
    pub instance: Option<String>,
    /// The namespaces, root directory and groups that jobs run with.
    pub world: World,
    /// How a job of the asking client would differ from that client.
    pub for_you: ForYou,
}

/// How the daemon would treat a job of this client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForYou {
    /// Why the daemon would refuse the job: [`Error::OtherWorld`].
    pub refused: Option<Error>,
    /// Sentences about properties of the client that the job would not have, because the daemon may not set them.
    pub not_taken_over: Vec<String>,
}

/// Whether each job gets a control group of its own: a transient scope of the user's service manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobScopes {
    /// The service manager has not answered yet.
    Asked,
    Given,
    /// Jobs stay in the daemon's control group; the text says why.
    Without {
        why: String,
    },
    /// Switched off in the settings.
    SwitchedOff,
}
