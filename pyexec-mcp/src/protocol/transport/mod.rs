//! The protocol's stream between the client and rmcp.
//!
//! A task ([`reader`]) reads stdin line by line and parses each line ([`message`]). Valid requests go to rmcp; invalid
//! ones are answered here, so that every request with a readable `id` gets exactly one answer with that `id`, unless it
//! is cancelled. Answers go to [`outbox`], whose task writes them. rmcp's own transport leaves some requests
//! unanswered, and has no limits.
//!
//! The memory that a client can occupy is bounded. A line has at most 128 MiB ([`lines`]). At most 1024 requests are
//! pending, with at most 256 MiB of lines together. Once 32 MiB of answers wait for the client, only pending requests
//! add to them. Beyond these limits stdin is left unread in the kernel's pipe until there is room again; its end is
//! noticed nevertheless.
//!
//! If the daemon is newer than this server, a newer server takes over on the same descriptors ([`taking_over`]).
//! Pending requests are answered first, or left to it.

mod exchange;
mod lines;
mod message;
mod methods;
mod outbox;
mod reader;
mod stdio;
mod taking_over;
mod under_way;
mod visible_id;

use std::convert::Infallible;
use std::sync::Arc;

use rmcp::RoleServer;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use exchange::Exchange;
pub(crate) use exchange::{Successor, Ticket};
pub(crate) use outbox::Outbox;
use reader::{Reader, Stopped};
pub(crate) use stdio::{Stdio, take};
pub(crate) use taking_over::State;

/// The transport for rmcp.
pub(crate) struct Connection {
    received: mpsc::Receiver<RxJsonRpcMessage<RoleServer>>,
    exchange: Arc<Exchange>,
    end_of_input: CancellationToken,
}

impl Connection {
    /// Starts to read, after the state that an older server has `left`. `end_of_input` is cancelled once stdin has
    /// ended.
    pub(crate) fn over(stdio: Stdio, left: Option<State>, end_of_input: CancellationToken) -> Self {
        let Stdio { input, output, hangup, originals } = stdio;
        let executed_for = left.as_ref().map(|left| left.daemon_protocol);
        let exchange = Arc::new(Exchange::over(Outbox::over(output), executed_for));
        let (deliver, received) = mpsc::channel(1);
        let reader = Reader::new(deliver, exchange.clone());
        let end = end_of_input.clone();
        tokio::spawn(async move {
            let read = reader.read(left.unwrap_or_default(), input, &hangup, &originals);
            let Stopped::HangUp = read.await else { return };
            // The rest of the input is discarded.
            end.cancel();
        });
        Self { received, exchange, end_of_input }
    }

    pub(crate) fn outbox(&self) -> Outbox {
        self.exchange.outbox.clone()
    }
}

impl Transport<RoleServer> for Connection {
    type Error = Infallible;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Infallible>> + Send + 'static {
        let delayed = self.exchange.send(message);
        let outbox = self.exchange.outbox.clone();
        async move {
            if let Some(notification) = delayed {
                outbox.room_for_notifications().await;
                outbox.push(notification);
            }
            Ok(())
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        let message = self.received.recv().await;
        if message.is_none() {
            self.end_of_input.cancel();
        }
        message
    }

    async fn close(&mut self) -> Result<(), Infallible> {
        self.exchange.outbox.written().await;
        Ok(())
    }
}
