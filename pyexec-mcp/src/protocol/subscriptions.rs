//! Notifications to clients that a job has new output or has ended.
//!
//! Clients of 2026-07-28 send `subscriptions/listen`, clients of the handshake versions `resources/subscribe`. Both get
//! the same notifications, from one watch per resource. The watch waits for the daemon's answer instead of polling.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use pyexec_client::reading::Reader;
use pyexec_client::{Client, ClientError};
use pyexec_proto::error::Error;
use pyexec_proto::output::OutputLengths;
use pyexec_proto::request::MAX_WAIT_MS;
use rmcp::model::ResourceUpdatedNotificationParam;
use rmcp::service::{Peer, SubscriptionContext, SubscriptionSink};
use rmcp::{ErrorData, RoleServer};
use tokio::task::AbortHandle;

use super::succession;
use super::transport::Ticket;
use crate::answer::{newer_daemon, refusal};
use crate::session::Session;
use crate::{resources, uri};

/// The shortest time between two notifications about the same job, so that a client that reads on each one does not
/// read too often.
const INTERVAL: Duration = Duration::from_millis(200);

/// The recipient of notifications.
struct Listener {
    to: To,
    /// The ticket of the request that created the subscription.
    ticket: Option<Ticket>,
}

enum To {
    Sink(SubscriptionSink),
    Peer(Peer<RoleServer>),
}

impl Listener {
    /// Notifies the client; `false` if it no longer listens.
    async fn notify(&self, uri: &str) -> bool {
        match &self.to {
            To::Sink(sink) => sink.notify_resource_updated(uri).await.is_ok(),
            To::Peer(peer) => peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await.is_ok(),
        }
    }
}

impl Listener {
    /// If the daemon is newer than this server, retrying cannot help: makes a newer server take over.
    async fn handle_error(&self, session: &Session, error: &ClientError) {
        if let (Some(ticket), Some(daemon)) = (&self.ticket, newer_daemon(error))
            && let Err(why) = succession::begin(session, ticket, daemon.lowest).await
        {
            tracing::warn!("subscribers get no notifications: the daemon is newer than this server, and {why}");
        }
    }
}

/// Serves a subscription until the client cancels it or disconnects.
pub(crate) async fn listen(session: &Session, context: &SubscriptionContext) -> Result<(), ErrorData> {
    let uris = context.accepted().resource_subscriptions.clone().unwrap_or_default();
    let watches = async {
        if uris.is_empty() {
            return;
        }
        let ticket = context.request_context().extensions.get::<Ticket>();
        let listener = || Listener { to: To::Sink(context.sink().clone()), ticket: ticket.cloned() };
        let mut backoff = Backoff::default();
        let client = loop {
            match session.client().await {
                Ok(client) => break client,
                Err(error) => {
                    listener().handle_error(session, &error).await;
                    backoff.wait().await;
                }
            }
        };
        let watch = |uri: String| {
            let (client, listener) = (client.clone(), listener());
            async move { watch(session, &client, &uri, &listener).await }
        };
        join_all(uris.into_iter().map(watch)).await;
    };
    let end_of_input = session.end_of_input();
    let all = async {
        watches.await;
        // The subscription stays open, as agreed, although there is nothing more to send.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = end_of_input.cancelled() => {}
        () = context.cancelled() => {}
        () = all => {}
    }
    Ok(())
}

/// Subscribes a client of the handshake versions; the watch runs until it is aborted.
pub(crate) async fn subscribe(
    session: &Session,
    uri: String,
    peer: Peer<RoleServer>,
    ticket: Option<Ticket>,
) -> Result<AbortHandle, ErrorData> {
    let Some(given) = uri::job_in(&uri) else { return Err(refusal::unknown_resource(&uri)) };
    let client: Arc<Client> = session.client().await.map_err(refusal::internal)?;
    client.resolve(given).await.map_err(|error| refusal::explained(error, &uri))?;
    let session = session.clone();
    let listener = Listener { to: To::Peer(peer), ticket };
    let task = tokio::spawn(async move { watch(&session, &client, &uri, &listener).await });
    Ok(task.abort_handle())
}

/// The delay before the next attempt to reach the daemon.
#[derive(Debug)]
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Self::SHORTEST)
    }
}

impl Backoff {
    const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(30);

    /// Waits, each time longer than before.
    async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}

/// Notifies of new output and of the end for as long as the client listens. It also notifies of existing output, which
/// may have arrived after the client's last read and before the subscription.
///
/// If the daemon cannot be reached, the watch retries, because the subscriber relies on notifications. The last
/// notification is about the job's end or removal.
async fn watch(session: &Session, client: &Client, uri: &str, listener: &Listener) {
    let Some(given) = uri::job_in(uri) else { return };
    let mut notified = None;
    let mut backoff = Backoff::default();
    loop {
        match notify_changes(client, given, uri, listener, &mut notified).await {
            Ok(()) => return,
            Err(ClientError::Refused(Error::NoSuchJob { .. } | Error::AmbiguousJob { .. })) => {
                // A job that never existed needs no notification.
                if notified.is_some() {
                    listener.notify(uri).await;
                }
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "a subscription waits for a daemon");
                listener.handle_error(session, &error).await;
                backoff.wait().await;
            }
        }
    }
}

/// Returns when there is nothing more to notify of, or the client no longer listens.
async fn notify_changes(
    client: &Client,
    given: &str,
    uri: &str,
    listener: &Listener,
    notified: &mut Option<OutputLengths>,
) -> Result<(), ClientError> {
    let mut job = resources::find(client, given).await?;
    if !job.watching.notify_output {
        return Ok(());
    }
    loop {
        let is_finished = job.state.is_finished();
        let before = *notified.get_or_insert_default();
        if job.output != before || is_finished {
            *notified = Some(job.output);
            if !listener.notify(uri).await || is_finished {
                return Ok(());
            }
            tokio::time::sleep(INTERVAL).await;
        }
        job = Reader::at(job.id, job.output).news(client, MAX_WAIT_MS).await?;
    }
}
