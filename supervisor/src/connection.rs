//! One connection to the daemon, and the socket on which later daemons find a supervisor. Nothing here blocks.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyexec_proto::id::SenderId;
use pyexec_proto::output::OutputLengths;
use pyexec_proto::wire::allowance;
use pyexec_run_directory::private::create_private;
use pyexec_run_directory::socket::socket_address;

use super::peer;
use pyexec_run_directory::control::{self, Notice, Request};

/// What a daemon that does not read may leave unsent before it is taken for dead.
const BACKLOG_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// When the frame began of which `incoming` is a part; on the monotonic clock.
    begun: Option<Duration>,
    /// Say when a stream is longer than this.
    pub(super) watch: Option<OutputLengths>,
    /// Input that waits for room.
    pub(super) waiting: Vec<WaitingInput>,
}

#[derive(Debug)]
pub(super) struct WaitingInput {
    pub(super) sequence: u64,
    pub(super) sender: SenderId,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) close: bool,
    /// On the monotonic clock.
    pub(super) until: Duration,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, already_read: Vec<u8>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (outgoing, waiting) = (Vec::new(), Vec::new());
        Ok(Self { stream, incoming: already_read, outgoing, begun: None, watch: None, waiting })
    }

    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Reads what has come.
    ///
    /// # Errors
    /// When the connection is over: the daemon closed it, or what it says is not a frame.
    pub(super) fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.incoming.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next request that is whole; `now` is on the monotonic clock.
    pub(super) fn next(&mut self, now: Duration) -> io::Result<Option<(Request, Vec<u8>)>> {
        let next = control::decode(&mut self.incoming)?;
        self.begun = match (&next, self.incoming.is_empty()) {
            (_, true) => None,
            (Some(_), false) => Some(now),
            (None, false) => self.begun.or(Some(now)),
        };
        Ok(next)
    }

    /// When a frame that has begun is to be whole, on the monotonic clock. Between two frames a connection may be idle.
    pub(super) fn due(&self) -> Option<Duration> {
        self.begun.map(|begun| begun + allowance(self.incoming.len()))
    }

    /// # Errors
    /// When the connection is over, or the daemon has not read for too long.
    pub(super) fn send(&mut self, notice: &Notice) -> io::Result<()> {
        self.outgoing.extend_from_slice(&control::encode(notice, &[]));
        if self.outgoing.len() > BACKLOG_BYTES {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.flush()
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Where later daemons connect. Its file can be made again when the runtime directory has been swept away.
#[derive(Debug)]
pub(super) struct Door {
    path: PathBuf,
    listener: Option<UnixListener>,
}

impl Door {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, listener: None }
    }

    pub(super) fn listener(&self) -> Option<&UnixListener> {
        self.listener.as_ref()
    }

    /// Listens, anew if need be. A failure leaves the supervisor reachable only by signal, which asks for this again.
    pub(super) fn open(&mut self) {
        self.listener = bind(&self.path).ok();
    }

    /// A daemon of the same user that has connected: nothing that is inside a fence, and has no say outside of it.
    pub(super) fn accept(&self) -> Option<Connection> {
        let (stream, _) = self.listener.as_ref()?.accept().ok()?;
        let (user, pid) = peer::at(&stream).ok()?;
        let is_daemon = user == rustix::process::geteuid() && peer::confined(pid).is_none();
        is_daemon.then(|| Connection::new(stream, Vec::new()).ok()).flatten()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        if self.listener.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        create_private(directory)?;
    }
    // The name carries the job's id: whatever is there is of an earlier life of this socket.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let (address, _directory) = socket_address(path)?;
    let listener = UnixListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_is_begun_is_due_and_a_connection_between_two_is_not() {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let mut connection = Connection::new(ours, Vec::new()).expect("works");
        let seconds = Duration::from_secs;
        let frame = control::encode(&Request::Hold { from: None }, &[]);
        let mut receive = |bytes: &[u8], at| {
            theirs.write_all(bytes).expect("is taken");
            connection.receive().expect("it goes on");
            let taken = std::iter::from_fn(|| connection.next(seconds(at)).expect("is well formed")).count();
            (taken, connection.due())
        };
        assert_eq!(receive(&frame, 1), (1, None));
        assert_eq!(receive(&frame[..1], 2), (0, Some(seconds(2) + allowance(1))));
        assert_eq!(receive(&frame[1..3], 9), (0, Some(seconds(2) + allowance(3))));
        assert_eq!(receive(&[&frame[3..], &frame[..2]].concat(), 11), (1, Some(seconds(11) + allowance(2))));
        assert_eq!(receive(&frame[2..], 12), (1, None));
    }
}
