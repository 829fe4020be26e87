//! Files written below one directory, and nowhere else: whatever they are called, and whatever links lie there already.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pyexec_proto::{JobId, OsText};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, mkdirat, openat, renameat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

use crate::exit_code::VerbError;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Why files could not be copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    #[error("{} already exists", path.display())]
    Exists { path: PathBuf },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the artifact {path} would be written outside the directory")]
    OutOfPlace { path: OsText },
    #[error("the artifact {path} was replaced while it was read")]
    Replaced { path: OsText },
    #[error("the artifact {path} became shorter while it was read: {read} of {total} bytes")]
    Shortened { path: OsText, read: u64, total: u64 },
    #[error("{left} of {all} files were not copied; the others are complete")]
    Incomplete { left: usize, all: usize },
}

impl VerbError for CopyError {
    fn hint(&self) -> Option<String> {
        match self {
            CopyError::Exists { .. } => Some("--force replaces it; nothing has been replaced so far".into()),
            CopyError::Replaced { .. } | CopyError::Shortened { .. } => {
                Some("the job is still writing it: try again".into())
            }
            CopyError::Incomplete { .. } => Some("the notes say which, and why".into()),
            CopyError::Write { .. } | CopyError::OutOfPlace { .. } => None,
        }
    }
}

/// Where files are copied to.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    directory: OwnedFd,
}

/// A file that is not there under its name yet.
#[derive(Debug)]
pub(super) struct Unfinished {
    /// For messages.
    shown: PathBuf,
    parent: OwnedFd,
    name: Vec<u8>,
    temporary: String,
    file: Option<std::fs::File>,
}

impl Target {
    /// Makes the directory if it is not there. A link that was named here is followed: it is the user's own word.
    pub(super) fn open(path: &Path) -> Result<Self, CopyError> {
        let failed = |source| CopyError::Write { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        let directory = rustix::fs::open(path, DIRECTORY.difference(OFlags::NOFOLLOW), Mode::empty());
        Ok(Self { path: path.to_owned(), directory: directory.map_err(|error| failed(error.into()))? })
    }

    /// Whether there is something under this name, whatever it is.
    pub(super) fn refuse_to_replace(&self, path: &OsText) -> Result<(), CopyError> {
        let (before, name) = parts(path)?;
        let mut parent: Option<OwnedFd> = None;
        for part in before {
            match openat(parent.as_ref().unwrap_or(&self.directory), part, DIRECTORY, Mode::empty()) {
                Ok(next) => parent = Some(next),
                Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(self.failed(path)(error)),
            }
        }
        match statat(parent.as_ref().unwrap_or(&self.directory), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(CopyError::Exists { path: self.path.join(path.as_path()) }),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.failed(path)(error)),
        }
    }

    pub(super) fn begin(&self, path: &OsText) -> Result<Unfinished, CopyError> {
        let (before, name) = parts(path)?;
        let failed = self.failed(path);
        let mut parent = self
            .directory
            .try_clone()
            .map_err(|source| CopyError::Write { path: self.path.join(path.as_path()), source })?;
        for part in before {
            match mkdirat(&parent, part, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
            parent = openat(&parent, part, DIRECTORY, Mode::empty()).map_err(&failed)?;
        }
        // Not after the file itself: that name may be as long as a name can be.
        let temporary = format!(".pyexec-{}", JobId::mint().simple());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&parent, &*temporary, flags, Mode::from_raw_mode(0o666)).map_err(&failed)?;
        let shown = self.path.join(path.as_path());
        Ok(Unfinished { shown, parent, name: name.to_owned(), temporary, file: Some(file.into()) })
    }

    fn failed(&self, path: &OsText) -> impl Fn(Errno) -> CopyError {
        let path = self.path.join(path.as_path());
        move |error| CopyError::Write { path: path.clone(), source: error.into() }
    }
}

impl Unfinished {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        let file = self.file.as_mut().expect("it is open until it is finished");
        file.write_all(bytes).map_err(|source| CopyError::Write { path: self.shown.clone(), source })
    }

    /// Gives it its name: from here on it is there, and whole.
    pub(super) fn finish(mut self, force: bool) -> Result<(), CopyError> {
        let name = std::ffi::OsStr::from_bytes(&self.name);
        let renamed = if force {
            renameat(&self.parent, &*self.temporary, &self.parent, name)
        } else {
            match renameat_with(&self.parent, &*self.temporary, &self.parent, name, RenameFlags::NOREPLACE) {
                // Not every file system can; nothing was there a moment ago.
                Err(Errno::INVAL | Errno::NOSYS) => renameat(&self.parent, &*self.temporary, &self.parent, name),
                renamed => renamed,
            }
        };
        match renamed {
            Ok(()) => {
                self.file = None;
                Ok(())
            }
            Err(Errno::EXIST) => Err(CopyError::Exists { path: self.shown.clone() }),
            Err(error) => Err(CopyError::Write { path: self.shown.clone(), source: error.into() }),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = unlinkat(&self.parent, &*self.temporary, AtFlags::empty());
        }
    }
}

/// The directories a path leads through, and its last name; refused when it would lead anywhere but down.
fn parts(path: &OsText) -> Result<(Vec<&[u8]>, &[u8]), CopyError> {
    let mut parts: Vec<&[u8]> = path.as_bytes().split(|byte| *byte == b'/').collect();
    let is_name = |part: &&[u8]| !matches!(**part, [] | [b'.'] | [b'.', b'.']) && !part.contains(&0);
    match parts.iter().all(is_name).then(|| parts.pop()).flatten() {
        Some(name) => Ok((parts, name)),
        None => Err(CopyError::OutOfPlace { path: path.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn copy(target: &Target, path: &str, content: &str, force: bool) -> Result<(), CopyError> {
        let path = OsText::from(path);
        if !force {
            target.refuse_to_replace(&path)?;
        }
        let mut file = target.begin(&path)?;
        file.write(content.as_bytes())?;
        file.finish(force)
    }

    #[test]
    fn nothing_is_written_outside_whatever_it_is_called_and_wherever_links_lead() {
        let home = tempfile::tempdir().expect("a directory");
        let (outside, inside) = (home.path().join("outside"), home.path().join("inside"));
        std::fs::create_dir(&outside).expect("can be made");
        std::fs::write(outside.join("file"), "theirs").expect("can be written");
        let target = Target::open(&inside).expect("can be made");
        symlink(&outside, inside.join("away")).expect("can be made");
        symlink(outside.join("file"), inside.join("link")).expect("can be made");
        for path in ["../file", "..", "/etc/x", "", ".", "a/../../x", "a//b", "nul\0", "away/file", "away/new"] {
            assert!(copy(&target, path, "ours", true).is_err(), "{path:?} was written");
        }
        copy(&target, "link", "ours", true).expect("the link itself is replaced");
        assert_eq!(std::fs::read_to_string(outside.join("file")).expect("is there"), "theirs");
        assert_eq!(std::fs::read_dir(&outside).expect("can be listed").count(), 1);
        assert_eq!(std::fs::read_to_string(inside.join("link")).expect("is there"), "ours");
        copy(&target, "a/b/c", "ours", false).expect("can be written");
        copy(&target, &"x".repeat(255), "ours", false).expect("can be written");
        let left = std::fs::read_dir(&inside).expect("can be listed").flatten();
        assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(".pyexec-")));
    }

    #[test]
    fn what_is_there_stays_unless_it_is_to_be_replaced() {
        let home = tempfile::tempdir().expect("a directory");
        let target = Target::open(home.path()).expect("is there");
        copy(&target, "a", "first", false).expect("can be written");
        assert!(matches!(copy(&target, "a", "second", false), Err(CopyError::Exists { .. })));
        // It came in between.
        let mut file = target.begin(&"b".into()).expect("can be begun");
        file.write(b"ours").expect("can be written");
        std::fs::write(home.path().join("b"), "theirs").expect("can be written");
        assert!(matches!(file.finish(false), Err(CopyError::Exists { .. })));
        assert_eq!(std::fs::read_to_string(home.path().join("a")).expect("is there"), "first");
        copy(&target, "a", "second", true).expect("can be replaced");
        assert_eq!(std::fs::read_to_string(home.path().join("a")).expect("is there"), "second");
        assert_eq!(std::fs::read_dir(home.path()).expect("can be listed").count(), 2);
    }
}
