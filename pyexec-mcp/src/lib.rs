//! pyexec for agents and editors: a Model Context Protocol server on stdio.
//!
//! It owns nothing that lasts. Every request asks the daemon, which [`pyexec_client::Client`] finds or starts. An editor
//! session that ends, or a server that is killed, leaves its jobs to the next one.
//!
//! Modules import only what is below them in this drawing, and nothing in their own row but for what is named:
//!
//! ```text
//!   protocol     server: the requests of one connection · subscriptions · transport: lines on stdin and stdout
//!      │
//!   tools        what can be called, a file for each kind · resources, prompts: what can be read
//!      │
//!   execution    the one way a script is run, and what a finished job is answered with
//!      │
//!   call         one call of a tool: session, arguments, context
//!      │
//!   session      the daemon, the budget, the caller: what every request needs        arguments   parameters of tools
//!      │                                                                                │
//!   options      the command line                        answer   results and failures in words · uri   resources' names
//! ```
//!
//! A [`session::Process`] is made once, a [`session::Origin`] for each transport, a [`session::Session`] and a
//! [`protocol::server::Server`] for each connection. `log` has the lines on stderr.

#![forbid(unsafe_code)]

mod answer;
mod arguments;
mod call;
mod execution;
mod log;
mod options;
mod prompts;
mod protocol;
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

/// What is under way when stdin ends gets so long to be answered; a client that has gone waits for nothing.
/// The promise is that the end of stdin is the end of the server within 100 ms.
const FAREWELL: Duration = Duration::from_millis(70);

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
        // A reader that has left does not want to know.
        let _ = writeln!(std::io::stdout(), "{}", session::protocols());
        return ExitCode::SUCCESS;
    }
    log::to_stderr();
    let built = threads::check_descriptors(threads::CLIENTS_DESCRIPTORS)
        .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
    let runtime = match built {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("could not start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let served = runtime.block_on(serve(&options));
    // A call that still runs on a thread is of no use to anybody.
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
    // First: from here on nothing that is printed can get into the protocol's stream.
    let stdio = transport::take().map_err(ServeError::Stdio)?;
    let session = Session::new(Arc::new(Process::new(options)?), Arc::new(Origin::of_this_process()));
    let end_of_input = session.end_of_input();
    let server = Server::new(session, tools::of(options.toolset).into(), options.structured);
    let left = options.handover.and_then(|descriptor| {
        let taken = transport::State::taken(descriptor);
        taken.inspect_err(|error| tracing::error!("{error}")).ok()
    });
    let connection = transport::Connection::over(stdio, left, end_of_input.clone());
    let outbox = connection.outbox();
    let served = async {
        let service = match server.serve(connection).await {
            Ok(service) => service,
            // The client left before it had asked for anything.
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(error) => return Err(Box::new(error).into()),
        };
        let _ = service.waiting().await;
        Ok(())
    };
    let farewell = async {
        end_of_input.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    let written = async {
        let served = served.await;
        outbox.written().await;
        served
    };
    tokio::select! {
        served = written => served,
        () = farewell => Ok(()),
    }
}
