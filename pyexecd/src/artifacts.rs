//! Reading what a job left in its directory of artifacts.
//!
//! Nothing in there is to be trusted: it is what some script made. No link is followed, not even the directory itself
//! should it have become one; what is no regular file is never opened, so that nothing waits for a pipe's other end and
//! no device is touched; and everything is bounded.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use pyexec_proto::artifact::{
    Artifact, ArtifactChunk, ArtifactList, MAX_ARTIFACT_CHUNK_BYTES, MAX_ARTIFACT_DEPTH, MAX_ARTIFACTS, NoArtifact,
};
use pyexec_proto::paths::Paths;
use pyexec_proto::{OsText, Timestamp};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, statat};
use rustix::io::Errno;

/// How many entries are looked at for a listing, of whatever kind.
const MOST_LOOKED_AT: usize = 100_000;
/// How many bytes of paths a listing has: it has to fit into a message.
const MOST_PATH_BYTES: usize = 4 << 20;

/// The first `limit` files by path. None where there is no such directory.
pub fn list(run_directory: &Path, limit: u32) -> io::Result<ArtifactList> {
    let directory = match open(run_directory) {
        Ok(Some(directory)) => directory,
        Ok(None) => return Ok(ArtifactList::default()),
        Err(error) if is_forbidden(&error) => return Ok(ArtifactList { is_cut: true, ..Default::default() }),
        Err(error) => return Err(error),
    };
    let mut walk = Walk::default();
    let device = fstat(&directory)?.st_dev;
    walk.directory(directory, &mut Vec::new(), 0, device)?;
    let mut list = walk.list;
    list.total = list.artifacts.len() as u64;
    list.artifacts.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    list.artifacts.truncate(limit as usize);
    Ok(list)
}

/// At most `max_bytes` from `offset` on; the inner error is about the path, the outer one about the disk.
pub fn read(
    run_directory: &Path,
    path: &OsText,
    offset: u64,
    max_bytes: u32,
) -> io::Result<Result<ArtifactChunk, NoArtifact>> {
    let Some(parts) = parts(path.as_bytes()) else { return Ok(Err(NoArtifact::OutOfPlace)) };
    let directory = match open(run_directory) {
        Ok(Some(directory)) => directory,
        Ok(None) => return Ok(Err(NoArtifact::NotThere)),
        Err(error) if is_forbidden(&error) => return Ok(Err(NoArtifact::Unreadable)),
        Err(error) => return Err(error),
    };
    let found = match beneath(&directory, path, &parts, true)? {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let seen = fstat(&found)?;
    match FileType::from_raw_mode(seen.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Ok(Err(NoArtifact::Directory)),
        FileType::Symlink => return Ok(Err(NoArtifact::Link)),
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
            return Ok(Err(NoArtifact::Special));
        }
    }
    // What was found was not opened: it is now, and is what was found, whatever has become of its name.
    let through = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(through, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::ACCESS | Errno::PERM) => return Ok(Err(NoArtifact::Unreadable)),
        Err(error) => return Err(error.into()),
    };
    let total = length(&seen);
    let room = total.saturating_sub(offset).min(max_bytes.min(MAX_ARTIFACT_CHUNK_BYTES).into());
    let mut bytes = vec![0; usize::try_from(room).unwrap_or(0)];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            // It has become shorter.
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(Ok(ArtifactChunk { bytes, total, inode: seen.st_ino }))
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// `None` where there is none: the job has not started, or has put something else in its place.
fn open(run_directory: &Path) -> io::Result<Option<OwnedFd>> {
    match rustix::fs::open(Paths::artifacts(run_directory), DIRECTORY, Mode::empty()) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A job may have taken even its own user's permission away.
fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// The names a path is made of; `None` when it is none that stays inside.
fn parts(path: &[u8]) -> Option<Vec<&[u8]>> {
    if path.is_empty() || path.contains(&0) {
        return None;
    }
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let is_name = |part: &&[u8]| !matches!(**part, [] | [b'.'] | [b'.', b'.']);
    parts.iter().all(is_name).then_some(parts)
}

/// What lies at a path, whatever it is, without opening it.
fn beneath(
    directory: &OwnedFd,
    path: &OsText,
    parts: &[&[u8]],
    at_once: bool,
) -> io::Result<Result<OwnedFd, NoArtifact>> {
    const FOUND: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let refused = |error: Errno| match error {
        Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG => Ok(Err(NoArtifact::NotThere)),
        Errno::LOOP => Ok(Err(NoArtifact::Link)),
        Errno::XDEV => Ok(Err(NoArtifact::OutOfPlace)),
        Errno::ACCESS => Ok(Err(NoArtifact::Unreadable)),
        error => Err(error.into()),
    };
    if at_once {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        match openat2(directory, path.as_path(), FOUND, Mode::empty(), resolve) {
            Ok(found) => return Ok(Ok(found)),
            // Before Linux 5.6, and in sandboxes that do not know it: then part by part.
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {}
            Err(error) => return refused(error),
        }
    }
    let (last, before) = parts.split_last().expect("a path has a part");
    let mut parent: Option<OwnedFd> = None;
    let device = fstat(directory)?.st_dev;
    for name in before {
        let here = parent.as_ref().unwrap_or(directory);
        let next = match openat(here, *name, FOUND, Mode::empty()) {
            Ok(next) => next,
            Err(error) => return refused(error),
        };
        let seen = fstat(&next)?;
        match FileType::from_raw_mode(seen.st_mode) {
            FileType::Directory if seen.st_dev == device => {}
            FileType::Directory => return Ok(Err(NoArtifact::OutOfPlace)),
            FileType::Symlink => return Ok(Err(NoArtifact::Link)),
            FileType::RegularFile
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => return Ok(Err(NoArtifact::NotThere)),
        }
        parent = Some(next);
    }
    match openat(parent.as_ref().unwrap_or(directory), *last, FOUND, Mode::empty()) {
        Ok(found) => Ok(Ok(found)),
        Err(error) => refused(error),
    }
}

#[derive(Default)]
struct Walk {
    list: ArtifactList,
    looked_at: usize,
    path_bytes: usize,
}

impl Walk {
    /// `prefix` is the directory's own path, with a slash where it is not empty.
    fn directory(&mut self, directory: OwnedFd, prefix: &mut Vec<u8>, depth: usize, device: u64) -> io::Result<()> {
        let mut entries = Dir::new(directory)?;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.looked_at += 1;
            if self.looked_at > MOST_LOOKED_AT
                || self.list.artifacts.len() >= MAX_ARTIFACTS as usize
                || self.path_bytes > MOST_PATH_BYTES
            {
                self.list.is_cut = true;
                return Ok(());
            }
            // It may have gone, or become something else: then it is not listed.
            let Ok(seen) = statat(entries.fd()?, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
            match FileType::from_raw_mode(seen.st_mode) {
                FileType::RegularFile => {
                    let path = [prefix, name].concat();
                    self.path_bytes += path.len();
                    let modified_at = modified_at(&seen);
                    self.list.artifacts.push(Artifact { path: path.into(), bytes: length(&seen), modified_at });
                }
                FileType::Directory if depth >= MAX_ARTIFACT_DEPTH || seen.st_dev != device => self.list.is_cut = true,
                FileType::Directory => {
                    let Ok(below) = openat(entries.fd()?, entry.file_name(), DIRECTORY, Mode::empty()) else {
                        self.list.is_cut = true;
                        continue;
                    };
                    let length = prefix.len();
                    prefix.extend_from_slice(name);
                    prefix.push(b'/');
                    self.directory(below, prefix, depth + 1, device)?;
                    prefix.truncate(length);
                }
                FileType::Symlink
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => self.list.other_entries += 1,
            }
        }
        Ok(())
    }
}

fn length(seen: &Stat) -> u64 {
    u64::try_from(seen.st_size).unwrap_or(0)
}

fn modified_at(seen: &Stat) -> Timestamp {
    // The kernel says less than a second here.
    let microseconds = i64::try_from(seen.st_mtime_nsec / 1_000).unwrap_or(0);
    Timestamp(seen.st_mtime.saturating_mul(1_000_000).saturating_add(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    fn run_directory() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().expect("a directory");
        let artifacts = Paths::artifacts(home.path());
        std::fs::create_dir(&artifacts).expect("can be made");
        (home, artifacts)
    }

    fn content(run_directory: &Path, path: &str) -> Result<Vec<u8>, NoArtifact> {
        read(run_directory, &path.into(), 0, 100).expect("can be looked for").map(|chunk| chunk.bytes)
    }

    fn hostile(artifacts: &Path) {
        std::fs::write(artifacts.join("plain.txt"), "plain").expect("can be written");
        std::fs::create_dir_all(artifacts.join("a/b")).expect("can be made");
        std::fs::write(artifacts.join("a/b/deep.txt"), "deep").expect("can be written");
        std::fs::write(artifacts.join("..").join("spec.json"), "secret").expect("can be written");
        symlink("/etc/passwd", artifacts.join("passwd")).expect("can be made");
        symlink("plain.txt", artifacts.join("inside")).expect("can be made");
        symlink("/etc", artifacts.join("etc")).expect("can be made");
        symlink("..", artifacts.join("a/up")).expect("can be made");
        symlink("/dev/zero", artifacts.join("zero")).expect("can be made");
        rustix::fs::mknodat(rustix::fs::CWD, artifacts.join("pipe"), FileType::Fifo, 0o600.into(), 0)
            .expect("can be made");
        UnixListener::bind(artifacts.join("socket")).expect("can be bound");
    }

    #[test]
    fn only_what_lies_inside_and_is_a_file_can_be_read() {
        use NoArtifact::{Directory, Link, NotThere, OutOfPlace, Special};
        let (home, artifacts) = run_directory();
        hostile(&artifacts);
        let cases = [
            ("plain.txt", Ok("plain")),
            ("a/b/deep.txt", Ok("deep")),
            ("missing", Err(NotThere)),
            ("plain.txt/more", Err(NotThere)),
            ("a", Err(Directory)),
            ("passwd", Err(Link)),
            ("inside", Err(Link)),
            ("zero", Err(Link)),
            ("etc/passwd", Err(Link)),
            ("a/up/plain.txt", Err(Link)),
            ("pipe", Err(Special)),
            ("socket", Err(Special)),
            ("", Err(OutOfPlace)),
            (".", Err(OutOfPlace)),
            ("..", Err(OutOfPlace)),
            ("../spec.json", Err(OutOfPlace)),
            ("a/../plain.txt", Err(OutOfPlace)),
            ("a/../../spec.json", Err(OutOfPlace)),
            ("/etc/passwd", Err(OutOfPlace)),
            ("a//b/deep.txt", Err(OutOfPlace)),
            ("plain.txt\0", Err(OutOfPlace)),
        ];
        for (path, expected) in cases {
            assert_eq!(content(home.path(), path), expected.map(|text| text.as_bytes().to_vec()), "{path:?}");
        }
        let long = "x".repeat(300);
        assert_eq!(content(home.path(), &long), Err(NotThere));
    }

    /// What the kernel does at once where it can is the same done part by part.
    #[test]
    fn an_old_kernel_is_no_less_careful() {
        let (home, artifacts) = run_directory();
        hostile(&artifacts);
        let directory = open(home.path()).expect("can be opened").expect("is there");
        for path in ["plain.txt", "a/b/deep.txt", "missing", "plain.txt/more", "a", "passwd", "inside", "etc/passwd"] {
            let text = OsText::from(path);
            let parts = parts(text.as_bytes()).expect("stays inside");
            let found = |at_once| {
                let found = beneath(&directory, &text, &parts, at_once).expect("can be looked for");
                found.map(|found| fstat(found).expect("is there").st_ino)
            };
            assert_eq!(found(true), found(false), "{path}");
        }
    }

    #[test]
    fn files_are_listed_by_path_and_everything_else_is_only_counted() {
        let (home, artifacts) = run_directory();
        hostile(&artifacts);
        let odd = std::ffi::OsString::from_vec(b"odd\n\x1b[31m\xff".to_vec());
        std::fs::write(artifacts.join(&odd), "odd").expect("can be written");
        let listed = list(home.path(), 100).expect("can be listed");
        let paths: Vec<&[u8]> = listed.artifacts.iter().map(|artifact| artifact.path.as_bytes()).collect();
        assert_eq!(paths, [&b"a/b/deep.txt"[..], b"odd\n\x1b[31m\xff", b"plain.txt"]);
        assert_eq!((listed.total, listed.other_entries, listed.is_cut), (3, 7, false));
        assert_eq!(listed.artifacts[0].bytes, 4);
        let first = list(home.path(), 1).expect("can be listed");
        assert_eq!((first.artifacts.len(), first.total), (1, 3));
        let read = read(home.path(), &OsText::from(odd), 1, 1).expect("can be read").expect("is a file");
        assert_eq!((read.bytes.as_slice(), read.total), (&b"d"[..], 3));
    }

    #[test]
    fn what_lies_too_deep_is_not_listed_and_that_is_said() {
        let (home, artifacts) = run_directory();
        let depth = |depth: usize| vec!["d"; depth].join("/");
        let deepest = artifacts.join(depth(MAX_ARTIFACT_DEPTH));
        std::fs::create_dir_all(deepest.join("below")).expect("can be made");
        std::fs::write(deepest.join("seen"), "").expect("can be written");
        std::fs::write(deepest.join("below/unseen"), "").expect("can be written");
        let listed = list(home.path(), 100).expect("can be listed");
        assert_eq!((listed.total, listed.is_cut), (1, true));
        assert_eq!(content(home.path(), &format!("{}/below/unseen", depth(MAX_ARTIFACT_DEPTH))), Ok(vec![]));
    }

    #[test]
    fn a_directory_that_became_a_link_has_nothing_in_it() {
        let (home, artifacts) = run_directory();
        std::fs::remove_dir(&artifacts).expect("can be removed");
        assert_eq!(list(home.path(), 100).expect("can be listed"), ArtifactList::default());
        symlink("/etc", &artifacts).expect("can be made");
        assert_eq!(list(home.path(), 100).expect("can be listed"), ArtifactList::default());
        assert_eq!(content(home.path(), "passwd"), Err(NoArtifact::NotThere));
    }
}
