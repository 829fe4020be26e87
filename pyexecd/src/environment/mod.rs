//! From what a job asks of its environment to the command that runs it.
//!
//! uv resolves, downloads and installs; what is added here is not to pay for it twice. A request resolves to a lock, the
//! lock and the interpreter are the address of an environment, and that is built once and then run directly by its own
//! interpreter.

pub mod dotenv;
pub mod imports;
pub mod script_metadata;
pub mod variables;

mod build;
mod cache;
mod contents;
mod hashes;
mod interpreter;
mod job_files;
mod locks;
mod log;
mod mark;
mod named;
#[cfg(test)]
pub(crate) mod oracle;
pub(crate) mod passwords;
mod project;
mod python_requirement;
mod request;
mod shelf;
mod startup;
mod uv;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyexec_proto::environment::{EnvironmentSpec, Interpreter, ResolvedEnvironment};
use pyexec_proto::error::Named;
use pyexec_proto::fence::Fence;
use pyexec_proto::job::{Buffering, JobSource, JobSpec, Variables};
use pyexec_proto::paths::{Paths, create_private};
use pyexec_proto::start::{ARTIFACTS_VARIABLE, FENCE_VARIABLE, JOB_ID_VARIABLE, PROGRESS_VARIABLE, TEMPORARY_VARIABLE};
use pyexec_proto::url_password::masked;
use pyexec_proto::{Error, JobId, OsText};
use rustix::fs::OFlags;

use crate::client_files::{ClientFiles, Deadline, Kind, Problem};
use crate::config::Config;
use crate::output::progress;
use crate::own_limits;
use crate::supervisor::record::private_file;
use build::Wanted;
use cache::Cache;
pub use cache::Lease;
use hashes::Hashes;
use interpreter::{Caller, Interpreters};
use job_files::{is_project, requirements_file, script};
pub use log::PreparationLog;
use mark::{Former, Mark};
use named::Names;
use passwords::Password;
use script_metadata::{ScriptMetadata, ScriptMetadataError};
use uv::Uv;

/// How long a submission waits for uv to say which Pythons there are.
const UV_PATIENCE: Duration = Duration::from_secs(20);

/// What is executed.
#[derive(Clone, Debug)]
pub struct Command {
    /// Absolute.
    pub program: OsText,
    pub argv: Vec<OsText>,
    pub environment: Variables,
    /// It is uv, which passes signals on to the Python it has started.
    pub leader_forwards: bool,
}

/// A job that can be started.
#[derive(Debug)]
pub struct Prepared {
    pub command: Command,
    pub used: ResolvedEnvironment,
    /// Of an environment of ours: to be held for as long as the job runs.
    pub lease: Option<Lease>,
}

/// Why a job has nothing to run with. Said to the user as it is.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error("no `python3` on PATH")]
    NoPython,
    #[error("{}", no_uv(named.as_deref()))]
    NoUv { named: Option<PathBuf> },
    #[error("could not run {}: {}", program.display(), own_limits::explain_start(source))]
    Run { program: PathBuf, source: std::io::Error },
    #[error("there is no Python {wanted} here{}", available(found))]
    NoSuchPython { wanted: String, found: Vec<String> },
    #[error("its requirements could not be resolved:\n{said}")]
    Resolution { said: String },
    #[error("its requirements have to have hashes, and there are none for: {}", packages.join(", "))]
    NoHash { packages: Vec<String> },
    #[error(
        "the hashes of its requirements can not be checked together with {changing}, which uv resolves anew at every run; \
        leave out either, or run in an environment that `pyexec env create` has made"
    )]
    UncheckedHashes { changing: String },
    #[error("its requirements could not be installed:\n{said}")]
    Installation { said: String },
    #[error("the project's environment could not be made:\n{said}")]
    Project { said: String },
    #[error("building the environment took longer than {} s (`environment_timeout`)", limit.as_secs())]
    Late { limit: Duration },
    #[error("building the environment was given up")]
    BuildAborted,
    #[error(
        "the environment has to be built again, and the password in `{requirement}` is not kept; make it again with \
        `pyexec env create NAME --refresh --with …`, with the password in the URL, or with `${{TOKEN}}` in its place and \
        TOKEN set for every job that uses it"
    )]
    PasswordNotKept { requirement: String },
    #[error("the script's header: {0}")]
    Metadata(#[from] ScriptMetadataError),
    #[error("could not write {}: {source}", path.display())]
    Script { path: PathBuf, source: std::io::Error },
    #[error("cannot read {}: {problem}", path.display())]
    Unreadable { path: PathBuf, problem: Problem },
    #[error("cannot look for the imports of {}: {problem}", path.display())]
    Unscanned { path: PathBuf, problem: Problem },
    #[error("cannot look for {what}: {problem}")]
    Search { what: &'static str, problem: Problem },
    #[error("its imports could not be read: {0}")]
    Imports(String),
    #[error("the environment cache {} can not be used: {source} (XDG_CACHE_HOME may name another)", path.display())]
    Cache { path: PathBuf, source: std::io::Error },
    #[error("could not write how Python starts into {}: {source} (XDG_CACHE_HOME may name another cache)", path.display())]
    Startup { path: PathBuf, source: std::io::Error },
    #[error("uv resolves its requirements anew at every run, and would have to do so inside of the fence")]
    UvInside,
    #[error("could not make its directory of artifacts: {0}")]
    Artifacts(std::io::Error),
    #[error("could not read its environment: {0}")]
    Variables(std::io::Error),
    #[error("its environment is not there any more")]
    VariablesGone,
    #[error(transparent)]
    Refused(#[from] Error),
    /// Of a build that several waited for.
    #[error(transparent)]
    Shared(Arc<EnvironmentError>),
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
    let reports = run_directory.join(progress::REPORTS);
    create_private(&reports).map_err(EnvironmentError::Artifacts)?;
    variables.set(OsStr::new(PROGRESS_VARIABLE), reports.join(progress::REPORTED).as_os_str());
    // Short, and not in the run directory: sockets are made there, whose paths have to fit into 107 bytes.
    let base = match variables.get(TEMPORARY_VARIABLE).map(PathBuf::from).filter(|base| base.is_absolute()) {
        Some(base) if matches!(files.kind(&base).await, Ok(Some(Kind::Directory))) => Some(base),
        Some(_) | None => None,
    };
    let own = base.unwrap_or_else(|| PathBuf::from("/tmp")).join(format!("pyexec-{}", &id.simple()[..16]));
    variables.set(OsStr::new(TEMPORARY_VARIABLE), own.as_os_str());
    Ok(())
}

fn no_uv(named: Option<&Path>) -> String {
    match named {
        Some(named) => format!("{}, which PYEXEC_UV names, is not a program", named.display()),
        None => "uv was not found (PYEXEC_UV, PATH, ~/.local/bin, ~/.cargo/bin)".to_owned(),
    }
}

fn available(found: &[String]) -> String {
    if found.is_empty() { "; uv found none at all".to_owned() } else { format!("; there is {}", found.join(", ")) }
}

impl EnvironmentError {
    fn hint(&self) -> String {
        match self {
            EnvironmentError::NoPython => {
                "install Python, or let uv choose one: leave out --no-uv (`use_uv=false`)".to_owned()
            }
            EnvironmentError::NoUv { .. } => {
                "install it with one of `curl -LsSf https://astral.sh/uv/install.sh | sh`, \
                `pipx install uv` (or `pip install uv`), `cargo install --locked uv`; or use --no-uv (`use_uv=false`)"
                    .to_owned()
            }
            EnvironmentError::Run { .. } => "check that it is there and can be executed".to_owned(),
            EnvironmentError::NoSuchPython { wanted, .. } => {
                format!("`uv python install {wanted}` installs it, where the network allows")
            }
            EnvironmentError::Resolution { .. } | EnvironmentError::Installation { .. } => {
                "check the names and versions, and that the package index can be reached".to_owned()
            }
            EnvironmentError::NoHash { .. } => {
                "`uv pip compile --generate-hashes` writes them; `--require-hashes` in a file and UV_REQUIRE_HASHES ask for them"
                    .to_owned()
            }
            EnvironmentError::UncheckedHashes { .. } => "pin what has hashes, and give everything else one, too".to_owned(),
            EnvironmentError::Project { .. } => "`uv sync` in the project says the same".to_owned(),
            EnvironmentError::Late { .. } => "set `environment_timeout` higher for builds that take so long".to_owned(),
            EnvironmentError::Metadata(_) => "see PEP 723 for what a `# /// script` block may hold".to_owned(),
            EnvironmentError::Unreadable { problem, .. } | EnvironmentError::Search { problem, .. } => {
                problem.hint().to_owned()
            }
            EnvironmentError::Unscanned { .. } => {
                "name its packages with --with (`dependencies`), and leave out --auto-install (`auto_install_deps`)"
                    .to_owned()
            }
            EnvironmentError::Imports(_) => "check the script".to_owned(),
            EnvironmentError::Cache { path, .. } | EnvironmentError::Startup { path, .. } => {
                format!("make {} writable, or let XDG_CACHE_HOME name a directory that is", path.display())
            }
            EnvironmentError::Artifacts(_) | EnvironmentError::Script { .. } => {
                "check that the state directory can be written to".to_owned()
            }
            EnvironmentError::UvInside => {
                "name packages and versions, not paths, links or [tool.uv] settings; or make an environment with \
                `pyexec env create` and run it there"
                    .to_owned()
            }
            EnvironmentError::BuildAborted
            | EnvironmentError::PasswordNotKept { .. }
            | EnvironmentError::Variables(_)
            | EnvironmentError::VariablesGone => "submit it again".to_owned(),
            EnvironmentError::Refused(error) => error.hint().unwrap_or_default(),
            EnvironmentError::Shared(error) => error.hint(),
        }
    }
}

impl From<EnvironmentError> for Error {
    fn from(error: EnvironmentError) -> Self {
        if let EnvironmentError::Refused(error) = error {
            return error;
        }
        Error::Environment { problem: error.to_string(), hint: error.hint() }
    }
}

/// Finds interpreters, makes environments, and makes commands of specifications.
#[derive(Debug)]
pub struct Environments {
    uv: Uv,
    interpreters: Interpreters,
    cache: Arc<Cache>,
    client_files: ClientFiles,
    names: Names,
    cache_directory: PathBuf,
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
            cache_directory: paths.cache.clone(),
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
        for requirement in &wanted.requirements {
            check_requirement(requirement)?;
        }
        if let Some(file) = &wanted.requirements_file {
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
                let asks_for_more = !wanted.requirements.is_empty()
                    || wanted.requirements_file.is_some()
                    || wanted.named.is_some()
                    || wanted.auto_install;
                if asks_for_more {
                    return Err(Error::InvalidArgument {
                        what: "requirements".to_owned(),
                        given: wanted.requirements.join(" "),
                        problem: "without uv there is nothing to install them with".to_owned(),
                        hint: "leave out --no-uv (`use_uv=false`)".to_owned(),
                    });
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
                        let checked = self.interpreters.check(&uv, &version, variables);
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
        tokio::time::timeout(limit, self.prepare_unbounded(preparation))
            .await
            .unwrap_or(Err(EnvironmentError::Late { limit }))
    }

    async fn prepare_unbounded(&self, preparation: Preparation) -> Result<Prepared, EnvironmentError> {
        let Preparation { id, spec, mut variables, run_directory, log } = preparation;
        let caller = Caller { variables: &variables, mark: &self.mark, log: &log, files: &self.client_files };
        let runner = match &spec.environment.interpreter {
            Interpreter::System => {
                let (python, python_version) = self.interpreters.system(&variables).await?;
                Runner {
                    used: ResolvedEnvironment { id: None, python_version, packages: vec![], unknown_imports: vec![] },
                    ..Runner::bare(python)
                }
            }
            Interpreter::Uv { .. } => {
                let (runner, passwords) = self.through_uv(&spec, &run_directory, caller, &log).await?;
                passwords::set(&passwords, &mut variables);
                runner
            }
        };
        let mut argv = runner.argv;
        if runner.takes_script {
            match &spec.source {
                JobSource::File { path } => argv.push(path.clone()),
                JobSource::Code { code } => argv.extend(["-c".into(), code.clone()]),
                JobSource::Stdin { .. } => argv.push("-".into()),
            }
        }
        argv.extend(spec.args.iter().cloned());
        if let Some(prefix) = &runner.prefix {
            activate(prefix, &mut variables);
        }
        let is_nested = variables.get(JOB_ID_VARIABLE).is_some();
        let backend_is_ours = startup::choose_backend(is_nested, &spec.variables, &mut variables);
        let wanted = startup::Wanted {
            lines: match spec.buffering.unwrap_or(self.settings.output_buffering) {
                Buffering::Line => true,
                Buffering::Full => false,
            },
            figures: backend_is_ours && self.settings.capture_figures,
            profile: spec.profile.is_some(),
        };
        startup::arrange(&self.cache_directory, wanted, &mut variables)
            .map_err(|source| EnvironmentError::Startup { path: self.cache_directory.clone(), source })?;
        let artifacts = Paths::artifacts(&run_directory);
        create_private(&artifacts).map_err(EnvironmentError::Artifacts)?;
        variables.set(OsStr::new(JOB_ID_VARIABLE), OsStr::new(&id.to_string()));
        variables.set(OsStr::new(PROGRESS_VARIABLE), run_directory.join(progress::REPORTED).as_os_str());
        variables.set(OsStr::new(ARTIFACTS_VARIABLE), artifacts.as_os_str());
        let leader_forwards = runner.is_uv;
        if spec.fence.is_some() {
            if runner.is_uv {
                return Err(EnvironmentError::UvInside);
            }
            fence_off(id, spec.fence, &run_directory, &mut variables, &self.client_files).await?;
        }
        let command = Command { program: runner.program, argv, environment: variables, leader_forwards };
        Ok(Prepared { command, used: runner.used, lease: runner.lease })
    }

    /// Also returns the passwords of the script's own header, which uv may look for when the job runs.
    async fn through_uv(
        &self,
        spec: &JobSpec,
        run_directory: &Path,
        caller: Caller<'_>,
        log: &Arc<PreparationLog>,
    ) -> Result<(Runner, Vec<Password>), EnvironmentError> {
        let uv = self.uv.find(caller.variables, None).await?;
        let asked = &spec.environment;
        let Interpreter::Uv { version } = &asked.interpreter else {
            return Err(EnvironmentError::NoPython);
        };
        if let Some(name) = &asked.named {
            return Ok((self.named(&uv, name, caller, log).await?, Vec::new()));
        }
        let script = script(spec, caller.files).await?;
        let metadata = script_metadata::read(&script.text)?;
        let directory = spec.directory.as_path();
        let (given, mut passwords) = passwords::named_in_all(&asked.requirements);
        if metadata.is_none() && is_project(directory, caller.files).await? {
            let python = version.map(|version| version.to_string());
            let beside = !given.is_empty() || asked.requirements_file.is_some();
            if beside
                && Hashes::of(requirements_file(spec, caller.files).await?.as_ref(), caller.variables, caller.files)
                    .await
                    .are_wanted()
            {
                return Err(EnvironmentError::UncheckedHashes { changing: "a project's environment".to_owned() });
            }
            let asked = EnvironmentSpec { requirements: given, ..asked.clone() };
            return Ok((project::runner(&uv, directory, python.as_deref(), &asked, caller).await?, passwords));
        }
        let metadata = metadata.unwrap_or_default();
        let (in_header, more) = passwords::named_in_all(&metadata.dependencies);
        passwords.extend(more);
        let mut variables = Cow::Borrowed(caller.variables);
        if !passwords.is_empty() {
            passwords::set(&passwords, variables.to_mut());
        }
        let caller = Caller { variables: &variables, ..caller };
        let chosen = version.or(self.settings.default_python).map(|version| version.to_string());
        let explicit = version.map(|version| version.to_string());
        let wanted = explicit.or(metadata.requires_python.clone()).or(chosen).unwrap_or_default();
        let mut requirements = [given, in_header].concat();
        let interpreter = self.interpreters.through_uv(&uv, &wanted, caller).await?;
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
            if let Some((path, problem)) = script.unread {
                return Err(EnvironmentError::Unscanned { path, problem });
            }
            let decision = self.imported(&interpreter.path, spec, &script.text, &requirements, caller).await?;
            requirements.extend(decision.install);
            unknown_imports = decision.unknown;
        }
        let file = requirements_file(spec, caller.files).await?;
        let hashes = Hashes::of(file.as_ref(), caller.variables, caller.files).await;
        let wanted = Wanted { uv: uv.clone(), requirements, file, hashes, interpreter, refresh: asked.refresh };
        if wanted.hashes.are_wanted() {
            let settings = metadata.tool_uv.as_ref().map(|_| "`[tool.uv]` in the script's header".to_owned());
            let changing = || wanted.hashes.changing(&wanted.requirements).map(|line| format!("`{line}`"));
            if let Some(changing) = settings.or_else(changing) {
                return Err(EnvironmentError::UncheckedHashes { changing });
            }
        }
        let is_resolved_anew = metadata.tool_uv.is_some() || wanted.is_volatile() && !wanted.hashes.are_wanted();
        let mut runner = if is_resolved_anew {
            plain_uv_run(&wanted, &metadata, spec, &script.text, run_directory, caller).await?
        } else {
            self.built(wanted, caller, log).await?
        };
        runner.used.unknown_imports = unknown_imports;
        Ok((runner, passwords))
    }

    /// What to install for a script's imports. What is not known is said, and not guessed at.
    async fn imported(
        &self,
        python: &Path,
        spec: &JobSpec,
        script: &[u8],
        requirements: &[String],
        caller: Caller<'_>,
    ) -> Result<imports::Decision, EnvironmentError> {
        let directory = spec.directory.as_path();
        let beside = match &spec.source {
            JobSource::File { path } => directory.join(path.as_path()).parent().map(Path::to_owned),
            JobSource::Code { .. } | JobSource::Stdin { .. } => None,
        };
        let mut arguments: Vec<&OsStr> = ["-I", "-c", imports::PROBE].map(OsStr::new).to_vec();
        arguments.push(directory.as_os_str());
        arguments.extend(beside.as_deref().map(Path::as_os_str));
        let call = uv::Call {
            program: python,
            arguments,
            variables: caller.variables,
            directory: Path::new("/"),
            stdin: script,
            mark: caller.mark,
            holds: None,
            files: caller.files,
            log: &PreparationLog::of_nobody(),
        };
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

/// What runs a job's script.
struct Runner {
    program: OsText,
    /// Up to where the script comes.
    argv: Vec<OsText>,
    /// The program is uv, and Python its child.
    is_uv: bool,
    /// The script is still to be named.
    takes_script: bool,
    /// Of an environment to activate.
    prefix: Option<PathBuf>,
    used: ResolvedEnvironment,
    lease: Option<Lease>,
}

impl Runner {
    /// Where there is no environment to run in directly.
    fn through(uv: PathBuf) -> Self {
        Self { is_uv: true, ..Self::bare(uv) }
    }

    fn bare(program: PathBuf) -> Self {
        let program = OsText::from(program);
        Self {
            argv: vec![program.clone()],
            program,
            is_uv: false,
            takes_script: true,
            prefix: None,
            used: ResolvedEnvironment {
                id: None,
                python_version: String::new(),
                packages: Vec::new(),
                unknown_imports: Vec::new(),
            },
            lease: None,
        }
    }
}

/// For what can not be addressed by its content: a path or a link whose content changes, and settings that only uv
/// understands. It resolves at every run, as uv does.
async fn plain_uv_run(
    wanted: &Wanted,
    metadata: &ScriptMetadata,
    spec: &JobSpec,
    script: &[u8],
    run_directory: &Path,
    caller: Caller<'_>,
) -> Result<Runner, EnvironmentError> {
    let mut runner = Runner::through(wanted.uv.clone());
    runner.argv.extend(["run".into(), "--no-project".into(), "--python".into()]);
    runner.argv.push(OsText::from(wanted.interpreter.path.as_path()));
    let from_header = if metadata.tool_uv.is_some() { metadata.dependencies.len() } else { 0 };
    let given = wanted.requirements.len().saturating_sub(from_header);
    for requirement in wanted.requirements.iter().take(given) {
        runner.argv.extend(["--with".into(), requirement.as_str().into()]);
    }
    if let Some(file) = &wanted.file {
        runner.argv.extend(["--with-requirements".into(), OsText::from(file.path.as_path())]);
    }
    if metadata.tool_uv.is_some() {
        // Only as a script does uv read its own settings in the header: code that has no file is given one.
        let file = match &spec.source {
            JobSource::File { path } => path.clone(),
            JobSource::Code { .. } | JobSource::Stdin { .. } => {
                let file = run_directory.join("script.py");
                private_file(&file, OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY)
                    .and_then(|mut open| open.write_all(script))
                    .map_err(|source| EnvironmentError::Script { path: file.clone(), source })?;
                OsText::from(file)
            }
        };
        runner.argv.extend(["--script".into(), file]);
        runner.takes_script = false;
    } else {
        // Isolated, or what is installed beside the interpreter would be seen, too.
        runner.argv.extend(["--isolated".into(), "--".into(), "python".into()]);
        // Asked first: what can not be installed is not the script's failure, and what is installed is to be known.
        let asked = runner.argv.iter().skip(1).map(|argument| argument.as_path().as_os_str());
        let call = uv::Call {
            program: &wanted.uv,
            arguments: asked.chain(["-c", project::INSTALLED].map(OsStr::new)).collect(),
            variables: caller.variables,
            directory: spec.directory.as_path(),
            stdin: &[],
            mark: caller.mark,
            holds: None,
            files: caller.files,
            log: caller.log,
        };
        let printed = call.run().await?.map_err(|failed| EnvironmentError::Resolution { said: failed.said })?;
        runner.used = project::read_installed(&printed);
        return Ok(runner);
    }
    runner.used.python_version.clone_from(&wanted.interpreter.version);
    Ok(runner)
}

/// What activating an environment in a shell does, and `uv run` too.
fn activate(prefix: &Path, variables: &mut Variables) {
    variables.set(OsStr::new("VIRTUAL_ENV"), prefix.as_os_str());
    variables.remove(OsStr::new("PYTHONHOME"));
    let mut path = prefix.join("bin").into_os_string();
    if let Some(rest) = variables.get("PATH").filter(|rest| !rest.is_empty()) {
        path.push(OsString::from(":"));
        path.push(rest);
    }
    variables.set(OsStr::new("PATH"), &path);
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
