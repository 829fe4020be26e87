//! What lies in the directories and is neither listed nor counted anywhere: run directories that no job can be told from, and
//! environments that could not be removed. Nothing removes it, so it is named here.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pyexec_proto::JobId;
use pyexec_proto::paths::Paths;
use serde::Deserialize;

use super::check::{Check, within_limit};

/// How many are named.
const MOST_NAMED: usize = 5;
/// No specification is longer: code is bounded by what a message may hold.
const MOST_SPEC_BYTES: u64 = 64 << 20;

/// As much of `spec.json` as tells whose it is.
#[derive(Deserialize)]
struct Spec {
    id: JobId,
}

pub(super) async fn checks(paths: &Paths) -> Vec<Check> {
    let (jobs, environments) = (paths.jobs(), paths.cache.join("environments"));
    within_limit("leftovers", move || run_directories(&jobs).into_iter().chain(removed(&environments)).collect()).await
}

/// `None` when all is well: most people never need to hear of it.
fn run_directories(jobs: &Path) -> Option<Check> {
    let unreadable = named(jobs, |name, path| name.parse::<JobId>().is_ok_and(|id| !is_readable(path, id)))?;
    let detail = format!("their jobs are unknown, because spec.json is missing or unreadable: {unreadable}");
    let hint = "an index that knows them still lists and prunes their jobs; if none of yours is missing from \
        `pyexec jobs --all`, look into them and remove them with rm -r";
    Some(Check::warning("run directories", detail, hint))
}

/// What lies in a job's run directory says which job it is. One that is not there any more says nothing.
fn is_readable(directory: &Path, id: JobId) -> bool {
    let spec = directory.join("spec.json");
    let read = || -> io::Result<bool> {
        if !spec.symlink_metadata()?.is_file() {
            return Ok(false);
        }
        // It may have become a pipe since.
        let file = File::options().read(true).custom_flags(NONBLOCK).open(&spec)?;
        let mut text = Vec::new();
        file.take(MOST_SPEC_BYTES).read_to_end(&mut text)?;
        Ok(serde_json::from_slice::<Spec>(&text).is_ok_and(|spec| spec.id == id))
    };
    read().unwrap_or_else(|_| directory.symlink_metadata().is_err())
}

const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// A removal that is under way has them, too, and is over soon.
fn removed(environments: &Path) -> Option<Check> {
    let left = named(environments, |name, _| name.starts_with(".removed-"))?;
    let detail = format!("what is left of some that were removed: {left}");
    let hint = "`pyexec env prune` tries again, and names what is in the way; its owner has to remove that";
    Some(Check::warning("environments", detail, hint))
}

/// The paths of those that are wanted, the first of them, and how many more there are.
fn named(directory: &Path, wanted: impl Fn(&str, &Path) -> bool) -> Option<String> {
    let entries = directory.read_dir().ok()?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| wanted(name, &entry.path())))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    let more = found.len().saturating_sub(MOST_NAMED);
    let shown: Vec<String> = found.iter().take(MOST_NAMED).map(|path| path.display().to_string()).collect();
    match (shown.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(shown.join(", ")),
        (false, more) => Some(format!("{} and {more} more", shown.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_run_directory_that_tells_of_no_job_is_named_and_others_are_not() {
        let jobs = tempfile::tempdir().expect("a directory");
        assert_eq!(run_directories(&jobs.path().join("none")), None);
        let make = |content: &str| {
            let id = JobId::mint();
            let directory = jobs.path().join(id.to_string());
            std::fs::create_dir(&directory).expect("can be made");
            std::fs::write(directory.join("spec.json"), content.replace("ID", &id.to_string()))
                .expect("can be written");
            directory
        };
        make(r#"{"version":1,"id":"ID","created_at":5,"more":{}}"#);
        std::fs::create_dir(jobs.path().join("no-id-at-all")).expect("can be made");
        assert_eq!(run_directories(jobs.path()), None);
        let mut damaged: Vec<PathBuf> =
            ["", "[]", r#"{"id":"ID""#, r#"{"id":"00000000-0000-4000-8000-000000000000"}"#].map(make).into();
        let linked = make("");
        std::fs::remove_file(linked.join("spec.json")).expect("is there");
        symlink("/dev/zero", linked.join("spec.json")).expect("can be made");
        damaged.push(linked);
        let check = run_directories(jobs.path()).expect("there are some");
        for directory in &damaged {
            assert!(check.detail.contains(&directory.display().to_string()), "{check:?}");
        }
        for _ in 0..3 {
            make("[]");
        }
        let check = run_directories(jobs.path()).expect("there are some");
        assert!(check.detail.ends_with(" and 3 more"), "{check:?}");
    }

    #[test]
    fn what_is_left_of_an_environment_is_named() {
        let environments = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(environments.path().join("0123abcd")).expect("can be made");
        assert_eq!(removed(environments.path()), None);
        let left = environments.path().join(".removed-0");
        std::fs::create_dir(&left).expect("can be made");
        let check = removed(environments.path()).expect("there is one");
        assert!(check.detail.contains(&left.display().to_string()), "{check:?}");
    }
}
