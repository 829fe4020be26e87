//! Starting the daemon, exactly once however many clients want it.
//!
//! The clients queue on a lock; whoever holds it looks again before it starts anything. The daemon it starts belongs to
//! nobody: its parent is init, it leads a session of its own, sees none of the caller's job, and where the user's systemd
//! answers it is a unit of that, so that it does not end with the editor's or the terminal's scope.

pub mod orphans;
pub mod process;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pyexec_proto::paths::Paths;
use pyexec_proto::variables::{
    ARTIFACTS_VARIABLE, DAEMON_VARIABLE, JOB_ID_VARIABLE, PROGRESS_VARIABLE, SERVICE_MARK, SOCKET_VARIABLE,
};
use pyexec_run_directory::lock_file::{Running, lock_holder};
use pyexec_run_directory::place;
use pyexec_run_directory::private::{create_private, open_lock};
use pyexec_run_directory::socket::listens;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FlockOperation;

use process::{DaemonProcess, ProcessState};

/// The longest a start may take, in seconds: it is over when the daemon listens, which does not wait for recovery.
const START_LIMIT_SECONDS: u64 = 30;

/// What the daemon writes to its stdout once it listens.
pub const READY: &str = "ready";

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot find `pyexecd`")]
    NoProgram,
    #[error("cannot prepare {}: {source}", path.display())]
    Prepare { path: PathBuf, source: io::Error },
    #[error("cannot run {}: {source}", program.display())]
    Spawn { program: PathBuf, source: io::Error },
    #[error("the daemon did not start: {message}")]
    Failed { message: String },
    #[error("the daemon exited during its start, without a message")]
    Died,
    #[error("the daemon did not listen within {START_LIMIT_SECONDS} s")]
    Late,
}

/// The lock of clients that start a daemon, or have one hand over: it is held until the file is dropped.
///
/// # Errors
/// The lock file cannot be made, or other clients have held it for too long.
pub(crate) fn turn(paths: &Paths) -> Result<File, StartError> {
    let prepare = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| StartError::Prepare { path, source }
    };
    create_private(&paths.state).map_err(prepare(&paths.state))?;
    let lock_path = paths.start_lock();
    let lock = open_lock(&lock_path).map_err(prepare(&lock_path))?;
    take_turn(lock).map_err(|error| error.map_or(StartError::Late, |source| prepare(&lock_path)(source)))
}

/// Returns once a daemon listens, whoever started it.
///
/// # Errors
/// No daemon could be started; it says why.
pub fn ensure_running(paths: &Paths) -> Result<(), StartError> {
    let _turn = turn(paths)?;
    if listens(&paths.socket) {
        return Ok(());
    }
    let program = find_program().ok_or(StartError::NoProgram)?;
    // The manager's units are the default instance's.
    if paths.instance.is_none() && paths.has_default_socket() && systemd::start(&program) && listens(&paths.socket) {
        return Ok(());
    }
    match start_directly(&program, paths) {
        // Ours found another one there, which somebody started at the same moment without asking for our lock.
        Err(StartError::Failed { .. } | StartError::Died) if listens(&paths.socket) => Ok(()),
        started => started,
    }
}

/// Waits for the starter's lock, and returns it held. `None` as the error: it took too long, whoever has it may be
/// suspended. flock has no time limit, and a thread to wait in may not be had: so it is asked again and again, by those
/// few who want to start a daemon at the same moment.
fn take_turn(lock: File) -> Result<File, Option<io::Error>> {
    const ASK_AGAIN: Duration = Duration::from_millis(5);
    let deadline = Instant::now() + Duration::from_secs(START_LIMIT_SECONDS);
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Some(error.into())),
        }
        if Instant::now() >= deadline {
            return Err(None);
        }
        std::thread::sleep(ASK_AGAIN);
    }
}

/// The daemon of this state directory runs where it cannot be reached from here.
#[derive(Debug, thiserror::Error)]
#[error("the daemon of this state directory runs {place} (pid {pid}) and holds {}", lock.display())]
pub struct Elsewhere {
    place: String,
    pid: u32,
    lock: PathBuf,
}

/// A daemon holds the lock of this state directory, and cannot be talked to.
#[derive(Debug)]
pub enum Unreachable {
    Elsewhere(Elsewhere),
    /// It does not listen, though it was asked to.
    Silent {
        pid: u32,
        state: ProcessState,
    },
}

/// The daemon of this state directory, if one holds its lock, wherever it listens.
///
/// The socket may be elsewhere than one would look: the daemon was started with another runtime directory. Or it may
/// have been swept away: then the daemon is asked, by signal, to make it again.
pub fn find_running(paths: &Paths) -> Result<Option<PathBuf>, Unreachable> {
    let Some(running) = lock_holder(paths) else { return Ok(None) };
    let socket = running.socket.as_path();
    if listens(socket) {
        return Ok(Some(socket.to_owned()));
    }
    if let Some(place) = running.place.as_ref().and_then(|place| place.elsewhere_than(&place::here())) {
        return Err(Unreachable::Elsewhere(Elsewhere { place, pid: running.pid, lock: paths.daemon_lock() }));
    }
    if let Some(socket) = wake(&running, socket) {
        return Ok(Some(socket));
    }
    // It may have left meanwhile, which its note does first.
    match DaemonProcess::find(running.pid).filter(|_| lock_holder(paths).is_some_and(|now| now.pid == running.pid)) {
        Some(process) => Err(Unreachable::Silent { pid: process.pid(), state: process.state() }),
        None => Ok(None),
    }
}

/// Has a daemon whose socket was swept away make it again.
fn wake(running: &Running, socket: &Path) -> Option<PathBuf> {
    const PATIENCE: u32 = 200;
    // The lock says that it lives, the process that the number still means it.
    DaemonProcess::find(running.pid)?.signal(rustix::process::Signal::HUP).ok()?;
    for _ in 0..PATIENCE {
        if listens(socket) {
            return Some(socket.to_owned());
        }
        // It has nothing else by which to say that it has done so.
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// The `pyexecd` that would be started: what [`DAEMON_VARIABLE`] names, be it there or not, or the first that is found.
pub fn find_program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(DAEMON_VARIABLE).filter(|name| !name.is_empty()) {
        return Some(named.into());
    }
    places_of("pyexecd").find(|candidate| candidate.is_file())
}

/// Whether somebody may run it; whether that is us, running it shows.
pub fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Where a program of ours may be, the likeliest first: beside this one, then along `PATH`.
pub fn places_of(program: &str) -> impl Iterator<Item = PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(program)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).map(|directory| directory.join(program)).collect();
    beside.into_iter().chain(on_path)
}

/// What a daemon needs of its starter's environment. Nothing of it reaches a job: a job has its own client's.
pub fn environment() -> impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)> {
    const NAMES: [&str; 9] =
        ["HOME", "USER", "LOGNAME", "PATH", "LANG", "TZ", "TMPDIR", "RUST_BACKTRACE", "DBUS_SESSION_BUS_ADDRESS"];
    const PREFIXES: [&str; 3] = ["XDG_", "LC_", "PYEXEC_"];
    // These say which job the starter belongs to.
    const OF_A_JOB: [&str; 3] = [JOB_ID_VARIABLE, PROGRESS_VARIABLE, ARTIFACTS_VARIABLE];
    std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| {
            (NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
                && !OF_A_JOB.contains(&name)
        })
    })
}

fn start_directly(program: &Path, paths: &Paths) -> Result<(), StartError> {
    let _own_child = orphans::own_child();
    let mut starter = Command::new(program)
        .arg("--detach")
        .env_clear()
        .envs(environment())
        // Where we shall look for it, which need not be in our own environment.
        .env(SOCKET_VARIABLE, &paths.socket)
        .env(SERVICE_MARK, "daemon")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| StartError::Spawn { program: program.to_owned(), source })?;
    let stdout = starter.stdout.take().expect("its stdout is a pipe");
    let mut starter = Starter::of(starter);
    let message = starter.read_message(stdout);
    let status = starter.end();
    let message = message?;
    if message.trim_end() == READY {
        return Ok(());
    }
    let message = message.trim().to_owned();
    match status {
        Some(status) if message.is_empty() && !status.success() => {
            Err(StartError::Failed { message: status.to_string() })
        }
        _ if message.is_empty() => Err(StartError::Died),
        _ => Err(StartError::Failed { message }),
    }
}

/// The process that becomes the daemon's parent, and then leaves the daemon to init: it is waited for as soon as it has
/// ended, so that no zombie is left, even if this client is killed in the next moment.
struct Starter {
    child: Child,
    /// Readable when the process has ended. `None` where the kernel has no such thing, and afterwards.
    ended: Option<OwnedFd>,
    status: Option<ExitStatus>,
}

impl Starter {
    fn of(child: Child) -> Self {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let ended = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Self { child, ended, status: None }
    }

    /// What the daemon says, up to its greeting or to the end: what is no greeting is an explanation, perhaps of several
    /// lines.
    fn read_message(&mut self, mut stdout: ChildStdout) -> Result<String, StartError> {
        let deadline = Instant::now() + Duration::from_secs(START_LIMIT_SECONDS);
        let mut message = String::new();
        while message.trim_end_matches('\n') != READY {
            let (speaks, ended) = {
                let mut watched = vec![PollFd::new(&stdout, PollFlags::IN)];
                watched.extend(self.ended.as_ref().map(|ended| PollFd::new(ended, PollFlags::IN)));
                let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
                match poll(&mut watched, left.as_ref()) {
                    Ok(0) => return Err(StartError::Late),
                    Err(rustix::io::Errno::INTR) => continue,
                    Ok(_) | Err(_) => {}
                }
                let happened = |at: usize| watched.get(at).is_some_and(|watched| !watched.revents().is_empty());
                (happened(0), happened(1))
            };
            if ended {
                self.reap();
            }
            if speaks {
                let mut buffer = [0; 1024];
                match stdout.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => message.push_str(&String::from_utf8_lossy(&buffer[..read])),
                }
            }
        }
        Ok(message)
    }

    fn reap(&mut self) {
        self.status = self.child.wait().ok();
        self.ended = None;
    }

    /// How the process has ended. One that still has not, long after the daemon has spoken, is of an older version, whose
    /// daemon it is, or hangs before it has become one.
    fn end(&mut self) -> Option<ExitStatus> {
        const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
        if let Some(ended) = &self.ended
            && matches!(poll(&mut [PollFd::new(ended, PollFlags::IN)], Some(&PATIENCE)), Ok(1..))
        {
            self.reap();
        }
        self.status.or_else(|| self.child.try_wait().ok().flatten())
    }
}

mod systemd {
    use super::*;

    /// Asks the user's service manager to run the daemon as a unit of its own; `false` where none answers.
    pub(super) fn start(program: &Path) -> bool {
        let manager =
            std::env::var_os("XDG_RUNTIME_DIR").map(|directory| Path::new(&directory).join("systemd/private"));
        if !manager.is_some_and(|socket| socket.exists()) {
            return false;
        }
        // Where the units are installed, the daemon is theirs; otherwise a transient one does.
        run(Command::new("systemctl").args(["--user", "--quiet", "start", "pyexecd.service"])) || transient(program)
    }

    fn transient(program: &Path) -> bool {
        let mut command = Command::new("systemd-run");
        command.args(["--user", "--quiet", "--collect", "--unit=pyexecd", "--description=pyexec daemon"]);
        // `notify`: systemd-run returns when the daemon listens.
        for property in ["Type=notify", "KillMode=process", "OOMPolicy=continue", "Delegate=yes"] {
            command.arg(format!("--property={property}"));
        }
        for (name, value) in environment() {
            let mut variable = std::ffi::OsString::from("--setenv=");
            variable.push(&name);
            variable.push("=");
            variable.push(&value);
            command.arg(variable);
        }
        command.arg(format!("--setenv={SERVICE_MARK}=daemon"));
        run(command.arg("--").arg(program))
    }

    fn run(command: &mut Command) -> bool {
        let _own_child = orphans::own_child();
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }
}
