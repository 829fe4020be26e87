//! What runs a job's script: an environment's own Python, or uv where only that knows what to run it with.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use pyexec_proto::OsText;
use pyexec_proto::environment::ResolvedEnvironment;
use pyexec_proto::job::{JobSource, JobSpec, Variables};

use super::build::Wanted;
use super::cache::Lease;
use super::interpreter::Caller;
use super::script_metadata::ScriptMetadata;
use super::sent_files::write_private;
use super::{EnvironmentError, project, uv};

/// What runs a job's script.
pub(super) struct Runner {
    pub(super) program: OsText,
    /// Up to where the script comes.
    pub(super) argv: Vec<OsText>,
    /// The program is uv, and Python its child.
    pub(super) is_uv: bool,
    /// The script is still to be named.
    pub(super) takes_script: bool,
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
            argv: vec![program.clone()],
            program,
            is_uv: false,
            takes_script: true,
            prefix: None,
            used: ResolvedEnvironment::of_python(String::new()),
            lease: None,
        }
    }
}

/// For what can not be addressed by its content: a path or a link whose content changes, and settings that only uv
/// understands. It resolves at every run, as uv does.
pub(super) async fn plain_uv_run(
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
            JobSource::Code { .. } | JobSource::Stdin { .. } | JobSource::Module { .. } | JobSource::Content { .. } => {
                OsText::from(write_private(run_directory.join("script.py"), script)?)
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
