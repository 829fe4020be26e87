//! The environments there are, for people: listed, named and removed.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use pyexec_proto::environment::{EnvironmentInfo, Interpreter, ProjectUse};
use pyexec_proto::error::Named;
use pyexec_proto::request::{CreateEnvironment, EnvironmentsRemoved, NotRemoved};
use pyexec_proto::{Error, JobId, OsText};

use super::caller::Caller;
use super::environments::Environments;
use super::hashes::Hashes;
use super::job_files::MAX_REQUIREMENTS_BYTES;
use super::log::PreparationLog;
use super::named::{NamedEnvironment, check_name};
use super::python_request::{PythonRequest, Wishes};
use super::requirement::check_requirement;
use super::runner::Runner;
use super::sent_files::SentRequirements;
use super::settings::Settings;
use super::wanted::{Source, Wanted};
use super::{EnvironmentError, passwords, request};
use crate::blocking::blocking;
use crate::client_files::Deadline;
use pyexec_run_directory::removal::RemovalError;

impl Environments {
    /// A job that names an environment gets what was resolved when it was created.
    pub(super) async fn named(
        &self,
        uv: &Path,
        name: &str,
        directory: &Path,
        caller: Caller<'_>,
        log: &Arc<PreparationLog>,
    ) -> Result<Runner, EnvironmentError> {
        let named = self.names.get(name)?;
        let settings = Settings::of_user(directory, caller).await?;
        let source = self.source_of(uv, &named, settings, caller).await?;
        let runner = self.of_lock(source, caller, log).await?;
        if runner.used.id.as_deref() != Some(named.id.as_str()) {
            // Another interpreter, or another uv, than when it was last built.
            self.note_built(named, &runner.used)?;
        }
        Ok(runner)
    }

    async fn source_of(
        &self,
        uv: &Path,
        named: &NamedEnvironment,
        settings: Settings,
        caller: Caller<'_>,
    ) -> Result<Source, EnvironmentError> {
        let python = match named.python.as_str() {
            "" => PythonRequest::Any,
            python => PythonRequest::Named(python.to_owned()),
        };
        Ok(Source {
            uv: uv.to_owned(),
            uv_version: self.uv.version(uv, caller.variables).await?,
            interpreter: self.interpreters.through_uv(uv, &python, &settings, caller).await?,
            lock: named.lock.clone(),
            building: named.building.clone(),
            place: settings.place,
        })
    }

    fn note_built(
        &self,
        mut named: NamedEnvironment,
        used: &pyexec_proto::environment::ResolvedEnvironment,
    ) -> Result<(), EnvironmentError> {
        named.id = used.id.clone().unwrap_or_default();
        named.python_version.clone_from(&used.python_version);
        named.packages.clone_from(&used.packages);
        let failed = |source| EnvironmentError::Cache { path: self.cache_directory.clone(), source };
        self.names.save(&named).map_err(failed)
    }

    pub async fn create(&self, request: &CreateEnvironment) -> Result<EnvironmentInfo, Error> {
        check_name(&request.name)?;
        for requirement in &request.spec.requirements {
            check_requirement(requirement)?;
        }
        if self.names.get(&request.name).is_ok() && !request.spec.refresh {
            return Err(Error::InvalidArgument {
                what: "environment name".to_owned(),
                given: request.name.clone(),
                problem: "there is one of this name".to_owned(),
                hint: format!(
                    "use it as it is, or choose another name; in a terminal, `pyexec env rm {}` removes it, and `--refresh` \
                     makes it anew",
                    request.name
                ),
            });
        }
        let limit = self.settings.environment_timeout;
        let created = tokio::time::timeout(limit, self.create_unbounded(request)).await;
        Ok(created.unwrap_or(Err(EnvironmentError::Late { limit }))?)
    }

    async fn create_unbounded(&self, request: &CreateEnvironment) -> Result<EnvironmentInfo, EnvironmentError> {
        let log = Arc::new(PreparationLog::of_nobody());
        let (requirements, mut passwords) = passwords::named_in_all(&request.spec.requirements);
        let sent = request.spec.requirements_content.as_deref().map(passwords::named);
        let sent = sent.map(|(content, more)| {
            passwords.extend(more);
            SentRequirements::write(&self.cache_directory, &content)
        });
        let sent = sent.transpose()?;
        let mut variables = request.environment.clone();
        passwords::set(&passwords, &mut variables);
        let caller = Caller { variables: &variables, mark: &self.mark, files: &self.client_files, log: &log };
        let uv = self.uv.find(caller.variables, None).await?;
        let directory = request.directory.as_path();
        let settings = Settings::of_directory(directory, caller).await?;
        let version = match &request.spec.interpreter {
            Interpreter::Uv { version } => version.map(|version| version.to_string()),
            Interpreter::System => None,
        };
        let default = self.settings.default_python.map(|version| version.to_string());
        let wishes = Wishes {
            named: version.as_deref(),
            variables: caller.variables,
            version_file: settings.version_file.as_ref(),
            requires_python: None,
            default: default.as_deref(),
        };
        let python = wishes.choose();
        let file = match &request.spec.requirements_file {
            Some(file) => {
                let named = directory.join(file.as_path());
                let path = sent.as_ref().map_or(named, |sent| sent.path().to_owned());
                let reading = self.client_files.read(&path, MAX_REQUIREMENTS_BYTES);
                let read = Deadline::of_now().bounds(reading).await;
                let content = read.map_err(|problem| problem.refusal(Named::RequirementsFile, &path))?;
                Some(request::RequirementsFile { path, content })
            }
            None => None,
        };
        let wanted = Wanted {
            interpreter: self.interpreters.through_uv(&uv, &python, &settings, caller).await?,
            uv_version: self.uv.version(&uv, caller.variables).await?,
            uv: uv.clone(),
            settings,
            requirements,
            hashes: Hashes::of(file.as_ref(), caller.variables, caller.files).await,
            file,
            refresh: request.spec.refresh,
        };
        let (lock, passwords) = self.lock(&wanted, &wanted.request(), caller).await?;
        let mut variables = variables.clone();
        passwords::set(&passwords, &mut variables);
        let caller = Caller { variables: &variables, ..caller };
        let mut python = python.text().to_owned();
        if python.contains('/') {
            // It is looked for from other directories, too.
            python = directory.join(python).to_string_lossy().into_owned();
        }
        let building = wanted.settings.building.clone();
        let named = NamedEnvironment::new(request.name.clone(), python, lock.clone(), building);
        let (ready, _lease) = self.obtain(wanted.source(lock), caller, &log).await?;
        let used = pyexec_proto::environment::ResolvedEnvironment {
            id: Some(ready.id.clone()),
            python_version: ready.marker.python_version.clone(),
            packages: ready.marker.packages.clone(),
            unknown_imports: Vec::new(),
            project: ProjectUse::Nothing,
        };
        self.note_built(named, &used)?;
        Ok(EnvironmentInfo {
            name: Some(request.name.clone()),
            id: used.id,
            python_version: used.python_version,
            packages: used.packages,
            bytes: ready.bytes(),
            last_used: None,
            used_by: Vec::new(),
        })
    }

    /// Named ones first, by name; then by when they were last used.
    pub async fn list(&self, used_by: HashMap<String, Vec<JobId>>) -> Result<Vec<EnvironmentInfo>, Error> {
        let named = self.names.all().map_err(|error| failed("read the names of environments", &error))?;
        let cache = self.cache.clone();
        let mut cached =
            blocking(move || cache.list()).await.map_err(|error| failed("list the environments", &error))?;
        cached.sort_by_key(|(_, used)| std::cmp::Reverse(*used));
        let jobs = |id: &str| used_by.get(id).cloned().unwrap_or_default();
        let mut infos: Vec<EnvironmentInfo> = named
            .iter()
            .map(|named| {
                let built = cached.iter().find(|(ready, _)| ready.id == named.id);
                EnvironmentInfo {
                    name: Some(named.name.clone()),
                    id: built.map(|(ready, _)| ready.id.clone()),
                    python_version: named.python_version.clone(),
                    packages: named.packages.clone(),
                    bytes: built.and_then(|(ready, _)| ready.marker.bytes).unwrap_or(0),
                    last_used: built.map(|(_, used)| *used),
                    used_by: jobs(&named.id),
                }
            })
            .collect();
        for (ready, used) in cached {
            if !named.iter().any(|named| named.id == ready.id) {
                infos.push(EnvironmentInfo {
                    name: None,
                    used_by: jobs(&ready.id),
                    id: Some(ready.id),
                    python_version: ready.marker.python_version,
                    packages: ready.marker.packages,
                    bytes: ready.marker.bytes.unwrap_or(0),
                    last_used: Some(used),
                });
            }
        }
        Ok(infos)
    }

    /// By name, or by a prefix of an id.
    pub async fn remove(&self, given: &str) -> Result<EnvironmentsRemoved, Error> {
        let id = match self.names.get(given) {
            Ok(named) => {
                self.names.remove(given).map_err(|error| failed("remove the name", &error))?;
                named.id
            }
            Err(unknown) => {
                let cache = self.cache.clone();
                let all =
                    blocking(move || cache.list()).await.map_err(|error| failed("list the environments", &error))?;
                let mut fitting = all.into_iter().filter(|(ready, _)| given.len() >= 4 && ready.id.starts_with(given));
                match (fitting.next(), fitting.next()) {
                    (Some((ready, _)), None) => ready.id,
                    (_, Some(_)) => {
                        return Err(Error::InvalidArgument {
                            what: "environment".to_owned(),
                            given: given.to_owned(),
                            problem: "it fits several".to_owned(),
                            hint: "type more of the id".to_owned(),
                        });
                    }
                    (None, None) => return Err(unknown),
                }
            }
        };
        if self.is_named(&id)? {
            return Ok(EnvironmentsRemoved::default());
        }
        self.evict(vec![id]).await
    }

    /// Everything that nothing keeps.
    pub async fn prune(&self) -> Result<EnvironmentsRemoved, Error> {
        let cache = self.cache.clone();
        let all = blocking(move || cache.list()).await.map_err(|error| failed("list the environments", &error))?;
        let mut doomed = Vec::new();
        for (ready, _) in all {
            if !self.is_named(&ready.id)? {
                doomed.push(ready.id);
            }
        }
        // Before anything is added to it.
        let cache = self.cache.clone();
        let left = blocking(move || cache.remove_leftovers())
            .await
            .map_err(|error| failed("list the environments", &error))?;
        let mut removed = self.evict(doomed).await?;
        left.iter().for_each(|(name, error)| removed.not_removed.push(not_removed(name, error)));
        Ok(removed)
    }

    fn is_named(&self, id: &str) -> Result<bool, Error> {
        let names = self.names.all().map_err(|error| failed("read the names of environments", &error))?;
        Ok(names.iter().any(|named| named.id == id))
    }

    async fn evict(&self, ids: Vec<String>) -> Result<EnvironmentsRemoved, Error> {
        let cache = self.cache.clone();
        let evict = move || {
            let mut removed = EnvironmentsRemoved::default();
            for id in ids {
                match cache.evict(&id) {
                    Ok(Some(bytes)) => {
                        removed.removed += 1;
                        removed.bytes_freed += bytes;
                    }
                    Ok(None) => {}
                    Err(error) => removed.not_removed.push(not_removed(&id, &error)),
                }
            }
            Ok(removed)
        };
        blocking(evict).await.map_err(|error| failed("remove environments", &error))
    }

    /// Says to other daemons that this one uses the cache, for as long as it lives.
    pub fn be_present(&self) {
        self.cache.be_present();
    }

    /// At the start of a daemon: ends what an earlier one left at work, and takes away what that was building, or removing.
    pub fn tidy(&self) -> std::io::Result<()> {
        if let Some(former) = self.former.lock().expect("nothing panics while it is held").take() {
            former.end();
        }
        for (name, error) in self.cache.tidy()? {
            tracing::warn!(name, %error, "what is left of an environment stays");
        }
        Ok(())
    }
}

fn not_removed(id: &str, error: &RemovalError) -> NotRemoved {
    tracing::warn!(environment = id, %error, "what is left of an environment stays");
    NotRemoved { id: id.to_owned(), path: OsText::from(error.path.as_path()), problem: error.source.to_string() }
}

fn failed(doing: &str, error: &std::io::Error) -> Error {
    Error::Storage { doing: doing.to_owned(), problem: error.to_string() }
}
