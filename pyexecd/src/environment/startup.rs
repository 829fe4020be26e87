//! What a job's Python does before and after the job's own code.
//!
//! A directory in front of `PYTHONPATH` holds a `sitecustomize.py` that sees to it, takes itself out of everything it can
//! be seen in, and lets the user's own run. It acts once, in the main interpreter of the job's own process: processes that
//! this one starts find the `PYTHONPATH` that the user has set.
//!
//! Always there is one finder, the last that Python asks, by which `pyexec_progress` can be imported. How far the bars of
//! rich are is reported once it is imported, because it draws none away from a terminal; and matplotlib is given a backend
//! that opens no window, where the user has chosen none. Until those are imported, all there is of it is
//! `PathFinder.find_spec`, which is then put back. The directory's name says what else is wanted:
//!
//! - `lines`: output appears line by line without the script flushing, and without `python -u`.
//! - `figures`: matplotlib's figures that are open at the exit are saved as artifacts, by a function that runs before
//!   matplotlib's own.
//! - `profile`: a profile of the process is written as artifacts when it ends. That much a script can see: the profiler
//!   itself, the modules `_lsprof` and `atexit`, and a handler for SIGTERM where there was none, which writes the profile
//!   and then ends the process by that signal.
//! - `inline`: the script is the file that inline code was given, and finds modules in the working directory.
//! - `blank`: the user's `PYTHONPATH` is set, and empty.
//!
//! Its code bears the file name of importlib's own frozen modules, so that tracebacks, tracers, profilers and coverage pass
//! over it, and imports nothing that a file of the user's could be.
//!
//! Where Python is told to ignore its environment (`-I`, `-E`, `-S`) this does nothing: output comes in Python's own
//! blocks, and `pyexec_progress` is not found.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use pyexec_proto::job::Variables;
use pyexec_proto::paths::Paths;
use pyexec_python::startup::{BESIDE, PROGRESS, STARTUP};
use pyexec_run_directory::private::create_private;

/// What scripts may import: in a directory that holds nothing else.
const MODULES: &str = "pyexec-modules";
const PYTHONPATH: &str = "PYTHONPATH";
/// By which a user chooses a backend of matplotlib.
pub(super) const MPLBACKEND: &str = "MPLBACKEND";

/// What is wanted of a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) lines: bool,
    pub(super) figures: bool,
    pub(super) profile: bool,
    pub(super) inline: bool,
}

impl Wanted {
    /// As the directory is called.
    fn name(self, is_blank: bool) -> String {
        let words = [
            (self.lines, "lines"),
            (self.figures, "figures"),
            (self.profile, "profile"),
            (self.inline, "inline"),
            (is_blank, "blank"),
        ];
        let words: Vec<&str> = words.into_iter().filter(|(wanted, _)| *wanted).map(|(_, word)| word).collect();
        if words.is_empty() { "plain".to_owned() } else { words.join("-") }
    }
}

/// Where the directories are to lie: in the cache, unless its name has a colon in it, which parts the entries of
/// `PYTHONPATH`. `None` when there is no directory without one that is this user's.
pub(super) fn place(paths: &Paths) -> Option<PathBuf> {
    let has_no_colon = |path: &&PathBuf| !path.as_os_str().as_bytes().contains(&b':');
    let own = [&paths.cache, &paths.state].into_iter().find(has_no_colon).cloned();
    own.or_else(|| {
        let shared = PathBuf::from(format!("/tmp/pyexec-python-{}", rustix::process::geteuid().as_raw()));
        let found = create_private(&shared).and_then(|()| shared.symlink_metadata());
        let is_ours = found.is_ok_and(|found| {
            found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o077 == 0
        });
        if !is_ours {
            tracing::warn!(
                cache = %paths.cache.display(),
                place = %shared.display(),
                "neither is a place for what Python begins with: lines appear late, and there is no pyexec_progress"
            );
        }
        is_ours.then_some(shared)
    })
}

/// Puts our directory in front of what `variables` has.
pub(super) fn arrange(place: &Path, wanted: Wanted, variables: &mut Variables) -> io::Result<()> {
    let own = variables.get(PYTHONPATH).map(OsStr::to_owned);
    let is_blank = own.as_ref().is_some_and(|own| own.is_empty());
    let mut path = OsString::from(directory(place, wanted, is_blank)?);
    if let Some(own) = own.filter(|own| !own.is_empty()) {
        path.push(":");
        path.push(own);
    }
    variables.set(OsStr::new(PYTHONPATH), &path);
    Ok(())
}

/// The directory, made again if somebody has emptied the cache.
fn directory(place: &Path, wanted: Wanted, is_blank: bool) -> io::Result<PathBuf> {
    let shelf = place.join(concat!("python-start-", env!("CARGO_PKG_VERSION")));
    let directory = shelf.join(wanted.name(is_blank));
    for file in BESIDE {
        ensure(&shelf, file)?;
    }
    ensure(&shelf.join(MODULES), PROGRESS)?;
    ensure(&directory, STARTUP)?;
    Ok(directory)
}

fn ensure(directory: &Path, (name, content): (&str, &str)) -> io::Result<()> {
    let file = directory.join(name);
    if std::fs::metadata(&file).is_ok_and(|found| found.len() == content.len() as u64) {
        return Ok(());
    }
    create_private(directory)?;
    // Whole or not at all: a job that starts meanwhile must not read half of it.
    let temporary = directory.join(format!("{}.tmp", pyexec_proto::JobId::mint().simple()));
    std::fs::write(&temporary, content)?;
    std::fs::rename(&temporary, &file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: Wanted = Wanted { lines: true, figures: false, profile: false, inline: false };

    #[test]
    fn the_users_own_path_stays_behind_ours() {
        let cache = tempfile::tempdir().expect("a directory");
        for (own, expected) in
            [(None, "lines"), (Some(""), "lines-blank"), (Some(":"), "lines::"), (Some("a::b"), "lines:a::b")]
        {
            let mut variables: Variables = own.into_iter().map(|own| (PYTHONPATH.into(), own.into())).collect();
            arrange(cache.path(), LINES, &mut variables).expect("can be arranged");
            let path = variables.get(PYTHONPATH).expect("is set").to_str().expect("is UTF-8");
            assert!(path.starts_with(cache.path().to_str().expect("is UTF-8")), "{path}");
            assert!(path.ends_with(&format!("/{expected}")), "{path}");
        }
    }

    #[test]
    fn our_own_path_never_has_a_colon() {
        let paths = |cache: &str, state: &str| {
            let [cache, state] = [cache, state].map(PathBuf::from);
            let any = PathBuf::from("/a:b");
            Paths {
                state,
                data: any.clone(),
                cache,
                config: any.clone(),
                runtime: any.clone(),
                socket: any,
                instance: None,
            }
        };
        assert_eq!(place(&paths("/c/cache", "/s/state")), Some("/c/cache".into()));
        assert_eq!(place(&paths("/c:c/cache", "/s/state")), Some("/s/state".into()));
        let elsewhere = place(&paths("/c:c/cache", "/s:s/state")).expect("there is a directory of this user's in /tmp");
        assert!(elsewhere.starts_with("/tmp") && !elsewhere.to_string_lossy().contains(':'), "{elsewhere:?}");
        assert_eq!(elsewhere.metadata().expect("is there").mode() & 0o777, 0o700);
    }

    #[test]
    fn a_deleted_or_truncated_module_is_made_again() {
        let cache = tempfile::tempdir().expect("a directory");
        let files = || {
            let directory = directory(cache.path(), LINES, false).expect("is made");
            let shelf = directory.parent().expect("has one").to_owned();
            let beside = BESIDE.map(|(name, content)| (shelf.join(name), content));
            let module = (shelf.join(MODULES).join(PROGRESS.0), PROGRESS.1);
            beside.into_iter().chain([module, (directory.join(STARTUP.0), STARTUP.1)])
        };
        for damage in [true, false] {
            for (file, _) in files() {
                if damage {
                    std::fs::write(&file, "").expect("can be truncated");
                } else {
                    std::fs::remove_file(&file).expect("can be deleted");
                }
            }
            for (file, content) in files() {
                assert_eq!(std::fs::read_to_string(&file).expect("is there"), content, "{}", file.display());
            }
        }
    }
}
