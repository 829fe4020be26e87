//! Environments with a name: what each was made of, so that it can be made again when the cache has gone.

use std::io;
use std::path::{Path, PathBuf};

use pyexec_proto::error::Named;
use pyexec_proto::{Error, OsText};
use pyexec_run_directory::private::create_private;
use serde::{Deserialize, Serialize};

const FORMAT: u32 = 1;
const MAX_NAME: usize = 64;

/// Kept in the data directory: it is not made again by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NamedEnvironment {
    version: u32,
    pub(super) name: String,
    /// What uv was asked for: `3.12`, or nothing.
    pub(super) python: String,
    /// What was resolved, once and for good.
    pub(super) lock: String,
    /// A hash of the settings that changed how it was built; most often there were none.
    #[serde(default)]
    pub(super) building: String,
    /// The address it had when it was last built.
    pub(super) id: String,
    pub(super) python_version: String,
    pub(super) packages: Vec<String>,
}

impl NamedEnvironment {
    pub(super) fn new(name: String, python: String, lock: String, building: String) -> Self {
        let nothing = String::new;
        let (id, python_version) = (nothing(), nothing());
        Self { version: FORMAT, name, python, lock, building, id, python_version, packages: Vec::new() }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Names {
    directory: PathBuf,
}

impl Names {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }

    pub(super) fn get(&self, name: &str) -> Result<NamedEnvironment, Error> {
        let unknown = || Error::NotFound { what: Named::Environment, path: OsText::from(name) };
        if !is_name(name) {
            return Err(unknown());
        }
        match read(&self.file(name)) {
            Ok(environment) => Ok(environment),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unknown()),
            Err(error) => {
                Err(Error::Storage { doing: format!("read environment `{name}`"), problem: error.to_string() })
            }
        }
    }

    pub(super) fn save(&self, environment: &NamedEnvironment) -> io::Result<()> {
        create_private(&self.directory)?;
        let temporary = self.directory.join(format!(".{}.tmp", environment.name));
        std::fs::write(&temporary, serde_json::to_vec_pretty(environment)?)?;
        std::fs::rename(&temporary, self.file(&environment.name))
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.file(name))
    }

    /// Sorted by name. What can not be read is passed over, and said so in the log.
    pub(super) fn all(&self) -> io::Result<Vec<NamedEnvironment>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                match read(&path) {
                    Ok(environment) => found.push(environment),
                    Err(error) => tracing::warn!(path = %path.display(), %error, "a named environment is passed over"),
                }
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }
}

fn read(path: &Path) -> io::Result<NamedEnvironment> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn is_name(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    plain && !name.is_empty() && name.len() <= MAX_NAME && !name.starts_with(['.', '-'])
}

/// A name is a file name, and a word on a command line.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    if is_name(name) {
        return Ok(());
    }
    Err(Error::InvalidArgument {
        what: "environment name".to_owned(),
        given: name.chars().take(80).collect(),
        problem: format!(
            "it is not 1 to {MAX_NAME} letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
        ),
        hint: "choose another one".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_not_lead_elsewhere() {
        for name in ["", "../x", "a/b", ".hidden", "-x", "a b", "a\0b", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name:?} was taken for a name");
        }
        for name in ["ml", "ml-3.12", "A_b"] {
            assert!(check_name(name).is_ok(), "{name:?} was refused");
        }
    }

    #[test]
    fn what_is_saved_is_found_and_what_is_removed_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let names = Names::new(directory.path().join("environments"));
        assert_eq!(names.all().expect("works").len(), 0);
        let saved = NamedEnvironment::new("ml".into(), "3.12".into(), "six==1.17.0\n".into(), String::new());
        names.save(&saved).expect("can be saved");
        assert_eq!(names.get("ml"), Ok(saved.clone()));
        assert_eq!(names.all().expect("works"), [saved]);
        names.remove("ml").expect("can be removed");
        assert!(matches!(names.get("ml"), Err(Error::NotFound { what: Named::Environment, .. })));
    }
}
