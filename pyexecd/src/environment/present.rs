//! An environment that is there already, the caller's own: chosen as `uv run` chooses it without a project, and never changed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use pyexec_proto::OsText;
use pyexec_proto::environment::{ProjectUse, PythonVersion, ResolvedEnvironment};
use pyexec_proto::job::JobSpec;

use super::caller::Caller;
use super::discovery::{Environment, Origin, Surroundings, is_python_chosen, is_strict, set};
use super::environments::Environments;
use super::log::PreparationLog;
use super::probes::{PROBE, Probed};
use super::runner::{Runner, laid_over};
use super::uv::Call;
use super::{EnvironmentError, contents};
use crate::client_files::Problem;

/// What a job is run in.
#[derive(Debug)]
pub(super) struct Present {
    pub(super) prefix: PathBuf,
    pub(super) python: PathBuf,
    python_version: String,
}

impl Environments {
    /// The one that uv would take; `None` where that is no environment, but a Python of the system.
    pub(super) async fn present(
        &self,
        uv: &Path,
        around: &Surroundings,
        spec: &JobSpec,
        version: Option<PythonVersion>,
        caller: Caller<'_>,
    ) -> Result<Option<Present>, EnvironmentError> {
        let is_strict = is_strict(spec.environment.project);
        let directory = spec.directory.as_path();
        for Environment { prefix, origin, is_virtual, python } in &around.environments {
            let python = match (origin, is_virtual, python) {
                (Origin::Redirected, _, _) => return asked(uv, around, spec, version, caller).await,
                // uv says what is wrong with it.
                (Origin::Active, true, None) if is_strict => return asked(uv, around, spec, version, caller).await,
                // A Python, but no environment.
                (Origin::Active, false, Some(_)) => return Ok(None),
                (_, _, None) | (Origin::Project | Origin::Directory, false, _) => continue,
                (_, _, Some(python)) => python,
            };
            // As uv passes over what does not run.
            let Ok(python_version) = self.interpreters.version_of(python, caller.variables).await else { continue };
            match version {
                _ if python_version.is_empty() => continue,
                Some(wanted) if !python_version.starts_with(&format!("{wanted}.")) => continue,
                None if *origin != Origin::Project
                    && is_python_chosen(around, directory, caller.variables, caller.files).await? =>
                {
                    return asked(uv, around, spec, version, caller).await;
                }
                Some(_) | None => {}
            }
            return Ok(Some(Present { prefix: prefix.clone(), python: python.clone(), python_version }));
        }
        Ok(None)
    }

    /// Runs in it directly or, with requirements, through uv, which lays them over it for the time of the run.
    pub(super) async fn in_present(
        &self,
        uv: &Path,
        around: &Surroundings,
        present: Present,
        requirements: &[String],
        spec: &JobSpec,
        caller: Caller<'_>,
    ) -> Result<Runner, EnvironmentError> {
        let Present { prefix, python, python_version } = present;
        let project = ProjectUse::AsFound { environment: OsText::from(prefix.as_path()) };
        let file = spec.environment.requirements_file.as_ref();
        let mut runner = if requirements.is_empty() && file.is_none() {
            let packages = installed(&prefix, caller).await.unwrap_or_default();
            let used = ResolvedEnvironment { packages, ..ResolvedEnvironment::of_python(python_version) };
            Runner { used, prefix: Some(prefix), ..Runner::bare(python) }
        } else {
            let mut front = uv_run(around);
            front.extend([OsStr::new("--python"), python.as_os_str()]);
            let laid = laid_over(uv, front, requirements, spec, caller).await?;
            laid.map_err(|said| EnvironmentError::Resolution { said })?
        };
        runner.used.project = project;
        Ok(runner)
    }
}

fn uv_run(around: &Surroundings) -> Vec<&OsStr> {
    let mut arguments: Vec<&OsStr> = ["run", "--no-project"].map(OsStr::new).to_vec();
    if let Some(start) = &around.start {
        arguments.extend([OsStr::new("--project"), start.as_os_str()]);
    }
    arguments
}

/// What uv itself takes, where looking does not tell.
async fn asked(
    uv: &Path,
    around: &Surroundings,
    spec: &JobSpec,
    version: Option<PythonVersion>,
    caller: Caller<'_>,
) -> Result<Option<Present>, EnvironmentError> {
    let is_strict = is_strict(spec.environment.project);
    let quiet = PreparationLog::of_nobody();
    let version = version.map(|version| version.to_string());
    let mut arguments = uv_run(around);
    if let Some(version) = &version {
        arguments.extend(["--python", version].map(OsStr::new));
    }
    arguments.extend(["--", "python", "-c", PROBE].map(OsStr::new));
    let log = if is_strict { caller.log } else { &quiet };
    let call = Call { log, ..caller.call(uv, spec.directory.as_path(), arguments) };
    let printed = match call.run_with_active_environment().await? {
        Ok(printed) => printed,
        Err(failed) if is_strict => return Err(EnvironmentError::Present { said: failed.said }),
        Err(_) => return Ok(None),
    };
    let Some(Probed { python, prefix, python_version, is_virtual }) = Probed::read(&printed) else { return Ok(None) };
    let is_conda = set(caller.variables, "CONDA_PREFIX").is_some_and(|conda| prefix == Path::new(conda));
    Ok((is_virtual || is_conda).then_some(Present { prefix, python, python_version }))
}

/// What is installed in an environment of the caller's, which lies where the client has it.
pub(super) async fn installed(environment: &Path, caller: Caller<'_>) -> Result<Vec<String>, Problem> {
    match site_packages(environment, caller).await? {
        Some(packages) => Ok(contents::distributions(&caller.files.open().names(&packages).await?)),
        None => Ok(Vec::new()),
    }
}

pub(super) async fn site_packages(environment: &Path, caller: Caller<'_>) -> Result<Option<PathBuf>, Problem> {
    let lib = environment.join("lib");
    let pythons = caller.files.open().names(&lib).await?;
    Ok(contents::python_in(&lib, pythons))
}
