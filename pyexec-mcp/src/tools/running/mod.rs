//! The tools that run something: they differ in what they take, and in whether anybody waits.

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
use crate::execution::{self, Executed, Promoted, Shown};
use parameters::{
    answers, asynchronous, directory, execution as in_any_case, in_directory, measured, profiled, synchronous,
    told_before, with_dependencies,
};
use submission::{Given, source, submission};

/// A result, or where a job has got to whose result is not waited for any longer, or not at all.
const fn executed(left_out: &'static [&'static str]) -> [Shape; 3] {
    [Shape::of::<Executed>().without(left_out), Shape::of::<Promoted>(), Shape::of::<Submitted>()]
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
            perform: |call| run(call, Kept::UntilDone).boxed(),
        },
        Tool {
            name: "py_run_script_with_dependencies",
            title: "Run Python with packages",
            about: "Run inline code or a script file in an environment with the given packages, made by uv and cached. \
                Long runs go on as jobs.",
            hints: Hints::RunsCode,
            parameters: [with_dependencies(), told_before(in_any_case(300)), told_before(synchronous()), answers()]
                .concat(),
            returns: EXECUTED.to_vec(),
            perform: |call| run(call, Kept::UntilDone).boxed(),
        },
        Tool {
            name: "py_benchmark_script",
            title: "Benchmark Python",
            about: "As py_run_script_with_dependencies, measured: wall and CPU time, peak memory of all processes, with \
                statistics over the runs.",
            hints: Hints::RunsCode,
            parameters: told_before(
                [with_dependencies(), measured(), in_any_case(300), synchronous(), answers()].concat(),
            ),
            returns: MEASURED.to_vec(),
            perform: |call| run(call, Kept::UntilDone).boxed(),
        },
        Tool {
            name: "py_profile_script",
            title: "Profile Python",
            about: "As py_run_script_with_dependencies, profiled: what took most time.",
            hints: Hints::RunsCode,
            parameters: told_before(
                [with_dependencies(), profiled(), in_any_case(300), synchronous(), answers()].concat(),
            ),
            returns: PROFILED.to_vec(),
            perform: |call| run(call, Kept::UntilDone).boxed(),
        },
        Tool {
            name: "py_run_script_in_dir_async",
            title: "Start Python in a directory",
            about: "As py_run_script_in_dir, but returns a job_id at once.",
            hints: Hints::RunsCode,
            parameters: told_before([in_directory(), in_any_case(0), asynchronous(), answers()].concat()),
            returns: STARTED.to_vec(),
            perform: |call| run(call, Kept::Started).boxed(),
        },
        Tool {
            name: "py_run_script_with_dependencies_async",
            title: "Start Python with packages",
            about: "As py_run_script_with_dependencies, but returns a job_id at once.",
            hints: Hints::RunsCode,
            parameters: told_before([with_dependencies(), in_any_case(0), asynchronous(), answers()].concat()),
            returns: STARTED.to_vec(),
            perform: |call| run(call, Kept::Started).boxed(),
        },
        Tool {
            name: "py_run_saved_script",
            title: "Run a saved script",
            about: "Run a script that py_save_script has kept.",
            hints: Hints::RunsCode,
            parameters: told_before(
                [
                    vec![Parameter::new("script_name", Kind::Text, "").required(), directory()],
                    in_any_case(300),
                    synchronous(),
                    answers(),
                ]
                .concat(),
            ),
            returns: EXECUTED.to_vec(),
            perform: |call| run(call, Kept::UntilDone).boxed(),
        },
    ]
}

/// For how long the call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// As long as the budget lasts.
    UntilDone,
    /// No longer than it takes to submit.
    Started,
}

async fn run(call: &Call<'_>, kept: Kept) -> Result<Answer, Failure> {
    let given = call.read::<Given>()?.without_fillings();
    let source = source(call, &given).await?;
    let max_bytes = given.max_output_bytes.unwrap_or(DEFAULT_BYTES);
    let shown = Shown { plot: given.plot, images: given.images };
    let waits = kept == Kept::UntilDone && !given.async_mode;
    let job = match submitted_before(call).await? {
        Some(job) => job,
        None => execution::submit(call, submission(call, given, source, waits)?).await?,
    };
    if waits {
        return execution::attend(call, job.id, max_bytes, shown).await;
    }
    Ok(match kept {
        Kept::Started => started(&job),
        Kept::UntilDone => submitted(&job, shown.plot),
    })
}

/// The job that an older server, which this one has taken over from, has submitted for this call.
async fn submitted_before(call: &Call<'_>) -> Result<Option<JobDetail>, Failure> {
    let Some(id) = call.job else { return Ok(None) };
    match call.session.client().await?.show(id).await {
        Ok(job) => Ok(Some(job)),
        // The submission itself was lost.
        Err(ClientError::Refused(Error::NoSuchJob { .. })) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `py_…_async`
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

/// `async_mode=true`
#[derive(Serialize, JsonSchema)]
struct Submitted {
    job_id: String,
    #[schemars(with = "String")]
    status: Status,
    execution_strategy: String,
    message: String,
}

fn submitted(job: &JobDetail, plot: bool) -> Answer {
    // It may have ended already: how is for those who ask.
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
