//! Starts the daemon exactly once, however many clients want it.
//!
//! The clients queue on the start lock; the holder checks again before it starts a daemon. The daemon is independent of the
//! client: its parent is init, it leads its own session, and it does not inherit the variables of the caller's job. If the
//! user's systemd answers, the daemon is a unit, so that it does not end with the scope of the editor or the terminal.

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

/// The time limit of a start, in seconds. A start is complete when the daemon listens; it does not wait for recovery.
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

/// Takes the lock of clients that start or replace a daemon; it is held until the file is dropped.
///
/// # Errors
/// The lock file cannot be created, or other clients held it for too long.
pub(crate) fn start_lock(paths: &Paths) -> Result<File, StartError> {
    let prepare = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| StartError::Prepare { path, source }
    };
    create_private(&paths.state).map_err(prepare(&paths.state))?;
    let lock_path = paths.start_lock();
    let lock = open_lock(&lock_path).map_err(prepare(&lock_path))?;
    lock_in_time(lock).map_err(|error| error.map_or(StartError::Late, |source| prepare(&lock_path)(source)))
}

/// Starts a daemon unless one listens; returns once one does.
///
/// # Errors
/// No daemon could be started.
pub fn ensure_running(paths: &Paths) -> Result<(), StartError> {
    let _start_lock = start_lock(paths)?;
    if listens(&paths.socket) {
        return Ok(());
    }
    let program = find_program().ok_or(StartError::NoProgram)?;
    // The manager's units are the default instance's.
    if paths.instance.is_none() && paths.has_default_socket() && systemd::start(&program) && listens(&paths.socket) {
        return Ok(());
    }
    match start_directly(&program, paths) {
        // Another program started a daemon at the same moment, without the start lock.
        Err(StartError::Failed { .. } | StartError::Died) if listens(&paths.socket) => Ok(()),
        started => started,
    }
}

/// Takes the start lock within the time limit; the error is `None` on a timeout, for example if the holder is suspended.
/// The lock is polled, because flock has no time limit and a thread to wait in may not be available.
fn lock_in_time(lock: File) -> Result<File, Option<io::Error>> {
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

/// The daemon of this state directory runs on another machine or in another namespace, and cannot be reached from here.
#[derive(Debug, thiserror::Error)]
#[error("the daemon of this state directory runs {place} (pid {pid}) and holds {}", lock.display())]
pub struct Elsewhere {
    place: String,
    pid: u32,
    lock: PathBuf,
}

/// A daemon holds the lock of this state directory but cannot be reached.
#[derive(Debug)]
pub enum Unreachable {
    Elsewhere(Elsewhere),
    /// It does not listen, even after a signal that asked it to.
    Silent {
        pid: u32,
        state: ProcessState,
    },
}

/// The daemon of this state directory, if one holds its lock, wherever it listens.
///
/// The socket may be in another place, if the daemon was started with another runtime directory. If the socket was deleted,
/// a signal asks the daemon to create it again.
pub fn find_running(paths: &Paths) -> Result<Option<PathBuf>, Unreachable> {
    let Some(running) = lock_holder(paths) else { return Ok(None) };
    let socket = running.socket.as_path();
    if listens(socket) {
        return Ok(Some(socket.to_owned()));
    }
    if let Some(place) = running.place.as_ref().and_then(|place| place.elsewhere_than(&place::here())) {
        return Err(Unreachable::Elsewhere(Elsewhere { place, pid: running.pid, lock: paths.daemon_lock() }));
    }
    if let Some(socket) = recreate_socket(&running, socket) {
        return Ok(Some(socket));
    }
    // The daemon may have exited meanwhile; it removes its entry from the lock file first.
    match DaemonProcess::find(running.pid).filter(|_| lock_holder(paths).is_some_and(|now| now.pid == running.pid)) {
        Some(process) => Err(Unreachable::Silent { pid: process.pid(), state: process.state() }),
        None => Ok(None),
    }
}

/// Asks a daemon whose socket was deleted to create it again; returns its path once it listens.
fn recreate_socket(running: &Running, socket: &Path) -> Option<PathBuf> {
    const PATIENCE: u32 = 200;
    // The lock shows that the daemon is alive; `find` checks that the pid still belongs to it.
    DaemonProcess::find(running.pid)?.signal(rustix::process::Signal::HUP).ok()?;
    for _ in 0..PATIENCE {
        if listens(socket) {
            return Some(socket.to_owned());
        }
        // The daemon has no other way to report that it listens.
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// The `pyexecd` to start: the path in [`DAEMON_VARIABLE`], even if it does not exist, or the first candidate that does.
pub fn find_program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(DAEMON_VARIABLE).filter(|name| !name.is_empty()) {
        return Some(named.into());
    }
    program_candidates("pyexecd").find(|candidate| candidate.is_file())
}

/// Whether `file` is a regular file with an execute permission for any user.
pub fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Paths at which a program of pyexec may be: beside this program, then in each directory of `PATH`.
pub fn program_candidates(program: &str) -> impl Iterator<Item = PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(program)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).map(|directory| directory.join(program)).collect();
    beside.into_iter().chain(on_path)
}

/// The variables that a daemon inherits from the client that starts it. None of them reaches a job, whose environment
/// comes from the client that submits it.
pub fn environment() -> impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)> {
    const NAMES: [&str; 9] =
        ["HOME", "USER", "LOGNAME", "PATH", "LANG", "TZ", "TMPDIR", "RUST_BACKTRACE", "DBUS_SESSION_BUS_ADDRESS"];
    const PREFIXES: [&str; 3] = ["XDG_", "LC_", "PYEXEC_"];
    // These name the job that the client itself belongs to.
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
        // The client looks for the daemon here, even if its own environment does not name this path.
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

/// The intermediate process, which starts the daemon and exits, so that init becomes the daemon's parent. It is reaped as
/// soon as it exits, so that no zombie is left even if this client is killed right after.
struct Starter {
    child: Child,
    /// A pidfd, readable when the process has exited. `None` if the kernel has no pidfds, and after the process was reaped.
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

    /// What the daemon writes to stdout, up to [`READY`] or the end. Anything but [`READY`] is an error message, possibly of
    /// several lines.
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

    /// The exit status of the process; `None` if it still runs: a daemon of an older version, which does not fork, or one
    /// that hangs during its start.
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

    /// Asks the user's service manager to run the daemon as a unit; `false` if no manager answers.
    pub(super) fn start(program: &Path) -> bool {
        let manager =
            std::env::var_os("XDG_RUNTIME_DIR").map(|directory| Path::new(&directory).join("systemd/private"));
        if !manager.is_some_and(|socket| socket.exists()) {
            return false;
        }
        // Uses the installed unit; without one, a transient unit.
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
