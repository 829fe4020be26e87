//! Which project a job belongs to, and which environments are there already: looked for where `uv run` looks for them.
//!
//! Only looks, with one question for all names where there is nothing to be found. What becomes of what is found is decided
//! by [`super::project`], which asks uv to make a project's environment, and [`super::present`], which chooses one that is
//! there.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use pyexec_proto::environment::ProjectChoice;
use pyexec_proto::job::{JobSpec, Variables};

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

/// What the names are that uv would look for.
struct Names {
    asked: Vec<PathBuf>,
    kinds: Vec<Option<Kind>>,
}

impl Names {
    async fn ask(files: &mut Files, asked: Vec<PathBuf>) -> Result<Self, EnvironmentError> {
        let first = asked.first().cloned().unwrap_or_default();
        let failed = |problem| EnvironmentError::Unreadable { path: first, problem };
        let kinds = files.kinds(&asked).await.map_err(failed)?;
        Ok(Self { asked, kinds })
    }

    fn kind(&self, path: &Path) -> Option<Kind> {
        self.asked.iter().zip(&self.kinds).find(|(asked, _)| *asked == path).and_then(|(_, kind)| *kind)
    }

    fn is_file(&self, path: &Path) -> bool {
        self.kind(path) == Some(Kind::File)
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
    let mut files = files.open();
    let directory = real(&mut files, spec.directory.as_path()).await?;
    let named = set(variables, "UV_PROJECT").map(|project| directory.join(project));
    let script = script_directory(spec, &directory);
    let mut start = named.clone().or_else(|| script.clone().filter(|script| *script != directory));
    let from = start.as_ref().unwrap_or(&directory);
    let mut asked: Vec<PathBuf> = from.ancestors().map(|above| above.join(PROJECT_FILE)).collect();
    asked.extend(
        directory.ancestors().flat_map(|above| [ENVIRONMENT_FILE, USUAL_ENVIRONMENT].map(|name| above.join(name))),
    );
    asked.extend(named.clone());
    let names = Names::ask(&mut files, asked).await?;

    let has_none = choice == ProjectChoice::AsUvRunNoProject || is_on(variables, "UV_NO_PROJECT");
    let project = match &named {
        _ if has_none => None,
        // uv says that it is not there.
        Some(named) if is_strict(choice) && names.kind(named).is_none() => Some(named.clone()),
        // uv also takes the file itself for the name of a project.
        Some(named) if names.is_file(named) => project_from(&mut files, &names, named.parent()).await?,
        Some(_) | None => project_from(&mut files, &names, Some(from)).await?,
    };
    let is_within = |script: &Path, project: &Path| without_dots(script).starts_with(project);
    let is_synced = project.as_deref().is_some_and(|project| match choice {
        ProjectChoice::AsUvRun | ProjectChoice::OfDirectory => true,
        ProjectChoice::OfScript => script.is_some_and(|script| is_within(&script, project)),
        ProjectChoice::AsUvRunNoProject | ProjectChoice::AsFound | ProjectChoice::None => false,
    });
    // `../script.py` belongs to the project that it is named from, as it does for `uv run ../script.py`; of a directory that
    // it is given by itself, uv takes the dots out first.
    if start.as_deref().is_some_and(|start| start.components().any(|part| part == Component::ParentDir)) {
        start = project.clone().or(start);
    }
    let environments = if is_synced || is_on(variables, "UV_ISOLATED") {
        Vec::new()
    } else {
        environments(&mut files, &names, &directory, project.as_deref(), variables).await?
    };
    Ok(Surroundings { start, project, is_synced, environments })
}

/// As the kernel names it to uv: what is above a link is not above the directory.
async fn real(files: &mut Files, directory: &Path) -> Result<PathBuf, EnvironmentError> {
    match files.canonical(directory).await {
        Ok(real) => Ok(real),
        Err(Problem::Io(_)) => Ok(directory.to_owned()),
        Err(problem) => Err(EnvironmentError::Unreadable { path: directory.to_owned(), problem }),
    }
}

/// The first directory with a `pyproject.toml`, from this one upwards, if uv manages that.
async fn project_from(
    files: &mut Files,
    names: &Names,
    start: Option<&Path>,
) -> Result<Option<PathBuf>, EnvironmentError> {
    let mut above = start.into_iter().flat_map(Path::ancestors);
    match above.find(|above| names.is_file(&above.join(PROJECT_FILE))) {
        Some(found) if is_managed(files, found).await? => Ok(Some(without_dots(found))),
        Some(_) | None => Ok(None),
    }
}

/// In the order in which uv prefers them; of a project that is not made, its own comes first.
async fn environments(
    files: &mut Files,
    names: &Names,
    directory: &Path,
    project: Option<&Path>,
    variables: &Variables,
) -> Result<Vec<Environment>, EnvironmentError> {
    let mut places = Vec::new();
    if let Some(project) = project {
        let own = of_project(files, project, variables).await?;
        places.extend(own.into_iter().map(|prefix| (prefix, Origin::Project)));
    }
    places.extend(set(variables, "VIRTUAL_ENV").map(|active| (directory.join(active), Origin::Active)));
    if let Some(named) = set(variables, "CONDA_PREFIX").map(Path::new) {
        let prefix = directory.join(named);
        if is_own_conda(named, variables) || is_pixi(files, &prefix).await? {
            places.push((prefix, Origin::Conda));
        }
    }
    places.extend(directory.ancestors().find_map(|above| {
        let usual = above.join(USUAL_ENVIRONMENT);
        match names.kind(&usual) {
            _ if names.is_file(&above.join(ENVIRONMENT_FILE)) => Some((above.to_owned(), Origin::Directory)),
            Some(Kind::Directory) => Some((usual, Origin::Directory)),
            Some(Kind::File) => Some((usual, Origin::Redirected)),
            Some(Kind::Pipe | Kind::Socket | Kind::Device) | None => None,
        }
    }));
    looked_into(files, places).await
}

/// Where uv looks for the project of a script: for code, and for what saved scripts are to have, that is the working
/// directory.
fn script_directory(spec: &JobSpec, directory: &Path) -> Option<PathBuf> {
    match spec.environment.project {
        ProjectChoice::AsUvRun | ProjectChoice::AsUvRunNoProject | ProjectChoice::OfScript => {}
        ProjectChoice::OfDirectory | ProjectChoice::AsFound | ProjectChoice::None => return None,
    }
    let parent = spec.source.file()?.as_path().parent()?;
    Some(if parent.as_os_str().is_empty() { directory.to_owned() } else { directory.join(parent) })
}

/// By the names alone, as uv does.
pub(super) fn without_dots(path: &Path) -> PathBuf {
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
    let names = Names::ask(files, above).await?;
    let next = names.asked.iter().find(|path| names.is_file(path)).and_then(|path| path.parent());
    if let Some(root) = next
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
        let asked = [ENVIRONMENT_FILE, "bin/python", "bin/python3"].map(|name| prefix.join(name)).to_vec();
        let names = Names::ask(files, asked).await?;
        let is_virtual = names.is_file(&names.asked[0]);
        let python = names.asked[1..].iter().find(|path| names.is_file(path)).cloned();
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
    Ok(Names::ask(&mut files.open(), asked).await?.kinds.contains(&Some(Kind::File)))
}

#[cfg(test)]
mod tests {
    use pyexec_proto::environment::{EnvironmentSpec, Interpreter};

    use super::*;
    use pyexec_proto::JobSource;

    const PROJECT: &str = "[project]\nname = 'p'\n";

    struct Place(tempfile::TempDir);

    impl Place {
        fn new(files: &[(&str, &str)]) -> Self {
            let home = tempfile::tempdir().expect("a directory");
            for (name, text) in files {
                let path = home.path().join(name);
                std::fs::create_dir_all(path.parent().expect("has one")).expect("can be made");
                std::fs::write(path, text).expect("can be written");
            }
            Self(home)
        }

        /// The start, the project, whether that is synced, and the environments: all without the place itself.
        async fn seen(&self, choice: ProjectChoice, script: &str, variables: &[(&str, &str)]) -> String {
            let here = self.0.path().canonicalize().expect("is there");
            let source = match script {
                "" => JobSource::Code { code: "".into() },
                path => JobSource::File { path: path.into() },
            };
            let interpreter = Interpreter::Uv { version: None };
            let directory = here.join("p/below");
            let environment = EnvironmentSpec { project: choice, ..EnvironmentSpec::bare(interpreter.clone()) };
            let spec =
                JobSpec { environment, ..JobSpec::new(source, directory.to_str().expect("is UTF-8"), interpreter) };
            let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
            let around = look_around(&spec, &variables, &ClientFiles::in_threads()).await.expect("can be looked at");
            let short = |path: &PathBuf| path.strip_prefix(&here).unwrap_or(path).display().to_string();
            let environments = around.environments.iter().map(|one| format!("{:?} {}", one.origin, short(&one.prefix)));
            let sync = if around.is_synced { "synced" } else { "" };
            let parts = [around.start.as_ref().map(short), around.project.as_ref().map(short), Some(sync.to_owned())];
            let parts = parts.into_iter().map(Option::unwrap_or_default).chain(environments);
            parts.collect::<Vec<_>>().join("|").trim_end_matches('|').to_owned()
        }
    }

    #[tokio::test]
    async fn a_project_is_looked_for_where_uv_looks_and_made_where_that_is_allowed() {
        use ProjectChoice::{AsFound, AsUvRun, AsUvRunNoProject, OfDirectory, OfScript};
        let place = Place::new(&[
            ("p/pyproject.toml", PROJECT),
            ("p/below/script.py", ""),
            ("o/pyproject.toml", PROJECT),
            ("u/pyproject.toml", "[project]\n[tool.uv]\nmanaged = false\n"),
            ("t/pyproject.toml", "[tool.uv]\nmanaged = false\n"),
            ("b/pyproject.toml", "[project\n"),
        ]);
        for (choice, script, variables, expected) in [
            (AsUvRun, "", &[][..], "|p|synced"),
            (AsUvRun, "script.py", &[], "|p|synced"),
            (AsUvRun, "../script.py", &[], "p|p|synced"),
            (AsUvRun, "../../o/script.py", &[], "o|o|synced"),
            (AsUvRun, "../../u/script.py", &[], "p/below/../../u"),
            (AsUvRun, "../../t/script.py", &[], "t|t|synced"),
            (AsUvRun, "../../b/script.py", &[], "b|b|synced"),
            // By the names alone it lies below.
            (AsUvRun, "../../script.py", &[], "p|p|synced"),
            (AsUvRun, "/script.py", &[], "/"),
            (AsUvRun, "", &[("UV_PROJECT", "../../o")], "o|o|synced"),
            (AsUvRun, "", &[("UV_PROJECT", "../../o/pyproject.toml")], "o|o|synced"),
            (AsUvRun, "", &[("UV_PROJECT", "none")], "p/below/none|p/below/none|synced"),
            (AsUvRun, "", &[("UV_NO_PROJECT", "True")], ""),
            (AsUvRun, "", &[("UV_NO_PROJECT", "0")], "|p|synced"),
            (AsUvRunNoProject, "", &[], ""),
            (OfDirectory, "../../o/script.py", &[], "|p|synced"),
            (OfScript, "", &[], "|p||Project p/.venv"),
            (OfScript, "script.py", &[], "|p|synced"),
            (OfScript, "../../script.py", &[], "p|p||Project p/.venv"),
            (OfScript, "../../o/script.py", &[], "o|o|synced"),
            (OfScript, "../../o/script.py", &[("UV_PROJECT", "..")], "p|p||Project p/.venv"),
            (AsFound, "script.py", &[], "|p||Project p/.venv"),
            (AsFound, "", &[("UV_PROJECT_ENVIRONMENT", "named")], "|p||Project p/named"),
            (ProjectChoice::None, "script.py", &[("VIRTUAL_ENV", "env")], ""),
        ] {
            assert_eq!(place.seen(choice, script, variables).await, expected, "{choice:?} {script} {variables:?}");
        }
    }

    #[tokio::test]
    async fn environments_that_are_there_are_looked_for_in_the_order_of_uv() {
        use ProjectChoice::{AsFound, AsUvRun, AsUvRunNoProject};
        let place = Place::new(&[("p/.venv/pyvenv.cfg", ""), ("p/below/kept", ""), ("pixi/conda-meta/pixi", "")]);
        for (variables, expected) in [
            (&[][..], "|||Directory p/.venv"),
            (&[("VIRTUAL_ENV", "")], "|||Directory p/.venv"),
            (&[("VIRTUAL_ENV", "env")], "|||Active p/below/env|Directory p/.venv"),
            (&[("VIRTUAL_ENV", "/env"), ("CONDA_PREFIX", "/conda")], "|||Active /env|Conda /conda|Directory p/.venv"),
            (&[("CONDA_PREFIX", "/c/x"), ("CONDA_DEFAULT_ENV", "x")], "|||Conda /c/x|Directory p/.venv"),
            (&[("CONDA_PREFIX", "/c/x"), ("CONDA_DEFAULT_ENV", "/c/x")], "|||Conda /c/x|Directory p/.venv"),
            (&[("CONDA_PREFIX", "/c"), ("CONDA_DEFAULT_ENV", "base")], "|||Directory p/.venv"),
            (&[("CONDA_PREFIX", "/c"), ("_CONDA_ROOT", "/c")], "|||Directory p/.venv"),
            (
                &[("CONDA_PREFIX", "../../pixi"), ("CONDA_DEFAULT_ENV", "x")],
                "|||Conda p/below/../../pixi|Directory p/.venv",
            ),
            (&[("UV_ISOLATED", "1"), ("VIRTUAL_ENV", "env")], ""),
        ] {
            for choice in [AsUvRun, AsUvRunNoProject, AsFound] {
                assert_eq!(place.seen(choice, "", variables).await, expected, "{choice:?} {variables:?}");
            }
        }
        std::fs::write(place.0.path().join("p/below/.venv"), "elsewhere").expect("can be written");
        assert_eq!(place.seen(AsUvRun, "", &[]).await, "|||Redirected p/below/.venv");
        std::fs::write(place.0.path().join("p/below/pyvenv.cfg"), "").expect("can be written");
        assert_eq!(place.seen(AsUvRun, "", &[]).await, "|||Directory p/below");
    }

    #[tokio::test]
    async fn the_environment_of_a_member_may_be_that_of_its_workspace() {
        let place = Place::new(&[
            ("pyproject.toml", "[tool.uv.workspace]\nmembers = ['p']\n"),
            ("p/below/pyproject.toml", PROJECT),
        ]);
        let seen = place.seen(ProjectChoice::AsFound, "", &[]).await;
        assert_eq!(seen, "|p/below||Project p/below/.venv|Project .venv");
        std::fs::write(place.0.path().join("p/pyproject.toml"), PROJECT).expect("can be written");
        assert_eq!(place.seen(ProjectChoice::AsFound, "", &[]).await, "|p/below||Project p/below/.venv");
    }
}
