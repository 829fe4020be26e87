//! What a script imports, and what is to be installed for that.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use pyexec_proto::job::JobSpec;
use pyexec_python::imports;

use super::caller::Caller;
use super::environments::Environments;
use super::log::PreparationLog;
use super::{EnvironmentError, uv};

impl Environments {
    /// What to install for a script's imports, apart from the modules in `places`. What is not known is said, and not guessed
    /// at.
    pub(super) async fn imported(
        &self,
        python: &Path,
        places: Vec<PathBuf>,
        script: &[u8],
        requirements: &[String],
        caller: Caller<'_>,
    ) -> Result<imports::Decision, EnvironmentError> {
        let mut arguments: Vec<&OsStr> = ["-I", "-c", imports::PROBE].map(OsStr::new).to_vec();
        arguments.extend(places.iter().map(|place| place.as_os_str()));
        let quiet = PreparationLog::of_nobody();
        let call = uv::Call { stdin: script, log: &quiet, ..caller.call(python, Path::new("/"), arguments) };
        let printed = call.run().await?.map_err(|failed| EnvironmentError::Imports(failed.said))?;
        let probed = imports::read_answer(&printed).map_err(|error| EnvironmentError::Imports(error.to_string()))?;
        let found = match probed {
            imports::Probed::Imports(found) => found,
            // Python says it better, when it runs the script.
            imports::Probed::SyntaxError { .. } => return Ok(imports::Decision::default()),
        };
        let decision = imports::decide(&found, requirements);
        if !decision.unknown.is_empty() {
            let unknown = decision.unknown.join(", ");
            caller.log.line(&format!("not installed, because no distribution is known for them: {unknown}"));
        }
        Ok(decision)
    }
}

/// Where a script finds modules that nobody has installed: in its working directory, and beside itself.
pub(super) fn module_places(spec: &JobSpec) -> Vec<PathBuf> {
    let directory = spec.directory.as_path();
    let beside = spec.source.file().and_then(|path| directory.join(path.as_path()).parent().map(Path::to_owned));
    std::iter::once(directory.to_owned()).chain(beside).collect()
}
