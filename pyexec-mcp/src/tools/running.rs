//! The tools that run something: they differ in what they take, and in whether anybody waits.

use std::collections::BTreeMap;
use std::path::Path;

use futures::FutureExt;
use pyexec_client::excerpt::DEFAULT_BYTES;
use pyexec_proto::benchmark::BenchmarkSpec;
use pyexec_proto::environment::{EnvironmentSpec, Interpreter, ProjectChoice, PythonVersion};
use pyexec_proto::fence::{Fence, FilesystemFence, NetworkFence};
use pyexec_proto::job::{DEFAULT_GRACE_MS, Leftovers, MAX_STDIN_BYTES, StdinSource, Submission, Variables};
use pyexec_proto::limits::{Limits, OnOutputLimit};
use pyexec_proto::profile::ProfileSpec;
use pyexec_proto::script::Autosave;
use pyexec_proto::{JobDetail, JobId, JobSource, JobSpec, OsText, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Call, Field, Hints, Tool, images, markdown_output, max_output_bytes, milliseconds};
use crate::answer::{Answer, Failure};
use crate::arguments::{Kind, Parameter};
use crate::execution::{self, Shown};
use crate::render;

const EXECUTED: &[(&str, Field)] = &[
    ("job_id", Field::Text),
    ("status", Field::Text),
    ("reason", Field::MaybeText),
    ("stdout", Field::Text),
    ("stderr", Field::Text),
    ("exit_code", Field::MaybeWhole),
    ("execution_strategy", Field::Text),
    ("elapsed_seconds", Field::MaybeNumber),
    ("python_version_used", Field::MaybeText),
    ("resolved_dependencies", Field::Texts),
    ("project", Field::MaybeObject),
    ("artifacts", Field::Objects),
    ("message", Field::Text),
    ("error", Field::MaybeText),
    ("next_step", Field::MaybeText),
];

/// What a benchmark says besides.
const MEASURED: &[(&str, Field)] = &[
    ("wall_time_seconds", Field::MaybeNumber),
    ("cpu_time_seconds", Field::MaybeNumber),
    ("peak_rss_mb", Field::MaybeNumber),
    ("peak_rss_scope", Field::MaybeText),
    ("benchmark", Field::MaybeObject),
];

/// And a profile.
const PROFILED: &[(&str, Field)] = &[("profile", Field::MaybeObject)];

const STARTED: &[(&str, Field)] = &[
    ("job_id", Field::Text),
    ("status", Field::Text),
    ("execution_strategy", Field::Text),
    ("python_version_used", Field::MaybeText),
    ("resolved_dependencies", Field::Texts),
];

pub(super) fn tools() -> Vec<Tool> {
    vec![
        Tool {
            name: "py_run_script_in_dir",
            title: "Run Python in a directory",
            about: "Run script_path, script_content (code) or module (python -m) in a directory. Output comes back inline; \
                after about 20 s a job_id does, and the job goes on.",
            hints: Hints::RunsCode,
            parameters: [in_directory(), execution(300), synchronous(), answers()].concat(),
            returns: &[EXECUTED],
            perform: |call| run(call, Kept::UntilDone).boxed(),
        },
        Tool {
            name: "py_run_script_with_dependencies",
            title: "Run Python with packages",
            about: "Run inline code or a script file in an environment with the given packages, made by uv and cached. \
                Long runs go on as jobs.",
            hints: Hints::RunsCode,
            parameters: [with_dependencies(), told_before(execution(300)), told_before(synchronous()), answers()]
                .concat(),
            returns: &[EXECUTED],
            perform: |call| run(call, Kept::UntilDone).boxed(),
        },
        Tool {
            name: "py_benchmark_script",
            title: "Benchmark Python",
            about: "As py_run_script_with_dependencies, measured: wall and CPU time, peak memory of all processes, with \
                statistics over the runs.",
            hints: Hints::RunsCode,
            parameters: told_before(
                [with_dependencies(), measured(), execution(300), synchronous(), answers()].concat(),
            ),
            returns: &[EXECUTED, MEASURED],
            perform: |call| run(call, Kept::UntilDone).boxed(),
        },
        Tool {
            name: "py_profile_script",
            title: "Profile Python",
            about: "As py_run_script_with_dependencies, profiled: what took most time.",
            hints: Hints::RunsCode,
            parameters: told_before(
                [with_dependencies(), profiled(), execution(300), synchronous(), answers()].concat(),
            ),
            returns: &[EXECUTED, PROFILED],
            perform: |call| run(call, Kept::UntilDone).boxed(),
        },
        Tool {
            name: "py_run_script_in_dir_async",
            title: "Start Python in a directory",
            about: "As py_run_script_in_dir, but returns a job_id at once.",
            hints: Hints::RunsCode,
            parameters: told_before([in_directory(), execution(0), asynchronous(), answers()].concat()),
            returns: &[STARTED],
            perform: |call| run(call, Kept::Started).boxed(),
        },
        Tool {
            name: "py_run_script_with_dependencies_async",
            title: "Start Python with packages",
            about: "As py_run_script_with_dependencies, but returns a job_id at once.",
            hints: Hints::RunsCode,
            parameters: told_before([with_dependencies(), execution(0), asynchronous(), answers()].concat()),
            returns: &[STARTED],
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
                    execution(300),
                    synchronous(),
                    answers(),
                ]
                .concat(),
            ),
            returns: &[EXECUTED],
            perform: |call| run(call, Kept::UntilDone).boxed(),
        },
    ]
}

/// What the parameters are for is said of the first tools that have them, and once is enough: every session pays for it.
fn told_before(parameters: Vec<Parameter>) -> Vec<Parameter> {
    parameters.into_iter().map(Parameter::brief).collect()
}

/// For how long the call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// As long as the budget lasts.
    UntilDone,
    /// No longer than it takes to submit.
    Started,
}

fn directory() -> Parameter {
    Parameter::new("directory", Kind::Path, "")
}

fn sources() -> Vec<Parameter> {
    vec![
        Parameter::new("script_path", Kind::Path, ""),
        Parameter::new("script_content", Kind::Text, "").may_be_empty(),
        Parameter::new("module", Kind::Text, ""),
    ]
}

fn python_version() -> Parameter {
    Parameter::new("python_version", Kind::Text, "e.g. 3.12")
}

fn in_directory() -> Vec<Parameter> {
    let own = vec![
        directory().about("must exist").required(),
        Parameter::new("use_uv", Kind::Flag, "false: python3 on PATH").default(true),
        python_version(),
    ];
    [own, sources()].concat()
}

fn with_dependencies() -> Vec<Parameter> {
    let own = vec![
        Parameter::new("dependencies", Kind::Texts, "PEP 508, e.g. numpy>=2"),
        python_version(),
        Parameter::new("environment", Kind::Text, "instead: name of py_create_environment"),
        directory(),
    ];
    [sources(), own].concat()
}

/// What every tool takes that runs something.
fn execution(timeout_seconds: u32) -> Vec<Parameter> {
    const LIMITS: Kind = Kind::Object(&[
        ("memory_mb", Kind::Number { least: 1.0, most: (u64::MAX >> 20) as f64 }),
        ("cpu_seconds", Kind::Number { least: 0.001, most: LONGEST }),
        ("processes", Kind::Whole { least: 1, most: u32::MAX as u64 }),
        ("output_bytes", Kind::Whole { least: 1, most: u64::MAX }),
        ("on_output_limit", Kind::Choice(&["drop_oldest", "stop"])),
        ("nice", Kind::Whole { least: 0, most: 19 }),
        ("network", Kind::Choice(&["none"])),
        ("filesystem", Kind::Choice(&["read-only", "workdir"])),
    ]);
    // A hundred years; far beyond there is no difference to forever.
    const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;
    vec![
        Parameter::new("args", Kind::Texts, ""),
        Parameter::new("env_vars", Kind::Map, ""),
        Parameter::new("env_file", Kind::Path, ""),
        Parameter::new("timeout_seconds", Kind::Number { least: 0.0, most: LONGEST }, "0: none")
            .default(timeout_seconds),
        Parameter::new("job_label", Kind::Text, ""),
        Parameter::new("stdin", Kind::Text, "").may_be_empty(),
        Parameter::new("open_stdin", Kind::Flag, "for py_send_input"),
        Parameter::new("auto_install_deps", Kind::Flag, "add what is imported"),
        Parameter::new("no_project", Kind::Flag, "without the project and its .venv"),
        Parameter::new(
            "limits",
            LIMITS,
            "memory_mb, cpu_seconds, processes: of all together; output_bytes, on_output_limit, nice; network: none; \
            filesystem: read-only, workdir",
        ),
    ]
}

fn measured() -> Vec<Parameter> {
    const MOST_RUNS: u64 = BenchmarkSpec::MAX_RUNS as u64;
    const LONGEST: f64 = (BenchmarkSpec::MAX_SAMPLE_INTERVAL_MS / 1000) as f64;
    vec![
        Parameter::new("runs", Kind::Whole { least: 1, most: MOST_RUNS }, "").default(1),
        Parameter::new("warmup_runs", Kind::Whole { least: 0, most: MOST_RUNS }, "").default(0),
        Parameter::new("sample_interval", Kind::Number { least: 0.001, most: LONGEST }, "seconds").default(0.05),
        Parameter::new("plot", Kind::Flag, "show memory and CPU over time"),
    ]
}

fn profiled() -> Vec<Parameter> {
    const MOST: u64 = ProfileSpec::MAX_TOP as u64;
    vec![Parameter::new("top", Kind::Whole { least: 1, most: MOST }, "").default(ProfileSpec::DEFAULT_TOP)]
}

fn synchronous() -> Vec<Parameter> {
    vec![
        Parameter::new("async_mode", Kind::Flag, "return a job_id at once"),
        images().about("also return image artifacts"),
    ]
}

fn asynchronous() -> Vec<Parameter> {
    vec![Parameter::new("stream", Kind::Flag, "").default(true)]
}

fn answers() -> Vec<Parameter> {
    vec![max_output_bytes(), markdown_output()]
}

/// What these tools were given, all of them together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    script_path: Option<String>,
    script_content: Option<String>,
    module: Option<String>,
    script_name: Option<String>,
    directory: Option<String>,
    use_uv: Option<bool>,
    python_version: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
    environment: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env_vars: BTreeMap<String, String>,
    env_file: Option<String>,
    timeout_seconds: f64,
    job_label: Option<String>,
    stdin: Option<String>,
    #[serde(default)]
    open_stdin: bool,
    #[serde(default)]
    auto_install_deps: bool,
    #[serde(default)]
    no_project: bool,
    #[serde(default)]
    limits: GivenLimits,
    #[serde(default)]
    async_mode: bool,
    runs: Option<u32>,
    warmup_runs: Option<u32>,
    sample_interval: Option<f64>,
    #[serde(default)]
    plot: bool,
    top: Option<u32>,
    #[serde(default)]
    images: bool,
    stream: Option<bool>,
    max_output_bytes: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenLimits {
    memory_mb: Option<f64>,
    cpu_seconds: Option<f64>,
    processes: Option<u32>,
    output_bytes: Option<u64>,
    #[serde(default)]
    on_output_limit: OnOutputLimit,
    nice: Option<i32>,
    network: Option<NetworkFence>,
    filesystem: Option<FilesystemFence>,
}

impl Given {
    /// Empty code and an empty stdin are values of their own, but not beside the alternative to them: that is what clients
    /// send that fill in everything.
    fn without_fillings(mut self) -> Self {
        let is_filling = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
        if (self.script_path.is_some() || self.module.is_some()) && is_filling(&self.script_content) {
            self.script_content = None;
        }
        if self.open_stdin && is_filling(&self.stdin) {
            self.stdin = None;
        }
        self
    }
}

impl GivenLimits {
    fn fence(&self) -> Fence {
        Fence { network: self.network, filesystem: self.filesystem }
    }

    fn limits(&self) -> Limits {
        const MIB: f64 = (1 << 20) as f64;
        Limits {
            memory_bytes: self.memory_mb.map(|mib| (mib * MIB) as u64),
            cpu_ms: self.cpu_seconds.map(milliseconds),
            processes: self.processes,
            output_bytes: self.output_bytes,
            on_output_limit: self.on_output_limit,
        }
    }
}

async fn run(call: &Call<'_>, kept: Kept) -> Result<Answer, Failure> {
    let given = call.read::<Given>()?.without_fillings();
    let source = source(call, &given).await?;
    let max_bytes = given.max_output_bytes.unwrap_or(DEFAULT_BYTES);
    let shown = Shown { plot: given.plot, images: given.images };
    let waits = kept == Kept::UntilDone && !given.async_mode;
    let autosave = given.script_content.as_ref().map(|code| code.clone().into_bytes());
    let submission = submission(call, given, source, waits)?;
    let job = execution::submit(call, submission).await?;
    // While Python starts.
    let autosaved = autosave_as(call, &job, autosave);
    if waits {
        let (answer, ()) = tokio::join!(execution::attend(call, job.id, max_bytes, shown), autosaved);
        return answer;
    }
    autosaved.await;
    Ok(match kept {
        Kept::Started => started(&job),
        Kept::UntilDone => submitted(&job, shown.plot),
    })
}

/// Exactly one of what a script can be given as.
async fn source(call: &Call<'_>, given: &Given) -> Result<JobSource, Failure> {
    const NEXT: &str =
        "give script_path (a file), script_content (the code itself) or module (as python -m takes it), one of them";
    if let Some(name) = &given.script_name {
        let script = call.server.client().await?.view_script(name, false).await?;
        return Ok(JobSource::File { path: script.path });
    }
    match (&given.script_path, &given.script_content, &given.module) {
        (Some(path), None, None) => Ok(JobSource::File { path: path.as_str().into() }),
        (None, Some(code), None) => inline(code),
        (None, None, Some(module)) => Ok(JobSource::Module { module: module.as_str().into() }),
        (None, None, None) => {
            Err(Failure::argument("neither script_path nor script_content nor module is given", NEXT))
        }
        (path, code, module) => {
            let all = [("script_path", path), ("script_content", code), ("module", module)];
            let given = all.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name);
            let given = given.collect::<Vec<_>>();
            let are = if given.len() == 2 { "are both given" } else { "are all given" };
            Err(Failure::argument(format!("{} {are}", given.join(" and ")), NEXT))
        }
    }
}

fn inline(code: &str) -> Result<JobSource, Failure> {
    if code.contains('\0') {
        return Err(Failure::argument("script_content has a NUL character", "write it as \"\\x00\" inside a string"));
    }
    Ok(JobSource::Inline { code: code.into() })
}

fn submission(call: &Call<'_>, given: Given, source: JobSource, waited_for: bool) -> Result<Submission, Failure> {
    let environment = environment(&given)?;
    let stdin = match (&given.stdin, given.open_stdin) {
        (Some(_), true) => {
            return Err(Failure::argument(
                "stdin and open_stdin are both given",
                "give all of it as stdin, or open_stdin=true and then py_send_input",
            ));
        }
        (Some(text), false) if text.len() > MAX_STDIN_BYTES => {
            return Err(Failure::argument(
                format!("stdin has {} bytes; {MAX_STDIN_BYTES} is the most", text.len()),
                "put it into a file, and let the script open that",
            ));
        }
        // Empty text is a stdin that has ended, as /dev/null is.
        (Some(_), false) => StdinSource::Given,
        (None, true) => StdinSource::Open,
        (None, false) => StdinSource::Null,
    };
    // Of one tool, which has a default for each of them.
    let benchmark = given.runs.map(|runs| BenchmarkSpec {
        runs,
        warmup_runs: given.warmup_runs.unwrap_or(0),
        sample_interval_ms: given.sample_interval.map_or(BenchmarkSpec::DEFAULT_SAMPLE_INTERVAL_MS, milliseconds),
    });
    let caller = call.server.caller();
    let mut overrides = Variables::default();
    for (name, value) in &given.env_vars {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Failure::argument(
                format!("env_vars can not have a variable {}", render::code(name)),
                "a name has no `=` in it, and neither has a NUL character",
            ));
        }
        overrides.set(name.as_ref(), value.as_ref());
    }
    let spec = JobSpec {
        source,
        args: given.args.into_iter().map(OsText::from).collect(),
        directory: directory_of(call, given.directory.as_deref())?,
        environment,
        env_file: given.env_file.map(OsText::from),
        stdin,
        timeout_ms: (given.timeout_seconds > 0.0).then(|| milliseconds(given.timeout_seconds)),
        grace_ms: DEFAULT_GRACE_MS,
        label: given.job_label,
        variables: given.env_vars.into_keys().collect(),
        umask: caller.umask,
        resource_limits: caller.limits.clone(),
        nice: caller.nice.max(given.limits.nice.unwrap_or(caller.nice)),
        timer_slack_ns: caller.timer_slack_ns,
        personality: caller.personality,
        buffering: None,
        leftovers: Leftovers::End,
        waited_for,
        notify_output: given.stream.unwrap_or(true),
        parent: caller.parent,
        benchmark,
        profile: given.top.map(|top| ProfileSpec { top }),
        attached: false,
        limits: given.limits.limits(),
        fence: given.limits.fence(),
    };
    let stdin = given.stdin.unwrap_or_default().into_bytes();
    Ok(Submission {
        id: JobId::mint(),
        spec,
        environment: caller.environment.clone(),
        overrides,
        stdin,
        env_file: None,
    })
}

fn environment(given: &Given) -> Result<EnvironmentSpec, Failure> {
    if given.use_uv == Some(false) {
        let needs_uv =
            [("python_version", given.python_version.is_some()), ("auto_install_deps", given.auto_install_deps)];
        if let Some((name, _)) = needs_uv.into_iter().find(|(_, is_given)| *is_given) {
            return Err(Failure::argument(
                format!("`{name}` can not be had with use_uv=false"),
                format!("leave out `{name}`, or leave use_uv at true"),
            ));
        }
        return Ok(EnvironmentSpec::bare(Interpreter::System));
    }
    if let Some(name) = &given.environment {
        let other = [
            ("dependencies", !given.dependencies.is_empty()),
            ("python_version", given.python_version.is_some()),
            ("auto_install_deps", given.auto_install_deps),
        ];
        if let Some((other, _)) = other.into_iter().find(|(_, is_given)| *is_given) {
            return Err(Failure::argument(
                format!("`environment` and `{other}` are both given"),
                format!("environment {} is used as it was made: leave out one of them", render::code(name)),
            ));
        }
    }
    let version = given.python_version.as_deref().map(python).transpose()?;
    Ok(EnvironmentSpec {
        requirements: given.dependencies.clone(),
        named: given.environment.clone(),
        auto_install: given.auto_install_deps,
        // An agent's code gets what a project has made, and never makes a project's environment itself.
        project: match (given.no_project, &given.script_path) {
            (true, _) => ProjectChoice::None,
            (false, Some(_)) => ProjectChoice::OfScript,
            (false, None) => ProjectChoice::AsFound,
        },
        ..EnvironmentSpec::bare(Interpreter::Uv { version })
    })
}

pub(super) fn python(given: &str) -> Result<PythonVersion, Failure> {
    let refused = |error: pyexec_proto::environment::InvalidPythonVersion| {
        Failure::argument(error.to_string(), "give a minor version, such as \"3.12\"")
    };
    given.parse().map_err(refused)
}

/// Where the server was started is where relative paths start.
fn directory_of(call: &Call<'_>, given: Option<&str>) -> Result<OsText, Failure> {
    match (given, call.server.directory()) {
        (Some(given), _) if Path::new(given).is_absolute() => Ok(given.into()),
        (Some(given), Some(here)) => Ok(here.join(given).into()),
        (None, Some(here)) => Ok(here.clone().into()),
        (_, None) => Err(Failure::argument(
            "the directory that this server was started in is not there any more",
            "give `directory` as an absolute path",
        )),
    }
}

/// Code that was given inline is kept, so that it can be found again. It is no reason for the call to fail.
async fn autosave_as(call: &Call<'_>, job: &JobDetail, source: Option<Vec<u8>>) {
    let Some(source) = source else { return };
    let parameters = Value::Object(call.arguments.clone()).to_string();
    let tool = call.tool.name.to_owned();
    let autosave = Autosave { job: job.id, submitted_at: job.created_at, tool, source, parameters };
    let saved = async { call.server.client().await?.autosave_script(&autosave).await.map_err(Failure::from) };
    if let Err(error) = saved.await {
        tracing::warn!("the code of job {} is not among the autosaved scripts: {error}", job.id);
    }
}

/// `py_…_async`
#[derive(Serialize)]
struct Started {
    job_id: String,
    status: &'static str,
    execution_strategy: String,
    python_version_used: Option<String>,
    resolved_dependencies: Vec<String>,
}

fn started(job: &JobDetail) -> Answer {
    let view = pyexec_view::ExecutionView::of(job, String::new(), String::new());
    let started = Started {
        job_id: job.id.to_string(),
        status: "started",
        execution_strategy: view.execution_strategy,
        python_version_used: view.python_version_used,
        resolved_dependencies: view.resolved_dependencies,
    };
    Answer::new(follow_up("Started", job.id, false), &started)
}

/// `async_mode=true`
#[derive(Serialize)]
struct Submitted {
    job_id: String,
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
    Answer::new(follow_up(render::status(status), job.id, plot), &submitted)
}

fn follow_up(status: &str, id: JobId, plot: bool) -> String {
    let wait = execution::wait_for_result(id, plot);
    format!("**{status}** · job `{id}`\n\n**Next:** {wait}; py_get_job_output reads its output as it comes.")
}
