//! What uv reads beside its command line, for one job: settings files, version files, and the files that variables name.
//!
//! Owns where uv looks for them and what of them is part of a request's key. `uv run` and `uv pip` find the same files and
//! understand most of them alike; where they do not, or where it is not known what a setting makes uv read, the job is
//! resolved by `uv run` itself ([`Settings::uncertain`]). What a setting means is uv's business.

mod files;
mod options;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pyexec_proto::job::{JobSpec, Variables};

use super::caller::Caller;
use super::discovery::{is_on, set};
use super::request::hex;
use super::{EnvironmentError, uv};
use crate::client_files::{ClientFiles, Problem};
pub(super) use files::{OF_UV_PIP, VersionFile};
use files::{Places, Search};
use options::Options;

/// Where uv looks for what it reads: in which directory it is started, and from which one it looks upwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) directory: PathBuf,
    /// Where it is not the same.
    pub(super) project: Option<PathBuf>,
}

impl Place {
    /// To be put behind uv's verb.
    pub(super) fn options(&self) -> Vec<&OsStr> {
        self.project.iter().flat_map(|project| [OsStr::new("--project"), project.as_os_str()]).collect()
    }
}

/// What holds for a job, as it was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) place: Place,
    /// A hash of all that can change what a request resolves to; empty where there is nothing. Index addresses may hold
    /// passwords.
    pub(super) resolution: String,
    /// The same of what changes how packages of one and the same resolution are built and installed.
    pub(super) building: String,
    /// The same of what decides which Python a request for one means.
    pub(super) python: String,
    /// Why only `uv run` itself can be known to resolve as `uv run` does.
    pub(super) uncertain: Option<String>,
    /// What a request resolves to can change while all of the above stays the same.
    pub(super) is_changing: bool,
    /// No index is asked.
    pub(super) is_offline: bool,
    pub(super) version_file: Option<VersionFile>,
    /// The lock beside a script with a header.
    pub(super) script_lock: Option<Vec<u8>>,
    search: Search,
}

impl Settings {
    /// Of a job that belongs to no project, or whose script has a header. A script in one of our own directories, which the
    /// client has sent or somebody has saved, is run as if it were in the job's.
    pub(super) async fn of_job(
        spec: &JobSpec,
        ours: &[&Path],
        has_header: bool,
        uv_version: &str,
        caller: Caller<'_>,
    ) -> Result<Self, EnvironmentError> {
        let directory = physical(spec.directory.as_path(), caller.files).await?;
        let is_ours = |path: &Path| ours.iter().any(|ours| path.starts_with(ours));
        let script = spec.source.file().map(|path| directory.join(path.as_path())).filter(|path| !is_ours(path));
        let beside = script.as_deref().and_then(Path::parent).map_or(directory.clone(), Path::to_owned);
        let from_script = uv::looks_beside_scripts(uv_version);
        let search = Search {
            settings: if from_script { beside.clone() } else { directory.clone() },
            versions: if from_script || has_header { beside } else { directory.clone() },
            lock: script.filter(|_| has_header).map(|mut script| {
                script.as_mut_os_string().push(".lock");
                script
            }),
            directory,
        };
        Self::read(search, caller.variables, caller.files).await
    }

    /// Of what is made in this directory and belongs to no script.
    pub(super) async fn of_directory(directory: &Path, caller: Caller<'_>) -> Result<Self, EnvironmentError> {
        let directory = physical(directory, caller.files).await?;
        let (settings, versions) = (directory.clone(), directory.clone());
        Self::read(Search { directory, settings, versions, lock: None }, caller.variables, caller.files).await
    }

    /// Of what is the same in every directory: only the user's and the system's hold. Relative names in variables start at
    /// this directory all the same.
    pub(super) async fn of_user(directory: &Path, caller: Caller<'_>) -> Result<Self, EnvironmentError> {
        let (directory, root) = (directory.to_owned(), PathBuf::from("/"));
        let search = Search { directory, settings: root.clone(), versions: root, lock: None };
        Self::read(search, caller.variables, caller.files).await
    }

    /// Of a file whose header uv can read by itself.
    pub(super) fn are_of_script_with_header(&self) -> bool {
        self.search.lock.is_some()
    }

    /// What uv would read now.
    pub(super) async fn read_again(&self, caller: Caller<'_>) -> Result<Self, EnvironmentError> {
        Self::read(self.search.clone(), caller.variables, caller.files).await
    }

    /// Whether that is what was read.
    pub(super) async fn still_hold(&self, caller: Caller<'_>) -> bool {
        matches!(self.read_again(caller).await, Ok(now) if now == *self)
    }

    async fn read(search: Search, variables: &Variables, files: &ClientFiles) -> Result<Self, EnvironmentError> {
        let places = Places::new(&search, variables);
        let mut files = files.open();
        let failed = |problem| EnvironmentError::Search { what: "uv's settings", problem };
        let read = places.read(&mut files).await.map_err(failed)?;
        let mut uncertain = redirected(variables).or_else(|| local_index(variables));
        let found = match read.settings() {
            Ok(found) => found,
            Err(reason) => {
                uncertain.get_or_insert(reason);
                Vec::new()
            }
        };
        let mut parts = resolving_variables(variables);
        let mut building = building_variables(variables);
        let mut python = vec![uv::search_settings(variables).into_bytes()];
        let mut is_offline = is_on(variables, "UV_OFFLINE");
        let mut links = links_of(variables, &search.directory);
        for file in &found {
            let part = match Options::read(file) {
                Ok(options) => {
                    building.extend(options.building());
                    is_offline |= options.is_offline();
                    links.extend(options.links());
                    if let Some(reason) = options.uncertain() {
                        uncertain.get_or_insert(reason);
                    }
                    options.key(file)
                }
                Err(reason) => {
                    uncertain.get_or_insert(reason);
                    Some(file.content.to_vec())
                }
            };
            python.extend(part.clone());
            parts.extend(part);
        }
        let (named, is_changing) = read.named(&mut files).await.map_err(failed)?;
        for (variable, content) in named {
            if BUILDING.contains(&variable) {
                building.push([variable.as_bytes(), b"\0", content.as_slice()].concat());
            }
            parts.push([variable.as_bytes(), b"\0", content.as_slice()].concat());
        }
        for directory in links {
            match listing(&mut files, &directory).await.map_err(failed)? {
                Ok(listing) => parts.push(listing),
                Err(reason) => drop(uncertain.get_or_insert(reason)),
            }
        }
        drop(files);
        let version_file = read.version_file();
        if let Some(file) = &version_file {
            python.push(file.request.clone().into_bytes());
            if file.request.contains('/') {
                python.push(search.directory.as_os_str().as_bytes().to_vec());
            }
        }
        let project = (search.settings != search.directory).then(|| search.settings.clone());
        let script_lock = read.into_lock();
        Ok(Self {
            place: Place { directory: search.directory.clone(), project },
            resolution: hash_of(&parts),
            building: hash_of(&building),
            python: hash_of(&python),
            uncertain,
            is_changing,
            is_offline,
            version_file,
            script_lock,
            search,
        })
    }
}

/// These say where uv keeps things and how it talks, not what it finds.
const BESIDE_THE_POINT: [&str; 8] = [
    "UV_CACHE_DIR",
    // What is resolved with it is remembered apart.
    "UV_OFFLINE",
    "UV_NO_PROGRESS",
    "UV_RUN_RECURSION_DEPTH",
    "UV_LINK_MODE",
    "UV_COMPILE_BYTECODE",
    "UV_CONCURRENT_DOWNLOADS",
    "UV_HTTP_TIMEOUT",
];

/// These change what is installed for one and the same resolution.
const BUILDING: [&str; 7] = [
    "UV_NO_BINARY",
    "UV_NO_BINARY_PACKAGE",
    "UV_NO_BUILD",
    "UV_NO_BUILD_PACKAGE",
    "UV_NO_BUILD_ISOLATION",
    "UV_BUILD_CONSTRAINT",
    "UV_TORCH_BACKEND",
];

/// Everything in the caller's environment that can change what uv resolves.
fn resolving_variables(variables: &Variables) -> Vec<Vec<u8>> {
    let is_of_uv =
        |name: &OsStr| name.as_bytes().starts_with(b"UV_") && !BESIDE_THE_POINT.iter().any(|other| name == *other);
    assignments(variables, is_of_uv)
}

fn building_variables(variables: &Variables) -> Vec<Vec<u8>> {
    assignments(variables, |name| BUILDING.iter().any(|building| name == *building))
}

/// Sorted: the order in which a caller has them says nothing.
fn assignments(variables: &Variables, is_meant: impl Fn(&OsStr) -> bool) -> Vec<Vec<u8>> {
    let meant = variables.iter().filter(|(name, value)| is_meant(name) && !value.is_empty());
    let mut assignments: Vec<Vec<u8>> =
        meant.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()).collect();
    assignments.sort();
    assignments
}

fn hash_of(parts: &[Vec<u8>]) -> String {
    if parts.is_empty() { String::new() } else { hex(&parts.join(&b"\0"[..])) }
}

/// A variable that has uv work in another directory than the caller's.
fn redirected(variables: &Variables) -> Option<String> {
    let names = ["UV_PROJECT", "UV_WORKING_DIR", "UV_WORKING_DIRECTORY"];
    names.into_iter().find(|name| set(variables, name).is_some()).map(|name| format!("the variable {name} is set"))
}

/// An index whose content is in a directory of this machine, or that is named in a way that is not known here.
fn local_index(variables: &Variables) -> Option<String> {
    ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"].into_iter().find_map(|name| {
        let value = variables.get(name)?.to_string_lossy();
        let mut addresses = value.split_whitespace().map(|given| match given.split_once('=') {
            // `name=https://…`; an address may have this sign, too.
            Some((label, address)) if !label.contains("://") => address,
            _ => given,
        });
        addresses
            .any(|address| !options::is_remote(address))
            .then(|| format!("{name} names an index that is not on the web"))
    })
}

/// The directories among `UV_FIND_LINKS`.
fn links_of(variables: &Variables, directory: &Path) -> Vec<PathBuf> {
    let value = variables.get("UV_FIND_LINKS").unwrap_or_default().as_bytes();
    let given = value.split(|byte| *byte == b',').map(OsStr::from_bytes).filter(|link| !link.is_empty());
    let local = given.filter(|link| !options::is_remote(&link.to_string_lossy()));
    local.map(|link| directory.join(link)).collect()
}

/// What lies in a directory of packages. The inner error says why that cannot be known.
async fn listing(files: &mut crate::client_files::Files, directory: &Path) -> Result<Result<Vec<u8>, String>, Problem> {
    let unknown = || format!("what {} has of packages is not known", directory.display());
    let entries = match files.entries(directory).await {
        Ok(entries) => entries,
        Err(Problem::Io(_)) => return Ok(Err(unknown())),
        Err(problem) => return Err(problem),
    };
    let mut listing = b"links".to_vec();
    for entry in entries {
        listing.push(0);
        listing.extend_from_slice(entry.name.as_bytes());
        listing.extend_from_slice(format!(" {} {} {}", entry.inode, entry.modified, entry.bytes).as_bytes());
    }
    Ok(Ok(listing))
}

/// As a process that is started in it sees it.
async fn physical(directory: &Path, files: &ClientFiles) -> Result<PathBuf, EnvironmentError> {
    match files.open().canonical(directory).await {
        Ok(physical) => Ok(physical),
        // Whoever starts something in it will say what is wrong with it.
        Err(Problem::Io(_)) => Ok(directory.to_owned()),
        Err(problem) => Err(EnvironmentError::Unreadable { path: directory.to_owned(), problem }),
    }
}
