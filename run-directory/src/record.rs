//! The files a supervisor leaves in its run directory, and their names.
//!
//! JSON with a version, and only ever added to: a supervisor outlives an upgrade of the daemon, and a daemon reads what
//! an older supervisor wrote.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use pyexec_proto::state::ExitRecord;
use pyexec_proto::{JobId, OsText};
use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::regular_file;

/// Held for as long as the supervisor lives.
pub const LOCK: &str = "lock";
/// Who the supervisor is. That it exists means: this job has been started, and must never be again.
pub const IDENTITY: &str = "supervisor.json";
/// How it ended. The truth.
pub const ENDING: &str = "exit.json";
/// The job's environment, until the moment its supervisor starts it. Unlinking it is the permission to start.
pub const ENVIRONMENT: &str = "environment";
/// The text for the job's stdin, until the supervisor has opened it.
pub const STDIN: &str = "stdin";
/// What a panicking supervisor says.
pub const PANIC: &str = "supervisor.panic";

const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    version: u32,
    pub job: JobId,
    pub pid: u32,
    /// In clock ticks since boot; with the boot id it tells this process from any other.
    pub started: u64,
    pub boot_id: String,
    /// Of the program, for people.
    pub program_version: String,
    pub control_socket: OsText,
}

impl Identity {
    pub fn new(job: JobId, pid: u32, started: u64, boot_id: String, control_socket: OsText) -> Self {
        let program_version = env!("CARGO_PKG_VERSION").to_owned();
        Self { version: FORMAT, job, pid, started, boot_id, program_version, control_socket }
    }
}

/// What `exit.json` says: the record of a run, or why there was none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    version: u32,
    #[serde(flatten)]
    pub what: WhatEnded,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhatEnded {
    Run(ExitRecord),
    SpawnFailed(String),
}

impl From<WhatEnded> for Ending {
    fn from(what: WhatEnded) -> Self {
        Self { version: FORMAT, what }
    }
}

/// Why a file of a run directory could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("could not read {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is damaged: {problem}", path.display())]
    Damaged { path: PathBuf, problem: String },
}

/// Of a file that is there, and does not say what it should.
pub fn damaged(path: &Path, problem: impl std::fmt::Display) -> ReadError {
    ReadError::Damaged { path: path.to_owned(), problem: problem.to_string() }
}

/// Reads one of the JSON files; `None` when it is not there.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ReadError> {
    // Larger than any we write, so that a foreign file of gigabytes is not taken into memory.
    const LIMIT: u64 = 64 << 20;
    let io_error = |source| ReadError::Io { path: path.to_owned(), source };
    let file = match regular_file::open(path) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(None),
        Err(error) if regular_file::is_foreign(&error) => return Err(damaged(path, error)),
        Err(error) => return Err(io_error(error)),
    };
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, LIMIT), &mut text).map_err(io_error)?;
    serde_json::from_slice(&text).map(Some).map_err(|error| damaged(path, error))
}

/// Writes `value` so that `name` is whole or absent however this process dies, and durable once this returns.
///
/// Renamed first and synced then: one commit of the journal makes both the content and the name durable. A machine that
/// loses power in between may keep the name of an empty file, which reads as damaged: as much is known as without it.
pub fn write_durably<T: Serialize>(directory: &Path, name: &str, value: &T) -> io::Result<()> {
    write_atomically(directory, name, value)?.sync_all()
}

/// Writes `value` so that `name` is whole or absent however this process dies.
pub fn write_atomically<T: Serialize>(directory: &Path, name: &str, value: &T) -> io::Result<File> {
    let temporary = temporary(directory, name);
    let mut file = private_file(&temporary, OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    std::fs::rename(&temporary, directory.join(name))?;
    Ok(file)
}

/// Takes away what a supervisor that was killed had not finished writing.
pub fn remove_unfinished(directory: &Path) -> io::Result<()> {
    [IDENTITY, ENDING].iter().try_for_each(|name| remove_temporary(directory, name))
}

/// Takes away what was left by a writer of `name` that was killed in [`write_atomically`]; there must be none now.
pub fn remove_temporary(directory: &Path, name: &str) -> io::Result<()> {
    match std::fs::remove_file(temporary(directory, name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn temporary(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.tmp"))
}

/// The record's file with its space already taken, so that it can still be written when the disk has filled up.
#[derive(Debug)]
pub struct ReservedRecord {
    /// Without one there was no room to begin with; it is looked for again when there is something to write.
    file: Option<File>,
}

impl ReservedRecord {
    const BYTES: u64 = 4096;
    const TEMPORARY: &str = "exit.json.tmp";

    /// `more` bytes beyond what every record may need.
    pub fn reserve(more: u64) -> Self {
        let file = Self::create().ok();
        if let Some(file) = &file {
            // A file system without fallocate has to find the space later, as it would have had to anyway.
            let _ = rustix::fs::fallocate(file, FallocateFlags::empty(), 0, Self::BYTES + more);
        }
        Self { file }
    }

    fn create() -> io::Result<File> {
        private_file(Path::new(Self::TEMPORARY), OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY)
    }

    /// Can be called again after a failure.
    pub fn write(&mut self, ending: &Ending) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let text = serde_json::to_vec(ending)?;
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(Self::create()?),
        };
        file.write_all_at(&text, 0)?;
        file.set_len(text.len() as u64)?;
        // As in `write_durably`. Repeated after a failure, it may have its name already.
        match std::fs::rename(Self::TEMPORARY, ENDING) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && Path::new(ENDING).exists() => {}
            renamed => renamed?,
        }
        file.sync_all()
    }
}

/// Opens a file only its user can read.
pub fn private_file(path: &Path, how: OFlags) -> io::Result<File> {
    Ok(rustix::fs::open(path, how | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::RUSR | Mode::WUSR)?.into())
}

/// Takes the lock of a run directory; `None` when somebody has it.
pub fn try_lock(directory: &Path) -> io::Result<Option<File>> {
    let file = private_file(&directory.join(LOCK), OFlags::CREATE | OFlags::RDWR)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyexec_proto::Timestamp;
    use pyexec_proto::exit::ExitStatus;
    use pyexec_proto::state::Run;

    #[test]
    fn an_ending_reads_as_it_was_written() {
        let record = ExitRecord {
            run: Run::of_process(5, Timestamp(1)),
            exit: ExitStatus::Signal { signal: 9, core_dumped: false },
            stopped: None,
            usage: Default::default(),
            ended_at: Timestamp(2),
            elapsed_us: 1,
            output: Default::default(),
            benchmark: None,
        };
        let directory = tempfile::tempdir().expect("a directory");
        for what in [WhatEnded::Run(record), WhatEnded::SpawnFailed("no".into())] {
            let ending = Ending::from(what);
            write_durably(directory.path(), ENDING, &ending).expect("can be written");
            let read: Ending = read(&directory.path().join(ENDING)).expect("can be read").expect("is there");
            assert_eq!(read, ending);
        }
    }

    /// Written before jobs could be measured.
    #[test]
    fn the_record_of_an_older_supervisor_is_read() {
        let old = concat!(
            r#"{"version":1,"run":{"run":{"pid":5,"started_at":1},"exit":{"Code":3},"stopped":"Cancelled","#,
            r#""usage":{"user_us":1,"system_us":2,"max_rss_kib":3,"minor_faults":4,"major_faults":5,"#,
            r#""voluntary_switches":6,"involuntary_switches":7,"blocks_read":8,"blocks_written":9},"#,
            r#""ended_at":2,"elapsed_us":1,"output":{"stdout":10,"stderr":0}}}"#,
        );
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(ENDING);
        std::fs::write(&path, old).expect("can be written");
        let Some(Ending { what: WhatEnded::Run(record), .. }) = read(&path).expect("can be read") else {
            panic!("it tells of a run");
        };
        assert_eq!((record.exit.returncode(), record.output.stdout, record.benchmark), (3, 10, None));
    }

    #[test]
    fn an_absent_file_is_no_error_and_a_damaged_one_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(IDENTITY);
        assert!(matches!(read::<Identity>(&path), Ok(None)));
        std::fs::write(&path, b"{\"version\":1,").expect("can be written");
        assert!(matches!(read::<Identity>(&path), Err(ReadError::Damaged { .. })));
    }

    #[test]
    fn a_lock_is_held_by_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let held = try_lock(directory.path()).expect("works");
        assert!(held.is_some());
        assert!(try_lock(directory.path()).expect("works").is_none());
        drop(held);
        assert!(try_lock(directory.path()).expect("works").is_some());
    }
}
