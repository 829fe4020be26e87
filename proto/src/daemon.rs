//! What a daemon says of itself.

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
    /// Why the index on disk is not used, and another is held in memory until it can be.
    pub index_problem: Option<String>,
    pub scopes: JobScopes,
    /// What it is bound to: those of whoever started it.
    pub directories: Directories,
    /// The name of the instance, where it has one.
    pub instance: Option<String>,
    /// Where jobs run.
    pub world: World,
    /// What a job of whoever asks would not have as that process has it.
    pub for_you: ForYou,
}

/// What would become of a job of this client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForYou {
    /// Why it would be refused: [`Error::OtherWorld`].
    pub refused: Option<Error>,
    /// Sentences about what it would have otherwise than the client, because the daemon may not set it.
    pub not_taken_over: Vec<String>,
}

/// Whether each job gets a control group of its own: a transient scope of the user's service manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobScopes {
    /// The manager has not answered yet.
    Asked,
    Given,
    /// Jobs stay in the daemon's; the text says why.
    Without {
        why: String,
    },
    /// The settings say so.
    SwitchedOff,
}
