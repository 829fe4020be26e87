//! Ends a daemon that cannot be talked to: one of another protocol, or one that does not answer.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use pyexec_client::ClientError;
use pyexec_client::start::find_running;
use pyexec_client::start::process::DaemonProcess;
use pyexec_proto::paths::Paths;
use pyexec_run_directory::socket::socket_address;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Signal, geteuid};

/// The daemon of which a client was told this, if it is one of this user's.
pub(super) fn find(paths: &Paths, error: &ClientError) -> io::Result<Option<DaemonProcess>> {
    if let ClientError::Unresponsive { pid, .. } = error {
        return Ok(DaemonProcess::find(*pid));
    }
    // It may listen elsewhere.
    listener(find_running(paths).ok().flatten().as_deref().unwrap_or(&paths.socket))
}

/// Whoever listens on the socket, if that is a daemon of this user. Under socket activation it is whoever made the socket,
/// the user's systemd, which is not for us to end.
fn listener(socket: &Path) -> io::Result<Option<DaemonProcess>> {
    let (address, _directory) = socket_address(socket)?;
    let peer = socket_peercred(UnixStream::connect(address)?)?;
    if peer.uid != geteuid() {
        return Ok(None);
    }
    Ok(u32::try_from(peer.pid.as_raw_nonzero().get()).ok().and_then(DaemonProcess::find))
}

/// Asks it to leave, also if it has been stopped.
pub(super) fn terminate(daemon: &DaemonProcess) -> io::Result<()> {
    daemon.signal(Signal::TERM)?;
    daemon.signal(Signal::CONT)
}

/// Ends it without asking, which no job notices.
pub(super) fn kill(daemon: &DaemonProcess) -> io::Result<()> {
    daemon.signal(Signal::KILL)
}
