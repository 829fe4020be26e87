//! The supervisor that waits for the next job: it has been loaded and set up, and put into its scope, by the time a job
//! comes.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use pyexec_client::start;
use pyexec_proto::variables::SERVICE_MARK;
use tokio::net::UnixStream;
use tokio::process::Child;

use crate::blocking::spawn;
use crate::engine::scopes::{Pending, Scopes};
use crate::fault::FAULT_VARIABLE;
use pyexec_supervisor::VERB;

/// Keeps one supervisor that waits to be told what to run.
#[derive(Clone, Debug)]
pub(super) struct Spare {
    waiting: Arc<Mutex<Option<Supervisor>>>,
    scopes: Arc<Scopes>,
    state: Arc<Path>,
}

/// A supervisor that has not been told what to run, and our end of its stdin.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) child: Child,
    pub(super) stream: UnixStream,
    pub(super) scope: Pending,
}

impl Spare {
    pub(super) fn new(scopes: Arc<Scopes>, state: &Path) -> Self {
        Self { waiting: Arc::default(), scopes, state: Arc::from(state) }
    }

    /// The one that waits, or a new one.
    pub(super) fn take(&self) -> io::Result<Supervisor> {
        let spare = self.waiting.lock().expect("nothing panics while it is held").take();
        // One that somebody has killed is of no use.
        let waits = spare.and_then(|mut spare| matches!(spare.child.try_wait(), Ok(None)).then_some(spare));
        let Some(mut spare) = waits else { return self.spawn() };
        // It may have waited for days, and a manager has come since.
        if spare.scope.is_without() {
            spare.scope = self.scopes.ask(spare.child.id());
        }
        Ok(spare)
    }

    /// Makes the next one, unless one waits.
    pub(super) fn provide(&self) {
        let this = self.clone();
        drop(spawn(move || {
            if this.waiting.lock().expect("nothing panics while it is held").is_some() {
                return;
            }
            match this.spawn() {
                Ok(supervisor) => *this.waiting.lock().expect("nothing panics while it is held") = Some(supervisor),
                // The job that needs one will find out, and say so.
                Err(error) => tracing::warn!(%error, "no supervisor could be started to wait for the next job"),
            }
        }));
    }

    /// `/proc/self/exe` is this very program, also when the file has been replaced by an upgrade.
    fn spawn(&self) -> io::Result<Supervisor> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = tokio::process::Command::new("/proc/self/exe")
            .arg0("pyexecd")
            .arg(VERB)
            .env_clear()
            // For the daemon that it may have to start: the same directories and settings as this one's.
            .envs(start::environment().filter(|(name, _)| name != FAULT_VARIABLE))
            .env(SERVICE_MARK, "supervisor")
            // For people: whose supervisor this is.
            .env("PYEXEC_STATE", &*self.state)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .kill_on_drop(false)
            .spawn()?;
        let scope = self.scopes.ask(child.id());
        Ok(Supervisor { child, stream: UnixStream::from_std(ours)?, scope })
    }
}
