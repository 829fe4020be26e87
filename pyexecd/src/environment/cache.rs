//! Environments by the address of their content: built once, whole or not there, kept while they are used.
//!
//! ```text
//! environments/<address>/            an environment; `pyexec.json` in it says what it holds
//! environments/.building-…           being built; renamed into place when it is whole
//! environments/.removed-…            being removed
//! resolutions/<key>.json             what a request resolved to, and when
//! ```
//!
//! Everything here may be deleted by anybody at any moment: it is made again.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use pyexec_proto::paths::create_private;
use pyexec_proto::{JobId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::EnvironmentError;
use super::contents::{installed, names, shape, size};
use crate::blocking::blocking;
use crate::client_files::ClientFiles;
use crate::fault::{Point, reached};
use crate::removal::{self, RemovalError};

pub(super) const MARKER: &str = "pyexec.json";
const BUILDING: &str = ".building-";
const REMOVED: &str = ".removed-";
const FORMAT: u32 = 1;

/// What an environment holds: written into it before it gets its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    version: u32,
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
    files: ClientFiles,
    builds: Mutex<HashMap<String, Weak<Build>>>,
    leases: Arc<Mutex<HashMap<String, usize>>>,
    /// Names under which something is being built.
    building: Arc<Mutex<HashSet<String>>>,
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
    leases: Arc<Mutex<HashMap<String, usize>>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.leases.lock().expect("nothing panics while it is held");
        if let Some(count) = leases.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                leases.remove(&self.id);
            }
        }
    }
}

impl Cache {
    pub(super) fn new(directory: PathBuf, files: ClientFiles) -> Self {
        Self { directory, files, builds: Mutex::default(), leases: Arc::default(), building: Arc::default() }
    }

    pub(super) fn lease(&self, id: &str) -> Lease {
        *self.leases.lock().expect("nothing panics while it is held").entry(id.to_owned()).or_default() += 1;
        Lease { id: id.to_owned(), leases: self.leases.clone() }
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
        (has_python && shape(&ready.directory).ok()? == ready.marker.shape).then_some(ready)
    }

    /// The environment, built if need be: once, however many want it at the same time. `family` names what it is built
    /// for, in a few letters: builds for the same interpreter are of one family.
    pub(super) async fn obtain<F, B>(self: &Arc<Self>, id: &str, family: &str, build: F) -> Outcome
    where
        F: FnOnce(PathBuf) -> B + Send + 'static,
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
        F: FnOnce(PathBuf) -> B + Send + 'static,
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
        F: FnOnce(PathBuf) -> B,
        B: Future<Output = Result<String, EnvironmentError>>,
    {
        // Another build may have ended since this one was asked for; from here on there is no other.
        if let Some(ready) = self.ready(id).await {
            return Ok(ready);
        }
        let environments = self.environments();
        let cache = |source| EnvironmentError::Cache { path: self.directory.clone(), source };
        create_private(&environments).map_err(cache)?;
        // It may be there, and damaged.
        remove(&environments, &self.place(id)).map_err(cache)?;
        let temporary = Unfinished::begin(&environments, family, self.building.clone());
        // A build that was cut short has left it to be taken away by another thread, which may not have got to it.
        remove(&environments, &temporary.path).map_err(cache)?;
        let python_version = build(temporary.path.clone()).await?;
        let finish = {
            let (from, to) = (temporary.path.clone(), self.place(id));
            move || {
                let marker = Marker {
                    version: FORMAT,
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
        let bytes = self.look(id).and_then(|ready| ready.marker.bytes).unwrap_or(0);
        let place = self.place(id);
        let removed = rename_away(&self.environments(), &place).map_err(RemovalError::at(&place))?;
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

    /// Takes away what earlier removals have left. Returns what stays.
    pub(super) fn remove_leftovers(&self) -> io::Result<Vec<(String, RemovalError)>> {
        self.remove_all(&[REMOVED])
    }

    /// Each whose name begins with one of these.
    fn remove_all(&self, prefixes: &[&str]) -> io::Result<Vec<(String, RemovalError)>> {
        let environments = self.environments();
        let mut kept = Vec::new();
        for name in names(&environments)? {
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
    path: PathBuf,
    name: String,
    building: Arc<Mutex<HashSet<String>>>,
}

impl Unfinished {
    fn begin(environments: &Path, family: &str, building: Arc<Mutex<HashSet<String>>>) -> Self {
        let name = {
            let mut taken = building.lock().expect("nothing panics while it is held");
            let mut names = (0..).map(|number| format!("{BUILDING}{family}-{number}"));
            let name = names.find(|name| !taken.contains(name)).expect("there is no end of numbers");
            taken.insert(name.clone());
            name
        };
        Self { path: environments.join(&name), name, building }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let environments = self.path.parent().unwrap_or(&self.path);
        if let Ok(Some(removed)) = rename_away(environments, &self.path) {
            // Large, perhaps, and this may be the thread that serves everybody.
            std::thread::spawn(move || free(&removed));
        }
        self.building.lock().expect("nothing panics while it is held").remove(&self.name);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn cache() -> (tempfile::TempDir, Arc<Cache>) {
        let directory = tempfile::tempdir().expect("a directory");
        let cache = Arc::new(Cache::new(directory.path().to_owned(), ClientFiles::in_threads()));
        (directory, cache)
    }

    /// Something that looks like what uv makes.
    fn populate(at: &Path) {
        let packages = at.join("lib/python3.12/site-packages");
        for directory in [at.join("bin"), packages.join("six-1.17.0.dist-info"), packages.join("six")] {
            std::fs::create_dir_all(directory).expect("can be made");
        }
        std::fs::write(packages.join("six-1.17.0.dist-info/METADATA"), "Name: six\n").expect("can be written");
        std::fs::write(at.join("bin/python"), "#!/bin/sh\n").expect("can be written");
        std::fs::set_permissions(at.join("bin/python"), PermissionsExt::from_mode(0o755)).expect("can be set");
    }

    async fn obtain(cache: &Arc<Cache>, id: &str) -> Outcome {
        cache
            .obtain(id, "f", |at| async move {
                populate(&at);
                Ok("3.12.1".to_owned())
            })
            .await
    }

    #[tokio::test]
    async fn ten_who_want_the_same_at_once_get_it_from_one_build() {
        let (_directory, cache) = cache();
        let builds = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let all = futures::future::join_all((0..10).map(|_| {
            let (cache, builds) = (cache.clone(), builds.clone());
            async move {
                cache
                    .obtain("a", "f", move |at| async move {
                        builds.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        populate(&at);
                        Ok("3.12.1".to_owned())
                    })
                    .await
            }
        }));
        for ready in all.await {
            assert_eq!(ready.expect("is built").marker.packages, ["six==1.17.0"]);
        }
        assert_eq!(builds.load(std::sync::atomic::Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_build_that_fails_leaves_nothing_and_can_be_tried_again() {
        let (directory, cache) = cache();
        let failed = cache
            .obtain("a", "f", |at| async move {
                populate(&at);
                Err(EnvironmentError::NoPython)
            })
            .await;
        assert!(failed.is_err());
        assert!(cache.ready("a").await.is_none());
        assert!(obtain(&cache, "a").await.is_ok());
        drop(directory);
    }

    #[tokio::test]
    async fn a_build_nobody_waits_for_ends() {
        let (_directory, cache) = cache();
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        let waiting = cache.obtain("a", "f", |_| async move {
            let _ended = ended;
            std::future::pending::<Result<String, EnvironmentError>>().await
        });
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), waiting).await.is_err());
        // The sender goes with the build.
        end.await.expect_err("is dropped");
    }

    #[tokio::test]
    async fn damage_is_seen_and_mended() {
        let (_directory, cache) = cache();
        let ready = obtain(&cache, "a").await.expect("is built");
        let packages = ready.directory.join("lib/python3.12/site-packages");
        for damaged in [
            packages.join("six"),
            packages.join("six-1.17.0.dist-info/METADATA"),
            ready.python(),
            ready.directory.join(MARKER),
        ] {
            if damaged.is_dir() {
                std::fs::remove_dir_all(&damaged).expect("can be removed");
            } else {
                std::fs::remove_file(&damaged).expect("can be removed");
            }
            assert!(cache.ready("a").await.is_none(), "{} is missing, and not missed", damaged.display());
            obtain(&cache, "a").await.expect("is built again");
        }
    }

    #[tokio::test]
    async fn what_is_used_is_not_evicted() {
        let (_directory, cache) = cache();
        obtain(&cache, "a").await.expect("is built");
        let lease = cache.lease("a");
        assert_eq!(cache.evict("a").expect("works"), None);
        drop(lease);
        assert!(cache.evict("a").expect("works").is_some());
        assert!(cache.ready("a").await.is_none());
    }

    #[test]
    fn the_least_recently_used_go_until_the_rest_fits() {
        let all = [("new", 5, 30), ("old", 5, 10), ("kept", 5, 1), ("middle", 5, 20)]
            .map(|(id, bytes, used)| (id.to_owned(), bytes, Timestamp(used)));
        let kept = |id: &str| id == "kept";
        assert_eq!(to_evict(&all, kept, 20), Vec::<String>::new());
        assert_eq!(to_evict(&all, kept, 15), ["old"]);
        assert_eq!(to_evict(&all, kept, 10), ["old", "middle"]);
        assert_eq!(to_evict(&all, kept, 0), ["old", "middle", "new"]);
    }

    #[tokio::test]
    async fn leavings_of_an_earlier_daemon_are_taken_away() {
        let (directory, cache) = cache();
        let environments = directory.path().join("environments");
        for name in [".building-a-1", ".removed-2"] {
            std::fs::create_dir_all(environments.join(name).join("inside")).expect("can be made");
        }
        obtain(&cache, "a").await.expect("is built");
        std::os::unix::fs::symlink("/nothing/here", environments.join(".removed-link")).expect("can be made");
        std::fs::write(environments.join(".building-file"), "").expect("can be written");
        assert!(cache.tidy().expect("can be tidied").is_empty());
        assert_eq!(names(&environments).expect("can be listed"), ["a"]);
    }
}
