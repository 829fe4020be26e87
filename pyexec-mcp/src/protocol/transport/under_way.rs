//! The requests that have been read and not been answered yet, and the batches they came in.
//!
//! rmcp knows each request by a number of ours instead of the client's `id`. A client can then use an `id` again as soon as
//! its request is answered or cancelled: what a cancelled request still comes to has a number that nobody waits for.

use std::collections::HashMap;

use rmcp::model::RequestId;

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
    /// As the client calls it.
    pub(super) id: RequestId,
    pub(super) batch: Option<BatchKey>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct BatchKey(u64);

#[derive(Debug, Default)]
struct Batch {
    /// How many of its requests have not been answered; one more while it is still being read.
    open: usize,
    answers: Vec<Vec<u8>>,
}

impl UnderWay {
    /// The number of a request from here on; `None` while another with its `id` is under way.
    pub(super) fn begin(&mut self, id: &RequestId, batch: Option<BatchKey>) -> Option<i64> {
        if self.is_used(id) {
            return None;
        }
        self.last_number += 1;
        self.numbers.insert(id.clone(), self.last_number);
        self.requests.insert(self.last_number, Asked { id: id.clone(), batch });
        if let Some(batch) = batch.and_then(|key| self.batches.get_mut(&key)) {
            batch.open += 1;
        }
        Some(self.last_number)
    }

    pub(super) fn is_used(&self, id: &RequestId) -> bool {
        self.numbers.contains_key(id)
    }

    pub(super) fn is_open(&self, number: i64) -> bool {
        self.requests.contains_key(&number)
    }

    pub(super) fn id(&self, number: i64) -> Option<&RequestId> {
        self.requests.get(&number).map(|asked| &asked.id)
    }

    /// Forgets a request that is answered now; `None` if it was cancelled.
    pub(super) fn end(&mut self, number: i64) -> Option<Asked> {
        let asked = self.requests.remove(&number)?;
        self.numbers.remove(&asked.id);
        Some(asked)
    }

    /// Forgets a request that will not be answered: its number, and what its batch is answered with if it was the last one
    /// of it.
    pub(super) fn cancel(&mut self, id: &RequestId) -> Option<(i64, Option<Vec<u8>>)> {
        let number = *self.numbers.get(id)?;
        let asked = self.end(number)?;
        Some((number, asked.batch.and_then(|key| self.close_one(key))))
    }

    /// A batch that is about to be read; [`Self::close_one`] says that it has been.
    pub(super) fn open_batch(&mut self) -> BatchKey {
        self.last_batch += 1;
        let key = BatchKey(self.last_batch);
        self.batches.insert(key, Batch { open: 1, answers: vec![] });
        key
    }

    /// Keeps an answer until all the others of its batch are there.
    pub(super) fn keep(&mut self, key: BatchKey, answer: Vec<u8>) {
        if let Some(batch) = self.batches.get_mut(&key) {
            batch.answers.push(answer);
        }
    }

    /// One thing less that a batch waits for. After the last one this is the array of its answers; nothing if it has none.
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

    #[test]
    fn an_id_is_taken_until_its_request_is_answered_or_cancelled() {
        let mut under_way = UnderWay::default();
        let first = under_way.begin(&id("a"), None).expect("is free");
        assert_eq!(under_way.begin(&id("a"), None), None);
        assert_ne!(under_way.begin(&id("b"), None), Some(first));
        // Text and number are two.
        assert!(under_way.begin(&RequestId::Number(1), None).is_some());
        assert!(under_way.begin(&id("1"), None).is_some());
        assert_eq!(under_way.end(first), Some(Asked { id: id("a"), batch: None }));
        assert_eq!(under_way.end(first), None);
        let second = under_way.begin(&id("a"), None).expect("is free again");
        assert_eq!(under_way.cancel(&id("a")), Some((second, None)));
        assert_eq!(under_way.cancel(&id("a")), None);
        let third = under_way.begin(&id("a"), None).expect("is free again");
        // What the cancelled one comes to is nobody's answer.
        assert_eq!(under_way.end(second), None);
        assert!(!under_way.is_open(second) && under_way.is_open(third));
    }

    #[test]
    fn a_batch_is_answered_once_all_of_it_is() {
        let mut under_way = UnderWay::default();
        let key = under_way.open_batch();
        let one = under_way.begin(&id("a"), Some(key)).expect("is free");
        under_way.keep(key, b"refused".to_vec());
        // The first is answered while the second has not been read.
        let asked = under_way.end(one).expect("is under way");
        assert_eq!(asked.batch, Some(key));
        under_way.keep(key, b"1".to_vec());
        assert_eq!(under_way.close_one(key), None);
        under_way.begin(&id("b"), Some(key)).expect("is free");
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
}
