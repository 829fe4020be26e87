//! A client's settings on the disk: read once, and replaced only if nobody has written to them since.
//!
//! A client may have its settings open and write them at any moment. So the new text is put in the place of the old in
//! one step that also takes the old out; if that is not what was read, it is put back.

use std::fs::{File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use pyexec_run_directory::private::create_private;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tempfile::NamedTempFile;

/// More than any settings: Claude Code keeps a history in its, of tens of megabytes.
const LARGEST: u64 = 256 << 20;

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The settings as they were when they were read.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    /// Where the client looks.
    named: PathBuf,
    /// Where the links lead that it is reached by: these stay.
    target: PathBuf,
    /// `None` where there is no file.
    content: Option<Content>,
}

#[derive(Debug)]
struct Content {
    text: String,
    metadata: Metadata,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigFileError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a regular file", path.display())]
    NoFile { path: PathBuf },
    #[error("{} is larger than {} MiB", path.display(), LARGEST >> 20)]
    TooLarge { path: PathBuf },
    #[error("{} is not UTF-8 text", path.display())]
    NoText { path: PathBuf },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("another program changed {} in the meantime", path.display())]
    Changed { path: PathBuf },
}

impl ConfigFile {
    pub(crate) fn read(named: &Path) -> Result<Self, ConfigFileError> {
        let failed = |source| ConfigFileError::Read { path: named.to_owned(), source };
        let target = follow_links(named).map_err(failed)?;
        let metadata = match std::fs::metadata(&target) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { named: named.to_owned(), target, content: None });
            }
            Err(error) => return Err(failed(error)),
        };
        // A pipe would be waited for.
        if !metadata.is_file() {
            return Err(ConfigFileError::NoFile { path: named.to_owned() });
        }
        if metadata.len() > LARGEST {
            return Err(ConfigFileError::TooLarge { path: named.to_owned() });
        }
        let bytes = std::fs::read(&target).map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|_| ConfigFileError::NoText { path: named.to_owned() })?;
        Ok(Self { named: named.to_owned(), target, content: Some(Content { text, metadata }) })
    }

    /// Without a byte order mark; empty where there is no file.
    pub(crate) fn text(&self) -> &str {
        let text = self.content.as_ref().map_or("", |content| content.text.as_str());
        text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
    }

    pub(crate) fn is_there(&self) -> bool {
        self.content.is_some()
    }

    /// Puts `text` in the place of what was read, and returns where that has been kept.
    ///
    /// # Errors
    /// [`ConfigFileError::Changed`] when the file is not any more what was read; it is then left as it is.
    pub(crate) fn replace(&self, text: &str) -> Result<Option<PathBuf>, ConfigFileError> {
        let failed = |source| ConfigFileError::Write { path: self.named.clone(), source };
        let directory = self.target.parent().unwrap_or(Path::new("/"));
        create_private(directory).map_err(failed)?;
        let mut new = tempfile::Builder::new().prefix(".pyexec-").tempfile_in(directory).map_err(failed)?;
        let mark = match &self.content {
            Some(content) if content.text.starts_with(BYTE_ORDER_MARK) => BYTE_ORDER_MARK,
            Some(_) | None => "",
        };
        new.write_all(mark.as_bytes()).and_then(|()| new.write_all(text.as_bytes())).map_err(failed)?;
        match &self.content {
            Some(content) => {
                dress(new.as_file(), &content.metadata).map_err(failed)?;
                new.as_file().sync_all().map_err(failed)?;
                self.check_unchanged(content)?;
                let backup = back_up(&self.named, content).map_err(failed)?;
                self.exchange(new, content).inspect_err(|_| {
                    // It would be one of what nobody has replaced.
                    let _ = std::fs::remove_file(&backup);
                })?;
                Ok(Some(backup))
            }
            None => {
                new.as_file().sync_all().map_err(failed)?;
                new.persist_noclobber(&self.target).map_err(|error| {
                    if error.error.kind() == io::ErrorKind::AlreadyExists {
                        ConfigFileError::Changed { path: self.named.clone() }
                    } else {
                        failed(error.error)
                    }
                })?;
                Ok(None)
            }
        }
    }

    fn check_unchanged(&self, content: &Content) -> Result<(), ConfigFileError> {
        match std::fs::read(&self.target) {
            Ok(bytes) if bytes == content.text.as_bytes() => Ok(()),
            Ok(_) => Err(ConfigFileError::Changed { path: self.named.clone() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ConfigFileError::Changed { path: self.named.clone() })
            }
            Err(source) => Err(ConfigFileError::Read { path: self.named.clone(), source }),
        }
    }

    fn exchange(&self, new: NamedTempFile, content: &Content) -> Result<(), ConfigFileError> {
        let failed = |source| ConfigFileError::Write { path: self.named.clone(), source };
        let swap = || renameat_with(CWD, new.path(), CWD, &self.target, RenameFlags::EXCHANGE);
        match swap() {
            Ok(()) => {
                let taken_out = std::fs::read(new.path()).map_err(failed)?;
                if taken_out != content.text.as_bytes() {
                    swap().map_err(|error| failed(error.into()))?;
                    return Err(ConfigFileError::Changed { path: self.named.clone() });
                }
                // What has been taken out goes with the temporary name.
                drop(new);
            }
            Err(Errno::NOENT) => return Err(ConfigFileError::Changed { path: self.named.clone() }),
            // Not every file system can exchange two names.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                self.check_unchanged(content)?;
                new.persist(&self.target).map_err(|error| failed(error.error))?;
            }
            Err(error) => return Err(failed(error.into())),
        }
        Ok(())
    }
}

/// Where a path leads, whether or not there is something at the end.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    // As many as the kernel follows.
    const MOST_LINKS: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&path) {
            Ok(next) => path = path.parent().unwrap_or(Path::new("/")).join(next),
            // Nothing there, or no link.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(Errno::LOOP.into())
}

/// Mode and owner of what it is to replace.
fn dress(file: &File, like: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        std::os::unix::fs::fchown(file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(like.mode() & 0o7777))
}

/// A copy beside the file, under the first name of `….bak`, `….bak.1`, `….bak.2` that is free.
fn back_up(path: &Path, content: &Content) -> io::Result<PathBuf> {
    for number in 0.. {
        let mut name = path.as_os_str().to_owned();
        name.push(".bak");
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let name = PathBuf::from(name);
        let opened = File::options().write(true).create_new(true).open(&name);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        };
        let written = dress(&file, &content.metadata)
            .and_then(|()| file.write_all(content.text.as_bytes()))
            .and_then(|()| file.sync_all());
        return match written {
            Ok(()) => Ok(name),
            Err(error) => {
                let _ = std::fs::remove_file(&name);
                Err(error)
            }
        };
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = directory.read_dir().expect("can be listed");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("can be listed").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_written_after_it_was_read_is_not_lost() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("mcp.json");
        for (before, meanwhile) in [(Some("old"), Some("newer")), (Some("old"), None), (None, Some("new"))] {
            let _ = std::fs::remove_file(&path);
            if let Some(before) = before {
                std::fs::write(&path, before).expect("can be written");
            }
            let file = ConfigFile::read(&path).expect("can be read");
            match meanwhile {
                Some(text) => std::fs::write(&path, text).expect("can be written"),
                None => std::fs::remove_file(&path).expect("is there"),
            }
            let refused = file.replace("ours").expect_err("it is another one");
            assert!(matches!(refused, ConfigFileError::Changed { .. }), "{refused:?}");
            assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), meanwhile);
            let left: Vec<String> = meanwhile.map(|_| "mcp.json".to_owned()).into_iter().collect();
            assert_eq!(names(home.path()), left, "something is left behind");
        }
    }

    #[test]
    fn an_exchange_that_took_out_something_else_is_undone() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("mcp.json");
        std::fs::write(&path, "old").expect("can be written");
        let file = ConfigFile::read(&path).expect("can be read");
        let content = file.content.as_ref().expect("is there");
        // Past the check that comes first.
        std::fs::write(&path, "newer").expect("can be written");
        let mut new = NamedTempFile::new_in(home.path()).expect("can be made");
        new.write_all(b"ours").expect("can be written");
        let refused = file.exchange(new, content).expect_err("it is another one");
        assert!(matches!(refused, ConfigFileError::Changed { .. }), "{refused:?}");
        assert_eq!(std::fs::read_to_string(&path).expect("is there"), "newer");
        assert_eq!(names(home.path()), ["mcp.json"]);
    }

    #[test]
    fn backups_are_numbered_and_as_private_as_the_file() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("mcp.json");
        std::fs::write(&path, "0").expect("can be written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("can be set");
        for number in 1..=3 {
            let backup = ConfigFile::read(&path).expect("can be read").replace(&number.to_string());
            let backup = backup.expect("can be replaced").expect("there was something");
            assert_eq!(std::fs::read_to_string(&backup).expect("is there"), (number - 1).to_string());
            for file in [&path, &backup] {
                assert_eq!(file.metadata().expect("is there").mode() & 0o7777, 0o640, "{}", file.display());
            }
        }
        assert_eq!(names(home.path()), ["mcp.json", "mcp.json.bak", "mcp.json.bak.1", "mcp.json.bak.2"]);
    }

    #[test]
    fn links_are_followed_even_to_what_is_not_there_yet() {
        let home = tempfile::tempdir().expect("a directory");
        let at = |name: &str| home.path().join(name);
        std::fs::create_dir(at("dotfiles")).expect("can be made");
        std::os::unix::fs::symlink("second", at("first")).expect("can be made");
        std::os::unix::fs::symlink("dotfiles/mcp.json", at("second")).expect("can be made");
        for text in ["one", "two"] {
            ConfigFile::read(&at("first")).expect("can be read").replace(text).expect("can be replaced");
            assert_eq!(std::fs::read_to_string(at("dotfiles/mcp.json")).expect("is there"), text);
        }
        assert!(at("first").is_symlink() && at("second").is_symlink());
        std::os::unix::fs::symlink("circle", at("circle")).expect("can be made");
        ConfigFile::read(&at("circle")).expect_err("leads nowhere");
    }

    #[test]
    fn what_is_no_text_or_no_file_is_refused() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("mcp.json");
        std::fs::write(&path, b"{\"\xff\": 1}").expect("can be written");
        assert!(matches!(ConfigFile::read(&path), Err(ConfigFileError::NoText { .. })));
        assert!(matches!(ConfigFile::read(home.path()), Err(ConfigFileError::NoFile { .. })));
    }

    #[test]
    fn a_byte_order_mark_stays() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("mcp.json");
        std::fs::write(&path, "\u{feff}{}").expect("can be written");
        let file = ConfigFile::read(&path).expect("can be read");
        assert_eq!(file.text(), "{}");
        file.replace("{ }").expect("can be replaced");
        assert_eq!(std::fs::read_to_string(&path).expect("is there"), "\u{feff}{ }");
    }
}
