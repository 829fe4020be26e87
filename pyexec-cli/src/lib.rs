//! The command line of pyexec: arguments in, calls to the daemon, text and an exit code out.
//!
//! It owns nothing that lasts: every job is the daemon's, which [`pyexec_client::Client`] finds or starts.

#![forbid(unsafe_code)]

mod advice;
mod args;
mod ask;
mod attach;
mod benchmark;
mod chart;
mod connection;
mod exit_code;
mod listing;
mod machine;
mod not_removed;
mod plot;
mod profile;
mod reference;
mod render;
mod submission;
mod terminal;
mod verbs;

use std::process::ExitCode;

use exit_code::{Code, Failure, SUCCESS};
use pyexec_client::threads;

/// Reads the command line of this process, does what it says, and returns what to exit with.
pub fn main() -> ExitCode {
    if let Some(page) = reference::page(std::env::args_os()) {
        return ExitCode::from(terminal::print(&page).map_or_else(|error| Failure::from(error).code(), |()| SUCCESS));
    }
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        // Help and the version are "errors" too, that go to stdout and exit with 0.
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let (problem, hint) = args::explain(&error, std::env::args_os().nth(1).as_deref());
            terminal::problem(&problem, Some(&hint));
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let code = perform(cli.verb).unwrap_or_else(|failure| {
        if !failure.is_silent() {
            terminal::error(&failure, failure.hint().as_deref());
        }
        failure.code()
    });
    ExitCode::from(code)
}

fn perform(verb: args::Verb) -> Result<Code, Failure> {
    threads::check_descriptors(threads::CLIENT_DESCRIPTORS).map_err(Failure::Runtime)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    let code = runtime.block_on(verbs::perform(verb));
    // A thread that still starts a daemon nobody waits for must not keep us.
    runtime.shutdown_background();
    code
}
