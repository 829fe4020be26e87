//! Whose turn it is: a pure queue.
//!
//! First in, first out, but those that somebody waits for go before those nobody does; and a job that was submitted from
//! inside a running job is never held back, because its parent may be waiting for it while holding the place it needs.

use std::collections::{BTreeSet, HashMap};

use pyexec_proto::JobId;

/// Why a job is where it is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Its parent runs.
    Nested,
    /// Somebody waits for it.
    WaitedFor,
    Detached,
}

#[derive(Debug, Default)]
pub struct Queue {
    waiting: BTreeSet<(Class, u64, JobId)>,
    places: HashMap<JobId, (Class, u64)>,
    next_order: u64,
}

impl Queue {
    pub fn push(&mut self, id: JobId, class: Class) {
        if self.places.contains_key(&id) {
            return;
        }
        let order = self.next_order;
        self.next_order += 1;
        self.waiting.insert((class, order, id));
        self.places.insert(id, (class, order));
    }

    pub fn remove(&mut self, id: JobId) {
        if let Some((class, order)) = self.places.remove(&id) {
            self.waiting.remove(&(class, order, id));
        }
    }

    /// Whether a job of this class, pushed now, would be the next to start, and at once.
    pub fn admits_at_once(&self, class: Class, running: usize, max_running: usize) -> bool {
        let first = self.waiting.first().is_none_or(|(waiting, _, _)| *waiting > class);
        first && (class == Class::Nested || running < max_running)
    }

    /// Takes the next job that may start with `running` others under way.
    pub fn admit(&mut self, running: usize, max_running: usize) -> Option<JobId> {
        let (class, _, id) = *self.waiting.first()?;
        if class != Class::Nested && running >= max_running {
            return None;
        }
        self.remove(id);
        Some(id)
    }

    /// How many are to be started before this one.
    pub fn ahead_of(&self, id: JobId) -> Option<usize> {
        let (class, order) = *self.places.get(&id)?;
        Some(self.waiting.range(..(class, order, id)).count())
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn queue(classes: &[Class]) -> (Queue, Vec<JobId>) {
        let mut queue = Queue::default();
        let ids: Vec<JobId> = classes.iter().map(|_| JobId::mint()).collect();
        for (id, class) in ids.iter().zip(classes) {
            queue.push(*id, *class);
        }
        (queue, ids)
    }

    fn admitted(queue: &mut Queue, mut running: usize, max_running: usize) -> Vec<JobId> {
        let mut order = Vec::new();
        while let Some(id) = queue.admit(running, max_running) {
            running += 1;
            order.push(id);
        }
        order
    }

    #[test]
    fn equals_are_admitted_in_the_order_they_came() {
        let (mut queue, ids) = queue(&[Class::Detached; 4]);
        assert_eq!(admitted(&mut queue, 0, 9), ids);
    }

    #[test]
    fn those_waited_for_go_first() {
        let (mut queue, ids) = queue(&[Class::Detached, Class::WaitedFor, Class::Detached, Class::WaitedFor]);
        assert_eq!(admitted(&mut queue, 0, 9), [ids[1], ids[3], ids[0], ids[2]]);
    }

    #[test]
    fn no_more_than_the_limit_run() {
        let (mut queue, ids) = queue(&[Class::WaitedFor; 4]);
        assert_eq!(admitted(&mut queue, 1, 3), ids[..2]);
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn a_nested_job_is_never_held_back() {
        let (mut queue, ids) = queue(&[Class::WaitedFor, Class::Nested]);
        assert_eq!(admitted(&mut queue, 5, 5), [ids[1]]);
    }

    #[test]
    fn only_a_job_that_is_next_with_room_to_run_starts_at_once() {
        let (queue, _) = queue(&[Class::WaitedFor]);
        for (class, running, expected) in
            [(Class::Nested, 9, true), (Class::WaitedFor, 0, false), (Class::Detached, 0, false)]
        {
            assert_eq!(queue.admits_at_once(class, running, 3), expected, "{class:?} with {running} running");
        }
        let empty = Queue::default();
        assert!(empty.admits_at_once(Class::Detached, 2, 3));
        assert!(!empty.admits_at_once(Class::WaitedFor, 3, 3));
    }

    #[test]
    fn the_place_in_the_queue_is_told() {
        let (mut queue, ids) = queue(&[Class::Detached, Class::WaitedFor]);
        assert_eq!(queue.ahead_of(ids[0]), Some(1));
        queue.remove(ids[1]);
        assert_eq!(queue.ahead_of(ids[0]), Some(0));
        assert_eq!(queue.ahead_of(ids[1]), None);
    }

    proptest! {
        #[test]
        fn everyone_is_admitted_once(classes in proptest::collection::vec(0u8..3, 0..30), limit in 1usize..5) {
            let classes: Vec<Class> =
                classes.into_iter().map(|n| [Class::Nested, Class::WaitedFor, Class::Detached][usize::from(n)]).collect();
            let (mut queue, ids) = queue(&classes);
            let mut seen = Vec::new();
            while !queue.is_empty() {
                // As if everything admitted before had ended.
                let now = admitted(&mut queue, 0, limit);
                prop_assert!(!now.is_empty());
                seen.extend(now);
            }
            let (mut sorted, mut expected) = (seen, ids);
            sorted.sort();
            expected.sort();
            prop_assert_eq!(sorted, expected);
        }
    }
}
