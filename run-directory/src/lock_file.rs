//! The lock files of daemons: who holds them, and what their holders say of themselves.

use std::fs::File;
use std::path::Path;

use pyexec_proto::greeting::Directories;
use pyexec_proto::os_text::OsText;
use pyexec_proto::paths::Paths;
use pyexec_proto::place::Place;
use pyexec_proto::world::World;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::private::open_lock;

/// What a daemon writes into its lock file. Fields are only added: a program of another version reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub pid: u32,
    /// Where it listens.
    pub socket: OsText,
    /// What it is bound to.
    #[serde(default)]
    pub directories: Directories,
    /// Of daemons before this was said, nothing.
    #[serde(default)]
    pub place: Option<Place>,
    /// Its name, where it has one.
    #[serde(default)]
    pub instance: Option<String>,
    /// Where its jobs run. Of daemons before this was said, nothing.
    #[serde(default)]
    pub world: Option<World>,
}

/// Whether whoever answers at the socket is the daemon of another state directory: of this one none runs, or it listens
/// elsewhere.
pub fn is_of_another_state(paths: &Paths) -> bool {
    let lock = paths.daemon_lock();
    let Some(file) = look_at_lock(&lock) else { return !lock.exists() };
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return true;
    }
    // Without a note it is starting or leaving.
    serde_json::from_reader::<_, Running>(file).is_ok_and(|running| running.socket.as_path() != paths.socket)
}

/// Who holds the daemon's lock, as it says itself.
pub fn lock_holder(paths: &Paths) -> Option<Running> {
    let file = look_at_lock(&paths.daemon_lock())?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    serde_json::from_reader(file).ok()
}

/// Whether a daemon holds the lock of this state directory. One that starts or leaves has no note in it.
pub fn is_held(paths: &Paths) -> bool {
    let file = look_at_lock(&paths.daemon_lock());
    file.is_some_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
}

/// The last daemon of this state directory, if it ended without having left: one that leaves takes this note away.
pub fn last_to_be_ended(paths: &Paths) -> Option<Running> {
    let file = look_at_lock(&paths.daemon_lock())?;
    flock(&file, FlockOperation::NonBlockingLockShared).ok()?;
    serde_json::from_reader(file).ok()
}

/// Takes the note of a daemon that was ended out of its lock file: the daemon counts as one that has left.
pub fn forget_ended(paths: &Paths) {
    let Some(file) = look_at_lock(&paths.daemon_lock()) else { return };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        // What stays is a hint, which costs a start at the most.
        let _ = file.set_len(0);
    }
}

/// Like [`open_lock`], without making one.
fn look_at_lock(path: &Path) -> Option<File> {
    path.exists().then(|| open_lock(path).ok()).flatten()
}

/// How the name of the lock of a daemon that uses the cache ends.
pub const CACHE_USER: &str = ".daemon";

/// A daemon that uses the environment cache, as it says in its lock there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheUser {
    pub pid: u32,
    /// Its state directory.
    pub state: OsText,
}

/// The daemons that use the cache, wherever their state is. Of each the lock is held: what is left of a dead one does not
/// count.
pub fn cache_users(paths: &Paths) -> Vec<CacheUser> {
    let Ok(entries) = std::fs::read_dir(Paths::cache_locks_in(&paths.cache)) else { return Vec::new() };
    let is_held = |file: &File| flock(file, FlockOperation::NonBlockingLockShared).is_err();
    let user = |entry: std::fs::DirEntry| {
        entry.file_name().to_str()?.strip_suffix(CACHE_USER)?;
        let file = open_lock(&entry.path()).ok()?;
        if is_held(&file) { serde_json::from_reader(file).ok() } else { None }
    };
    entries.flatten().filter_map(user).collect()
}
