//! The daemon's life: lock, index, recovery, listen, serve, leave.

use pyexec_run_directory::{directories, ownership, place};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use pyexec_client::environment_file::EnvironmentFile;
use pyexec_client::start::READY;
use pyexec_client::threads;
use pyexec_proto::greeting::{Directories, Greeting};
use pyexec_proto::paths::{NoHome, Paths};
use pyexec_proto::preamble::Preamble;
use pyexec_proto::service::Pyexec;
use pyexec_proto::variables::FENCE_VARIABLE;
use pyexec_proto::world::World;
use pyexec_proto::{JobDetail, OsText, frozen, wire};
use pyexec_run_directory::lock_file::Running;
use pyexec_run_directory::ownership::ForeignDirectory;
use pyexec_run_directory::private::{create_private, open_lock};
use pyexec_run_directory::socket::socket_address;
use rustix::fs::{FlockOperation, Mode};
use rustix::io::Errno;
use tarpc::server::{BaseChannel, Channel};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;

use crate::blocking::{begin as begin_blocking, blocking, spawn as in_background};
use crate::client_files::ClientFiles;
use crate::config::{Config, ConfigError, ScopeSetting};
use crate::engine::local::LocalEngine;
use crate::engine::scopes::Scopes;
use crate::environment::Environments;
use crate::fault::{Point, reached};
use crate::jobs::changes::ChangeLog;
use crate::jobs::command::LeftUnfinished;
use crate::jobs::dispatcher::Dispatcher;
use crate::jobs::{Jobs, Parts, leaving};
use crate::listener::Listener;
use crate::retention::Bounds;
use crate::scripts::Scripts;
use crate::service::Service;
use crate::store::{Found, Store, StoreError};
use pyexec_run_directory::directory as run_directory;
use pyexec_run_directory::processes::may_gain_privileges;
use pyexec_supervisor::own_limits;
use pyexec_supervisor::peer::{self, Own, Peer};
use pyexec_supervisor::scheduling;
use pyexec_sys::{forget_starter, leave_starter, return_large_memory};

/// How long a new daemon waits for an old one that is on its way out.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// How long clients wait for an index that is made anew, before they are shown what there is of it.
const REBUILD_PATIENCE: Duration = Duration::from_secs(2);
/// How long calls that are being answered may take to finish when the daemon leaves.
const LEAVING_PATIENCE: Duration = Duration::from_secs(2);

/// What a daemon needs at the least: its own dozen, and some for a job that starts, one that runs, and a client or two.
const DESCRIPTORS: usize = 40;

#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error(transparent)]
    NoHome(#[from] NoHome),
    #[error("{0}; {hint}", hint = .0.hint)]
    Foreign(#[from] ForeignDirectory),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("could not prepare {}: {source}; make it usable, or let {variable} name another place", path.display())]
    Prepare { path: PathBuf, variable: &'static str, source: io::Error },
    #[error(
        "/proc is not mounted, or does not show this process: the daemon could not tell jobs and clients apart; \
        `mount -t proc proc /proc` makes it"
    )]
    NoProc,
    #[error(
        "files may have at most {limit} bytes here (`ulimit -f`), and the limit cannot be raised: the daemon could not \
        keep its index and the output of jobs; start it with {least} bytes or more, as `pyexec daemon start` does from a \
        shell without that limit", least = own_limits::LEAST_FILE_BYTES
    )]
    FileSize { limit: u64 },
    #[error("could not make a thread: {}", own_limits::explain_start(.0))]
    Thread(io::Error),
    #[error(
        "this is inside of the fence of a job ({fence}), where a daemon would keep every later job; start it outside"
    )]
    Fenced { fence: String },
    #[error("another daemon is running (its lock is {})", lock.display())]
    AlreadyRunning { lock: PathBuf },
    #[error("could not listen on {}: {source}", socket.display())]
    Listen { socket: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("could not start: {0}")]
    Start(#[from] io::Error),
    #[error(
        "could not leave the program that started it: {0}; \
        the user or the control group may have as many processes as it is allowed (`ulimit -u`)"
    )]
    Leave(io::Error),
}

/// Who started the daemon, and what that has to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// A service manager, or a person: the process is theirs.
    Foreground,
    /// A program that wants to hear when the daemon listens; the process is its own child.
    Announced,
    /// A client, which wants to hear it too, and to which nothing must tie the daemon.
    Detached,
}

impl Start {
    /// Whether stdout is read by whoever started the daemon.
    pub(crate) fn is_announced(self) -> bool {
        match self {
            Start::Announced | Start::Detached => true,
            Start::Foreground => false,
        }
    }
}

/// Runs until it is told to leave.
pub(crate) fn run(start: Start) -> Result<(), DaemonError> {
    if let Some(fence) = std::env::var_os(FENCE_VARIABLE) {
        return Err(DaemonError::Fenced { fence: fence.to_string_lossy().into_owned() });
    }
    // A lock or a pipe that whoever started us holds open must not stay so for as long as we live. What systemd hands
    // over comes first.
    forget_starter(3 + handed_over());
    own_limits::lift();
    if start == Start::Detached {
        leave_starter().map_err(DaemonError::Leave)?;
        scheduling::forget_starters();
        std::env::set_current_dir("/")?;
    }
    return_large_memory();
    // Nothing of ours is for other users.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    if may_gain_privileges("self").is_err() {
        return Err(DaemonError::NoProc);
    }
    if let Some(limit) = own_limits::too_low_for_files() {
        return Err(DaemonError::FileSize { limit });
    }
    let paths = Paths::from_environment()?;
    ownership::check(&paths)?;
    let environment_file = EnvironmentFile::read(&paths.environment_file());
    let config = Config::load(&paths.config_file(), &environment_file)?;
    for (path, variable) in [(&paths.state, "XDG_STATE_HOME"), (&paths.runtime, "XDG_RUNTIME_DIR")] {
        create_private(path).map_err(|source| DaemonError::Prepare { path: path.clone(), variable, source })?;
    }
    // Somebody may have been quicker.
    ownership::check(&paths)?;
    crate::logging::start(&paths.logs(), &config.log).map_err(|source| DaemonError::Prepare {
        path: paths.logs(),
        variable: "XDG_STATE_HOME",
        source,
    })?;
    for problem in environment_file.problems.iter().chain(&environment_file.warning) {
        tracing::warn!("{problem}");
    }
    let lock = take_lock(&paths, start)?;
    threads::check_descriptors(DESCRIPTORS)?;
    begin_blocking().map_err(DaemonError::Thread)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve(Arc::new(paths), &config, &lock, start));
    // Nothing that is still being read or written is waited for: a job has its own supervisor.
    runtime.shutdown_timeout(Duration::from_millis(100));
    tracing::info!("left");
    served
}

/// How many descriptors systemd hands over to this process: what it hands over to another is not for us.
fn handed_over() -> u32 {
    let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let is_ours = of("LISTEN_PID").is_none_or(|pid| pid == std::process::id().to_string());
    let count = of("LISTEN_FDS").and_then(|count| count.parse().ok()).unwrap_or(0);
    if is_ours { count } else { 0 }
}

/// Held until the process ends, however it does.
///
/// A client starts a daemon when nobody listens. If somebody does by now, another start has won (systemd's, perhaps, after a
/// crash), and the client is not kept waiting for the patience we have with a daemon that is leaving.
fn take_lock(paths: &Paths, start: Start) -> Result<File, DaemonError> {
    const LOOK_AGAIN: Duration = Duration::from_millis(10);
    let path = paths.daemon_lock();
    let prepare = |source| DaemonError::Prepare { path: path.clone(), variable: "XDG_STATE_HOME", source };
    let lock = open_lock(&path).map_err(prepare)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(error) => return Err(prepare(error.into())),
        }
        if Instant::now() >= deadline || (start.is_announced() && somebody_listens(paths)) {
            return Err(DaemonError::AlreadyRunning { lock: path });
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    // What an earlier daemon has left there.
    lock.set_len(0).map_err(prepare)?;
    Ok(lock)
}

/// For clients that look where we are not. Not before we listen, and would hear their signal.
fn say_where(mut lock: &File, paths: &Paths, directories: &Directories, world: &World) -> io::Result<()> {
    let running = Running {
        pid: std::process::id(),
        socket: OsText::from(paths.socket.as_path()),
        directories: Directories::clone(directories),
        place: Some(place::here()),
        instance: paths.instance.clone(),
        world: Some(world.clone()),
    };
    lock.write_all(&serde_json::to_vec(&running)?)
}

fn somebody_listens(paths: &Paths) -> bool {
    socket_address(&paths.socket).is_ok_and(|(address, _directory)| StdStream::connect(address).is_ok())
}

async fn serve(paths: Arc<Paths>, config: &Config, lock: &File, start: Start) -> Result<(), DaemonError> {
    let started = Instant::now();
    let own = Arc::new(Own::look()?);
    let (store, found) = Store::open(&paths.database())?;
    let client_files = ClientFiles::new(&paths.state);
    let environments = Arc::new(Environments::new(config, &paths, client_files.clone()));
    let scopes = Arc::new(Scopes::new(config.scopes == ScopeSetting::Auto, config.user_bus.clone()));
    let engine = Arc::new(LocalEngine::new(Paths::clone(&paths), scopes.clone(), config.output_bytes, own.clone()));
    let (ended, changes) = (Arc::new(Notify::new()), ChangeLog::default());
    let (dispatcher, commands) = Dispatcher::new(
        store.clone(),
        environments.clone(),
        engine.clone(),
        paths.jobs(),
        config.max_running,
        ended.clone(),
        changes.clone(),
    );
    let (shutdown, shutting_down) = watch::channel(false);
    let cache_user = environments.clone();
    let jobs = Jobs::new(Parts {
        commands,
        changes,
        store: store.clone(),
        environments,
        engine,
        client_files,
        inherit: config.inherit_env.clone(),
        paths: paths.clone(),
        shutting_down: shutting_down.clone(),
    });
    // In the queue before any client's command: a client never sees a job as it was before the restart.
    let rebooted = store.note_boot(pyexec_run_directory::boot::id()).await?;
    let unfinished = store.unfinished().await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), unfinished = unfinished.len(), index = ?found, "started");
    let unfinished = unfinished.into_iter();
    let left = |(job, may_have_started)| LeftUnfinished {
        job,
        may_have_run: rebooted && may_have_started,
        is_found_on_disk: false,
    };
    jobs.recover(unfinished.map(left).collect());
    tokio::spawn(dispatcher.run());

    let is_whole = found == Found::Whole;
    let (tidied, is_tidy) = oneshot::channel();
    let (shutdown, history) = (Arc::new(shutdown), config.history);
    let (of_tidying, paths_of_tidying, leave) = (jobs.clone(), paths.clone(), shutdown.clone());
    let tidying = tokio::spawn(async move {
        tidy(of_tidying.clone(), paths_of_tidying.clone(), found).await;
        let _ = of_tidying.counts().await;
        let _ = tidied.send(());
        if of_tidying.store().is_makeshift() {
            leave_for_the_index(paths_of_tidying, leave).await;
        } else {
            let without_index = go_on_without_index(of_tidying.clone(), paths_of_tidying, leave);
            tokio::join!(bound_history(of_tidying, history, ended), without_index);
        }
    });
    if !is_whole {
        // A listing without the jobs of yesterday would be a fright; a large history is not waited for all the same.
        let _ = tokio::time::timeout(REBUILD_PATIENCE, is_tidy).await;
    }
    let listener =
        Listener::open(&paths.socket).map_err(|source| DaemonError::Listen { socket: paths.socket.clone(), source })?;
    let scripts = Scripts::new(config, &paths);
    scripts.tidy_in_background();
    let reader = Arc::default();
    let directories = Arc::new(directories::of(&paths));
    let service = Service {
        jobs,
        scripts,
        paths: paths.clone(),
        directories: directories.clone(),
        started,
        scopes,
        shutdown,
        reader,
        peer: Arc::new(Peer::look(None, &own)),
        own: own.clone(),
    };
    let signals = Signals::catch()?;
    reached(Point::RecoverListening);
    if let Err(error) = say_where(lock, &paths, &directories, &own.world) {
        tracing::warn!(%error, "clients that look for the socket elsewhere will not find it");
    }
    say_ready(start);
    // Whoever waits for this daemon does not wait for it: the first preparation does.
    drop(in_background(move || {
        if let Err(error) = cache_user.tidy() {
            tracing::warn!(%error, "the environment cache can not be tidied");
        }
        cache_user.be_present();
    }));
    let left = accept(listener, signals, service, shutting_down, lock).await;
    tidying.abort();
    left?;
    Ok(())
}

fn say_ready(start: Start) {
    if start.is_announced() {
        let mut stdout = io::stdout();
        let _ = writeln!(stdout, "{READY}").and_then(|()| stdout.flush());
        // Whoever started us reads to the end of it, and may be waited for in turn.
        if let Ok(null) = File::options().write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdout(&null);
        }
    }
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "systemd could not be told that the daemon is ready");
    }
}

/// Once somebody else holds the index: as after a start without it.
async fn go_on_without_index(jobs: Jobs, paths: Arc<Paths>, leave: Arc<watch::Sender<bool>>) {
    let problem = jobs.store().out_of_reach().await;
    // What could not be copied from it.
    tidy(jobs, paths.clone(), Found::OutOfReach { problem }).await;
    leave_for_the_index(paths, leave).await;
}

/// Once the index on disk can be used again: the next daemon does, and for a job a daemon's end is no event.
async fn leave_for_the_index(paths: Arc<Paths>, leave: Arc<watch::Sender<bool>>) {
    const LOOK_AGAIN: Duration = Duration::from_secs(5);
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        let database = paths.database();
        if let Ok(true) = blocking(move || Ok(Store::is_usable(&database))).await {
            tracing::info!("the index can be used again, which the next daemon will do");
            leave.send_replace(true);
            return;
        }
    }
}

/// Now, and from time to time when jobs have ended since: a daemon that nobody uses has nothing to do.
async fn bound_history(jobs: Jobs, bounds: Bounds, ended: Arc<Notify>) {
    const INTERVAL: Duration = Duration::from_secs(600);
    loop {
        if let Err(error) = jobs.retire(&bounds).await {
            tracing::warn!(%error, "the history of jobs can not be bounded");
        }
        ended.notified().await;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What an earlier daemon left half done, and what the index does not know of. In the background: nobody waits for it.
/// What this daemon is making of a submission meanwhile is left alone.
async fn tidy(jobs: Jobs, paths: Arc<Paths>, found: Found) {
    const BATCH: usize = 500;
    reached(Point::RecoverListed);
    let directory = paths.jobs();
    let left_over = match jobs.listed().await {
        Ok(left_over) => left_over,
        Err(error) => return tracing::error!(%error, "what an earlier daemon left behind can not be tidied"),
    };
    for half_made in left_over.half_made {
        let remove = move || run_directory::remove_half_made(&half_made).map_err(io::Error::other);
        if let Err(error) = blocking(remove).await {
            tracing::warn!(%error, "a run directory that was never finished stays");
        }
    }
    // The index is asked for a few at a time, and answers clients in between.
    let mut unknown = Vec::new();
    for batch in left_over.jobs.chunks(BATCH) {
        // Before the index is asked: what is not under way any more by now is in it, or gone.
        let settled = batch.iter().copied().filter(|id| !jobs.under_way().contains(*id)).collect();
        match jobs.store().unknown(settled).await {
            Ok(found) => unknown.extend(found),
            Err(error) => return tracing::error!(%error, "the index can not be compared with the run directories"),
        }
    }
    drop(left_over.jobs);
    if unknown.is_empty() {
        return;
    }
    tracing::info!(jobs = unknown.len(), index = ?found, "rebuilding the index from the run directories");
    let mut found = Vec::new();
    for batch in unknown.chunks(BATCH) {
        let (directory, batch) = (directory.clone(), batch.to_vec());
        let read = blocking(move || {
            let read = |id: &pyexec_proto::JobId| match run_directory::read(&directory, *id) {
                Ok(job) => job,
                Err(error) => {
                    tracing::warn!(job = %id, %error, "a run directory is passed over");
                    None
                }
            };
            Ok(batch.iter().filter_map(read).collect::<Vec<_>>())
        });
        found.extend(read.await.unwrap_or_default());
    }
    // The index numbers jobs in the order in which it hears of them.
    found.sort_by_key(|job| job.created_at);
    let (finished, unfinished): (Vec<_>, Vec<_>) = found.into_iter().partition(|job| job.state.is_finished());
    if let Err(error) = jobs.store().import(finished).await {
        tracing::error!(%error, "finished jobs that were found on disk could not be recorded");
    }
    // Without an index, or with one that was set aside, only the boot tells whether it may have run.
    let same_boot = |job: &JobDetail| run_directory::same_boot(&directory.join(job.id.to_string()));
    let left = unfinished.into_iter().map(|job| LeftUnfinished {
        may_have_run: !same_boot(&job),
        is_found_on_disk: true,
        job,
    });
    jobs.recover(left.collect());
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

async fn accept(
    mut listener: Listener,
    mut signals: Signals,
    service: Service,
    shutting_down: watch::Receiver<bool>,
    lock: &File,
) -> io::Result<()> {
    let mut told_to_leave = shutting_down.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(stream) => {
                    let service = Service { reader: Arc::default(), ..service.clone() };
                    drop(connections.spawn(converse(stream, service, shutting_down.clone())));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Out of descriptors, most likely: one that closes makes room.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            // A client that can not find our socket asks for it so.
            _ = signals.hangup.recv() => match listener.restore() {
                Ok(restored) => tracing::info!(restored, "asked whether the socket is there"),
                Err(error) => tracing::error!(%error, "the socket can not be made again"),
            },
            () = leaving(&mut told_to_leave) => break,
        }
    }
    tracing::info!("leaving; jobs go on");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    // Nobody is to look for us from here on.
    lock.set_len(0)?;
    drop(listener);
    service.shutdown.send_replace(true);
    let all_answered = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LEAVING_PATIENCE, all_answered).await;
    Ok(())
}

/// One client, from greeting to goodbye. A panic in a call ends this connection, and no other.
async fn converse(mut stream: UnixStream, service: Service, mut shutting_down: watch::Receiver<bool>) {
    let peer = match peer::at(&stream) {
        Ok((user, pid)) if user == rustix::process::geteuid() => Peer::look(pid, &service.own),
        Ok((user, _)) => return tracing::warn!(uid = user.as_raw(), "a connection of another user was refused"),
        Err(error) => return tracing::warn!(%error, "a connection of nobody knows whom was refused"),
    };
    let service = Service { peer: Arc::new(peer), ..service };
    // The state directory as it is now: it may have been removed and made again.
    let state = directories::at(&service.paths.state);
    let directories = Directories { state, ..Directories::clone(&service.directories) };
    let us = Greeting { pid: std::process::id(), directories };
    let greeted = tokio::select! {
        greeted = us.exchange(&mut stream) => greeted,
        () = leaving(&mut shutting_down) => return,
    };
    let client = match greeted {
        Ok((_, Some(client))) => client,
        Ok((client, None)) => return converse_frozen(stream, client, &service).await,
        Err(error) => return tracing::debug!(%error, "no greeting"),
    };
    let service = service.for_client(&client.directories);
    let mut requests = Box::pin(BaseChannel::with_defaults(wire::serve(stream)).execute(service.serve()));
    let mut calls = JoinSet::new();
    loop {
        tokio::select! {
            request = requests.next() => match request {
                Some(call) => drop(calls.spawn(call)),
                None => return,
            },
            Some(ended) = calls.join_next() => if let Err(error) = ended
                && error.is_panic()
            {
                tracing::error!("a call panicked; its connection is closed");
                return;
            },
            () = leaving(&mut shutting_down), if calls.is_empty() => return,
        }
    }
}

/// A client of a version with which this daemon has no protocol in common: it is told what daemon this is, and a newer one
/// may have it hand over.
async fn converse_frozen(mut stream: UnixStream, client: Preamble, service: &Service) {
    let ours = Preamble::ours();
    tracing::info!(?client, ours = ours.highest, "a client of another version has connected");
    if client.highest < frozen::SINCE || frozen::skip_greeting(&mut stream).await.is_err() {
        return;
    }
    loop {
        let answer = match frozen::read(&mut stream).await {
            Ok(Some(frozen::Request::Status)) => service.frozen_status(None).await,
            Ok(Some(frozen::Request::HandOver { highest })) => {
                let refused = service.refuse_to_hand_over(highest, &ours);
                frozen::Answer { hands_over: refused.is_none(), ..service.frozen_status(refused).await }
            }
            Ok(None) => service.frozen_status(Some("this request is not known to this daemon".to_owned())).await,
            // The client has what it wanted, or says nothing.
            Err(_) => return,
        };
        let sent = frozen::write(&mut stream, &answer).await;
        if answer.hands_over {
            tracing::info!(to = %client.version, "handing over to a newer daemon; jobs go on");
            service.shutdown.send_replace(true);
            return;
        }
        if sent.is_err() {
            return;
        }
    }
}
