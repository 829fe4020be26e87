//! pyexec for agents and editors: a Model Context Protocol server on stdio.
//!
//! The server keeps no lasting state. Every request asks the daemon, which [`pyexec_client::Client`] finds or starts.
//! When an editor session ends or the server is killed, its jobs go on, and the next server finds them.
//!
//! A module imports only modules in lower rows of this drawing, and within its own row only the named ones:
//!
//! ```text
//!   protocol     server: the requests of one connection · subscriptions · transport: lines on stdin and stdout
//!      │
//!   tools        the tools, a file for each kind · resources, prompts
//!      │
//!   execution    runs a script, and answers with the result of a finished job
//!      │
//!   call         one call of a tool: session, arguments, context
//!      │
//!   session      the daemon, the budget, the caller: used by every request        arguments   parameters of tools
//!      │                                                                                │
//!   options      the command line                     answer   results and failures as text · uri   names of resources
//! ```
//!
//! There is one `session::Process`, a `session::Origin` for each transport, and a `session::Session` and a
//! `protocol::server::Server` for each connection. `log` writes the lines on stderr.

#![forbid(unsafe_code)]

mod answer;
mod arguments;
mod call;
mod execution;
mod log;
mod options;
mod prompts;
mod protocol;
mod reference;
mod resources;
mod session;
mod tools;
mod uri;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use pyexec_client::threads;
use rmcp::ServiceExt;
use rmcp::service::ServerInitializeError;

use options::Options;
use protocol::server::Server;
use protocol::transport;
use session::{Origin, Process, Session};

/// The time for answering pending requests when stdin ends; a disconnected client does not wait. The server promises to
/// end within 100 ms of the end of stdin.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(70);

/// Serves until stdin ends.
pub fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if options.protocols {
        // A reader that has closed the pipe does not need the answer.
        let _ = writeln!(std::io::stdout(), "{}", session::protocols());
        return ExitCode::SUCCESS;
    }
    if options.reference {
        let _ = write!(std::io::stdout(), "{}", reference::page());
        return ExitCode::SUCCESS;
    }
    log::to_stderr();
    let built = threads::check_descriptors(threads::CLIENT_DESCRIPTORS)
        .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("could not start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let served = runtime.block_on(serve(&options));
    // A blocking call that still runs on a thread no longer matters.
    runtime.shutdown_background();
    let code = match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    };
    log::finish();
    code
}

#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("could not take over stdin and stdout: {0}")]
    Stdio(std::io::Error),
    #[error(transparent)]
    NoHome(#[from] pyexec_proto::paths::NoHome),
    #[error(transparent)]
    Protocol(#[from] Box<ServerInitializeError>),
}

async fn serve(options: &Options) -> Result<(), ServeError> {
    // This comes first, so that nothing printed later can get into the protocol's stream.
    let stdio = transport::take().map_err(ServeError::Stdio)?;
    let session = Session::new(Arc::new(Process::new(options)?), Arc::new(Origin::of_this_process()));
    let end_of_input = session.end_of_input();
    let server = Server::new(session, tools::of(options.toolset).into(), options.structured);
    let left = options.handover.and_then(|descriptor| {
        let taken = transport::State::from_descriptor(descriptor);
        taken.inspect_err(|error| tracing::error!("{error}")).ok()
    });
    let connection = transport::Connection::over(stdio, left, end_of_input.clone());
    let outbox = connection.outbox();
    let served = async {
        let service = match server.serve(connection).await {
            Ok(service) => service,
            // The client disconnected before its first request.
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(error) => return Err(Box::new(error).into()),
        };
        let _ = service.waiting().await;
        Ok(())
    };
    let grace = async {
        end_of_input.cancelled().await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    let written = async {
        let served = served.await;
        outbox.written().await;
        served
    };
    tokio::select! {
        served = written => served,
        () = grace => Ok(()),
    }
}
