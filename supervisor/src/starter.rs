//! What it takes to start the job's process: the program as it is to be executed, and its streams.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use pyexec_proto::OsText;
use pyexec_proto::ulimit::ResourceLimit;
use pyexec_run_directory::control::{Launch, LaunchStdin};
use pyexec_run_directory::record::STDIN;
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use super::clock::Clocks;
use super::process::{self, Program, Stage, StartFailure, Starting, Stdio};
use super::taking_over::Inherited;
use super::{fence, own_limits};

/// The job's process, forked, with our ends of its streams.
pub(super) struct Started {
    pub(super) process: Starting,
    pub(super) named: Named,
    pub(super) at: Clocks,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) input: Option<OwnedFd>,
}

/// Program and working directory as the client named them, for errors.
#[derive(Clone, Debug)]
pub(super) struct Named {
    program: OsText,
    directory: OsText,
}

/// What it takes to start the job's process: once, or for every run of a benchmark.
pub(super) struct Starter {
    program: Program,
    named: Named,
    stdin: LaunchStdin,
    /// Of a benchmark: the text for stdin, which every run reads from its beginning.
    text: Option<File>,
}

impl Starter {
    /// The error is for people, as that of [`Starter::start`].
    pub(super) fn new(launch: &Launch, environment: &[u8], inherited: &Inherited) -> Result<Self, String> {
        let has_text = launch.benchmark.is_some() && launch.stdin == LaunchStdin::File;
        Ok(Self {
            program: program(launch, environment, inherited)?,
            named: Named { program: launch.program.clone(), directory: launch.directory.clone() },
            stdin: launch.stdin,
            text: has_text.then(open_text).transpose().map_err(no_streams)?,
        })
    }

    /// Each time with streams of its own.
    pub(super) fn start(&self) -> Result<Started, String> {
        let pipes = || -> io::Result<_> {
            let (stdin, input) = self.open_stdin()?;
            let (stdout_read, stdout) = output_pipe()?;
            let (stderr_read, stderr) = output_pipe()?;
            Ok((Stdio { stdin, stdout, stderr }, input, stdout_read, stderr_read))
        };
        let (stdio, input, stdout, stderr) = pipes().map_err(no_streams)?;
        let at = Clocks::now();
        let process = process::start(&self.program, stdio).map_err(|failure| self.named.explain(&failure))?;
        Ok(Started { process, named: self.named.clone(), at, stdout, stderr, input })
    }

    /// The job's end, and ours if it is fed through a pipe.
    fn open_stdin(&self) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
        match (self.stdin, &self.text) {
            (LaunchStdin::Null, _) => Ok((File::open("/dev/null")?.into(), None)),
            // It has no name any more, and an offset of its own each time it is opened.
            (LaunchStdin::File, Some(text)) => {
                Ok((File::open(format!("/proc/self/fd/{}", text.as_raw_fd()))?.into(), None))
            }
            (LaunchStdin::File, None) => Ok((open_text()?.into(), None)),
            (LaunchStdin::Pipe, _) => {
                let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
                rustix::fs::fcntl_setfl(&write, OFlags::NONBLOCK)?;
                Ok((read, Some(write)))
            }
        }
    }
}

impl Named {
    pub(super) fn explain(&self, failure: &StartFailure) -> String {
        let error = &failure.error;
        match failure.stage {
            Stage::Fork => format!("could not make a process: {}", own_limits::explain_start(error)),
            Stage::Setup => format!("could not set the process up: {error}"),
            Stage::Groups => format!("could not take the groups of whoever submitted it: {error}"),
            Stage::Directory => format!("could not enter {}: {error}", self.directory),
            Stage::Exec => format!("could not run {}: {error}", self.program),
            Stage::Namespaces | Stage::Ids | Stage::Loopback | Stage::Landlock => fence::explain(failure),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
fn no_streams(error: io::Error) -> String {
    format!("could not open its streams: {error}")
}

fn program(launch: &Launch, environment: &[u8], inherited: &Inherited) -> Result<Program, String> {
    let string = |text: &OsText| {
        CString::new(text.as_bytes()).map_err(|_| format!("`{text}` has a NUL byte, which no program can be given"))
    };
    let variables = environment.split(|byte| *byte == 0).filter(|variable| !variable.is_empty());
    Ok(Program {
        path: string(&launch.program)?,
        argv: launch.argv.iter().map(string).collect::<Result<_, _>>()?,
        environment: variables.map(|variable| CString::new(variable).expect("was split at its NULs")).collect(),
        directory: string(&launch.directory)?,
        umask: launch.umask,
        limits: inherited.limits_to_set(&launch.limits).map(rlimit).collect(),
        to_set: inherited.to_set(launch),
        fence: fence::prepare(launch)?,
    })
}

fn rlimit(limit: &ResourceLimit) -> (u32, libc::rlimit) {
    let value = |value: Option<u64>| value.unwrap_or(libc::RLIM_INFINITY);
    (limit.resource, libc::rlimit { rlim_cur: value(limit.soft), rlim_max: value(limit.hard) })
}

/// The text for the job's stdin. Open, it needs no name; what was typed is not left lying about.
fn open_text() -> io::Result<File> {
    let text = File::open(STDIN)?;
    std::fs::remove_file(STDIN)?;
    Ok(text)
}

/// Our end, which does not block, and the job's, which does.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK)?;
    Ok((read, write))
}
