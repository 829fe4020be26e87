//! Files that a command line names and that only this process can open: `/dev/fd/63` is a pipe that the shell has opened
//! for us alone (`<(…)`), and the daemon would find something else there, or nothing. They are read here and sent along.
//!
//! Reading waits for as long as the other end takes. Signals still do what they always do, so that Ctrl-C ends the wait.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use pyexec_proto::error::Named;
use pyexec_proto::job::MAX_STDIN_BYTES;

use crate::exit_code::Failure;

/// Whether a path means something else to each process, or only to this one.
pub(super) fn is_own(path: &Path) -> bool {
    let mut names = path.components();
    if names.next() != Some(Component::RootDir) {
        return false;
    }
    let names: Vec<&OsStr> = names.map(Component::as_os_str).take(3).collect();
    let is = |at: usize, name: &str| names.get(at).is_some_and(|known| *known == name);
    if is(0, "dev") {
        return is(1, "stdin") || is(1, "stdout") || is(1, "stderr") || (is(1, "fd") && names.len() > 2);
    }
    let is_process = || is(1, "self") || is(1, "thread-self") || is(1, &std::process::id().to_string());
    is(0, "proc") && names.len() > 2 && is_process()
}

/// What has been read so far. A pipe can be read but once, and several scripts that are compared share their options.
#[derive(Debug, Default)]
pub(crate) struct OwnFiles(BTreeMap<PathBuf, Vec<u8>>);

impl OwnFiles {
    /// The content of a file of options that the daemon is not to be asked for: one of our own, or a pipe. `None` for all
    /// others.
    pub(crate) fn content(&mut self, path: &Path, what: Named) -> Result<Option<Vec<u8>>, Failure> {
        if is_own(path) || is_pipe(path) { self.read(path, what).map(Some) } else { Ok(None) }
    }

    pub(super) fn read(&mut self, path: &Path, what: Named) -> Result<Vec<u8>, Failure> {
        if let Some(known) = self.0.get(path) {
            return Ok(known.clone());
        }
        let content = read(path, what)?;
        self.0.insert(path.to_owned(), content.clone());
        Ok(content)
    }
}

/// The whole content of a file.
///
/// # Errors
/// When it cannot be read, or has more bytes than a submission may carry.
pub(crate) fn read(path: &Path, what: Named) -> Result<Vec<u8>, Failure> {
    let read = File::open(path).and_then(|file| read_up_to(file, MAX_STDIN_BYTES));
    let bytes = read.map_err(|source| Failure::Unreadable { what, path: path.to_owned(), source })?;
    bytes.ok_or_else(|| Failure::Usage {
        problem: format!("the {what} {} has more than {MAX_STDIN_BYTES} bytes", path.display()),
        hint: "write the data to a separate file, and open that in the script".to_owned(),
    })
}

/// The text of a requirements file, which uv reads as UTF-8.
pub(crate) fn requirements(content: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(content).map_err(|error| Failure::Usage {
        problem: format!("the {} is not UTF-8: {}", Named::RequirementsFile, error.utf8_error()),
        hint: "write it in UTF-8".to_owned(),
    })
}

/// `None` when there is more than `most` bytes.
pub(crate) fn read_up_to(from: impl Read, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= most).then_some(bytes))
}

/// Refuses arguments by which a script would look for a pipe that only we have: it would find nothing, or something else.
pub(super) fn refuse_pipes(args: &[OsString]) -> Result<(), Failure> {
    // What the job itself has as stdin, stdout and stderr it can open.
    let is_descriptor = |path: &&Path| {
        let number = path.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u32>().ok());
        let parent = path.parent().unwrap_or(path);
        (parent == Path::new("/dev/fd") || parent == Path::new("/proc/self/fd")) && number.is_some_and(|it| it > 2)
    };
    let found = args.iter().flat_map(paths_in).find(|path| is_descriptor(path) && is_pipe(path));
    let Some(path) = found else { return Ok(()) };
    Err(Failure::Usage {
        problem: format!(
            "the argument {} is a pipe of this command line, such as `<(…)`, and a job cannot open it: it is not started \
             by this shell",
            path.display()
        ),
        hint: "write the content into a file and give the script its name, or pass it on stdin".to_owned(),
    })
}

/// An argument as a path, and what `--option=PATH` names.
fn paths_in(argument: &OsString) -> impl Iterator<Item = &Path> {
    let bytes = argument.as_bytes();
    let value = bytes.iter().position(|byte| *byte == b'=').map(|at| &bytes[at + 1..]);
    [Some(bytes), value].into_iter().flatten().map(|bytes| Path::new(OsStr::from_bytes(bytes)))
}

fn is_pipe(path: &Path) -> bool {
    look(path, |path| std::fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())).unwrap_or(false)
}

/// Whether there is something of this name. Where its file system does not say so in time it is taken to be there: whoever
/// opens it finds out.
pub(super) fn is_there(path: &Path) -> bool {
    look(path, Path::exists).unwrap_or(true)
}

/// What comes of looking at a path, so that a file system which does not answer does not hold us up: `None` then.
fn look(path: &Path, look: impl FnOnce(&Path) -> bool + Copy + Send + 'static) -> Option<bool> {
    const PATIENCE: Duration = Duration::from_millis(500);
    let (told, answer) = std::sync::mpsc::channel();
    let looked_at: PathBuf = path.to_owned();
    match std::thread::Builder::new().spawn(move || told.send(look(&looked_at))) {
        Ok(_) => answer.recv_timeout(PATIENCE).ok(),
        // There may be no more threads for this user.
        Err(_) => Some(look(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_mean_something_else_to_each_process_are_known() {
        let own = std::process::id();
        for (path, expected) in [
            ("/dev/fd/63", true),
            ("//dev/./fd/63", true),
            ("/dev/stdin", true),
            ("/proc/self/fd/63", true),
            ("/proc/thread-self/fd/63", true),
            (&format!("/proc/{own}/fd/63"), true),
            (&format!("/proc/{}/fd/63", own + 1), false),
            ("/dev/fd", false),
            ("/dev/null", false),
            ("/dev/shm/x", false),
            ("/proc/self", false),
            ("dev/fd/63", false),
            ("/home/dev/fd/63", false),
            ("", false),
        ] {
            assert_eq!(is_own(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn what_is_read_ends_where_it_has_to() {
        for (bytes, is_taken) in [(0, true), (100, true), (101, false), (u64::MAX, false)] {
            let bytes = read_up_to(io::repeat(b'#').take(bytes), 100).expect("can be read");
            assert_eq!(bytes.is_some(), is_taken);
        }
    }

    #[test]
    fn only_open_pipes_are_refused_as_arguments() {
        let (reader, _writer) = io::pipe().expect("can be made");
        let pipe = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let file = File::open("/proc/self/status").expect("is there");
        let file = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        for (argument, refused) in [
            (pipe.as_str(), true),
            (&format!("--input={pipe}"), true),
            (&pipe.replace("/dev", "/proc/self"), true),
            (&format!("a{pipe}"), false),
            (&file, false),
            ("/dev/fd/0", false),
            ("/dev/stdin", false),
            ("/dev/fd/4294967295", false),
            ("", false),
        ] {
            assert_eq!(refuse_pipes(&[argument.into()]).is_err(), refused, "{argument}");
        }
    }
}
