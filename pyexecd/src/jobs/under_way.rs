//! Which submissions have a run directory, or are about to, and are not in the index yet: what is found on disk in that
//! moment has not been left behind by anybody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use pyexec_proto::JobId;

#[derive(Clone, Debug, Default)]
pub struct UnderWay {
    /// The same may be submitted twice at once.
    submissions: Arc<Mutex<HashMap<JobId, usize>>>,
}

/// A submission is under way until this is dropped.
#[derive(Debug)]
pub struct Mark {
    of: UnderWay,
    id: JobId,
}

impl UnderWay {
    pub fn mark(&self, id: JobId) -> Mark {
        *self.submissions.lock().expect("nobody panics with it").entry(id).or_default() += 1;
        Mark { of: self.clone(), id }
    }

    pub fn contains(&self, id: JobId) -> bool {
        self.submissions.lock().expect("nobody panics with it").contains_key(&id)
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let mut submissions = self.of.submissions.lock().expect("nobody panics with it");
        if let Some(number) = submissions.get_mut(&self.id) {
            *number -= 1;
            if *number == 0 {
                submissions.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_submitted_twice_is_under_way_until_both_are_done() {
        let (under_way, id) = (UnderWay::default(), JobId::mint());
        assert!(!under_way.contains(id));
        let (first, second) = (under_way.mark(id), under_way.mark(id));
        drop(first);
        assert!(under_way.contains(id));
        drop(second);
        assert!(!under_way.contains(id));
        assert!(under_way.submissions.lock().expect("nobody panics with it").is_empty());
    }
}
