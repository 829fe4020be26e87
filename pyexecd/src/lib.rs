//! The daemon of pyexec. `ARCHITECTURE.md` tells how its parts hang together, and who may import whom.

#![forbid(unsafe_code)]

pub mod artifacts;
pub mod config;
pub mod engine;
pub mod environment;
pub mod fault;
pub mod jobs;
pub mod progress;
pub mod retention;
pub mod scripts;
pub mod service;
pub mod store;

/// What arbitrary input is held against, by fuzzing and by tests: see CONTRIBUTING.md.
#[cfg(any(test, fuzzing))]
pub mod fuzzing;

mod blocking;
mod client_files;
mod daemon;
mod listener;
mod logging;
mod succession;

use pyexec_run_directory::ownership;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use pyexec_proto::preamble::Preamble;
use pyexec_proto::sanitize;
use pyexec_supervisor::Supervised;

use daemon::Start;

const USAGE: &str = "pyexecd: the daemon of pyexec

usage: pyexecd [--detach | --announce | --check-config | --check-fences | --version | --help]

Runs in the foreground until it is told to leave (SIGTERM, `pyexec daemon stop`); its jobs go on without it.
With --announce it writes `ready` to stdout once it listens.
With --detach it does that from the background: nothing of whoever started it reaches it any more.
With --check-config it prints the settings it would run with, or what is wrong with them.
With --check-fences it says, as JSON, which fences a job can have here; `pyexec doctor` shows it.
`pyexec` starts one by itself where none runs.
";

/// The whole program. A supervisor is told from the daemon before any runtime exists.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap_or("\u{fffd}")).collect();
    match words.as_slice() {
        [verb] if *verb == pyexec_supervisor::VERB => {
            let supervised = pyexec_supervisor::supervise();
            if supervised == Supervised::ToTheEnd {
                succession::start_daemon_for_those_who_wait();
            }
            supervised.exit_code()
        }
        [verb] if *verb == client_files::VERB => client_files::look(),
        [] => run(Start::Foreground),
        ["--announce"] => run(Start::Announced),
        ["--detach"] => run(Start::Detached),
        ["--check-config"] => check_config(),
        // Tries them on a process that it forks: nothing that has threads may.
        ["--check-fences"] => {
            let checks = pyexec_supervisor::fence::try_each();
            say(&(serde_json::to_string(&checks).expect("has string keys") + "\n"))
        }
        // A newer client asks before it has an older daemon leave for this program.
        ["--protocols"] => say(&(Preamble::ours().range() + "\n")),
        // For scripts/docs.sh.
        ["--reference"] => say(&config::settings::page()),
        ["--version" | "-V"] => say(&format!("pyexecd {}\n", env!("CARGO_PKG_VERSION"))),
        ["--help" | "-h"] => say(USAGE),
        _ => {
            let _ = write!(std::io::stderr(), "error: pyexecd takes no such arguments\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(start: Start) -> ExitCode {
    match daemon::run(start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if matches!(error, daemon::DaemonError::AlreadyRunning { .. }) {
                tracing::warn!(%error, "not needed");
            } else {
                tracing::error!(%error, "the daemon ends");
            }
            // Whoever waits for the announcement reads stdout; stderr goes nowhere.
            let _ = if start.is_announced() {
                writeln!(std::io::stdout(), "{error}")
            } else {
                writeln!(std::io::stderr(), "error: {}", sanitize::lines(&error.to_string()))
            };
            ExitCode::FAILURE
        }
    }
}

fn check_config() -> ExitCode {
    let complain = |error: &dyn std::error::Error| {
        let _ = writeln!(std::io::stderr(), "error: {}", sanitize::lines(&error.to_string()));
        ExitCode::FAILURE
    };
    let (file, environment_file) = match pyexec_proto::paths::Paths::from_environment() {
        Ok(paths) => match ownership::check_settings(&paths) {
            Ok(()) => (paths.config_file(), paths.environment_file()),
            Err(error) => return complain(&error),
        },
        Err(error) => return complain(&error),
    };
    let there = if file.exists() { "" } else { " (not there)" };
    let environment_file = pyexec_client::environment_file::EnvironmentFile::read(&environment_file);
    for problem in environment_file.problems.iter().chain(&environment_file.warning) {
        let _ = writeln!(std::io::stderr(), "warning: {}", sanitize::lines(problem));
    }
    match config::Config::load(&file, &environment_file) {
        Ok(config) => say(&format!("# {}{there}\n{config}", file.display())),
        Err(error) => complain(&error),
    }
}

fn say(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
