//! The programs under test, and the repository: where they are now, which may be elsewhere than where they were built.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Debug, Display};
use std::path::{Path, PathBuf};

/// A program under test. Of tests that were built elsewhere (`cargo nextest run --archive-file`), nextest says where it is.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    name: &'static str,
    built: &'static str,
}

impl Program {
    pub(super) const fn new(name: &'static str, built: &'static str) -> Self {
        Self { name, built }
    }

    pub(crate) fn path(self) -> &'static str {
        static FOUND: std::sync::Mutex<Vec<(&str, &str)>> = std::sync::Mutex::new(Vec::new());
        let mut found = FOUND.lock().expect("nothing panics while it is held");
        if let Some((_, path)) = found.iter().find(|(name, _)| *name == self.name) {
            return path;
        }
        let moved = std::env::var(format!("NEXTEST_BIN_EXE_{}", self.name)).ok();
        // Once for each program.
        let path = moved.map_or(self.built, |moved| Box::leak(moved.into_boxed_str()));
        found.push((self.name, path));
        path
    }
}

impl AsRef<OsStr> for Program {
    fn as_ref(&self) -> &OsStr {
        self.path().as_ref()
    }
}

impl AsRef<Path> for Program {
    fn as_ref(&self) -> &Path {
        self.path().as_ref()
    }
}

impl From<Program> for PathBuf {
    fn from(program: Program) -> Self {
        program.path().into()
    }
}

impl From<Program> for OsString {
    fn from(program: Program) -> Self {
        program.path().into()
    }
}

/// As a path, between quotation marks: also a literal of Python's.
impl Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(self.path(), f)
    }
}

impl Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self.path(), f)
    }
}

/// The directory of this crate.
pub(crate) fn manifest_directory() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}
