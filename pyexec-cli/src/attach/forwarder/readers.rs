//! Notices that the reader of stdout or stderr has closed it, while there is nothing to write.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The readers of stdout and stderr that are watched.
#[derive(Debug, Default)]
pub(super) struct Readers {
    pub(super) stdout: Option<Reader>,
    pub(super) stderr: Option<Reader>,
}

impl Readers {
    /// Returns when one of them has closed its end.
    pub(super) async fn closed(&self) {
        tokio::select! {
            () = closed(self.stdout.as_ref()) => {}
            () = closed(self.stderr.as_ref()) => {}
        }
    }
}

async fn closed(reader: Option<&Reader>) {
    match reader {
        Some(reader) => reader.closed().await,
        None => std::future::pending().await,
    }
}

/// The other end of a pipe or a socket.
#[derive(Debug)]
pub(super) struct Reader(AsyncFd<OwnedFd>);

impl Reader {
    /// `None` for a file, which has no reader, and for a terminal, which reports a hang-up by signal.
    pub(super) fn of(descriptor: BorrowedFd<'_>) -> Option<Self> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(descriptor).ok()?.st_mode);
        if !matches!(kind, FileType::Fifo | FileType::Socket) {
            return None;
        }
        // The kernel reports errors whatever interest is set. If watching fails, the next write reports EPIPE.
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe; an `OwnedFd` keeps its descriptor open for as long as it is watched"
        )]
        let watched = AsyncFd::with_interest(descriptor.try_clone_to_owned().ok()?, INTEREST);
        watched.ok().map(Self)
    }

    async fn closed(&self) {
        loop {
            let Ok(mut ready) = self.0.ready(INTEREST).await else { return std::future::pending().await };
            if is_closed(self.0.get_ref().as_fd()) {
                return;
            }
            // Something else has happened, such as that a peer wrote to a socket.
            ready.clear_ready();
        }
    }
}

const INTEREST: Interest = Interest::READABLE.add(Interest::ERROR);

fn is_closed(descriptor: BorrowedFd<'_>) -> bool {
    const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut watched = [PollFd::new(&descriptor, PollFlags::empty())];
    let polled = poll(&mut watched, Some(&AT_ONCE));
    polled.is_ok() && watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// What a write would say.
pub(super) fn no_reader() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[tokio::test]
    async fn a_reader_of_a_pipe_is_missed_when_it_has_gone_and_not_before() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let watched = Reader::of(writer.as_fd()).expect("a pipe can be watched");
        writer.write_all(b"text").expect("has room");
        assert!(watched.closed().now_or_never().is_none());
        drop(reader);
        watched.closed().await;
    }

    #[tokio::test]
    async fn a_peer_of_a_socket_is_missed_when_it_has_gone_and_not_when_it_writes() {
        let (mut theirs, ours) = UnixStream::pair().expect("a pair");
        let watched = Reader::of(ours.as_fd()).expect("a socket can be watched");
        theirs.write_all(b"text").expect("has room");
        tokio::task::yield_now().await;
        assert!(watched.closed().now_or_never().is_none());
        drop(theirs);
        watched.closed().await;
    }

    #[tokio::test]
    async fn a_file_has_no_reader_that_could_go() {
        let file = tempfile::tempfile().expect("a file");
        assert!(Reader::of(file.as_fd()).is_none());
    }
}
