//! A job: its identity, its specification, and its recorded details.

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

/// The specification of a job. It is immutable once submitted; submitting the same specification under the same id
/// again refers to the same job.
///
/// Specifications are stored, so they carry no values of environment variables and no text for stdin. A [`Submission`]
/// carries those separately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    pub source: JobSource,
    pub args: Vec<OsText>,
    /// The absolute path of the job's working directory.
    pub directory: OsText,
    pub environment: EnvironmentSpec,
    /// A file of variables in the format of python-dotenv; relative to the job's directory.
    pub env_file: Option<OsText>,
    pub stdin: StdinSource,
    /// Counted from the start of the process; for a benchmark, from the start of the first run and over all runs.
    /// `None`: no limit.
    pub timeout_ms: Option<u64>,
    /// The time from SIGTERM to SIGKILL.
    pub grace_ms: u64,
    pub label: Option<String>,
    /// The names of the variables set for this job alone, never their values.
    pub variables: Vec<String>,
    pub umask: u32,
    /// The caller's resource limits. The job runs under them as far as the daemon's own hard limits allow.
    #[serde(rename = "limits")]
    pub resource_limits: Vec<ResourceLimit>,
    /// The caller's nice value.
    pub nice: i32,
    /// `None`: the daemon's setting.
    pub buffering: Option<Buffering>,
    pub leftovers: Leftovers,
    /// The job this one was submitted from.
    pub parent: Option<JobId>,
    /// Run the program several times, and measure each run. Excludes an open stdin and [`Leftovers::Keep`].
    #[serde(default)]
    pub benchmark: Option<BenchmarkSpec>,
    /// Profile the job. Excludes a benchmark, which the profiler would slow down.
    #[serde(default)]
    pub profile: Option<ProfileSpec>,
    /// Limits on all processes of this job together.
    #[serde(default, rename = "job_limits")]
    pub limits: Limits,
    /// The kernel's restrictions on this job.
    #[serde(default)]
    pub fence: Fence,
    /// The caller's timer slack (`PR_GET_TIMERSLACK`), sent by the client because the kernel shows another process's
    /// only to root.
    #[serde(default)]
    pub timer_slack_ns: Option<u64>,
    /// The caller's `personality(2)`, sent by the client because the kernel shows another process's only to a process
    /// that may trace it.
    #[serde(default)]
    pub personality: Option<u32>,
}

impl JobSpec {
    /// A job with default settings: no input, no limits of its own.
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

/// Default for specifications written before this field existed.
fn default_true() -> bool {
    true
}

/// The default time from SIGTERM to SIGKILL.
pub const DEFAULT_GRACE_MS: u64 = 5_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobSource {
    /// A script file; a relative path starts at the job's directory.
    File { path: OsText },
    /// Code for `python -c`.
    Code { code: OsText },
    /// Code for `python -`, which reads it from stdin.
    Stdin { code: OsText },
    /// A module for `python -m`.
    Module { module: OsText },
    /// A script that the client has read because only the client can open its path, such as the pipe of a process
    /// substitution (`/dev/fd/63`). The daemon writes it to a file and runs that.
    Content { path: OsText, content: OsText },
    /// Code without a file. The daemon writes it to `script.py` in the run directory; imports are looked up in the
    /// working directory.
    Inline { code: OsText },
}

impl JobSource {
    /// The code, if the source is text.
    pub fn code(&self) -> Option<&OsText> {
        match self {
            JobSource::Code { code } | JobSource::Stdin { code } | JobSource::Inline { code } => Some(code),
            JobSource::File { .. } | JobSource::Module { .. } | JobSource::Content { .. } => None,
        }
    }

    /// The path of the script that the caller named; `None` for code, modules, and scripts that the client has read.
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
    /// Each printed line can be read at once.
    Line,
    /// Python's default for a pipe: blocks of 8 KiB.
    Full,
}

/// What happens to processes that still run when the job's own process has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leftovers {
    End,
    Keep,
}

impl JobSpec {
    /// The command on one line, for people: `train.py --epochs 3`, `-m http.server`, `-c "print(1)"`.
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

/// How the submitter follows a job. It is stored beside the specification and is not part of the job's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watching {
    /// A client waits for the result now, so the job is started before jobs without a waiting client.
    #[serde(default)]
    pub waited_for: bool,
    /// Whether subscribers are notified of new output. Output can be read either way.
    #[serde(default = "default_true")]
    pub notify_output: bool,
    /// The submitter will read all output. Until it has, no unread output is dropped.
    #[serde(default)]
    pub attached: bool,
}

impl Default for Watching {
    /// No client waits for the job.
    fn default() -> Self {
        Self { waited_for: false, notify_output: true, attached: false }
    }
}

/// A specification with the data that must not be stored (environment and text for stdin), and how the submitter
/// follows the job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Submission {
    pub id: JobId,
    pub spec: JobSpec,
    pub watching: Watching,
    /// The caller's environment.
    pub environment: Variables,
    /// Variables set for this job alone; they override the environment and the file of variables.
    pub overrides: Variables,
    #[serde(with = "serde_bytes")]
    pub stdin: Vec<u8>,
    /// The content of the specification's env file, if the client has read it because the daemon cannot.
    #[serde(with = "serde_bytes")]
    pub env_file: Option<Vec<u8>>,
    /// Keep the job's code for a while, if the source is text.
    pub autosave: Option<Autosave>,
}

/// The kernel's `MAX_ARG_STRLEN`, with its NUL: a longer argument or variable makes exec fail with E2BIG.
pub const MAX_ARGUMENT_BYTES: usize = 128 << 10;

/// The largest text in a submission for stdin, as code, or as file content, in bytes. Larger input belongs in a file
/// that the script opens.
pub const MAX_STDIN_BYTES: usize = 16 << 20;

/// Environment variables in the kernel's form: `NAME=value` strings, each ended by a NUL.
///
/// Values may be secret, so `Debug` shows only how many there are.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variables(#[serde(with = "serde_bytes")] Vec<u8>);

impl Variables {
    /// Wraps a block as returned by [`Variables::as_block`].
    pub fn from_block(block: Vec<u8>) -> Self {
        Self(block)
    }

    pub fn as_block(&self) -> &[u8] {
        &self.0
    }

    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.strings().filter_map(|string| {
            // A name may begin with `=` but cannot be empty: look for the separator from the second byte on.
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

/// The complete details of one job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobDetail {
    pub id: JobId,
    pub created_at: Timestamp,
    pub spec: JobSpec,
    pub watching: Watching,
    pub state: JobState,
    /// `None` until the environment is known.
    pub environment: Option<ResolvedEnvironment>,
    pub output: OutputLengths,
    /// What a pending job waits for.
    pub message: Option<String>,
    /// The progress at the time of this request; for a finished job, the last progress seen.
    pub progress: Option<Progress>,
    /// The run directory, if it is gone, or no longer holds all the output that should have been kept.
    #[serde(default)]
    pub output_removed_from: Option<OsText>,
}

impl JobDetail {
    /// The name for people: the label or, without one, the command.
    pub fn title(&self) -> String {
        self.spec.label.clone().unwrap_or_else(|| self.spec.command())
    }

    /// The sentence to show if the output is gone.
    pub fn output_problem(&self) -> Option<String> {
        self.output_removed_from.as_ref().map(output_removed)
    }

    /// The error for reading output that is gone.
    pub fn output_error(&self) -> Option<Error> {
        self.output_removed_from.clone().map(|path| Error::OutputRemoved { id: self.id, path })
    }

    /// A job that was just submitted.
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
