//! The protocol's stream between the client and rmcp.
//!
//! A task reads stdin line by line and decides what each line is ([`message`]). Requests that are right go to rmcp; what is
//! refused is answered here, so that every request with an `id` that can be seen gets exactly one answer with that `id`
//! (unless it is cancelled). Answers go to [`outbox`], whose task writes them. rmcp's own transport answers less than that,
//! and has no bounds.
//!
//! What a client can make this server keep is bounded. A line has at most 128 MiB ([`lines`]). At most [`MOST_UNDER_WAY`]
//! requests are under way, and at most as many together as have 256 MiB of lines. Once 32 MiB of answers wait to be read by
//! the client, only those under way can add theirs. Beyond these bounds stdin is left unread, in the kernel's pipe,
//! until there is room again; its end is noticed all the same.

mod lines;
mod message;
mod methods;
mod outbox;
mod stdio;
mod under_way;
mod visible_id;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{
    ClientNotification, ClientRequest, GetExtensions, GetMeta, JsonRpcError, JsonRpcMessage, ProtocolVersion,
    RequestId, ServerNotification, ServerResult,
};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use serde_json::Value;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::answer::shown::cut;
use lines::{Line, Lines};
use message::{Message, Parsed, Refusal};
pub(crate) use outbox::Outbox;
use stdio::{Hangup, Input};
pub(crate) use stdio::{Stdio, take};
use under_way::{BatchKey, UnderWay};

/// How many requests are worked on at once.
const MOST_UNDER_WAY: u32 = 1 << 10;

/// A request counts once more for each of so many bytes.
const BYTES_THAT_COUNT: usize = 256 << 10;

/// How long what a client sent before it closed stdin may wait to be read. Much of it is there at once when requests come
/// through a shell's pipe.
const LAST_READING: Duration = Duration::from_millis(10);

/// What rmcp reads from and writes to.
pub(crate) struct Connection {
    received: mpsc::Receiver<RxJsonRpcMessage<RoleServer>>,
    session: Arc<Session>,
    end_of_input: CancellationToken,
}

/// What reading and writing share.
struct Session {
    under_way: Mutex<UnderWay>,
    /// What the handshake has agreed on; none before it, and in sessions without one.
    version: Mutex<Option<ProtocolVersion>>,
    /// An answer has been given.
    answered: Notify,
    outbox: Outbox,
}

impl Connection {
    /// Starts to read. `end_of_input` is cancelled once stdin has ended.
    pub(crate) fn over(stdio: Stdio, end_of_input: CancellationToken) -> Self {
        let Stdio { input, output, hangup } = stdio;
        let session = Arc::new(Session {
            under_way: Mutex::default(),
            version: Mutex::default(),
            answered: Notify::new(),
            outbox: Outbox::over(output),
        });
        let (deliver, received) = mpsc::channel(1);
        let reader = Reader {
            deliver,
            session: session.clone(),
            room: Arc::new(Semaphore::new(MOST_UNDER_WAY as usize)),
            is_open: false,
            last_reading: None,
        };
        let end = end_of_input.clone();
        tokio::spawn(async move {
            let Stopped::HangUp = reader.read(input, &hangup).await else { return };
            // What is still unread is of no use to anybody.
            end.cancel();
        });
        Self { received, session, end_of_input }
    }

    pub(crate) fn outbox(&self) -> Outbox {
        self.session.outbox.clone()
    }
}

impl Transport<RoleServer> for Connection {
    type Error = Infallible;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), Infallible>> + Send + 'static {
        let delayed = self.session.send(message);
        let outbox = self.session.outbox.clone();
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
        self.session.outbox.written().await;
        Ok(())
    }
}

impl Session {
    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().expect("nobody panics while holding it")
    }

    /// Writes a message of rmcp's, under the client's `id`. A notification for which there is no room is returned.
    fn send(&self, message: TxJsonRpcMessage<RoleServer>) -> Option<Vec<u8>> {
        match message {
            JsonRpcMessage::Response(mut response) => {
                let RequestId::Number(number) = response.id else { return None };
                let asked = self.under_way().end(number)?;
                if let ServerResult::SubscriptionsListenResult(result) = &mut response.result {
                    result.meta.set_subscription_id(asked.id.clone());
                }
                if let ServerResult::InitializeResult(result) = &response.result {
                    let agreed = result.protocol_version.clone();
                    *self.version.lock().expect("nobody panics while holding it") = Some(agreed);
                }
                response.id = asked.id;
                self.answer(json(&response), asked.batch);
            }
            JsonRpcMessage::Error(JsonRpcError { id, error, .. }) => match id {
                Some(RequestId::Number(number)) => {
                    let asked = self.under_way().end(number)?;
                    self.refuse(&Refusal::of(&asked.id, error), asked.batch);
                }
                Some(RequestId::String(_)) | None => self.refuse(&Refusal { id: None, error }, None),
            },
            JsonRpcMessage::Notification(mut notification) => {
                if let Some(subscription) = notification.notification.get_meta().subscription_id() {
                    let RequestId::Number(number) = subscription else { return None };
                    let id = self.under_way().id(number)?.clone();
                    notification.notification.get_meta_mut().set_subscription_id(id);
                }
                let is_progress = matches!(notification.notification, ServerNotification::ProgressNotification(_));
                match self.outbox.has_room_for_notifications() {
                    true => self.outbox.push(json(&notification)),
                    false if is_progress => {}
                    false => return Some(json(&notification)),
                }
            }
            // This server asks nothing.
            JsonRpcMessage::Request(_) => {}
        }
        None
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

    fn close_one(&self, key: BatchKey) {
        let array = self.under_way().close_one(key);
        if let Some(array) = array {
            self.outbox.push(array);
        }
    }

    /// Answers a request of rmcp's with an error.
    fn refuse(&self, refusal: &Refusal, batch: Option<BatchKey>) {
        log(refusal);
        self.answer(refusal.line(), batch);
    }

    /// Answers what has not become a request.
    fn refuse_unread(&self, refusal: &Refusal, batch: Option<BatchKey>) {
        log(refusal);
        match batch {
            None => self.outbox.push(refusal.line()),
            Some(key) => self.under_way().keep(key, refusal.line()),
        }
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

/// Why nothing more is read.
#[derive(Debug, PartialEq, Eq)]
enum Stopped {
    /// All of stdin has been read, and passed on.
    AtTheEnd,
    /// The client has closed stdin while it was left unread.
    HangUp,
}

struct Reader {
    deliver: mpsc::Sender<RxJsonRpcMessage<RoleServer>>,
    session: Arc<Session>,
    room: Arc<Semaphore>,
    /// A request has come that rmcp takes for the first of a session.
    is_open: bool,
    /// Once the client has closed stdin, until when it is read although something else has to be waited for.
    last_reading: Option<Instant>,
}

impl Reader {
    async fn read(mut self, input: Input, hangup: &Hangup) -> Stopped {
        let mut lines = Lines::of(input);
        loop {
            let line = match lines.next().await {
                Ok(line) => line,
                Err(error) => {
                    tracing::error!("could not read stdin: {error}");
                    Line::End
                }
            };
            let mut last_reading = self.last_reading;
            let too_late = async {
                hangup.come().await;
                let until = *last_reading.get_or_insert_with(|| Instant::now() + LAST_READING);
                tokio::time::sleep_until(until).await;
            };
            tokio::select! {
                biased;
                taken = self.line(line) => if let Err(stopped) = taken {
                    return stopped;
                },
                () = too_late => return Stopped::HangUp,
            }
            self.last_reading = last_reading;
        }
    }

    /// Returns when the next line may be read.
    async fn line(&mut self, line: Line) -> Result<(), Stopped> {
        match line {
            Line::Whole(line) => self.take(&line).await?,
            Line::TooLong(id) => self.session.refuse_unread(&Refusal::too_long(id), None),
            Line::End => return Err(Stopped::AtTheEnd),
        }
        self.session.outbox.room().await;
        Ok(())
    }

    async fn take(&mut self, line: &[u8]) -> Result<(), Stopped> {
        match message::parse(line) {
            Parsed::One(message) => self.message(message, line.len(), None).await,
            Parsed::Unreadable(refusals) => {
                // The line may be a torn one.
                refusals.iter().for_each(|refusal| self.refuse_unless_under_way(refusal));
                Ok(())
            }
            Parsed::Batch(members) => self.batch(members, line.len()).await,
        }
    }

    /// Whoever is answered for good reasons is not answered for bad ones.
    fn refuse_unless_under_way(&self, refusal: &Refusal) {
        let is_answered_anyway = refusal.id.as_deref().is_some_and(|id| {
            serde_json::from_str(id).is_ok_and(|id: RequestId| self.session.under_way().is_used(&id))
        });
        if !is_answered_anyway {
            self.session.refuse_unread(refusal, None);
        }
    }

    /// 2025-03-26 wants batches to be taken, and 2024-11-05 wants what JSON-RPC is, which has them. 2025-06-18 has dropped
    /// them.
    async fn batch(&mut self, members: Vec<Value>, bytes: usize) -> Result<(), Stopped> {
        let version = self.session.version.lock().expect("nobody panics while holding it").clone();
        let problem = match version {
            None => Some("a batch is taken only after the handshake: send each message on a line of its own"),
            Some(version) if version.as_str() > ProtocolVersion::V_2025_03_26.as_str() => {
                Some("this version of the protocol has no batches: send each message on a line of its own")
            }
            Some(_) if members.len() > MOST_UNDER_WAY as usize => {
                Some("the batch has more than 1024 messages: send several smaller ones")
            }
            Some(_) => None,
        };
        if let Some(problem) = problem {
            self.session.refuse_unread(&Refusal::batch(problem), None);
            // Whoever waits for one of them waits for its `id`.
            for member in members.into_iter().take(MOST_UNDER_WAY as usize) {
                if let Some(refusal) = message::refused_member(member, problem) {
                    self.refuse_unless_under_way(&refusal);
                }
            }
            return Ok(());
        }
        let key = self.session.under_way().open_batch();
        let each = bytes / members.len();
        for member in members {
            self.message(message::member(member), each, Some(key)).await?;
        }
        self.session.close_one(key);
        Ok(())
    }

    async fn message(&mut self, message: Message, bytes: usize, batch: Option<BatchKey>) -> Result<(), Stopped> {
        match message {
            Message::Request(id, request) => self.request(id, *request, bytes, batch).await,
            Message::Notification(notification) => self.notification(notification).await,
            Message::Nothing => Ok(()),
            Message::Refused(refusal) => {
                self.session.refuse_unread(&refusal, batch);
                Ok(())
            }
        }
    }

    async fn request(
        &mut self,
        id: RequestId,
        mut request: ClientRequest,
        bytes: usize,
        batch: Option<BatchKey>,
    ) -> Result<(), Stopped> {
        let is_handshake = matches!(request, ClientRequest::InitializeRequest(_));
        if is_handshake && batch.is_some() {
            let error = rmcp::ErrorData::invalid_request("`initialize` must not be part of a batch", None);
            self.session.refuse_unread(&Refusal::of(&id, error), batch);
            return Ok(());
        }
        let begun = self.session.under_way().begin(&id, batch);
        let Some(number) = begun else {
            self.session.refuse_unread(&Refusal::id_in_use(&id), batch);
            return Ok(());
        };
        // Its place is free again once whoever answers it has dropped the request's context.
        let weight = u32::try_from(1 + bytes / BYTES_THAT_COUNT).unwrap_or(u32::MAX).min(MOST_UNDER_WAY);
        let room = self.room.clone().acquire_many_owned(weight).await.expect("it is never closed");
        request.extensions_mut().insert(Arc::new(room));
        self.is_open = self.is_open || opens(&request);
        self.deliver(JsonRpcMessage::request(request, RequestId::Number(number))).await?;
        // What comes behind the handshake depends on the version that it agrees on.
        while is_handshake && self.session.under_way().is_open(number) {
            self.session.answered.notified().await;
        }
        Ok(())
    }

    async fn notification(&mut self, mut notification: ClientNotification) -> Result<(), Stopped> {
        if let ClientNotification::CancelledNotification(cancelled) = &mut notification {
            let Some(id) = &cancelled.params.request_id else { return Ok(()) };
            let forgotten = self.session.under_way().cancel(id);
            let Some((number, array)) = forgotten else { return Ok(()) };
            if let Some(array) = array {
                self.session.outbox.push(array);
            }
            cancelled.params.request_id = Some(RequestId::Number(number));
        }
        // rmcp leaves when the first thing it hears is a notification.
        if self.is_open { self.deliver(JsonRpcMessage::notification(notification)).await } else { Ok(()) }
    }

    async fn deliver(&self, message: RxJsonRpcMessage<RoleServer>) -> Result<(), Stopped> {
        self.deliver.send(message).await.map_err(|_| Stopped::AtTheEnd)
    }
}

/// Whether rmcp regards the connection as set up from this request on.
fn opens(request: &ClientRequest) -> bool {
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other request opens it if it carries what one needs")]
    match request {
        ClientRequest::InitializeRequest(_) => true,
        ClientRequest::DiscoverRequest(_) | ClientRequest::PingRequest(_) => false,
        other => {
            let meta = other.get_meta();
            let is_known = |version| ProtocolVersion::KNOWN_VERSIONS.contains(&version);
            meta.missing_required_keys(&ProtocolVersion::V_2026_07_28).is_empty()
                && meta.protocol_version().is_some_and(is_known)
        }
    }
}
