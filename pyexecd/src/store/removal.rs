//! Emptying a run directory, whatever a job has made of the part of it that is the job's own: directories that may not
//! be entered, and trees that are deeper than a path can be long.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

/// How deep a tree is measured that is not removed yet.
const MEASURED_DEPTH: usize = 64;

const FOUND: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const LISTED: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The bytes in its files; of a directory that is not there, or may not be read, 0.
pub(super) fn size(directory: &Path) -> u64 {
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

/// Removes all that is in it, and returns how many bytes its files held. It need not be there.
///
/// Every directory below is moved up to the top before it is emptied, so that there is neither recursion nor a path that
/// grows: at most two are open at a time.
pub fn empty(directory: &Path) -> io::Result<u64> {
    let top = match rustix::fs::open(directory, FOUND, Mode::empty()) {
        Ok(found) => made_accessible(&found)?,
        Err(Errno::NOENT) => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = 0;
    let mut moved: u64 = 0;
    // What is moved up may or may not be seen by a listing that is under way: listed again until there is nothing.
    loop {
        let found = empty_into(&top, &top, &mut bytes, &mut moved)?;
        if found.is_empty() {
            break;
        }
        for name in found {
            let below = openat(&top, &*name, FOUND, Mode::empty())?;
            let below = made_accessible(&below)?;
            empty_into(&below, &top, &mut bytes, &mut moved)?;
            unlinkat(&top, &*name, AtFlags::REMOVEDIR)?;
        }
    }
    Ok(bytes)
}

/// Removes the files in `directory`, and moves the directories in it into `top`. Returns the names of those that are
/// there already.
fn empty_into(
    directory: &OwnedFd,
    top: &OwnedFd,
    bytes: &mut u64,
    moved: &mut u64,
) -> io::Result<Vec<std::ffi::CString>> {
    let (here, there) = (fstat(directory)?, fstat(top)?);
    let is_top = (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino);
    let mut names = Vec::new();
    let mut entries = Dir::read_from(directory)?;
    while let Some(entry) = entries.read() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    let mut directories = Vec::new();
    for name in names {
        let seen = statat(directory, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(seen.st_mode) {
            FileType::Directory if is_top => directories.push(name),
            FileType::Directory => {
                // Moving it writes into it: its `..` changes.
                made_accessible(&openat(directory, &*name, FOUND, Mode::empty())?)?;
                loop {
                    *moved += 1;
                    match renameat(directory, &*name, top, format!(".moved-{moved}")) {
                        // A name that the job had thought of, too.
                        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                        renamed => break renamed?,
                    }
                }
            }
            kind @ (FileType::RegularFile
            | FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown) => {
                if kind == FileType::RegularFile {
                    *bytes += held_in(&seen);
                }
                unlinkat(directory, &*name, AtFlags::empty())?;
            }
        }
    }
    Ok(directories)
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
