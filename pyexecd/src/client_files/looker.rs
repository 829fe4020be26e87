//! The process that looks at files for the daemon: `pyexecd look`. It answers one question after the other, and may be
//! held up by any of them; the daemon then ends it.
//!
//! A thread would not do. One that waits for a file system cannot be ended, and others who look up the same name, a job
//! among them, wait behind it in the kernel and cannot be ended either.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use pyexec_proto::OsText;
use rustix::fs::{Access, Mode, OFlags};
use serde::{Deserialize, Serialize};

use pyexec_run_directory::control::{decode, encode};
use pyexec_sys::{forget_starter, return_large_memory};

/// The word on the command line that makes this program a looker.
pub(crate) const VERB: &str = "look";

/// More names than this are not listed.
const MOST_NAMES: usize = 100_000;

/// What a path turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    File,
    Directory,
    Pipe,
    Socket,
    Device,
}

impl Kind {
    fn of(found: &Metadata) -> Self {
        let kind = found.file_type();
        if kind.is_dir() {
            Kind::Directory
        } else if kind.is_fifo() {
            Kind::Pipe
        } else if kind.is_socket() {
            Kind::Socket
        } else if kind.is_char_device() || kind.is_block_device() {
            Kind::Device
        } else {
            Kind::File
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::File => "regular file",
            Kind::Directory => "directory",
            Kind::Pipe => "pipe",
            Kind::Socket => "socket",
            Kind::Device => "device",
        })
    }
}

/// What the daemon asks. Both sides are the same program, so that this is no format that lasts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Question {
    Kind {
        path: OsText,
    },
    /// Of many names in few directories.
    Kinds {
        paths: Vec<OsText>,
    },
    Beginning {
        path: OsText,
        most: u64,
    },
    /// Which of them is the first file that may be executed.
    FirstExecutable {
        paths: Vec<OsText>,
    },
    Identity {
        path: OsText,
    },
    Canonical {
        path: OsText,
    },
    Names {
        path: OsText,
    },
    /// Each of these files up to so many bytes, all at once.
    Contents {
        paths: Vec<OsText>,
        most: u64,
    },
    /// What is in a directory, and which file each name stands for.
    Entries {
        path: OsText,
    },
}

/// What a path has to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Found {
    Nothing,
    /// So many bytes of the payload, following those of the paths before.
    Bytes(u64),
    NotAFile(Kind),
    TooLarge,
    Failed {
        code: Option<i32>,
        problem: String,
    },
}

/// A name in a directory, and what tells that it still stands for the same file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: OsText,
    pub(crate) inode: u64,
    /// In nanoseconds since 1970.
    pub(crate) modified: i64,
    pub(crate) bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Not an answer yet: the path of this number is looked at next.
    Looking {
        index: usize,
    },
    Kind(Option<Kind>),
    Kinds(Vec<Option<Kind>>),
    /// The bytes follow as the payload.
    Bytes,
    NotAFile(Kind),
    FirstExecutable(Option<usize>),
    /// Inode, and time of the last change in nanoseconds since 1970.
    Identity(Option<(u64, i64)>),
    Canonical(OsText),
    Names(Vec<OsText>),
    /// One for each path. What was read follows as the payload.
    Contents(Vec<Found>),
    Entries(Vec<Entry>),
    Failed {
        code: Option<i32>,
        problem: String,
    },
}

/// Serves on its stdin until the daemon closes it.
pub(crate) fn look() -> ExitCode {
    forget_starter(3);
    return_large_memory();
    let _ = rustix::thread::set_name(c"pyexec-look");
    // The next daemon has its own, and nobody else would end one that is held up.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let served = io::stdin().as_fd().try_clone_to_owned().and_then(|stdin| serve(UnixStream::from(stdin)));
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(super) fn serve(mut daemon: UnixStream) -> io::Result<()> {
    let (mut received, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        if let Some((question, _)) = decode::<Question>(&mut received)? {
            let (answer, bytes) = answer(&question, &mut daemon);
            daemon.write_all(&encode(&answer, &bytes))?;
            continue;
        }
        match daemon.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => received.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn answer(question: &Question, daemon: &mut UnixStream) -> (Answer, Vec<u8>) {
    let answered = match question {
        Question::Kind { path } => metadata(path.as_path()).map(|found| Answer::Kind(found.as_ref().map(Kind::of))),
        Question::Kinds { paths } => {
            let kind = |path: &OsText| metadata(path.as_path()).ok().flatten().as_ref().map(Kind::of);
            Ok(Answer::Kinds(paths.iter().map(kind).collect()))
        }
        Question::Beginning { path, most } => match beginning(path.as_path(), *most) {
            Ok(Ok(bytes)) => return (Answer::Bytes, bytes),
            Ok(Err(other)) => Ok(Answer::NotAFile(other)),
            Err(error) => Err(error),
        },
        Question::FirstExecutable { paths } => first_executable(paths, daemon),
        Question::Identity { path } => {
            metadata(path.as_path()).map(|found| Answer::Identity(found.as_ref().map(identity)))
        }
        Question::Canonical { path } => path.as_path().canonicalize().map(|path| Answer::Canonical(path.into())),
        Question::Names { path } => names(path.as_path()),
        Question::Contents { paths, most } => match contents(paths, *most, daemon) {
            Ok((found, bytes)) => return (Answer::Contents(found), bytes),
            Err(error) => Err(error),
        },
        Question::Entries { path } => entries(path.as_path()),
    };
    let failed = |error: io::Error| Answer::Failed { code: error.raw_os_error(), problem: error.to_string() };
    (answered.unwrap_or_else(failed), Vec::new())
}

/// With links followed.
fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn identity(found: &Metadata) -> (u64, i64) {
    (found.ino(), found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec()))
}

fn first_executable(paths: &[OsText], daemon: &mut UnixStream) -> io::Result<Answer> {
    for (index, path) in paths.iter().enumerate() {
        daemon.write_all(&encode(&Answer::Looking { index }, &[]))?;
        let is_file = metadata(path.as_path()).is_ok_and(|found| found.is_some_and(|found| found.is_file()));
        if is_file && rustix::fs::access(path.as_path(), Access::EXEC_OK).is_ok() {
            return Ok(Answer::FirstExecutable(Some(index)));
        }
    }
    Ok(Answer::FirstExecutable(None))
}

/// A regular file up to so many bytes; of anything else its kind.
fn beginning(path: &Path, most: u64) -> io::Result<Result<Vec<u8>, Kind>> {
    // Looked at before: opening a device can set something off, and opening a pipe lets its writer go on.
    let found = Kind::of(&std::fs::metadata(path)?);
    if found != Kind::File {
        return Ok(Err(found));
    }
    let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, how, Mode::empty())?);
    // It may have been replaced in between.
    let found = Kind::of(&file.metadata()?);
    if found != Kind::File {
        return Ok(Err(found));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(Ok(bytes))
}

/// More than this is not read of several files together: an answer is one frame.
const MOST_CONTENTS: u64 = 24 << 20;

fn contents(paths: &[OsText], most: u64, daemon: &mut UnixStream) -> io::Result<(Vec<Found>, Vec<u8>)> {
    let (mut found, mut bytes) = (Vec::with_capacity(paths.len()), Vec::new());
    for (index, path) in paths.iter().enumerate() {
        if begins_tree(paths, index) {
            daemon.write_all(&encode(&Answer::Looking { index }, &[]))?;
        }
        let left = most.min(MOST_CONTENTS.saturating_sub(bytes.len() as u64));
        found.push(match beginning(path.as_path(), left + 1) {
            Ok(Ok(read)) if read.len() as u64 > left => Found::TooLarge,
            Ok(Ok(read)) => {
                bytes.extend_from_slice(&read);
                Found::Bytes(read.len() as u64)
            }
            Ok(Err(kind)) => Found::NotAFile(kind),
            Err(error) if is_not_found(&error) => Found::Nothing,
            Err(error) => Found::Failed { code: error.raw_os_error(), problem: error.to_string() },
        });
    }
    Ok((found, bytes))
}

/// Whether this path lies elsewhere than the one before it: neither beside it, nor above it. Paths that go up from one
/// directory are looked up through the same file systems.
pub(super) fn begins_tree(paths: &[OsText], index: usize) -> bool {
    let Some(before) = index.checked_sub(1).and_then(|before| paths.get(before)) else { return true };
    let parent = paths[index].as_path().parent().unwrap_or(Path::new("/"));
    !before.as_path().starts_with(parent)
}

fn entries(path: &Path) -> io::Result<Answer> {
    let mut found = Vec::new();
    for entry in path.read_dir()?.take(MOST_NAMES) {
        let entry = entry?;
        // With links followed: the target is what is read. One that leads nowhere has only its name.
        let data = std::fs::metadata(entry.path()).ok();
        let (inode, modified) = data.as_ref().map_or((0, 0), identity);
        let bytes = data.map_or(0, |data| data.len());
        found.push(Entry { name: OsText::from(entry.file_name().as_os_str()), inode, modified, bytes });
    }
    Ok(Answer::Entries(found))
}

fn names(path: &Path) -> io::Result<Answer> {
    let entries = path.read_dir()?.take(MOST_NAMES);
    let names = entries.map(|entry| entry.map(|entry| OsText::from(entry.file_name().as_os_str())));
    names.collect::<io::Result<_>>().map(Answer::Names)
}

pub(super) fn is_not_found(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
