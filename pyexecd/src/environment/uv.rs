//! The only place that runs uv.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Mutex;

use pyexec_proto::environment::PythonVersion;
use pyexec_proto::job::Variables;
use pyexec_proto::variables::SERVICE_MARK;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::locks::Lock;
use super::log::PreparationLog;
use super::mark::Mark;
use super::request::hex;
use super::search_path::on_path;
use super::{EnvironmentError, passwords};
use crate::client_files::{ClientFiles, Deadline};

/// Finds uv. What was found out about one is remembered for as long as its file stays the same.
#[derive(Debug)]
pub(super) struct Uv {
    /// From the configuration.
    named: Option<PathBuf>,
    mark: Mark,
    files: ClientFiles,
    versions: Mutex<HashMap<FileIdentity, String>>,
}

/// A file that has not been replaced: path, inode, time of its last change.
pub(super) type FileIdentity = (PathBuf, u64, i64);

/// How a call of uv ended that was not to fail.
#[derive(Debug)]
pub(super) struct Failed {
    /// What uv said on stderr.
    pub(super) said: String,
}

impl Uv {
    pub(super) fn new(named: Option<PathBuf>, mark: Mark, files: ClientFiles) -> Self {
        Self { named, mark, files, versions: Mutex::default() }
    }

    /// The caller's `PYEXEC_UV`, the configured one, the first on the caller's `PATH`, or one in the usual places. For a
    /// client that waits there is a deadline.
    pub(super) async fn find(
        &self,
        variables: &Variables,
        deadline: Option<Deadline>,
    ) -> Result<PathBuf, EnvironmentError> {
        let callers = variables.get("PYEXEC_UV").filter(|name| !name.is_empty()).map(PathBuf::from);
        let named = callers.or_else(|| self.named.clone());
        let places = match &named {
            Some(named) => vec![named.clone()],
            None => {
                let home = variables.get("HOME").map(Path::new);
                let usual = [".local/bin/uv", ".cargo/bin/uv"].into_iter().filter_map(|place| Some(home?.join(place)));
                on_path("uv", variables.get("PATH")).into_iter().chain(usual).collect()
            }
        };
        let mut files = self.files.open();
        let looking = files.first_executable(places);
        let found = match deadline {
            Some(deadline) => deadline.bounds(looking).await,
            None => looking.await,
        };
        let found = found.map_err(|problem| EnvironmentError::Search { what: "uv", problem })?;
        found.ok_or(EnvironmentError::NoUv { named })
    }

    /// Such as `0.13.9`.
    pub(super) async fn version(&self, uv: &Path, variables: &Variables) -> Result<String, EnvironmentError> {
        let identity = self.files.open().identity(uv).await;
        let identity = identity.map_err(|problem| EnvironmentError::Search { what: "uv", problem })?;
        let known = identity
            .as_ref()
            .and_then(|identity| self.versions.lock().expect("nothing panics while it is held").get(identity).cloned());
        if let Some(known) = known {
            return Ok(known);
        }
        let output = run(&self.files, uv, &["--version"], variables, &self.mark).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_whitespace().nth(1).unwrap_or_default().to_owned();
        if let Some(identity) = identity {
            self.versions.lock().expect("nothing panics while it is held").insert(identity, version.clone());
        }
        Ok(version)
    }
}

/// Whether `uv run` looks for settings and projects beside the script it is given, and not where it is started: since 0.12.
pub(super) fn looks_beside_scripts(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (0, 12)
}

/// The variables that say where uv keeps interpreters, where it looks for them, and which it prefers: part of what an
/// answer of its is remembered under.
pub(super) fn search_settings(variables: &Variables) -> String {
    const NAMES: [&str; 8] = [
        "PATH",
        "HOME",
        "XDG_DATA_HOME",
        "PYENV_VERSION",
        "UV_MANAGED_PYTHON",
        "UV_NO_MANAGED_PYTHON",
        "UV_SYSTEM_PYTHON",
        "UV_NO_CONFIG",
    ];
    let is_meant =
        |name: &OsStr| NAMES.iter().any(|other| name == *other) || name.as_bytes().starts_with(b"UV_PYTHON_");
    let mut parts: Vec<Vec<u8>> = variables
        .iter()
        .filter(|(name, _)| is_meant(name))
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .collect();
    parts.sort();
    hex(&parts.join(&b"\0"[..]))
}

/// The minor versions uv sees, newest first.
pub(super) async fn installed(files: &ClientFiles, uv: &Path, variables: &Variables, mark: &Mark) -> Vec<String> {
    listed(files, uv, &["python", "list", "--only-installed", "--output-format", "json"], variables, mark).await
}

/// Whether uv knows where to get this version.
pub(super) async fn is_downloadable(
    files: &ClientFiles,
    uv: &Path,
    version: &str,
    variables: &Variables,
    mark: &Mark,
) -> bool {
    let arguments = ["python", "list", "--only-downloads", "--output-format", "json", version];
    !listed(files, uv, &arguments, variables, mark).await.is_empty()
}

async fn listed(files: &ClientFiles, uv: &Path, arguments: &[&str], variables: &Variables, mark: &Mark) -> Vec<String> {
    let Ok(output) = run(files, uv, arguments, variables, mark).await else { return Vec::new() };
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let mut versions: Vec<PythonVersion> = listed
        .iter()
        .filter_map(|entry| {
            let mut parts = entry.get("version")?.as_str()?.splitn(3, '.');
            format!("{}.{}", parts.next()?, parts.next()?).parse().ok()
        })
        .collect();
    versions.sort_unstable();
    versions.dedup();
    versions.iter().rev().map(PythonVersion::to_string).collect()
}

/// A short call whose progress nobody needs to see. Dropping this ends the program and all it has started, as with a
/// [`Call`].
pub(super) async fn run(
    files: &ClientFiles,
    program: &Path,
    arguments: &[&str],
    variables: &Variables,
    mark: &Mark,
) -> Result<Output, EnvironmentError> {
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    run_in(files, program, &arguments, Path::new("/"), variables, mark).await
}

/// The same in a directory.
pub(super) async fn run_in(
    files: &ClientFiles,
    program: &Path,
    arguments: &[&OsStr],
    directory: &Path,
    variables: &Variables,
    mark: &Mark,
) -> Result<Output, EnvironmentError> {
    let failed = |source| EnvironmentError::Run { program: program.to_owned(), source };
    let mut command = command(program, variables, directory, mark).await;
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = files.spawn(program, directory, command).await.map_err(|problem| failed(problem.into()))?;
    let _group = child.id().map(Group);
    child.wait_with_output().await.map_err(failed)
}

/// In a process group of its own, so that what the program starts ends with it, and marked.
async fn command(program: &Path, variables: &Variables, directory: &Path, mark: &Mark) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(program);
    command
        .env_clear()
        .envs(variables.iter())
        .env_remove(SERVICE_MARK)
        .process_group(0)
        .current_dir(directory)
        .kill_on_drop(true);
    // An active environment of the caller's is not what is being asked about, and the directory is where this is run.
    for name in ACTIVE.iter().chain(&["UV_WORKING_DIR", "UV_WORKING_DIRECTORY"]) {
        command.env_remove(name);
    }
    mark.set_on(&mut command).await;
    command
}

/// These say which environment is active.
const ACTIVE: [&str; 2] = ["VIRTUAL_ENV", "CONDA_PREFIX"];

/// A call that may take long: what it says on stderr goes into the job's log as it comes, and it can be found by its
/// mark should the daemon die before it does.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) program: &'a Path,
    pub(super) arguments: Vec<&'a OsStr>,
    pub(super) variables: &'a Variables,
    pub(super) directory: &'a Path,
    pub(super) stdin: &'a [u8],
    pub(super) mark: &'a Mark,
    /// A lock that the program and all it starts hold.
    pub(super) holds: Option<&'a Lock>,
    pub(super) files: &'a ClientFiles,
    pub(super) log: &'a PreparationLog,
}

impl Call<'_> {
    /// What it printed; or what it said when it failed. Dropping this ends the program and all it has started.
    pub(super) async fn run(self) -> Result<Result<Vec<u8>, Failed>, EnvironmentError> {
        self.run_with(&[]).await
    }

    /// The same for a program that is to know which environment is active where the job was submitted.
    pub(super) async fn run_with_active_environment(self) -> Result<Result<Vec<u8>, Failed>, EnvironmentError> {
        self.run_with(&ACTIVE).await
    }

    async fn run_with(self, variables: &[&str]) -> Result<Result<Vec<u8>, Failed>, EnvironmentError> {
        /// An explanation is read by people.
        const MOST_SAID: usize = 64 << 10;
        let failed = |source| EnvironmentError::Run { program: self.program.to_owned(), source };
        let mut command = command(self.program, self.variables, self.directory, self.mark).await;
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(variables.iter().filter_map(|name| Some((name, self.variables.get(name)?))));
        // Inherited, and held until the last of what it starts has ended, also if this daemon dies before.
        let inherited = self.holds.map(Lock::inheritable).transpose().map_err(failed)?;
        let spawned = self.files.spawn(self.program, self.directory, command).await;
        drop(inherited);
        let mut child = spawned.map_err(|problem| failed(problem.into()))?;
        // Builds run programs of their own: they are in the same group, and end with it.
        let _group = child.id().map(Group);
        let (mut stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin.take() {
                // A program that does not read to the end has its own reasons.
                let _ = stdin.write_all(self.stdin).await;
            }
        };
        let read = async {
            let mut printed = Vec::new();
            match stdout.as_mut() {
                Some(stdout) => stdout.read_to_end(&mut printed).await.map(|_| printed),
                None => Ok(printed),
            }
        };
        let listen = async {
            let mut said = String::new();
            // Line by line, so that a password is seen whole. What is longer than a page is passed on as it comes.
            let mut line = Vec::new();
            let mut buffer = vec![0; 4096];
            let mut pass_on = |bytes: &[u8]| {
                let shown = passwords::hidden(&String::from_utf8_lossy(bytes));
                self.log.append(shown.as_bytes());
                if said.len() < MOST_SAID {
                    said.push_str(&shown);
                }
            };
            while let Some(stderr) = stderr.as_mut()
                && let Ok(read @ 1..) = stderr.read(&mut buffer).await
            {
                line.extend_from_slice(&buffer[..read]);
                let whole = match line.iter().rposition(|byte| matches!(byte, b'\n' | b'\r')) {
                    Some(end) => end + 1,
                    None if line.len() >= MOST_SAID => line.len(),
                    None => 0,
                };
                if whole > 0 {
                    pass_on(&line[..whole]);
                    line.drain(..whole);
                }
            }
            pass_on(&line);
            said
        };
        let ((), printed, said) = tokio::join!(feed, read, listen);
        let status = child.wait().await.map_err(failed)?;
        if status.success() {
            return Ok(Ok(printed.map_err(failed)?));
        }
        // It becomes a part of what is said of the job, and that is one error.
        let said = said.trim().trim_start_matches("error: ").to_owned();
        Ok(Err(Failed { said: if said.is_empty() { status.to_string() } else { said } }))
    }
}

/// Ends a process group when dropped; after its leader has been reaped there is none.
struct Group(u32);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.0).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_uv_looks_beside_scripts() {
        for (version, looks) in [("0.13.9", true), ("0.12.0", true), ("1.0", true), ("0.11.30", false), ("", false)] {
            assert_eq!(looks_beside_scripts(version), looks, "{version}");
        }
    }

    #[test]
    fn which_python_is_found_depends_on_what_says_where_and_which() {
        let with = |name: &str| search_settings(&[(name.into(), "1".into())].into_iter().collect());
        let nothing = search_settings(&Variables::default());
        for name in
            ["PATH", "UV_MANAGED_PYTHON", "UV_NO_MANAGED_PYTHON", "UV_PYTHON_PREFERENCE", "UV_PYTHON_INSTALL_DIR"]
        {
            assert_ne!(with(name), nothing, "{name}");
        }
        assert_eq!(with("UV_INDEX"), nothing);
    }
}
