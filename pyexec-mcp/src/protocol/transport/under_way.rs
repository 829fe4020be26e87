//! The requests that are not answered yet, and the batches they came in.
//!
//! rmcp knows each request by a number of ours instead of the client's `id`, so that a client can reuse an `id` as soon
//! as its request is answered or cancelled: a late answer to a cancelled request has a number that is no longer in use.

use std::collections::HashMap;

use pyexec_proto::JobId;
use rmcp::model::{ClientRequest, RequestId};

use super::taking_over::PutOff;

#[derive(Debug, Default)]
pub(super) struct UnderWay {
    last_number: i64,
    requests: HashMap<i64, Asked>,
    numbers: HashMap<RequestId, i64>,
    last_batch: u64,
    batches: HashMap<BatchKey, Batch>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The client's `id`.
    pub(super) id: RequestId,
    pub(super) batch: Option<BatchKey>,
    pub(super) kind: Kind,
    /// The line, if it is kept: it is handed over to the server that takes over.
    pub(super) line: Option<Box<str>>,
    /// The client was already answered by the server that this one took over from.
    pub(super) is_answered_already: bool,
    /// Set if a newer server is to answer the request.
    pub(super) put_off: Option<PutOffFor>,
}

/// The data needed to answer a request that was put off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PutOffFor {
    /// The job that it has started.
    job: Option<JobId>,
}

/// Distinguishes requests whose effect outlives their answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Initialize,
    /// A subscription to the resource with this URI, by the method of the handshake versions.
    Subscribe(String),
    Unsubscribe(String),
    /// It is answered when the client or the server ends it.
    Listen,
    Other,
}

impl Kind {
    pub(super) fn of(request: &ClientRequest) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "nothing lasts of any other request")]
        match request {
            ClientRequest::InitializeRequest(_) => Kind::Initialize,
            ClientRequest::SubscribeRequest(request) => Kind::Subscribe(request.params.uri.clone()),
            ClientRequest::UnsubscribeRequest(request) => Kind::Unsubscribe(request.params.uri.clone()),
            ClientRequest::SubscriptionsListenRequest(_) => Kind::Listen,
            _ => Kind::Other,
        }
    }
}

impl Asked {
    pub(super) fn new(id: RequestId, kind: Kind) -> Self {
        Self { id, batch: None, kind, line: None, is_answered_already: false, put_off: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BatchKey(u64);

#[derive(Debug, Default)]
struct Batch {
    /// The number of its unanswered requests, plus one while the batch is being read.
    open: usize,
    answers: Vec<Vec<u8>>,
}

impl UnderWay {
    /// Registers a request and returns its number; `None` if a request with the same `id` is pending.
    pub(super) fn begin(&mut self, asked: Asked) -> Option<i64> {
        if self.is_used(&asked.id) {
            return None;
        }
        self.last_number += 1;
        self.numbers.insert(asked.id.clone(), self.last_number);
        if let Some(batch) = asked.batch.and_then(|key| self.batches.get_mut(&key)) {
            batch.open += 1;
        }
        self.requests.insert(self.last_number, asked);
        Some(self.last_number)
    }

    pub(super) fn is_used(&self, id: &RequestId) -> bool {
        self.numbers.contains_key(id)
    }

    pub(super) fn is_open(&self, number: i64) -> bool {
        self.requests.contains_key(&number)
    }

    pub(super) fn get(&self, number: i64) -> Option<&Asked> {
        self.requests.get(&number)
    }

    /// Leaves a request to the server that takes over; `false` if its line was not kept.
    pub(super) fn put_off(&mut self, number: i64, job: Option<JobId>) -> bool {
        let Some(asked) =
            self.requests.get_mut(&number).filter(|asked| asked.line.is_some() && !asked.is_answered_already)
        else {
            return false;
        };
        asked.put_off = Some(PutOffFor { job });
        true
    }

    pub(super) fn is_put_off(&self, number: i64) -> bool {
        self.requests.get(&number).is_some_and(|asked| asked.put_off.is_some())
    }

    /// Whether there is a request that this server itself will answer soon.
    pub(super) fn is_busy(&self) -> bool {
        self.requests.values().any(|asked| asked.put_off.is_none() && asked.kind != Kind::Listen)
    }

    /// The requests that were put off, in their order.
    pub(super) fn all_put_off(&self) -> Vec<PutOff> {
        let put_off = |asked: &Asked| {
            let PutOffFor { job } = asked.put_off.clone()?;
            Some(PutOff { line: asked.line.as_deref()?.to_owned(), job })
        };
        self.in_order().filter_map(|(_, asked)| put_off(asked)).collect()
    }

    /// The numbers of the requests that were put off.
    pub(super) fn numbers_put_off(&self) -> Vec<i64> {
        self.in_order().filter(|(_, asked)| asked.put_off.is_some()).map(|(number, _)| number).collect()
    }

    /// The lines of open subscriptions; `None` if one of them was not kept.
    pub(super) fn listens(&self) -> Option<Vec<String>> {
        let listens = self.in_order().filter(|(_, asked)| asked.kind == Kind::Listen);
        listens.map(|(_, asked)| Some(asked.line.as_deref()?.to_owned())).collect()
    }

    fn in_order(&self) -> impl Iterator<Item = (i64, &Asked)> {
        let mut requests: Vec<_> = self.requests.iter().map(|(number, asked)| (*number, asked)).collect();
        requests.sort_unstable_by_key(|(number, _)| *number);
        requests.into_iter()
    }

    /// Removes a request that is now answered; `None` if it was cancelled.
    pub(super) fn end(&mut self, number: i64) -> Option<Asked> {
        let asked = self.requests.remove(&number)?;
        self.numbers.remove(&asked.id);
        Some(asked)
    }

    /// Removes a request that will not be answered. Returns its number, and the answer of its batch if it was the last
    /// open request of that batch.
    pub(super) fn cancel(&mut self, id: &RequestId) -> Option<(i64, Option<Vec<u8>>)> {
        let number = *self.numbers.get(id)?;
        let asked = self.end(number)?;
        Some((number, asked.batch.and_then(|key| self.close_one(key))))
    }

    /// Registers a batch that is about to be read; [`Self::close_one`] marks it as read.
    pub(super) fn open_batch(&mut self) -> BatchKey {
        self.last_batch += 1;
        let key = BatchKey(self.last_batch);
        self.batches.insert(key, Batch { open: 1, answers: vec![] });
        key
    }

    /// Keeps an answer until the batch is complete.
    pub(super) fn keep(&mut self, key: BatchKey, answer: Vec<u8>) {
        if let Some(batch) = self.batches.get_mut(&key) {
            batch.answers.push(answer);
        }
    }

    /// Removes one open request of a batch. Returns the array of its answers if that was the last, unless there are
    /// none.
    pub(super) fn close_one(&mut self, key: BatchKey) -> Option<Vec<u8>> {
        let batch = self.batches.get_mut(&key)?;
        batch.open -= 1;
        if batch.open > 0 {
            return None;
        }
        let answers = self.batches.remove(&key)?.answers;
        if answers.is_empty() {
            return None;
        }
        let array = [b"[".as_slice(), &answers.join(b",".as_slice()), b"]"].concat();
        Some(array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> RequestId {
        RequestId::String(text.into())
    }

    fn asked(text: &str, batch: Option<BatchKey>) -> Asked {
        Asked { batch, ..Asked::new(id(text), Kind::Other) }
    }

    #[test]
    fn an_id_is_taken_until_its_request_is_answered_or_cancelled() {
        let mut under_way = UnderWay::default();
        let first = under_way.begin(asked("a", None)).expect("is free");
        assert_eq!(under_way.begin(asked("a", None)), None);
        assert_ne!(under_way.begin(asked("b", None)), Some(first));
        // Text and number are two.
        assert!(under_way.begin(Asked::new(RequestId::Number(1), Kind::Other)).is_some());
        assert!(under_way.begin(asked("1", None)).is_some());
        assert_eq!(under_way.end(first), Some(asked("a", None)));
        assert_eq!(under_way.end(first), None);
        let second = under_way.begin(asked("a", None)).expect("is free again");
        assert_eq!(under_way.cancel(&id("a")), Some((second, None)));
        assert_eq!(under_way.cancel(&id("a")), None);
        let third = under_way.begin(asked("a", None)).expect("is free again");
        // What the cancelled one comes to is nobody's answer.
        assert_eq!(under_way.end(second), None);
        assert!(!under_way.is_open(second) && under_way.is_open(third));
    }

    #[test]
    fn a_batch_is_answered_once_all_of_it_is() {
        let mut under_way = UnderWay::default();
        let key = under_way.open_batch();
        let one = under_way.begin(asked("a", Some(key))).expect("is free");
        under_way.keep(key, b"refused".to_vec());
        // The first is answered while the second has not been read.
        let ended = under_way.end(one).expect("is under way");
        assert_eq!(ended.batch, Some(key));
        under_way.keep(key, b"1".to_vec());
        assert_eq!(under_way.close_one(key), None);
        under_way.begin(asked("b", Some(key))).expect("is free");
        assert_eq!(under_way.close_one(key), None, "the whole batch has been read");
        // A cancelled request is not answered, but the others are.
        let (_, array) = under_way.cancel(&id("b")).expect("is under way");
        assert_eq!(array.as_deref(), Some(b"[refused,1]".as_slice()));
        assert!(under_way.batches.is_empty());
        // Nothing but notifications.
        let key = under_way.open_batch();
        assert_eq!(under_way.close_one(key), None);
        assert!(under_way.batches.is_empty());
    }

    #[test]
    fn what_is_put_off_is_kept_in_its_order_and_nobody_is_waited_for() {
        let mut under_way = UnderWay::default();
        let kept =
            |text: &str, kind: Kind| Asked { line: Some(format!("line {text}").into()), ..Asked::new(id(text), kind) };
        let listen = under_way.begin(kept("l", Kind::Listen)).expect("is free");
        let first = under_way.begin(kept("a", Kind::Other)).expect("is free");
        let second = under_way.begin(kept("b", Kind::Other)).expect("is free");
        let unkept = under_way.begin(asked("c", None)).expect("is free");
        assert!(!under_way.put_off(unkept, None), "it cannot be asked again");
        let job = JobId::mint();
        assert!(under_way.put_off(second, Some(job)) && under_way.is_busy());
        assert!(under_way.put_off(first, None) && under_way.is_busy());
        under_way.end(unkept);
        assert!(!under_way.is_busy(), "a subscription is waited for");
        let lines = under_way.all_put_off().into_iter().map(|put_off| (put_off.line, put_off.job)).collect::<Vec<_>>();
        assert_eq!(lines, [("line a".to_owned(), None), ("line b".to_owned(), Some(job))]);
        assert_eq!(under_way.listens(), Some(vec!["line l".to_owned()]));
        assert!(under_way.is_put_off(first) && !under_way.is_put_off(listen));
    }
}
