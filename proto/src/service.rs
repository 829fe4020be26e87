//! The requests that a client may make of the daemon.
//!
//! tarpc drops a handler at its deadline, so no handler owns work: a job goes on whatever happens to the request about
//! it. Waits are bounded by [`crate::request::MAX_WAIT_MS`], and the client repeats them.

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
    /// Answers once the job is on disk. Repeating a submission has no effect.
    async fn submit(submission: Submission) -> Result<JobDetail, Error>;
    /// Finds a job by its whole id, or by a prefix of at least four characters.
    async fn resolve(given: String) -> Result<JobId, Error>;
    async fn show(id: JobId) -> Result<JobDetail, Error>;
    /// Newest first.
    async fn list(query: JobQuery) -> Result<JobPage, Error>;
    /// Waits for new output or the end of the job, whichever comes first.
    async fn follow(id: JobId, request: FollowRequest) -> Result<Followed, Error>;
    /// The offset at which the last `lines` lines of a stream begin.
    async fn tail_offset(id: JobId, stream: Stream, lines: u64) -> Result<u64, Error>;
    async fn send_input(id: JobId, input: Input) -> Result<InputTaken, Error>;
    /// Answers once the stop request is on disk; the job ends some time later, see [`Pyexec::follow`].
    async fn stop(id: JobId, request: StopRequest) -> Result<StopAnswer, Error>;
    async fn prune(request: PruneRequest) -> Result<Pruned, Error>;
    async fn list_environments() -> Result<Vec<EnvironmentInfo>, Error>;
    /// Answers once the environment is built.
    async fn create_environment(request: CreateEnvironment) -> Result<EnvironmentInfo, Error>;
    /// Takes a name or id. A named environment loses its name, and its content too unless another name or a job uses
    /// it.
    async fn remove_environment(named: String) -> Result<EnvironmentsRemoved, Error>;
    /// Removes all environments that neither a name nor a job uses.
    async fn prune_environments() -> Result<EnvironmentsRemoved, Error>;
    /// Saved scripts by name, then autosaved ones, newest first.
    async fn list_scripts(include_autosaved: bool) -> Result<Vec<ScriptInfo>, Error>;
    /// A saved or autosaved script; its name may omit `.py`.
    async fn view_script(name: String, autosaved: bool) -> Result<Script, Error>;
    /// Refuses to replace a script unless `overwrite` is set.
    async fn save_script(script: SaveScript) -> Result<SavedScript, Error>;
    /// Removes a saved script.
    async fn remove_script(name: String) -> Result<(), Error>;
    /// The first `limit` by path, at most [`crate::artifact::MAX_ARTIFACTS`].
    async fn list_artifacts(id: JobId, limit: u32) -> Result<ArtifactList, Error>;
    /// At most [`crate::artifact::MAX_ARTIFACT_CHUNK_BYTES`] of a file; empty at its end.
    async fn read_artifact(id: JobId, path: OsText, offset: u64, max_bytes: u32) -> Result<ArtifactChunk, Error>;
    async fn status() -> Result<DaemonStatus, Error>;
    /// The daemon exits; its jobs go on, and the next daemon adopts them.
    async fn shutdown() -> Result<(), Error>;
    /// The jobs that changed since this revision. Answers as soon as one has changed, and after `wait_ms` at the
    /// latest, which the daemon caps at [`crate::request::MAX_WAIT_MS`]. Without a revision it answers at once with the
    /// current one.
    async fn changes(since: Option<Revision>, wait_ms: u64) -> Result<Changes, Error>;
}
