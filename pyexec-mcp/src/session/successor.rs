//! Finds the program that takes over from this one if the daemon is newer.

use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pyexec_client::start::process::DaemonProcess;
use pyexec_client::start::{is_executable, program_candidates};
use pyexec_proto::paths::Paths;
use pyexec_proto::preamble::Preamble;
use pyexec_run_directory::lock_file::lock_holder;

const NAME: &str = "pyexec-mcp";

/// The option that prints the protocols a `pyexec-mcp` speaks. A program without this option cannot take over.
const PROTOCOLS_OPTION: &str = "--protocols";

/// How long a program may take to answer.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Why no program takes over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoSuccessor {
    #[error("there is no other pyexec-mcp beside the daemon, beside this one or on PATH")]
    NotFound,
    #[error("{} does not speak the daemon's protocol, {protocol}, either", program.display())]
    NotNewer { program: PathBuf, protocol: u16 },
    #[error("this one has taken over from an older one, and does not speak the daemon's protocol, {protocol}, either")]
    Again { protocol: u16 },
}

/// The output for [`PROTOCOLS_OPTION`].
pub(crate) fn protocols() -> String {
    Preamble::ours().range()
}

/// The first `pyexec-mcp` that speaks `protocol`: beside the running daemon, beside this program, which may have been
/// replaced since it was started, or on PATH. This program itself is skipped. Blocks.
pub(super) fn find(paths: &Paths, protocol: u16) -> Result<PathBuf, NoSuccessor> {
    let beside_daemon = daemon_program(paths).and_then(|program| Some(program.parent()?.join(NAME)));
    let candidates = beside_daemon.into_iter().chain(program_candidates(NAME));
    first_that_speaks(protocol, others(candidates, Path::new("/proc/self/exe")))
}

fn first_that_speaks(protocol: u16, programs: impl Iterator<Item = PathBuf>) -> Result<PathBuf, NoSuccessor> {
    let mut refused = None;
    for program in programs {
        match spoken_by(&program) {
            Ok(Some(spoken)) if (spoken.lowest..=spoken.highest).contains(&protocol) => return Ok(program),
            Ok(_) => {}
            Err(error) => tracing::warn!("{} did not report its protocols: {error}", program.display()),
        }
        refused.get_or_insert(program);
    }
    Err(refused.map_or(NoSuccessor::NotFound, |program| NoSuccessor::NotNewer { program, protocol }))
}

/// The protocols that a program reports; `None` if its output has another form.
fn spoken_by(program: &Path) -> io::Result<Option<Preamble>> {
    let mut command = Command::new(program);
    command.arg(PROTOCOLS_OPTION).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let deadline = Instant::now() + TIME_LIMIT;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() >= deadline => {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not answer"));
            }
            // The program ends within milliseconds, and nothing else waits for this thread.
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let mut said = String::new();
    let stdout = child.stdout.take().expect("its stdout is a pipe");
    // The output fits into a pipe.
    stdout.take(64).read_to_string(&mut said)?;
    Ok(Preamble::with_range(said.trim_end(), "").filter(|_| status.success()))
}

/// The path of the daemon's program.
fn daemon_program(paths: &Paths) -> Option<PathBuf> {
    let daemon = DaemonProcess::find(lock_holder(paths)?.pid)?;
    std::fs::read_link(format!("/proc/{}/exe", daemon.pid())).ok()
}

/// The candidates that are not `own`, under any name.
fn others<'a>(candidates: impl Iterator<Item = PathBuf> + 'a, own: &Path) -> impl Iterator<Item = PathBuf> + 'a {
    let identity = |data: Metadata| (data.dev(), data.ino());
    let own = own.metadata().ok().map(identity);
    candidates.filter(move |program| is_executable(program) && program.metadata().ok().map(identity) != own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn this_program_does_not_take_over_from_itself() {
        let own = Path::new("/proc/self/exe");
        let path = std::env::current_exe().expect("it is known");
        // Neither does what cannot be executed, or is not there.
        let candidates = ["/nowhere/pyexec-mcp".into(), path, "/proc/self/exe".into(), "/etc".into(), "/bin/sh".into()];
        assert_eq!(others(candidates.into_iter(), own).collect::<Vec<_>>(), [PathBuf::from("/bin/sh")]);
    }

    #[test]
    fn a_program_takes_over_only_if_it_says_that_it_speaks_the_protocol() {
        let directory = std::env::temp_dir().join(format!("pyexec-successor-{}", std::process::id()));
        std::fs::create_dir(&directory).expect("can be made");
        let program = |name: &str, script: &str| {
            let program = directory.join(name);
            std::fs::write(&program, script).expect("can be written");
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("is ours");
            program
        };
        let speaks =
            |name: &str, range: &str| program(name, &format!("#!/bin/sh\ntest \"$1\" = --protocols && echo {range}\n"));
        let refuse = [
            program("older", "#!/bin/sh\necho 7-7\nexit 2\n"),
            program("silent", "#!/bin/sh\n"),
            program("broken", "#!/nowhere/sh\n"),
            speaks("lower", "3-6"),
            speaks("higher", "8-9"),
        ];
        let (one, range) = (speaks("one", "7-7"), speaks("range", "5-8"));
        let found = |programs: &[PathBuf]| first_that_speaks(7, programs.iter().cloned());
        let all = [&refuse[..], &[one.clone(), range.clone()]].concat();
        assert_eq!(found(&all), Ok(one));
        assert_eq!(found(std::slice::from_ref(&range)), Ok(range));
        assert_eq!(found(&refuse), Err(NoSuccessor::NotNewer { program: refuse[0].clone(), protocol: 7 }));
        assert_eq!(found(&[]), Err(NoSuccessor::NotFound));
        std::fs::remove_dir_all(directory).expect("is ours");
    }
}
