//! Starting the daemon, exactly once however many clients want it.
//!
//! The clients queue on a lock; whoever holds it looks again before it starts anything. The daemon it starts belongs to
//! nobody: it leads a session of its own, sees none of the caller's job, and where the user's systemd answers it is a
//! unit of that, so that it does not end with the editor's or the terminal's scope.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::os_text::OsText;

use crate::client::nobody_listens;
use crate::paths::{Paths, create_private, socket_address};

/// The longest a start may take, in seconds: it is over when the daemon listens, which does not wait for recovery.
const START_LIMIT_SECONDS: i64 = 30;

/// What the daemon writes to its stdout once it listens.
pub const READY: &str = "ready";

/// Marks a daemon, and the supervisors it starts, in their own environment: a supervisor that ends what its job left
/// behind passes them over, should a job have been what started the daemon.
pub const SERVICE_MARK: &str = "PYEXEC_SERVICE";

/// Where a daemon listens, and clients look for it.
pub const SOCKET_VARIABLE: &str = "PYEXEC_SOCKET";

/// In the environment of every job, and of all it starts.
pub const JOB_ID_VARIABLE: &str = "PYEXEC_JOB_ID";

/// In the same places: the file to which a job reports how far it has got.
pub const PROGRESS_VARIABLE: &str = "PYEXEC_PROGRESS";
/// Likewise: the directory whose files are kept, and can be had, as the job's artifacts.
pub const ARTIFACTS_VARIABLE: &str = "PYEXEC_ARTIFACTS";

/// Where programs put what is temporary; a job with a filesystem fence has a directory of its own there.
pub const TEMPORARY_VARIABLE: &str = "TMPDIR";
/// In the environment of a job with a fence: what it is kept from. A daemon that is started in there would start every
/// later job in there too, so it does not start.
pub const FENCE_VARIABLE: &str = "PYEXEC_FENCE";

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("could not find `pyexecd`")]
    NoProgram,
    #[error("could not prepare {}: {source}", path.display())]
    Prepare { path: PathBuf, source: std::io::Error },
    #[error("could not run {}: {source}", program.display())]
    Spawn { program: PathBuf, source: std::io::Error },
    #[error("the daemon did not start: {said}")]
    Failed { said: String },
    #[error("the daemon was killed by signal {signal} while it started")]
    Killed { signal: i32 },
    #[error("the daemon did not listen within {START_LIMIT_SECONDS} s")]
    Late,
}

impl StartError {
    pub(crate) fn hint(&self) -> String {
        match self {
            StartError::NoProgram => {
                "it is expected beside this program, or on PATH; PYEXEC_DAEMON may name it instead; \
                `pyexec doctor` looks at the whole installation"
                    .into()
            }
            StartError::Prepare { .. } => {
                "check that the directory can be written to; `pyexec doctor` looks at all of them".into()
            }
            StartError::Spawn { .. } => {
                "check that the file is executable; `pyexec doctor` looks at the whole installation".into()
            }
            StartError::Failed { .. } | StartError::Killed { .. } | StartError::Late => {
                "`pyexec doctor` looks for what may be wrong, and `pyexec daemon logs` has more".into()
            }
        }
    }
}

/// Returns once a daemon listens, whoever started it.
pub(crate) fn ensure_running(paths: &Paths) -> Result<(), StartError> {
    let prepare = |path: &Path| {
        let path = path.to_owned();
        move |source: std::io::Error| StartError::Prepare { path, source }
    };
    create_private(&paths.state).map_err(prepare(&paths.state))?;
    let lock_path = paths.start_lock();
    let lock = File::options().create(true).append(true).mode(0o600).open(&lock_path).map_err(prepare(&lock_path))?;
    let _lock =
        take_turn(lock).map_err(|error| error.map_or(StartError::Late, |source| prepare(&lock_path)(source)))?;
    if listens(&paths.socket) {
        return Ok(());
    }
    let program = find_program().ok_or(StartError::NoProgram)?;
    if systemd::start(&program) && listens(&paths.socket) {
        return Ok(());
    }
    match start_directly(&program, paths) {
        // Ours found another one there, which somebody started at the same moment without asking for our lock.
        Err(StartError::Failed { .. } | StartError::Killed { .. }) if listens(&paths.socket) => Ok(()),
        started => started,
    }
}

/// Waits for the starter's lock, and returns it held. `None` as the error: it took too long, whoever has it may be
/// suspended.
fn take_turn(lock: File) -> Result<File, Option<std::io::Error>> {
    let (taken, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let locked = rustix::fs::flock(&lock, FlockOperation::LockExclusive);
        let _ = taken.send(locked.map(|()| lock));
    });
    let limit = std::time::Duration::from_secs(START_LIMIT_SECONDS.unsigned_abs());
    match told.recv_timeout(limit) {
        Ok(Ok(lock)) => Ok(lock),
        Ok(Err(error)) => Err(Some(error.into())),
        Err(_) => Err(None),
    }
}

/// What a daemon writes into its lock file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub pid: u32,
    /// Where it listens.
    pub socket: OsText,
}

/// The daemon of this state directory, if one holds its lock, wherever it listens.
///
/// The socket may be elsewhere than one would look: the daemon was started with another runtime directory. Or it may
/// have been swept away: then the daemon is asked, by signal, to make it again.
pub(crate) fn find_running(paths: &Paths) -> Option<PathBuf> {
    const PATIENCE: u32 = 200;
    let file = File::open(paths.daemon_lock()).ok()?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let running: Running = serde_json::from_reader(file).ok()?;
    let socket = running.socket.as_path();
    if listens(socket) {
        return Some(socket.to_owned());
    }
    // The lock says that it lives; its name, that the number still means it.
    let name = std::fs::read_to_string(format!("/proc/{}/comm", running.pid)).ok()?;
    if !name.contains("pyexecd") {
        return None;
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(running.pid).ok()?)?;
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).ok()?;
    for _ in 0..PATIENCE {
        if listens(socket) {
            return Some(socket.to_owned());
        }
        // It has nothing else by which to say that it has done so.
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    None
}

fn listens(socket: &Path) -> bool {
    match socket_address(socket).and_then(|(address, _directory)| UnixStream::connect(address)) {
        Ok(_) => true,
        Err(error) => !nobody_listens(&error),
    }
}

/// The `pyexecd` that would be started: what `PYEXEC_DAEMON` names, be it there or not, or the first that is found.
pub fn find_program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("PYEXEC_DAEMON").filter(|name| !name.is_empty()) {
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
fn environment() -> impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)> {
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
    let mut daemon = Command::new(program)
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
    let mut stdout = daemon.stdout.take().expect("its stdout is a pipe");
    let mut said = String::new();
    // To the end of it: what is no greeting is an explanation, perhaps of several lines.
    while said.trim_end_matches('\n') != READY {
        let mut watched = [PollFd::new(&stdout, PollFlags::IN)];
        let limit = Timespec { tv_sec: START_LIMIT_SECONDS, tv_nsec: 0 };
        let mut buffer = [0; 1024];
        match poll(&mut watched, Some(&limit)) {
            Ok(0) => return Err(StartError::Late),
            Ok(_) => match stdout.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(read) => said.push_str(&String::from_utf8_lossy(&buffer[..read])),
            },
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    if said.trim_end() == READY {
        return Ok(());
    }
    // It has left, or is about to: take its exit status, so that no zombie stays with a client that lives on.
    let status = daemon.wait();
    if let Some(signal) = status.as_ref().ok().and_then(ExitStatusExt::signal) {
        return Err(StartError::Killed { signal });
    }
    let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
    let said = said.trim().to_owned();
    Err(StartError::Failed { said: if said.is_empty() { status } else { said } })
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
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }
}
