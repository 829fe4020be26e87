//! The client both faces share: it finds the daemon or starts it, and keeps talking to it across restarts.

mod dial;
mod hand_over;
mod patience;

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
use dial::dial;
use patience::{LONGEST_PAUSE, Patience};

/// Calls that only look something up.
const LOOKUP: Duration = Duration::from_secs(10);
/// Calls that write: a disk may be slow.
const WRITE: Duration = Duration::from_secs(30);
/// Calls that build an environment, which the daemon bounds by its own `environment_timeout`.
const BUILD: Duration = Duration::from_secs(24 * 3600);
/// How much longer than the wait it asked for a waiting call may take.
const SLACK: Duration = Duration::from_secs(10);
/// How often a daemon is started that ends before it has been spoken to.
const STARTS: u32 = 5;

/// What came of sending a request once.
enum Attempt<T> {
    Answered(T),
    /// The daemon was on its way out, and has done nothing.
    Leaving,
    /// There was no answer in time.
    Late,
    /// The daemon went away; it may have done what was asked.
    Broken(RpcError),
}

/// What is told if it happens too often.
enum Failed {
    Leaving,
    Broken(RpcError),
}

/// Whether a missing daemon is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    StartIfNone,
    MustRun,
}

/// A connection that mends itself: a call during which the daemon goes away is sent again to the next daemon.
///
/// That is safe because every call may be repeated: a submission carries its id, input its offset.
#[derive(Debug)]
pub struct Client {
    paths: Paths,
    daemon: Daemon,
    connection: Mutex<Option<PyexecClient>>,
    /// An older daemon that has handed over since anybody asked.
    replaced: std::sync::Mutex<Option<Preamble>>,
}

impl Client {
    pub async fn connect(paths: Paths, daemon: Daemon) -> Result<Self, ClientError> {
        let client = Self { paths, daemon, connection: Mutex::new(None), replaced: std::sync::Mutex::default() };
        client.connection().await?;
        Ok(client)
    }

    /// Those that its daemon has, too.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The older daemon that has handed over to the present one for this client, if one has since this was last asked.
    pub fn take_replaced(&self) -> Option<Preamble> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub async fn submit(&self, submission: Submission) -> Result<JobDetail, ClientError> {
        let (id, submission) = (submission.id, Arc::new(submission));
        let mut sent = false;
        let submitted = self.call_noting(&mut sent, WRITE, |daemon, context| {
            let submission = Submission::clone(&submission);
            async move { daemon.submit(context, submission).await }
        });
        submitted.await.map_err(|error| {
            // The request is the same each time: one that is too large was never sent.
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

    /// Which jobs have changed since then, as soon as one has; none after `wait_ms`, at the latest.
    pub async fn changes(&self, since: Option<Revision>, wait_ms: u64) -> Result<Changes, ClientError> {
        let ask = |daemon: PyexecClient, context, wait_ms| async move { daemon.changes(context, since, wait_ms).await };
        self.wait_for(wait_ms, ask, Changes::is_news).await
    }

    /// The job as it is when it has finished, however long that takes.
    pub async fn wait(&self, id: JobId) -> Result<JobDetail, ClientError> {
        loop {
            let longest = Instant::now() + Duration::from_millis(MAX_WAIT_MS);
            if let Some(job) = self.wait_until(id, longest, std::future::pending()).await? {
                return Ok(job);
            }
        }
    }

    /// The job as it is when it has finished. `None`: it had not by `deadline`, or when `cancelled` came. The job itself
    /// knows nothing of either.
    pub async fn wait_until(
        &self,
        id: JobId,
        deadline: Instant,
        cancelled: impl Future<Output = ()>,
    ) -> Result<Option<JobDetail>, ClientError> {
        let finished = async {
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                // Rounded up, so that what is left of a millisecond is no reason to ask again and again.
                let wait_ms = u64::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX).min(MAX_WAIT_MS);
                let finished = self.follow(id, &FollowRequest::until_exit(wait_ms)).await?.finished;
                if finished.is_some() || Instant::now() >= deadline {
                    return Ok(finished);
                }
            }
        };
        tokio::select! {
            // Looked at first: what is cancelled is not waited for, not even for a moment.
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

    /// Sent again because the daemon went away, it may be refused: then the script is there, and says so.
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
        self.call_noting(&mut false, limit, method).await
    }

    /// A call that waits up to `wait_ms`, through any number of daemons: when one goes away, the next is asked at once how
    /// things stand. Its answer is progress, whatever it says, and what is left of the time is waited with it.
    async fn wait_for<T, F, Answer>(&self, wait_ms: u64, ask: F, is_news: impl Fn(&T) -> bool) -> Result<T, ClientError>
    where
        F: Fn(PyexecClient, Context, u64) -> Answer,
        Answer: Future<Output = Result<Result<T, Error>, RpcError>>,
    {
        let until = Instant::now() + Duration::from_millis(wait_ms);
        let left_ms = || u64::try_from(until.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX);
        let mut wait_ms = wait_ms;
        let mut pauses = Patience::from(Instant::now());
        loop {
            let limit = Duration::from_millis(wait_ms) + SLACK;
            if let Attempt::Answered(answer) =
                self.attempt(limit, |daemon, context| ask(daemon, context, wait_ms)).await?
            {
                return Ok(answer);
            }
            // Daemons that go away all the time are not asked all the time.
            tokio::time::sleep(pauses.after_failure(Instant::now()).unwrap_or(LONGEST_PAUSE)).await;
            let answer = self.call(LOOKUP, |daemon, context| ask(daemon, context, 0)).await?;
            wait_ms = left_ms();
            if is_news(&answer) || wait_ms == 0 {
                return Ok(answer);
            }
        }
    }

    /// Notes in `sent` whether a daemon may have had the request, though it did not answer.
    async fn call_noting<T, F, Answer>(&self, sent: &mut bool, limit: Duration, method: F) -> Result<T, ClientError>
    where
        F: Fn(PyexecClient, Context) -> Answer,
        Answer: Future<Output = Result<Result<T, Error>, RpcError>>,
    {
        let mut patience = Patience::from(Instant::now());
        loop {
            let failure = match self.attempt(limit, &method).await? {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Leaving => Failed::Leaving,
                Attempt::Late => {
                    *sent = true;
                    return Err(ClientError::Late { limit });
                }
                Attempt::Broken(source) => {
                    *sent = true;
                    Failed::Broken(source)
                }
            };
            match patience.after_failure(Instant::now()) {
                Some(pause) if pause.is_zero() => {}
                Some(pause) => tokio::time::sleep(pause).await,
                None => {
                    return Err(match failure {
                        Failed::Leaving => Error::ShuttingDown.into(),
                        Failed::Broken(source) => ClientError::Broken { attempts: patience.failures(), source },
                    });
                }
            }
        }
    }

    /// Sends a request once. A connection on which there was no answer is not used again.
    ///
    /// # Errors
    /// There is no daemon to ask, it says no, or the request is too large for any.
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
            // It was not sent, and the next daemon would be sent no more of it. The connection is as good as before.
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
        let mut has_replaced = false;
        let connection = loop {
            let ours = directories::greeting(&self.paths);
            // Of whoever else answers where ours would be.
            let other = match dial(&self.paths.socket, &ours).await {
                // Ours is looked at again: a daemon that is started by the connection makes it.
                Ok(dialled) if dialled.theirs.state.is(&directories::at(&self.paths.state)) => break dialled.client,
                Ok(dialled) => Some(dialled.theirs.state.path),
                Err(ClientError::Connect { source, .. }) if nobody_listens(&source) => None,
                // Whose it is, it cannot say; the lock of ours can.
                Err(ClientError::Version { .. } | ClientError::Unresponsive { .. })
                    if self.paths.has_default_socket() && lock_file::is_of_another_state(&self.paths) =>
                {
                    Some(OsText::default())
                }
                Err(error) if !has_replaced => {
                    self.replace_older(&self.paths.socket, error).await?;
                    has_replaced = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let paths = self.paths.clone();
            if let Some(socket) = blocking(move || start::find_running(&paths)).await? {
                match dial(&socket, &ours).await {
                    Ok(dialled) if dialled.theirs.state.is(&directories::at(&self.paths.state)) => {
                        break dialled.client;
                    }
                    Ok(_) => {}
                    Err(ClientError::Connect { source, .. }) if nobody_listens(&source) => {}
                    Err(error) if !has_replaced => {
                        self.replace_older(&socket, error).await?;
                        has_replaced = true;
                        continue;
                    }
                    // Ours holds the lock, and no other could be started.
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
                // Both daemons go on; each client finds its own by the lock in its state directory.
                paths.socket = paths.socket_beside();
            }
            match blocking(move || start::ensure_running(&paths)).await {
                Ok(()) | Err(StartError::Died) if attempt < STARTS => attempt += 1,
                // One that has ended before it was spoken to is started again, so often.
                Ok(()) => return Err(StartError::Died.into()),
                Err(error) => return Err(error.into()),
            }
        };
        start::orphans::adopt();
        *kept = Some(connection.clone());
        Ok(connection)
    }

    /// Has the daemon at `socket` hand over, if `error` says that it is older than this client; otherwise that stays the
    /// error. A client that starts no daemon ends none.
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
            // Its source is not what it wraps, but the source of that.
            Some(wrapping) => wrapping.get_ref().map(|wrapped| wrapped as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    false
}
