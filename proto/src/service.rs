//! The calls a client may make.
//!
//! tarpc drops a handler at its deadline, so no call owns work: a job goes on whatever becomes of the call that asked
//! about it. Waiting is done in bounded pieces, [`crate::request::MAX_WAIT_MS`] at most, that the client repeats.

use crate::OsText;
use crate::artifact::{ArtifactChunk, ArtifactList};
use crate::daemon::DaemonStatus;
use crate::environment::EnvironmentInfo;
use crate::error::Error;
use crate::id::JobId;
use crate::job::{JobDetail, Submission};
use crate::output::Stream;
use crate::request::{
    Changes, CreateEnvironment, EnvironmentsRemoved, FollowRequest, Followed, Input, InputTaken, JobPage, JobQuery,
    PruneRequest, Pruned, Revision, StopAnswer, StopRequest,
};
use crate::script::{SaveScript, SavedScript, Script, ScriptInfo};

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
    /// The first `limit` by path, at most [`crate::artifact::MAX_ARTIFACTS`].
    async fn list_artifacts(id: JobId, limit: u32) -> Result<ArtifactList, Error>;
    /// At most [`crate::artifact::MAX_ARTIFACT_CHUNK_BYTES`] of a file; none at its end.
    async fn read_artifact(id: JobId, path: OsText, offset: u64, max_bytes: u32) -> Result<ArtifactChunk, Error>;
    async fn status() -> Result<DaemonStatus, Error>;
    /// The daemon leaves; its jobs go on, and the next daemon adopts them.
    async fn shutdown() -> Result<(), Error>;
    /// Which jobs have changed since then. Answers as soon as one has, and without any after `wait_ms` at the latest, which
    /// the daemon caps at [`crate::request::MAX_WAIT_MS`]. Without a revision it answers at once with that of now.
    async fn changes(since: Option<Revision>, wait_ms: u64) -> Result<Changes, Error>;
}
