//! A directory with a `pyproject.toml`: the project's own environment, made as uv makes it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use pyexec_proto::OsText;
use pyexec_proto::environment::{EnvironmentSpec, ResolvedEnvironment};

use super::interpreter::Caller;
use super::request::normalized_name;
use super::uv::Call;
use super::{EnvironmentError, Runner, contents};
use crate::client_files::Problem;

/// Prints where the environment is and which Python it has.
const PROBE: &str = "import platform, sys; print(sys.prefix); print(platform.python_version())";

/// Prints which Python this is, and what is installed for it.
pub(super) const INSTALLED: &str = "import importlib.metadata as m, platform\n\
    print(platform.python_version())\n\
    for d in m.distributions():\n    print(d.metadata['Name'], d.version, sep='\\t')\n";

/// What [`INSTALLED`] has printed.
pub(super) fn read_installed(printed: &[u8]) -> ResolvedEnvironment {
    let printed = String::from_utf8_lossy(printed);
    let mut lines = printed.lines();
    let python_version = lines.next().unwrap_or_default().to_owned();
    let named = |line: &str| {
        let (name, version) = line.split_once('\t')?;
        Some(format!("{}=={version}", normalized_name(name)))
    };
    let mut packages: Vec<String> = lines.filter_map(named).collect();
    packages.sort();
    packages.dedup();
    ResolvedEnvironment { id: None, python_version, packages, unknown_imports: Vec::new() }
}

/// uv makes the environment what the project's lock says; the job then runs in it directly, so that it is not uv that
/// is signalled and measured. With requirements beside the project's there is no environment to run in directly: uv
/// lays them over it for the time of the run.
pub(super) async fn runner(
    uv: &Path,
    directory: &Path,
    python: Option<&str>,
    asked: &EnvironmentSpec,
    caller: Caller<'_>,
) -> Result<Runner, EnvironmentError> {
    let mut arguments: Vec<&OsStr> = ["run", "--project"].map(OsStr::new).to_vec();
    arguments.push(directory.as_os_str());
    if let Some(python) = python {
        arguments.extend(["--python", python].map(OsStr::new));
    }
    let call = |arguments| Call {
        program: uv,
        arguments,
        variables: caller.variables,
        directory,
        stdin: &[],
        mark: caller.mark,
        holds: None,
        files: caller.files,
        log: caller.log,
    };
    let failed = |said| EnvironmentError::Project { said };
    let beside = !asked.requirements.is_empty() || asked.requirements_file.is_some();
    if beside {
        for requirement in &asked.requirements {
            arguments.extend(["--with", requirement].map(OsStr::new));
        }
        if let Some(file) = &asked.requirements_file {
            arguments.extend([OsStr::new("--with-requirements"), file.as_path().as_os_str()]);
        }
        arguments.extend(["--", "python"].map(OsStr::new));
        let mut runner = Runner::through(uv.to_owned());
        runner.argv.extend(arguments.iter().map(|argument| OsText::from(*argument)));
        arguments.extend(["-c", INSTALLED].map(OsStr::new));
        let printed = call(arguments).run().await?.map_err(|said| failed(said.said))?;
        runner.used = read_installed(&printed);
        return Ok(runner);
    }
    arguments.extend(["--", "python", "-c", PROBE].map(OsStr::new));
    let printed = call(arguments).run().await?.map_err(|said| failed(said.said))?;
    let printed = String::from_utf8_lossy(&printed);
    let mut lines = printed.lines();
    let (Some(prefix), Some(python_version)) = (lines.next(), lines.next()) else {
        return Err(EnvironmentError::Project { said: format!("python said {printed:?} about its environment") });
    };
    let prefix = PathBuf::from(prefix);
    let mut runner = Runner::bare(prefix.join("bin/python"));
    runner.used = ResolvedEnvironment {
        id: None,
        python_version: python_version.to_owned(),
        packages: installed(&prefix, caller).await.unwrap_or_default(),
        unknown_imports: Vec::new(),
    };
    runner.prefix = Some(prefix);
    Ok(runner)
}

/// What is installed in a project's environment, which lies where the client has it.
async fn installed(environment: &Path, caller: Caller<'_>) -> Result<Vec<String>, Problem> {
    let mut files = caller.files.open();
    let lib = environment.join("lib");
    let pythons = files.names(&lib).await?;
    match contents::python_in(&lib, pythons) {
        Some(packages) => Ok(contents::distributions(&files.names(&packages).await?)),
        None => Ok(Vec::new()),
    }
}
