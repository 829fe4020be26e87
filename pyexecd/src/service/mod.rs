//! The calls, one delegating line each.

mod admin;
mod artifacts;
mod environments;
mod input;
mod jobs;
mod output;

use std::sync::Arc;
use std::time::Instant;

use pyexec_proto::artifact::{ArtifactChunk, ArtifactList};
use pyexec_proto::daemon::DaemonStatus;
use pyexec_proto::environment::EnvironmentInfo;
use pyexec_proto::greeting::Directories;
use pyexec_proto::job::{JobDetail, Submission};
use pyexec_proto::output::Stream;
use pyexec_proto::paths::Paths;
use pyexec_proto::preamble::Preamble;
use pyexec_proto::request::{
    Changes, CreateEnvironment, EnvironmentsRemoved, FollowRequest, Followed, Input, InputTaken, JobPage, JobQuery,
    PruneRequest, Pruned, Revision, StopAnswer, StopRequest,
};
use pyexec_proto::script::{SaveScript, SavedScript, Script, ScriptInfo};
use pyexec_proto::service::Pyexec;
use pyexec_proto::world::Submitter;
use pyexec_proto::{Error, JobId, OsText, frozen};
use tarpc::context::Context;
use tokio::sync::watch;

use crate::engine::scopes::Scopes;
use crate::jobs::Jobs;
use crate::scripts::Scripts;
pub use output::Reader;
use pyexec_supervisor::peer::{Own, Peer};

/// What every call has at hand.
#[derive(Clone, Debug)]
pub struct Service {
    pub jobs: Jobs,
    pub scripts: Scripts,
    pub paths: Arc<Paths>,
    /// What the daemon is bound to, as it was when it started.
    pub directories: Arc<Directories>,
    pub started: Instant,
    pub scopes: Arc<Scopes>,
    /// Set to make the daemon leave.
    pub shutdown: Arc<watch::Sender<bool>>,
    /// What this connection reads all of.
    pub reader: Arc<Reader>,
    /// Its client. Inside a fence it may have nothing done. It may look, as it may at any file.
    pub peer: Arc<Peer>,
    /// The daemon, as it was when it started.
    pub own: Arc<Own>,
}

impl Service {
    /// For a client that uses these directories: scripts are its own.
    pub(crate) fn for_client(self, client: &Directories) -> Self {
        let (ours, theirs) = (&self.directories.data, &client.data);
        // Looked at when a call wants them, off this thread: a mount of a client's may hang.
        let is_ours = theirs.path == ours.path && (ours.identity.is_none() || theirs.is(ours));
        if is_ours || theirs.path.as_bytes().is_empty() || theirs.is(ours) {
            return self;
        }
        Self { scripts: self.scripts.of_client(theirs.clone()), ..self }
    }

    /// For calls that end something. Whoever the kernel does not say is in no fence of ours, which no pid namespace comes
    /// with: a daemon in a container is stopped from outside of it.
    fn may_end(&self) -> Result<&Self, Error> {
        if self.peer.is_unseen() { Ok(self) } else { self.unconfined() }
    }

    /// For calls that run something, in the daemon's world.
    fn may_run(&self) -> Result<(&Self, Submitter), Error> {
        // Whoever is in a pid namespace of its own is told that, rather than that it might be in a fence.
        if !self.peer.is_unseen() {
            self.unconfined()?;
        }
        Ok((self, self.peer.submitter()?))
    }

    /// What a client of any version is told of this daemon, with the problem of its request.
    pub(crate) async fn frozen_status(&self, problem: Option<String>) -> frozen::Answer {
        admin::frozen_status(self, problem).await
    }

    /// Why this daemon does not leave for a client that speaks `highest`: only for a newer one that may end it.
    pub(crate) fn refuse_to_hand_over(&self, highest: u16, ours: &Preamble) -> Option<String> {
        if let Err(error) = self.may_end() {
            return Some(error.to_string());
        }
        let is_newer = highest > ours.highest;
        (!is_newer).then(|| format!("protocol {highest} is not newer than {}, which this daemon speaks", ours.highest))
    }

    /// For calls that do something.
    fn unconfined(&self) -> Result<&Self, Error> {
        self.peer.confined.map_or(Ok(self), |why| Err(Error::Fenced { why: why.to_owned() }))
    }
}

impl Pyexec for Service {
    async fn submit(self, _: Context, mut submission: Submission) -> Result<JobDetail, Error> {
        let submitter = match self.may_run() {
            Err(refused @ Error::Fenced { .. }) => return Err(refused),
            allowed => allowed.map(|(_, submitter)| submitter),
        };
        let autosave = submission.autosave.take().filter(|_| self.unconfined().is_ok());
        let job = self.jobs.submit(submission, submitter).await?;
        if let Some(autosave) = autosave
            && let Err(error) = self.scripts.autosave(&job, autosave).await
        {
            // The job is what was asked for, and has been taken.
            tracing::warn!(%job.id, %error, "the code of a job is not among the autosaved scripts");
        }
        Ok(job)
    }

    async fn resolve(self, _: Context, given: String) -> Result<JobId, Error> {
        jobs::resolve(&self.jobs, given).await
    }

    async fn show(self, _: Context, id: JobId) -> Result<JobDetail, Error> {
        self.jobs.get(id).await
    }

    async fn list(self, _: Context, query: JobQuery) -> Result<JobPage, Error> {
        jobs::list(&self.jobs, query).await
    }

    async fn follow(self, _: Context, id: JobId, request: FollowRequest) -> Result<Followed, Error> {
        output::follow(&self.jobs, &self.reader, id, request).await
    }

    async fn tail_offset(self, _: Context, id: JobId, stream: Stream, lines: u64) -> Result<u64, Error> {
        output::tail_offset(&self.jobs, id, stream, lines).await
    }

    async fn send_input(self, _: Context, id: JobId, input: Input) -> Result<InputTaken, Error> {
        input::send(&self.unconfined()?.jobs, id, input).await
    }

    async fn stop(self, _: Context, id: JobId, request: StopRequest) -> Result<StopAnswer, Error> {
        self.may_end()?.jobs.stop(id, request).await
    }

    async fn prune(self, _: Context, request: PruneRequest) -> Result<Pruned, Error> {
        self.unconfined()?.jobs.prune(request).await
    }

    async fn list_environments(self, _: Context) -> Result<Vec<EnvironmentInfo>, Error> {
        environments::list(&self.jobs).await
    }

    async fn create_environment(self, _: Context, request: CreateEnvironment) -> Result<EnvironmentInfo, Error> {
        // What it builds with runs as a job's code does.
        self.may_run()?.0.jobs.environments().create(&request).await
    }

    async fn remove_environment(self, _: Context, named: String) -> Result<EnvironmentsRemoved, Error> {
        environments::remove(&self.unconfined()?.jobs, &named).await
    }

    async fn prune_environments(self, _: Context) -> Result<EnvironmentsRemoved, Error> {
        environments::prune(&self.unconfined()?.jobs).await
    }

    async fn list_scripts(self, _: Context, include_autosaved: bool) -> Result<Vec<ScriptInfo>, Error> {
        self.scripts.list(include_autosaved).await
    }

    async fn view_script(self, _: Context, name: String, autosaved: bool) -> Result<Script, Error> {
        self.scripts.view(name, autosaved).await
    }

    async fn save_script(self, _: Context, script: SaveScript) -> Result<SavedScript, Error> {
        self.unconfined()?.scripts.save(script).await
    }

    async fn remove_script(self, _: Context, name: String) -> Result<(), Error> {
        self.unconfined()?.scripts.remove(name).await
    }

    async fn list_artifacts(self, _: Context, id: JobId, limit: u32) -> Result<ArtifactList, Error> {
        artifacts::list(&self.jobs, id, limit).await
    }

    async fn read_artifact(
        self,
        _: Context,
        id: JobId,
        path: OsText,
        offset: u64,
        max_bytes: u32,
    ) -> Result<ArtifactChunk, Error> {
        artifacts::read(&self.jobs, id, path, offset, max_bytes).await
    }

    async fn status(self, _: Context) -> Result<DaemonStatus, Error> {
        admin::status(&self).await
    }

    async fn shutdown(self, _: Context) -> Result<(), Error> {
        admin::shutdown(self.may_end()?);
        Ok(())
    }

    async fn changes(self, _: Context, since: Option<Revision>, wait_ms: u64) -> Result<Changes, Error> {
        self.jobs.changes(since, wait_ms).await
    }
}
