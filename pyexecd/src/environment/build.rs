//! From a request to an environment that is there: resolve if need be, build if need be.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::sync::Arc;

use pyexec_proto::Timestamp;
use pyexec_proto::environment::{ProjectUse, ResolvedEnvironment};
use pyexec_proto::job::Variables;

use super::cache::{Ready, Resolution, Slot};
use super::caller::Caller;
use super::environments::Environments;
use super::log::PreparationLog;
use super::mark::Mark;
use super::passwords::{self, Password};
use super::request::{Request, address, hex};
use super::runner::Runner;
use super::uv::Call;
use super::wanted::{Source, Wanted};
use super::{EnvironmentError, Lease};
use crate::client_files::ClientFiles;

impl Environments {
    /// Runs directly in an environment of ours.
    pub(super) async fn built(
        &self,
        wanted: Wanted,
        caller: Caller<'_>,
        log: &Arc<PreparationLog>,
    ) -> Result<Runner, EnvironmentError> {
        let request = wanted.request();
        let (lock, passwords) = self.lock(&wanted, &request, caller).await?;
        let mut variables = Cow::Borrowed(caller.variables);
        if !passwords.is_empty() {
            passwords::set(&passwords, variables.to_mut());
        }
        self.of_lock(wanted.source(lock), Caller { variables: &variables, ..caller }, log).await
    }

    pub(super) async fn of_lock(
        &self,
        source: Source,
        caller: Caller<'_>,
        log: &Arc<PreparationLog>,
    ) -> Result<Runner, EnvironmentError> {
        let (ready, lease) = self.obtain(source, caller, log).await?;
        let mut runner = Runner::bare(ready.python());
        runner.prefix = Some(ready.directory);
        runner.used = ResolvedEnvironment {
            id: Some(ready.id),
            python_version: ready.marker.python_version,
            packages: ready.marker.packages,
            unknown_imports: Vec::new(),
            project: ProjectUse::Nothing,
        };
        runner.lease = Some(lease);
        Ok(runner)
    }

    pub(super) async fn obtain(
        &self,
        source: Source,
        caller: Caller<'_>,
        log: &Arc<PreparationLog>,
    ) -> Result<(Ready, Lease), EnvironmentError> {
        let id = address(&source.lock, &source.interpreter, &source.uv_version, &source.building);
        let family = source.interpreter.family();
        // Before it is looked for: what is found must not be evicted under our hands.
        let lease = self.cache.lease(&id).await;
        if let Some(ready) = self.cache.ready(&id).await {
            return Ok((ready, lease));
        }
        if let Some(requirement) = passwords::missing_in(&source.lock, caller.variables) {
            return Err(EnvironmentError::PasswordNotKept { requirement });
        }
        let build = Build {
            source,
            variables: caller.variables.clone(),
            mark: caller.mark.clone(),
            files: caller.files.clone(),
            log: log.clone(),
        };
        let again = build.clone();
        let obtained = match self.cache.obtain(&id, &family, |at| build.run(at)).await {
            // Somebody has deleted the cache while it was being built.
            Err(error) if matches!(*error, EnvironmentError::Cache { .. }) => {
                self.cache.obtain(&id, &family, |at| again.run(at)).await
            }
            obtained => obtained,
        };
        let ready = obtained.map_err(|error| match Arc::try_unwrap(error) {
            Ok(error) => error,
            Err(shared) => EnvironmentError::Shared(shared),
        })?;
        self.evict_in_background();
        Ok((ready, lease))
    }

    /// What the request resolves to: remembered, or asked of uv. It has no passwords in it, but names of variables; those
    /// that uv has found, in files that it alone has read, are returned beside it.
    pub(super) async fn lock(
        &self,
        wanted: &Wanted,
        request: &Request,
        caller: Caller<'_>,
    ) -> Result<(String, Vec<Password>), EnvironmentError> {
        if request.is_empty() {
            return Ok((String::new(), Vec::new()));
        }
        let key = wanted.hashes.key(request.key());
        let can_be_built = |known: &Resolution| passwords::missing_in(&known.lock, caller.variables).is_none();
        let without_network = wanted.settings.is_offline.then(|| key_without_network(&key));
        let keys = without_network.iter().chain([&key]);
        let known = keys.filter_map(|key| self.cache.resolution(key)).filter(can_be_built);
        let latest = known.max_by_key(|known| known.resolved_at);
        let remembered = latest.filter(|_| !wanted.settings.is_changing && !wanted.refresh);
        let now = Timestamp::now();
        if let Some(known) = &remembered {
            let fresh = known.resolved_at.age_at(now) < self.settings.environment_max_age;
            if request.is_pinned() || fresh {
                return Ok((known.lock.clone(), Vec::new()));
            }
        }
        let said = match compile(wanted, request, caller).await? {
            Ok(lock) => {
                let (lock, passwords) = kept(wanted, &lock)?;
                let resolution = Resolution { lock, resolved_at: now };
                self.remember(wanted, without_network.as_ref().unwrap_or(&key), &resolution, caller).await;
                return Ok((resolution.lock, passwords));
            }
            Err(said) => said,
        };
        // An index may be out of reach. What this very request resolved to, with these very indexes, is better than nothing;
        // what uv has kept of others is not, because their packages are somebody else's.
        let Some(known) = remembered else { return Err(EnvironmentError::Resolution { said }) };
        caller.log.line(&format!("could not be resolved again; going on with what was resolved {}", known.resolved_at));
        Ok((known.lock, Vec::new()))
    }

    /// Keeps a resolution for the next request with this key, unless that may resolve to something else.
    pub(super) async fn remember(&self, wanted: &Wanted, key: &str, resolution: &Resolution, caller: Caller<'_>) {
        if wanted.settings.is_changing || !wanted.settings.still_hold(caller).await {
            return;
        }
        if let Err(error) = self.cache.remember(key, resolution) {
            tracing::warn!(%error, "a resolution could not be remembered; it will be made again");
        }
    }
}

/// Without a network uv makes do with what it has kept. What comes of that is good for the next who has none.
fn key_without_network(key: &str) -> String {
    hex(format!("{key} without a network").as_bytes())
}

/// What is kept of a resolution: with the hashes that were asked for, and without passwords.
fn kept(wanted: &Wanted, lock: &str) -> Result<(String, Vec<Password>), EnvironmentError> {
    let (lock, passwords) = passwords::named(lock);
    let held = wanted.hashes.hold(&lock).map_err(|packages| EnvironmentError::NoHash { packages })?;
    Ok((held, passwords))
}

/// `uv pip compile`; the inner error is uv's explanation.
async fn compile(
    wanted: &Wanted,
    request: &Request,
    caller: Caller<'_>,
) -> Result<Result<String, String>, EnvironmentError> {
    let mut arguments: Vec<&OsStr> =
        ["pip", "compile", "--no-header", "--no-annotate", "--generate-hashes", "--python"].map(OsStr::new).to_vec();
    arguments.push(request.interpreter.path.as_os_str());
    let place = &wanted.settings.place;
    arguments.extend(place.options());
    if wanted.hashes.are_wanted() && wanted.hashes.has_options {
        let options = ["--emit-index-url", "--emit-find-links", "--emit-build-options"];
        arguments.extend(options.map(OsStr::new));
    }
    arguments.push(OsStr::new("-"));
    arguments.extend(request.file.as_ref().map(|file| file.path.as_os_str()));
    let lines = request.requirements().join("\n");
    let call = Call { stdin: lines.as_bytes(), ..caller.call(&wanted.uv, &place.directory, arguments) };
    let printed = call.run().await?;
    Ok(printed.map(|lock| String::from_utf8_lossy(&lock).into_owned()).map_err(|failed| failed.said))
}

/// Owns all it needs: a build may outlive the job that began it, when others wait for it too.
#[derive(Clone, Debug)]
struct Build {
    source: Source,
    variables: Variables,
    mark: Mark,
    files: ClientFiles,
    log: Arc<PreparationLog>,
}

impl Build {
    /// Makes the environment at `at`, and says which Python it has.
    async fn run(self, slot: Slot) -> Result<String, EnvironmentError> {
        let at = &slot.directory;
        let python = at.join("bin/python");
        let interpreter = self.source.interpreter.path.as_os_str();
        let mut venv: Vec<&OsStr> =
            ["venv", "--quiet", "--relocatable", "--no-project", "--python"].map(OsStr::new).to_vec();
        venv.extend([interpreter, at.as_os_str()]);
        venv.extend(self.source.place.options());
        self.uv(&slot, venv, &[]).await?;
        if !self.source.lock.is_empty() {
            let mut sync: Vec<&OsStr> = ["pip", "sync", "--python"].map(OsStr::new).to_vec();
            sync.push(python.as_os_str());
            sync.extend(self.source.place.options());
            sync.push(OsStr::new("-"));
            self.uv(&slot, sync, self.source.lock.as_bytes()).await?;
        }
        Ok(self.source.interpreter.version)
    }

    async fn uv(&self, slot: &Slot, arguments: Vec<&OsStr>, stdin: &[u8]) -> Result<(), EnvironmentError> {
        let call = Call {
            program: &self.source.uv,
            arguments,
            variables: &self.variables,
            directory: &self.source.place.directory,
            stdin,
            mark: &self.mark,
            holds: Some(&slot.lock),
            files: &self.files,
            log: &self.log,
        };
        match call.run().await? {
            Ok(_) => Ok(()),
            Err(failed) => Err(EnvironmentError::Installation { said: failed.said }),
        }
    }
}
