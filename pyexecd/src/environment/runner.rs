//! What runs a job's script: an environment's own Python, or uv where only that knows what to run it with.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use pyexec_proto::OsText;
use pyexec_proto::environment::ResolvedEnvironment;
use pyexec_proto::job::{JobSource, JobSpec, Variables};
use pyexec_proto::paths::Paths;

use super::cache::Lease;
use super::caller::Caller;
use super::probes::{INSTALLED, read_installed};
use super::sent_files::write_private;
use super::settings::OF_UV_PIP;
use super::wanted::Wanted;
use super::{EnvironmentError, discovery, uv};

/// What runs a job's script.
pub(super) struct Runner {
    pub(super) program: OsText,
    /// What comes between the program and the script.
    pub(super) flags: Vec<OsText>,
    /// The program is uv, and Python its child.
    pub(super) is_uv: bool,
    /// The script, where uv is to be given another file than the job names.
    pub(super) script: Option<OsText>,
    /// Of an environment to activate.
    pub(super) prefix: Option<PathBuf>,
    pub(super) used: ResolvedEnvironment,
    pub(super) lease: Option<Lease>,
}

impl Runner {
    /// Where there is no environment to run in directly.
    pub(super) fn through(uv: PathBuf) -> Self {
        Self { is_uv: true, ..Self::bare(uv) }
    }

    pub(super) fn bare(program: PathBuf) -> Self {
        let program = OsText::from(program);
        Self {
            program,
            flags: vec![],
            is_uv: false,
            script: None,
            prefix: None,
            used: ResolvedEnvironment::of_python(String::new()),
            lease: None,
        }
    }
}

/// What `uv run` is to be given.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlainRun<'a> {
    /// Requirements beside those of the header.
    pub(super) beside: &'a [String],
    /// uv reads the script's header, its settings there, and its lock.
    pub(super) as_script: bool,
    pub(super) script: &'a [u8],
    pub(super) run_directory: &'a Path,
}

/// For what can not be addressed by its content: a path or a link whose content changes, and settings that only uv
/// understands. It resolves at every run, as uv does.
pub(super) async fn plain_uv_run(
    wanted: &Wanted,
    plain: PlainRun<'_>,
    spec: &JobSpec,
    caller: Caller<'_>,
) -> Result<Runner, EnvironmentError> {
    let place = &wanted.settings.place;
    let mut runner = Runner::through(wanted.uv.clone());
    runner.flags.extend(["run".into(), "--no-project".into(), "--python".into()]);
    runner.flags.push(OsText::from(wanted.interpreter.path.as_path()));
    let requirements = if plain.as_script { plain.beside } else { &wanted.requirements };
    for requirement in requirements {
        runner.flags.extend(["--with".into(), requirement.as_str().into()]);
    }
    if let Some(file) = &wanted.file {
        runner.flags.extend(["--with-requirements".into(), OsText::from(file.path.as_path())]);
    }
    unheeded(caller);
    let call = |arguments| caller.call(&wanted.uv, spec.directory.as_path(), arguments);
    let failed = |failed: uv::Failed| EnvironmentError::Resolution { said: failed.said };
    if plain.as_script {
        // Only as a script does uv read its own settings in the header: code that has no file is given one. Beside that, uv would
        // look for other settings.
        let (file, project) = match &spec.source {
            JobSource::File { path } if wanted.settings.are_of_script_with_header() => (path.clone(), None),
            JobSource::File { path } => (path.clone(), Some(place.directory.as_path())),
            JobSource::Inline { .. } => {
                (OsText::from(Paths::inline_script(plain.run_directory)), Some(place.directory.as_path()))
            }
            JobSource::Code { .. } | JobSource::Stdin { .. } | JobSource::Module { .. } | JobSource::Content { .. } => {
                let file = write_private(plain.run_directory.join("script.py"), plain.script)?;
                (OsText::from(file), Some(place.directory.as_path()))
            }
        };
        let project: Vec<OsText> =
            project.into_iter().flat_map(|path: &Path| ["--project".into(), path.into()]).collect();
        // Made first: what cannot be installed is not the script's failure.
        let mut arguments: Vec<&OsStr> = ["sync", "--quiet", "--inexact"].map(OsStr::new).to_vec();
        arguments.extend([OsStr::new("--python"), wanted.interpreter.path.as_os_str()]);
        arguments.extend(project.iter().map(|word| word.as_path().as_os_str()));
        arguments.extend([OsStr::new("--script"), file.as_path().as_os_str()]);
        call(arguments).run().await?.map_err(failed)?;
        runner.flags.extend(project);
        runner.flags.push("--script".into());
        runner.script = Some(file);
        runner.used.python_version.clone_from(&wanted.interpreter.version);
        return Ok(runner);
    }
    runner.flags.extend(place.options().into_iter().map(OsText::from));
    // Isolated, or what is installed beside the interpreter would be seen, too.
    runner.flags.extend(["--isolated".into(), "--".into(), "python".into()]);
    // Asked first: what can not be installed is not the script's failure, and what is installed is to be known.
    let asked = runner.flags.iter().map(|argument| argument.as_path().as_os_str());
    let arguments = asked.chain(["-c", INSTALLED].map(OsStr::new)).collect();
    let printed = call(arguments).run().await?.map_err(failed)?;
    runner.used = read_installed(&printed);
    Ok(runner)
}

/// Runs through uv, which lays the requirements over what `front` names. It is asked first: what cannot be installed is not
/// the script's failure, and what is installed is to be known. The inner error is what uv says.
pub(super) async fn laid_over(
    uv: &Path,
    front: Vec<&OsStr>,
    requirements: &[String],
    spec: &JobSpec,
    caller: Caller<'_>,
) -> Result<Result<Runner, String>, EnvironmentError> {
    unheeded(caller);
    let mut arguments = front;
    for requirement in requirements {
        arguments.extend(["--with", requirement].map(OsStr::new));
    }
    if let Some(file) = &spec.environment.requirements_file {
        arguments.extend([OsStr::new("--with-requirements"), file.as_path().as_os_str()]);
    }
    arguments.extend(["--", "python"].map(OsStr::new));
    let mut runner = Runner::through(uv.to_owned());
    runner.flags.extend(arguments.iter().map(|argument| OsText::from(*argument)));
    arguments.extend(["-c", INSTALLED].map(OsStr::new));
    Ok(caller.call(uv, spec.directory.as_path(), arguments).run().await?.map_err(|failed| failed.said).map(|printed| {
        runner.used = read_installed(&printed);
        runner
    }))
}

/// Says which of the caller's variables `uv run` does not read. In environments of ours they hold.
fn unheeded(caller: Caller<'_>) {
    for name in OF_UV_PIP {
        if discovery::set(caller.variables, name).is_some() {
            caller.log.line(&format!("warning: {name} does not hold for this job, because `uv run` does not read it"));
        }
    }
}

/// What activating an environment in a shell does, and `uv run` too.
pub(super) fn activate(prefix: &Path, variables: &mut Variables) {
    // conda's are active by another variable.
    if variables.get("CONDA_PREFIX").is_none_or(|conda| prefix != Path::new(conda)) {
        variables.set(OsStr::new("VIRTUAL_ENV"), prefix.as_os_str());
    }
    variables.remove(OsStr::new("PYTHONHOME"));
    let mut path = prefix.join("bin").into_os_string();
    if let Some(rest) = variables.get("PATH").filter(|rest| !rest.is_empty()) {
        path.push(OsString::from(":"));
        path.push(rest);
    }
    variables.set(OsStr::new("PATH"), &path);
}
