//! Threads and file descriptors near the system's limits: the process reports an error or does without, and never panics.

use std::fs::File;
use std::io;

use tokio::sync::oneshot;

/// Runs `work` on a new thread, so that the caller's runtime stays responsive. If no thread can be started, for example at
/// the limit on processes (`ulimit -u`, which counts threads), `work` runs on the calling thread and blocks it.
///
/// # Errors
/// When `work` panics.
pub async fn run_on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (answer, answered) = oneshot::channel();
    // `work` is sent afterwards, because a closure that is given to `spawn` is lost when `spawn` fails.
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

/// As [`run_on_thread`], for work that does not panic: looking for a daemon, or starting one.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    run_on_thread(work).await.expect("looking for a daemon does not panic")
}

fn run_and_answer<T>(work: impl FnOnce() -> T, answer: oneshot::Sender<T>) {
    // The caller may have been dropped.
    let _ = answer.send(work());
}

/// The number of file descriptors a client needs: an epoll instance, an event descriptor, a socket pair for signals and one
/// more per listener, a connection with its directory, a pipe to a starting daemon, and the start lock.
pub const CLIENT_DESCRIPTORS: usize = 12;

/// Checks that this process can open `needed` more file descriptors; without them the runtime would panic.
///
/// # Errors
/// The limit that prevents it, as text for people.
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
            // A missing /dev/null says nothing about the limit.
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
        assert_eq!(run_on_thread(|| 6 * 7).await.expect("does not panic"), 42);
        let panicked: io::Result<()> = run_on_thread(|| panic!("on purpose")).await;
        assert!(panicked.is_err());
    }
}
