//! pyexec for agents and editors: a Model Context Protocol server on stdio.
//!
//! It owns nothing that lasts. Every request asks the daemon, which [`pyexec_client::Client`] finds or starts; an editor
//! session that ends, or a server that is killed, leaves its jobs to the next one.
//!
//! `tools` is what can be called, `execution` the one way a script is run, `resources` and `prompts` what can be read;
//! `transport` reads and writes the protocol's stream, and `log` the lines on stderr. What an answer looks like is in
//! `render`.

mod advice;
mod answer;
mod arguments;
mod artifacts;
mod caller;
mod execution;
mod images;
mod inline_script;
mod log;
mod progress;
mod prompts;
mod render;
mod resources;
mod server;
mod subscriptions;
mod tools;
mod transport;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use pyexec_client::threads;
use rmcp::ServiceExt;
use rmcp::service::ServerInitializeError;

use server::Server;

/// Run Python for agents and editors, over the Model Context Protocol on stdin and stdout.
#[derive(Debug, Parser)]
#[command(name = "pyexec-mcp", version)]
pub(crate) struct Options {
    /// Which tools to offer
    #[arg(long, value_name = "SET", default_value = "full")]
    pub(crate) toolset: Toolset,
    /// Answer with structured content, and declare its schemas
    #[arg(long)]
    pub(crate) structured: bool,
    /// Where the daemon listens
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<OsString>,
}

/// How much is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Toolset {
    Full,
    /// The six that most sessions need.
    Core,
}

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
    let server = Server::new(options)?;
    let end_of_input = server.end_of_input();
    let connection = transport::Connection::over(stdio, end_of_input.clone());
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
