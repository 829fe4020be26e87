//! The calls a client may make.
//!
//! tarpc drops a handler at its deadline, so no call owns work: a job goes on whatever becomes of the call that asked
//! about it. Waiting is done in bounded pieces, [`MAX_WAIT_MS`] at most, that the client repeats.

use serde::{Deserialize, Serialize};

use crate::OsText;
use crate::artifact::{ArtifactChunk, ArtifactList};
use crate::environment::{EnvironmentInfo, EnvironmentSpec};
use crate::error::Error;
use crate::greeting::Directories;
use crate::job::{JobDetail, JobId, JobSummary, Submission, Variables};
use crate::output::{OutputChunk, PerStream, Stream};
use crate::script::{Autosave, SaveScript, SavedScript, Script, ScriptInfo};
use crate::state::Status;
use crate::world::World;

/// The longest one call may wait. A client that has vanished does not end its call, so this also bounds how long the
/// daemon remembers it.
pub const MAX_WAIT_MS: u64 = 45_000;

#[tarpc::service]
pub trait Pyexec {
    /// Answers once the job is on disk. Repeating a submission is harmless.
    async fn submit(submission: Submission) -> Result<JobDetail, Error>;
    /// The job a person means by a whole id, or by a prefix of at least four characters.
    async fn resolve(given: String) -> Result<JobId, Error>;
    async fn show(id: JobId) -> Result<JobDetail, Error>;
    /// Newest first.
    async fn list(query: JobQuery) -> Result<JobPage, Error>;
    /// New output, or the end, whichever comes first.
    async fn follow(id: JobId, request: FollowRequest) -> Result<Followed, Error>;
    /// The offset at which the last `lines` lines of a stream begin.
    async fn tail_offset(id: JobId, stream: Stream, lines: u64) -> Result<u64, Error>;
    async fn send_input(id: JobId, input: Input) -> Result<InputTaken, Error>;
    /// Answers once the wish is on disk; the job ends some time later, see [`Pyexec::follow`].
    async fn stop(id: JobId, request: StopRequest) -> Result<StopAnswer, Error>;
    async fn prune(request: PruneRequest) -> Result<Pruned, Error>;
    async fn list_environments() -> Result<Vec<EnvironmentInfo>, Error>;
    /// Answers once the environment is built.
    async fn create_environment(request: CreateEnvironment) -> Result<EnvironmentInfo, Error>;
    /// By name or id. A named one loses its name, and its content with it unless another name or a job has it.
    async fn remove_environment(named: String) -> Result<EnvironmentsRemoved, Error>;
    /// Everything that neither a name nor a job keeps.
    async fn prune_environments() -> Result<EnvironmentsRemoved, Error>;
    /// Saved ones by name, then autosaved ones, newest first.
    async fn list_scripts(include_autosaved: bool) -> Result<Vec<ScriptInfo>, Error>;
    /// A saved script, or an autosaved one; with `.py` or without.
    async fn view_script(name: String, autosaved: bool) -> Result<Script, Error>;
    /// Refuses to replace a script, unless it is told to.
    async fn save_script(script: SaveScript) -> Result<SavedScript, Error>;
    /// A saved one.
    async fn remove_script(name: String) -> Result<(), Error>;
    /// The name it is kept under. Repeating it is harmless.
    async fn autosave_script(autosave: Autosave) -> Result<String, Error>;
    /// The first `limit` by path, at most [`crate::artifact::MAX_ARTIFACTS`].
    async fn list_artifacts(id: JobId, limit: u32) -> Result<ArtifactList, Error>;
    /// At most [`crate::artifact::MAX_ARTIFACT_CHUNK_BYTES`] of a file; none at its end.
    async fn read_artifact(id: JobId, path: OsText, offset: u64, max_bytes: u32) -> Result<ArtifactChunk, Error>;
    async fn status() -> Result<DaemonStatus, Error>;
    /// The daemon leaves; its jobs go on, and the next daemon adopts them.
    async fn shutdown() -> Result<(), Error>;
}

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

/// Tells apart those who write to the same job, so that each can repeat what it is not sure has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SenderId(u64);

impl SenderId {
    pub fn mint() -> Self {
        Self(uuid::Uuid::new_v4().as_u64_pair().0)
    }
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    pub pid: u32,
    pub version: String,
    pub socket: crate::OsText,
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
