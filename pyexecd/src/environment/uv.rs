//! The only place that runs uv.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Mutex;

use pyexec_proto::OsText;
use pyexec_proto::environment::PythonVersion;
use pyexec_proto::job::Variables;

use super::{EnvironmentError, find_on_path, is_executable};

#[derive(Debug)]
pub(super) struct Uv {
    /// From the configuration.
    named: Option<PathBuf>,
    /// Versions a uv has found before. Only successes: what is missing may be installed at any time.
    known: Mutex<HashSet<(PathBuf, PythonVersion)>>,
}

impl Uv {
    pub(super) fn new(named: Option<PathBuf>) -> Self {
        Self { named, known: Mutex::default() }
    }

    /// The caller's `PYEXEC_UV`, the configured one, the first on the caller's `PATH`, or one in the usual places.
    fn find(&self, variables: &Variables) -> Result<PathBuf, EnvironmentError> {
        let callers = variables.get("PYEXEC_UV").filter(|name| !name.is_empty()).map(PathBuf::from);
        if let Some(named) = callers.or_else(|| self.named.clone()) {
            return if is_executable(&named) { Ok(named) } else { Err(EnvironmentError::NoUv) };
        }
        let home = variables.get("HOME").map(Path::new);
        let usual = [".local/bin/uv", ".cargo/bin/uv"].into_iter().filter_map(|place| Some(home?.join(place)));
        let found = find_on_path("uv", variables.get("PATH")).into_iter().chain(usual).find(|file| is_executable(file));
        found.ok_or(EnvironmentError::NoUv)
    }

    /// Makes sure that uv is there, and the version that is wanted too.
    pub(super) async fn check(
        &self,
        version: Option<PythonVersion>,
        variables: &Variables,
    ) -> Result<(), EnvironmentError> {
        let uv = self.find(variables)?;
        let Some(version) = version else { return Ok(()) };
        let key = (uv, version);
        if self.known.lock().expect("nothing panics while it is held").contains(&key) {
            return Ok(());
        }
        let (uv, _) = &key;
        let wanted = version.to_string();
        let found = run(uv, &["python", "find", "--no-project", "--no-python-downloads", &wanted], variables).await?;
        if !found.status.success() {
            return Err(EnvironmentError::NoSuchPython { wanted, found: installed(uv, variables).await });
        }
        self.known.lock().expect("nothing panics while it is held").insert(key);
        Ok(())
    }

    /// uv, with arguments that end where Python's begin.
    pub(super) fn command(
        &self,
        version: Option<PythonVersion>,
        requirements: &[String],
        variables: &Variables,
    ) -> Result<(OsText, Vec<OsText>), EnvironmentError> {
        let uv = OsText::from(self.find(variables)?);
        let mut argv: Vec<OsText> = vec![uv.clone(), "run".into(), "--no-project".into()];
        if let Some(version) = version {
            argv.extend(["--python".into(), version.to_string().into()]);
        }
        for requirement in requirements {
            argv.extend(["--with".into(), requirement.as_str().into()]);
        }
        argv.extend(["--".into(), "python".into()]);
        Ok((uv, argv))
    }
}

/// The minor versions uv sees, newest first.
async fn installed(uv: &Path, variables: &Variables) -> Vec<String> {
    let arguments = ["python", "list", "--only-installed", "--output-format", "json"];
    let Ok(output) = run(uv, &arguments, variables).await else { return Vec::new() };
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

async fn run(uv: &Path, arguments: &[&str], variables: &Variables) -> Result<Output, EnvironmentError> {
    tokio::process::Command::new(uv)
        .args(arguments)
        .env_clear()
        .envs(variables.iter())
        .env_remove(OsStr::new(pyexec_proto::start::SERVICE_MARK))
        .current_dir("/")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| EnvironmentError::RunUv { uv: uv.to_owned(), source })
}
