//! The real index in memory, for tests: it can be told to refuse writes, and to do nothing until it is told to go on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use rusqlite::ffi;
use tokio::sync::watch;

use super::{Index, Store, StoreError, Unwritten, schema};

/// What a test has ordered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Orders {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    is_held: bool,
    /// How many of the next writes fail, as on a full disk.
    refused: u32,
}

impl Orders {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().expect("nobody panics with it")
    }

    /// Nothing is done from now on, until [`Orders::release`].
    pub(crate) fn hold(&self) {
        self.state().is_held = true;
    }

    pub(crate) fn release(&self) {
        self.state().is_held = false;
        self.state.1.notify_all();
    }

    /// The next `number` writes fail. Zero: no more do.
    pub(crate) fn refuse(&self, number: u32) {
        self.state().refused = number;
    }

    /// How many of the writes that were to fail have still to come.
    pub(crate) fn still_refused(&self) -> u32 {
        self.state().refused
    }

    pub(super) fn wait(&self) {
        let held = self.state.1.wait_while(self.state(), |state| state.is_held);
        drop(held.expect("nobody panics with it"));
    }
}

impl Index {
    /// # Errors
    /// When the test has ordered so.
    pub(super) fn may_write(&self) -> Result<(), StoreError> {
        let mut state = self.orders.state();
        if state.refused == 0 {
            return Ok(());
        }
        state.refused -= 1;
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None).into())
    }
}

impl Store {
    pub(crate) fn in_memory() -> (Self, Orders) {
        let connection = schema::makeshift(Path::new(":memory:")).expect("memory is there");
        let (told, problem) = watch::channel(None);
        let orders = Orders::default();
        let index = Index {
            path: PathBuf::from(":memory:"),
            connection,
            unwritten: Unwritten::new(),
            problem: told,
            orders: orders.clone(),
        };
        (Self::serve(index, problem).expect("a thread can be made"), orders)
    }
}
