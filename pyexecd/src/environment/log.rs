//! What the preparation of an environment says goes to the front of the job's stderr, before there is a supervisor.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

use pyexec_proto::output::{OutputLengths, Stream};
use rustix::fs::OFlags;
use tokio::sync::watch;

use pyexec_run_directory::record::private_file;
use pyexec_run_directory::segment;

/// Appends to the first segment of a job's stderr, and tells those who follow it.
#[derive(Debug)]
pub struct PreparationLog {
    /// `None`: nobody keeps it.
    target: Option<Target>,
}

#[derive(Debug)]
struct Target {
    path: PathBuf,
    file: Mutex<Option<File>>,
    lengths: watch::Sender<OutputLengths>,
}

/// The job's own output must still begin in the first segment.
const LIMIT_BYTES: u64 = segment::BYTES / 2;

impl PreparationLog {
    pub fn of_job(run_directory: &std::path::Path, lengths: watch::Sender<OutputLengths>) -> Self {
        let path = run_directory.join(segment::name(Stream::Stderr, 0));
        Self { target: Some(Target { path, file: Mutex::new(None), lengths }) }
    }

    pub fn of_nobody() -> Self {
        Self { target: None }
    }

    /// Best effort: a disk that is full is found out by the preparation itself.
    pub fn append(&self, bytes: &[u8]) {
        let Some(target) = &self.target else { return };
        let mut file = target.file.lock().expect("nothing panics while it is held");
        if file.is_none() {
            // Not before there is something to say: a job that says nothing has no stderr.
            *file = private_file(&target.path, OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY).ok();
        }
        let Some(open) = file.as_mut() else { return };
        let Ok(length) = open.metadata().map(|data| data.len()) else { return };
        if length + bytes.len() as u64 > LIMIT_BYTES || open.write_all(bytes).is_err() {
            return;
        }
        target.lengths.send_modify(|lengths| lengths.stderr = length + bytes.len() as u64);
    }

    pub fn line(&self, text: &str) {
        self.append(format!("{text}\n").as_bytes());
    }
}
