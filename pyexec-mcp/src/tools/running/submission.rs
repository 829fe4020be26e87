//! Builds the submission for a call.

use std::collections::BTreeMap;
use std::path::Path;

use pyexec_client::submission::Draft;
use pyexec_proto::benchmark::BenchmarkSpec;
use pyexec_proto::environment::{Contradiction, EnvironmentOption, EnvironmentSpec, Interpreter, ProjectChoice};
use pyexec_proto::fence::{Fence, FilesystemFence, NetworkFence};
use pyexec_proto::job::{MAX_STDIN_BYTES, StdinSource, Submission, Watching};
use pyexec_proto::limits::{Limits, OnOutputLimit};
use pyexec_proto::profile::ProfileSpec;
use pyexec_proto::script::Autosave;
use pyexec_proto::{JobSource, JobSpec, OsText};
use serde::Deserialize;
use serde_json::Value;

use crate::answer::{Failure, render};
use crate::call::Call;
use crate::tools::parameters::{milliseconds, python};

/// The parameters of all these tools.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    pub(super) script_path: Option<String>,
    pub(super) script_content: Option<String>,
    pub(super) module: Option<String>,
    pub(super) script_name: Option<String>,
    pub(super) directory: Option<String>,
    pub(super) use_uv: Option<bool>,
    pub(super) python_version: Option<String>,
    #[serde(default)]
    pub(super) dependencies: Vec<String>,
    pub(super) environment: Option<String>,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env_vars: BTreeMap<String, String>,
    pub(super) env_file: Option<String>,
    pub(super) timeout_seconds: f64,
    pub(super) job_label: Option<String>,
    pub(super) stdin: Option<String>,
    #[serde(default)]
    pub(super) open_stdin: bool,
    #[serde(default)]
    pub(super) auto_install_deps: bool,
    #[serde(default)]
    pub(super) no_project: bool,
    #[serde(default)]
    pub(super) limits: GivenLimits,
    #[serde(default)]
    pub(super) async_mode: bool,
    pub(super) runs: Option<u32>,
    pub(super) warmup_runs: Option<u32>,
    pub(super) sample_interval: Option<f64>,
    #[serde(default)]
    pub(super) plot: bool,
    pub(super) top: Option<u32>,
    #[serde(default)]
    pub(super) images: bool,
    pub(super) stream: Option<bool>,
    pub(super) max_output_bytes: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GivenLimits {
    pub(super) memory_mb: Option<f64>,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) processes: Option<u32>,
    pub(super) output_bytes: Option<u64>,
    #[serde(default)]
    pub(super) on_output_limit: OnOutputLimit,
    pub(super) nice: Option<i32>,
    pub(super) network: Option<NetworkFence>,
    pub(super) filesystem: Option<FilesystemFence>,
}

impl Given {
    /// Removes empty code and empty stdin if their alternative is given. Both are valid values, but clients that fill
    /// in all parameters send them too.
    pub(super) fn without_fillers(mut self) -> Self {
        let is_filler = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
        if (self.script_path.is_some() || self.module.is_some()) && is_filler(&self.script_content) {
            self.script_content = None;
        }
        if self.open_stdin && is_filler(&self.stdin) {
            self.stdin = None;
        }
        self
    }
}

impl GivenLimits {
    pub(super) fn fence(&self) -> Fence {
        Fence { network: self.network, filesystem: self.filesystem }
    }

    pub(super) fn limits(&self) -> Limits {
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

/// The source of the job: exactly one of the alternatives has to be given.
pub(super) async fn source(call: &Call<'_>, given: &Given) -> Result<JobSource, Failure> {
    const NEXT: &str =
        "give script_path (a file), script_content (the code itself) or module (as python -m takes it), one of them";
    if let Some(name) = &given.script_name {
        let script = call.session.client().await?.view_script(name, false).await?;
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

pub(super) fn submission(
    call: &Call<'_>,
    given: Given,
    source: JobSource,
    waited_for: bool,
) -> Result<Submission, Failure> {
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
                format!("stdin has {} bytes; the limit is {MAX_STDIN_BYTES}", text.len()),
                "put it into a file that the script opens",
            ));
        }
        // Empty text is a stdin at its end, like /dev/null.
        (Some(_), false) => StdinSource::Given,
        (None, true) => StdinSource::Open,
        (None, false) => StdinSource::Null,
    };
    // Parameters of one tool, which has defaults for all of them.
    let benchmark = given.runs.map(|runs| BenchmarkSpec {
        runs,
        warmup_runs: given.warmup_runs.unwrap_or(0),
        sample_interval_ms: given.sample_interval.map_or(BenchmarkSpec::DEFAULT_SAMPLE_INTERVAL_MS, milliseconds),
    });
    let directory = directory_of(call, given.directory.as_deref())?;
    let autosave = given.script_content.is_some().then(|| autosave(call));
    let mut draft = Draft::new(call.caller(), source, directory, environment);
    for (name, value) in &given.env_vars {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(Failure::argument(
                format!("env_vars cannot contain a variable named {}", render::code(name)),
                "a name must not contain `=`, and neither name nor value a NUL character",
            ));
        }
        draft.set_variable(name.as_ref(), value.as_ref());
    }
    draft.spec.stdin = stdin;
    if let Some(text) = given.stdin {
        draft.set_stdin(text.into_bytes());
    }
    if let Some(nice) = given.limits.nice {
        draft.raise_nice_to(nice);
    }
    if let Some(id) = call.job {
        // The same id as before, so that it is the same job if it was accepted.
        draft.id = id;
    }
    draft.autosave = autosave;
    draft.watching = Watching { waited_for, notify_output: given.stream.unwrap_or(true), ..draft.watching };
    draft.spec = JobSpec {
        args: given.args.into_iter().map(OsText::from).collect(),
        env_file: given.env_file.map(OsText::from),
        timeout_ms: (given.timeout_seconds > 0.0).then(|| milliseconds(given.timeout_seconds)),
        label: given.job_label,
        benchmark,
        profile: given.top.map(|top| ProfileSpec { top }),
        limits: given.limits.limits(),
        fence: given.limits.fence(),
        ..draft.spec
    };
    Ok(draft.submission())
}

/// Inline code is kept, so that it can be found again. The parameters omit what the submission carries separately: the
/// code, and values that may be secret.
fn autosave(call: &Call<'_>) -> Autosave {
    const BESIDE: [&str; 4] = ["script_content", "args", "env_vars", "stdin"];
    let mut parameters = call.arguments.clone();
    parameters.retain(|name, _| !BESIDE.contains(&name.as_str()));
    Autosave { tool: call.name.to_owned(), parameters: Value::Object(parameters).to_string() }
}

fn environment(given: &Given) -> Result<EnvironmentSpec, Failure> {
    let version = given.python_version.as_deref().map(python).transpose()?;
    let use_uv = given.use_uv != Some(false);
    let refused = |found| contradiction(given, found);
    let asked = EnvironmentSpec {
        requirements: given.dependencies.clone(),
        named: given.environment.clone(),
        auto_install: given.auto_install_deps,
        // Agents' code uses a project's existing environment, and never creates it.
        project: match (use_uv, given.no_project, &given.script_path) {
            (false, ..) => ProjectChoice::default(),
            (true, true, _) => ProjectChoice::None,
            (true, false, Some(_)) => ProjectChoice::OfScript,
            (true, false, None) => ProjectChoice::AsFound,
        },
        ..EnvironmentSpec::bare(Interpreter::choose(use_uv, version).map_err(refused)?)
    };
    asked.contradiction().map_or(Ok(asked), |found| Err(refused(found)))
}

fn contradiction(given: &Given, found: Contradiction) -> Failure {
    let name = |option| match option {
        EnvironmentOption::Python => "python_version",
        EnvironmentOption::Requirements => "dependencies",
        EnvironmentOption::Named => "environment",
        EnvironmentOption::AutoInstall => "auto_install_deps",
        // No tool has these parameters.
        EnvironmentOption::RequirementsFile => "requirements_file",
        EnvironmentOption::Refresh => "refresh",
    };
    match found {
        Contradiction::WithoutUv(option) => {
            let name = name(option);
            Failure::argument(
                format!("`{name}` cannot be combined with use_uv=false"),
                format!("leave out `{name}`, or leave use_uv at true"),
            )
        }
        Contradiction::BesideNamed(option) => {
            let named = render::code(given.environment.as_deref().unwrap_or_default());
            Failure::argument(
                format!("`environment` and `{}` are both given", name(option)),
                format!("environment {named} is used as it was created: leave out one of them"),
            )
        }
    }
}

/// Relative paths start at the directory that the server was started in.
fn directory_of(call: &Call<'_>, given: Option<&str>) -> Result<OsText, Failure> {
    match (given, call.session.directory()) {
        (Some(given), _) if Path::new(given).is_absolute() => Ok(given.into()),
        (Some(given), Some(here)) => Ok(here.join(given).into()),
        (None, Some(here)) => Ok(here.into()),
        (_, None) => Err(Failure::argument(
            "the directory that this server was started in no longer exists",
            "give `directory` as an absolute path",
        )),
    }
}
