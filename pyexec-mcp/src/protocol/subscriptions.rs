//! Tells clients that a job has printed more, or has ended.
//!
//! Clients of 2026-07-28 listen; those of the handshake versions subscribe. Both hear the same, from one watch per
//! resource that asks the daemon and waits for its answer: nothing is polled.

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

/// The least time between two notices about the same job: whoever reads at each has read most of it.
const INTERVAL: Duration = Duration::from_millis(200);

/// Whom to tell.
struct Listener {
    to: To,
    /// Of the request that began it.
    ticket: Option<Ticket>,
}

enum To {
    Sink(SubscriptionSink),
    Peer(Peer<RoleServer>),
}

impl Listener {
    /// `false` when nobody listens any more.
    async fn tell(&self, uri: &str) -> bool {
        match &self.to {
            To::Sink(sink) => sink.notify_resource_updated(uri).await.is_ok(),
            To::Peer(peer) => peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await.is_ok(),
        }
    }
}

impl Listener {
    /// A daemon that is newer than this server will not be understood later either: a newer server takes over.
    async fn hear_of(&self, session: &Session, error: &ClientError) {
        if let (Some(ticket), Some(daemon)) = (&self.ticket, newer_daemon(error))
            && let Err(why) = succession::begin(session, ticket, daemon.lowest).await
        {
            tracing::warn!("subscribers are not told of anything: the daemon is newer than this server, and {why}");
        }
    }
}

/// Until the client has heard enough, or has gone.
pub(crate) async fn listen(session: &Session, context: &SubscriptionContext) -> Result<(), ErrorData> {
    let uris = context.accepted().resource_subscriptions.clone().unwrap_or_default();
    let watches = async {
        if uris.is_empty() {
            return;
        }
        let ticket = context.request_context().extensions.get::<Ticket>();
        let listener = || Listener { to: To::Sink(context.sink().clone()), ticket: ticket.cloned() };
        let mut trouble = Trouble::default();
        let client = loop {
            match session.client().await {
                Ok(client) => break client,
                Err(error) => {
                    listener().hear_of(session, &error).await;
                    trouble.passes().await;
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
        // With nothing left to tell, the subscription goes on as it was agreed.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = end_of_input.cancelled() => {}
        () = context.cancelled() => {}
        () = all => {}
    }
    Ok(())
}

/// For a client of the handshake versions; the watch goes on until it is aborted.
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

/// How long a daemon is not asked again that could not be asked.
#[derive(Debug)]
struct Trouble(Duration);

impl Default for Trouble {
    fn default() -> Self {
        Self(Self::SHORTEST)
    }
}

impl Trouble {
    const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(30);

    /// Waits, longer each time.
    async fn passes(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Self::LONGEST);
    }
}

/// Tells of new output, and of the end, for as long as somebody listens. What was there before is told of too: it may have
/// come after the client had read, and before this began.
///
/// A daemon that cannot be asked is asked again later: whoever subscribes relies on being told. The last word is about the
/// job's end, or that there is no such job any more.
async fn watch(session: &Session, client: &Client, uri: &str, listener: &Listener) {
    let Some(given) = uri::job_in(uri) else { return };
    let mut told = None;
    let mut trouble = Trouble::default();
    loop {
        match tell_news(client, given, uri, listener, &mut told).await {
            Ok(()) => return,
            Err(ClientError::Refused(Error::NoSuchJob { .. } | Error::AmbiguousJob { .. })) => {
                // Of a job that never was there is nothing to tell.
                if told.is_some() {
                    listener.tell(uri).await;
                }
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "a subscription waits for a daemon");
                listener.hear_of(session, &error).await;
                trouble.passes().await;
            }
        }
    }
}

/// Returns when there is nothing more to tell, or nobody to be told.
async fn tell_news(
    client: &Client,
    given: &str,
    uri: &str,
    listener: &Listener,
    told: &mut Option<OutputLengths>,
) -> Result<(), ClientError> {
    let mut job = resources::find(client, given).await?;
    if !job.watching.notify_output {
        return Ok(());
    }
    loop {
        let is_finished = job.state.is_finished();
        let before = *told.get_or_insert_default();
        if job.output != before || is_finished {
            *told = Some(job.output);
            if !listener.tell(uri).await || is_finished {
                return Ok(());
            }
            tokio::time::sleep(INTERVAL).await;
        }
        job = Reader::at(job.id, job.output).news(client, MAX_WAIT_MS).await?;
    }
}
