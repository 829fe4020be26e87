//! From what a job asks of its environment to the command that runs it.
//!
//! uv resolves, downloads and installs; what is added here is not to pay for it twice. A request resolves to a lock, the
//! lock and the interpreter are the address of an environment, and that is built once and then run directly by its own
//! interpreter.

mod error;
pub mod variables;

mod build;
mod cache;
mod command;
mod contents;
mod discovery;
mod hashes;
mod inline;
mod interpreter;
mod job_files;
mod locks;
mod log;
mod mark;
mod named;
pub(crate) mod passwords;
mod present;
mod project;
mod python_request;
mod request;
mod runner;
mod sent_files;
mod settings;
mod shelf;
mod startup;
mod uv;
mod way;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyexec_proto::environment::{Contradiction, EnvironmentSpec, Interpreter, ProjectUse, ResolvedEnvironment};
use pyexec_proto::error::Named;
use pyexec_proto::fence::Fence;
use pyexec_proto::job::{Buffering, JobSource, JobSpec, Variables};
use pyexec_proto::paths::Paths;
use pyexec_proto::url_password::masked;
use pyexec_proto::variables::{
    ARTIFACTS_VARIABLE, FENCE_VARIABLE, JOB_ID_VARIABLE, PROGRESS_VARIABLE, TEMPORARY_VARIABLE,
};
use pyexec_proto::{Error, JobId, OsText};
use pyexec_python::{imports, python_requirement, script_metadata};
use pyexec_run_directory::private::create_private;
use pyexec_run_directory::report;

use crate::client_files::{ClientFiles, Deadline, Kind, Problem};
use crate::config::Config;
use build::Wanted;
use cache::Cache;
pub use cache::Lease;
pub use command::{Command, Target};
pub use error::EnvironmentError;
use hashes::Hashes;
use interpreter::{Caller, Interpreters};
use job_files::{requirements_file, script};
pub use log::PreparationLog;
use mark::{Former, Mark};
use named::Names;
use passwords::Password;
use project::{Belonging, Job};
use python_request::Wishes;
use runner::{PlainRun, Runner, activate, plain_uv_run};
use sent_files::place_sent;
use settings::Settings;
use uv::Uv;
use way::Way;

/// How long a submission waits for uv to say which Pythons there are.
const UV_PATIENCE: Duration = Duration::from_secs(20);

/// A job that can be started.
#[derive(Debug)]
pub struct Prepared {
    pub command: Command,
    pub used: ResolvedEnvironment,
    /// Of an environment of ours: to be held for as long as the job runs.
    pub lease: Option<Lease>,
}

/// What a job in a fence finds in its environment, and the places in which it may write.
async fn fence_off(
    id: JobId,
    fence: Fence,
    run_directory: &Path,
    variables: &mut Variables,
    files: &ClientFiles,
) -> Result<(), EnvironmentError> {
    variables.set(OsStr::new(FENCE_VARIABLE), OsStr::new(&fence.to_string()));
    if fence.filesystem.is_none() {
        return Ok(());
    }
    let reports = run_directory.join(report::REPORTS);
    create_private(&reports).map_err(EnvironmentError::Artifacts)?;
    variables.set(OsStr::new(PROGRESS_VARIABLE), reports.join(report::REPORTED).as_os_str());
    // Short, and not in the run directory: sockets are made there, whose paths have to fit into 107 bytes.
    let base = match variables.get(TEMPORARY_VARIABLE).map(PathBuf::from).filter(|base| base.is_absolute()) {
        Some(base) if matches!(files.kind(&base).await, Ok(Some(Kind::Directory))) => Some(base),
        Some(_) | None => None,
    };
    let own = base.unwrap_or_else(|| PathBuf::from("/tmp")).join(format!("pyexec-{}", &id.simple()[..16]));
    variables.set(OsStr::new(TEMPORARY_VARIABLE), own.as_os_str());
    Ok(())
}

/// Finds interpreters, makes environments, and makes commands of specifications.
#[derive(Debug)]
pub struct Environments {
    uv: Uv,
    interpreters: Interpreters,
    cache: Arc<Cache>,
    client_files: ClientFiles,
    names: Names,
    /// Where scripts are that somebody has saved.
    scripts: PathBuf,
    cache_directory: PathBuf,
    /// Where the code lies that a job's Python begins with; `None` where there is no place for it.
    startup_place: Option<PathBuf>,
    settings: Config,
    mark: Mark,
    /// Until it has been ended.
    former: Mutex<Option<Former>>,
}

/// What is to be prepared.
#[derive(Debug)]
pub struct Preparation {
    pub id: JobId,
    pub spec: JobSpec,
    pub variables: Variables,
    pub run_directory: PathBuf,
    pub log: Arc<PreparationLog>,
}

impl Environments {
    pub fn new(config: &Config, paths: &Paths, client_files: ClientFiles) -> Self {
        let (mark, former) = Mark::new(&paths.state);
        Self {
            uv: Uv::new(config.uv.clone(), mark.clone(), client_files.clone()),
            interpreters: Interpreters::new(mark.clone(), client_files.clone()),
            cache: Arc::new(Cache::new(paths.cache.clone(), paths.state.clone(), client_files.clone())),
            client_files,
            names: Names::new(paths.data.join("environments")),
            scripts: paths.scripts(),
            cache_directory: paths.cache.clone(),
            startup_place: startup::place(paths),
            settings: config.clone(),
            mark,
            former: Mutex::new(Some(former)),
        }
    }

    /// For a job that an earlier daemon started.
    pub fn lease(&self, id: &str) -> Lease {
        self.cache.lease_at_once(id)
    }

    /// Refuses at once what can be known not to work. What cannot be known by the deadline is left to the preparation.
    pub async fn check(&self, spec: &JobSpec, variables: &Variables, deadline: Deadline) -> Result<(), Error> {
        let wanted = &spec.environment;
        if let Some(contradiction) = wanted.contradiction() {
            return Err(contradicts_itself(wanted, contradiction));
        }
        for requirement in &wanted.requirements {
            check_requirement(requirement)?;
        }
        if let (Some(file), None) = (&wanted.requirements_file, &wanted.requirements_content) {
            let path = spec.directory.as_path().join(file.as_path());
            let problem = match deadline.bounds(self.client_files.kind(&path)).await {
                Ok(Some(Kind::File)) | Err(Problem::NoAnswer) => None,
                Ok(Some(other)) => Some(Problem::NotAFile(other)),
                Ok(None) => Some(Problem::Io(std::io::ErrorKind::NotFound.into())),
                Err(problem) => Some(problem),
            };
            if let Some(problem) = problem {
                return Err(problem.refusal(Named::RequirementsFile, &path));
            }
        }
        match &wanted.interpreter {
            Interpreter::System => {
                let mut files = self.client_files.open();
                let places = on_path("python3", variables.get("PATH"));
                match deadline.bounds(files.first_executable(places)).await {
                    Ok(Some(_)) | Err(Problem::NoAnswer) => {}
                    Ok(None) => return Err(EnvironmentError::NoPython.into()),
                    Err(problem) => return Err(EnvironmentError::Search { what: "python3", problem }.into()),
                }
                Ok(())
            }
            Interpreter::Uv { version } => {
                let uv = match self.uv.find(variables, Some(deadline)).await {
                    Err(EnvironmentError::Search { problem: Problem::NoAnswer, .. }) => None,
                    found => Some(found?),
                };
                if let Some(name) = &wanted.named {
                    self.names.get(name)?;
                }
                match (uv, version) {
                    (Some(uv), Some(version)) => {
                        let version = version.to_string();
                        let checked = self.interpreters.check(&uv, &version, spec.directory.as_path(), variables);
                        Ok(tokio::time::timeout(UV_PATIENCE, checked).await.unwrap_or(Ok(()))?)
                    }
                    (None, _) | (_, None) => Ok(()),
                }
            }
        }
    }

    /// Everything that has to be there before the job can start. Bounded by `environment_timeout`; dropping it ends what
    /// it has begun, unless others wait for the same.
    pub async fn prepare(&self, preparation: Preparation) -> Result<Prepared, EnvironmentError> {
        let limit = self.settings.environment_timeout;
        let is_in_project = AtomicBool::new(false);
        let prepared = tokio::time::timeout(limit, self.prepare_unbounded(preparation, &is_in_project)).await;
        prepared.unwrap_or_else(|_| {
            Err(match is_in_project.load(Ordering::Relaxed) {
                true => EnvironmentError::LateProject { limit },
                false => EnvironmentError::Late { limit },
            })
        })
    }

    async fn prepare_unbounded(
        &self,
        preparation: Preparation,
        is_in_project: &AtomicBool,
    ) -> Result<Prepared, EnvironmentError> {
        let Preparation { id, spec, mut variables, run_directory, log } = preparation;
        let spec = place_sent(spec, &run_directory).await?;
        let inline = inline::place(&spec.source, &run_directory).await?;
        let caller = Caller { variables: &variables, mark: &self.mark, log: &log, files: &self.client_files };
        let runner = match &spec.environment.interpreter {
            Interpreter::System => {
                let (python, python_version) = self.interpreters.system(&variables).await?;
                Runner { used: ResolvedEnvironment::of_python(python_version), ..Runner::bare(python) }
            }
            Interpreter::Uv { .. } => {
                let (runner, passwords) = self.through_uv(&spec, &run_directory, caller, &log, is_in_project).await?;
                passwords::set(&passwords, &mut variables);
                runner
            }
        };
        let mut flags = runner.flags;
        let names_directory =
            ["UV_WORKING_DIR", "UV_WORKING_DIRECTORY"].iter().any(|name| variables.get(name).is_some());
        if runner.is_uv && names_directory {
            // uv is started where it would go to, and what is relative would be taken twice.
            flags.splice(0..0, ["--directory".into(), spec.directory.clone()]);
        }
        let target = match (runner.script, &inline, &spec.source) {
            (Some(file), _, _) => Target::File(file),
            (None, Some(file), _) => Target::File(OsText::from(file.as_path())),
            (None, None, JobSource::File { path } | JobSource::Content { path, .. }) => Target::File(path.clone()),
            (None, None, JobSource::Module { module }) => Target::Module(module.clone()),
            (None, None, JobSource::Code { code } | JobSource::Inline { code }) => Target::Code(code.clone()),
            (None, None, JobSource::Stdin { .. }) => Target::Stdin,
        };
        if let Some(prefix) = &runner.prefix {
            activate(prefix, &mut variables);
        }
        let wanted = startup::Wanted {
            lines: match spec.buffering.unwrap_or(self.settings.output_buffering) {
                Buffering::Line => true,
                Buffering::Full => false,
            },
            figures: self.settings.capture_figures && variables.get(startup::MPLBACKEND).is_none(),
            profile: spec.profile.is_some(),
            inline: inline.is_some(),
        };
        if let Some(place) = &self.startup_place {
            startup::arrange(place, wanted, &mut variables)
                .map_err(|source| EnvironmentError::Startup { path: place.clone(), source })?;
        }
        let artifacts = Paths::artifacts(&run_directory);
        create_private(&artifacts).map_err(EnvironmentError::Artifacts)?;
        variables.set(OsStr::new(JOB_ID_VARIABLE), OsStr::new(&id.to_string()));
        variables.set(OsStr::new(PROGRESS_VARIABLE), run_directory.join(report::REPORTED).as_os_str());
        variables.set(OsStr::new(ARTIFACTS_VARIABLE), artifacts.as_os_str());
        let leader_forwards = runner.is_uv;
        if spec.fence.is_some() {
            if runner.is_uv {
                return Err(match runner.used.project {
                    ProjectUse::Nothing | ProjectUse::LeftOut { .. } => EnvironmentError::UvInside,
                    ProjectUse::Synced { project: over } | ProjectUse::AsFound { environment: over } => {
                        EnvironmentError::LaidOverInside { over: over.as_path().to_owned() }
                    }
                });
            }
            fence_off(id, spec.fence, &run_directory, &mut variables, &self.client_files).await?;
        }
        let (interpreter, args) = (runner.program, spec.args.clone());
        let command = Command { interpreter, flags, target, args, environment: variables, leader_forwards };
        Ok(Prepared { command, used: runner.used, lease: runner.lease })
    }

    /// Also returns the passwords of the script's own header, which uv may look for when the job runs.
    async fn through_uv(
        &self,
        spec: &JobSpec,
        run_directory: &Path,
        caller: Caller<'_>,
        log: &Arc<PreparationLog>,
        is_in_project: &AtomicBool,
    ) -> Result<(Runner, Vec<Password>), EnvironmentError> {
        let uv = self.uv.find(caller.variables, None).await?;
        let asked = &spec.environment;
        let Interpreter::Uv { version } = &asked.interpreter else {
            return Err(EnvironmentError::NoPython);
        };
        if let Some(name) = &asked.named {
            return Ok((self.named(&uv, name, spec.directory.as_path(), caller, log).await?, Vec::new()));
        }
        let script = script(spec, caller.files).await?;
        let metadata = script_metadata::read(&script.text)?;
        if asked.auto_install
            && let Some((path, problem)) = script.unread
        {
            return Err(EnvironmentError::Unscanned { path, problem });
        }
        let (given, mut passwords) = passwords::named_in_all(&asked.requirements);
        let mut project = ProjectUse::Nothing;
        if metadata.is_none() {
            let mut variables = Cow::Borrowed(caller.variables);
            if !passwords.is_empty() {
                passwords::set(&passwords, variables.to_mut());
            }
            let caller = Caller { variables: &variables, ..caller };
            let job = Job { spec, script: &script.text, requirements: &given, python: *version, is_in_project };
            match self.of_caller(&uv, job, caller).await? {
                Belonging::Runner(runner) => return Ok((*runner, passwords)),
                Belonging::Nothing(what) => project = what,
            }
        }
        let uv_version = self.uv.version(&uv, caller.variables).await?;
        let settings =
            Settings::of_job(spec, &[run_directory, &self.scripts], metadata.is_some(), &uv_version, caller).await?;
        let metadata = metadata.unwrap_or_default();
        let (in_header, more) = passwords::named_in_all(&metadata.dependencies);
        passwords.extend(more);
        let mut variables = Cow::Borrowed(caller.variables);
        if !passwords.is_empty() {
            passwords::set(&passwords, variables.to_mut());
        }
        let caller = Caller { variables: &variables, ..caller };
        let named = version.map(|version| version.to_string());
        let default = self.settings.default_python.map(|version| version.to_string());
        let wishes = Wishes {
            named: named.as_deref(),
            variables: caller.variables,
            version_file: settings.version_file.as_ref(),
            requires_python: metadata.requires_python.as_deref(),
            default: default.as_deref(),
        };
        let interpreter = self.interpreters.through_uv(&uv, &wishes.choose(), &settings, caller).await?;
        let mut beside = given;
        if let Some(required) = &metadata.requires_python
            // uv itself says so where it reads the header.
            && metadata.tool_uv.is_none()
            && python_requirement::excludes(required, &interpreter.version)
        {
            caller.log.line(&format!(
                "warning: the requested interpreter is Python {}, which the script's `requires-python` excludes: `{required}`",
                interpreter.version
            ));
        }
        let mut unknown_imports = Vec::new();
        if asked.auto_install {
            let known = [&beside[..], &in_header].concat();
            let decision = self.imported(&interpreter.path, module_places(spec), &script.text, &known, caller).await?;
            beside.extend(decision.install);
            unknown_imports = decision.unknown;
        }
        let file = requirements_file(spec, caller.files).await?;
        let hashes = Hashes::of(file.as_ref(), caller.variables, caller.files).await;
        let requirements = [&beside[..], &in_header].concat();
        let refresh = asked.refresh;
        let wanted = Wanted { uv, uv_version, settings, requirements, file, hashes, interpreter, refresh };
        let mut runner = match self.way(&wanted, &beside, &metadata, spec, caller).await? {
            Way::Built => self.built(wanted, caller, log).await?,
            Way::Locked(lock) => self.of_lock(wanted.source(lock), caller, log).await?,
            Way::UvRun { as_script } => {
                let plain = PlainRun { beside: &beside, as_script, script: &script.text, run_directory };
                plain_uv_run(&wanted, plain, spec, caller).await?
            }
        };
        runner.used.unknown_imports = unknown_imports;
        runner.used.project = project;
        Ok((runner, passwords))
    }

    /// What to install for a script's imports, apart from the modules in `places`. What is not known is said, and not guessed
    /// at.
    async fn imported(
        &self,
        python: &Path,
        places: Vec<PathBuf>,
        script: &[u8],
        requirements: &[String],
        caller: Caller<'_>,
    ) -> Result<imports::Decision, EnvironmentError> {
        let mut arguments: Vec<&OsStr> = ["-I", "-c", imports::PROBE].map(OsStr::new).to_vec();
        arguments.extend(places.iter().map(|place| place.as_os_str()));
        let quiet = PreparationLog::of_nobody();
        let call = uv::Call { stdin: script, log: &quiet, ..caller.call(python, Path::new("/"), arguments) };
        let printed = call.run().await?.map_err(|failed| EnvironmentError::Imports(failed.said))?;
        let probed = imports::read_answer(&printed).map_err(|error| EnvironmentError::Imports(error.to_string()))?;
        let found = match probed {
            imports::Probed::Imports(found) => found,
            // Python says it better, when it runs the script.
            imports::Probed::SyntaxError { .. } => return Ok(imports::Decision::default()),
        };
        let decision = imports::decide(&found, requirements);
        if !decision.unknown.is_empty() {
            let unknown = decision.unknown.join(", ");
            caller.log.line(&format!("not installed, because no distribution is known for them: {unknown}"));
        }
        Ok(decision)
    }
}

/// Where a script finds modules that nobody has installed: in its working directory, and beside itself.
fn module_places(spec: &JobSpec) -> Vec<PathBuf> {
    let directory = spec.directory.as_path();
    let beside = spec.source.file().and_then(|path| directory.join(path.as_path()).parent().map(Path::to_owned));
    std::iter::once(directory.to_owned()).chain(beside).collect()
}

/// The faces refuse it before, in their own terms: what is said here is for any other client.
fn contradicts_itself(wanted: &EnvironmentSpec, contradiction: Contradiction) -> Error {
    let invalid = |what: &str, given: String, problem: &str, hint: &str| Error::InvalidArgument {
        what: what.to_owned(),
        given: masked(&given).chars().take(200).collect(),
        problem: problem.to_owned(),
        hint: hint.to_owned(),
    };
    match contradiction {
        Contradiction::WithoutUv(_) => invalid(
            "requirements",
            wanted.requirements.join(" "),
            "without uv there is nothing to install them with",
            "leave out --no-uv (`use_uv=false`)",
        ),
        Contradiction::BesideNamed(_) => invalid(
            "environment",
            wanted.named.clone().unwrap_or_default(),
            "it is used as it was made, and packages or a version are asked for beside it",
            "leave out one of them",
        ),
    }
}

/// uv explains what is wrong with a requirement; what it would take for something else is refused here.
pub(crate) fn check_requirement(requirement: &str) -> Result<(), Error> {
    let first = requirement.trim_start().chars().next();
    let problem = match first {
        None => "it is empty",
        Some(_) if requirement.contains(['\n', '\r', '\0']) => "it has more than one line",
        Some('-') => "it is an option, not a requirement",
        Some('#') => "it is a comment, not a requirement",
        Some(first) if !(first.is_alphanumeric() || matches!(first, '.' | '/' | '~')) => {
            "it does not begin with the name of a package"
        }
        Some(_) => return Ok(()),
    };
    Err(Error::InvalidArgument {
        what: "requirement".to_owned(),
        given: masked(requirement).chars().take(200).collect(),
        problem: problem.to_owned(),
        hint: "write it as pip takes it: `numpy`, `numpy>=2`, `numpy[extra]==2.1`".to_owned(),
    })
}

/// Where a program of this name may be. Relative entries of `PATH` are passed over: the daemon's working directory is not
/// the caller's.
fn on_path(name: &str, path: Option<&OsStr>) -> Vec<PathBuf> {
    let entries = path.unwrap_or_default().as_bytes().split(|byte| *byte == b':');
    let entries = entries.map(|entry| Path::new(OsStr::from_bytes(entry))).filter(|entry| entry.is_absolute());
    entries.map(|entry| entry.join(name)).collect()
}
