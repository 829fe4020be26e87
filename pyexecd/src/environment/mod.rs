//! From what a job asks of its environment to the command that runs it.

mod line_buffering;
mod uv;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pyexec_proto::environment::Interpreter;
use pyexec_proto::job::{Buffering, JobSource, JobSpec, Variables};
use pyexec_proto::start::{JOB_ID_VARIABLE, SERVICE_MARK};
use pyexec_proto::{Error, JobId, OsText};

use crate::config::Config;
use uv::Uv;

/// What is executed.
#[derive(Clone, Debug)]
pub struct Command {
    /// Absolute.
    pub program: OsText,
    pub argv: Vec<OsText>,
    pub environment: Variables,
}

/// Why a job has nothing to run with. Said to the user as it is.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error("no `python3` on PATH")]
    NoPython,
    #[error("uv was not found (PYEXEC_UV, PATH, ~/.local/bin, ~/.cargo/bin)")]
    NoUv,
    #[error("could not run {}: {source}", uv.display())]
    RunUv { uv: PathBuf, source: std::io::Error },
    #[error("there is no Python {wanted} here{}", available(found))]
    NoSuchPython { wanted: String, found: Vec<String> },
    #[error("could not arrange line buffering: {0}")]
    LineBuffering(std::io::Error),
    #[error("could not read its environment: {0}")]
    Variables(std::io::Error),
    #[error("its environment is not there any more")]
    VariablesGone,
}

fn available(found: &[String]) -> String {
    if found.is_empty() { "; uv found none at all".to_owned() } else { format!("; there is {}", found.join(", ")) }
}

impl EnvironmentError {
    fn hint(&self) -> String {
        match self {
            EnvironmentError::NoPython => "install Python, or let uv choose one: leave out --no-uv".to_owned(),
            EnvironmentError::NoUv => "install it with one of `curl -LsSf https://astral.sh/uv/install.sh | sh`, \
                `pipx install uv` (or `pip install uv`), `cargo install --locked uv`; or use --no-uv"
                .to_owned(),
            EnvironmentError::RunUv { .. } => "PYEXEC_UV names the uv to use".to_owned(),
            EnvironmentError::NoSuchPython { wanted, .. } => {
                format!("`uv python install {wanted}` installs it, where the network allows")
            }
            EnvironmentError::LineBuffering(_) => "check that the cache directory can be written to".to_owned(),
            EnvironmentError::Variables(_) | EnvironmentError::VariablesGone => "submit it again".to_owned(),
        }
    }
}

impl From<EnvironmentError> for Error {
    fn from(error: EnvironmentError) -> Self {
        Error::Environment { problem: error.to_string(), hint: error.hint() }
    }
}

/// Finds interpreters, and makes commands of specifications.
#[derive(Debug)]
pub struct Environments {
    uv: Uv,
    cache: PathBuf,
    buffering: Buffering,
}

impl Environments {
    pub fn new(config: &Config, cache: PathBuf) -> Self {
        Self { uv: Uv::new(config.uv.clone()), cache, buffering: config.output_buffering }
    }

    /// Refuses at once what can be known not to work.
    pub async fn check(&self, spec: &JobSpec, variables: &Variables) -> Result<(), EnvironmentError> {
        match &spec.environment.interpreter {
            Interpreter::System => system_python(variables).map(drop),
            Interpreter::Uv { version } => self.uv.check(*version, variables).await,
        }
    }

    pub fn prepare(&self, id: JobId, spec: &JobSpec, mut variables: Variables) -> Result<Command, EnvironmentError> {
        let (program, mut argv) = match &spec.environment.interpreter {
            Interpreter::System => {
                let python = OsText::from(system_python(&variables)?);
                (python.clone(), vec![python])
            }
            Interpreter::Uv { version } => self.uv.command(*version, &spec.environment.requirements, &variables)?,
        };
        match &spec.source {
            JobSource::File { path } => argv.push(path.clone()),
            JobSource::Code { code } => argv.extend(["-c".into(), code.clone()]),
            JobSource::Stdin { .. } => argv.push("-".into()),
        }
        argv.extend(spec.args.iter().cloned());
        match spec.buffering.unwrap_or(self.buffering) {
            Buffering::Line => {
                line_buffering::arrange(&self.cache, &mut variables).map_err(EnvironmentError::LineBuffering)?;
            }
            Buffering::Full => {}
        }
        variables.remove(OsStr::new(SERVICE_MARK));
        variables.set(OsStr::new(JOB_ID_VARIABLE), OsStr::new(&id.to_string()));
        Ok(Command { program, argv, environment: variables })
    }
}

fn system_python(variables: &Variables) -> Result<PathBuf, EnvironmentError> {
    find_on_path("python3", variables.get("PATH")).ok_or(EnvironmentError::NoPython)
}

/// The first executable file of this name. Relative entries of `PATH` are passed over: the daemon's working directory is
/// not the caller's.
fn find_on_path(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let entries = path?.as_bytes().split(|byte| *byte == b':').map(|entry| Path::new(OsStr::from_bytes(entry)));
    entries.filter(|entry| entry.is_absolute()).map(|entry| entry.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}
