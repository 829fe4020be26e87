//! Reaps orphaned processes when this client is the first process of a container (PID 1).
//!
//! The kernel makes PID 1 the parent of every orphan: the daemon, and supervisors that outlive a daemon. If PID 1 does not
//! wait for them, they stay as zombies. With any other pid, init reaps them, and this module does nothing.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::process::{WaitId, WaitIdOptions, waitid};

/// The number of children that this client started and waits for itself.
static OWN_CHILDREN: Mutex<usize> = Mutex::new(0);
static ONE_LESS: Condvar = Condvar::new();

/// Keeps the reaper from waiting for a child that this client started itself.
#[derive(Debug)]
pub struct OwnChild(());

/// Take it before a child is started, and hold it until the child has been waited for.
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

/// While this lock is held, this client starts no child of its own.
fn no_own_child() -> MutexGuard<'static, usize> {
    ONE_LESS.wait_while(own_children(), |children| *children > 0).unwrap_or_else(PoisonError::into_inner)
}

/// Whether the reaper thread runs.
static WAITING: Mutex<bool> = Mutex::new(false);

/// Starts the thread that reaps orphans, if this process is PID 1. Call it after each connection to a daemon: the daemon
/// and its supervisors are the only orphans that pyexec can leave to this process.
pub(crate) fn start_reaper() {
    if std::process::id() != 1 {
        return;
    }
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    if !*waiting {
        // Without the thread, zombies stay until the container ends, which is harmless.
        *waiting = std::thread::Builder::new().name("orphans".to_owned()).spawn(reap_each).is_ok();
    }
}

fn reap_each() {
    loop {
        // Returns when a child has ended, but does not reap it: it may be one that this client waits for itself.
        match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(_) => {
                let _no_own_child = no_own_child();
                while let Ok(Some(_)) = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {}
            }
            Err(rustix::io::Errno::INTR) => {}
            // There is no child now, and the kernel does not notify a process that becomes a parent.
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
