//! What every call has at hand, and what the client of a connection may ask for.

use std::sync::Arc;
use std::time::Instant;

use pyexec_proto::Error;
use pyexec_proto::greeting::Directories;
use pyexec_proto::paths::Paths;
use pyexec_proto::preamble::Preamble;
use pyexec_proto::world::Submitter;
use tokio::sync::watch;

use super::output::Reader;
use crate::engine::scopes::Scopes;
use crate::jobs::Jobs;
use crate::scripts::Scripts;
use pyexec_supervisor::peer::{Own, Peer};

/// What every call has at hand.
#[derive(Clone, Debug)]
pub struct Service {
    pub jobs: Jobs,
    pub scripts: Scripts,
    pub paths: Arc<Paths>,
    /// What the daemon is bound to, as it was when it started.
    pub directories: Arc<Directories>,
    pub started: Instant,
    pub scopes: Arc<Scopes>,
    /// Set to make the daemon leave.
    pub shutdown: Arc<watch::Sender<bool>>,
    /// What this connection reads all of.
    pub reader: Arc<Reader>,
    /// Its client. Inside a fence it may have nothing done. It may look, as it may at any file.
    pub peer: Arc<Peer>,
    /// The daemon, as it was when it started.
    pub own: Arc<Own>,
}

impl Service {
    /// For a client that uses these directories: scripts are its own.
    pub(crate) fn for_client(self, client: &Directories) -> Self {
        let (ours, theirs) = (&self.directories.data, &client.data);
        // Looked at when a call wants them, off this thread: a mount of a client's may hang.
        let is_ours = theirs.path == ours.path && (ours.identity.is_none() || theirs.is(ours));
        if is_ours || theirs.path.as_bytes().is_empty() || theirs.is(ours) {
            return self;
        }
        Self { scripts: self.scripts.of_client(theirs.clone()), ..self }
    }

    /// For calls that end something. Whoever the kernel does not say is in no fence of ours, which no pid namespace comes
    /// with: a daemon in a container is stopped from outside of it.
    pub(super) fn may_end(&self) -> Result<&Self, Error> {
        if self.peer.is_unseen() { Ok(self) } else { self.unconfined() }
    }

    /// For calls that run something, in the daemon's world.
    pub(super) fn may_run(&self) -> Result<(&Self, Submitter), Error> {
        // Whoever is in a pid namespace of its own is told that, rather than that it might be in a fence.
        if !self.peer.is_unseen() {
            self.unconfined()?;
        }
        Ok((self, self.peer.submitter()?))
    }

    /// Why this daemon does not leave for a client that speaks `highest`: only for a newer one that may end it.
    pub(crate) fn refuse_to_hand_over(&self, highest: u16, ours: &Preamble) -> Option<String> {
        if let Err(error) = self.may_end() {
            return Some(error.to_string());
        }
        let is_newer = highest > ours.highest;
        (!is_newer).then(|| format!("protocol {highest} is not newer than {}, which this daemon speaks", ours.highest))
    }

    /// For calls that do something.
    pub(super) fn unconfined(&self) -> Result<&Self, Error> {
        self.peer.confined.map_or(Ok(self), |why| Err(Error::Fenced { why: why.to_owned() }))
    }
}
