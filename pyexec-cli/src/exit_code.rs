//! The only place that turns what happened into an exit code.
//! What each code means is said once, in [`MEANINGS`]; `docs/exit-codes.md` is made from it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use pyexec_client::ClientError;
use pyexec_proto::error::{Error, Named};
use pyexec_proto::exit::ExitStatus;
use pyexec_proto::paths::NoHome;
use pyexec_proto::state::{NotStarted, Outcome, StopReason};
use pyexec_proto::{JobDetail, JobId};

use crate::advice::Advice;
use crate::render;
use crate::terminal::OutputError;

/// An exit code as the kernel keeps it.
pub(crate) type Code = u8;

pub(crate) const SUCCESS: Code = 0;
const PROBLEM_FOUND: Code = 1;
const STOPPED_SHORT: Code = 1;
const USAGE: Code = 2;
const NOT_RUNNING: Code = 3;
const TIMED_OUT: Code = 124;
const PYEXEC_FAILED: Code = 125;
const NOT_STARTED: Code = 126;
const NOT_FOUND: Code = 127;
const INTERRUPTED: Code = 130;
const BROKEN_PIPE: Code = 128 + 13;
const HUNG_UP: Code = 128 + 1;
const TERMINATED: Code = 128 + 15;

/// What the codes mean that are not the script's own, in ascending order.
pub(crate) const MEANINGS: [(&[Code], &str); 9] = [
    (&[PROBLEM_FOUND], "`pyexec doctor` found a problem, or a limit ended a job that then exited with 0"),
    (&[USAGE], "the command line is wrong, or an id fits several jobs"),
    (&[NOT_RUNNING], "`pyexec daemon status`: no daemon runs (`systemctl status` uses the same code)"),
    (&[TIMED_OUT], "the job was timed out"),
    (&[PYEXEC_FAILED], "pyexec itself failed, or it is not known how the job ended"),
    (&[NOT_STARTED], "the script could not be started, for example because its environment cannot be built"),
    (&[NOT_FOUND], "no such job, script, directory or artifact; or the files of the job were removed"),
    (
        &[HUNG_UP, INTERRUPTED, TERMINATED],
        "`pyexec` received SIGHUP, SIGINT or SIGTERM; 130 also if somebody cancelled a job that then exited with 0",
    ),
    (&[BROKEN_PIPE], "whoever read the output of `pyexec` has left (SIGPIPE)"),
];

/// An error that one verb alone raises, declared beside the code that does. It makes the program exit with 125.
pub(crate) trait VerbError: std::error::Error + Send + Sync + 'static {
    /// What the reader can do about it; nothing where the message says it all.
    fn hint(&self) -> Option<String>;
}

impl<E: VerbError> From<E> for Failure {
    fn from(error: E) -> Self {
        let hint = error.hint();
        Failure::Verb(VerbFailure { error: Box::new(error), hint })
    }
}

/// Any [`VerbError`], with its causes.
#[derive(Debug)]
pub(crate) struct VerbFailure {
    error: Box<dyn std::error::Error + Send + Sync>,
    hint: Option<String>,
}

impl VerbFailure {
    /// The error itself, if it is of that type.
    pub(crate) fn as_error<E: VerbError>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }
}

impl fmt::Display for VerbFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for VerbFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        match error {
            OutputError::Stdout(source) => Failure::Output(source),
            OutputError::File { path, source } => Failure::Export { path, source },
        }
    }
}

/// Why a verb could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    NoHome(#[from] NoHome),
    /// What one verb alone can fail with.
    #[error(transparent)]
    Verb(VerbFailure),
    #[error("{problem}")]
    Usage { problem: String, hint: String },
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// Our own stdout, or a terminal that went away.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    #[error("cannot read stdin")]
    Stdin(#[source] io::Error),
    #[error("stdin is larger than {limit} bytes")]
    StdinTooLarge { limit: usize },
    #[error("cannot read the {what} {}", path.display())]
    Unreadable { what: Named, path: PathBuf, source: io::Error },
    #[error("the current directory no longer exists")]
    NoCurrentDirectory(#[source] io::Error),
    #[error("job {id} accepted {taken} of {given} bytes: its input buffer is full")]
    InputBufferFull { id: JobId, taken: u64, given: u64 },
    #[error("job {id} has not ended within {} s: {problem}", limit.as_secs())]
    NotEnded { id: JobId, limit: Duration, problem: String },
    #[error("the daemon reported that job {id} has finished, but no outcome")]
    NoOutcome { id: JobId },
    #[error("the daemon (process {pid}) did not exit within {} s", limit.as_secs())]
    DaemonStays { pid: u32, limit: Duration },
    #[error("cannot read {}", path.display())]
    DaemonFile { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Export { path: PathBuf, source: io::Error },
    /// There is no sample of it.
    #[error("{what} has no samples to draw: it was not benchmarked, or ended before the first sample")]
    NothingToDraw { what: String },
    #[error("no daemon log in {}", directory.display())]
    NoDaemonLog { directory: PathBuf },
    /// Each has been named.
    #[error("{number} {what} could not be removed")]
    NotRemoved { number: u64, what: &'static str },
}

impl Failure {
    /// What the reader can do about it; nothing where the message says it all.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Failure::Client(error) => error.hint(),
            Failure::Verb(error) => error.hint.clone(),
            Failure::Usage { hint, .. } => Some(hint.clone()),
            Failure::NoHome(error) => Some(error.hint()),
            Failure::StdinTooLarge { .. } => Some("write the data to a file, and open that in the script".into()),
            Failure::Unreadable { what: Named::Script, .. } => {
                Some("name a file, or give `-` to read it from stdin".into())
            }
            Failure::Unreadable { .. } => Some("check the path and its permissions".into()),
            Failure::NoCurrentDirectory(_) => Some("change to a directory that exists, or name one with --dir".into()),
            Failure::NotEnded { id, .. } => Some(format!(
                "the daemon keeps trying: `pyexec wait {id}` waits for the job, `pyexec show {id}` shows its state"
            )),
            Failure::InputBufferFull { .. } => Some("send the rest after the job has read some of its input".into()),
            Failure::DaemonStays { pid, .. } => Some(format!(
                "`kill -KILL {pid}` ends it; running jobs are not affected, and the next call starts a new daemon"
            )),
            Failure::NoOutcome { .. } => {
                Some("see `pyexec daemon logs`; running jobs are not affected".into())
            }
            Failure::NoDaemonLog { .. } => Some("`pyexec daemon start` starts a daemon, which writes one".into()),
            Failure::Export { .. } => Some("choose a file in an existing, writable directory".into()),
            Failure::NothingToDraw { .. } => Some(
                "`pyexec bench` samples a script; use --sample-interval 1ms for short scripts".into(),
            ),
            Failure::NotRemoved { .. } => Some(
                "everything else was removed; the notes name the files in the way: delete them as their owner, then prune again".into(),
            ),
            Failure::Thread(_) => {
                Some("this user may have reached the limit on processes (`ulimit -u`), which counts threads".into())
            }
            Failure::Runtime(_) | Failure::Output(_) | Failure::Stdin(_) | Failure::DaemonFile { .. } => None,
        }
    }

    /// The code to exit with.
    pub(crate) fn code(&self) -> Code {
        match self {
            Failure::Client(error) => of_client_error(error),
            Failure::Usage { .. } => USAGE,
            Failure::NoCurrentDirectory(_) => NOT_FOUND,
            Failure::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => BROKEN_PIPE,
            Failure::NoHome(_)
            | Failure::Verb(_)
            | Failure::NotRemoved { .. }
            | Failure::Runtime(_)
            | Failure::Thread(_)
            | Failure::Output(_)
            | Failure::Stdin(_)
            | Failure::StdinTooLarge { .. }
            | Failure::Export { .. }
            | Failure::NothingToDraw { .. }
            | Failure::Unreadable { .. }
            | Failure::InputBufferFull { .. }
            | Failure::NotEnded { .. }
            | Failure::NoOutcome { .. }
            | Failure::DaemonStays { .. }
            | Failure::DaemonFile { .. }
            | Failure::NoDaemonLog { .. } => PYEXEC_FAILED,
        }
    }

    /// Whether there is nobody to tell: whoever read our output has seen enough.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn of_client_error(error: &ClientError) -> Code {
    match error {
        ClientError::Refused(refusal) => of_refusal(refusal),
        ClientError::NotRunning
        | ClientError::Start(_)
        | ClientError::ForeignDirectory(_)
        | ClientError::Elsewhere(_)
        | ClientError::NoProc
        | ClientError::Unanswered { .. }
        | ClientError::Connect { .. }
        | ClientError::ForeignDaemon { .. }
        | ClientError::Preamble { .. }
        | ClientError::Version { .. }
        | ClientError::Unresponsive { .. }
        | ClientError::OtherState { .. }
        | ClientError::Late { .. }
        | ClientError::Broken { .. }
        | ClientError::TooLarge => PYEXEC_FAILED,
    }
}

fn of_refusal(error: &Error) -> Code {
    match error {
        Error::AmbiguousJob { .. } | Error::InvalidArgument { .. } => USAGE,
        Error::NoSuchJob { .. }
        | Error::NotFound { .. }
        | Error::NoArtifact { .. }
        | Error::BeingRemoved { .. }
        | Error::OutputRemoved { .. } => NOT_FOUND,
        Error::Environment { .. } | Error::NoFence { .. } | Error::OtherWorld { .. } => NOT_STARTED,
        Error::IdTaken { .. }
        | Error::NoInput { .. }
        | Error::Fenced { .. }
        | Error::ShuttingDown
        | Error::Storage { .. } => PYEXEC_FAILED,
    }
}

/// A signal that told us to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interruption {
    Interrupt,
    Terminate,
    HangUp,
}

/// As a shell says it of a program that the signal ended.
pub(crate) fn of_interruption(interruption: Interruption) -> Code {
    match interruption {
        Interruption::HangUp => HUNG_UP,
        Interruption::Interrupt => INTERRUPTED,
        Interruption::Terminate => TERMINATED,
    }
}

/// `daemon status`.
pub(crate) fn of_daemon(running: bool) -> Code {
    if running { SUCCESS } else { NOT_RUNNING }
}

/// `doctor`: warnings are none of its business.
pub(crate) fn of_doctor(problem_found: bool) -> Code {
    if problem_found { PROBLEM_FOUND } else { SUCCESS }
}

/// How a job ended, as `run` and `wait` tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) code: Code,
    /// What the code alone does not say.
    pub(crate) problem: Option<String>,
}

impl Ending {
    /// Of a job that has finished.
    pub(crate) fn of(job: &JobDetail) -> Result<Self, Failure> {
        let outcome = job.state.outcome().ok_or(Failure::NoOutcome { id: job.id })?;
        let problem = match outcome {
            Outcome::Ended(record) if record.stopped == Some(StopReason::TimedOut) => Some(timed_out(job)),
            Outcome::Ended(record) if record.stopped.is_some_and(|why| why.limit().is_some()) => outcome.explanation(),
            Outcome::Ended(record) if record.stopped.is_none() => record.problem().map(str::to_owned),
            Outcome::NotStarted(NotStarted::Stopped(StopReason::TimedOut)) => Some(timed_out(job)),
            Outcome::NotStarted(NotStarted::Environment(why)) => Some(format!("cannot build the environment: {why}")),
            Outcome::NotStarted(NotStarted::Spawn(why)) => Some(format!("cannot start the job: {why}")),
            Outcome::Lost { .. } => Some(match outcome.explanation() {
                Some(why) => format!("job {} is lost: {why}", job.id),
                None => format!("job {} is lost", job.id),
            }),
            Outcome::NotStarted(NotStarted::Stopped(_)) | Outcome::Ended(_) => None,
        };
        Ok(Self { code: of_outcome(outcome), problem })
    }
}

fn timed_out(job: &JobDetail) -> String {
    match job.spec.timeout_ms {
        Some(limit) => format!("timed out after {}", render::duration(Duration::from_millis(limit))),
        None => "timed out".to_owned(),
    }
}

fn of_outcome(outcome: &Outcome) -> Code {
    match outcome {
        Outcome::Ended(record) => match record.stopped {
            Some(StopReason::TimedOut) => TIMED_OUT,
            // Somebody else ended it; that it may have left with 0 does not make it a success.
            Some(StopReason::Cancelled | StopReason::Killed) => match of_exit(record.exit) {
                SUCCESS => INTERRUPTED,
                code => code,
            },
            // It was not let do what it was to do, though it may have taken its leave with 0.
            Some(
                StopReason::MemoryLimit | StopReason::CpuLimit | StopReason::ProcessLimit | StopReason::OutputLimit,
            ) => match of_exit(record.exit) {
                SUCCESS => STOPPED_SHORT,
                code => code,
            },
            None if record.problem().is_some() => NOT_STARTED,
            None => of_exit(record.exit),
        },
        Outcome::NotStarted(NotStarted::Stopped(StopReason::TimedOut)) => TIMED_OUT,
        Outcome::NotStarted(NotStarted::Stopped(_)) => INTERRUPTED,
        Outcome::NotStarted(NotStarted::Environment(_) | NotStarted::Spawn(_)) => NOT_STARTED,
        Outcome::Lost { .. } => PYEXEC_FAILED,
    }
}

fn of_exit(exit: ExitStatus) -> Code {
    match exit {
        ExitStatus::Success => SUCCESS,
        ExitStatus::Code(code) => code.get(),
        // Signals end at 64.
        ExitStatus::Signal { signal, .. } => 128 + u8::try_from(signal.clamp(0, 127)).unwrap_or(127),
    }
}

#[cfg(test)]
mod tests;
