//! Scripts that are kept: those that were saved under a name, and code that was run without a file.
//!
//! Owns what lies in the two directories. That a job runs one of them is nothing to it: a job is given a path.

mod autosaved;
mod files;
mod names;
mod saved;

use pyexec_run_directory::directories;
use std::cmp::Reverse;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyexec_proto::error::Named;
use pyexec_proto::greeting::Directory;
use pyexec_proto::paths::Paths;
use pyexec_proto::script::{
    Autosave, MAX_DOCSTRING_CHARS, MAX_SOURCE_BYTES, SaveScript, SavedScript, Script, ScriptInfo,
};
use pyexec_proto::url_password::masked;
use pyexec_proto::{Error, JobDetail, OsText, Timestamp};

use crate::blocking::{blocking, spawn};
use crate::config::Config;
pub use autosaved::Retention;
use files::{Found, failed};
use names::ScriptName;
use pyexec_python::{docstring, script_metadata};

/// What a listing reads of each script: docstrings and headers stand at the beginning.
const LISTED_BYTES: usize = 64 << 10;
/// How much a listing may carry. A message has room for twice as much.
const MAX_LISTING_BYTES: usize = 16 << 20;

/// The directory is looked through once in so many autosaved scripts that this is the share of them by which there may be
/// too many: it happens while a job starts, and takes longer the more there are.
const TIDYING_SHARE: usize = 32;

#[derive(Clone, Debug)]
pub struct Scripts(Arc<Directories>);

#[derive(Debug)]
struct Directories {
    saved: PathBuf,
    autosaved: PathBuf,
    /// The directory that both lie in, as a client has named it that has another one than the daemon.
    of_client: Option<Directory>,
    retention: Retention,
    /// Held by whoever writes or tidies in this daemon; the lock of the directory itself is for other daemons.
    writing: Mutex<()>,
    saves_since_tidying: AtomicUsize,
    /// Somebody is about to tidy, and will see all there is by then.
    tidying_is_due: AtomicBool,
}

impl Scripts {
    pub fn new(config: &Config, paths: &Paths) -> Self {
        Self(Arc::new(Directories {
            saved: paths.scripts(),
            autosaved: paths.autosaved_scripts(),
            of_client: None,
            retention: Retention {
                max_age: config.autosaved_scripts_max_age,
                max_count: config.autosaved_scripts_max_count,
            },
            writing: Mutex::new(()),
            saves_since_tidying: AtomicUsize::new(0),
            tidying_is_due: AtomicBool::new(false),
        }))
    }

    /// Those in a directory of a client's own, under the same settings.
    pub fn of_client(&self, data: Directory) -> Self {
        let Self(directories) = self;
        Self(Arc::new(Directories {
            saved: Paths::scripts_in(data.path.as_path()),
            autosaved: Paths::autosaved_scripts_in(data.path.as_path()),
            of_client: Some(data),
            retention: directories.retention,
            writing: Mutex::new(()),
            saves_since_tidying: AtomicUsize::new(0),
            tidying_is_due: AtomicBool::new(false),
        }))
    }

    /// Saved ones by name; then, if they are wanted, autosaved ones, newest first.
    pub async fn list(&self, include_autosaved: bool) -> Result<Vec<ScriptInfo>, Error> {
        self.work("list the scripts", move |directories| {
            let mut found = list(&directories.saved, false).map_err(failed("list the scripts"))?;
            found.sort_by(|one, other| one.name.cmp(&other.name));
            if include_autosaved {
                let mut autosaved = list(&directories.autosaved, true).map_err(failed("list the autosaved scripts"))?;
                autosaved.sort_by_cached_key(|script| Reverse((script.modified_at, script.name.clone())));
                found.append(&mut autosaved);
            }
            Ok(bounded(found, MAX_LISTING_BYTES))
        })
        .await
    }

    pub async fn view(&self, given: String, autosaved: bool) -> Result<Script, Error> {
        self.work("read a script", move |directories| view(directories, &given, autosaved)).await
    }

    pub async fn save(&self, script: SaveScript) -> Result<SavedScript, Error> {
        self.work("save a script", move |directories| {
            let _writing = directories.writing();
            saved::save(&directories.saved, script)
        })
        .await
    }

    pub async fn remove(&self, given: String) -> Result<(), Error> {
        self.work("remove a script", move |directories| {
            let _writing = directories.writing();
            saved::remove(&directories.saved, &given)
        })
        .await
    }

    /// Keeps the code of a job that came as text. What is kept no longer goes some time later.
    pub async fn autosave(&self, job: &JobDetail, autosave: Autosave) -> Result<(), Error> {
        let Some(code) = job.spec.source.code().cloned() else { return Ok(()) };
        let job = job.clone();
        self.work("autosave a script", move |directories| {
            let _writing = directories.writing();
            autosaved::keep(&directories.autosaved, &job, code.as_bytes(), &autosave).map(drop)
        })
        .await?;
        let Self(directories) = self;
        let saves = directories.saves_since_tidying.fetch_add(1, Ordering::Relaxed) + 1;
        if saves >= (directories.retention.max_count / TIDYING_SHARE).max(1) {
            self.tidy_in_background();
        }
        Ok(())
    }

    /// What is kept no longer, and what an earlier daemon left half written.
    pub fn tidy_in_background(&self) {
        let Self(directories) = self.clone();
        if directories.tidying_is_due.swap(true, Ordering::AcqRel) {
            return;
        }
        drop(spawn(move || {
            let _writing = directories.writing();
            directories.tidying_is_due.store(false, Ordering::Release);
            directories.saves_since_tidying.store(0, Ordering::Relaxed);
            let tidied = autosaved::tidy(&directories.autosaved, directories.retention, Timestamp::now());
            if let Err(error) = tidied.and_then(|()| saved::tidy(&directories.saved)) {
                tracing::warn!(%error, "the directories of scripts can not be tidied");
            }
        }));
    }

    async fn work<T: Send + 'static>(
        &self,
        doing: &str,
        work: impl FnOnce(&Directories) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let Self(directories) = self.clone();
        let checked = move || Ok(directories.check().and_then(|()| work(&directories)));
        blocking(checked).await.map_err(failed(doing))?
    }
}

impl Directories {
    /// It guards files, not memory: a panic leaves nothing half done that the next one would trip over.
    fn writing(&self) -> Writing<'_> {
        let mutex = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        Writing { _mutex: mutex, _directory: files::lock(&self.saved) }
    }

    /// Whether a directory that a client has named is what the client means by it: in a container it may be another.
    fn check(&self) -> Result<(), Error> {
        match &self.of_client {
            Some(named) if !directories::at(named.path.as_path()).is(named) => Err(Error::InvalidArgument {
                what: "data directory".to_owned(),
                given: named.path.to_text(),
                problem: "it is another directory for the daemon than for you".to_owned(),
                hint:
                    "in a container, let XDG_STATE_HOME name a directory of the container's own, and a daemon of its \
                    own is started"
                        .to_owned(),
            }),
            Some(_) | None => Ok(()),
        }
    }
}

/// Nobody else writes, in this daemon or in another that shares the directory.
struct Writing<'a> {
    _mutex: MutexGuard<'a, ()>,
    _directory: Option<File>,
}

fn view(directories: &Directories, given: &str, autosaved: bool) -> Result<Script, Error> {
    let name = ScriptName::read(given)?;
    let (directory, what) = match autosaved {
        false => (&directories.saved, Named::SavedScript),
        true => (&directories.autosaved, Named::AutosavedScript),
    };
    let path = directory.join(name.as_str());
    let doing = || format!("read {name}");
    let mut file = match files::open(&path).map_err(failed(doing()))? {
        Found::File(file, _) => file,
        Found::NoFile => return Err(saved::no_file(&name)),
        Found::Nothing => return Err(Error::NotFound { what, path: OsText::from(name.as_str()) }),
    };
    let source = files::beginning(&mut file, MAX_SOURCE_BYTES + 1).map_err(failed(doing()))?;
    if source.len() > MAX_SOURCE_BYTES {
        return Err(Error::InvalidArgument {
            what: "script".to_owned(),
            given: name.into(),
            problem: format!("it has more than {MAX_SOURCE_BYTES} bytes"),
            hint: "it was not saved by pyexec; look at the file itself".to_owned(),
        });
    }
    let metadata = match autosaved {
        false => None,
        true => autosaved::metadata(directory, &name).map_err(failed(doing()))?,
    };
    Ok(Script { name: name.into(), path: OsText::from(path), source, metadata })
}

/// Everything that is a script by its name and its kind. One that can not be read is passed over.
fn list(directory: &Path, autosaved: bool) -> io::Result<Vec<ScriptInfo>> {
    let mut found = Vec::new();
    for entry in files::entries(directory)? {
        let Some(name) = ScriptName::of_file(&entry.file_name()) else { continue };
        match info(name, &entry.path(), autosaved) {
            Ok(Some(info)) => found.push(info),
            Ok(None) => {}
            Err(error) => tracing::warn!(path = %entry.path().display(), %error, "a script is passed over"),
        }
    }
    Ok(found)
}

/// `None` for what is no file, or not any more.
fn info(name: ScriptName, path: &Path, autosaved: bool) -> io::Result<Option<ScriptInfo>> {
    let Found::File(mut file, metadata) = files::open(path)? else { return Ok(None) };
    let mut head = files::beginning(&mut file, LISTED_BYTES)?;
    if head.len() == LISTED_BYTES {
        // Half a line may look like another one.
        head.truncate(head.iter().rposition(|byte| *byte == b'\n').map_or(head.len(), |at| at + 1));
    }
    // One that is damaged is said so when it is run.
    let header = script_metadata::read(&head).ok().flatten().unwrap_or_default();
    let docstring = docstring::of_module(&head);
    Ok(Some(ScriptInfo {
        name: name.into(),
        path: OsText::from(path),
        docstring: docstring.and_then(|text| docstring::shortened(&text, MAX_DOCSTRING_CHARS)),
        dependencies: header.dependencies.iter().map(|dependency| masked(dependency).into_owned()).collect(),
        requires_python: header.requires_python,
        autosaved,
        bytes: metadata.len(),
        modified_at: files::modified_at(&metadata),
    }))
}

/// As many, from the beginning on, as there is room for.
fn bounded(mut scripts: Vec<ScriptInfo>, most: usize) -> Vec<ScriptInfo> {
    let texts = |script: &ScriptInfo| {
        let dependencies: usize = script.dependencies.iter().map(|dependency| dependency.len() + 8).sum();
        let docstring = script.docstring.as_ref().map_or(0, String::len);
        let versions = script.requires_python.as_ref().map_or(0, String::len);
        script.name.len() + script.path.as_bytes().len() + docstring + versions + dependencies + 100
    };
    let mut room = most;
    let fits = |script: &ScriptInfo| match room.checked_sub(texts(script)) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    let listed = scripts.iter().map(fits).take_while(|fits| *fits).count();
    if listed < scripts.len() {
        tracing::warn!(listed, of = scripts.len(), "there are more scripts than a listing has room for");
        scripts.truncate(listed);
    }
    scripts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(home: &Path) -> Directories {
        Directories {
            saved: home.join("scripts"),
            autosaved: home.join("autosaved_scripts"),
            of_client: None,
            retention: Retention { max_age: std::time::Duration::MAX, max_count: 1_000 },
            writing: Mutex::new(()),
            saves_since_tidying: AtomicUsize::new(0),
            tidying_is_due: AtomicBool::new(false),
        }
    }

    #[test]
    fn a_listing_shows_what_a_script_says_of_itself() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("train.py");
        let source = "#!/usr/bin/python\n'''  Trains. '''\n# /// script\n# requires-python = '>=3.9'\n\
            # dependencies = ['six', 'idna>=3']\n# ///\n";
        std::fs::write(&path, source).expect("can be written");
        let listed = list(home.path(), false).expect("can be listed");
        let [script] = listed.as_slice() else { panic!("{listed:?}") };
        assert_eq!((script.name.as_str(), script.path.as_path()), ("train.py", path.as_path()));
        assert_eq!(script.docstring.as_deref(), Some("Trains."));
        assert_eq!(script.dependencies, ["six", "idna>=3"]);
        assert_eq!(script.requires_python.as_deref(), Some(">=3.9"));
        assert_eq!((script.autosaved, script.bytes), (false, source.len() as u64));
        assert!(script.modified_at.age_at(Timestamp::now()) < std::time::Duration::from_secs(3_600));
    }

    #[test]
    fn what_is_damaged_or_huge_is_listed_with_what_is_known_of_it() {
        let home = tempfile::tempdir().expect("a directory");
        let write = |name: &str, source: &[u8]| std::fs::write(home.path().join(name), source).expect("can be written");
        write("broken.py", b"'''Says.'''\n# /// script\n# dependencies = 3\n# ///\n");
        write("garbage.py", &[0xff; 99]);
        let filler = "x = 1\n".repeat(LISTED_BYTES);
        write("huge.py", format!("'''Says.'''\n{filler}# /// script\n# dependencies = ['late']\n# ///\n").as_bytes());
        let mut listed = list(home.path(), false).expect("can be listed");
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        let said: Vec<_> =
            listed.iter().map(|script| (script.docstring.as_deref(), script.dependencies.len())).collect();
        assert_eq!(said, [(Some("Says."), 0), (None, 0), (Some("Says."), 0)]);
    }

    #[test]
    fn a_script_that_is_too_large_to_be_sent_is_refused() {
        let home = tempfile::tempdir().expect("a directory");
        let directories = directories(home.path());
        std::fs::create_dir(&directories.saved).expect("can be made");
        let file = std::fs::File::create(directories.saved.join("x.py")).expect("can be made");
        for (bytes, is_shown) in [(MAX_SOURCE_BYTES, true), (MAX_SOURCE_BYTES + 1, false)] {
            file.set_len(bytes as u64).expect("can be set");
            let viewed = view(&directories, "x", false);
            assert_eq!(viewed.is_ok(), is_shown, "{viewed:?}");
        }
    }

    #[test]
    fn a_listing_ends_where_there_is_no_more_room() {
        let home = tempfile::tempdir().expect("a directory");
        for name in ["a.py", "b.py", "c.py"] {
            std::fs::write(home.path().join(name), "").expect("can be written");
        }
        let all = list(home.path(), false).expect("can be listed");
        let one = 100 + "a.py".len() + all[0].path.as_bytes().len();
        for (most, listed) in [(3 * one, 3), (3 * one - 1, 2), (0, 0)] {
            assert_eq!(bounded(all.clone(), most).len(), listed, "{most}");
        }
    }
}
