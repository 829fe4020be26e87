//! Environments by the address of their content: built once, whole or not there, kept while they are used.
//!
//! ```text
//! environments/<address>/            an environment; `pyexec.json` in it says what it holds
//! environments/.building-…           being built; renamed into place when it is whole
//! environments/.removed-…            being removed
//! resolutions/<key>.json             what a request resolved to, and when
//! locks/                             see [`super::locks`]
//! ```
//!
//! Everything here may be deleted by anybody at any moment: it is made again. Other daemons may use it at the same time.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use pyexec_proto::paths::Paths;
use pyexec_proto::{JobId, Timestamp};
use pyexec_run_directory::lock_file::{CACHE_USER, CacheUser};
use pyexec_run_directory::private::create_private;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::EnvironmentError;
use super::contents::{MARKER, installed, names, shape, size};
use super::locks::{Lock, Locks, Mode};
use crate::blocking::{blocking, spawn};
use crate::client_files::ClientFiles;
use crate::fault::{Point, reached};
use pyexec_run_directory::removal::{self, RemovalError};

const BUILDING: &str = ".building-";
const REMOVED: &str = ".removed-";
const FORMAT: u32 = 2;

/// What an environment holds: written into it before it gets its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    version: u32,
    /// What it was built for. Another one's, under this name, is damage.
    #[serde(default)]
    address: String,
    pub(super) python_version: String,
    /// `name==version`, sorted: what is installed.
    pub(super) packages: Vec<String>,
    /// Counted when somebody first asks: a job that waits for the environment is not kept waiting for it.
    pub(super) bytes: Option<u64>,
    /// A hash of the names at its top, where damage shows.
    shape: String,
}

/// An environment that is whole.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) id: String,
    pub(super) directory: PathBuf,
    pub(super) marker: Marker,
}

impl Ready {
    /// What its files take up.
    pub(super) fn bytes(&self) -> u64 {
        self.marker.bytes.unwrap_or_else(|| size(&self.directory).unwrap_or(0))
    }

    pub(super) fn python(&self) -> PathBuf {
        self.directory.join("bin/python")
    }
}

/// What a request resolved to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resolution {
    pub(super) lock: String,
    pub(super) resolved_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
    /// The state directory of this daemon.
    state: PathBuf,
    files: ClientFiles,
    builds: Mutex<HashMap<String, Weak<Build>>>,
    leases: Arc<Mutex<Leases>>,
    locks: Locks,
    /// By which others see that this daemon uses the cache.
    presence: Mutex<Option<Lock>>,
}

type Leases = HashMap<String, Leased>;

/// An environment that jobs of this daemon use.
#[derive(Debug)]
struct Leased {
    count: usize,
    /// By which other daemons see it. `None` where there can be none, in a cache that cannot be written: nobody removes
    /// anything there.
    lock: Option<Lock>,
}

type Outcome = Result<Ready, Arc<EnvironmentError>>;

/// A build under way. It ends when nobody waits for it any more.
#[derive(Debug)]
struct Build {
    outcome: watch::Receiver<Option<Outcome>>,
    task: AbortHandle,
}

impl Drop for Build {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps an environment from being evicted for as long as it lives.
#[derive(Debug)]
pub struct Lease {
    id: String,
    leases: Arc<Mutex<Leases>>,
    lock: PathBuf,
}

impl Lease {
    /// The lock file, which whoever outlives this daemon holds as well.
    pub fn lock(&self) -> &Path {
        &self.lock
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.leases.lock().expect("nothing panics while it is held");
        if let Some(leased) = leases.get_mut(&self.id) {
            leased.count -= 1;
            if leased.count == 0 {
                leases.remove(&self.id);
            }
        }
    }
}

impl Cache {
    pub(super) fn new(directory: PathBuf, state: PathBuf, files: ClientFiles) -> Self {
        let locks = Locks::new(Paths::cache_locks_in(&directory));
        Self {
            directory,
            state,
            files,
            builds: Mutex::default(),
            leases: Arc::default(),
            locks,
            presence: Mutex::default(),
        }
    }

    /// A lease, once nobody is removing the environment.
    pub(super) async fn lease(&self, id: &str) -> Lease {
        loop {
            let lease = self.lease_at_once(id);
            let name = in_use(id);
            if self.is_locked(id) || self.locks.try_take(&name, Mode::Shared).is_err() {
                return lease;
            }
            drop(lease);
            // It takes as long as renaming a directory does, unless another daemon is stopped meanwhile.
            let _ = self.locks.wait(&name, Mode::Shared).await;
        }
    }

    fn is_locked(&self, id: &str) -> bool {
        let leases = self.leases.lock().expect("nothing panics while it is held");
        leases.get(id).is_some_and(|leased| leased.lock.is_some())
    }

    /// A lease on what a job uses already, whose supervisor keeps it from being removed.
    pub(super) fn lease_at_once(&self, id: &str) -> Lease {
        let name = in_use(id);
        let mut leases = self.leases.lock().expect("nothing panics while it is held");
        let leased = leases.entry(id.to_owned()).or_insert(Leased { count: 0, lock: None });
        if leased.lock.is_none() {
            leased.lock = self.locks.try_take(&name, Mode::Shared).unwrap_or_else(|error| {
                tracing::debug!(%error, "the environment cache has no locks");
                None
            });
        }
        leased.count += 1;
        Lease { id: id.to_owned(), leases: self.leases.clone(), lock: self.locks.path(&name) }
    }

    pub(super) fn is_leased(&self, id: &str) -> bool {
        self.leases.lock().expect("nothing panics while it is held").contains_key(id)
    }

    fn environments(&self) -> PathBuf {
        self.directory.join("environments")
    }

    fn place(&self, id: &str) -> PathBuf {
        self.environments().join(id)
    }

    /// The environment, if it is there and whole, and its interpreter can be run. Notes that it has been used.
    pub(super) async fn ready(&self, id: &str) -> Option<Ready> {
        let ready = self.look(id)?;
        // The interpreter is where the client has it.
        self.files.open().first_executable(vec![ready.python()]).await.ok()??;
        let now = std::time::SystemTime::now();
        // When it was last used is when its marker was last touched.
        let _ = std::fs::File::open(ready.directory.join(MARKER)).and_then(|marker| marker.set_modified(now));
        Some(ready)
    }

    /// What lies here of it, if that is whole.
    fn look(&self, id: &str) -> Option<Ready> {
        let directory = self.place(id);
        let marker: Marker = serde_json::from_slice(&std::fs::read(directory.join(MARKER)).ok()?).ok()?;
        let ready = Ready { id: id.to_owned(), directory, marker };
        // A deletion may have been interrupted.
        let has_python = std::fs::symlink_metadata(ready.python()).is_ok();
        let fits = ready.marker.version == FORMAT && ready.marker.address == id;
        (fits && has_python && shape(&ready.directory).ok()? == ready.marker.shape).then_some(ready)
    }

    /// The environment, built if need be: once, however many want it at the same time. `family` names what it is built
    /// for, in a few letters: builds for the same interpreter are of one family.
    pub(super) async fn obtain<F, B>(self: &Arc<Self>, id: &str, family: &str, build: F) -> Outcome
    where
        F: FnOnce(Slot) -> B + Send + 'static,
        B: Future<Output = Result<String, EnvironmentError>> + Send,
    {
        if let Some(ready) = self.ready(id).await {
            return Ok(ready);
        }
        let running = {
            let mut builds = self.builds.lock().expect("nothing panics while it is held");
            match builds.get(id).and_then(Weak::upgrade) {
                Some(running) => running,
                None => {
                    let started = self.start(id, family, build);
                    builds.retain(|_, build| build.strong_count() > 0);
                    builds.insert(id.to_owned(), Arc::downgrade(&started));
                    started
                }
            }
        };
        let mut outcome = running.outcome.clone();
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(Arc::new(EnvironmentError::BuildAborted))),
            Err(_) => Err(Arc::new(EnvironmentError::BuildAborted)),
        }
    }

    fn start<F, B>(self: &Arc<Self>, id: &str, family: &str, build: F) -> Arc<Build>
    where
        F: FnOnce(Slot) -> B + Send + 'static,
        B: Future<Output = Result<String, EnvironmentError>> + Send,
    {
        let (told, outcome) = watch::channel(None);
        let (this, id, family) = (self.clone(), id.to_owned(), family.to_owned());
        let task = tokio::spawn(async move {
            let built = this.build(&id, &family, build).await.map_err(Arc::new);
            told.send_replace(Some(built));
        });
        Arc::new(Build { outcome, task: task.abort_handle() })
    }

    async fn build<F, B>(&self, id: &str, family: &str, build: F) -> Result<Ready, EnvironmentError>
    where
        F: FnOnce(Slot) -> B,
        B: Future<Output = Result<String, EnvironmentError>>,
    {
        let _build = self.wait_for_others(id).await?;
        // Another build may have ended since this one was asked for; from here on there is no other.
        if let Some(ready) = self.ready(id).await {
            return Ok(ready);
        }
        let environments = self.environments();
        let cache = |source| EnvironmentError::Cache { path: self.directory.clone(), source };
        create_private(&environments).map_err(cache)?;
        // It may be there, and damaged.
        remove(&environments, &self.place(id)).map_err(cache)?;
        let temporary = Unfinished::begin(&environments, family, &self.locks).map_err(cache)?;
        // A build that was cut short has left it.
        remove(&environments, &temporary.slot.directory).map_err(cache)?;
        let python_version = build(temporary.slot.clone()).await?;
        let finish = {
            let (from, to) = (temporary.slot.directory.clone(), self.place(id));
            let address = id.to_owned();
            move || {
                let marker = Marker {
                    version: FORMAT,
                    address,
                    python_version,
                    packages: installed(&from)?,
                    bytes: None,
                    shape: shape(&from)?,
                };
                std::fs::write(from.join(MARKER), serde_json::to_vec(&marker)?)?;
                reached(Point::PrepareBuilt);
                std::fs::rename(&from, &to)?;
                reached(Point::PrepareShelved);
                Ok(())
            }
        };
        blocking(finish).await.map_err(cache)?;
        self.look(id).ok_or_else(|| cache(io::Error::other("it is damaged just after it was built")))
    }

    /// The lock of whoever builds this environment, once no other daemon does.
    async fn wait_for_others(&self, id: &str) -> Result<Lock, EnvironmentError> {
        let cache = |source| EnvironmentError::Cache { path: Paths::cache_locks_in(&self.directory), source };
        let name = format!("{id}.build");
        if let Some(lock) = self.locks.try_take(&name, Mode::Exclusive).map_err(cache)? {
            return Ok(lock);
        }
        tracing::info!(environment = id, "another daemon builds it");
        self.locks.wait(&name, Mode::Exclusive).await.map_err(cache)
    }

    // What requests resolved to.

    fn resolution_file(&self, key: &str) -> PathBuf {
        self.directory.join("resolutions").join(format!("{key}.json"))
    }

    pub(super) fn resolution(&self, key: &str) -> Option<Resolution> {
        serde_json::from_slice(&std::fs::read(self.resolution_file(key)).ok()?).ok()
    }

    pub(super) fn remember(&self, key: &str, resolution: &Resolution) -> io::Result<()> {
        let file = self.resolution_file(key);
        create_private(file.parent().unwrap_or(&self.directory))?;
        let temporary = file.with_extension(JobId::mint().simple());
        std::fs::write(&temporary, serde_json::to_vec(resolution)?)?;
        std::fs::rename(&temporary, &file)
    }

    // The whole of it.

    /// Those that are whole, with when each was last used.
    pub(super) fn list(&self) -> io::Result<Vec<(Ready, Timestamp)>> {
        let mut found = Vec::new();
        for name in names(&self.environments())? {
            let id = name.to_str().filter(|name| !name.starts_with('.'));
            if let Some(id) = id.filter(|id| self.is_of_another(id)) {
                // Nobody will ask for it under this name.
                let _ = self.evict(id);
                continue;
            }
            if let Some(mut ready) = id.and_then(|id| self.look(id)) {
                let used = std::fs::metadata(ready.directory.join(MARKER)).and_then(|data| data.modified());
                if ready.marker.bytes.is_none() {
                    ready.marker.bytes = size(&ready.directory).ok();
                    self.note(&ready, used.as_ref().ok());
                }
                let since = used.ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
                found.push((ready, Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))));
            }
        }
        Ok(found)
    }

    /// Whether what has this name says that it is something else, or is of an earlier version that did not say it.
    fn is_of_another(&self, id: &str) -> bool {
        let marker = std::fs::read(self.place(id).join(MARKER)).ok();
        let marker = marker.and_then(|text| serde_json::from_slice::<Marker>(&text).ok());
        marker.is_some_and(|marker| marker.address != id)
    }

    /// Writes the marker anew, without having used the environment. One that is going away meanwhile need not be noted.
    fn note(&self, ready: &Ready, used: Option<&std::time::SystemTime>) {
        let temporary = ready.directory.join(format!(".{}", JobId::mint().simple()));
        let written = serde_json::to_vec(&ready.marker).map_err(io::Error::from).and_then(|text| {
            std::fs::write(&temporary, text)?;
            if let Some(used) = used {
                std::fs::File::open(&temporary)?.set_modified(*used)?;
            }
            std::fs::rename(&temporary, ready.directory.join(MARKER))
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
    }

    /// Removes it unless somebody uses it. Returns how many bytes it held. What cannot be removed of it has lost its name, and
    /// is tried again by [`Cache::remove_leftovers`].
    pub(super) fn evict(&self, id: &str) -> Result<Option<u64>, RemovalError> {
        // Held for the moment of the rename: nobody can take a lease on what is about to go.
        let leases = self.leases.lock().expect("nothing panics while it is held");
        if leases.contains_key(id) {
            return Ok(None);
        }
        // The same for other daemons, and for supervisors that have outlived theirs.
        let place = self.place(id);
        let locked = self.locks.try_take(&in_use(id), Mode::Exclusive).map_err(RemovalError::at(&place))?;
        let Some(lock) = locked else { return Ok(None) };
        let bytes = self.look(id).and_then(|ready| ready.marker.bytes).unwrap_or(0);
        let removed = rename_away(&self.environments(), &place).map_err(RemovalError::at(&place))?;
        lock.remove();
        drop(leases);
        if let Some(removed) = &removed {
            removal::remove(removed)?;
        }
        Ok(removed.map(|_| bytes))
    }

    /// Takes away what an earlier daemon left half built or half removed, each by itself. Returns what stays.
    pub(super) fn tidy(&self) -> io::Result<Vec<(String, RemovalError)>> {
        self.remove_all(&[BUILDING, REMOVED])
    }

    /// Says to others that this daemon uses the cache, for as long as it lives.
    pub(super) fn be_present(&self) {
        let name = format!("{}-{}{CACHE_USER}", std::process::id(), JobId::mint().simple());
        let user = CacheUser { pid: std::process::id(), state: self.state.as_path().into() };
        let said = self.locks.take(&name, Mode::Exclusive).and_then(|lock| {
            lock.write(&serde_json::to_vec(&user)?)?;
            Ok(lock)
        });
        // What is left of daemons that have ended.
        if let Err(error) = self.locks.tidy(|name| !name.ends_with(CACHE_USER)) {
            tracing::warn!(%error, "the locks of the environment cache cannot be tidied");
        }
        match said {
            Ok(lock) => *self.presence.lock().expect("nothing panics while it is held") = Some(lock),
            Err(error) => tracing::warn!(%error, "others will not see that this daemon uses the environment cache"),
        }
    }

    /// Takes away lock files that nobody holds any more.
    pub(super) fn tidy_locks(&self) -> io::Result<()> {
        let is_needed = |name: &str| name.strip_suffix(".use").is_some_and(|id| self.place(id).exists());
        self.locks.tidy(is_needed)
    }

    /// Takes away what earlier removals have left. Returns what stays.
    pub(super) fn remove_leftovers(&self) -> io::Result<Vec<(String, RemovalError)>> {
        self.remove_all(&[REMOVED])
    }

    /// Each whose name begins with one of these.
    fn remove_all(&self, prefixes: &[&str]) -> io::Result<Vec<(String, RemovalError)>> {
        let environments = self.environments();
        let mut kept = Vec::new();
        for name in names(&environments)? {
            // Nobody else may be building there, which nobody can tell where there are no locks.
            let slot = name.to_str().and_then(|name| name.strip_prefix(BUILDING)).map(slot);
            let lock = slot.map(|slot| self.locks.try_take(&slot, Mode::Exclusive));
            if matches!(lock, Some(Ok(None) | Err(_))) {
                continue;
            }
            if prefixes.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
                && let Err(error) = removal::remove(&environments.join(&name))
            {
                kept.push((name.to_string_lossy().into_owned(), error));
            }
        }
        Ok(kept)
    }
}

/// A build's directory, removed unless it has got its name.
///
/// The names are used again: uv remembers what it has found out about an interpreter by its path, and finding it out
/// takes as long as installing a few packages. They begin with what they are built for, so that what it remembers is
/// true.
struct Unfinished {
    slot: Slot,
}

/// A place to build in, which nobody else builds in for as long as this, or a program that has inherited its lock, lives.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) directory: PathBuf,
    pub(super) lock: Arc<Lock>,
}

impl Unfinished {
    fn begin(environments: &Path, family: &str, locks: &Locks) -> io::Result<Self> {
        let mut number = 0;
        loop {
            let name = format!("{family}-{number}");
            if let Some(lock) = locks.try_take(&slot(&name), Mode::Exclusive)? {
                let directory = environments.join(format!("{BUILDING}{name}"));
                return Ok(Self { slot: Slot { directory, lock: Arc::new(lock) } });
            }
            number += 1;
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let directory = &self.slot.directory;
        let environments = directory.parent().unwrap_or(directory);
        if let Ok(Some(removed)) = rename_away(environments, directory) {
            // Large, perhaps, and this may be the thread that serves everybody.
            drop(spawn(move || free(&removed)));
        }
    }
}

/// The lock of whoever uses an environment.
fn in_use(id: &str) -> String {
    format!("{id}.use")
}

/// The lock of whoever builds under this name.
fn slot(name: &str) -> String {
    format!("{name}.slot")
}

/// Which environments go so that the rest fits into `most` bytes: the least recently used first, and none that is kept.
pub(super) fn to_evict(all: &[(String, u64, Timestamp)], kept: impl Fn(&str) -> bool, most: u64) -> Vec<String> {
    let mut total: u64 = all.iter().map(|(_, bytes, _)| bytes).sum();
    let mut oldest_first: Vec<_> = all.iter().collect();
    oldest_first.sort_by_key(|(_, _, used)| *used);
    let mut evicted = Vec::new();
    for (id, bytes, _) in oldest_first {
        if total <= most {
            break;
        }
        if !kept(id) {
            total -= bytes;
            evicted.push(id.clone());
        }
    }
    evicted
}

fn remove(environments: &Path, place: &Path) -> io::Result<()> {
    if let Some(removed) = rename_away(environments, place)? {
        free(&removed);
    }
    Ok(())
}

/// Removes what has been renamed away. What cannot be removed is in nobody's way, and is tried again by the next daemon.
fn free(removed: &Path) {
    if let Err(error) = removal::remove(removed) {
        tracing::warn!(%error, "what is left of an environment stays");
    }
}

/// Gone at once and whole, whatever happens while the space is freed. `None` when there was nothing.
fn rename_away(environments: &Path, place: &Path) -> io::Result<Option<PathBuf>> {
    let removed = environments.join(format!("{REMOVED}{}", JobId::mint().simple()));
    match std::fs::rename(place, &removed) {
        Ok(()) => Ok(Some(removed)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
