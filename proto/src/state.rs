//! The states of a job, and how it ended.
//!
//! ```text
//!            ┌────────┐ admitted ┌───────────┐ prepared ┌──────────┐ started ┌─────────┐ stop ┌──────────┐
//!  submit ──>│ Queued ├─────────>│ Preparing ├─────────>│ Starting ├────────>│ Running ├─────>│ Stopping │
//!            └───┬────┘          └─────┬─────┘          └────┬─────┘         └────┬────┘      └────┬─────┘
//!                │ stop                │ stop, failed        │ failed, lost       │ ended, lost    │ ended, lost
//!                └─────────────────────┴─────────────────────┴─────────┬──────────┴────────────────┘
//!                                                                      v
//!                                                            ┌──────────────────┐
//!                                                            │ Finished(Outcome)│
//!                                                            └──────────────────┘
//! ```
//!
//! The transition function belongs to the daemon. Only [`Outcome::verdict`] derives what users see from an outcome.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::benchmark::BenchmarkRecord;
use crate::exit::{ExitStatus, ResourceUsage};
use crate::output::OutputLengths;
use crate::time::Timestamp;
use crate::ulimit::ResourceLimit;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Accepted and on disk; waits for its turn.
    Queued,
    /// Its environment is being prepared.
    Preparing,
    /// Handed to a supervisor. `stop` records a stop request that came before there was a process.
    Starting {
        stop: Option<StopReason>,
    },
    Running {
        run: Run,
    },
    Stopping {
        run: Run,
        reason: StopReason,
    },
    Finished(Outcome),
}

impl JobState {
    pub fn is_finished(&self) -> bool {
        matches!(self, JobState::Finished(_))
    }

    /// The run, if the process was started.
    pub fn run(&self) -> Option<&Run> {
        match self {
            JobState::Queued | JobState::Preparing | JobState::Starting { .. } => None,
            JobState::Running { run } | JobState::Stopping { run, .. } => Some(run),
            JobState::Finished(outcome) => outcome.run(),
        }
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        match self {
            JobState::Finished(outcome) => Some(outcome),
            JobState::Queued
            | JobState::Preparing
            | JobState::Starting { .. }
            | JobState::Running { .. }
            | JobState::Stopping { .. } => None,
        }
    }

    /// The exit record, if the process ran and its end was observed.
    pub fn record(&self) -> Option<&ExitRecord> {
        match self.outcome()? {
            Outcome::Ended(record) => Some(record),
            Outcome::NotStarted(_) | Outcome::Lost { .. } => None,
        }
    }

    pub fn status(&self) -> Status {
        match self {
            JobState::Queued | JobState::Preparing | JobState::Starting { .. } => Status::Pending,
            JobState::Running { .. } | JobState::Stopping { .. } => Status::Running,
            JobState::Finished(outcome) => outcome.verdict().status,
        }
    }
}

/// The run of a job that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RunFields", into = "RunFields")]
pub struct Run {
    /// For a benchmark, the handle of the latest run known: the supervisor reports a run after one second and at its
    /// end.
    pub handle: Handle,
    /// For a benchmark, the start of the first run.
    pub started_at: Timestamp,
    /// Limits of the caller that the daemon could not set as they were, because its own are lower: the values that hold
    /// for the job.
    pub lowered_limits: Vec<ResourceLimit>,
    /// Sentences about other properties of the submitter that the job does not have, because the daemon may not set
    /// them.
    pub not_taken_over: Vec<String>,
}

/// How the engine that started a run identifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handle {
    /// The pid of the job's own process on this machine, which leads its session and process group.
    Process(u32),
    /// The identifier in another system, in that system's form.
    Remote(String),
}

impl Run {
    /// A process of this machine, without any notes.
    pub fn of_process(pid: u32, started_at: Timestamp) -> Self {
        Self { handle: Handle::Process(pid), started_at, lowered_limits: vec![], not_taken_over: vec![] }
    }

    /// The pid of the job's own process, if it runs on this machine.
    pub fn pid(&self) -> Option<u32> {
        match &self.handle {
            Handle::Process(pid) => Some(*pid),
            Handle::Remote(_) => None,
        }
    }
}

/// The stored form of a [`Run`]: records and index rows written before handles existed have a pid.
#[derive(Serialize, Deserialize)]
struct RunFields {
    pid: Option<u32>,
    started_at: Timestamp,
    #[serde(default)]
    lowered_limits: Vec<ResourceLimit>,
    #[serde(default)]
    not_taken_over: Vec<String>,
    #[serde(default)]
    remote: Option<String>,
}

impl TryFrom<RunFields> for Run {
    type Error = &'static str;

    fn try_from(fields: RunFields) -> Result<Self, Self::Error> {
        let RunFields { pid, started_at, lowered_limits, not_taken_over, remote } = fields;
        let handle = match (remote, pid) {
            (Some(remote), _) => Handle::Remote(remote),
            (None, Some(pid)) => Handle::Process(pid),
            (None, None) => return Err("a run without a pid and without a remote handle"),
        };
        Ok(Self { handle, started_at, lowered_limits, not_taken_over })
    }
}

impl From<Run> for RunFields {
    fn from(run: Run) -> Self {
        let (pid, remote) = match run.handle {
            Handle::Process(pid) => (Some(pid), None),
            Handle::Remote(remote) => (None, Some(remote)),
        };
        let Run { started_at, lowered_limits, not_taken_over, .. } = run;
        Self { pid, started_at, lowered_limits, not_taken_over, remote }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The process ended, and its supervisor recorded how.
    Ended(ExitRecord),
    NotStarted(NotStarted),
    /// Its supervisor is gone and left no record, so that it is unknown how the process ended.
    Lost {
        last_seen: Option<Run>,
    },
}

/// The final record of a run, written once by the supervisor. It is the source of truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    pub run: Run,
    /// For a benchmark, the exit status of the last run.
    pub exit: ExitStatus,
    /// Why the job was stopped; `None` if it ended by itself, even with a stop request under way.
    pub stopped: Option<StopReason>,
    /// For a benchmark, over all runs, including warm-ups.
    pub usage: ResourceUsage,
    pub ended_at: Timestamp,
    /// From the start of the process to its end, on the monotonic clock, in microseconds. For a benchmark, from the
    /// first start to the last end.
    pub elapsed_us: u64,
    pub output: OutputLengths,
    /// The measurements, if the job is a benchmark.
    #[serde(default)]
    pub benchmark: Option<Box<BenchmarkRecord>>,
}

impl ExitRecord {
    /// Why a benchmark could not go on.
    pub fn problem(&self) -> Option<&str> {
        self.benchmark.as_ref()?.problem.as_deref()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopReason {
    /// A stop request: SIGTERM, a grace period, SIGKILL.
    Cancelled,
    /// Killed at once, with SIGKILL.
    Killed,
    TimedOut,
    /// The limit in [`crate::limits::Limits`]. The job is killed at once, because it would go on growing.
    MemoryLimit,
    CpuLimit,
    ProcessLimit,
    OutputLimit,
}

impl StopReason {
    /// A sentence about the exceeded limit, if the reason is a limit.
    pub fn limit(self) -> Option<&'static str> {
        match self {
            StopReason::MemoryLimit => Some("it used more memory than its limit allows"),
            StopReason::CpuLimit => Some("it used more CPU time than its limit allows"),
            StopReason::ProcessLimit => Some("it had more processes than its limit allows"),
            StopReason::OutputLimit => Some("it printed more than its limit allows"),
            StopReason::Cancelled | StopReason::Killed | StopReason::TimedOut => None,
        }
    }

    /// The status and reason that users see.
    fn verdict(self) -> (Status, Reason) {
        match self {
            StopReason::Cancelled => (Status::Cancelled, Reason::Cancelled),
            StopReason::Killed => (Status::Cancelled, Reason::Killed),
            StopReason::TimedOut => (Status::Failed, Reason::TimedOut),
            StopReason::MemoryLimit => (Status::Failed, Reason::MemoryLimit),
            StopReason::CpuLimit => (Status::Failed, Reason::CpuLimit),
            StopReason::ProcessLimit => (Status::Failed, Reason::ProcessLimit),
            StopReason::OutputLimit => (Status::Failed, Reason::OutputLimit),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotStarted {
    /// Stopped before the process was started.
    Stopped(StopReason),
    /// The environment could not be built; the text says why.
    Environment(String),
    /// The process could not be started; the text says why.
    Spawn(String),
}

impl Outcome {
    /// The status and reason that users and agents see. No other function derives a status from an outcome.
    pub fn verdict(&self) -> Verdict {
        match self {
            // The previous run ended well, but the benchmark is not complete.
            Outcome::Ended(record) if record.stopped.is_none() && record.problem().is_some() => {
                Verdict { status: Status::Failed, reason: Reason::Spawn, exit_code: None }
            }
            Outcome::Ended(record) => {
                let (status, reason) = match (record.stopped, record.exit) {
                    (Some(stopped), _) => stopped.verdict(),
                    (None, ExitStatus::Success) => (Status::Completed, Reason::Exit),
                    (None, ExitStatus::Code(_)) => (Status::Failed, Reason::Exit),
                    (None, ExitStatus::Signal { .. }) => (Status::Failed, Reason::Signal),
                };
                Verdict { status, reason, exit_code: Some(record.exit.returncode()) }
            }
            Outcome::NotStarted(why) => {
                let (status, reason) = match why {
                    NotStarted::Stopped(reason) => reason.verdict(),
                    NotStarted::Environment(_) => (Status::Failed, Reason::Environment),
                    NotStarted::Spawn(_) => (Status::Failed, Reason::Spawn),
                };
                Verdict { status, reason, exit_code: None }
            }
            Outcome::Lost { .. } => Verdict { status: Status::Failed, reason: Reason::Lost, exit_code: None },
        }
    }

    pub fn run(&self) -> Option<&Run> {
        match self {
            Outcome::Ended(record) => Some(&record.run),
            Outcome::Lost { last_seen } => last_seen.as_ref(),
            Outcome::NotStarted(_) => None,
        }
    }

    /// A sentence for people, if there is more to say than status and exit code.
    pub fn explanation(&self) -> Option<String> {
        match self {
            Outcome::NotStarted(NotStarted::Environment(why) | NotStarted::Spawn(why)) => Some(why.clone()),
            Outcome::Lost { .. } => Some(
                "its supervisor is gone and left no record of how the job ended; it is not run again by itself"
                    .to_owned(),
            ),
            Outcome::NotStarted(NotStarted::Stopped(_)) => Some("it was stopped before it started".to_owned()),
            Outcome::Ended(record) => {
                let limit = record.stopped.and_then(StopReason::limit);
                limit.or_else(|| record.problem()).map(str::to_owned)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub status: Status,
    pub reason: Reason,
    /// The return code as Python's `subprocess` gives it; `None` if no end of a process was observed.
    pub exit_code: Option<i32>,
}

/// The five statuses that users see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pending,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    pub const ALL: [Status; 5] =
        [Status::Pending, Status::Running, Status::Completed, Status::Failed, Status::Cancelled];

    pub fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let known = || Status::ALL.map(Status::name).join(", ");
        let found = Status::ALL.into_iter().find(|status| status.name() == given);
        found.ok_or_else(|| format!("no status `{given}`: one of {}", known()))
    }
}

/// The detail of a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Exit,
    Signal,
    TimedOut,
    Environment,
    Spawn,
    Lost,
    Cancelled,
    Killed,
    MemoryLimit,
    CpuLimit,
    ProcessLimit,
    OutputLimit,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Reason::Exit => "exit",
            Reason::Signal => "signal",
            Reason::TimedOut => "timed_out",
            Reason::Environment => "environment",
            Reason::Spawn => "spawn",
            Reason::Lost => "lost",
            Reason::Cancelled => "cancelled",
            Reason::Killed => "killed",
            Reason::MemoryLimit => "memory_limit",
            Reason::CpuLimit => "cpu_limit",
            Reason::ProcessLimit => "process_limit",
            Reason::OutputLimit => "output_limit",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_before_there_were_handles_is_read_and_a_process_is_written_as_it_was_then() {
        let old = r#"{"pid":5,"started_at":1}"#;
        let run: Run = serde_json::from_str(old).expect("can be read");
        assert_eq!(run, Run::of_process(5, Timestamp(1)));
        let written = serde_json::to_value(&run).expect("can be written");
        assert_eq!(written["pid"], 5);
        assert!(serde_json::from_str::<Run>(r#"{"pid":null,"started_at":1}"#).is_err());
    }

    #[test]
    fn a_remote_run_has_no_pid_and_reads_as_it_was_written() {
        let run = Run { handle: Handle::Remote("cluster/7".to_owned()), ..Run::of_process(0, Timestamp(1)) };
        let text = serde_json::to_string(&run).expect("can be written");
        assert_eq!(serde_json::from_str::<Run>(&text).expect("can be read"), run);
        assert_eq!(run.pid(), None);
    }
}
