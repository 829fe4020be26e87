//! What a forked child says to its parent until it has become the program: what failed, and what it could not take over.

use std::io;
use std::os::fd::OwnedFd;

/// Where a start failed, and why.
#[derive(Debug)]
pub(crate) struct StartFailure {
    pub(crate) stage: Stage,
    pub(crate) error: io::Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Fork,
    Setup,
    Groups,
    Namespaces,
    Ids,
    Loopback,
    Directory,
    Landlock,
    Exec,
}

impl Stage {
    const ALL: [Stage; 9] = [
        Stage::Fork,
        Stage::Setup,
        Stage::Groups,
        Stage::Namespaces,
        Stage::Ids,
        Stage::Loopback,
        Stage::Directory,
        Stage::Landlock,
        Stage::Exec,
    ];

    /// As the child says it, with the error.
    pub(super) fn said(message: [u8; MESSAGE]) -> StartFailure {
        let [stage, errno @ ..] = message;
        let stage = Stage::ALL.get(usize::from(stage)).copied().unwrap_or(Stage::Setup);
        StartFailure { stage, error: io::Error::from_raw_os_error(i32::from_ne_bytes(errno)) }
    }
}

/// A stage and an errno.
pub(super) const MESSAGE: usize = 5;
/// What a child says in place of both when its namespaces are made, and its ids are to be mapped.
pub(super) const UNMAPPED: [u8; MESSAGE] = [u8::MAX; MESSAGE];
/// What begins a message of something that could not be taken over, with its number in [`Piece::ALL`]; the child goes on.
const UNSET: u8 = 0x80;

/// What the child says of something that it could not take over, if that is what it says.
pub(super) fn unset(message: [u8; MESSAGE]) -> Option<Piece> {
    let [UNSET, piece, ..] = message else { return None };
    Piece::ALL.get(usize::from(piece)).copied()
}

/// In the child.
pub(super) fn say_unset(piece: Piece, say: &OwnedFd) {
    let mut message = [0; MESSAGE];
    [message[0], message[1]] = [UNSET, piece as u8];
    // There is room in the pipe for all of them.
    let _ = rustix::io::write(say, &message);
}

/// Something that a child sets on itself, and that may be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Nice,
    Policy,
    Io,
    Cpus,
    OomScoreAdj,
    TimerSlack,
    Personality,
}

impl Piece {
    pub(crate) const ALL: [Piece; 7] =
        [Piece::Nice, Piece::Policy, Piece::Io, Piece::Cpus, Piece::OomScoreAdj, Piece::TimerSlack, Piece::Personality];
}
