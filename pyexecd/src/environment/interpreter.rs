//! Which Python: found, or installed by uv, and known by its identity.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pyexec_proto::job::Variables;

use super::caller::Caller;
use super::mark::Mark;
use super::python_request::PythonRequest;
use super::request::InterpreterIdentity;
use super::search_path::on_path;
use super::settings::{Place, Settings};
use super::uv::{self, FileIdentity};
use super::{EnvironmentError, passwords};
use crate::client_files::{ClientFiles, Problem};

/// How long an answer of uv's is taken for the best one: a newer Python may have been installed since.
const ANSWER_AGE: Duration = Duration::from_secs(600);

/// Remembers what was found out, so that a second run does not ask again.
#[derive(Debug)]
pub(super) struct Interpreters {
    mark: Mark,
    files: ClientFiles,
    found: Mutex<HashMap<Question, Answer>>,
    versions: Mutex<HashMap<FileIdentity, String>>,
}

/// By which uv, what was wanted, and where it was looked for.
type Question = (PathBuf, String, String);
/// Where it is, and when it was asked.
type Answer = (PathBuf, Instant);

impl Interpreters {
    pub(super) fn new(mark: Mark, files: ClientFiles) -> Self {
        Self { mark, files, found: Mutex::default(), versions: Mutex::default() }
    }

    /// The first `python3` on the caller's `PATH`, and its version if that can be told without running it anew each time.
    pub(super) async fn system(&self, variables: &Variables) -> Result<(PathBuf, String), EnvironmentError> {
        let failed = |problem| EnvironmentError::Search { what: "python3", problem };
        let mut files = self.files.open();
        let found = files.first_executable(on_path("python3", variables.get("PATH"))).await.map_err(failed)?;
        let python = found.ok_or(EnvironmentError::NoPython)?;
        let is_script = match files.beginning(&python, 2).await {
            Err(Problem::Io(_)) => false,
            start => start.map_err(failed)? == b"#!",
        };
        let identity = files.identity(&python).await.map_err(failed)?;
        drop(files);
        // A script of pyenv's or asdf's is a different Python in every directory, and slow: nothing is known of it.
        let version = if is_script { String::new() } else { self.version(&python, identity, variables).await? };
        Ok((python, version))
    }

    /// What uv chooses for a request, where these settings hold. One that is missing is installed, if that can be.
    pub(super) async fn through_uv(
        &self,
        uv: &Path,
        wanted: &PythonRequest,
        settings: &Settings,
        caller: Caller<'_>,
    ) -> Result<InterpreterIdentity, EnvironmentError> {
        let key = (uv.to_owned(), wanted.text().to_owned(), settings.python.clone());
        let known = self.found.lock().expect("nothing panics while it is held").get(&key).cloned();
        if let Some((path, at)) = known
            && at.elapsed() < ANSWER_AGE
            && let Ok(identity) = self.identity(&path, caller.variables).await
        {
            return Ok(identity);
        }
        let place = &settings.place;
        let path = match find(caller.files, uv, wanted, place, caller.variables, caller.mark).await? {
            Some(path) => path,
            None => {
                install(uv, wanted.text(), place, caller).await?;
                let found = find(caller.files, uv, wanted, place, caller.variables, caller.mark).await?;
                let wanted = wanted.text().to_owned();
                found.ok_or(EnvironmentError::NoSuchPython { wanted, found: Vec::new() })?
            }
        };
        let identity = self.identity(&path, caller.variables).await?;
        self.remember(key, path);
        Ok(identity)
    }

    /// Refuses a version that is not here and that uv can not install either.
    pub(super) async fn check(
        &self,
        uv: &Path,
        wanted: &str,
        directory: &Path,
        variables: &Variables,
    ) -> Result<(), EnvironmentError> {
        let key = (uv.to_owned(), wanted.to_owned(), uv::search_settings(variables));
        let known = self.found.lock().expect("nothing panics while it is held").get(&key).cloned();
        if let Some((path, at)) = known
            && at.elapsed() < ANSWER_AGE
            && matches!(self.files.kind(&path).await, Ok(Some(_)))
        {
            return Ok(());
        }
        let request = PythonRequest::Named(wanted.to_owned());
        // Only what holds everywhere is asked for; relative names in variables start at the caller's directory.
        let place = Place { directory: directory.to_owned(), project: Some("/".into()) };
        if let Some(path) = find(&self.files, uv, &request, &place, variables, &self.mark).await? {
            self.remember(key, path);
            return Ok(());
        }
        if uv::is_downloadable(&self.files, uv, wanted, variables, &self.mark).await {
            return Ok(());
        }
        let found = uv::installed(&self.files, uv, variables, &self.mark).await;
        Err(EnvironmentError::NoSuchPython { wanted: wanted.to_owned(), found })
    }

    fn remember(&self, question: Question, path: PathBuf) {
        let mut found = self.found.lock().expect("nothing panics while it is held");
        found.retain(|_, (_, at)| at.elapsed() < ANSWER_AGE);
        found.insert(question, (path, Instant::now()));
    }

    async fn identity(&self, python: &Path, variables: &Variables) -> Result<InterpreterIdentity, EnvironmentError> {
        let run = |source| EnvironmentError::Run { program: python.to_owned(), source };
        let failed = |problem: Problem| run(problem.into());
        let mut files = self.files.open();
        let as_named = files.identity(python).await.map_err(failed)?;
        let path = files.canonical(python).await.map_err(failed)?;
        let real = files.identity(&path).await.map_err(failed)?;
        drop(files);
        let version = self.version(python, as_named, variables).await?;
        let (path, inode, modified) = real.ok_or_else(|| run(std::io::ErrorKind::NotFound.into()))?;
        Ok(InterpreterIdentity { path, version, inode, modified })
    }

    /// Of one that is there; empty where it does not say.
    pub(super) async fn version_of(&self, python: &Path, variables: &Variables) -> Result<String, EnvironmentError> {
        let identity = self.files.open().identity(python).await;
        let identity = identity.map_err(|problem| EnvironmentError::Search { what: "python", problem })?;
        self.version(python, identity, variables).await
    }

    /// Asked of the interpreter itself, once for as long as its file stays the same.
    async fn version(
        &self,
        python: &Path,
        identity: Option<FileIdentity>,
        variables: &Variables,
    ) -> Result<String, EnvironmentError> {
        const PROBE: &str = "import platform; print(platform.python_version())";
        let known = identity
            .as_ref()
            .and_then(|identity| self.versions.lock().expect("nothing panics while it is held").get(identity).cloned());
        if let Some(known) = known {
            return Ok(known);
        }
        let output = uv::run(&self.files, python, &["-I", "-S", "-c", PROBE], variables, &self.mark).await?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if let Some(identity) = identity
            && output.status.success()
        {
            self.versions.lock().expect("nothing panics while it is held").insert(identity, version.clone());
        }
        Ok(version)
    }
}

/// `None` when uv knows of none here.
pub(super) async fn find(
    files: &ClientFiles,
    uv: &Path,
    wanted: &PythonRequest,
    place: &Place,
    variables: &Variables,
    mark: &Mark,
) -> Result<Option<PathBuf>, EnvironmentError> {
    // `--system`: not the environment that happens to be active.
    let options = ["python", "find", "--no-project", "--system", "--no-python-downloads"];
    let mut arguments: Vec<&OsStr> = options.map(OsStr::new).to_vec();
    arguments.extend(place.options());
    match wanted {
        PythonRequest::Named(wanted) => arguments.push(OsStr::new(wanted)),
        // uv reads version files by itself.
        PythonRequest::OfFile(_) | PythonRequest::Any => {}
    }
    let output = uv::run_in(files, uv, &arguments, &place.directory, variables, mark).await?;
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok((!path.is_empty()).then(|| PathBuf::from(path)));
    }
    let said = passwords::hidden(&String::from_utf8_lossy(&output.stderr));
    // Anything else is about its settings.
    if said.is_empty() || said.contains("nterpreter") {
        return Ok(None);
    }
    Err(EnvironmentError::Settings { said: said.trim().trim_start_matches("error: ").to_owned() })
}

async fn install(uv: &Path, wanted: &str, place: &Place, caller: Caller<'_>) -> Result<(), EnvironmentError> {
    let missing = async || EnvironmentError::NoSuchPython {
        wanted: wanted.to_owned(),
        found: uv::installed(caller.files, uv, caller.variables, caller.mark).await,
    };
    if wanted.is_empty() || !uv::is_downloadable(caller.files, uv, wanted, caller.variables, caller.mark).await {
        return Err(missing().await);
    }
    caller.log.line(&format!("no Python {wanted} here: asking uv to install it"));
    let words = ["python", "install"].map(OsStr::new).into_iter();
    let arguments = words.chain(place.options()).chain([OsStr::new(wanted)]).collect();
    let call = caller.call(uv, &place.directory, arguments);
    match call.run().await? {
        Ok(_) => Ok(()),
        Err(_) => Err(missing().await),
    }
}
