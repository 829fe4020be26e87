//! Views of jobs, environments, scripts and the daemon: the field names in the JSON of `pyexec` and `pyexec-mcp`.
//!
//! Views are only serialized, never read back; types exchanged between programs are in [`pyexec_proto`]. This crate
//! does no I/O: its callers gather the data.

#![forbid(unsafe_code)]

mod artifacts;
mod benchmark;
mod causes;
pub mod markdown;
#[cfg(feature = "picture")]
pub mod picture;
mod profile;
mod progress;
pub mod statistics;
pub mod timeline;

use pyexec_proto::artifact::ArtifactList;
use pyexec_proto::daemon::DaemonStatus;
use pyexec_proto::environment::{EnvironmentInfo, ProjectUse};
use pyexec_proto::fence::{FilesystemFence, NetworkFence};
use pyexec_proto::job::{JobDetail, JobSummary};
use pyexec_proto::profile::ProfileSummary;
use pyexec_proto::request::NotRemoved;
use pyexec_proto::script::{Script, ScriptInfo};
use pyexec_proto::state::{JobState, Outcome, Reason, Run, Status};
use pyexec_proto::time::Timestamp;
use pyexec_proto::ulimit;
use pyexec_proto::url_password::masked;
use pyexec_proto::world::World;
use serde::Serialize;

pub use artifacts::{ArtifactView, ArtifactsView};
use benchmark::ResourceTotals;
pub use benchmark::{BenchmarkView, ConditionsView, LARGEST_PROCESS, MeasuredRun, TREE_SAMPLED};
pub use causes::with_causes;
pub use profile::{ProfileRow, ProfileView};
pub use progress::ProgressView;

/// One job, in full.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobView {
    pub id: String,
    pub label: Option<String>,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub status: Status,
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub reason: Option<Reason>,
    pub message: Option<String>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
    pub elapsed_seconds: Option<f64>,
    pub exit_code: Option<i32>,
    pub error: Option<String>,
    pub pid: Option<u32>,
    pub command: String,
    pub directory: String,
    pub execution_strategy: String,
    pub python_version_used: Option<String>,
    pub dependencies: Vec<String>,
    pub resolved_dependencies: Vec<String>,
    pub unknown_imports: Vec<String>,
    pub environment: Option<String>,
    /// `null` if there was neither a project nor an existing environment.
    pub project: Option<ProjectView>,
    pub variables: Vec<String>,
    /// Sentences about limits of the caller that were lowered to the daemon's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lowered_limits: Vec<String>,
    /// Sentences about other properties of the submitter that the job does not have, because the daemon may not set
    /// them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_taken_over: Vec<String>,
    pub timeout_seconds: Option<f64>,
    /// The fence; `null` if there is none of this kind.
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub network: Option<NetworkFence>,
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub filesystem: Option<FilesystemFence>,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    /// `null` if no progress was seen.
    pub progress: Option<ProgressView>,
    pub usage: Option<UsageView>,
    /// Present for a finished benchmark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<BenchmarkView>,
    #[serde(flatten)]
    pub artifacts: ArtifactsView,
}

/// How a job's environment relates to a project or to an existing environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProjectView {
    #[serde(rename = "use")]
    pub used: ProjectUsed,
    /// The path of the synchronized project, of the existing environment, or of what was not used.
    pub path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProjectUsed {
    /// The project's environment was synchronized with its lock file.
    Synced,
    /// An existing environment was used unchanged.
    AsFound,
    /// The project or environment was not used.
    LeftOut,
}

impl ProjectView {
    fn of(detail: &JobDetail) -> Option<Self> {
        let (used, path) = match &detail.environment.as_ref()?.project {
            ProjectUse::Nothing => return None,
            ProjectUse::Synced { project } => (ProjectUsed::Synced, project),
            ProjectUse::AsFound { environment } => (ProjectUsed::AsFound, environment),
            ProjectUse::LeftOut { path } => (ProjectUsed::LeftOut, path),
        };
        Some(Self { used, path: path.to_text() })
    }
}

/// The resource use of a finished job, exact, from `wait4(2)`. For a benchmark, over all runs including warm-ups,
/// except for the peak.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UsageView {
    pub user_seconds: f64,
    pub system_seconds: f64,
    /// CPU time of processes that no parent waited for; in neither of the two above.
    pub unwaited_cpu_seconds: f64,
    /// Whether `unwaited_cpu_seconds` may be too small, because it is the last sample.
    pub cpu_is_incomplete: bool,
    /// MiB, of the scope in `peak_rss_scope`: [`LARGEST_PROCESS`] or, for a benchmark, [`TREE_SAMPLED`].
    pub peak_rss_mb: f64,
    pub peak_rss_scope: &'static str,
    pub minor_faults: u64,
    pub major_faults: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    /// Bytes from and to storage; accesses served by the page cache are not counted.
    pub read_bytes: u64,
    pub written_bytes: u64,
}

/// One row of `pyexec jobs --json`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobRow {
    pub id: String,
    pub label: Option<String>,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub status: Status,
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub reason: Option<Reason>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub completed_at: Option<String>,
    pub elapsed_seconds: Option<f64>,
    pub exit_code: Option<i32>,
    pub pid: Option<u32>,
    pub command: String,
    pub directory: String,
    pub execution_strategy: String,
    pub stdout_bytes: u64,
    pub stderr_bytes: u64,
    pub progress: Option<ProgressView>,
}

/// The result of a job: the answer of every tool that runs code, and of `pyexec run --json`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ExecutionView {
    pub job_id: String,
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub status: Status,
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub reason: Option<Reason>,
    pub stdout: String,
    pub stderr: String,
    pub exit_code: Option<i32>,
    pub execution_strategy: String,
    /// From the start to the end; for a benchmark, from the first start to the last end.
    pub elapsed_seconds: Option<f64>,
    /// For a benchmark, the mean over its runs. This and the next three fields are `null` until the end, and if no
    /// process ran.
    pub wall_time_seconds: Option<f64>,
    /// User and system time of all processes; for a benchmark, the mean over its runs.
    pub cpu_time_seconds: Option<f64>,
    /// MiB; for a benchmark, the highest of all runs.
    pub peak_rss_mb: Option<f64>,
    /// The scope of the peak: [`LARGEST_PROCESS`] or, for a benchmark, [`TREE_SAMPLED`].
    pub peak_rss_scope: Option<&'static str>,
    pub python_version_used: Option<String>,
    pub resolved_dependencies: Vec<String>,
    /// As in [`JobView::project`].
    pub project: Option<ProjectView>,
    pub error: Option<String>,
    /// Why `stdout` and `stderr` are incomplete, if files of the job were removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_problem: Option<String>,
    /// Present for a finished benchmark.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<BenchmarkView>,
    /// Present if there are any artifacts.
    #[serde(flatten)]
    pub artifacts: Option<ArtifactsView>,
    /// Present for a finished job that was profiled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileView>,
}

/// One row of `pyexec env list --json`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnvironmentView {
    pub name: Option<String>,
    pub id: Option<String>,
    pub python: String,
    pub packages: Vec<String>,
    pub bytes: u64,
    pub last_used: Option<String>,
    pub used_by: Vec<String>,
}

impl EnvironmentView {
    pub fn of(info: &EnvironmentInfo) -> Self {
        Self {
            name: info.name.clone(),
            id: info.id.clone(),
            python: info.python_version.clone(),
            packages: info.packages.clone(),
            bytes: info.bytes,
            last_used: info.last_used.map(|at| at.to_string()),
            used_by: info.used_by.iter().map(ToString::to_string).collect(),
        }
    }
}

/// One row of `pyexec scripts list --json`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScriptRow {
    pub name: String,
    pub path: String,
    pub docstring: Option<String>,
    pub dependencies: Vec<String>,
    pub requires_python: Option<String>,
    pub autosaved: bool,
}

impl ScriptRow {
    pub fn of(info: &ScriptInfo) -> Self {
        Self {
            name: info.name.clone(),
            path: info.path.to_text(),
            docstring: info.docstring.clone(),
            dependencies: info.dependencies.clone(),
            requires_python: info.requires_python.clone(),
            autosaved: info.autosaved,
        }
    }
}

/// `pyexec scripts show --json`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ScriptView {
    pub name: String,
    pub path: String,
    /// Bytes that are not UTF-8 are shown as U+FFFD.
    pub source: String,
    /// Present for an autosaved script.
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Map<String, serde_json::Value>>"))]
    pub metadata: Option<serde_json::Value>,
}

impl ScriptView {
    pub fn of(script: &Script) -> Self {
        // A damaged file is still shown, under the key `damaged`.
        let read = |text: &String| match serde_json::from_str(text) {
            Ok(object @ serde_json::Value::Object(_)) => object,
            Ok(_) | Err(_) => serde_json::json!({ "damaged": text }),
        };
        Self {
            name: script.name.clone(),
            path: script.path.to_text(),
            source: String::from_utf8_lossy(&script.source).into_owned(),
            metadata: script.metadata.as_ref().map(read),
        }
    }
}

/// One of `not_removed` of `pyexec prune --json`, `pyexec env prune --json` and py_prune_jobs.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NotRemovedView {
    pub id: String,
    /// The path that could not be removed; bytes that are not UTF-8 are shown as U+FFFD.
    pub path: String,
    pub problem: String,
}

impl NotRemovedView {
    pub fn of(one: &NotRemoved) -> Self {
        Self { id: one.id.clone(), path: one.path.to_text(), problem: one.problem.clone() }
    }
}

/// `pyexec daemon status --json`.
#[derive(Clone, Debug, Serialize)]
pub struct DaemonView {
    pub running: bool,
    pub pid: Option<u32>,
    pub version: Option<String>,
    pub socket: String,
    pub uptime_seconds: Option<u64>,
    pub jobs_running: Option<u64>,
    pub jobs_pending: Option<u64>,
    pub rss_bytes: Option<u64>,
    /// Of the machine that this is asked on.
    pub memory_total_bytes: Option<u64>,
    /// What programs there can still get without swapping.
    pub memory_available_bytes: Option<u64>,
    /// Why the index on disk cannot be used.
    pub index_problem: Option<String>,
    /// The name of the instance; `null` for the default one.
    pub instance: Option<String>,
    /// The namespaces, root directory and groups that jobs run with.
    pub world: Option<World>,
    /// Why the daemon would refuse a job submitted from this process.
    pub refuses_jobs_from_here: Option<String>,
}

/// Appended to `stderr` in the result of a job that timed out. The stored log does not contain it.
pub const TIMEOUT_MARK: &str = "[TIMEOUT]";

impl JobView {
    /// The view as of `now`, which determines the elapsed time of a running job. The caller adds the artifacts.
    pub fn of(detail: &JobDetail, now: Timestamp) -> Self {
        let outcome = detail.state.outcome();
        let verdict = outcome.map(Outcome::verdict);
        let run = detail.state.run();
        let record = detail.state.record();
        let totals = record.map(ResourceTotals::of);
        Self {
            id: detail.id.to_string(),
            label: detail.spec.label.clone(),
            status: detail.state.status(),
            reason: verdict.map(|verdict| verdict.reason),
            message: detail.message.clone().or_else(|| detail.output_problem()),
            created_at: detail.created_at.to_string(),
            started_at: run.map(|run| run.started_at.to_string()),
            completed_at: record.map(|record| record.ended_at.to_string()),
            elapsed_seconds: elapsed_seconds(&detail.state, now),
            exit_code: verdict.and_then(|verdict| verdict.exit_code),
            error: outcome.and_then(Outcome::explanation),
            pid: run.and_then(Run::pid),
            command: detail.spec.command(),
            directory: detail.spec.directory.to_text(),
            execution_strategy: detail.spec.environment.interpreter.strategy().to_owned(),
            python_version_used: python_version(detail),
            // A specification written by an earlier version may contain passwords.
            dependencies: detail.spec.environment.requirements.iter().map(|text| masked(text).into_owned()).collect(),
            resolved_dependencies: packages(detail),
            unknown_imports: detail.environment.iter().flat_map(|used| used.unknown_imports.clone()).collect(),
            environment: detail.spec.environment.named.clone().or_else(|| detail.environment.as_ref()?.id.clone()),
            project: ProjectView::of(detail),
            variables: detail.spec.variables.clone(),
            lowered_limits: run
                .map(|run| ulimit::tell_lowered(&detail.spec.resource_limits, &run.lowered_limits))
                .unwrap_or_default(),
            not_taken_over: run.map(|run| run.not_taken_over.clone()).unwrap_or_default(),
            timeout_seconds: detail.spec.timeout_ms.map(|ms| ms as f64 / 1e3),
            network: detail.spec.fence.network,
            filesystem: detail.spec.fence.filesystem,
            stdout_bytes: detail.output.stdout,
            stderr_bytes: detail.output.stderr,
            progress: detail.progress.as_ref().map(ProgressView::of),
            usage: record.zip(totals).map(|(record, totals)| UsageView {
                user_seconds: record.usage.user_us as f64 / 1e6,
                system_seconds: record.usage.system_us as f64 / 1e6,
                unwaited_cpu_seconds: record.usage.unwaited_cpu_us as f64 / 1e6,
                cpu_is_incomplete: record.usage.cpu_is_incomplete,
                peak_rss_mb: totals.peak_rss_mb,
                peak_rss_scope: totals.peak_rss_scope,
                minor_faults: record.usage.minor_faults,
                major_faults: record.usage.major_faults,
                voluntary_switches: record.usage.voluntary_switches,
                involuntary_switches: record.usage.involuntary_switches,
                read_bytes: record.usage.read_bytes(),
                written_bytes: record.usage.written_bytes(),
            }),
            benchmark: BenchmarkView::of(detail),
            artifacts: ArtifactsView::default(),
        }
    }
}

impl JobRow {
    pub fn of(summary: &JobSummary, now: Timestamp) -> Self {
        Self {
            id: summary.id.to_string(),
            label: summary.label.clone(),
            status: summary.status,
            reason: summary.reason,
            created_at: summary.created_at.to_string(),
            started_at: summary.started_at.map(|at| at.to_string()),
            completed_at: summary.ended_at.map(|at| at.to_string()),
            elapsed_seconds: elapsed_of_summary(summary, now),
            exit_code: summary.exit_code,
            pid: summary.pid,
            command: summary.command.clone(),
            directory: summary.directory.to_text(),
            execution_strategy: summary.strategy.clone(),
            stdout_bytes: summary.output.stdout,
            stderr_bytes: summary.output.stderr,
            progress: summary.progress.as_ref().map(ProgressView::of),
        }
    }
}

impl ExecutionView {
    /// Takes the output to show, and adds the timeout mark. [`ExecutionView::complete`] adds artifacts and the profile.
    pub fn of(detail: &JobDetail, stdout: String, mut stderr: String) -> Self {
        let outcome = detail.state.outcome();
        let verdict = outcome.map(Outcome::verdict);
        let totals = detail.state.record().map(ResourceTotals::of);
        if verdict.is_some_and(|verdict| verdict.reason == Reason::TimedOut) {
            if !stderr.is_empty() && !stderr.ends_with('\n') {
                stderr.push('\n');
            }
            stderr.push_str(TIMEOUT_MARK);
            stderr.push('\n');
        }
        Self {
            job_id: detail.id.to_string(),
            status: detail.state.status(),
            reason: verdict.map(|verdict| verdict.reason),
            stdout,
            stderr,
            exit_code: verdict.and_then(|verdict| verdict.exit_code),
            execution_strategy: detail.spec.environment.interpreter.strategy().to_owned(),
            elapsed_seconds: elapsed_seconds(&detail.state, Timestamp::now()),
            wall_time_seconds: totals.map(|totals| totals.wall_time_seconds),
            cpu_time_seconds: totals.map(|totals| totals.cpu_time_seconds),
            peak_rss_mb: totals.map(|totals| totals.peak_rss_mb),
            peak_rss_scope: totals.map(|totals| totals.peak_rss_scope),
            python_version_used: python_version(detail),
            resolved_dependencies: packages(detail),
            project: ProjectView::of(detail),
            error: outcome.and_then(Outcome::explanation),
            output_problem: detail.output_problem(),
            benchmark: BenchmarkView::of(detail),
            artifacts: None,
            profile: None,
        }
    }
}

impl ExecutionView {
    /// Adds what has to be read from the job's files.
    pub fn complete(
        &mut self,
        job: &JobDetail,
        listed: &Result<ArtifactList, String>,
        profile: Option<&Result<ProfileSummary, String>>,
    ) {
        self.artifacts = ArtifactsView::beside(job.id, listed).if_any();
        self.profile = profile.zip(job.spec.profile).map(|(found, spec)| ProfileView::of(found, spec));
    }
}

impl DaemonView {
    pub fn of(status: &DaemonStatus) -> Self {
        Self {
            running: true,
            pid: Some(status.pid),
            version: Some(status.version.clone()),
            socket: status.socket.to_text(),
            uptime_seconds: Some(status.uptime_seconds),
            jobs_running: Some(status.jobs_running),
            jobs_pending: Some(status.jobs_pending),
            rss_bytes: Some(status.rss_bytes),
            memory_total_bytes: None,
            memory_available_bytes: None,
            index_problem: status.index_problem.clone(),
            instance: status.instance.clone(),
            world: Some(status.world.clone()),
            refuses_jobs_from_here: status.for_you.refused.as_ref().map(ToString::to_string),
        }
    }

    pub fn not_running(socket: String) -> Self {
        Self {
            running: false,
            pid: None,
            version: None,
            socket,
            uptime_seconds: None,
            jobs_running: None,
            jobs_pending: None,
            rss_bytes: None,
            memory_total_bytes: None,
            memory_available_bytes: None,
            index_problem: None,
            instance: None,
            world: None,
            refuses_jobs_from_here: None,
        }
    }
}

fn python_version(detail: &JobDetail) -> Option<String> {
    detail.environment.as_ref().map(|used| used.python_version.clone()).filter(|version| !version.is_empty())
}

fn packages(detail: &JobDetail) -> Vec<String> {
    detail.environment.as_ref().map(|used| used.packages.clone()).unwrap_or_default()
}

/// How long a job of a listing has run, in seconds.
pub fn elapsed_of_summary(summary: &JobSummary, now: Timestamp) -> Option<f64> {
    match (summary.elapsed_us, summary.started_at) {
        (Some(elapsed), _) => Some(elapsed as f64 / 1e6),
        (None, Some(started)) if summary.status == Status::Running => Some(started.age_at(now).as_secs_f64()),
        (None, _) => None,
    }
}

/// From the start of the process to its end, or to `now` while it runs; `None` before it has started.
fn elapsed_seconds(state: &JobState, now: Timestamp) -> Option<f64> {
    match (state.record(), state) {
        (Some(record), _) => Some(record.elapsed_us as f64 / 1e6),
        (None, JobState::Running { run } | JobState::Stopping { run, .. }) => {
            Some(run.started_at.age_at(now).as_secs_f64())
        }
        (None, _) => None,
    }
}
