//! From what a job asks for to the command that runs it.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyexec_proto::environment::{Interpreter, ProjectUse, ResolvedEnvironment};
use pyexec_proto::fence::Fence;
use pyexec_proto::job::{Buffering, JobSource, JobSpec, Variables};
use pyexec_proto::paths::Paths;
use pyexec_proto::variables::{
    ARTIFACTS_VARIABLE, FENCE_VARIABLE, JOB_ID_VARIABLE, PROGRESS_VARIABLE, TEMPORARY_VARIABLE,
};
use pyexec_proto::{JobId, OsText};
use pyexec_python::{python_requirement, script_metadata};
use pyexec_run_directory::private::create_private;
use pyexec_run_directory::report;

use super::cache::Lease;
use super::caller::Caller;
use super::command::{Command, Target};
use super::environments::Environments;
use super::hashes::Hashes;
use super::imported::module_places;
use super::job_files::{requirements_file, script};
use super::log::PreparationLog;
use super::passwords::{self, Password};
use super::project::{Belonging, Job};
use super::python_request::Wishes;
use super::runner::{PlainRun, Runner, activate, plain_uv_run};
use super::sent_files::place_sent;
use super::settings::Settings;
use super::wanted::Wanted;
use super::way::Way;
use super::{EnvironmentError, inline, startup};
use crate::client_files::{ClientFiles, Kind};

/// What is to be prepared.
#[derive(Debug)]
pub struct Preparation {
    pub id: JobId,
    pub spec: JobSpec,
    pub variables: Variables,
    pub run_directory: PathBuf,
    pub log: Arc<PreparationLog>,
}

/// A job that can be started.
#[derive(Debug)]
pub struct Prepared {
    pub command: Command,
    pub used: ResolvedEnvironment,
    /// Of an environment of ours: to be held for as long as the job runs.
    pub lease: Option<Lease>,
}

impl Environments {
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
