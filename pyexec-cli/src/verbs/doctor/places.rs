//! The directories: whether there is one, or could be, and what it lies on.

use pyexec_run_directory::lock_file;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use pyexec_proto::paths::Paths;
use pyexec_run_directory::lock_file::CacheUser;

use super::check::{Check, within_limit};
use crate::render;

/// Below this a job can hardly say how it ended.
const FULL: u64 = 64 << 20;
/// Below this one environment may be too much.
const TIGHT: u64 = 1 << 30;

/// `TMPFS_MAGIC` and `RAMFS_MAGIC`, `statfs(2)`.
const MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// `statfs(2)`: NFS, SMB, CIFS, SMB2, AFS, 9P. Whether a lock holds between machines is up to how they are mounted.
const NETWORK: [i64; 6] = [0x6969, 0x517B, 0xFF53_4D42, 0xFE53_4D42, 0x5346_414F, 0x0102_1997];

/// What a directory is for, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Has to last, and grows.
    Keep,
    /// Grows.
    Cache,
    /// Only read.
    Read,
    /// Sockets.
    Runtime,
}

pub(super) async fn checks(paths: &Paths) -> Vec<Check> {
    let places = [
        ("state", paths.state.clone(), "XDG_STATE_HOME", Use::Keep),
        ("data", paths.data.clone(), "XDG_DATA_HOME", Use::Keep),
        ("cache", paths.cache.clone(), "XDG_CACHE_HOME", Use::Cache),
        ("config", paths.config.clone(), "XDG_CONFIG_HOME", Use::Read),
        ("runtime", paths.runtime.clone(), "XDG_RUNTIME_DIR", Use::Runtime),
    ];
    let paths = paths.clone();
    let look = move || {
        let check = |(name, path, variable, used): &(&str, PathBuf, &str, Use)| {
            let mut check = look_at(name, path, variable, *used);
            if *used == Use::Cache {
                check.detail.push_str(&other_users(&lock_file::cache_users(&paths), &paths.state));
            }
            check
        };
        places.iter().map(check).collect()
    };
    within_limit("directories", look).await
}

/// Daemons of other state directories that share the cache.
fn other_users(users: &[CacheUser], state: &Path) -> String {
    let others = users.iter().filter(|user| user.state.as_path() != state);
    others.map(|user| format!(", also used by the daemon {} of {}", user.pid, user.state)).collect()
}

fn look_at(name: &str, path: &Path, variable: &str, used: Use) -> Check {
    let name = format!("{name} directory");
    let shown = path.display();
    let there = nearest(path);
    let usable = there.as_deref().map_err(io::Error::to_string).and_then(|there| try_out(there, used));
    let there = match (there, usable) {
        (Ok(there), Ok(())) => there,
        (Ok(_), Err(problem)) | (Err(_), Err(problem)) => {
            let hint = format!("make it usable, or set {variable} to another directory");
            return Check::problem(name, format!("{shown}: {problem}"), hint);
        }
        (Err(error), Ok(())) => return Check::problem(name, format!("{shown}: {error}"), "check the path"),
    };
    let mut detail = shown.to_string();
    if there != path {
        detail.push_str(", not made yet");
    }
    let user = rustix::process::geteuid().as_raw();
    match there.metadata().map(|found| found.uid()) {
        Ok(owner) if owner == user && there == path => detail.push_str(", yours"),
        // What is above it may be the system's.
        Ok(owner) if owner == user || (there != path && owner == 0) => {}
        Ok(owner) => {
            let hint = format!("set {variable} to a directory of your own");
            return Check::problem(
                name,
                format!("{detail}: {} belongs to user {owner}, not to you", there.display()),
                hint,
            );
        }
        Err(error) => return Check::problem(name, format!("{detail}: {error}"), "check the path"),
    }
    if matches!(used, Use::Read) {
        return Check::ok(name, detail);
    }
    let in_memory = rustix::fs::statfs(&there).is_ok_and(|found| MEMORY.contains(&found.f_type));
    let free = rustix::fs::statvfs(&there).map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize));
    if free != u64::MAX {
        detail.push_str(&format!(", {} free", render::size(free)));
    }
    if in_memory {
        detail.push_str(", in memory");
    }
    let grows = matches!(used, Use::Keep | Use::Cache);
    if grows && free < FULL {
        Check::problem(name, detail, "free disk space, for example with `pyexec prune` and `pyexec env prune`")
    } else if grows && free < TIGHT {
        Check::warning(name, detail, "`pyexec prune` and `pyexec env prune` free disk space")
    } else if used == Use::Keep && name.starts_with("state") && is_on_network(&there) {
        let hint =
            format!("if another machine shares this home, set {variable} to a directory that only this machine uses");
        Check::warning(name, format!("{detail}, on a network: locks may not hold between machines"), hint)
    } else if in_memory && used == Use::Keep {
        Check::warning(name, detail, format!("its content is lost at a reboot: set {variable} to another directory"))
    } else {
        Check::ok(name, detail)
    }
}

fn is_on_network(directory: &Path) -> bool {
    // The numbers are 32 bits, which some architectures sign.
    rustix::fs::statfs(directory).is_ok_and(|found| NETWORK.contains(&(found.f_type & 0xFFFF_FFFF)))
}

/// The directory itself, or the one above it that it would be made in.
fn nearest(path: &Path) -> io::Result<PathBuf> {
    for candidate in path.ancestors() {
        match candidate.metadata() {
            Ok(found) if found.is_dir() => return Ok(candidate.to_owned()),
            Ok(_) => return Err(io::Error::other(format!("{} is no directory", candidate.display()))),
            // A file further up says so when it is come to.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Permissions say little of a read-only file system, and nothing to root.
fn try_out(directory: &Path, used: Use) -> Result<(), String> {
    match used {
        Use::Read => directory.read_dir().map(drop).map_err(|error| format!("cannot be read: {error}")),
        Use::Keep | Use::Cache | Use::Runtime => {
            // Without a name, wherever the file system can do that.
            tempfile::tempfile_in(directory).map(drop).map_err(|error| format!("cannot be written to: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::doctor::check::Status;

    #[test]
    fn a_directory_that_is_not_there_is_one_that_can_be_made() {
        let home = tempfile::tempdir().expect("a directory");
        let check = look_at("config", &home.path().join("a/b"), "XDG_CONFIG_HOME", Use::Read);
        assert_eq!(check.status, Status::Ok);
        assert!(check.detail.ends_with("a/b, not made yet"), "{check:?}");
        assert_eq!(home.path().read_dir().expect("can be listed").count(), 0);
    }

    #[test]
    fn only_daemons_of_other_state_directories_are_others() {
        let user = |pid, state: &str| CacheUser { pid, state: state.into() };
        let said = other_users(&[user(1, "/mine"), user(2, "/other")], Path::new("/mine"));
        assert_eq!(said, ", also used by the daemon 2 of /other");
    }

    #[test]
    fn a_directory_that_cannot_be_written_to_is_a_problem() {
        let home = tempfile::tempdir().expect("a directory");
        std::fs::write(home.path().join("file"), "").expect("can be written");
        // Not even root makes anything in /proc.
        for path in [home.path().join("file"), home.path().join("file/pyexec"), "/proc/pyexec".into()] {
            let check = look_at("state", &path, "XDG_STATE_HOME", Use::Keep);
            assert_eq!(check.status, Status::Problem, "{check:?}");
            assert!(check.hint.as_ref().is_some_and(|hint| hint.contains("XDG_STATE_HOME")), "{check:?}");
        }
    }
}
