//! The state that a server hands over to the newer one that takes over its stdin and stdout.
//!
//! The newer program is executed in place of this one, with `--handover FD`. The descriptor is an unnamed file in
//! memory: its first line is [`State`] as JSON, and the rest is the input that was read but not handled. Programs of
//! different versions exchange it, so members are only ever added, each with a default.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use pyexec_proto::JobId;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::FdFlags;
use serde::{Deserialize, Serialize};

/// The option that names the descriptor.
pub(crate) const OPTION: &str = "--handover";

/// The largest state that is accepted, in bytes: more than all requests and lines together, which are bounded.
const MOST_BYTES: u64 = 1 << 29;

/// The session state that the next server needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The line of `initialize`, in sessions that began with a handshake.
    #[serde(default)]
    pub(super) initialize: Option<String>,
    /// Whether `notifications/initialized` has arrived.
    #[serde(default)]
    pub(super) is_initialized: bool,
    /// The URIs subscribed to by the method of the handshake versions.
    #[serde(default)]
    pub(super) subscribed: Vec<String>,
    /// The lines of open `subscriptions/listen` requests.
    #[serde(default)]
    pub(super) listens: Vec<String>,
    /// The requests that the next server has to answer.
    #[serde(default)]
    pub(super) requests: Vec<PutOff>,
    /// The lowest protocol of the daemon. A next server that does not speak it does not hand over again.
    #[serde(default)]
    pub(super) daemon_protocol: u16,
    /// The input that was read but not handled.
    #[serde(skip)]
    pub(super) unread: Vec<u8>,
}

/// A request that the next server answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PutOff {
    pub(super) line: String,
    /// The job that it has started. The next server waits for it instead of starting it again.
    #[serde(default)]
    pub(super) job: Option<JobId>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TakingOverError {
    #[error("cannot take over from an older server: {0}")]
    Read(#[from] io::Error),
    #[error("cannot take over from an older server: its state has more than {MOST_BYTES} bytes")]
    TooLarge,
    #[error("cannot take over from an older server: its state cannot be read: {0}")]
    Format(#[from] serde_json::Error),
}

impl State {
    fn write_to(&self, file: &mut impl Write) -> io::Result<()> {
        let head = serde_json::to_vec(self)?;
        file.write_all(&[&head, b"\n".as_slice()].concat())?;
        file.write_all(&self.unread)
    }

    fn read_from(file: impl Read) -> Result<Self, TakingOverError> {
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(TakingOverError::TooLarge);
        }
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let state: State = serde_json::from_slice(&bytes[..end])?;
        Ok(Self { unread: bytes.split_off(bytes.len().min(end + 1)), ..state })
    }

    /// Reads the state that an older server has left in the descriptor of this number.
    pub(crate) fn from_descriptor(descriptor: u32) -> Result<Self, TakingOverError> {
        let mut file = File::options().read(true).write(true).open(format!("/proc/self/fd/{descriptor}"))?;
        let state = Self::read_from(&mut file)?;
        // The number stays open, and processes started by this one inherit it, so the file is emptied.
        file.set_len(0)?;
        Ok(state)
    }
}

/// Executes `program` in place of this process. Returns only on failure, and then nothing has changed.
pub(super) fn execute(program: &Path, stdin: &OwnedFd, stdout: &OwnedFd, state: &State) -> io::Error {
    let Err(error) = try_execute(program, stdin, stdout, state);
    if let Err(error) = super::stdio::lead_elsewhere() {
        tracing::error!("stdin and stdout are no longer protected from other code: {error}");
    }
    error
}

fn try_execute(program: &Path, stdin: &OwnedFd, stdout: &OwnedFd, state: &State) -> io::Result<Infallible> {
    let mut file = File::from(memfd_create("pyexec-mcp", MemfdFlags::CLOEXEC)?);
    state.write_to(&mut file)?;
    file.seek(SeekFrom::Start(0))?;
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::io::fcntl_setfd(&file, FdFlags::empty())?;
    let arguments = without_option(std::env::args_os().skip(1));
    // The kernel closes all other descriptors.
    Err(Command::new(program).args(arguments).arg(OPTION).arg(file.as_raw_fd().to_string()).exec())
}

/// The arguments of this process without the option of the takeover.
fn without_option(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if argument == OPTION {
            // The value of the option.
            arguments.next();
        } else {
            kept.push(argument);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_read_as_it_was_written() {
        let state = State {
            initialize: Some("{\"id\":1}".to_owned()),
            is_initialized: true,
            subscribed: vec!["job-stream://x".to_owned()],
            listens: vec!["{\"id\":2}".to_owned()],
            requests: vec![PutOff { line: "{\"id\":\"\\n\"}".to_owned(), job: Some(JobId::mint()) }],
            daemon_protocol: 7,
            unread: b"{\"id\":3}\n\xff{".to_vec(),
        };
        let mut written = Vec::new();
        state.write_to(&mut written).expect("memory takes it");
        assert_eq!(State::read_from(written.as_slice()).expect("can be read"), state);
        for unread in [b"".as_slice(), b"\n", b"\n\n"] {
            let state = State { unread: unread.to_vec(), ..State::default() };
            let mut written = Vec::new();
            state.write_to(&mut written).expect("memory takes it");
            assert_eq!(State::read_from(written.as_slice()).expect("can be read"), state);
        }
    }

    /// As the first version that did so wrote it, and as a later one may.
    #[test]
    fn what_other_versions_leave_is_read() {
        let first = br#"{"initialize":"{}","is_initialized":true,"subscribed":["job-stream://1"],"listens":["{}"],"requests":[{"line":"{}","job":"0198c7a3-9d2e-7c11-8000-0123456789ab"},{"line":"[]","job":null}],"daemon_protocol":4}
unread"#;
        let read = State::read_from(first.as_slice()).expect("can be read");
        assert_eq!((read.requests.len(), read.daemon_protocol, read.unread.as_slice()), (2, 4, b"unread".as_slice()));
        assert!(read.requests[0].job.is_some() && read.requests[1].job.is_none(), "{read:?}");
        assert_eq!(read.subscribed, ["job-stream://1"]);
        let later = br#"{"initialize":null,"more":{"x":1},"requests":[{"line":"{}","more":1}]}"#;
        let read = State::read_from(later.as_slice()).expect("can be read");
        assert_eq!(read.requests, [PutOff { line: "{}".to_owned(), job: None }]);
        assert!(State::read_from(b"garbage".as_slice()).is_err());
    }

    #[test]
    fn the_next_server_gets_the_same_arguments() {
        let arguments = |given: &[&str]| without_option(given.iter().map(OsString::from));
        assert_eq!(
            arguments(&["--structured", OPTION, "5", "--toolset", "core"]),
            ["--structured", "--toolset", "core"]
        );
        assert_eq!(arguments(&["--structured", OPTION]), ["--structured"]);
    }
}
