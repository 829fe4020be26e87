//! The tools that run code. They differ in their parameters, and in whether the call waits.

mod parameters;
mod submission;

use futures::FutureExt;
use pyexec_client::ClientError;
use pyexec_client::excerpt::DEFAULT_BYTES;
use pyexec_proto::{Error, JobDetail, JobId, Status};
use pyexec_view::ExecutionView;
use schemars::JsonSchema;
use serde::Serialize;

use super::schema::Shape;
use super::tool::{Hints, Tool};
use crate::answer::{Answer, Failure, render};
use crate::arguments::{Kind, Parameter};
use crate::call::Call;
use crate::execution::{self, Executed, Extras, StillRunning};
use parameters::{
    answers, asynchronous, directory, execution as in_any_case, in_directory, measured, profiled, synchronous,
    with_dependencies, without_descriptions,
};
use submission::{Given, source, submission};

/// The possible results: that of a finished job, or the state of a job that the call does not wait for.
const fn executed(left_out: &'static [&'static str]) -> [Shape; 3] {
    [Shape::of::<Executed>().without(left_out), Shape::of::<StillRunning>(), Shape::of::<Submitted>()]
}

const EXECUTED: [Shape; 3] =
    executed(&["wall_time_seconds", "cpu_time_seconds", "peak_rss_mb", "peak_rss_scope", "benchmark", "profile"]);
const MEASURED: [Shape; 3] = executed(&["profile"]);
const PROFILED: [Shape; 3] =
    executed(&["wall_time_seconds", "cpu_time_seconds", "peak_rss_mb", "peak_rss_scope", "benchmark"]);
const STARTED: [Shape; 1] = [Shape::of::<Started>()];

pub(super) fn tools() -> Vec<Tool> {
    vec![
        Tool {
            name: "py_run_script_in_dir",
            title: "Run Python in a directory",
            about: "Run script_path, script_content (code) or module (python -m) in a directory. Output comes back inline; \
                after about 20 s a job_id does, and the job goes on.",
            hints: Hints::RunsCode,
            parameters: [in_directory(), in_any_case(300), synchronous(), answers()].concat(),
            returns: EXECUTED.to_vec(),
            perform: |call| run(call, Wait::ForResult).boxed(),
        },
        Tool {
            name: "py_run_script_with_dependencies",
            title: "Run Python with packages",
            about: "Run inline code or a script file in an environment with the given packages, made by uv and cached. \
                Long runs go on as jobs.",
            hints: Hints::RunsCode,
            parameters: [
                with_dependencies(),
                without_descriptions(in_any_case(300)),
                without_descriptions(synchronous()),
                answers(),
            ]
            .concat(),
            returns: EXECUTED.to_vec(),
            perform: |call| run(call, Wait::ForResult).boxed(),
        },
        Tool {
            name: "py_benchmark_script",
            title: "Benchmark Python",
            about: "As py_run_script_with_dependencies, measured: wall and CPU time, peak memory of all processes, with \
                statistics over the runs.",
            hints: Hints::RunsCode,
            parameters: without_descriptions(
                [with_dependencies(), measured(), in_any_case(300), synchronous(), answers()].concat(),
            ),
            returns: MEASURED.to_vec(),
            perform: |call| run(call, Wait::ForResult).boxed(),
        },
        Tool {
            name: "py_profile_script",
            title: "Profile Python",
            about: "As py_run_script_with_dependencies, profiled: what took most time.",
            hints: Hints::RunsCode,
            parameters: without_descriptions(
                [with_dependencies(), profiled(), in_any_case(300), synchronous(), answers()].concat(),
            ),
            returns: PROFILED.to_vec(),
            perform: |call| run(call, Wait::ForResult).boxed(),
        },
        Tool {
            name: "py_run_script_in_dir_async",
            title: "Start Python in a directory",
            about: "As py_run_script_in_dir, but returns a job_id at once.",
            hints: Hints::RunsCode,
            parameters: without_descriptions([in_directory(), in_any_case(0), asynchronous(), answers()].concat()),
            returns: STARTED.to_vec(),
            perform: |call| run(call, Wait::ForStart).boxed(),
        },
        Tool {
            name: "py_run_script_with_dependencies_async",
            title: "Start Python with packages",
            about: "As py_run_script_with_dependencies, but returns a job_id at once.",
            hints: Hints::RunsCode,
            parameters: without_descriptions([with_dependencies(), in_any_case(0), asynchronous(), answers()].concat()),
            returns: STARTED.to_vec(),
            perform: |call| run(call, Wait::ForStart).boxed(),
        },
        Tool {
            name: "py_run_saved_script",
            title: "Run a saved script",
            about: "Run a script that py_save_script has kept.",
            hints: Hints::RunsCode,
            parameters: without_descriptions(
                [
                    vec![Parameter::new("script_name", Kind::Text, "").required(), directory()],
                    in_any_case(300),
                    synchronous(),
                    answers(),
                ]
                .concat(),
            ),
            returns: EXECUTED.to_vec(),
            perform: |call| run(call, Wait::ForResult).boxed(),
        },
    ]
}

/// How long a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// For the result, as long as the budget lasts.
    ForResult,
    /// Only until the job is submitted.
    ForStart,
}

async fn run(call: &Call<'_>, wait: Wait) -> Result<Answer, Failure> {
    let given = call.read::<Given>()?.without_fillers();
    let source = source(call, &given).await?;
    let max_bytes = given.max_output_bytes.unwrap_or(DEFAULT_BYTES);
    let extras = Extras { plot: given.plot, images: given.images };
    let waits = wait == Wait::ForResult && !given.async_mode;
    let job = match submitted_before(call).await? {
        Some(job) => job,
        None => execution::submit(call, submission(call, given, source, waits)?).await?,
    };
    if waits {
        return execution::attend(call, job.id, max_bytes, extras).await;
    }
    Ok(match wait {
        Wait::ForStart => started(&job),
        Wait::ForResult => submitted(&job, extras.plot),
    })
}

/// The job that an older server, from which this one took over, has submitted for this call.
async fn submitted_before(call: &Call<'_>) -> Result<Option<JobDetail>, Failure> {
    let Some(id) = call.job else { return Ok(None) };
    match call.session.client().await?.show(id).await {
        Ok(job) => Ok(Some(job)),
        // The submission was lost.
        Err(ClientError::Refused(Error::NoSuchJob { .. })) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The result of `py_…_async`.
#[derive(Serialize, JsonSchema)]
struct Started {
    job_id: String,
    status: &'static str,
    execution_strategy: String,
    python_version_used: Option<String>,
    resolved_dependencies: Vec<String>,
}

fn started(job: &JobDetail) -> Answer {
    let view = ExecutionView::of(job, String::new(), String::new());
    let started = Started {
        job_id: job.id.to_string(),
        status: "started",
        execution_strategy: view.execution_strategy,
        python_version_used: view.python_version_used,
        resolved_dependencies: view.resolved_dependencies,
    };
    Answer::new(follow_up("Started", job.id, false), started)
}

/// The result of `async_mode=true`.
#[derive(Serialize, JsonSchema)]
struct Submitted {
    job_id: String,
    #[schemars(with = "String")]
    status: Status,
    execution_strategy: String,
    message: String,
}

fn submitted(job: &JobDetail, plot: bool) -> Answer {
    // A job that has already ended is reported as running; py_job_status has its result.
    let status = if job.state.status() == Status::Pending { Status::Pending } else { Status::Running };
    let submitted = Submitted {
        job_id: job.id.to_string(),
        status,
        execution_strategy: job.spec.environment.interpreter.strategy().to_owned(),
        message: execution::wait_for_result(job.id, plot),
    };
    Answer::new(follow_up(render::status(status), job.id, plot), submitted)
}

fn follow_up(status: &str, id: JobId, plot: bool) -> String {
    let wait = execution::wait_for_result(id, plot);
    format!("**{status}** · job `{id}`\n\n**Next:** {wait}; py_get_job_output reads its output as it comes.")
}
