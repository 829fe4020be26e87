//! What a job is: its identity, what it was asked to do, and what can be said of it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde::{Deserialize, Serialize};

use crate::benchmark::BenchmarkSpec;
use crate::environment::{EnvironmentSpec, Interpreter, ResolvedEnvironment};
use crate::error::{Error, output_removed};
use crate::fence::Fence;
use crate::id::JobId;
use crate::limits::Limits;
use crate::os_text::OsText;
use crate::output::OutputLengths;
use crate::profile::ProfileSpec;
use crate::progress::Progress;
use crate::script::Autosave;
use crate::state::{JobState, Outcome, Reason, Run, Status};
use crate::time::Timestamp;
use crate::ulimit::ResourceLimit;

/// What a client asks for. Immutable once submitted; the same specification under the same id is the same job.
///
/// It carries no value of an environment variable and no text for stdin: those travel beside it, in a [`Submission`],
/// because this is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    pub source: JobSource,
    pub args: Vec<OsText>,
    /// Absolute; the working directory of the job.
    pub directory: OsText,
    pub environment: EnvironmentSpec,
    /// A file of variables, read as python-dotenv reads it; relative to the job's directory.
    pub env_file: Option<OsText>,
    pub stdin: StdinSource,
    /// Counted from the start of the process; in a benchmark from that of the first run, over all of them. `None`: no
    /// limit.
    pub timeout_ms: Option<u64>,
    /// Between TERM and KILL.
    pub grace_ms: u64,
    pub label: Option<String>,
    /// Names of the variables set for this job alone. Never their values.
    pub variables: Vec<String>,
    pub umask: u32,
    /// The caller's resource limits. A job runs under those, as far as the daemon's own hard limits allow.
    #[serde(rename = "limits")]
    pub resource_limits: Vec<ResourceLimit>,
    /// The caller's.
    pub nice: i32,
    /// `None`: as the daemon is configured.
    pub buffering: Option<Buffering>,
    pub leftovers: Leftovers,
    /// The job this one was submitted from.
    pub parent: Option<JobId>,
    /// Run it several times, and measure each. Stdin must not be open then, and nothing be left behind.
    #[serde(default)]
    pub benchmark: Option<BenchmarkSpec>,
    /// Not together with a benchmark, which the profiler would slow down.
    #[serde(default)]
    pub profile: Option<ProfileSpec>,
    /// Of this job: what all its processes together may use.
    #[serde(default, rename = "job_limits")]
    pub limits: Limits,
    /// What the kernel keeps from it.
    #[serde(default)]
    pub fence: Fence,
    /// The caller's, `PR_GET_TIMERSLACK`: the kernel tells it of another process to nobody but root.
    #[serde(default)]
    pub timer_slack_ns: Option<u64>,
    /// The caller's, `personality(2)`: the kernel tells it of another process to whoever may trace that one.
    #[serde(default)]
    pub personality: Option<u32>,
}

impl JobSpec {
    /// A job of which nothing more is said: no input, no limits of its own, waited for by nobody.
    pub fn new(source: JobSource, directory: impl Into<OsText>, interpreter: Interpreter) -> Self {
        Self {
            source,
            args: vec![],
            directory: directory.into(),
            environment: EnvironmentSpec::bare(interpreter),
            env_file: None,
            stdin: StdinSource::Null,
            timeout_ms: None,
            grace_ms: DEFAULT_GRACE_MS,
            label: None,
            variables: vec![],
            umask: 0o022,
            resource_limits: vec![],
            nice: 0,
            buffering: None,
            leftovers: Leftovers::End,
            parent: None,
            benchmark: None,
            profile: None,
            limits: Limits::default(),
            fence: Fence::default(),
            timer_slack_ns: None,
            personality: None,
        }
    }
}

/// What was meant before the field was there.
fn yes() -> bool {
    true
}

/// TERM to KILL, unless somebody says otherwise.
pub const DEFAULT_GRACE_MS: u64 = 5_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobSource {
    /// A script; relative paths start at the job's directory.
    File { path: OsText },
    /// What `python -c` is given.
    Code { code: OsText },
    /// What `python -` reads from its stdin.
    Stdin { code: OsText },
    /// What `python -m` is given.
    Module { module: OsText },
    /// A script that the client has read because nobody else can open it under this path: a pipe of a process
    /// substitution, `/dev/fd/63`. It is run from a file of its own.
    Content { path: OsText, content: OsText },
    /// A script that has no file: it is given one, `script.py` in the run directory, and finds the modules in its working
    /// directory.
    Inline { code: OsText },
}

impl JobSource {
    /// The code, where it came as text.
    pub fn code(&self) -> Option<&OsText> {
        match self {
            JobSource::Code { code } | JobSource::Stdin { code } | JobSource::Inline { code } => Some(code),
            JobSource::File { .. } | JobSource::Module { .. } | JobSource::Content { .. } => None,
        }
    }

    /// The file that the caller named as its script. A job has none whose code came as text, or was read by the client.
    pub fn file(&self) -> Option<&OsText> {
        match self {
            JobSource::File { path } => Some(path),
            JobSource::Code { .. }
            | JobSource::Stdin { .. }
            | JobSource::Module { .. }
            | JobSource::Content { .. }
            | JobSource::Inline { .. } => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StdinSource {
    /// `/dev/null`.
    Null,
    /// The text of the submission, then end of file.
    Given,
    /// A pipe that `send` writes to until it is closed.
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Buffering {
    /// A line that was printed is there for others to read.
    Line,
    /// Python's own choice for a pipe: blocks of 8 KiB.
    Full,
}

/// What happens to processes that are still there when the job's own process has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leftovers {
    End,
    Keep,
}

impl JobSpec {
    /// One line that tells people what runs: `train.py --epochs 3`, `-m http.server`, `-c "print(1)"`.
    pub fn command(&self) -> String {
        let mut words = match &self.source {
            JobSource::File { path } | JobSource::Content { path, .. } => path.to_text(),
            JobSource::Module { module } => format!("-m {module}"),
            JobSource::Code { code } => format!("-c {}", quoted(code)),
            JobSource::Stdin { code } => format!("- <<< {}", quoted(code)),
            JobSource::Inline { code } => format!("script.py ({})", quoted(code)),
        };
        for arg in &self.args {
            words.push(' ');
            words.push_str(&arg.to_text());
        }
        words
    }
}

/// The first line of some code, for a listing.
fn quoted(code: &OsText) -> String {
    const SHOWN: usize = 200;
    let text = code.to_text();
    let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    let more = if lines.next().is_some() || first.chars().count() > SHOWN { "…" } else { "" };
    format!("{:?}{more}", first.chars().take(SHOWN).collect::<String>())
}

/// How its submitter watches a job. Kept beside the specification and no part of it: the same specification is the same
/// job, whoever watches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watching {
    /// Somebody waits for the result now: it is started before jobs nobody waits for.
    #[serde(default)]
    pub waited_for: bool,
    /// Whether subscribers are told that there is new output. It can be read either way.
    #[serde(default = "yes")]
    pub notify_output: bool,
    /// Whoever submits it goes on to read all that it prints: nothing that has not been read is dropped meanwhile.
    #[serde(default)]
    pub attached: bool,
}

impl Default for Watching {
    /// Nobody waits for it.
    fn default() -> Self {
        Self { waited_for: false, notify_output: true, attached: false }
    }
}

/// A specification together with how it is watched, and with what must not be kept: the environment, and the text for stdin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Submission {
    pub id: JobId,
    pub spec: JobSpec,
    pub watching: Watching,
    /// The caller's environment.
    pub environment: Variables,
    /// What is set for this job alone; wins over the environment and over the file of variables.
    pub overrides: Variables,
    #[serde(with = "serde_bytes")]
    pub stdin: Vec<u8>,
    /// The content of the specification's env file, where the client has read it because the daemon cannot.
    #[serde(with = "serde_bytes")]
    pub env_file: Option<Vec<u8>>,
    /// That the job's code is to be kept for a while, where it came as text.
    pub autosave: Option<Autosave>,
}

/// The kernel's `MAX_ARG_STRLEN`, with its NUL: a longer argument or variable makes exec fail with E2BIG.
pub const MAX_ARGUMENT_BYTES: usize = 128 << 10;

/// The most text a submission may carry for stdin, as code, or as the content of a file; more belongs into a file that the
/// script opens.
pub const MAX_STDIN_BYTES: usize = 16 << 20;

/// Environment variables, as the kernel keeps them: `NAME=value` strings, each ended by a NUL.
///
/// Values may be secrets, so its `Debug` says no more than how many there are.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variables(#[serde(with = "serde_bytes")] Vec<u8>);

impl Variables {
    /// Takes a block as written by [`Variables::as_block`].
    pub fn from_block(block: Vec<u8>) -> Self {
        Self(block)
    }

    pub fn as_block(&self) -> &[u8] {
        &self.0
    }

    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.strings().filter_map(|string| {
            // A name may begin with `=`, never be empty: look for the separator from the second byte on.
            let at = string.iter().skip(1).position(|byte| *byte == b'=')? + 1;
            Some((OsStr::from_bytes(&string[..at]), OsStr::from_bytes(&string[at + 1..])))
        })
    }

    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Adds `name`, or replaces its value.
    pub fn set(&mut self, name: &OsStr, value: &OsStr) {
        self.remove(name);
        for part in [name.as_bytes(), b"=", value.as_bytes(), b"\0"] {
            self.0.extend_from_slice(part);
        }
    }

    pub fn remove(&mut self, name: &OsStr) {
        if self.iter().any(|(known, _)| known == name) {
            let kept: Vec<(OsString, OsString)> = self
                .iter()
                .filter(|(known, _)| *known != name)
                .map(|(known, value)| (known.to_owned(), value.to_owned()))
                .collect();
            *self = kept.into_iter().collect();
        }
    }

    /// Each `NAME=value`, without its NUL.
    pub fn strings(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == 0).filter(|string| !string.is_empty())
    }
}

impl FromIterator<(OsString, OsString)> for Variables {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(pairs: I) -> Self {
        let mut block = Vec::new();
        for (name, value) in pairs {
            block.extend(name.into_vec());
            block.push(b'=');
            block.extend(value.into_vec());
            block.push(0);
        }
        Self(block)
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Variables({} of them)", self.strings().count())
    }
}

/// Everything about one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobDetail {
    pub id: JobId,
    pub created_at: Timestamp,
    pub spec: JobSpec,
    pub watching: Watching,
    pub state: JobState,
    /// Once it is known.
    pub environment: Option<ResolvedEnvironment>,
    pub output: OutputLengths,
    /// What a pending job waits for.
    pub message: Option<String>,
    /// As it was when this was asked for; of a finished job, the last that was seen.
    pub progress: Option<Progress>,
    /// The run directory, where that is gone, or does not hold all the output any more that is kept of a finished job.
    #[serde(default)]
    pub output_removed_from: Option<OsText>,
}

impl JobDetail {
    /// What people call it: its label or, without one, its command.
    pub fn title(&self) -> String {
        self.spec.label.clone().unwrap_or_else(|| self.spec.command())
    }

    /// What is to be said of it when its output is gone.
    pub fn output_problem(&self) -> Option<String> {
        self.output_removed_from.as_ref().map(output_removed)
    }

    /// Why its output cannot be read, when it is gone.
    pub fn output_error(&self) -> Option<Error> {
        self.output_removed_from.clone().map(|path| Error::OutputRemoved { id: self.id, path })
    }

    /// One that has just been submitted, and that nobody watches.
    pub fn submitted(id: JobId, created_at: Timestamp, spec: JobSpec) -> Self {
        Self {
            id,
            created_at,
            spec,
            watching: Watching::default(),
            state: JobState::Queued,
            environment: None,
            output: OutputLengths::default(),
            message: None,
            progress: None,
            output_removed_from: None,
        }
    }
}

/// One row of a listing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSummary {
    pub id: JobId,
    pub created_at: Timestamp,
    pub label: Option<String>,
    pub status: Status,
    pub reason: Option<Reason>,
    pub exit_code: Option<i32>,
    pub pid: Option<u32>,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub elapsed_us: Option<u64>,
    pub output: OutputLengths,
    pub progress: Option<Progress>,
    pub command: String,
    pub directory: OsText,
    pub strategy: String,
}

impl JobSummary {
    pub fn of(job: &JobDetail) -> Self {
        let verdict = job.state.outcome().map(Outcome::verdict);
        let run = job.state.run();
        let record = job.state.record();
        Self {
            id: job.id,
            created_at: job.created_at,
            label: job.spec.label.clone(),
            status: job.state.status(),
            reason: verdict.map(|verdict| verdict.reason),
            exit_code: verdict.and_then(|verdict| verdict.exit_code),
            pid: run.and_then(Run::pid),
            started_at: run.map(|run| run.started_at),
            ended_at: record.map(|record| record.ended_at),
            elapsed_us: record.map(|record| record.elapsed_us),
            output: record.map_or(job.output, |record| record.output),
            progress: job.progress.clone(),
            command: job.spec.command(),
            directory: job.spec.directory.clone(),
            strategy: job.spec.environment.interpreter.strategy().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_keep_what_they_are_given() {
        let mut variables: Variables = [("A", "1"), ("EMPTY", ""), ("EQ", "a=b")]
            .map(|(name, value)| (name.into(), value.into()))
            .into_iter()
            .collect();
        variables.set(OsStr::new("A"), OsStr::new("2"));
        assert_eq!(variables.get("A"), Some(OsStr::new("2")));
        assert_eq!(variables.get("EMPTY"), Some(OsStr::new("")));
        assert_eq!(variables.get("EQ"), Some(OsStr::new("a=b")));
        variables.remove(OsStr::new("EQ"));
        assert_eq!(variables.iter().count(), 2);
    }

    #[test]
    fn variables_do_not_show_their_values() {
        let variables: Variables = [("TOKEN".into(), "hunter2".into())].into_iter().collect();
        assert_eq!(format!("{variables:?}"), "Variables(1 of them)");
    }

    #[test]
    fn a_job_is_listed_as_python_was_given_it() {
        let command = |source| {
            let spec = JobSpec::new(source, "/", Interpreter::System);
            JobSpec { args: vec!["--port".into(), "1".into()], ..spec }.command()
        };
        let content = JobSource::Content { path: "/dev/fd/63".into(), content: "print(1)".into() };
        assert_eq!(command(content), "/dev/fd/63 --port 1");
        assert_eq!(command(JobSource::Module { module: "http.server".into() }), "-m http.server --port 1");
    }

    #[test]
    fn code_is_listed_by_its_first_line() {
        assert_eq!(quoted(&"\nimport os\nprint(1)\n".into()), "\"import os\"…");
        assert_eq!(quoted(&"print(1)".into()), "\"print(1)\"");
    }
}
