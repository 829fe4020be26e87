//! The directories of pyexec as they are on disk: by which a client and a daemon tell whether they mean the same.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use pyexec_proto::greeting::{Directories, Directory, Greeting};
use pyexec_proto::paths::Paths;

/// The directory as it is now.
pub fn at(path: &Path) -> Directory {
    let identity = std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    Directory { path: path.into(), identity }
}

/// All of them as they are now.
pub fn of(paths: &Paths) -> Directories {
    Directories {
        state: at(&paths.state),
        data: at(&paths.data),
        cache: at(&paths.cache),
        config: at(&paths.config),
        runtime: at(&paths.runtime),
    }
}

/// With which this process begins a connection.
pub fn greeting(paths: &Paths) -> Greeting {
    Greeting { pid: std::process::id(), directories: of(paths) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_directory_is_known_by_any_of_its_names() {
        let home = tempfile::tempdir().expect("a directory");
        let (real, link, other) = (home.path().join("real"), home.path().join("link"), home.path().join("other"));
        std::fs::create_dir(&real).expect("can be made");
        std::fs::create_dir(&other).expect("can be made");
        std::os::unix::fs::symlink(&real, &link).expect("can be made");
        assert!(at(&real).is(&at(&link)));
        assert!(!at(&real).is(&at(&other)));
        let (gone, away) = (home.path().join("gone"), home.path().join("away"));
        assert!(at(&gone).is(&at(&gone)) && !at(&gone).is(&at(&away)) && !at(&gone).is(&at(&real)));
    }
}
