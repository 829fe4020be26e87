//! In which way a job of no project gets its packages: built once and kept, from the lock beside its script, or by `uv run`
//! itself at every run.

use std::ffi::OsStr;

use pyexec_proto::Timestamp;
use pyexec_proto::job::{JobSource, JobSpec};

use super::cache::Resolution;
use super::caller::Caller;
use super::environments::Environments;
use super::request::{address, hex, is_volatile};
use super::settings::Settings;
use super::wanted::Wanted;
use super::{EnvironmentError, passwords};
use pyexec_python::script_metadata::ScriptMetadata;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Way {
    /// Resolve, unless it is remembered; build, unless it is there; and run in it directly.
    Built,
    /// The same with what the script's own lock says.
    Locked(String),
    /// What cannot be known to be the same the next time. `as_script`: uv reads the script's header, and its lock.
    UvRun { as_script: bool },
}

impl Environments {
    pub(super) async fn way(
        &self,
        wanted: &Wanted,
        beside: &[String],
        metadata: &ScriptMetadata,
        spec: &JobSpec,
        caller: Caller<'_>,
    ) -> Result<Way, EnvironmentError> {
        let hashes_are_wanted = wanted.hashes.are_wanted();
        let has_own_settings = metadata.tool_uv.is_some();
        let has_lock = wanted.settings.script_lock.is_some() && !has_own_settings;
        let is_all_locked = has_lock && beside.is_empty() && wanted.file.is_none();
        if hashes_are_wanted {
            let settings = has_own_settings.then(|| "`[tool.uv]` in the script's header".to_owned());
            let lock = (has_lock && !is_all_locked).then(|| "the lock beside the script".to_owned());
            let changing = || wanted.hashes.changing(&wanted.requirements).map(|line| format!("`{line}`"));
            if let Some(changing) = settings.or(lock).or_else(changing) {
                return Err(EnvironmentError::UncheckedHashes { changing });
            }
        }
        if is_all_locked && let Some(lock) = self.script_lock(wanted, metadata, spec, caller).await? {
            return match wanted.hashes.hold(&lock) {
                Ok(lock) => Ok(Way::Locked(lock)),
                Err(packages) => Err(EnvironmentError::NoHash { packages }),
            };
        }
        if has_own_settings || has_lock {
            return Ok(Way::UvRun { as_script: true });
        }
        let request = wanted.request();
        let reason = wanted.settings.uncertain.as_deref();
        let is_uncertain = reason.is_some() || wanted.file.as_ref().is_some_and(|file| !file.is_list());
        // `uv run` checks no hashes, so that what has them is left to `uv pip`.
        if hashes_are_wanted || request.is_empty() || !(request.is_volatile() || is_uncertain) {
            return Ok(Way::Built);
        }
        tracing::debug!(reason, "uv resolves at every run");
        Ok(Way::UvRun { as_script: is_uncertain && wanted.settings.are_of_script_with_header() })
    }

    /// What the lock beside the script says is to be installed. uv brings it up to date with the header, and writes it, where
    /// `uv run` would. `None` where it names more than packages of an index.
    async fn script_lock(
        &self,
        wanted: &Wanted,
        metadata: &ScriptMetadata,
        spec: &JobSpec,
        caller: Caller<'_>,
    ) -> Result<Option<String>, EnvironmentError> {
        let JobSource::File { path } = &spec.source else { return Ok(None) };
        let key = lock_key(wanted, &wanted.settings, metadata);
        if let Some(known) = self.cache.resolution(&key).filter(|_| !wanted.refresh) {
            return Ok(Some(known.lock));
        }
        let words = ["export", "--quiet", "--format", "requirements.txt", "--no-header", "--no-annotate", "--python"];
        let mut arguments = words.map(OsStr::new).to_vec();
        arguments.extend([wanted.interpreter.path.as_os_str(), OsStr::new("--script"), path.as_path().as_os_str()]);
        let call = caller.call(&wanted.uv, &wanted.settings.place.directory, arguments);
        let printed = call.run().await?.map_err(|failed| EnvironmentError::Resolution { said: failed.said })?;
        let (lock, passwords) = passwords::named(&String::from_utf8_lossy(&printed));
        let is_hash = |line: &str| line.trim_start().starts_with("--hash");
        if !passwords.is_empty() || lock.lines().any(|line| !is_hash(line) && is_volatile(line)) {
            return Ok(None);
        }
        // uv may have written another lock meanwhile.
        let settings = wanted.settings.read_again(caller).await?;
        if settings.script_lock.is_some() {
            let resolution = Resolution { lock: lock.clone(), resolved_at: Timestamp::now() };
            if let Err(error) = self.cache.remember(&lock_key(wanted, &settings, metadata), &resolution) {
                tracing::warn!(%error, "what a script's lock says could not be remembered; uv is asked again");
            }
        }
        Ok(Some(lock))
    }
}

/// What is remembered of a script's lock is remembered under what it depends on.
fn lock_key(wanted: &Wanted, settings: &Settings, metadata: &ScriptMetadata) -> String {
    let interpreter = address("", &wanted.interpreter, "", "");
    let requires = metadata.requires_python.as_deref().unwrap_or_default();
    let header = metadata.dependencies.join("\n");
    let mut parts = vec!["script lock", &interpreter, requires, &header, &settings.resolution, &wanted.uv_version];
    let lock = settings.script_lock.as_deref().map(hex).unwrap_or_default();
    parts.push(&lock);
    hex(parts.join("\0").as_bytes())
}
