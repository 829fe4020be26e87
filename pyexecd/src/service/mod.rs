//! The calls, one delegating line each.

mod admin;
mod artifacts;
mod context;
mod environments;
mod input;
mod jobs;
mod output;

use pyexec_proto::artifact::{ArtifactChunk, ArtifactList};
use pyexec_proto::daemon::DaemonStatus;
use pyexec_proto::environment::EnvironmentInfo;
use pyexec_proto::job::{JobDetail, Submission};
use pyexec_proto::output::Stream;
use pyexec_proto::request::{
    Changes, CreateEnvironment, EnvironmentsRemoved, FollowRequest, Followed, Input, InputTaken, JobPage, JobQuery,
    PruneRequest, Pruned, Revision, StopAnswer, StopRequest,
};
use pyexec_proto::script::{SaveScript, SavedScript, Script, ScriptInfo};
use pyexec_proto::service::Pyexec;
use pyexec_proto::{Error, JobId, OsText, frozen};
use tarpc::context::Context;

pub use context::Service;
pub use output::Reader;

impl Service {
    /// What a client of any version is told of this daemon, with the problem of its request.
    pub(crate) async fn frozen_status(&self, problem: Option<String>) -> frozen::Answer {
        admin::frozen_status(self, problem).await
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
