//! Threads and descriptors where the system may give no more of them: a process that cannot have one says so, or does
//! without, and does not panic.

use std::fs::File;
use std::io;

use tokio::sync::oneshot;

/// Runs `work` on a thread of its own, so that this one goes on to serve; or here, where no thread can be had. A user near
/// the limit on processes (`ulimit -u`, which counts threads) then waits for it without being served meanwhile.
///
/// # Errors
/// When `work` panics.
pub async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (answer, answered) = oneshot::channel();
    // Handed over afterwards: a closure that is given to a thread that cannot be made is lost.
    let (hand_over, handed_over) = std::sync::mpsc::channel();
    let on_thread = move || {
        if let Ok(work) = handed_over.recv() {
            run_and_answer(work, answer);
        }
    };
    match std::thread::Builder::new().spawn(on_thread) {
        Ok(_detached) => {
            let _ = hand_over.send(work);
            answered.await.map_err(|_| io::Error::other("the thread panicked"))
        }
        Err(_) => Ok(work()),
    }
}

/// As [`beside`], of work that does not panic: looking for a daemon, or starting one.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    beside(work).await.expect("looking for a daemon does not panic")
}

fn run_and_answer<T>(work: impl FnOnce() -> T, answer: oneshot::Sender<T>) {
    // Whoever asked may have left.
    let _ = answer.send(work());
}

/// What a client needs: an epoll instance, an event descriptor, a pair of sockets for signals and one more for each that
/// listens to them, a connection with its directory, a pipe to a daemon that starts, and the lock that is held meanwhile.
pub const CLIENTS_DESCRIPTORS: usize = 12;

/// Whether this process can open so many descriptors. A runtime panics where it cannot have those that it needs.
///
/// # Errors
/// With the limit that is in the way, as text for people.
pub fn check_descriptors(needed: usize) -> io::Result<()> {
    let mut open = Vec::with_capacity(needed);
    for _ in 0..needed {
        match File::open("/dev/null") {
            Ok(file) => open.push(file),
            Err(error) if is_out_of_descriptors(&error) => {
                let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
                let limit = limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
                let problem =
                    format!("{error}: pyexec needs {needed} more file descriptors, and `ulimit -n` is {limit}");
                return Err(io::Error::new(error.kind(), problem));
            }
            // That there is no such file is not a matter of how many are open.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_no_panic() {
        assert_eq!(beside(|| 6 * 7).await.expect("does not panic"), 42);
        let panicked: io::Result<()> = beside(|| panic!("on purpose")).await;
        assert!(panicked.is_err());
    }
}
