//! Files in a directory of ours, which other programs may have put things into. A link is not followed, and what is no
//! regular file is neither opened nor waited for.

use std::fs::{DirEntry, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use pyexec_proto::{Error, Timestamp};
use pyexec_run_directory::private::create_private;
use rustix::fs::{Mode, OFlags};

/// What lies under a name.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    /// A link, a directory, a pipe, a device.
    NoFile,
    File(File, Metadata),
}

pub(super) fn open(path: &Path) -> io::Result<Found> {
    match std::fs::symlink_metadata(path) {
        Ok(seen) if !seen.is_file() => return Ok(Found::NoFile),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    }
    // It may have become something else since: that is not followed, and not waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file: File = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => file.into(),
        Err(rustix::io::Errno::NOENT) => return Ok(Found::Nothing),
        Err(rustix::io::Errno::LOOP) => return Ok(Found::NoFile),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    Ok(if metadata.is_file() { Found::File(file, metadata) } else { Found::NoFile })
}

/// A lock on a directory that other daemons may write into, held for as long as the descriptor. `None` while there is no
/// such directory, or where its file system knows no locks: then nobody is waited for.
pub(super) fn lock(directory: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty()).ok()?;
    rustix::fs::flock(&opened, rustix::fs::FlockOperation::LockExclusive).ok()?;
    Some(opened.into())
}

/// Whether there is anything under this name, and whether it is a file.
pub(super) fn look(path: &Path) -> io::Result<Option<bool>> {
    match std::fs::symlink_metadata(path) {
        Ok(seen) => Ok(Some(seen.is_file())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// At most `most` bytes of it.
pub(super) fn beginning(file: &mut File, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whole or absent, however this process dies, and only its user's. Nothing else may write the same name meanwhile.
pub(super) fn write(directory: &Path, name: &str, content: &[u8]) -> io::Result<File> {
    create_private(directory)?;
    let temporary = directory.join(format!(".{name}{TEMPORARY}"));
    remove_if_there(&temporary)?;
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        std::fs::rename(&temporary, directory.join(name))?;
        Ok(file)
    });
    if written.is_err() {
        let _ = remove_if_there(&temporary);
    }
    written
}

const TEMPORARY: &str = ".tmp";

/// What `name` is the unfinished version of.
pub(super) fn unfinished(name: &str) -> Option<&str> {
    name.strip_prefix('.')?.strip_suffix(TEMPORARY)
}

/// What lies in a directory that may not be there.
pub(super) fn entries(directory: &Path) -> io::Result<Vec<DirEntry>> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes a file nobody waits to see gone.
pub(super) fn clear_away(path: &Path) {
    if let Err(error) = remove_if_there(path) {
        tracing::warn!(path = %path.display(), %error, "can not be removed");
    }
}

pub(super) fn modified_at(metadata: &Metadata) -> Timestamp {
    Timestamp(metadata.mtime().saturating_mul(1_000_000).saturating_add(metadata.mtime_nsec() / 1_000))
}

pub(super) fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Storage { doing: doing.into(), problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_is_written_is_whole_and_its_users_alone_and_nothing_else_is_left() {
        let home = tempfile::tempdir().expect("a directory");
        let directory = home.path().join("scripts");
        for content in [&b"one"[..], b"two"] {
            write(&directory, "x.py", content).expect("can be written");
            assert_eq!(std::fs::read(directory.join("x.py")).expect("is there"), content);
        }
        let mode = |path: &Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join("x.py"))), (0o700, 0o600));
        assert_eq!(entries(&directory).expect("can be listed").len(), 1);
    }

    #[test]
    fn a_link_where_something_is_to_be_written_is_not_written_through() {
        let home = tempfile::tempdir().expect("a directory");
        let (elsewhere, directory) = (home.path().join("elsewhere"), home.path().join("scripts"));
        std::fs::write(&elsewhere, "mine").expect("can be written");
        create_private(&directory).expect("can be made");
        symlink(&elsewhere, directory.join(".x.py.tmp")).expect("can be linked");
        write(&directory, "x.py", b"new").expect("can be written");
        assert_eq!(std::fs::read_to_string(elsewhere).expect("is there"), "mine");
    }

    #[test]
    fn only_a_regular_file_is_opened() {
        let home = tempfile::tempdir().expect("a directory");
        let path = |name: &str| home.path().join(name);
        std::fs::write(path("file"), "x").expect("can be written");
        symlink(path("file"), path("link")).expect("can be linked");
        symlink("/dev/zero", path("device")).expect("can be linked");
        std::fs::create_dir(path("directory")).expect("can be made");
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .expect("can be made");
        for name in ["link", "device", "directory", "pipe"] {
            assert!(matches!(open(&path(name)), Ok(Found::NoFile)), "{name}");
        }
        assert!(matches!(open(&path("missing")), Ok(Found::Nothing)));
        let Ok(Found::File(mut file, _)) = open(&path("file")) else { panic!("it is a file") };
        assert_eq!(beginning(&mut file, 9).expect("can be read"), b"x");
    }

    #[test]
    fn the_name_of_what_is_unfinished_says_what_it_would_become() {
        for (name, of) in [(".x.py.tmp", Some("x.py")), ("x.py.tmp", None), (".x.py", None), (".tmp", None)] {
            assert_eq!(unfinished(name), of, "{name}");
        }
    }
}
