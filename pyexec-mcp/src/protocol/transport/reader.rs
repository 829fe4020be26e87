//! Reads stdin line by line, parses each line, and passes requests to rmcp.

use std::sync::Arc;
use std::time::Duration;

use pyexec_proto::JobId;
use rmcp::RoleServer;
use rmcp::model::{
    ClientNotification, ClientRequest, GetExtensions, GetMeta, JsonRpcMessage, ProtocolVersion, RequestId,
};
use rmcp::service::RxJsonRpcMessage;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::exchange::{Exchange, Successor, Ticket};
use super::lines::{Line, Lines};
use super::message::{self, Message, Parsed, Refusal};
use super::stdio::{Hangup, Input, Originals};
use super::taking_over::{self, State};
use super::under_way::{Asked, BatchKey, Kind};

/// The largest number of pending requests.
const MOST_UNDER_WAY: u32 = 1 << 10;

/// A request counts once more for each of so many bytes. The line of a shorter request is kept until it is answered.
const BYTES_THAT_COUNT: usize = 256 << 10;

/// How long input may still be read that the client sent before it closed stdin. With a shell's pipe, much of it
/// arrives at once.
const LAST_READING: Duration = Duration::from_millis(10);

/// How long a takeover waits for pending requests. Most of them end at once, because the older daemon is gone.
const BEFORE_HANDOVER: Duration = Duration::from_secs(30);

/// Why reading ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// All of stdin was read and passed on.
    AtTheEnd,
    /// The client closed stdin while input was left unread.
    HangUp,
}

/// Why the takeover did not happen.
enum Refused {
    WithReason(String),
    /// A line is being skipped, and has to end first.
    Later,
}

pub(super) struct Reader {
    deliver: mpsc::Sender<RxJsonRpcMessage<RoleServer>>,
    exchange: Arc<Exchange>,
    room: Arc<Semaphore>,
    /// A request has arrived that opens the session for rmcp.
    is_open: bool,
    /// After the client closed stdin: how long it may still be read while the reader has to wait.
    last_reading: Option<Instant>,
}

/// The origin of a message.
#[derive(Clone, Copy, Debug, Default)]
struct Origin<'a> {
    /// The length of its line.
    bytes: usize,
    batch: Option<BatchKey>,
    /// Its line, unless it is part of a batch.
    line: Option<&'a [u8]>,
    /// An older server has already answered the client.
    is_answered_already: bool,
    /// The job that an older server has started for it.
    job: Option<JobId>,
}

impl Reader {
    pub(super) fn new(deliver: mpsc::Sender<RxJsonRpcMessage<RoleServer>>, exchange: Arc<Exchange>) -> Self {
        let room = Arc::new(Semaphore::new(MOST_UNDER_WAY as usize));
        Self { deliver, exchange, room, is_open: false, last_reading: None }
    }

    /// Reads to the end, beginning with the state that an older server has left.
    pub(super) async fn read(mut self, left: State, input: Input, hangup: &Hangup, originals: &Originals) -> Stopped {
        let unread = match self.take_over(left).await {
            Ok(unread) => unread,
            Err(stopped) => return stopped,
        };
        let mut lines = Lines::of(unread, input);
        loop {
            let line = tokio::select! {
                biased;
                successor = self.exchange.successor() => {
                    match self.hand_over(&successor, lines.unread(), hangup, originals).await {
                        Refused::WithReason(why) => self.exchange.refuse_put_off(&why),
                        Refused::Later => {
                            // The rest of a skipped line.
                            let line = lines.next().await.unwrap_or(Line::End);
                            if let Err(stopped) = self.line(line).await {
                                return stopped;
                            }
                        }
                    }
                    continue;
                }
                line = lines.next() => line,
            };
            let line = line.unwrap_or_else(|error| {
                tracing::error!("could not read stdin: {error}");
                Line::End
            });
            let mut last_reading = self.last_reading;
            let too_late = async {
                hangup.wait().await;
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

    /// Restores the session of an older server in rmcp, and repeats the requests that it has put off. Returns the
    /// unread input.
    async fn take_over(&mut self, left: State) -> Result<Vec<u8>, Stopped> {
        let answered = |line: &str| (line.to_owned(), Origin { is_answered_already: true, ..Origin::default() });
        let initialized = left.is_initialized.then(|| json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        let subscribe = |uri: &String| {
            // No client uses such an id, and it is released at once.
            let id = format!("handover of {uri}");
            json!({"jsonrpc": "2.0", "id": id, "method": "resources/subscribe", "params": {"uri": uri}})
        };
        let agreed = left.initialize.iter().map(|line| answered(line));
        let agreed = agreed.chain(initialized.iter().map(|line| answered(&line.to_string())));
        let agreed = agreed.chain(left.subscribed.iter().map(subscribe).map(|line| answered(&line.to_string())));
        let agreed = agreed.chain(left.listens.iter().map(|line| answered(line)));
        let requests = left
            .requests
            .iter()
            .map(|put_off| (put_off.line.clone(), Origin { job: put_off.job, ..Origin::default() }));
        for (line, origin) in agreed.chain(requests) {
            self.take(line.as_bytes(), origin).await?;
        }
        Ok(left.unread)
    }

    /// Executes a newer program in place of this one, once all pending requests are answered or put off. Returns only
    /// on failure.
    async fn hand_over(
        &self,
        successor: &Successor,
        unread: Option<Vec<u8>>,
        hangup: &Hangup,
        originals: &Originals,
    ) -> Refused {
        if originals.is_read_by_thread {
            let why = "stdin is not a pipe or socket that a newer one could take over: restart it".to_owned();
            return Refused::WithReason(why);
        }
        let Some(unread) = unread else { return Refused::Later };
        let at_rest = async {
            while self.exchange.under_way().is_busy() {
                self.exchange.answered.notified().await;
            }
            self.exchange.outbox.written().await;
        };
        tokio::select! {
            biased;
            () = at_rest => {}
            () = hangup.wait() => return Refused::WithReason("the client has closed stdin".to_owned()),
            () = tokio::time::sleep(BEFORE_HANDOVER) => {
                return Refused::WithReason("other requests take too long for a newer one to take over: try again".to_owned());
            }
        }
        let state = match self.exchange.state(successor.daemon_protocol) {
            Ok(state) => State { unread, ..state },
            Err(why) => return Refused::WithReason(format!("{why}: restart it")),
        };
        let program = successor.program.display();
        tracing::warn!("the daemon is newer than this server: {program} takes over");
        crate::log::finish();
        let error = taking_over::execute(&successor.program, &originals.stdin, &originals.stdout, &state);
        Refused::WithReason(format!("{program} cannot be executed: {error}; install it again, or restart this server"))
    }

    /// Handles a line. Returns when the next one may be read.
    async fn line(&mut self, line: Line) -> Result<(), Stopped> {
        match line {
            Line::Whole(line) => self.take(&line, Origin::default()).await?,
            Line::TooLong(id) => self.exchange.refuse_unread(&Refusal::too_long(id), None),
            Line::End => return Err(Stopped::AtTheEnd),
        }
        self.exchange.outbox.room().await;
        Ok(())
    }

    async fn take(&mut self, line: &[u8], origin: Origin<'_>) -> Result<(), Stopped> {
        match message::parse(line) {
            Parsed::One(message) => {
                self.message(message, Origin { bytes: line.len(), line: Some(line), ..origin }).await
            }
            Parsed::Unreadable(refusals) => {
                // The line may be truncated.
                refusals.iter().for_each(|refusal| self.refuse_unless_under_way(refusal));
                Ok(())
            }
            Parsed::Batch(members) => self.batch(members, line.len()).await,
        }
    }

    /// A request that is pending gets its regular answer, not this refusal.
    fn refuse_unless_under_way(&self, refusal: &Refusal) {
        let is_answered_anyway = refusal.id.as_deref().is_some_and(|id| {
            serde_json::from_str(id).is_ok_and(|id: RequestId| self.exchange.under_way().is_used(&id))
        });
        if !is_answered_anyway {
            self.exchange.refuse_unread(refusal, None);
        }
    }

    /// 2025-03-26 requires batches, and 2024-11-05 requires JSON-RPC, which has them. 2025-06-18 removed them.
    async fn batch(&mut self, members: Vec<Value>, bytes: usize) -> Result<(), Stopped> {
        let version = self.exchange.version();
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
            self.exchange.refuse_unread(&Refusal::batch(problem), None);
            // A client that waits for a member waits for its `id`.
            for member in members.into_iter().take(MOST_UNDER_WAY as usize) {
                if let Some(refusal) = message::refused_member(member, problem) {
                    self.refuse_unless_under_way(&refusal);
                }
            }
            return Ok(());
        }
        let key = self.exchange.under_way().open_batch();
        let each = bytes / members.len();
        for member in members {
            self.message(message::member(member), Origin { bytes: each, batch: Some(key), ..Origin::default() })
                .await?;
        }
        self.exchange.close_one(key);
        Ok(())
    }

    async fn message(&mut self, message: Message, origin: Origin<'_>) -> Result<(), Stopped> {
        match message {
            Message::Request(id, request) => self.request(id, *request, origin).await,
            Message::Notification(notification) => self.notification(notification).await,
            Message::Nothing => Ok(()),
            Message::Refused(refusal) => {
                self.exchange.refuse_unread(&refusal, origin.batch);
                Ok(())
            }
        }
    }

    async fn request(&mut self, id: RequestId, mut request: ClientRequest, origin: Origin<'_>) -> Result<(), Stopped> {
        let Origin { bytes, batch, line, is_answered_already, job } = origin;
        let is_handshake = matches!(request, ClientRequest::InitializeRequest(_));
        if is_handshake && batch.is_some() {
            let error = rmcp::ErrorData::invalid_request("`initialize` must not be part of a batch", None);
            self.exchange.refuse_unread(&Refusal::of(&id, error), batch);
            return Ok(());
        }
        let kept = line.filter(|line| line.len() <= BYTES_THAT_COUNT).and_then(|line| std::str::from_utf8(line).ok());
        let line = kept.map(Into::into);
        let kind = Kind::of(&request);
        let asked = Asked { batch, line, is_answered_already, ..Asked::new(id.clone(), kind.clone()) };
        let begun = self.exchange.under_way().begin(asked);
        let Some(number) = begun else {
            self.exchange.refuse_unread(&Refusal::id_in_use(&id), batch);
            return Ok(());
        };
        // The permit is released once the handler has dropped the request's context.
        let weight = u32::try_from(1 + bytes / BYTES_THAT_COUNT).unwrap_or(u32::MAX).min(MOST_UNDER_WAY);
        let room = self.room.clone().acquire_many_owned(weight).await.expect("it is never closed");
        request.extensions_mut().insert(Arc::new(room));
        request.extensions_mut().insert(Ticket { number, exchange: self.exchange.clone(), job });
        self.is_open = self.is_open || opens(&request);
        self.deliver(JsonRpcMessage::request(request, RequestId::Number(number))).await?;
        // The messages after the handshake depend on the negotiated version, and subscriptions of an older server keep
        // their own ids only until answered.
        let is_waited_for = is_handshake || (is_answered_already && kind != Kind::Listen);
        while is_waited_for && self.exchange.under_way().is_open(number) {
            self.exchange.answered.notified().await;
        }
        Ok(())
    }

    async fn notification(&mut self, mut notification: ClientNotification) -> Result<(), Stopped> {
        if matches!(notification, ClientNotification::InitializedNotification(_)) {
            self.exchange.initialized();
        }
        if let ClientNotification::CancelledNotification(cancelled) = &mut notification {
            let Some(id) = &cancelled.params.request_id else { return Ok(()) };
            let forgotten = self.exchange.under_way().cancel(id);
            let Some((number, array)) = forgotten else { return Ok(()) };
            if let Some(array) = array {
                self.exchange.outbox.push(array);
            }
            cancelled.params.request_id = Some(RequestId::Number(number));
        }
        // rmcp ends the session if its first message is a notification.
        if self.is_open { self.deliver(JsonRpcMessage::notification(notification)).await } else { Ok(()) }
    }

    async fn deliver(&self, message: RxJsonRpcMessage<RoleServer>) -> Result<(), Stopped> {
        self.deliver.send(message).await.map_err(|_| Stopped::AtTheEnd)
    }
}

/// Whether this request opens the session for rmcp.
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
