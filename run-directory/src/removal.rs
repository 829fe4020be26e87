//! Removing a directory, whatever a job or a build has made of what is in it: directories that may not be entered, trees
//! that are deeper than a path can be long, links, and files of another user.
//!
//! No link is followed. What cannot be removed is named, with the path that it had before the removal began.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, Dir, FileType, Mode, OFlags, Stat, accessat, fstat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

/// How deep a tree is looked at before it is removed: to measure it, and to find what cannot be removed.
const MEASURED_DEPTH: usize = 64;
/// The longest path that is kept for a message; what lies deeper is named by the last directory that fits.
const MOST_PATH_BYTES: usize = 4096;

const FOUND: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const LISTED: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What could not be removed, and why.
#[derive(Debug, thiserror::Error)]
#[error("could not remove {}: {source}", path.display())]
pub struct RemovalError {
    pub path: PathBuf,
    pub source: io::Error,
}

impl RemovalError {
    pub fn at(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self { path: path.to_owned(), source }
    }

    fn of(path: &Path) -> impl Fn(Errno) -> Self {
        move |error| Self { path: path.to_owned(), source: error.into() }
    }
}

/// The bytes in its files; of a directory that is not there, or may not be read, 0.
pub fn size(directory: &Path) -> u64 {
    match rustix::fs::open(directory, LISTED, Mode::empty()) {
        Ok(directory) => size_below(directory, 0).unwrap_or(0),
        Err(_) => 0,
    }
}

fn size_below(directory: OwnedFd, depth: usize) -> io::Result<u64> {
    let mut bytes = 0;
    let mut entries = Dir::new(directory)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Ok(seen) = statat(entries.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        match FileType::from_raw_mode(seen.st_mode) {
            FileType::RegularFile => bytes += held_in(&seen),
            FileType::Directory if depth < MEASURED_DEPTH => {
                if let Ok(below) = openat(entries.fd()?, name, LISTED, Mode::empty()) {
                    bytes += size_below(below, depth + 1).unwrap_or(0);
                }
            }
            FileType::Directory
            | FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {}
        }
    }
    Ok(bytes)
}

/// The bytes of a file that are somewhere: one with holes may claim to be larger than any disk.
fn held_in(seen: &Stat) -> u64 {
    let allocated = u64::try_from(seen.st_blocks).unwrap_or(0) * 512;
    u64::try_from(seen.st_size).unwrap_or(0).min(allocated)
}

/// Removes it with all that is in it, and returns how many bytes its files held. What is no directory is unlinked, and it
/// need not be there.
pub fn remove(path: &Path) -> Result<u64, RemovalError> {
    let bytes = empty(path)?;
    remove_emptied(path)?;
    Ok(bytes)
}

/// Removes what [`empty`] has left of it: an empty directory, or what was no directory to begin with.
pub fn remove_emptied(path: &Path) -> Result<(), RemovalError> {
    let removed = match std::fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => std::fs::remove_file(path),
        removed => removed,
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RemovalError::at(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes all that is in a directory, and returns how many bytes its files held. What is no directory is left as it is, and
/// it need not be there.
///
/// The directories in it go first, and the files beside them only when no directory is left: where something in the
/// artifacts of a job cannot be removed, the job's own record and output are still there.
///
/// Every directory below is moved up to the top before it is emptied, so that there is neither recursion nor a path that
/// grows: at most two are open at a time.
pub fn empty(directory: &Path) -> Result<u64, RemovalError> {
    let failed = RemovalError::of(directory);
    let found = match rustix::fs::open(directory, FOUND, Mode::empty()) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(0),
        Err(error) => return Err(failed(error)),
    };
    let top = made_accessible(&found).map_err(RemovalError::at(directory))?;
    let device = fstat(&top).map_err(&failed)?.st_dev;
    // Found out before anything is removed, as far as it can be: what stays is whole.
    find_obstacle(&top, directory, device, 0)?;
    let mut emptying = Emptying { top, directory, device, bytes: 0, moved: 0, moved_from: HashMap::new() };
    // What is moved up may or may not be seen by a listing that is under way: listed again until there is nothing.
    loop {
        let found = entries_of(&emptying.top, directory, is_directory)?;
        let names: Vec<CString> = found.into_iter().map(|entry| entry.name).collect();
        if names.is_empty() {
            break;
        }
        names.iter().try_for_each(|name| emptying.remove_directory(name))?;
    }
    for file in entries_of(&emptying.top, directory, |_| true)? {
        unlink(&emptying.top, &file, directory, &mut emptying.bytes)?;
    }
    Ok(emptying.bytes)
}

/// A name in a directory, and what it stands for.
struct Entry {
    name: CString,
    kind: FileType,
    /// Of a file: how many bytes it holds.
    bytes: u64,
    device: u64,
    owner: u32,
}

fn is_directory(kind: FileType) -> bool {
    kind == FileType::Directory
}

struct Emptying<'a> {
    top: OwnedFd,
    directory: &'a Path,
    device: u64,
    bytes: u64,
    moved: u64,
    /// The paths that moved directories had.
    moved_from: HashMap<CString, PathBuf>,
}

impl Emptying<'_> {
    /// Removes a directory at the top, and moves the directories in it there.
    fn remove_directory(&mut self, name: &CString) -> Result<(), RemovalError> {
        let shown = self.moved_from.remove(name).unwrap_or_else(|| self.directory.join(path_of(name)));
        let failed = RemovalError::of(&shown);
        let found = match openat(&self.top, &**name, FOUND, Mode::empty()) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        if fstat(&found).map_err(&failed)?.st_dev != self.device {
            return Err(failed(Errno::BUSY));
        }
        let below = made_accessible(&found).map_err(RemovalError::at(&shown))?;
        for entry in entries_of(&below, &shown, |_| true)? {
            if is_directory(entry.kind) {
                self.move_up(&below, &entry.name, &shown)?;
            } else {
                unlink(&below, &entry, &shown, &mut self.bytes)?;
            }
        }
        match unlinkat(&self.top, &**name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }

    fn move_up(&mut self, parent: &OwnedFd, name: &CString, shown: &Path) -> Result<(), RemovalError> {
        let shown =
            if shown.as_os_str().len() < MOST_PATH_BYTES { shown.join(path_of(name)) } else { shown.to_owned() };
        let failed = RemovalError::of(&shown);
        // One that is empty can be removed though it belongs to somebody else.
        match unlinkat(parent, &**name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        // Moving it writes into it: its `..` changes.
        let found = openat(parent, &**name, FOUND, Mode::empty()).map_err(&failed)?;
        made_accessible(&found).map_err(RemovalError::at(&shown))?;
        let new_name = loop {
            self.moved += 1;
            let new_name = CString::new(format!(".moved-{}", self.moved)).expect("has no NUL");
            match renameat(parent, &**name, &self.top, &*new_name) {
                Ok(()) => break new_name,
                // A name that the job had thought of, too.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                Err(error) => return Err(failed(error)),
            }
        };
        self.moved_from.insert(new_name, shown.clone());
        Ok(())
    }
}

fn path_of(name: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(name.to_bytes()))
}

/// Those of the kinds that are wanted: there may be many of the others.
fn entries_of(
    directory: impl AsFd,
    shown: &Path,
    is_wanted: impl Fn(FileType) -> bool,
) -> Result<Vec<Entry>, RemovalError> {
    let failed = RemovalError::of(shown);
    let mut entries = Dir::read_from(&directory).map_err(&failed)?;
    let mut found = Vec::new();
    while let Some(entry) = entries.read() {
        let entry = entry.map_err(&failed)?;
        let name = entry.file_name();
        let told = entry.file_type();
        if matches!(name.to_bytes(), b"." | b"..") || (told != FileType::Unknown && !is_wanted(told)) {
            continue;
        }
        let seen = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(seen) => seen,
            // Somebody else removes it, too.
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(RemovalError::of(&shown.join(path_of(name)))(error)),
        };
        let kind = FileType::from_raw_mode(seen.st_mode);
        if is_wanted(kind) {
            let bytes = if kind == FileType::RegularFile { held_in(&seen) } else { 0 };
            found.push(Entry { name: name.to_owned(), kind, bytes, device: seen.st_dev, owner: seen.st_uid });
        }
    }
    Ok(found)
}

fn unlink(directory: &OwnedFd, file: &Entry, shown: &Path, bytes: &mut u64) -> Result<(), RemovalError> {
    match unlinkat(directory, &*file.name, AtFlags::empty()) {
        Ok(()) => {
            *bytes += file.bytes;
            Ok(())
        }
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(RemovalError::of(&shown.join(path_of(&file.name)))(error)),
    }
}

/// Looks for a directory that we may not empty, because it is not ours or because another file system is mounted there.
/// Not everything that cannot be removed is found here; what is not says so when its turn comes.
fn find_obstacle(directory: &OwnedFd, shown: &Path, device: u64, depth: usize) -> Result<(), RemovalError> {
    let user = rustix::process::geteuid().as_raw();
    for entry in entries_of(directory, shown, is_directory)? {
        let shown = shown.join(path_of(&entry.name));
        if entry.device != device {
            return Err(RemovalError::of(&shown)(Errno::BUSY));
        }
        let below = openat(directory, &*entry.name, LISTED, Mode::empty());
        // Its modes do not matter where it is ours: they are changed.
        if entry.owner != user
            && let Err(error) = accessat(directory, &*entry.name, Access::WRITE_OK | Access::EXEC_OK, AtFlags::empty())
        {
            let is_empty = below
                .as_ref()
                .is_ok_and(|below| entries_of(below, &shown, |_| true).is_ok_and(|found| found.is_empty()));
            if !is_empty {
                return Err(RemovalError::of(&shown)(error));
            }
        }
        if let Ok(below) = below
            && depth < MEASURED_DEPTH
        {
            find_obstacle(&below, &shown, device, depth + 1)?;
        }
    }
    Ok(())
}

/// Opens a directory that was found, for its owner whatever its mode says.
fn made_accessible(found: &OwnedFd) -> io::Result<OwnedFd> {
    const OWNERS: u32 = 0o700;
    let through = format!("/proc/self/fd/{}", found.as_raw_fd());
    let mode = fstat(found)?.st_mode & 0o777;
    if mode & OWNERS != OWNERS {
        rustix::fs::chmod(&through, Mode::from_raw_mode(mode | OWNERS))?;
    }
    // Not with NOFOLLOW: the name in /proc is a link, to just this directory.
    Ok(rustix::fs::open(&through, LISTED.difference(OFlags::NOFOLLOW), Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_directory_goes_with_all_that_is_in_it_and_nothing_else() {
        let home = tempfile::tempdir().expect("a directory");
        let outside = home.path().join("outside");
        std::fs::create_dir(&outside).expect("can be made");
        std::fs::write(outside.join("kept"), "kept").expect("can be written");
        let doomed = home.path().join("doomed");
        let locked = doomed.join("artifacts/locked/inner");
        std::fs::create_dir_all(&locked).expect("can be made");
        std::fs::create_dir(doomed.join(".moved-1")).expect("can be made");
        std::fs::write(locked.join("file"), "12345").expect("can be written");
        std::fs::write(doomed.join("spec.json"), "123").expect("can be written");
        symlink(&outside, locked.join("link")).expect("can be made");
        symlink("/dev/zero", doomed.join("zero")).expect("can be made");
        rustix::fs::mknodat(rustix::fs::CWD, doomed.join("pipe"), FileType::Fifo, 0o600.into(), 0)
            .expect("can be made");
        assert_eq!(size(&doomed), 8);
        for closed in [&locked, &doomed.join("artifacts/locked"), &doomed] {
            std::fs::set_permissions(closed, PermissionsExt::from_mode(0o000)).expect("can be closed");
        }
        assert_eq!(empty(&doomed).expect("can be emptied"), 8);
        std::fs::remove_dir(&doomed).expect("is empty");
        assert_eq!(std::fs::read_to_string(outside.join("kept")).expect("is there"), "kept");
        assert_eq!(empty(&doomed).expect("is gone"), 0);
    }

    #[test]
    fn what_is_no_directory_is_unlinked_and_where_a_link_leads_stays() {
        let home = tempfile::tempdir().expect("a directory");
        let (outside, doomed) = (home.path().join("outside"), home.path().join("doomed"));
        std::fs::create_dir(&outside).expect("can be made");
        std::fs::write(outside.join("kept"), "kept").expect("can be written");
        type Make<'a> = &'a dyn Fn() -> io::Result<()>;
        let makes: [(&str, Make<'_>); 4] = [
            ("a link", &|| symlink(&outside, &doomed)),
            ("a link to nothing", &|| symlink("/nothing/here", &doomed)),
            ("a file", &|| std::fs::write(&doomed, "file")),
            ("a pipe", &|| {
                rustix::fs::mknodat(rustix::fs::CWD, &doomed, FileType::Fifo, 0o600.into(), 0).map_err(io::Error::from)
            }),
        ];
        for (what, make) in makes {
            make().expect("can be made");
            assert_eq!(empty(&doomed).expect(what), 0);
            assert!(doomed.symlink_metadata().is_ok(), "{what}: the name says what is to be forgotten");
            remove(&doomed).expect(what);
            assert!(doomed.symlink_metadata().is_err(), "{what} is still there");
            assert_eq!(std::fs::read_to_string(outside.join("kept")).expect(what), "kept");
        }
    }

    /// A file system that is mounted in it is the only thing that not even root removes without a tool of its own; other
    /// obstacles take another user, and are tried end to end.
    #[test]
    fn what_is_in_the_way_is_found_before_anything_is_removed() {
        let home = tempfile::tempdir().expect("a directory");
        let doomed = home.path().join("doomed");
        std::fs::create_dir_all(doomed.join("artifacts/ours")).expect("can be made");
        std::fs::write(doomed.join("artifacts/ours/file"), "12345").expect("can be written");
        let found = rustix::fs::open(&doomed, LISTED, Mode::empty()).expect("is there");
        let device = fstat(&found).expect("is there").st_dev;
        find_obstacle(&found, &doomed, device, 0).expect("all of it is ours");
        let refused = find_obstacle(&found, &doomed, device + 1, 0).expect_err("it lies on another device");
        assert_eq!(refused.path, doomed.join("artifacts"));
        assert_eq!(size(&doomed), 5);
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let home = tempfile::tempdir().expect("a directory");
        let doomed = home.path().join("doomed");
        std::fs::create_dir(&doomed).expect("can be made");
        let mut deepest = rustix::fs::open(&doomed, LISTED, Mode::empty()).expect("can be opened");
        let name = "d".repeat(200);
        for _ in 0..2_000 {
            rustix::fs::mkdirat(&deepest, &*name, 0o700.into()).expect("can be made");
            deepest = openat(&deepest, &*name, LISTED, Mode::empty()).expect("can be opened");
        }
        assert_eq!(size(&doomed), 0);
        empty(&doomed).expect("can be emptied");
        std::fs::remove_dir(&doomed).expect("is empty");
    }
}
