//! Finding a supervisor, or what has become of its job, while there is no connection to it.
//!
//! A supervisor listens on a control socket, which it makes again when it is asked to by signal. Where it cannot (its
//! file system has no room), the daemon waits for its end, and passes on what signals can say: TERM asks the job to end,
//! as a stop over the connection would.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use pyexec_proto::error::{Held, NoInput};
use pyexec_run_directory::socket::socket_address;
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};

use super::state::{Link, until};
use crate::blocking::spawn;
use crate::engine::local::evidence::{Found, end_survivors, look_at};
use crate::engine::local::held_up::{let_go_on, signal};
use crate::engine::{RunEvent, RunRequest};
use pyexec_run_directory::processes::Process;
use pyexec_run_directory::record::{Identity, PANIC, WhatEnded};
use pyexec_supervisor::NOT_MINE;

/// How long a supervisor whose connection has ended may take to leave, until it is looked for.
const LEAVING: Duration = Duration::from_secs(1);
/// How often in a row a supervisor is asked for its socket, with pauses from 10 ms on that double.
const ATTEMPTS: u32 = 10;
/// How long to wait until it is asked once more; that doubles as well.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What has been found.
pub(super) enum Seen {
    Reachable(UnixStream),
    Over(RunEvent),
}

impl Link {
    /// Finds out what has become of the job, from what lies in its directory.
    pub(super) async fn look(&mut self, child: &mut Option<Child>) -> Seen {
        // A wait for input was lost with the connection: its sender asks again, with its offset.
        self.refuse_all();
        let mut status = exit_status(child, LEAVING).await;
        let mut pause = PAUSE;
        let mut attempts = ATTEMPTS;
        loop {
            let directory = self.directory.clone();
            let found = spawn(move || look_at(&directory)).await;
            match found.expect("looking at files does not panic") {
                Ok(Found::Ended(what)) => return Seen::Over(RunEvent::Ended(what)),
                Ok(Found::Alive(identity)) => {
                    self.supervisor = identity.as_ref().and_then(process_of);
                    if let Some(supervisor) = &self.supervisor {
                        let_go_on(supervisor);
                    }
                    if let Some(stream) = self.reach(identity.as_ref(), attempts).await {
                        return Seen::Reachable(stream);
                    }
                    // It has ended in between, or answers to nothing: look again, with the record there.
                    if pause > PAUSE {
                        self.tell_problem(Some(self.unreachable()));
                    }
                    self.wait_out_of_reach(pause).await;
                    attempts = 1;
                    pause = if pause == PAUSE { Duration::from_secs(1) } else { (pause * 2).min(LONGEST_PAUSE) };
                }
                // The lock says nothing when it is let go of, so this has to be looked at again.
                Ok(Found::Undecided) => sleep(Duration::from_millis(5)).await,
                // It takes its leave, or has been stopped before it took the job on.
                Ok(Found::Gone | Found::NeverStarted) if child.is_some() && status.is_none() => {
                    if let Some(supervisor) = &self.supervisor {
                        let_go_on(supervisor);
                    }
                    status = exit_status(child, LEAVING).await;
                }
                Ok(Found::Gone) => {
                    let id = self.events.id;
                    let _ = spawn(move || end_survivors(id)).await;
                    return Seen::Over(RunEvent::Lost);
                }
                Ok(Found::NeverStarted) => {
                    let said = std::fs::read_to_string(self.directory.join(PANIC)).unwrap_or_default();
                    let why = match (said.trim(), status.and_then(|status| status.code())) {
                        ("", Some(code)) if code == i32::from(NOT_MINE) => {
                            "its environment had been taken away".to_owned()
                        }
                        ("", Some(code)) => format!("its supervisor exited with {code}"),
                        ("", None) => "its supervisor was killed".to_owned(),
                        (said, _) => said.to_owned(),
                    };
                    return Seen::Over(RunEvent::Ended(WhatEnded::SpawnFailed(why)));
                }
                Err(error) => {
                    tracing::error!(job = %self.events.id, %error, "the run directory can not be read");
                    return Seen::Over(RunEvent::Lost);
                }
            }
        }
    }

    /// Connects to a supervisor. One whose socket has been swept away is asked, by signal, to make it again.
    async fn reach(&self, identity: Option<&Identity>, attempts: u32) -> Option<UnixStream> {
        let socket = identity.map_or(self.control_socket.as_path(), |identity| identity.control_socket.as_path());
        for attempt in 0..attempts {
            match connect(socket).await {
                Ok(stream) => return Some(stream),
                Err(error) if attempt == 0 => {
                    tracing::debug!(socket = %socket.display(), %error, "a supervisor's socket is not there");
                }
                Err(_) => {}
            }
            if identity.is_some() {
                self.supervisor?.signal(Signal::USR1).ok()?;
            }
            // The supervisor has nothing else by which to say that it is there.
            sleep(Duration::from_millis(10 << attempt.min(6))).await;
        }
        None
    }

    /// Waits for the end of the supervisor, for so long at most, and does meanwhile what can be done without a connection.
    async fn wait_out_of_reach(&mut self, pause: Duration) {
        let again_at = Instant::now() + pause;
        let supervisor = self.supervisor;
        let has_ended = end_of(supervisor);
        tokio::pin!(has_ended);
        loop {
            let (look_at, kill_at, is_open) = (self.patience.next_look(), self.kills_at, self.requests_open);
            tokio::select! {
                () = &mut has_ended => return,
                () = until(Some(again_at)) => return,
                () = until(look_at) => self.attend().await,
                () = until(kill_at) => self.kill_job().await,
                request = self.requests.recv(), if is_open => match request {
                    Some(request) => self.tell_by_signal(request),
                    None => self.requests_open = false,
                },
            }
        }
    }

    fn tell_by_signal(&mut self, request: RunRequest) {
        match request {
            RunRequest::Stop { grace, .. } => {
                // The supervisor keeps the grace that the job was started with; the one that is asked for may be shorter.
                let kills_at = self.patience.told_to_stop(grace, Instant::now());
                if let Some(supervisor) = &self.supervisor {
                    let_go_on(supervisor);
                    signal(supervisor, Signal::TERM);
                    self.kills_at = Some(self.kills_at.map_or(kills_at, |before| before.min(kills_at)));
                    self.tell_problem(Some(self.unreachable()));
                }
            }
            RunRequest::Input { answer, .. } => {
                let pid = self.supervisor.map_or(0, |supervisor| supervisor.pid);
                let _ = answer.send(Err(NoInput::NoAnswer { pid, held: Held::OutOfReach }));
            }
            RunRequest::WatchOutput => self.want_output(),
            RunRequest::Hold { reader, from } => self.note_reader(reader, from),
        }
    }

    fn unreachable(&self) -> String {
        let socket = self.control_socket.display();
        match &self.supervisor {
            Some(supervisor) => format!(
                "its supervisor (process {}) cannot be reached at {socket}; it goes on, records how the job ends, and is told \
                 of a stop by signal",
                supervisor.pid
            ),
            None => format!("its supervisor cannot be reached at {socket}, and did not leave its pid"),
        }
    }
}

async fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    let (address, _directory) = socket_address(socket)?;
    UnixStream::connect(address).await
}

/// The supervisor that has left its name, if it is still there.
fn process_of(identity: &Identity) -> Option<Process> {
    let process = Process::find(identity.pid).filter(|process| process.started == identity.started)?;
    (pyexec_run_directory::boot::id() == identity.boot_id).then_some(process)
}

/// Returns when the process has ended; never for one that is not known.
async fn end_of(process: Option<Process>) {
    let Some(process) = process else { return std::future::pending().await };
    let handle = match process.handle() {
        Ok(Some(handle)) => handle,
        Ok(None) => return,
        Err(_) => return std::future::pending().await,
    };
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe; an `OwnedFd` keeps its descriptor open for as long as it is watched"
    )]
    let watched = AsyncFd::with_interest(handle, Interest::READABLE);
    match watched {
        Ok(watched) => drop(watched.readable().await),
        Err(_) => std::future::pending().await,
    }
}

/// `None` for one that does not end within `patience`, and where there is none.
async fn exit_status(child: &mut Option<Child>, patience: Duration) -> Option<ExitStatus> {
    timeout(patience, child.as_mut()?.wait()).await.ok()?.ok()
}
