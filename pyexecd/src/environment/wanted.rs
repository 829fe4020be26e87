//! What a job or a named environment wants to be resolved and built.

use std::path::PathBuf;

use super::hashes::Hashes;
use super::request::{InterpreterIdentity, Request, RequirementsFile};
use super::settings::{Place, Settings};

/// What is wanted, with the interpreter found.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) uv: PathBuf,
    pub(super) uv_version: String,
    pub(super) settings: Settings,
    pub(super) requirements: Vec<String>,
    pub(super) file: Option<RequirementsFile>,
    pub(super) hashes: Hashes,
    pub(super) interpreter: InterpreterIdentity,
    pub(super) refresh: bool,
}

impl Wanted {
    pub(super) fn request(&self) -> Request {
        let settings = self.settings.resolution.clone();
        Request::new(&self.requirements, self.file.clone(), self.interpreter.clone(), settings, self.uv_version.clone())
    }

    /// What is installed where this is what it resolved to.
    pub(super) fn source(self, lock: String) -> Source {
        Source {
            uv: self.uv,
            uv_version: self.uv_version,
            interpreter: self.interpreter,
            lock,
            building: self.settings.building,
            place: self.settings.place,
        }
    }
}

/// What an environment is built from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) uv: PathBuf,
    pub(super) uv_version: String,
    pub(super) interpreter: InterpreterIdentity,
    pub(super) lock: String,
    /// A hash of the settings that change how it is built.
    pub(super) building: String,
    /// Where uv finds the settings that it installs with.
    pub(super) place: Place,
}
