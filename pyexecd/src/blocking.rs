//! Work on files, off the thread that serves everybody.
//!
//! One thread is made when the daemon starts, and stays. Others are added while there is more work than threads, and leave
//! when they have had nothing to do for a while. Where the system gives no more of them (`ulimit -u` counts threads), work
//! waits for those there are: it is never lost, and never a panic, as it is with tokio's own threads.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use pyexec_supervisor::own_limits;

/// How long a thread that was added waits for more work.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A file system that hangs must not take a thread for every request that is made meanwhile.
const MOST_THREADS: usize = 512;

type Work = Box<dyn FnOnce() + Send>;

struct State {
    queue: VecDeque<Work>,
    threads: usize,
    /// Threads that wait for work. One that has been woken counts until it looks at the queue.
    waiting: usize,
}

struct Pool {
    state: Mutex<State>,
    has_work: Condvar,
}

static POOL: Pool =
    Pool { state: Mutex::new(State { queue: VecDeque::new(), threads: 0, waiting: 0 }), has_work: Condvar::new() };

/// Makes the thread that stays.
///
/// # Errors
/// When there can be none, and so no daemon.
pub(crate) fn begin() -> io::Result<()> {
    POOL.state().threads += 1;
    start_thread(Stay::ForGood).inspect_err(|_| POOL.state().threads -= 1)
}

/// What became of [`spawn`]ed work: an error when it panicked. It goes on when this is dropped.
pub(crate) type Done<T> = oneshot::Receiver<T>;

/// Has `work` done on another thread, where it can use the runtime of this one.
pub(crate) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Done<T> {
    let (answer, answered) = oneshot::channel();
    // What is dropped while the runtime ends has none.
    let runtime = Handle::try_current().ok();
    POOL.push(Box::new(move || {
        let _runtime = runtime.as_ref().map(Handle::enter);
        // The panic hook has told of a panic; whoever waits hears of it from `answer`, which is dropped.
        if let Ok(done) = catch_unwind(AssertUnwindSafe(work)) {
            let _ = answer.send(done);
        }
    }));
    answered
}

/// # Errors
/// Those of the work itself, with the limit that is in its way if one is; one that panics is an error too.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn(work).await.unwrap_or_else(|_| Err(io::Error::other("it panicked"))).map_err(own_limits::name_in)
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing of it is half done at any point at which something might panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, work: Work) {
        let mut state = self.state();
        state.queue.push_back(work);
        self.has_work.notify_one();
        // Every thread that waits looks at the queue once more, so that so many pieces of work are seen to.
        if state.queue.len() <= state.waiting || state.threads >= MOST_THREADS {
            return;
        }
        state.threads += 1;
        drop(state);
        if start_thread(Stay::WhileUsed).is_err() {
            let mut state = self.state();
            state.threads -= 1;
            // Where nothing has been begun, as in tests, nobody else does it.
            let orphaned = if state.threads == 0 { std::mem::take(&mut state.queue) } else { VecDeque::new() };
            drop(state);
            orphaned.into_iter().for_each(|work| work());
        }
    }

    /// The next piece of work; `None` when there has been none for long enough.
    fn next(&self, stay: Stay) -> Option<Work> {
        let mut state = self.state();
        loop {
            if let Some(work) = state.queue.pop_front() {
                return Some(work);
            }
            state.waiting += 1;
            let timed_out;
            (state, timed_out) = match stay {
                Stay::ForGood => (self.has_work.wait(state).unwrap_or_else(PoisonError::into_inner), false),
                Stay::WhileUsed => {
                    let waited = self.has_work.wait_timeout(state, KEEP_ALIVE);
                    let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                    (state, waited.timed_out())
                }
            };
            state.waiting -= 1;
            if timed_out && state.queue.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Stay {
    ForGood,
    WhileUsed,
}

fn start_thread(stay: Stay) -> io::Result<()> {
    let serve = move || {
        while let Some(work) = POOL.next(stay) {
            work();
        }
    };
    std::thread::Builder::new().name("files".to_owned()).spawn(serve).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_the_next_is_done() {
        let panicked = blocking(|| -> io::Result<()> { panic!("on purpose") }).await;
        assert_eq!(panicked.expect_err("panicked").to_string(), "it panicked");
        assert_eq!(blocking(|| Ok(6 * 7)).await.expect("is done"), 42);
    }

    #[tokio::test]
    async fn a_hundred_pieces_that_wait_for_each_other_are_all_done() {
        // Each waits until all have begun, which takes as many threads.
        const PIECES: usize = 100;
        let barrier = std::sync::Arc::new(std::sync::Barrier::new(PIECES));
        let begin = || {
            let barrier = barrier.clone();
            spawn(move || barrier.wait().is_leader())
        };
        let begun: Vec<_> = (0..PIECES).map(|_| begin()).collect();
        for done in begun {
            done.await.expect("does not panic");
        }
    }
}
