//! Which project a job belongs to, and which environments are there already: looked for where `uv run` looks for them.
//!
//! Only looks, with one question for all names where there is nothing to be found. What becomes of what is found is decided
//! by [`super::project`], which asks uv to make a project's environment, and [`super::present`], which chooses one that is
//! there.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use pyexec_proto::environment::ProjectChoice;
use pyexec_proto::job::{JobSource, JobSpec, Variables};

use super::EnvironmentError;
use crate::client_files::{ClientFiles, Files, Kind, Problem};

const PROJECT_FILE: &str = "pyproject.toml";
/// In every environment that `venv`, `virtualenv` or uv has made.
const ENVIRONMENT_FILE: &str = "pyvenv.cfg";
const USUAL_ENVIRONMENT: &str = ".venv";
/// What is read of a `pyproject.toml`.
const MAX_PROJECT_BYTES: usize = 1 << 20;

/// What is around a job.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    /// Where uv is to look for a project, if that is not the working directory.
    pub(super) start: Option<PathBuf>,
    /// The directory of a project that uv manages.
    pub(super) project: Option<PathBuf>,
    /// The project's environment is made, not only looked for.
    pub(super) is_synced: bool,
    /// In the order in which uv prefers them.
    pub(super) environments: Vec<Environment>,
}

/// What may be an environment.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) prefix: PathBuf,
    pub(super) origin: Origin,
    /// It has a `pyvenv.cfg`.
    pub(super) is_virtual: bool,
    pub(super) python: Option<PathBuf>,
}

/// Where an environment was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The project's own.
    Project,
    /// `VIRTUAL_ENV`.
    Active,
    /// `CONDA_PREFIX`.
    Conda,
    /// The working directory or one above it is one, or has a `.venv`.
    Directory,
    /// `.venv` is a regular file: what that means depends on the version of uv.
    Redirected,
}

/// What a variable is set to, if that is not nothing.
pub(super) fn set<'a>(variables: &'a Variables, name: &str) -> Option<&'a OsStr> {
    variables.get(name).filter(|value| !value.is_empty())
}

/// Whether uv takes a variable for a yes. What is neither that nor a no it complains about itself.
pub(super) fn is_on(variables: &Variables, name: &str) -> bool {
    let value = variables.get(name).and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    ["1", "true", "t", "yes", "y", "on"].contains(&value.as_str())
}

/// Whether what is wrong is for uv to say, or only keeps the job from being run in what was found.
pub(super) fn is_strict(choice: ProjectChoice) -> bool {
    match choice {
        ProjectChoice::AsUvRun | ProjectChoice::AsUvRunNoProject | ProjectChoice::OfDirectory => true,
        ProjectChoice::OfScript | ProjectChoice::AsFound | ProjectChoice::None => false,
    }
}

/// For a script in a file of ours, whose place says nothing.
pub(super) fn wherever_the_script_lies(choice: ProjectChoice) -> ProjectChoice {
    match choice {
        ProjectChoice::AsUvRun => ProjectChoice::OfDirectory,
        ProjectChoice::OfScript => ProjectChoice::AsFound,
        other @ (ProjectChoice::AsUvRunNoProject
        | ProjectChoice::OfDirectory
        | ProjectChoice::AsFound
        | ProjectChoice::None) => other,
    }
}

pub(super) async fn look_around(
    spec: &JobSpec,
    variables: &Variables,
    files: &ClientFiles,
) -> Result<Surroundings, EnvironmentError> {
    let choice = spec.environment.project;
    if choice == ProjectChoice::None {
        return Ok(Surroundings::default());
    }
    let directory = spec.directory.as_path();
    let named = set(variables, "UV_PROJECT").map(|project| directory.join(project));
    let start = named.clone().or_else(|| script_directory(spec).filter(|script| script != directory));
    let start_or_directory = start.as_deref().unwrap_or(directory);
    let mut asked: Vec<PathBuf> = start_or_directory.ancestors().map(|above| above.join(PROJECT_FILE)).collect();
    asked.extend(
        directory.ancestors().flat_map(|above| [ENVIRONMENT_FILE, USUAL_ENVIRONMENT].map(|name| above.join(name))),
    );
    asked.extend(named.clone());
    let failed = |problem| EnvironmentError::Unreadable { path: directory.to_owned(), problem };
    let mut files = files.open();
    let kinds = files.kinds(&asked).await.map_err(failed)?;
    let kind = |path: &Path| asked.iter().zip(&kinds).find(|(other, _)| *other == path).and_then(|(_, kind)| *kind);
    let is_file = |path: &Path| kind(path) == Some(Kind::File);

    let mut around = Surroundings { start, ..Surroundings::default() };
    let may_have_project = choice != ProjectChoice::AsUvRunNoProject && !is_on(variables, "UV_NO_PROJECT");
    if may_have_project {
        let start_or_directory = around.start.as_deref().unwrap_or(directory);
        // uv also takes the file itself for the name of a project.
        let start_or_directory =
            if named.as_deref().is_some_and(is_file) { start_or_directory.parent() } else { Some(start_or_directory) };
        let found =
            start_or_directory.into_iter().flat_map(Path::ancestors).find(|above| is_file(&above.join(PROJECT_FILE)));
        let is_missing = named.as_deref().is_some_and(|named| kind(named).is_none());
        around.project = match found {
            // uv says that it is not there.
            _ if is_missing && is_strict(choice) => named.clone(),
            Some(found) if is_managed(&mut files, found).await? => Some(without_dots(found)),
            Some(_) | None => None,
        };
        around.is_synced = around.project.is_some()
            && match choice {
                ProjectChoice::AsUvRun | ProjectChoice::OfDirectory => true,
                ProjectChoice::OfScript => script_directory(spec)
                    .zip(around.project.as_deref())
                    .is_some_and(|(script, project)| without_dots(&script).starts_with(without_dots(project))),
                ProjectChoice::AsUvRunNoProject | ProjectChoice::AsFound | ProjectChoice::None => false,
            };
    }
    // `../script.py` belongs to the project it is named from, as it does for `uv run ../script.py`; of a directory that it is
    // given by itself, uv takes the dots out first.
    if around.start.as_deref().is_some_and(|start| start.components().any(|part| part == Component::ParentDir)) {
        around.start = around.project.clone().or(around.start);
    }
    if around.is_synced || is_on(variables, "UV_ISOLATED") {
        return Ok(around);
    }
    let mut places = Vec::new();
    if let Some(project) = &around.project {
        let own = of_project(&mut files, project, variables).await?;
        places.extend(own.into_iter().map(|prefix| (prefix, Origin::Project)));
    }
    places.extend(set(variables, "VIRTUAL_ENV").map(|active| (directory.join(active), Origin::Active)));
    if let Some(named) = set(variables, "CONDA_PREFIX").map(Path::new) {
        let prefix = directory.join(named);
        if is_own_conda(named, variables) || is_pixi(&mut files, &prefix).await? {
            places.push((prefix, Origin::Conda));
        }
    }
    places.extend(directory.ancestors().find_map(|above| {
        let usual = above.join(USUAL_ENVIRONMENT);
        match kind(&usual) {
            _ if is_file(&above.join(ENVIRONMENT_FILE)) => Some((above.to_owned(), Origin::Directory)),
            Some(Kind::Directory) => Some((usual, Origin::Directory)),
            Some(Kind::File) => Some((usual, Origin::Redirected)),
            Some(Kind::Pipe | Kind::Socket | Kind::Device) | None => None,
        }
    }));
    around.environments = looked_into(&mut files, places).await?;
    Ok(around)
}

/// Where uv looks for the project of a script: for code, and for what saved scripts are to have, that is the working
/// directory.
fn script_directory(spec: &JobSpec) -> Option<PathBuf> {
    match spec.environment.project {
        ProjectChoice::AsUvRun | ProjectChoice::AsUvRunNoProject | ProjectChoice::OfScript => {}
        ProjectChoice::OfDirectory | ProjectChoice::AsFound | ProjectChoice::None => return None,
    }
    match &spec.source {
        JobSource::File { path } => {
            let directory = spec.directory.as_path();
            match path.as_path().parent() {
                None => None,
                Some(here) if here.as_os_str().is_empty() => Some(directory.to_owned()),
                Some(parent) => Some(directory.join(parent)),
            }
        }
        JobSource::Code { .. } | JobSource::Stdin { .. } | JobSource::Module { .. } | JobSource::Content { .. } => None,
    }
}

/// By the names alone, as uv does.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

/// The text of a `pyproject.toml` as TOML; `None` where it is none, which is for uv to say.
async fn table(files: &mut Files, project: &Path) -> Result<Option<toml::Table>, EnvironmentError> {
    let path = project.join(PROJECT_FILE);
    match files.read(&path, MAX_PROJECT_BYTES).await {
        Ok(text) => Ok(std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok())),
        Err(Problem::Io(_) | Problem::NotAFile(_) | Problem::TooLarge { .. }) => Ok(None),
        Err(problem) => Err(EnvironmentError::Unreadable { path, problem }),
    }
}

fn tool_uv<'a>(table: &'a toml::Table, name: &str) -> Option<&'a toml::Value> {
    table.get("tool")?.get("uv")?.get(name)
}

/// Whether uv takes the directory for a project's. `managed = false` holds only beside `[project]`, as it does for uv.
async fn is_managed(files: &mut Files, project: &Path) -> Result<bool, EnvironmentError> {
    let table = table(files, project).await?;
    let is_unmanaged = |table: toml::Table| {
        table.contains_key("project") && tool_uv(&table, "managed").and_then(toml::Value::as_bool) == Some(false)
    };
    Ok(!table.is_some_and(is_unmanaged))
}

/// Where the environment of a project may be: its own directory, or that of the workspace it may be a member of.
async fn of_project(
    files: &mut Files,
    project: &Path,
    variables: &Variables,
) -> Result<Vec<PathBuf>, EnvironmentError> {
    let name = set(variables, "UV_PROJECT_ENVIRONMENT").unwrap_or(OsStr::new(USUAL_ENVIRONMENT));
    let mut places = vec![project.join(name)];
    let above: Vec<PathBuf> = project.ancestors().skip(1).map(|above| above.join(PROJECT_FILE)).collect();
    let failed = |problem| EnvironmentError::Unreadable { path: project.to_owned(), problem };
    let kinds = files.kinds(&above).await.map_err(failed)?;
    let next = above.iter().zip(kinds).find(|(_, kind)| *kind == Some(Kind::File));
    if let Some(root) = next.and_then(|(path, _)| path.parent())
        && table(files, root).await?.is_some_and(|table| tool_uv(&table, "workspace").is_some())
    {
        places.push(root.join(name));
    }
    Ok(places)
}

/// Whether `CONDA_PREFIX` names an environment that somebody has made, and not conda's own, which uv takes for a Python of
/// the system. By uv's rules.
fn is_own_conda(prefix: &Path, variables: &Variables) -> bool {
    if variables.get("_CONDA_ROOT").is_some_and(|root| prefix == Path::new(root)) {
        return false;
    }
    let Some(name) = variables.get("CONDA_DEFAULT_ENV") else { return true };
    prefix == Path::new(name) || prefix.file_name().is_none_or(|last| last == name)
}

/// pixi calls its environments `default`, which the names do not tell from conda's own.
async fn is_pixi(files: &mut Files, prefix: &Path) -> Result<bool, EnvironmentError> {
    let mark = prefix.join("conda-meta/pixi");
    match files.kind(&mark).await {
        Ok(kind) => Ok(kind == Some(Kind::File)),
        Err(Problem::Io(_)) => Ok(false),
        Err(problem) => Err(EnvironmentError::Unreadable { path: mark, problem }),
    }
}

async fn looked_into(files: &mut Files, places: Vec<(PathBuf, Origin)>) -> Result<Vec<Environment>, EnvironmentError> {
    let mut found = Vec::new();
    for (prefix, origin) in places {
        let asked = [ENVIRONMENT_FILE, "bin/python", "bin/python3"].map(|name| prefix.join(name));
        let failed = |problem| EnvironmentError::Unreadable { path: prefix.clone(), problem };
        let kinds = files.kinds(&asked).await.map_err(failed)?;
        let mut files = asked.into_iter().zip(kinds).map(|(path, kind)| (kind == Some(Kind::File)).then_some(path));
        let is_virtual = files.next().flatten().is_some();
        let python = files.flatten().next();
        found.push(Environment { prefix, origin, is_virtual, python });
    }
    Ok(found)
}

/// Whether something else than `--python` may decide which Python uv takes: then only uv knows whether an environment will do.
pub(super) async fn is_python_chosen(
    around: &Surroundings,
    directory: &Path,
    variables: &Variables,
    files: &ClientFiles,
) -> Result<bool, EnvironmentError> {
    const CHOOSE: [&str; 4] = ["UV_PYTHON", "UV_PYTHON_PREFERENCE", "UV_MANAGED_PYTHON", "UV_NO_MANAGED_PYTHON"];
    if CHOOSE.iter().any(|name| set(variables, name).is_some()) {
        return Ok(true);
    }
    let config = set(variables, "XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| Some(Path::new(set(variables, "HOME")?).join(".config")));
    let above = around.start.as_deref().unwrap_or(directory).ancestors().map(Path::to_owned);
    let directories = above.chain(config.map(|config| config.join("uv")));
    let asked: Vec<PathBuf> =
        directories.flat_map(|at| [".python-version", ".python-versions"].map(|name| at.join(name))).collect();
    let failed = |problem| EnvironmentError::Unreadable { path: directory.to_owned(), problem };
    let kinds = files.open().kinds(&asked).await.map_err(failed)?;
    Ok(kinds.contains(&Some(Kind::File)))
}
