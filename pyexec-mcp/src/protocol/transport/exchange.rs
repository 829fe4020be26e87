//! State shared by reading and writing: the pending requests, and what was negotiated with the client.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use pyexec_proto::JobId;
use rmcp::RoleServer;
use rmcp::model::{
    GetMeta, JsonRpcError, JsonRpcMessage, ProtocolVersion, RequestId, ServerNotification, ServerResult,
};
use rmcp::service::TxJsonRpcMessage;
use tokio::sync::{Notify, watch};

use super::message::Refusal;
use super::outbox::Outbox;
use super::taking_over::State;
use super::under_way::{Asked, BatchKey, Kind, UnderWay};
use crate::answer::shown::cut;

pub(super) struct Exchange {
    under_way: Mutex<UnderWay>,
    agreed: Mutex<Agreed>,
    /// Signalled when a request is answered or put off.
    pub(super) answered: Notify,
    pub(super) outbox: Outbox,
    /// The newer program to hand over to, once it is known.
    successor: watch::Sender<Option<Successor>>,
    /// As in [`State`]: the daemon's protocol that this program was executed for.
    executed_for: Option<u16>,
}

/// The negotiated state of the session, which a server that takes over needs.
#[derive(Clone, Debug, Default)]
struct Agreed {
    /// The protocol version from the handshake; `None` before it, and in sessions without one.
    version: Option<ProtocolVersion>,
    /// The line of the handshake; `None` if it was too long to keep.
    initialize: Option<Box<str>>,
    is_initialized: bool,
    subscribed: BTreeSet<String>,
}

/// The program that takes over, and the daemon's protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Successor {
    pub(crate) program: PathBuf,
    /// The lowest protocol of the daemon.
    pub(crate) daemon_protocol: u16,
}

impl Exchange {
    pub(super) fn over(outbox: Outbox, executed_for: Option<u16>) -> Self {
        Self {
            under_way: Mutex::default(),
            agreed: Mutex::default(),
            answered: Notify::new(),
            outbox,
            successor: watch::Sender::new(None),
            executed_for,
        }
    }

    pub(super) fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().expect("nobody panics while holding it")
    }

    fn agreed(&self) -> MutexGuard<'_, Agreed> {
        self.agreed.lock().expect("nobody panics while holding it")
    }

    /// The protocol version from the handshake.
    pub(super) fn version(&self) -> Option<ProtocolVersion> {
        self.agreed().version.clone()
    }

    /// Records that `notifications/initialized` has arrived.
    pub(super) fn initialized(&self) {
        self.agreed().is_initialized = true;
    }

    /// Waits until a newer program is to take over.
    pub(super) async fn successor(&self) -> Successor {
        let mut successor = self.successor.subscribe();
        match successor.wait_for(Option::is_some).await.map(|successor| successor.clone()) {
            Ok(Some(successor)) => successor,
            // The sender is a field of `self`, so it cannot be dropped.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// The takeover failed: answers the requests that were put off with the reason.
    pub(super) fn refuse_put_off(&self, why: &str) {
        self.successor.send_replace(None);
        let put_off = self.under_way().numbers_put_off();
        for number in put_off {
            let Some(asked) = self.under_way().end(number) else { continue };
            let problem =
                format!("the request was not carried out, because this server is older than the daemon, and {why}");
            self.refuse(&Refusal::of(&asked.id, rmcp::ErrorData::internal_error(problem, None)), asked.batch);
        }
    }

    /// The state for a server that takes over, without the unread input.
    ///
    /// # Errors
    ///
    /// The reason why the state is incomplete.
    pub(super) fn state(&self, daemon_protocol: u16) -> Result<State, &'static str> {
        let agreed = self.agreed().clone();
        let under_way = self.under_way();
        if agreed.version.is_some() && agreed.initialize.is_none() {
            return Err("the handshake of this session is too long to be handed over");
        }
        Ok(State {
            initialize: agreed.initialize.map(Into::into),
            is_initialized: agreed.is_initialized,
            subscribed: agreed.subscribed.into_iter().collect(),
            listens: under_way.listens().ok_or("a subscription of this session is too long to be handed over")?,
            requests: under_way.all_put_off(),
            daemon_protocol,
            unread: vec![],
        })
    }

    /// Writes a message of rmcp under the client's `id`. A notification for which there is no room is returned.
    pub(super) fn send(&self, message: TxJsonRpcMessage<RoleServer>) -> Option<Vec<u8>> {
        match message {
            JsonRpcMessage::Response(mut response) => {
                let RequestId::Number(number) = response.id else { return None };
                let asked = self.end(number)?;
                self.note(&asked, &response.result);
                if asked.is_answered_already && asked.kind != Kind::Listen {
                    self.answered.notify_one();
                    return None;
                }
                if let ServerResult::SubscriptionsListenResult(result) = &mut response.result {
                    result.meta.set_subscription_id(asked.id.clone());
                }
                response.id = asked.id;
                self.answer(json(&response), asked.batch);
            }
            JsonRpcMessage::Error(JsonRpcError { id, error, .. }) => match id {
                Some(RequestId::Number(number)) => {
                    let asked = self.end(number)?;
                    if asked.is_answered_already && asked.kind != Kind::Listen {
                        tracing::warn!("the session state of an older server was rejected: {}", error.message);
                        self.answered.notify_one();
                        return None;
                    }
                    self.refuse(&Refusal::of(&asked.id, error), asked.batch);
                }
                Some(RequestId::String(_)) | None => self.refuse(&Refusal { id: None, error }, None),
            },
            JsonRpcMessage::Notification(mut notification) => {
                if let Some(subscription) = notification.notification.get_meta().subscription_id() {
                    let RequestId::Number(number) = subscription else { return None };
                    let (id, is_answered_already) =
                        self.under_way().get(number).map(|asked| (asked.id.clone(), asked.is_answered_already))?;
                    let is_acknowledgment = matches!(
                        notification.notification,
                        ServerNotification::SubscriptionsAcknowledgedNotification(_)
                    );
                    if is_acknowledgment && is_answered_already {
                        return None;
                    }
                    notification.notification.get_meta_mut().set_subscription_id(id);
                }
                let is_progress = matches!(notification.notification, ServerNotification::ProgressNotification(_));
                match self.outbox.has_room_for_notifications() {
                    true => self.outbox.push(json(&notification)),
                    false if is_progress => {}
                    false => return Some(json(&notification)),
                }
            }
            // This server sends no requests.
            JsonRpcMessage::Request(_) => {}
        }
        None
    }

    /// Removes a request that is now answered; `None` if it was cancelled, or put off for a newer server.
    fn end(&self, number: i64) -> Option<Asked> {
        let mut under_way = self.under_way();
        if under_way.is_put_off(number) { None } else { under_way.end(number) }
    }

    /// Records the parts of an answer that later messages depend on.
    fn note(&self, asked: &Asked, result: &ServerResult) {
        let mut agreed = self.agreed();
        match &asked.kind {
            Kind::Initialize => {
                if let ServerResult::InitializeResult(result) = result {
                    agreed.version = Some(result.protocol_version.clone());
                    agreed.initialize.clone_from(&asked.line);
                }
            }
            Kind::Subscribe(uri) => {
                agreed.subscribed.insert(uri.clone());
            }
            Kind::Unsubscribe(uri) => {
                agreed.subscribed.remove(uri);
            }
            Kind::Listen | Kind::Other => {}
        }
    }

    fn answer(&self, line: Vec<u8>, batch: Option<BatchKey>) {
        match batch {
            None => self.outbox.push(line),
            Some(key) => {
                self.under_way().keep(key, line);
                self.close_one(key);
            }
        }
        self.answered.notify_one();
    }

    pub(super) fn close_one(&self, key: BatchKey) {
        let array = self.under_way().close_one(key);
        if let Some(array) = array {
            self.outbox.push(array);
        }
    }

    /// Answers a request of rmcp with an error.
    fn refuse(&self, refusal: &Refusal, batch: Option<BatchKey>) {
        log(refusal);
        self.answer(refusal.line(), batch);
    }

    /// Answers a line that did not become a request.
    pub(super) fn refuse_unread(&self, refusal: &Refusal, batch: Option<BatchKey>) {
        log(refusal);
        match batch {
            None => self.outbox.push(refusal.line()),
            Some(key) => self.under_way().keep(key, refusal.line()),
        }
    }
}

/// A pending request, for its handler.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub(super) number: i64,
    pub(super) exchange: Arc<Exchange>,
    /// The job that an older server has started for this request.
    pub(super) job: Option<JobId>,
}

impl Ticket {
    /// The job that was already started for this request; the handler waits for it instead of starting another.
    pub(crate) fn job(&self) -> Option<JobId> {
        self.job
    }

    /// The daemon's protocol for which an older server executed this program.
    pub(crate) fn executed_for(&self) -> Option<u16> {
        self.exchange.executed_for
    }

    /// Hands over to a newer program as soon as all pending requests are answered.
    pub(crate) fn hand_over_to(&self, successor: Successor) {
        self.exchange.successor.send_replace(Some(successor));
    }

    /// Leaves the answer to the program that takes over; `job` is the job this request has started. `false` if it has
    /// to be answered here.
    pub(crate) fn put_off(&self, job: Option<JobId>) -> bool {
        let put_off = self.exchange.under_way().put_off(self.number, job);
        self.exchange.answered.notify_one();
        put_off
    }
}

fn log(refusal: &Refusal) {
    let id = refusal.id.as_deref().map_or("without a readable id".to_owned(), |id| format!("with the id {}", cut(id)));
    let (code, message) = (refusal.error.code.0, &refusal.error.message);
    tracing::warn!("a request {id} was answered with the error {code}: {message}");
}

fn json(message: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("a message has text for keys")
}
