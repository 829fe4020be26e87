//! Whether the directories of pyexec are this user's, and closed to others.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pyexec_proto::paths::Paths;

/// A directory in which somebody else can put files of his in the place of ours.
#[derive(Debug, thiserror::Error)]
#[error("{} {problem}", path.display())]
pub struct ForeignDirectory {
    pub path: PathBuf,
    problem: String,
    /// What to do about it.
    pub hint: String,
}

/// Whether the directories are this user's, and nobody else can put anything into them. What is not there yet is made
/// later, but never below a directory of another user's; what is ours, and open to others, is closed.
pub fn check(paths: &Paths) -> Result<(), ForeignDirectory> {
    // Made by somebody else: `pyexec` in it could be replaced under us.
    if let Some(shared) = paths.runtime.parent().filter(|_| !paths.runtime.starts_with(&paths.state)) {
        check_shared(shared)?;
    }
    let own = [
        (&paths.state, "XDG_STATE_HOME"),
        (&paths.data, "XDG_DATA_HOME"),
        (&paths.cache, "XDG_CACHE_HOME"),
        (&paths.config, "XDG_CONFIG_HOME"),
        (&paths.runtime, "XDG_RUNTIME_DIR"),
    ];
    own.into_iter().try_for_each(|(directory, variable)| check_own(directory, variable))?;
    check_settings(paths)
}

/// Whether the settings are this user's, or the system's.
pub fn check_settings(paths: &Paths) -> Result<(), ForeignDirectory> {
    check_one_setting(&paths.config)?;
    check_one_setting(&paths.config_file())
}

/// The directory that `XDG_RUNTIME_DIR` names: of this user, as the specification of it demands; or one of the system's
/// that keeps what is ours from others, as `/tmp` does.
fn check_shared(directory: &Path) -> Result<(), ForeignDirectory> {
    let foreign = |problem: String| ForeignDirectory {
        path: directory.to_owned(),
        problem,
        hint: "let XDG_RUNTIME_DIR name a directory of your own with mode 0700, or unset it".to_owned(),
    };
    // What can not be looked at can not be used either, and says so then.
    let Ok(found) = std::fs::metadata(directory) else { return Ok(()) };
    let (user, mode) = (rustix::process::geteuid().as_raw(), found.mode() & 0o7777);
    if found.uid() != user && found.uid() != 0 {
        return Err(foreign(format!("belongs to user {}, not to you", found.uid())));
    }
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(foreign(format!("has mode {mode:04o}: other users can replace what is in it")));
    }
    Ok(())
}

fn check_own(directory: &Path, variable: &str) -> Result<(), ForeignDirectory> {
    let foreign = |problem: String| ForeignDirectory {
        path: directory.to_owned(),
        problem,
        hint: format!("remove it, or let {variable} name a directory of your own"),
    };
    let user = rustix::process::geteuid().as_raw();
    let found = match std::fs::symlink_metadata(directory) {
        Ok(found) => found,
        // It would be made in the nearest directory there is: root would leave something in a user's home that shuts him out.
        Err(_) => {
            let nearest = directory.ancestors().skip(1).find_map(|above| Some((above, std::fs::metadata(above).ok()?)));
            return match nearest {
                Some((above, found)) if found.uid() != user && found.uid() != 0 => Err(ForeignDirectory {
                    hint: format!(
                        "let {variable} name a directory of your own (after `sudo`, HOME may be another user's)"
                    ),
                    ..foreign(format!(
                        "would be made in {}, which belongs to user {}, not to you",
                        above.display(),
                        found.uid()
                    ))
                }),
                Some(_) | None => Ok(()),
            };
        }
    };
    // A link of one's own is a wish; one of somebody else's leads where he likes.
    if found.is_symlink() && found.uid() != user && found.uid() != 0 {
        return Err(foreign(format!("is a link that user {} has made", found.uid())));
    }
    let Ok(found) = std::fs::metadata(directory) else { return Ok(()) };
    if found.uid() != user {
        return Err(foreign(format!("belongs to user {}, not to you", found.uid())));
    }
    if found.mode() & 0o077 != 0 {
        let closed = PermissionsExt::from_mode(found.mode() & 0o700);
        std::fs::set_permissions(directory, closed)
            .map_err(|error| foreign(format!("is open to others, and can not be closed: {error}")))?;
    }
    Ok(())
}

/// The settings name programs that are run, so nobody else may have written them. Others may read them, and they may be the
/// system's: root is trusted in any case.
fn check_one_setting(path: &Path) -> Result<(), ForeignDirectory> {
    let foreign = |problem: String| ForeignDirectory {
        path: path.to_owned(),
        problem,
        hint: "remove it, or let XDG_CONFIG_HOME name a directory of your own".to_owned(),
    };
    let user = rustix::process::geteuid().as_raw();
    let is_foreign = |owner: u32| owner != user && owner != 0;
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if found.is_symlink() && is_foreign(found.uid()) {
        return Err(foreign(format!("is a link that user {} has made", found.uid())));
    }
    let Ok(found) = std::fs::metadata(path) else { return Ok(()) };
    if is_foreign(found.uid()) {
        return Err(foreign(format!("belongs to user {}, not to you", found.uid())));
    }
    if found.mode() & 0o022 != 0 {
        let closed = PermissionsExt::from_mode(found.mode() & 0o7755);
        std::fs::set_permissions(path, closed)
            .map_err(|error| foreign(format!("can be written to by others, which cannot be changed: {error}")))?;
    }
    Ok(())
}
