//! Which jobs are being removed at this moment: nobody is told of them any more.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use pyexec_proto::JobId;

/// Jobs that are being removed at this moment.
#[derive(Clone, Debug, Default)]
pub(super) struct BeingRemoved(Arc<Mutex<HashSet<JobId>>>);

impl BeingRemoved {
    pub(super) fn contains(&self, id: JobId) -> bool {
        self.0.lock().expect("nobody panics with it").contains(&id)
    }

    /// They are marked until the result is dropped.
    pub(super) fn mark(&self, ids: &[JobId]) -> Marks {
        self.0.lock().expect("nobody panics with it").extend(ids);
        Marks { of: self.clone(), ids: ids.to_vec() }
    }
}

/// Jobs are being removed for as long as this is there.
pub(super) struct Marks {
    of: BeingRemoved,
    ids: Vec<JobId>,
}

impl Drop for Marks {
    fn drop(&mut self) {
        let mut marked = self.of.0.lock().expect("nobody panics with it");
        for id in &self.ids {
            marked.remove(id);
        }
    }
}
