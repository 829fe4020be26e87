//! Ends a daemon that can not be talked to: one of another protocol, or one that does not answer.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;

use pyexec_proto::paths::{Paths, socket_address};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};

/// Asks whoever listens on the socket to leave, if that is a daemon of ours; its pid.
pub(super) fn terminate(paths: &Paths) -> io::Result<Option<u32>> {
    let (address, _directory) = socket_address(&paths.socket)?;
    let peer = socket_peercred(UnixStream::connect(address)?)?;
    if peer.uid != geteuid() {
        return Ok(None);
    }
    // The descriptor comes first: what is looked at next is the process that it stays with.
    let process = pidfd_open(peer.pid, PidfdFlags::empty())?;
    // Under socket activation the peer is whoever made the socket, which is the user's systemd: not ours to end.
    if !is_daemon(&program(peer.pid)?) {
        return Ok(None);
    }
    pidfd_send_signal(process, Signal::TERM)?;
    Ok(u32::try_from(peer.pid.as_raw_nonzero().get()).ok())
}

fn program(pid: Pid) -> io::Result<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero()))
}

/// An upgrade removes the program of the daemon that runs, which the kernel then says behind its name.
fn is_daemon(program: &Path) -> bool {
    let name = program.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| name.strip_suffix(" (deleted)").unwrap_or(&name).ends_with("pyexecd"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_daemon_is_taken_for_one() {
        for (program, expected) in [
            ("/usr/bin/pyexecd", true),
            ("/usr/bin/pyexecd (deleted)", true),
            ("/usr/lib/systemd/systemd", false),
            ("/usr/bin/pyexecd-helper", false),
        ] {
            assert_eq!(is_daemon(Path::new(program)), expected, "{program}");
        }
    }
}
