//! Replaces an older daemon by one of this client's version. Running jobs continue.
//!
//! Only the daemon of this state directory is replaced, and only if the installed `pyexecd` speaks this client's protocol:
//! otherwise the next daemon would be as old as this one. A newer daemon is never replaced.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use pyexec_proto::frozen::{self, Answer, Request};
use pyexec_proto::greeting::Greeting;
use pyexec_proto::paths::Paths;
use pyexec_proto::preamble::Preamble;
use pyexec_run_directory::lock_file::{is_held, lock_holder};
use pyexec_run_directory::socket::socket_address;
use rustix::process::Signal;
use tokio::net::UnixStream;

use crate::start::process::DaemonProcess;
use crate::start::{self, StartError};
use crate::threads::blocking;

/// How long an older daemon may take to leave. It waits two seconds for calls in progress.
const LEAVE_LIMIT: Duration = Duration::from_secs(15);
/// The time limit for `pyexecd --protocols`.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// The interval at which the daemon's lock is polled.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Returns `true` when the caller should connect again: the older daemon at `socket` has exited, because of this client or
/// another one. Returns `false` when nothing was done: it is not the daemon of this state directory, or no newer one can be
/// started.
///
/// # Errors
/// The start lock cannot be taken.
pub(super) async fn replace(paths: &Paths, socket: &Path, daemon: &Preamble) -> Result<bool, StartError> {
    if !next_one_is_ours().await {
        return Ok(false);
    }
    // With the start lock only one client makes the daemon hand over, and no other starts a daemon meanwhile.
    let paths_of_lock = paths.clone();
    let _start_lock = blocking(move || start::start_lock(&paths_of_lock)).await?;
    let deadline = Instant::now() + LEAVE_LIMIT;
    let holder = loop {
        match holder(paths).await {
            Holder::Nobody => return Ok(!is_foreign(socket).await),
            // The daemon starts or leaves.
            Holder::Unknown if Instant::now() < deadline => tokio::time::sleep(LOOK_AGAIN).await,
            Holder::Unknown => return Ok(false),
            Holder::Daemon(pid) => break pid,
        }
    };
    if !is_foreign(socket).await {
        return Ok(true);
    }
    let answer = if daemon.highest >= frozen::SINCE { ask(socket).await.ok() } else { None };
    let leaves = match answer {
        // A refusal is one: the daemon is not ended in another way.
        Some(answer) => answer.hands_over,
        // Daemons from before the frozen requests leave in the same way when they get TERM; so does one that did not answer.
        None => blocking(move || terminate(holder)).await,
    };
    if !leaves {
        return Ok(false);
    }
    loop {
        match self::holder(paths).await {
            Holder::Daemon(pid) if pid != holder => return Ok(true),
            Holder::Nobody => return Ok(true),
            Holder::Daemon(_) | Holder::Unknown if Instant::now() >= deadline => return Ok(false),
            Holder::Daemon(_) | Holder::Unknown => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

fn terminate(pid: u32) -> bool {
    DaemonProcess::find(pid).is_some_and(|process| process.signal(Signal::TERM).is_ok())
}

/// Whether a daemon listens that has no protocol in common with this client.
pub(super) async fn is_foreign(socket: &Path) -> bool {
    greet(socket).await.is_ok_and(|(_, has_common_protocol)| !has_common_protocol)
}

async fn ask(socket: &Path) -> std::io::Result<Answer> {
    request(socket, &Request::HandOver { highest: Preamble::ours().highest }).await
}

async fn request(socket: &Path, request: &Request) -> std::io::Result<Answer> {
    let (mut stream, has_common_protocol) = greet(socket).await?;
    if has_common_protocol {
        return Err(std::io::Error::other("the daemon speaks the protocol of this client"));
    }
    frozen::skip_greeting(&mut stream).await?;
    frozen::write(&mut stream, request).await?;
    frozen::read(&mut stream).await?.ok_or_else(|| std::io::Error::other("the daemon's answer has an unknown form"))
}

/// A connection behind the greeting, and whether both sides have a protocol in common.
async fn greet(socket: &Path) -> std::io::Result<(UnixStream, bool)> {
    let (address, _directory) = socket_address(socket)?;
    let mut stream = UnixStream::connect(address).await?;
    let (_, greeting) = Greeting::default().exchange(&mut stream).await.map_err(std::io::Error::other)?;
    Ok((stream, greeting.is_some()))
}

/// Who holds the lock of this state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Nobody,
    /// A daemon that starts or leaves, and has no note in the lock file.
    Unknown,
    /// A daemon that serves, by its pid.
    Daemon(u32),
}

async fn holder(paths: &Paths) -> Holder {
    let paths = paths.clone();
    blocking(move || match lock_holder(&paths) {
        Some(running) => Holder::Daemon(running.pid),
        None if is_held(&paths) => Holder::Unknown,
        None => Holder::Nobody,
    })
    .await
}

/// Whether the daemon that would be started now speaks the protocol of this client. Older programs do not know the question.
async fn next_one_is_ours() -> bool {
    let Some(program) = start::find_program() else { return false };
    let mut command = tokio::process::Command::new(program);
    command.arg("--protocols").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(ASK_LIMIT, command.output()).await {
        Ok(Ok(output)) => output.stdout,
        Ok(Err(_)) | Err(_) => return false,
    };
    let next = std::str::from_utf8(&output).ok().and_then(|output| Preamble::with_range(output.trim(), ""));
    next.is_some_and(|next| next.agree(&Preamble::ours()).is_some())
}
