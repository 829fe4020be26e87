//! What a client owes when it is the first process of a container (PID 1).
//!
//! The kernel gives it every process whose own parent has ended: the daemon, and supervisors that outlive a daemon. Whoever
//! does not wait for such a process when it ends leaves a zombie. Elsewhere init does this, and nothing here does anything.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::process::{WaitId, WaitIdOptions, waitid};

/// How many children of this client's own there are, whose exit status somebody here waits for.
static OWN_CHILDREN: Mutex<usize> = Mutex::new(0);
static ONE_LESS: Condvar = Condvar::new();

/// Keeps a child of this client's own from being waited for by anybody else.
#[derive(Debug)]
pub struct OwnChild(());

/// To be held from before a child is started until it has been waited for.
pub fn own_child() -> OwnChild {
    *own_children() += 1;
    OwnChild(())
}

impl Drop for OwnChild {
    fn drop(&mut self) {
        *own_children() -= 1;
        ONE_LESS.notify_all();
    }
}

fn own_children() -> MutexGuard<'static, usize> {
    OWN_CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nobody starts a child of this client's own while this is held.
fn no_own_child() -> MutexGuard<'static, usize> {
    ONE_LESS.wait_while(own_children(), |children| *children > 0).unwrap_or_else(PoisonError::into_inner)
}

/// Whether a thread waits for the processes that this one has been given.
static WAITING: Mutex<bool> = Mutex::new(false);

/// Sees to it that what this process is given is waited for. To be called whenever a daemon has been reached: the daemon
/// and its supervisors are all that pyexec could leave to it.
pub(crate) fn adopt() {
    if std::process::id() != 1 {
        return;
    }
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    if !*waiting {
        // Without the thread, zombies stay until the container ends, which does nothing else any harm.
        *waiting = std::thread::Builder::new().name("orphans".to_owned()).spawn(wait_for_each).is_ok();
    }
}

fn wait_for_each() {
    loop {
        // Returns when a child has ended, and leaves it to be waited for: it may be one of this client's own.
        match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(_) => {
                let _nobody_elses = no_own_child();
                while let Ok(Some(_)) = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {}
            }
            Err(rustix::io::Errno::INTR) => {}
            // There is no child at the moment, and the kernel says nothing when it gives one.
            Err(_) => {
                let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
                if waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG).is_err() {
                    *waiting = false;
                    return;
                }
            }
        }
    }
}
