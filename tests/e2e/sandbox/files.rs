//! What lies on disk.

use std::path::{Path, PathBuf};

use super::Sandbox;

impl Sandbox {
    /// The index, and what SQLite keeps beside it: they need not be there.
    pub(crate) fn index_files(&self) -> [PathBuf; 3] {
        ["", "-wal", "-shm"].map(|suffix| {
            let mut path = self.paths().database().into_os_string();
            path.push(suffix);
            path.into()
        })
    }

    /// So that the run directories are what is believed.
    pub(crate) fn remove_index(&self) {
        for file in self.index_files() {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// The names in a directory, in order.
pub(crate) fn file_names(directory: &Path) -> Vec<String> {
    let entries = directory.read_dir().expect("can be listed");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("can be listed").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
