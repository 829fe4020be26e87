//! A directory with a `pyproject.toml`: the project's own environment, made as uv makes it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use pyexec_proto::OsText;
use pyexec_proto::environment::{EnvironmentSpec, ResolvedEnvironment};

use super::interpreter::Caller;
use super::uv::Call;
use super::{EnvironmentError, Runner, cache};

/// Prints where the environment is and which Python it has.
const PROBE: &str = "import platform, sys; print(sys.prefix); print(platform.python_version())";

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
    let beside = !asked.requirements.is_empty() || asked.requirements_file.is_some();
    if beside {
        let mut runner = Runner::bare(uv.to_owned());
        runner.argv.extend(arguments.into_iter().map(OsText::from));
        for requirement in &asked.requirements {
            runner.argv.extend(["--with".into(), requirement.as_str().into()]);
        }
        if let Some(file) = &asked.requirements_file {
            runner.argv.extend(["--with-requirements".into(), file.clone()]);
        }
        runner.argv.extend(["--".into(), "python".into()]);
        return Ok(runner);
    }
    arguments.extend(["--", "python", "-c", PROBE].map(OsStr::new));
    let call = Call {
        program: uv,
        arguments,
        variables: caller.variables,
        directory,
        stdin: &[],
        mark: caller.mark,
        log: caller.log,
    };
    let printed = call.run().await?.map_err(|failed| EnvironmentError::Project { said: failed.said })?;
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
        packages: cache::installed(&prefix).unwrap_or_default(),
        unknown_imports: Vec::new(),
    };
    runner.prefix = Some(prefix);
    Ok(runner)
}
