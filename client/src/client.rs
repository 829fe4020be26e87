//! [`Client`]: finds or starts the daemon, and repeats calls when the daemon restarts. `pyexec` and `pyexec-mcp` both use
//! it. It never changes a job on its own account.

mod backoff;
mod connect;
mod hand_over;

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use pyexec_proto::artifact::{ArtifactChunk, ArtifactList};
use pyexec_proto::daemon::DaemonStatus;
use pyexec_proto::environment::EnvironmentInfo;
use pyexec_proto::error::Error;
use pyexec_proto::id::JobId;
use pyexec_proto::job::{JobDetail, Submission};
use pyexec_proto::os_text::OsText;
use pyexec_proto::output::Stream;
use pyexec_proto::paths::Paths;
use pyexec_proto::preamble::Preamble;
use pyexec_proto::request::{
    Changes, CreateEnvironment, EnvironmentsRemoved, FollowRequest, Followed, Input, InputTaken, JobPage, JobQuery,
    MAX_WAIT_MS, PruneRequest, Pruned, Revision, StopAnswer, StopRequest,
};
use pyexec_proto::script::{SaveScript, SavedScript, Script, ScriptInfo};
use pyexec_proto::service::PyexecClient;
use pyexec_run_directory::socket::nobody_listens;
use pyexec_run_directory::{directories, lock_file, ownership};
use tarpc::client::RpcError;
use tarpc::context::Context;
use tokio::sync::Mutex;
use tokio_util::codec::LengthDelimitedCodecError;

use crate::error::ClientError;
use crate::start::{self, StartError};
use crate::threads::blocking;
use backoff::{Backoff, LONGEST_PAUSE};
use connect::connect;

/// The time limit of calls that only read.
const LOOKUP: Duration = Duration::from_secs(10);
/// The time limit of calls that write: a disk may be slow.
const WRITE: Duration = Duration::from_secs(30);
/// The time limit of calls that build an environment; the daemon applies its own `environment_timeout`.
const BUILD: Duration = Duration::from_secs(24 * 3600);
/// How much longer than the requested wait a waiting call may take.
const SLACK: Duration = Duration::from_secs(10);
/// How often a daemon is started if it exits before the client has connected, and how often an older one is replaced that
/// another client has started meanwhile.
const STARTS: u32 = 5;

/// The result of sending a request once.
enum Attempt<T> {
    Answered(T),
    /// The daemon is shutting down and did nothing.
    Leaving,
    /// There was no answer in time.
    Late,
    /// The connection broke; the daemon may have executed the request.
    Broken(RpcError),
}

/// The last failure, returned when the client gives up.
enum LastFailure {
    Leaving,
    Broken(RpcError),
}

/// Whether a missing daemon is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    StartIfNone,
    MustRun,
}

/// A connection that restores itself: if the daemon exits during a call, the call is sent again to the next daemon.
///
/// That is safe because every call is idempotent: a submission carries its id, input carries its offset.
#[derive(Debug)]
pub struct Client {
    paths: Paths,
    daemon: Daemon,
    connection: Mutex<Option<PyexecClient>>,
    /// The older daemon that was replaced since the last [`Self::take_replaced`].
    replaced: std::sync::Mutex<Option<Preamble>>,
}

impl Client {
    pub async fn connect(paths: Paths, daemon: Daemon) -> Result<Self, ClientError> {
        let client = Self { paths, daemon, connection: Mutex::new(None), replaced: std::sync::Mutex::default() };
        client.connection().await?;
        Ok(client)
    }

    /// The paths that this client and its daemon use.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The older daemon that this client has replaced since the last call of this function.
    pub fn take_replaced(&self) -> Option<Preamble> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub async fn submit(&self, submission: Submission) -> Result<JobDetail, ClientError> {
        let (id, submission) = (submission.id, Arc::new(submission));
        let mut sent = false;
        let submitted = self.call_tracking_sent(&mut sent, WRITE, |daemon, context| {
            let submission = Submission::clone(&submission);
            async move { daemon.submit(context, submission).await }
        });
        submitted.await.map_err(|error| {
            // A request that is too large was never sent.
            if sent && !error.is_answer() { ClientError::Unanswered { id, source: Box::new(error) } } else { error }
        })
    }

    pub async fn resolve(&self, given: &str) -> Result<JobId, ClientError> {
        self.call(LOOKUP, |daemon, context| {
            let given = given.to_owned();
            async move { daemon.resolve(context, given).await }
        })
        .await
    }

    pub async fn show(&self, id: JobId) -> Result<JobDetail, ClientError> {
        self.call(LOOKUP, |daemon, context| async move { daemon.show(context, id).await }).await
    }

    pub async fn list(&self, query: &JobQuery) -> Result<JobPage, ClientError> {
        self.call(LOOKUP, |daemon, context| {
            let query = query.clone();
            async move { daemon.list(context, query).await }
        })
        .await
    }

    pub async fn follow(&self, id: JobId, request: &FollowRequest) -> Result<Followed, ClientError> {
        let ask = |daemon: PyexecClient, context, wait_ms| {
            let request = FollowRequest { wait_ms, ..request.clone() };
            async move { daemon.follow(context, id, request).await }
        };
        let is_news = |followed: &Followed| {
            followed.finished.is_some() || Stream::BOTH.iter().any(|of| !followed.output.get(*of).bytes.is_empty())
        };
        self.wait_for(request.wait_ms, ask, is_news).await
    }

    /// The jobs that have changed since `since`. Waits up to `wait_ms` milliseconds for the first change.
    pub async fn changes(&self, since: Option<Revision>, wait_ms: u64) -> Result<Changes, ClientError> {
        let ask = |daemon: PyexecClient, context, wait_ms| async move { daemon.changes(context, since, wait_ms).await };
        self.wait_for(wait_ms, ask, Changes::is_news).await
    }

    /// Waits without a time limit until the job has finished.
    pub async fn wait(&self, id: JobId) -> Result<JobDetail, ClientError> {
        loop {
            let longest = Instant::now() + Duration::from_millis(MAX_WAIT_MS);
            if let Some(job) = self.wait_until(id, longest, std::future::pending()).await? {
                return Ok(job);
            }
        }
    }

    /// Waits until the job has finished. `None` if it has not by `deadline`, or when `cancelled` completes; neither affects
    /// the job.
    pub async fn wait_until(
        &self,
        id: JobId,
        deadline: Instant,
        cancelled: impl Future<Output = ()>,
    ) -> Result<Option<JobDetail>, ClientError> {
        let finished = async {
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                // Rounded up, so that a fraction of a millisecond does not cause a busy loop.
                let wait_ms = u64::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX).min(MAX_WAIT_MS);
                let finished = self.follow(id, &FollowRequest::until_exit(wait_ms)).await?.finished;
                if finished.is_some() || Instant::now() >= deadline {
                    return Ok(finished);
                }
            }
        };
        tokio::select! {
            // Polled first, so that a cancelled wait returns at once.
            biased;
            () = cancelled => Ok(None),
            finished = finished => finished,
        }
    }

    pub async fn tail_offset(&self, id: JobId, stream: Stream, lines: u64) -> Result<u64, ClientError> {
        self.call(LOOKUP, |daemon, context| async move { daemon.tail_offset(context, id, stream, lines).await }).await
    }

    pub async fn send_input(&self, id: JobId, input: &Input) -> Result<InputTaken, ClientError> {
        let ask = |daemon: PyexecClient, context, most_ms| {
            let (wait_ms, start_wait_ms) = (input.wait_ms.min(most_ms), input.start_wait_ms.min(most_ms));
            let input = Input { wait_ms, start_wait_ms, ..input.clone() };
            async move { daemon.send_input(context, id, input).await }
        };
        let is_news = |taken: &InputTaken| taken.bytes_written > 0 || (input.bytes.is_empty() && !input.close);
        self.wait_for(input.wait_ms.saturating_add(input.start_wait_ms), ask, is_news).await
    }

    pub async fn stop(&self, id: JobId, request: StopRequest) -> Result<StopAnswer, ClientError> {
        self.call(WRITE, |daemon, context| async move { daemon.stop(context, id, request).await }).await
    }

    pub async fn prune(&self, request: PruneRequest) -> Result<Pruned, ClientError> {
        // Files of many jobs may have to go.
        const PRUNE: Duration = Duration::from_secs(600);
        self.call(PRUNE, |daemon, context| async move { daemon.prune(context, request).await }).await
    }

    pub async fn list_environments(&self) -> Result<Vec<EnvironmentInfo>, ClientError> {
        self.call(LOOKUP, |daemon, context| async move { daemon.list_environments(context).await }).await
    }

    pub async fn create_environment(&self, request: &CreateEnvironment) -> Result<EnvironmentInfo, ClientError> {
        self.call(BUILD, |daemon, context| {
            let request = request.clone();
            async move { daemon.create_environment(context, request).await }
        })
        .await
    }

    pub async fn remove_environment(&self, named: &str) -> Result<EnvironmentsRemoved, ClientError> {
        self.call(WRITE, |daemon, context| {
            let named = named.to_owned();
            async move { daemon.remove_environment(context, named).await }
        })
        .await
    }

    pub async fn prune_environments(&self) -> Result<EnvironmentsRemoved, ClientError> {
        self.call(BUILD, |daemon, context| async move { daemon.prune_environments(context).await }).await
    }

    pub async fn list_scripts(&self, include_autosaved: bool) -> Result<Vec<ScriptInfo>, ClientError> {
        self.call(WRITE, |daemon, context| async move { daemon.list_scripts(context, include_autosaved).await }).await
    }

    pub async fn view_script(&self, name: &str, autosaved: bool) -> Result<Script, ClientError> {
        self.call(LOOKUP, |daemon, context| {
            let name = name.to_owned();
            async move { daemon.view_script(context, name, autosaved).await }
        })
        .await
    }

    /// Saves a script. A repeated call may be refused because the first one succeeded: the error then says that the script
    /// exists.
    pub async fn save_script(&self, script: &SaveScript) -> Result<SavedScript, ClientError> {
        self.call(WRITE, |daemon, context| {
            let script = script.clone();
            async move { daemon.save_script(context, script).await }
        })
        .await
    }

    pub async fn remove_script(&self, name: &str) -> Result<(), ClientError> {
        self.call(WRITE, |daemon, context| {
            let name = name.to_owned();
            async move { daemon.remove_script(context, name).await }
        })
        .await
    }

    pub async fn list_artifacts(&self, id: JobId, limit: u32) -> Result<ArtifactList, ClientError> {
        self.call(WRITE, |daemon, context| async move { daemon.list_artifacts(context, id, limit).await }).await
    }

    pub async fn read_artifact(
        &self,
        id: JobId,
        path: &OsText,
        offset: u64,
        max_bytes: u32,
    ) -> Result<ArtifactChunk, ClientError> {
        self.call(WRITE, |daemon, context| {
            let path = path.clone();
            async move { daemon.read_artifact(context, id, path, offset, max_bytes).await }
        })
        .await
    }

    pub async fn status(&self) -> Result<DaemonStatus, ClientError> {
        self.call(LOOKUP, |daemon, context| async move { daemon.status(context).await }).await
    }

    pub async fn shutdown(&self) -> Result<(), ClientError> {
        self.call(LOOKUP, |daemon, context| async move { daemon.shutdown(context).await }).await
    }

    async fn call<T, F, Answer>(&self, limit: Duration, method: F) -> Result<T, ClientError>
    where
        F: Fn(PyexecClient, Context) -> Answer,
        Answer: Future<Output = Result<Result<T, Error>, RpcError>>,
    {
        self.call_tracking_sent(&mut false, limit, method).await
    }

    /// A call that waits up to `wait_ms` milliseconds, across restarts of the daemon: if a daemon exits, the next one is
    /// asked at once without waiting, and then with the rest of the time.
    async fn wait_for<T, F, Answer>(&self, wait_ms: u64, ask: F, is_news: impl Fn(&T) -> bool) -> Result<T, ClientError>
    where
        F: Fn(PyexecClient, Context, u64) -> Answer,
        Answer: Future<Output = Result<Result<T, Error>, RpcError>>,
    {
        let until = Instant::now() + Duration::from_millis(wait_ms);
        let left_ms = || u64::try_from(until.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX);
        let mut wait_ms = wait_ms;
        let mut backoff = Backoff::from(Instant::now());
        loop {
            let limit = Duration::from_millis(wait_ms) + SLACK;
            if let Attempt::Answered(answer) =
                self.attempt(limit, |daemon, context| ask(daemon, context, wait_ms)).await?
            {
                return Ok(answer);
            }
            // Daemons that exit repeatedly must not cause a busy loop.
            tokio::time::sleep(backoff.after_failure(Instant::now()).unwrap_or(LONGEST_PAUSE)).await;
            let answer = self.call(LOOKUP, |daemon, context| ask(daemon, context, 0)).await?;
            wait_ms = left_ms();
            if is_news(&answer) || wait_ms == 0 {
                return Ok(answer);
            }
        }
    }

    /// Sets `sent` if a daemon may have received the request without answering.
    async fn call_tracking_sent<T, F, Answer>(
        &self,
        sent: &mut bool,
        limit: Duration,
        method: F,
    ) -> Result<T, ClientError>
    where
        F: Fn(PyexecClient, Context) -> Answer,
        Answer: Future<Output = Result<Result<T, Error>, RpcError>>,
    {
        let mut backoff = Backoff::from(Instant::now());
        loop {
            let failure = match self.attempt(limit, &method).await? {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Leaving => LastFailure::Leaving,
                Attempt::Late => {
                    *sent = true;
                    return Err(ClientError::Late { limit });
                }
                Attempt::Broken(source) => {
                    *sent = true;
                    LastFailure::Broken(source)
                }
            };
            match backoff.after_failure(Instant::now()) {
                Some(pause) if pause.is_zero() => {}
                Some(pause) => tokio::time::sleep(pause).await,
                None => {
                    return Err(match failure {
                        LastFailure::Leaving => Error::ShuttingDown.into(),
                        LastFailure::Broken(source) => ClientError::Broken { attempts: backoff.failures(), source },
                    });
                }
            }
        }
    }

    /// Sends a request once. A connection without an answer is not used again.
    ///
    /// # Errors
    /// No daemon can be reached, the daemon refuses the request, or the request is too large.
    async fn attempt<T, F, Answer>(&self, limit: Duration, method: F) -> Result<Attempt<T>, ClientError>
    where
        F: FnOnce(PyexecClient, Context) -> Answer,
        Answer: Future<Output = Result<Result<T, Error>, RpcError>>,
    {
        let daemon = self.connection().await?;
        let mut context = tarpc::context::current();
        context.deadline = Instant::now() + limit;
        let failed = match method(daemon, context).await {
            Ok(Err(Error::ShuttingDown)) => Attempt::Leaving,
            Ok(answer) => return Ok(Attempt::Answered(answer?)),
            Err(RpcError::DeadlineExceeded) => Attempt::Late,
            // Nothing was sent, and the connection can still be used.
            Err(RpcError::Send(source)) if is_too_large(source.as_ref()) => return Err(ClientError::TooLarge),
            Err(broken) => Attempt::Broken(broken),
        };
        *self.connection.lock().await = None;
        Ok(failed)
    }

    /// The connection there is, or a new one.
    async fn connection(&self) -> Result<PyexecClient, ClientError> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_ref() {
            return Ok(connection.clone());
        }
        if !std::path::Path::new("/proc/self/status").exists() {
            return Err(ClientError::NoProc);
        }
        ownership::check(&self.paths)?;
        let mut attempt = 1;
        let mut replaced = 0;
        let connection = loop {
            let ours = directories::greeting(&self.paths);
            // The state directory of another daemon that answers at the socket of ours.
            let other = match connect(&self.paths.socket, &ours).await {
                // The state directory is read again, because a daemon started by the connection creates it.
                Ok(connected) if connected.directories.state.is(&directories::at(&self.paths.state)) => {
                    break connected.client;
                }
                Ok(connected) => Some(connected.directories.state.path),
                Err(ClientError::Connect { source, .. }) if nobody_listens(&source) => None,
                // The other side cannot say which state directory it uses; the lock file shows that it is not ours.
                Err(error @ (ClientError::Version { .. } | ClientError::Unresponsive { .. }))
                    if self.paths.has_default_socket() && lock_file::is_of_another_state(&self.paths) =>
                {
                    // A daemon of ours that has left since it answered holds no lock either; it does not answer again.
                    if matches!(error, ClientError::Version { .. }) && !hand_over::is_foreign(&self.paths.socket).await
                    {
                        continue;
                    }
                    Some(OsText::default())
                }
                Err(error) if replaced < STARTS => {
                    self.replace_older(&self.paths.socket, error).await?;
                    replaced += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let paths = self.paths.clone();
            if let Some(socket) = blocking(move || start::find_running(&paths)).await? {
                match connect(&socket, &ours).await {
                    Ok(connected) if connected.directories.state.is(&directories::at(&self.paths.state)) => {
                        break connected.client;
                    }
                    Ok(_) => {}
                    Err(ClientError::Connect { source, .. }) if nobody_listens(&source) => {}
                    Err(error) if replaced < STARTS => {
                        self.replace_older(&socket, error).await?;
                        replaced += 1;
                        continue;
                    }
                    // Our daemon holds the lock, so that no other can start.
                    Err(error) => return Err(error),
                }
            }
            if self.daemon == Daemon::MustRun {
                return Err(ClientError::NotRunning);
            }
            let mut paths = self.paths.clone();
            if let Some(theirs) = other {
                if !paths.has_default_socket() {
                    return Err(ClientError::OtherState { socket: paths.socket, theirs, ours: paths.state });
                }
                // Both daemons keep running; each client finds its own by the lock file in its state directory.
                paths.socket = paths.socket_beside();
            }
            match blocking(move || start::ensure_running(&paths)).await {
                Ok(()) | Err(StartError::Died) if attempt < STARTS => attempt += 1,
                // The daemon exited before the client connected, too often in a row.
                Ok(()) => return Err(StartError::Died.into()),
                Err(error) => return Err(error.into()),
            }
        };
        start::orphans::start_reaper();
        *kept = Some(connection.clone());
        Ok(connection)
    }

    /// Replaces the daemon at `socket` if `error` says that it is older than this client; otherwise returns `error`. A
    /// client that may not start a daemon never replaces one.
    async fn replace_older(&self, socket: &Path, error: ClientError) -> Result<(), ClientError> {
        let ClientError::Version { daemon, client } = &error else { return Err(error) };
        let is_older = daemon.highest < client.lowest && self.daemon == Daemon::StartIfNone;
        if !is_older || !hand_over::replace(&self.paths, socket, daemon).await? {
            return Err(error);
        }
        *self.replaced.lock().unwrap_or_else(PoisonError::into_inner) = Some(daemon.clone());
        Ok(())
    }
}

fn is_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthDelimitedCodecError>() {
            return true;
        }
        cause = match error.downcast_ref::<std::io::Error>() {
            // `source()` skips the wrapped error itself.
            Some(wrapping) => wrapping.get_ref().map(|wrapped| wrapped as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    false
}
