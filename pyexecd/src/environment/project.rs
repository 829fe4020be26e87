//! What a job runs in that is the caller's own: a project's environment, made as uv makes it, or one that is there.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use pyexec_proto::OsText;
use pyexec_proto::environment::{ProjectUse, PythonVersion, ResolvedEnvironment};
use pyexec_proto::job::JobSpec;

use super::EnvironmentError;
use super::caller::Caller;
use super::discovery::{self, Surroundings, is_on, is_strict};
use super::environments::Environments;
use super::hashes::Hashes;
use super::imported::module_places;
use super::job_files::requirements_file;
use super::present::{installed, site_packages};
use super::probes::{PROBE, Probed};
use super::runner::{Runner, laid_over};

/// What a job that may belong to a project comes to.
pub(super) enum Belonging {
    /// It runs in the caller's own environment.
    Runner(Box<Runner>),
    /// It gets one of ours.
    Nothing(ProjectUse),
}

/// What is to be run beside what the caller has.
#[derive(Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) spec: &'a JobSpec,
    pub(super) script: &'a [u8],
    /// Those of the specification, without passwords.
    pub(super) requirements: &'a [String],
    pub(super) python: Option<PythonVersion>,
    /// Set while uv makes a project's environment.
    pub(super) is_in_project: &'a AtomicBool,
}

impl Environments {
    /// Finds what the job belongs to, and makes it ready where that is to be done.
    pub(super) async fn of_caller(
        &self,
        uv: &Path,
        job: Job<'_>,
        caller: Caller<'_>,
    ) -> Result<Belonging, EnvironmentError> {
        let Job { spec, script, requirements, python, is_in_project } = job;
        let asked = &spec.environment;
        let around = discovery::look_around(spec, caller.variables, caller.files).await?;
        let are_hashes_wanted = async || {
            let file = requirements_file(spec, caller.files).await?;
            Ok::<_, EnvironmentError>(Hashes::of(file.as_ref(), caller.variables, caller.files).await.are_wanted())
        };
        let left_out = |path: &Path| Ok(Belonging::Nothing(ProjectUse::LeftOut { path: OsText::from(path) }));
        let is_beside = !requirements.is_empty() || asked.requirements_file.is_some();
        if let Some(project) = around.project.as_deref().filter(|_| around.is_synced) {
            if is_beside && are_hashes_wanted().await? {
                let changing = "a project's environment (--no-project, `no_project=true`, leaves it out)".to_owned();
                return Err(EnvironmentError::UncheckedHashes { changing });
            }
            is_in_project.store(true, Ordering::Relaxed);
            let synced = synced(uv, &around, job, caller).await?;
            is_in_project.store(false, Ordering::Relaxed);
            let Some(mut runner) = synced else { return left_out(project) };
            runner.used.project = ProjectUse::Synced { project: OsText::from(project) };
            return Ok(Belonging::Runner(Box::new(runner)));
        }
        let Some(present) = self.present(uv, &around, spec, python, caller).await? else {
            return around.project.as_deref().map_or(Ok(Belonging::Nothing(ProjectUse::Nothing)), left_out);
        };
        let mut requirements = requirements.to_vec();
        let mut unknown_imports = Vec::new();
        if asked.auto_install {
            let installed = site_packages(&present.prefix, caller).await.ok().flatten();
            let places = module_places(spec).into_iter().chain(installed).collect();
            let decision = self.imported(&present.python, places, script, &requirements, caller).await?;
            requirements.extend(decision.install);
            unknown_imports = decision.unknown;
        }
        let is_beside = is_beside || !requirements.is_empty();
        // uv neither checks the hashes of what it lays over an environment, nor can it do so in a fence.
        if is_beside && (are_hashes_wanted().await? || spec.fence.is_some() && !is_strict(asked.project)) {
            return left_out(&present.prefix);
        }
        let mut runner = self.in_present(uv, &around, present, &requirements, spec, caller).await?;
        runner.used.unknown_imports = unknown_imports;
        Ok(Belonging::Runner(Box::new(runner)))
    }
}

/// uv makes the environment what the project's lock says; the job then runs in it directly, so that it is not uv that
/// is signalled and measured. With requirements beside the project's, or in isolation, there is no environment to run in
/// directly: uv makes one for the time of the run. `None` where uv finds no project after all.
async fn synced(
    uv: &Path,
    around: &Surroundings,
    job: Job<'_>,
    caller: Caller<'_>,
) -> Result<Option<Runner>, EnvironmentError> {
    let Job { spec, requirements, python, .. } = job;
    let python = python.map(|version| version.to_string());
    let mut arguments: Vec<&OsStr> = vec![OsStr::new("run")];
    if let Some(start) = &around.start {
        arguments.extend([OsStr::new("--project"), start.as_os_str()]);
    }
    if let Some(python) = &python {
        arguments.extend(["--python", python].map(OsStr::new));
    }
    let failed = |said| EnvironmentError::Project { said };
    let is_beside = !requirements.is_empty() || spec.environment.requirements_file.is_some();
    if is_beside || is_on(caller.variables, "UV_ISOLATED") {
        return laid_over(uv, arguments, requirements, spec, caller).await?.map(Some).map_err(failed);
    }
    arguments.extend(["--", "python", "-c", PROBE].map(OsStr::new));
    let call = caller.call(uv, spec.directory.as_path(), arguments);
    let printed = call.run_with_active_environment().await?.map_err(|said| failed(said.said))?;
    let Some(Probed { python, prefix, python_version, is_virtual }) = Probed::read(&printed) else {
        let printed = String::from_utf8_lossy(&printed);
        return Err(failed(format!("python said {printed:?} about its environment")));
    };
    if !is_virtual {
        return Ok(None);
    }
    let packages = installed(&prefix, caller).await.unwrap_or_default();
    let used = ResolvedEnvironment { packages, ..ResolvedEnvironment::of_python(python_version) };
    Ok(Some(Runner { used, prefix: Some(prefix), ..Runner::bare(python) }))
}
