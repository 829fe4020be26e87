//! What is in an environment: looked at, never changed.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::request::{hex, normalized_name};

/// The file in an environment that says what it holds.
pub(super) const MARKER: &str = "pyexec.json";

/// The names in a directory; none where there is no directory.
pub(super) fn names(directory: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.file_name())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// `lib/pythonX.Y/site-packages`.
fn site_packages(environment: &Path) -> io::Result<Option<PathBuf>> {
    let lib = environment.join("lib");
    Ok(python_in(&lib, names(&lib)?))
}

/// `site-packages` of the Python among the names in `lib`.
pub(super) fn python_in(lib: &Path, names: Vec<std::ffi::OsString>) -> Option<PathBuf> {
    let python = names.into_iter().find(|name| name.as_bytes().starts_with(b"python"));
    python.map(|python| lib.join(python).join("site-packages"))
}

/// What stands at the top of an environment and of its packages, apart from what running it adds.
pub(super) fn shape(environment: &Path) -> io::Result<String> {
    let mut seen = Vec::new();
    let packages = site_packages(environment)?;
    for directory in packages.iter().map(PathBuf::as_path).chain([environment.join("bin").as_path()]) {
        let mut here = names(directory)?;
        here.retain(|name| name != "__pycache__");
        here.sort();
        seen.extend(here);
    }
    let packages = packages.unwrap_or_default();
    for name in seen.iter().filter(|name| name.as_bytes().ends_with(b".dist-info")) {
        // A deletion that was interrupted takes files before it takes their directories.
        if !packages.join(name).join("METADATA").exists() {
            return Err(io::ErrorKind::NotFound.into());
        }
    }
    Ok(hex(&seen.iter().map(|name| name.as_bytes()).collect::<Vec<_>>().join(&b"\0"[..])))
}

/// What is installed, from the directories that say so.
pub(super) fn installed(environment: &Path) -> io::Result<Vec<String>> {
    let Some(packages) = site_packages(environment)? else { return Ok(Vec::new()) };
    Ok(distributions(&names(&packages)?))
}

/// By the names in a `site-packages`.
pub(super) fn distributions(names: &[std::ffi::OsString]) -> Vec<String> {
    let mut found: Vec<String> = names
        .iter()
        .filter_map(|name| name.to_str()?.strip_suffix(".dist-info")?.rsplit_once('-'))
        .map(|(name, version)| format!("{}=={version}", normalized_name(name)))
        .collect();
    found.sort();
    found
}

/// The bytes of an environment's own files, without what is said about it. Hard links into uv's cache are counted as if
/// they were copies.
pub(super) fn size(environment: &Path) -> io::Result<u64> {
    let own = names(environment)?.into_iter().filter(|name| name != MARKER && !name.as_bytes().starts_with(b"."));
    own.map(|name| {
        let path = environment.join(name);
        let data = std::fs::symlink_metadata(&path)?;
        if data.is_dir() { size_below(&path) } else { Ok(data.len()) }
    })
    .sum()
}

fn size_below(directory: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let data = entry.metadata()?;
        total += if data.is_dir() { size_below(&entry.path())? } else { data.len() };
    }
    Ok(total)
}
