//! Why there is no environment for a job.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pyexec_proto::Error;

use crate::client_files::Problem;
use pyexec_python::script_metadata::ScriptMetadataError;
use pyexec_supervisor::own_limits;

/// Said wherever a project's environment cannot be made: the job may not need it.
const WITHOUT_PROJECT: &str = "--no-project (`no_project=true`) runs without it";

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
    #[error("uv cannot be used with its settings here:\n{said}")]
    Settings { said: String },
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
    #[error("the project's environment could not be made; {WITHOUT_PROJECT}:\n{said}")]
    Project { said: String },
    #[error("uv cannot run in the environment that is there:\n{said}")]
    Present { said: String },
    #[error("building the environment took longer than {} s (`environment_timeout`)", limit.as_secs())]
    Late { limit: Duration },
    #[error(
        "making the project's environment took longer than {} s (`environment_timeout`); {WITHOUT_PROJECT}",
        limit.as_secs()
    )]
    LateProject { limit: Duration },
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
    #[error(
        "uv lays its requirements over {} at every run, and would have to do so inside of the fence; install them there, \
        leave it out with `no_project=true` (`--no-project`, if it is a project), or run in an environment that \
        `pyexec env create` has made",
        over.display()
    )]
    LaidOverInside { over: PathBuf },
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
    /// What the daemon has refused, also of a build that several waited for.
    fn refusal(&self) -> Option<&Error> {
        if let EnvironmentError::Shared(shared) = self {
            return shared.refusal();
        }
        if let EnvironmentError::Refused(error) = self { Some(error) } else { None }
    }

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
            EnvironmentError::Settings { .. } => {
                "correct the settings that it names; `uv python find` in the job's directory says the same".to_owned()
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
            EnvironmentError::Present { .. } => "make it again, or deactivate it".to_owned(),
            EnvironmentError::Late { .. } | EnvironmentError::LateProject { .. } => "set `environment_timeout` higher for builds that take so long".to_owned(),
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
            EnvironmentError::UvInside | EnvironmentError::LaidOverInside { .. } => {
                "name packages and versions, not paths or links, without a table [tool.uv] in the script and without settings \
                for `uv pip` alone in uv.toml; or make an environment with `pyexec env create` and run it there"
                    .to_owned()
            }
            EnvironmentError::BuildAborted
            | EnvironmentError::PasswordNotKept { .. }
            | EnvironmentError::Variables(_)
            | EnvironmentError::VariablesGone => "submit it again".to_owned(),
            EnvironmentError::Refused(error) => error.daemon_hint().unwrap_or_default().to_owned(),
            EnvironmentError::Shared(error) => error.hint(),
        }
    }
}

impl From<EnvironmentError> for Error {
    fn from(error: EnvironmentError) -> Self {
        if let Some(refusal) = error.refusal() {
            return refusal.clone();
        }
        Error::Environment { problem: error.to_string(), hint: error.hint() }
    }
}
