//! What a job's Python does before and after the job's own code.
//!
//! A directory in front of `PYTHONPATH` holds a `sitecustomize.py` that sees to it, takes itself out of everything it can
//! be seen in, and lets the user's own run. Always there is one finder, the last that Python asks, by which
//! `pyexec_progress` can be imported; and how far the bars of rich are is reported once it is imported, which away from a
//! terminal draws none. The directory's name says what else is wanted:
//!
//! - `lines`: output appears line by line without the script flushing, and without `python -u`.
//! - `figures`: matplotlib's figures that are open at the exit are saved as artifacts: a filter for one warning of
//!   `plt.show()`, and a function that runs at the exit, before matplotlib's own.
//! - `profile`: a profile of the process is written as artifacts when it ends. That much a script can see: the profiler
//!   itself, the modules `_lsprof` and `atexit`, and a handler for SIGTERM where there was none, which writes the profile
//!   and then ends the process by that signal.
//!
//! Until what is waited for is imported, all there is of it is `PathFinder.find_spec`, which is then put back.
//!
//! Where Python is told to ignore its environment (`-I`, `-E`, `-S`) this does nothing: output comes in Python's own
//! blocks, and `pyexec_progress` is not found. It is for the job's own process: those it starts have the user's
//! `PYTHONPATH`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use pyexec_proto::job::Variables;
use pyexec_proto::paths::create_private;

const STARTUP: (&str, &str) = ("sitecustomize.py", include_str!("startup/sitecustomize.py"));
/// What it runs, when there is need of it.
const BESIDE: [(&str, &str); 3] = [
    ("figures.py", include_str!("startup/figures.py")),
    ("profile.py", include_str!("startup/profile.py")),
    ("rich_bars.py", include_str!("startup/rich_bars.py")),
];
/// What scripts may import: in a directory that holds nothing else.
const MODULES: &str = "pyexec-modules";
const PROGRESS: (&str, &str) = ("pyexec_progress.py", include_str!("startup/pyexec_progress.py"));
const PYTHONPATH: &str = "PYTHONPATH";
const MPLBACKEND: &str = "MPLBACKEND";

/// What is wanted of a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) lines: bool,
    pub(super) figures: bool,
    pub(super) profile: bool,
}

impl Wanted {
    /// As the directory is called.
    fn name(self) -> String {
        let words = [(self.lines, "lines"), (self.figures, "figures"), (self.profile, "profile")];
        let words: Vec<&str> = words.into_iter().filter(|(wanted, _)| *wanted).map(|(_, word)| word).collect();
        if words.is_empty() { "plain".to_owned() } else { words.join("-") }
    }
}

/// Puts our directory in front of what `variables` has.
pub(super) fn arrange(cache: &Path, wanted: Wanted, variables: &mut Variables) -> io::Result<()> {
    let mut path = OsString::from(directory(cache, wanted)?);
    if let Some(own) = variables.get(PYTHONPATH).filter(|own| !own.is_empty()) {
        path.push(":");
        path.push(own);
    }
    variables.set(OsStr::new(PYTHONPATH), &path);
    Ok(())
}

/// Gives matplotlib a backend that opens no window, unless the user has named one. `true` when the choice was ours.
///
/// By the variable, because it is matplotlib's own way, costs nothing where there is no matplotlib, and holds for
/// processes that the job starts, too. A job inside a job finds what we chose for the outer one: that is no choice of
/// the user's, unless it was set for this job.
pub(super) fn choose_backend(is_nested: bool, set_for_job: &[String], variables: &mut Variables) -> bool {
    const OURS: &str = "Agg";
    let is_ours = |value: &OsStr| is_nested && value == OURS && !set_for_job.iter().any(|name| name == MPLBACKEND);
    if variables.get(MPLBACKEND).is_some_and(|value| !is_ours(value)) {
        return false;
    }
    variables.set(OsStr::new(MPLBACKEND), OsStr::new(OURS));
    true
}

/// The directory, made again if somebody has emptied the cache.
fn directory(cache: &Path, wanted: Wanted) -> io::Result<PathBuf> {
    let shelf = cache.join(concat!("python-start-", env!("CARGO_PKG_VERSION")));
    let directory = shelf.join(wanted.name());
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

    const LINES: Wanted = Wanted { lines: true, figures: false, profile: false };

    #[test]
    fn the_users_own_path_stays_behind_ours() {
        let cache = tempfile::tempdir().expect("a directory");
        let mut variables: Variables = [(PYTHONPATH.into(), "a::b".into())].into_iter().collect();
        arrange(cache.path(), LINES, &mut variables).expect("can be arranged");
        let path = variables.get(PYTHONPATH).expect("is set").to_str().expect("is UTF-8");
        assert!(path.starts_with(cache.path().to_str().expect("is UTF-8")), "{path}");
        assert!(path.ends_with("/lines:a::b"), "{path}");
    }

    #[test]
    fn a_deleted_or_truncated_module_is_made_again() {
        let cache = tempfile::tempdir().expect("a directory");
        let files = || {
            let directory = directory(cache.path(), LINES).expect("is made");
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

    #[test]
    fn the_users_backend_is_left_alone_and_ours_is_known_again() {
        let set = vec![MPLBACKEND.to_owned()];
        for (given, is_nested, set_for_job, ours) in [
            (None, false, &[][..], true),
            (Some("TkAgg"), false, &[], false),
            (Some("Agg"), false, &[], false),
            (Some(""), false, &set, false),
            (Some("Agg"), true, &[], true),
            (Some("Agg"), true, &set, false),
            (Some("TkAgg"), true, &[], false),
        ] {
            let mut variables: Variables = given.into_iter().map(|value| (MPLBACKEND.into(), value.into())).collect();
            assert_eq!(choose_backend(is_nested, set_for_job, &mut variables), ours, "{given:?}");
            let expected = if ours { "Agg" } else { given.unwrap_or_default() };
            assert_eq!(variables.get(MPLBACKEND), Some(OsStr::new(expected)), "{given:?}");
        }
    }
}
