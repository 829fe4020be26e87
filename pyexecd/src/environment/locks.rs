//! Locks in the cache, which several daemons may share: of other state directories, in containers, on other machines.
//!
//! ```text
//! locks/<address>.use         shared by whoever uses an environment, exclusive for the moment in which it is removed
//! locks/<address>.build       held by whoever builds it
//! locks/<name>.slot           held by whoever builds in `environments/.building-<name>`
//! locks/<pid>-<random>.daemon held by each daemon for as long as it lives; says which
//! ```
//!
//! A lock ends with the last process that has its descriptor, however it ends. A lock file that nobody holds may be removed
//! by anybody: whoever has taken a lock looks whether the file still has its name.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyexec_run_directory::private::create_private;
use rustix::fs::{FlockOperation, flock};

/// Between two questions whether a lock can be had.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Held for as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Shared,
    Exclusive,
}

#[derive(Clone, Debug)]
pub(super) struct Locks {
    directory: PathBuf,
}

impl Locks {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Where the lock of this name is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The lock, unless somebody else has it.
    pub(super) fn try_take(&self, name: &str, mode: Mode) -> io::Result<Option<Lock>> {
        let operation = match mode {
            Mode::Shared => FlockOperation::NonBlockingLockShared,
            Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match self.lock(name, operation) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            locked => locked.map(Some),
        }
    }

    /// The lock, however long somebody else has it: it may be a daemon that is stopped. flock has no time limit, and a
    /// thread that waits in it could not be ended; so it is asked again, and less and less often.
    pub(super) async fn wait(&self, name: &str, mode: Mode) -> io::Result<Lock> {
        let mut pause = Duration::from_millis(5);
        loop {
            if let Some(lock) = self.try_take(name, mode)? {
                return Ok(lock);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The lock, on a thread that can wait until somebody else does not have it any more.
    pub(super) fn take(&self, name: &str, mode: Mode) -> io::Result<Lock> {
        let operation = match mode {
            Mode::Shared => FlockOperation::LockShared,
            Mode::Exclusive => FlockOperation::LockExclusive,
        };
        self.lock(name, operation)
    }

    fn lock(&self, name: &str, operation: FlockOperation) -> io::Result<Lock> {
        let path = self.path(name);
        loop {
            let file = open(&path)?;
            loop {
                match flock(&file, operation) {
                    Ok(()) => break,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // Whoever had it may have removed it.
            if has_name(&file, &path) {
                return Ok(Lock { file, path });
            }
        }
    }

    /// Removes lock files that nobody holds, and of which `is_needed` says no.
    pub(super) fn tidy(&self, is_needed: impl Fn(&str) -> bool) -> io::Result<()> {
        for name in super::contents::names(&self.directory)? {
            let Some(name) = name.to_str().filter(|name| !is_needed(name)) else { continue };
            if let Ok(Some(lock)) = self.try_take(name, Mode::Exclusive) {
                lock.remove();
            }
        }
        Ok(())
    }
}

impl Lock {
    /// Removes the file, which is nobody else's while it is held exclusively.
    pub(super) fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }

    /// A descriptor of the same lock for a child process: it is not closed when a program is executed, and the lock is held
    /// until the last descriptor is closed.
    pub(super) fn inheritable(&self) -> io::Result<std::os::fd::OwnedFd> {
        Ok(rustix::io::dup(&self.file)?)
    }

    /// What is said in it, for people.
    pub(super) fn write(&self, text: &[u8]) -> io::Result<()> {
        self.file.set_len(0)?;
        std::io::Write::write_all(&mut &self.file, text)
    }
}

/// Opens a lock file, or makes it.
fn open(path: &Path) -> io::Result<File> {
    let opened = pyexec_run_directory::private::open_lock(path);
    match (opened, path.parent()) {
        (Err(error), Some(directory)) if error.kind() == io::ErrorKind::NotFound => {
            create_private(directory)?;
            pyexec_run_directory::private::open_lock(path)
        }
        (opened, _) => opened,
    }
}

fn has_name(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(named)) = (file.metadata(), std::fs::symlink_metadata(path)) else { return false };
    (held.dev(), held.ino()) == (named.dev(), named.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locks() -> (tempfile::TempDir, Locks) {
        let directory = tempfile::tempdir().expect("a directory");
        let locks = Locks::new(directory.path().join("locks"));
        (directory, locks)
    }

    fn try_take(locks: &Locks, mode: Mode) -> Option<Lock> {
        locks.try_take("a.use", mode).expect("can be tried")
    }

    #[test]
    fn many_use_what_nobody_removes_and_nobody_uses_what_somebody_removes() {
        let (_directory, locks) = locks();
        let one = try_take(&locks, Mode::Shared).expect("is free");
        let other = try_take(&locks, Mode::Shared).expect("may be shared");
        assert!(try_take(&locks, Mode::Exclusive).is_none());
        drop((one, other));
        let removing = try_take(&locks, Mode::Exclusive).expect("is free");
        assert!(try_take(&locks, Mode::Shared).is_none());
        drop(removing);
        assert!(try_take(&locks, Mode::Shared).is_some());
    }

    #[test]
    fn a_lock_whose_file_was_removed_is_not_taken_for_the_one_that_came_after() {
        let (_directory, locks) = locks();
        let first = try_take(&locks, Mode::Exclusive).expect("is free");
        let waiting = {
            let locks = locks.clone();
            std::thread::spawn(move || locks.take("a.use", Mode::Exclusive).expect("can be had"))
        };
        first.remove();
        let second = waiting.join().expect("does not panic");
        assert!(locks.path("a.use").exists());
        assert!(try_take(&locks, Mode::Shared).is_none(), "two have it");
        drop(second);
    }

    #[test]
    fn only_lock_files_that_nobody_holds_and_needs_are_removed() {
        let (_directory, locks) = locks();
        for name in ["held", "needed", "left"] {
            drop(locks.take(name, Mode::Exclusive).expect("is free"));
        }
        let _held = locks.take("held", Mode::Shared).expect("is free");
        locks.tidy(|name| name == "needed").expect("can be tidied");
        assert!(locks.path("held").exists() && locks.path("needed").exists() && !locks.path("left").exists());
    }

    #[test]
    fn a_lock_is_held_until_the_last_descriptor_is_closed() {
        let (_directory, locks) = locks();
        let lock = try_take(&locks, Mode::Exclusive).expect("is free");
        let inherited = lock.inheritable().expect("can be made");
        drop(lock);
        assert!(try_take(&locks, Mode::Exclusive).is_none());
        drop(inherited);
        assert!(try_take(&locks, Mode::Exclusive).is_some());
    }
}
