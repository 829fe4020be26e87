//! Whose turn it is, and how many are under way: a pure queue.
//!
//! First in, first out, but those that somebody waits for go before those nobody does. A job that was submitted from
//! inside a job is never held back by it: its ancestors, which may be waiting for it while they hold the place it needs,
//! do not count when it is asked whether there is room.

use std::collections::{BTreeSet, HashMap, HashSet};

use pyexec_proto::JobId;

/// Why a job is where it is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Somebody waits for it.
    WaitedFor,
    Detached,
}

/// Before others, by class and then by when it came.
type Place = (Class, u64, JobId);

#[derive(Debug, Default)]
pub struct Queue {
    waiting: BTreeSet<Place>,
    /// Those with ancestors that run, and how many.
    nested: BTreeSet<(Place, usize)>,
    places: HashMap<JobId, (Place, usize)>,
    next_order: u64,
    /// Those that have left the line and not ended.
    active: HashSet<JobId>,
}

impl Queue {
    /// `ancestors`: how many of the jobs it was submitted from are running.
    pub fn push(&mut self, id: JobId, class: Class, ancestors: usize) {
        if self.places.contains_key(&id) {
            return;
        }
        let place = (class, self.next_order, id);
        self.next_order += 1;
        self.waiting.insert(place);
        if ancestors > 0 {
            self.nested.insert((place, ancestors));
        }
        self.places.insert(id, (place, ancestors));
    }

    /// A job that is under way already, whether or not there is room: an earlier daemon has started it.
    pub fn started(&mut self, id: JobId) {
        self.leave_line(id);
        self.active.insert(id);
    }

    /// A job that neither waits any more nor is under way.
    pub fn ended(&mut self, id: JobId) {
        self.leave_line(id);
        self.active.remove(&id);
    }

    fn leave_line(&mut self, id: JobId) {
        if let Some((place, ancestors)) = self.places.remove(&id) {
            self.waiting.remove(&place);
            self.nested.remove(&(place, ancestors));
        }
    }

    /// Whether a job like this, pushed now, would be the next to start, and at once.
    pub fn admits_at_once(&self, class: Class, ancestors: usize, max_running: usize) -> bool {
        let running = self.active();
        let first = self.waiting.first().is_none_or(|(waiting, _, _)| *waiting > class);
        (first || running >= max_running) && running < max_running.saturating_add(ancestors)
    }

    /// Takes the next job that may start. It is under way from then on, until it has [`Queue::ended`].
    pub fn admit(&mut self, max_running: usize) -> Option<JobId> {
        let running = self.active();
        let (_, _, id) = if running < max_running {
            *self.waiting.first()?
        } else {
            let has_room = |(_, ancestors): &&(Place, usize)| running < max_running.saturating_add(*ancestors);
            self.nested.iter().find(has_room)?.0
        };
        self.started(id);
        Some(id)
    }

    /// How many are to be started before this one.
    pub fn ahead_of(&self, id: JobId) -> Option<usize> {
        let (place, _) = self.places.get(&id)?;
        Some(self.waiting.range(..*place).count())
    }

    /// How many are under way.
    pub fn active(&self) -> usize {
        self.active.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queue(jobs: &[(Class, usize)]) -> (Queue, Vec<JobId>) {
        let mut queue = Queue::default();
        let ids: Vec<JobId> = jobs.iter().map(|_| JobId::mint()).collect();
        for (id, (class, ancestors)) in ids.iter().zip(jobs) {
            queue.push(*id, *class, *ancestors);
        }
        (queue, ids)
    }

    fn admitted(queue: &mut Queue, max_running: usize) -> Vec<JobId> {
        std::iter::from_fn(|| queue.admit(max_running)).collect()
    }

    /// So many others are under way.
    fn busy(queue: &mut Queue, number: usize) {
        (0..number).for_each(|_| queue.started(JobId::mint()));
    }

    use Class::{Detached, WaitedFor};

    #[test]
    fn equals_are_admitted_in_the_order_they_came() {
        let (mut queue, ids) = queue(&[(Detached, 0); 4]);
        assert_eq!(admitted(&mut queue, 9), ids);
    }

    #[test]
    fn those_waited_for_go_first() {
        let (mut queue, ids) = queue(&[(Detached, 0), (WaitedFor, 0), (Detached, 0), (WaitedFor, 0)]);
        assert_eq!(admitted(&mut queue, 9), [ids[1], ids[3], ids[0], ids[2]]);
    }

    #[test]
    fn no_more_than_the_limit_run() {
        let (mut queue, ids) = queue(&[(WaitedFor, 0); 4]);
        busy(&mut queue, 1);
        assert_eq!(admitted(&mut queue, 3), ids[..2]);
        assert_eq!(queue.active(), 3);
        queue.ended(ids[0]);
        assert_eq!(admitted(&mut queue, 3), [ids[2]]);
    }

    #[test]
    fn a_job_that_has_ended_counts_no_more_however_often_that_is_said() {
        let (mut queue, ids) = queue(&[(WaitedFor, 0); 2]);
        assert_eq!(admitted(&mut queue, 1), ids[..1]);
        queue.ended(ids[1]);
        for _ in 0..2 {
            queue.ended(ids[0]);
            assert_eq!((queue.active(), queue.ahead_of(ids[1])), (0, None));
        }
        assert_eq!(queue.admit(1), None);
    }

    #[test]
    fn a_nested_job_is_not_held_back_by_those_it_was_submitted_from() {
        let (mut queue, ids) = queue(&[(WaitedFor, 0), (Detached, 1)]);
        busy(&mut queue, 1);
        assert_eq!(admitted(&mut queue, 1), [ids[1]]);
    }

    #[test]
    fn a_job_that_submits_many_does_not_get_round_the_limit() {
        let (mut queue, ids) = queue(&[(Detached, 1); 30]);
        busy(&mut queue, 1);
        assert_eq!(admitted(&mut queue, 2), ids[..2]);
    }

    #[test]
    fn a_deeper_one_starts_though_a_shallower_one_waits() {
        let (mut queue, ids) = queue(&[(Detached, 1), (WaitedFor, 2)]);
        busy(&mut queue, 2);
        assert_eq!(admitted(&mut queue, 1), [ids[1]]);
    }

    #[test]
    fn only_a_job_that_is_next_with_room_to_run_starts_at_once() {
        let (mut full, _) = queue(&[(WaitedFor, 0)]);
        assert!(!full.admits_at_once(WaitedFor, 0, 3));
        assert!(!full.admits_at_once(Detached, 0, 3));
        busy(&mut full, 3);
        assert!(full.admits_at_once(Detached, 1, 3));
        let mut empty = Queue::default();
        busy(&mut empty, 2);
        assert!(empty.admits_at_once(Detached, 0, 3));
        busy(&mut empty, 1);
        assert!(!empty.admits_at_once(WaitedFor, 0, 3));
    }

    #[test]
    fn the_place_in_the_queue_is_told() {
        let (mut queue, ids) = queue(&[(Detached, 0), (WaitedFor, 0)]);
        assert_eq!(queue.ahead_of(ids[0]), Some(1));
        queue.ended(ids[1]);
        assert_eq!(queue.ahead_of(ids[0]), Some(0));
        assert_eq!(queue.ahead_of(ids[1]), None);
    }

    proptest! {
        #[test]
        fn everyone_is_admitted_once(
            jobs in proptest::collection::vec((any::<bool>(), 0usize..3), 0..30),
            limit in 1usize..5,
        ) {
            let jobs: Vec<_> =
                jobs.into_iter().map(|(waited, nested)| (if waited { WaitedFor } else { Detached }, nested)).collect();
            let (mut queue, ids) = queue(&jobs);
            let mut seen = Vec::new();
            while seen.len() < ids.len() {
                let now = admitted(&mut queue, limit);
                prop_assert!(!now.is_empty());
                now.iter().for_each(|id| queue.ended(*id));
                seen.extend(now);
            }
            let (mut sorted, mut expected) = (seen, ids);
            sorted.sort();
            expected.sort();
            prop_assert_eq!(sorted, expected);
        }
    }
}
