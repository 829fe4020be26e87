//! What the daemon knows of environments, and has of them, for all jobs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use pyexec_proto::paths::Paths;

use super::cache::{Cache, Lease};
use super::interpreter::Interpreters;
use super::mark::{Former, Mark};
use super::named::Names;
use super::startup;
use super::uv::Uv;
use crate::client_files::ClientFiles;
use crate::config::Config;

/// Finds interpreters, makes environments, and makes commands of specifications.
#[derive(Debug)]
pub struct Environments {
    pub(super) uv: Uv,
    pub(super) interpreters: Interpreters,
    pub(super) cache: Arc<Cache>,
    pub(super) client_files: ClientFiles,
    pub(super) names: Names,
    /// Where scripts are that somebody has saved.
    pub(super) scripts: PathBuf,
    pub(super) cache_directory: PathBuf,
    /// Where the code lies that a job's Python begins with; `None` where there is no place for it.
    pub(super) startup_place: Option<PathBuf>,
    pub(super) settings: Config,
    pub(super) mark: Mark,
    /// Until it has been ended.
    pub(super) former: Mutex<Option<Former>>,
}

impl Environments {
    pub fn new(config: &Config, paths: &Paths, client_files: ClientFiles) -> Self {
        let (mark, former) = Mark::new(&paths.state);
        Self {
            uv: Uv::new(config.uv.clone(), mark.clone(), client_files.clone()),
            interpreters: Interpreters::new(mark.clone(), client_files.clone()),
            cache: Arc::new(Cache::new(paths.cache.clone(), paths.state.clone(), client_files.clone())),
            client_files,
            names: Names::new(paths.data.join("environments")),
            scripts: paths.scripts(),
            cache_directory: paths.cache.clone(),
            startup_place: startup::place(paths),
            settings: config.clone(),
            mark,
            former: Mutex::new(Some(former)),
        }
    }

    /// For a job that an earlier daemon started.
    pub fn lease(&self, id: &str) -> Lease {
        self.cache.lease_at_once(id)
    }
}
