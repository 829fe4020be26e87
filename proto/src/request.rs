//! What the calls of a client carry, and what they are answered with.

use serde::{Deserialize, Serialize};

use crate::environment::EnvironmentSpec;
use crate::id::{JobId, SenderId};
use crate::job::{JobDetail, JobSummary, Variables};
use crate::os_text::OsText;
use crate::output::{OutputChunk, PerStream};
use crate::state::Status;

/// The longest one call may wait. A client that has vanished does not end its call, so this also bounds how long the
/// daemon remembers it.
pub const MAX_WAIT_MS: u64 = 45_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobQuery {
    /// Any of these; all when empty.
    pub statuses: Vec<Status>,
    /// Exactly this label.
    pub label: Option<String>,
    /// At most so many. The daemon caps it at [`MAX_PAGE`].
    pub limit: u32,
    /// [`JobPage::next`] of the page before.
    pub page: Option<String>,
}

pub const MAX_PAGE: u32 = 1_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobPage {
    pub jobs: Vec<JobSummary>,
    /// All that match, not only this page.
    pub total: u64,
    pub next: Option<String>,
}

/// A moment in the life of one daemon, between two changes of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Tells this daemon from those before it.
    pub daemon: u64,
    /// How many changes there had been.
    pub number: u64,
}

/// Which jobs have changed since a [`Revision`]: were submitted, got into another state, or were removed. How much a job has
/// printed, and its progress, are no changes: those are looked for when somebody asks for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// To ask for what changes from here on.
    pub revision: Revision,
    /// Jobs that have changed, as they are now, without their progress; the latest change last. One that has changed more
    /// than once is named once.
    pub jobs: Vec<JobSummary>,
    /// Jobs that there are no more.
    pub removed: Vec<JobId>,
    /// There may have been other changes, which the daemon does not know any more: the jobs have to be listed anew. So it is
    /// after more than [`MAX_CHANGES`], of another daemon's revision, and where none was given.
    pub is_incomplete: bool,
}

impl Changes {
    /// Whether there is anything to look at.
    pub fn is_news(&self) -> bool {
        self.is_incomplete || !self.jobs.is_empty() || !self.removed.is_empty()
    }
}

/// Of how many jobs a daemon remembers that they have changed.
pub const MAX_CHANGES: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowRequest {
    /// Where to read each stream from; `None` leaves it out.
    pub cursors: PerStream<Option<u64>>,
    /// Per stream; the daemon caps it at [`crate::output::MAX_CHUNK_BYTES`].
    pub max_bytes: u32,
    /// How long to wait for news; the daemon caps it at [`MAX_WAIT_MS`].
    pub wait_ms: u64,
    /// All of it is read, bit by bit, on this connection: what lies behind the cursors is not dropped until then, and a job
    /// that prints more than is kept waits.
    pub attached: bool,
}

impl FollowRequest {
    /// Nothing but the end.
    pub fn until_exit(wait_ms: u64) -> Self {
        Self { cursors: PerStream { stdout: None, stderr: None }, max_bytes: 0, wait_ms, attached: false }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    pub output: PerStream<OutputChunk>,
    /// Set once the job has finished *and* `output` reaches the end of what was asked for.
    pub finished: Option<JobDetail>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    pub sender: SenderId,
    /// How many bytes this sender has had accepted before: says what of a repetition is known already.
    pub offset: u64,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// End of file after `bytes`, if all of them are taken.
    pub close: bool,
    /// When the buffer is full, wait so long for room for at least one byte.
    pub wait_ms: u64,
    /// When the job has not started yet, wait so long for its start; the daemon caps it at [`MAX_WAIT_MS`].
    pub start_wait_ms: u64,
}

/// The most one call may feed.
pub const MAX_INPUT_BYTES: usize = 1 << 20;

// What is typed into a job may be a password.
impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Input({} bytes at {}, close: {})", self.bytes.len(), self.offset, self.close)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputTaken {
    /// Fewer than given when the buffer was full.
    pub bytes_written: u64,
    /// All that was ever accepted of this sender: the offset to go on with.
    pub total: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// KILL at once, without TERM.
    pub now: bool,
    /// TERM to KILL. `None`: as the job was submitted.
    pub grace_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StopAnswer {
    Stopping,
    AlreadyFinished(Box<JobDetail>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneRequest {
    /// Counted from a job's end.
    pub older_than_ms: u64,
    pub keep_completed: bool,
    pub keep_failed: bool,
    pub dry_run: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateEnvironment {
    pub name: String,
    pub spec: EnvironmentSpec,
    /// Absolute: where the requirements file is looked for.
    pub directory: OsText,
    /// The caller's: where to find uv and interpreters, and which index to use.
    pub environment: Variables,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentsRemoved {
    pub removed: u64,
    pub bytes_freed: u64,
    pub not_removed: NotRemovedList,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    pub removed: u64,
    /// Those that could not be removed included.
    pub remaining: u64,
    pub bytes_freed: u64,
    pub not_removed: NotRemovedList,
}

/// A job or an environment that was to be removed, and could not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRemoved {
    /// The id of the job, or of the environment. Of what an earlier removal has left: the name of its directory.
    pub id: String,
    /// The file or directory that could not be removed.
    pub path: OsText,
    pub problem: String,
}

/// How many could not be removed, and the first of them: an answer stays small.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRemovedList {
    pub total: u64,
    pub first: Vec<NotRemoved>,
}

impl NotRemovedList {
    /// How many are named.
    pub const MOST_NAMED: usize = 20;

    pub fn push(&mut self, one: NotRemoved) {
        self.total += 1;
        if self.first.len() < Self::MOST_NAMED {
            self.first.push(one);
        }
    }

    pub fn extend(&mut self, other: Self) {
        let total = self.total + other.total;
        other.first.into_iter().for_each(|one| self.push(one));
        self.total = total;
    }

    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}
