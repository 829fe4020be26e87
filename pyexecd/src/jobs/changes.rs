//! Which jobs have changed, and since when: so that whoever shows all of them need not ask again and again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use pyexec_proto::JobId;
use pyexec_proto::request::{MAX_CHANGES, Revision};
use tokio::sync::watch;

/// The changes of this daemon. A clone is another handle on the same.
#[derive(Clone, Debug)]
pub struct ChangeLog {
    daemon: u64,
    remembered: Arc<Mutex<Remembered>>,
    newest: Arc<watch::Sender<u64>>,
}

impl Default for ChangeLog {
    fn default() -> Self {
        // Only to be another than that of the daemon before.
        let daemon = u64::from_str_radix(&JobId::mint().simple()[..15], 16).expect("has 32 hexadecimal digits");
        Self { daemon, remembered: Arc::default(), newest: Arc::new(watch::Sender::new(0)) }
    }
}

/// What is known of changes: of each job the latest, and not more than [`MAX_CHANGES`] of them.
#[derive(Debug, Default)]
struct Remembered {
    number: u64,
    jobs: BTreeMap<u64, JobId>,
    latest: HashMap<JobId, u64>,
    /// The latest change that is not remembered.
    forgotten: u64,
}

impl Remembered {
    fn note(&mut self, id: JobId) {
        self.number += 1;
        self.jobs.insert(self.number, id);
        if let Some(before) = self.latest.insert(id, self.number) {
            self.jobs.remove(&before);
        }
        if self.jobs.len() > MAX_CHANGES
            && let Some((number, id)) = self.jobs.pop_first()
        {
            self.latest.remove(&id);
            self.forgotten = number;
        }
    }

    /// `None` when that is not known any more, and for a number that is yet to come.
    fn since(&self, number: u64) -> Option<Vec<JobId>> {
        let is_known = (self.forgotten..=self.number).contains(&number);
        is_known.then(|| self.jobs.range(number + 1..).map(|(_, id)| *id).collect())
    }
}

impl ChangeLog {
    pub fn note(&self, id: JobId) {
        let number = {
            let mut remembered = self.remembered.lock().expect("nobody panics with it");
            remembered.note(id);
            remembered.number
        };
        self.newest.send_modify(|newest| *newest = number.max(*newest));
    }

    /// Changes with every change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The revision of now, and which jobs have changed since then; `None` when that is not known.
    pub fn since(&self, since: Option<Revision>) -> (Revision, Option<Vec<JobId>>) {
        let remembered = self.remembered.lock().expect("nobody panics with it");
        let known = since.filter(|since| since.daemon == self.daemon).and_then(|since| remembered.since(since.number));
        (Revision { daemon: self.daemon, number: remembered.number }, known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_changes_often_is_told_of_once_and_last() {
        let log = ChangeLog::default();
        let (start, known) = log.since(None);
        assert_eq!(known, None);
        let jobs: Vec<JobId> = (0..3).map(|_| JobId::mint()).collect();
        for at in [0, 1, 2, 0, 0, 1] {
            log.note(jobs[at]);
        }
        let (now, known) = log.since(Some(start));
        assert_eq!(known, Some(vec![jobs[2], jobs[0], jobs[1]]));
        assert_eq!(log.since(Some(now)), (now, Some(vec![])));
    }

    #[test]
    fn a_revision_of_another_daemon_or_of_the_future_is_not_known() {
        let (log, other) = (ChangeLog::default(), ChangeLog::default());
        log.note(JobId::mint());
        let (now, _) = log.since(None);
        assert_eq!(other.since(Some(now)).1, None);
        assert_eq!(log.since(Some(Revision { number: u64::MAX, ..now })).1, None);
    }

    #[test]
    fn so_many_jobs_are_remembered_and_what_was_before_is_not_known() {
        let log = ChangeLog::default();
        let (start, _) = log.since(None);
        for _ in 0..MAX_CHANGES {
            log.note(JobId::mint());
        }
        assert_eq!(log.since(Some(start)).1.map(|known| known.len()), Some(MAX_CHANGES));
        let (full, _) = log.since(None);
        log.note(JobId::mint());
        assert_eq!(log.since(Some(start)).1, None, "one of them is forgotten");
        assert_eq!(log.since(Some(full)).1.map(|known| known.len()), Some(1));
        // One job alone takes one place, however often it changes.
        let one = JobId::mint();
        let (before, _) = log.since(None);
        (0..10 * MAX_CHANGES).for_each(|_| log.note(one));
        assert_eq!(log.since(Some(before)).1, Some(vec![one]));
    }
}
