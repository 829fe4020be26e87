//! The files that uv may read for a job, in one question, and which of them hold.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pyexec_proto::job::Variables;

use super::options::{self, SettingsFile, Source};
use crate::client_files::{Files, Problem};
use crate::environment::discovery::{is_on, set, without_dots};
use crate::environment::hashes::{included_by, logical_lines};
use crate::environment::request::is_volatile;

/// What is read of each file.
const MAX_BYTES: usize = 16 << 20;

/// How many files those that variables name may include.
const MAX_INCLUDED: usize = 100;

const UV_TOML: &str = "uv.toml";
const PYPROJECT: &str = "pyproject.toml";
const VERSION_FILES: [&str; 2] = [".python-version", ".python-versions"];

/// These name files that only `uv pip` reads. In environments of ours they hold.
pub(in crate::environment) const OF_UV_PIP: [&str; 4] =
    ["UV_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE", "UV_BUILD_CONSTRAINT"];

/// From where uv looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Search {
    /// In which it is started.
    pub(super) directory: PathBuf,
    /// From here upwards for settings.
    pub(super) settings: PathBuf,
    /// From here upwards for version files.
    pub(super) versions: PathBuf,
    /// Where the lock of a script may be.
    pub(super) lock: Option<PathBuf>,
}

/// A `.python-version` or `.python-versions` that holds for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::environment) struct VersionFile {
    /// Its first request, such as `3.12`.
    pub(in crate::environment) request: String,
    /// uv does not find it by itself from where it is started.
    pub(in crate::environment) is_elsewhere: bool,
}

/// Which files uv may read, before any has been looked at.
#[derive(Debug)]
pub(super) struct Places<'a> {
    search: &'a Search,
    paths: Vec<PathBuf>,
    roles: Vec<Role>,
    named_config: bool,
}

/// What a file is to uv.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Named by a variable: the only settings there are.
    Config,
    User,
    System,
    Project,
    Pyproject,
    Version,
    /// The user's own, which holds where there is no other.
    GlobalVersion,
    Named(&'static str),
    Lock,
}

/// The same, with what is in them.
#[derive(Debug)]
pub(super) struct Read<'a> {
    places: Places<'a>,
    contents: Vec<Result<Option<Vec<u8>>, Problem>>,
}

impl<'a> Places<'a> {
    pub(super) fn new(search: &'a Search, variables: &Variables) -> Self {
        let mut places = Self { search, paths: Vec::new(), roles: Vec::new(), named_config: false };
        let set = |name: &str| set(variables, name);
        let is_discovered = !is_on(variables, "UV_NO_CONFIG");
        if let Some(file) = set("UV_CONFIG_FILE") {
            places.named_config = true;
            places.add(search.directory.join(file), Role::Config);
        }
        let are_settings_discovered = is_discovered && !places.named_config;
        for name in OF_UV_PIP {
            let files = set(name).unwrap_or_default().as_bytes().split(|byte| *byte == b' ');
            for file in files.map(OsStr::from_bytes).filter(|file| !file.is_empty()) {
                places.add(search.directory.join(file), Role::Named(name));
            }
        }
        if let Some(lock) = &search.lock {
            places.add(lock.clone(), Role::Lock);
        }
        if are_settings_discovered && !is_on(variables, "UV_NO_SYSTEM_CONFIG") {
            let directories = set("XDG_CONFIG_DIRS").unwrap_or(OsStr::new("/etc/xdg")).as_bytes();
            for directory in directories.split(|byte| *byte == b':').take_while(|directory| !directory.is_empty()) {
                places.add(Path::new(OsStr::from_bytes(directory)).join("uv/uv.toml"), Role::System);
            }
            places.add("/etc/uv/uv.toml".into(), Role::System);
        }
        let config = set("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let config = config.or_else(|| Some(Path::new(set("HOME")?).join(".config"))).map(|config| config.join("uv"));
        if are_settings_discovered && let Some(config) = &config {
            places.add(config.join(UV_TOML), Role::User);
        }
        let is_one_walk = search.settings == search.versions;
        // Deepest first, and those of one directory together: they are looked at in this order.
        for directory in search.settings.ancestors() {
            if are_settings_discovered {
                places.add(directory.join(UV_TOML), Role::Project);
                places.add(directory.join(PYPROJECT), Role::Pyproject);
            }
            if is_discovered && is_one_walk {
                places.add_versions(directory, Role::Version);
            }
        }
        if is_discovered && !is_one_walk {
            search.versions.ancestors().for_each(|directory| places.add_versions(directory, Role::Version));
        }
        if is_discovered && let Some(config) = &config {
            places.add_versions(config, Role::GlobalVersion);
        }
        places
    }

    fn add(&mut self, path: PathBuf, role: Role) {
        self.paths.push(path);
        self.roles.push(role);
    }

    fn add_versions(&mut self, directory: &Path, role: Role) {
        for name in VERSION_FILES {
            self.add(directory.join(name), role);
        }
    }

    pub(super) async fn read(self, files: &mut Files) -> Result<Read<'a>, Problem> {
        let contents = files.contents(&self.paths, MAX_BYTES).await?;
        Ok(Read { places: self, contents })
    }
}

impl Read<'_> {
    fn all(&self) -> impl Iterator<Item = (Role, &Path, &Result<Option<Vec<u8>>, Problem>)> {
        let places = self.places.roles.iter().zip(&self.places.paths);
        places.zip(&self.contents).map(|((role, path), content)| (*role, path.as_path(), content))
    }

    /// The settings files that hold: the user's, the system's, and the directory's. The error says why that is not certain.
    pub(super) fn settings(&self) -> Result<Vec<SettingsFile<'_>>, String> {
        let mut found = Vec::new();
        if self.places.named_config {
            let config = self.all().find(|(role, ..)| *role == Role::Config);
            if let Some((_, path, content)) = config {
                let content = there(path, content)?.ok_or_else(|| format!("there is no {}", path.display()))?;
                found.push(SettingsFile { path, content, source: Source::UvToml });
            }
            return Ok(found);
        }
        for role in [Role::User, Role::System] {
            let first = self.all().filter(|(of, ..)| *of == role).find_map(|(_, path, content)| match content {
                Ok(None) => None,
                // uv passes over what is none.
                Err(Problem::NotAFile(_)) => None,
                Err(Problem::Io(error)) if error.kind() == std::io::ErrorKind::PermissionDenied => None,
                content => Some((path, content)),
            });
            if let Some((path, content)) = first {
                let Some(content) = there(path, content)? else { continue };
                found.push(SettingsFile { path, content, source: Source::Shared });
            }
        }
        if let Some(file) = self.of_directory()? {
            if without_dots(file.path)
                .parent()
                .is_none_or(|at| !without_dots(&self.places.search.settings).starts_with(at))
            {
                return Err(format!("{} lies beside the way that `..` takes", file.path.display()));
            }
            found.push(file);
        }
        Ok(found)
    }

    /// The nearest `uv.toml`, or `pyproject.toml` with a table `[tool.uv]`.
    fn of_directory(&self) -> Result<Option<SettingsFile<'_>>, String> {
        let mut nearest: Option<SettingsFile<'_>> = None;
        let mut is_nearest_pyproject = true;
        for (role, path, content) in self.all().filter(|(role, ..)| matches!(role, Role::Project | Role::Pyproject)) {
            let Some(content) = there(path, content)? else { continue };
            if role == Role::Project {
                nearest.get_or_insert(SettingsFile { path, content, source: Source::UvToml });
                continue;
            }
            let project = options::Pyproject::read(path, content)?;
            if project.is_workspace {
                return Err(format!("{} makes a workspace", path.display()));
            }
            // uv looks for settings from the directory of a project upwards, not from below.
            let is_below = |file: &SettingsFile<'_>| file.path.parent() != path.parent();
            if std::mem::take(&mut is_nearest_pyproject)
                && project.is_project
                && let Some(below) = nearest.as_ref().filter(|file| is_below(file))
            {
                return Err(format!("{} lies inside of a project", below.path.display()));
            }
            if project.has_settings {
                nearest.get_or_insert(SettingsFile { path, content, source: Source::Pyproject });
            }
        }
        Ok(nearest)
    }

    /// What variables name, with what that includes; and whether that can change unseen.
    pub(super) async fn named(&self, files: &mut Files) -> Result<(Vec<(&'static str, Vec<u8>)>, bool), Problem> {
        let mut contents = Vec::new();
        let mut is_changing = false;
        let mut waiting: Vec<(&'static str, PathBuf)> = Vec::new();
        for (role, path, content) in self.all() {
            let Role::Named(variable) = role else { continue };
            match content {
                Ok(Some(content)) => {
                    is_changing |= take_in(content, path, variable, &mut waiting);
                    contents.push((variable, content.clone()));
                }
                // An address on the web, or what uv will complain about.
                Ok(None) | Err(_) => is_changing = true,
            }
        }
        let mut seen = Vec::new();
        while let Some((variable, path)) = waiting.pop() {
            if seen.contains(&path) {
                continue;
            }
            if seen.len() == MAX_INCLUDED {
                is_changing = true;
                break;
            }
            match files.read(&path, MAX_BYTES).await {
                Ok(content) => {
                    is_changing |= take_in(&content, &path, variable, &mut waiting);
                    contents.push((variable, content));
                }
                Err(Problem::NoAnswer) => return Err(Problem::NoAnswer),
                Err(Problem::NoLooker(error)) => return Err(Problem::NoLooker(error)),
                Err(_) => is_changing = true,
            }
            seen.push(path);
        }
        Ok((contents, is_changing))
    }

    /// The first request of the nearest version file. One in which uv finds none is as if there were no file.
    pub(super) fn version_file(&self) -> Option<VersionFile> {
        let mut files = self.all().filter(|(role, ..)| matches!(role, Role::Version | Role::GlobalVersion));
        let (role, path, content) =
            files.find_map(|(role, path, content)| Some((role, path, content.as_ref().ok()?.as_ref()?)))?;
        let content = String::from_utf8_lossy(content);
        let request = content.lines().find(|line| is_request(line))?.trim().to_owned();
        let is_on_the_way =
            || without_dots(&self.places.search.settings).ancestors().any(|at| Some(at) == path.parent());
        Some(VersionFile { request, is_elsewhere: role == Role::Version && !is_on_the_way() })
    }

    pub(super) fn into_lock(self) -> Option<Vec<u8>> {
        let lock = self.places.roles.iter().position(|role| *role == Role::Lock)?;
        self.contents.into_iter().nth(lock)?.ok()?
    }
}

/// Takes in one file of requirements, and adds those that it includes. Returns whether it can change unseen.
fn take_in(content: &[u8], path: &Path, variable: &'static str, waiting: &mut Vec<(&'static str, PathBuf)>) -> bool {
    let mut is_changing = false;
    for line in logical_lines(&String::from_utf8_lossy(content)) {
        match included_by(&line) {
            Some(other) if !other.contains("://") => {
                waiting.push((variable, path.parent().unwrap_or(path).join(other)));
            }
            Some(_) => is_changing = true,
            None => is_changing |= is_volatile(&line),
        }
    }
    is_changing
}

/// What a file says; the error is a reason to leave the rest to uv.
fn there<'a>(path: &Path, content: &'a Result<Option<Vec<u8>>, Problem>) -> Result<Option<&'a [u8]>, String> {
    match content {
        Ok(content) => Ok(content.as_deref()),
        Err(problem) => Err(format!("cannot read {}: {problem}", path.display())),
    }
}

/// Whether uv takes this line of a version file for a request. Other words it passes over, with a warning.
fn is_request(line: &str) -> bool {
    let line = line.trim();
    let begins = line.chars().next().is_some_and(|first| first.is_ascii_digit() || "<>=!~".contains(first));
    let lower = line.to_ascii_lowercase();
    let names = ["cpython", "cp3", "python3", "pypy", "pp3", "graalpy", "gp3", "pyodide"];
    begins || line.contains('/') && !line.starts_with('#') || names.iter().any(|name| lower.starts_with(name))
}
