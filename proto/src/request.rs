//! The payloads of a client's requests and of their answers.

use serde::{Deserialize, Serialize};

use crate::environment::EnvironmentSpec;
use crate::id::{JobId, SenderId};
use crate::job::{JobDetail, JobSummary, Variables};
use crate::os_text::OsText;
use crate::output::{OutputChunk, PerStream};
use crate::state::Status;

/// The longest one request may wait. A request outlives a client that has vanished, so this also bounds how long the
/// daemon serves it.
pub const MAX_WAIT_MS: u64 = 45_000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobQuery {
    /// Any of these statuses; empty: all.
    pub statuses: Vec<Status>,
    /// Exactly this label.
    pub label: Option<String>,
    /// The largest number of jobs to return; the daemon caps it at [`MAX_PAGE`].
    pub limit: u32,
    /// [`JobPage::next`] of the previous page.
    pub page: Option<String>,
}

pub const MAX_PAGE: u32 = 1_000;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobPage {
    pub jobs: Vec<JobSummary>,
    /// The number of all matching jobs, not only those of this page.
    pub total: u64,
    pub next: Option<String>,
}

/// A position in the sequence of job changes of one daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Distinguishes this daemon from earlier ones.
    pub daemon: u64,
    /// The number of changes so far.
    pub number: u64,
}

/// The jobs that changed since a [`Revision`]: they were submitted, changed their state, or were removed. New output
/// and progress are not changes; they are read on request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// The revision from which to request the next changes.
    pub revision: Revision,
    /// The current summaries of the changed jobs, without progress, in the order of their latest changes. Each job
    /// appears once.
    pub jobs: Vec<JobSummary>,
    /// Jobs that no longer exist.
    pub removed: Vec<JobId>,
    /// There may have been other changes that the daemon no longer remembers, so the client has to list the jobs again.
    /// This is the case after more than [`MAX_CHANGES`] changes, for the revision of another daemon, and without a
    /// revision.
    pub is_incomplete: bool,
}

impl Changes {
    /// Whether there is any change to look at.
    pub fn is_news(&self) -> bool {
        self.is_incomplete || !self.jobs.is_empty() || !self.removed.is_empty()
    }
}

/// The number of changed jobs that a daemon remembers.
pub const MAX_CHANGES: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowRequest {
    /// The offset to read each stream from; `None` leaves the stream out.
    pub cursors: PerStream<Option<u64>>,
    /// Per stream; the daemon caps it at [`crate::output::MAX_CHUNK_BYTES`].
    pub max_bytes: u32,
    /// How long to wait for new output or the end; the daemon caps it at [`MAX_WAIT_MS`].
    pub wait_ms: u64,
    /// The client will read all output on this connection: nothing after the cursors is dropped until then, and a job
    /// that prints more than is kept waits for the client.
    pub attached: bool,
}

impl FollowRequest {
    /// Waits for the end only, without output.
    pub fn until_exit(wait_ms: u64) -> Self {
        Self { cursors: PerStream { stdout: None, stderr: None }, max_bytes: 0, wait_ms, attached: false }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    pub output: PerStream<OutputChunk>,
    /// Set once the job has finished *and* `output` reaches the end of the requested streams.
    pub finished: Option<JobDetail>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    pub sender: SenderId,
    /// How many bytes of this sender were accepted before. The daemon uses it to recognize repeated bytes.
    pub offset: u64,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// Close stdin after `bytes`, if all of them are accepted.
    pub close: bool,
    /// If the buffer is full, how long to wait for room for at least one byte.
    pub wait_ms: u64,
    /// If the job has not started yet, how long to wait for its start; the daemon caps it at [`MAX_WAIT_MS`].
    pub start_wait_ms: u64,
}

/// The largest number of bytes in one request.
pub const MAX_INPUT_BYTES: usize = 1 << 20;

// Input to a job may be a password, so `Debug` does not show it.
impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Input({} bytes at {}, close: {})", self.bytes.len(), self.offset, self.close)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputTaken {
    /// Fewer than sent if the buffer was full.
    pub bytes_written: u64,
    /// All bytes ever accepted from this sender: the next offset.
    pub total: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// SIGKILL at once, without SIGTERM.
    pub now: bool,
    /// The time from SIGTERM to SIGKILL. `None`: as specified by the job.
    pub grace_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StopAnswer {
    Stopping,
    AlreadyFinished(Box<JobDetail>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneRequest {
    /// Counted from the end of a job.
    pub older_than_ms: u64,
    pub keep_completed: bool,
    pub keep_failed: bool,
    pub dry_run: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateEnvironment {
    pub name: String,
    pub spec: EnvironmentSpec,
    /// The absolute directory that a relative requirements file starts at.
    pub directory: OsText,
    /// The caller's environment, for finding uv, interpreters and the index.
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
    /// Including those that could not be removed.
    pub remaining: u64,
    pub bytes_freed: u64,
    pub not_removed: NotRemovedList,
}

/// A job or an environment that could not be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRemoved {
    /// The id of the job or environment, or the directory name of the remains of an earlier removal.
    pub id: String,
    /// The file or directory that could not be removed.
    pub path: OsText,
    pub problem: String,
}

/// The number of failed removals, and the first of them, so that an answer stays small.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRemovedList {
    pub total: u64,
    pub first: Vec<NotRemoved>,
}

impl NotRemovedList {
    /// The largest number of entries in `first`.
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
