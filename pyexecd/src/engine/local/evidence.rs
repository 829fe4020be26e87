//! What a run directory says of a job, and what a job leaves running whose supervisor has gone.

use std::path::Path;
use std::time::Duration;

use pyexec_proto::JobId;
use rustix::process::Signal;

use crate::engine::Evidence;
use pyexec_run_directory::processes;
use pyexec_run_directory::record::{self, IDENTITY, Identity, WhatEnded};

/// What a run directory says about a job that may be running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is a record.
    Ended(WhatEnded),
    /// Somebody holds the lock; who, unless what they wrote about themselves is damaged.
    Alive(Option<Identity>),
    /// It was started, nobody holds the lock, and there is no record.
    Gone,
    /// Nobody has begun to run it.
    NeverStarted,
    /// Locked by somebody who has not said who: about to start, or about to leave.
    Undecided,
}

/// # Errors
/// When the directory can not be looked at. A file in it that is damaged says as much as that it is there: a record that
/// tells nothing is none, and a supervisor that left its name was there, whatever it was.
pub(super) fn look_at(directory: &Path) -> Result<Found, record::ReadError> {
    let ending = || match record::read::<record::Ending>(&directory.join(record::ENDING)) {
        Err(record::ReadError::Damaged { .. }) => Ok(None),
        read => read,
    };
    if let Some(ending) = ending()? {
        return Ok(Found::Ended(ending.what));
    }
    let lock =
        record::try_lock(directory).map_err(|source| record::ReadError::Io { path: directory.into(), source })?;
    let identity = match record::read::<Identity>(&directory.join(IDENTITY)) {
        Ok(identity) => identity.map(Some),
        Err(record::ReadError::Damaged { .. }) => Some(None),
        Err(error) => return Err(error),
    };
    Ok(match (lock, identity) {
        (None, Some(identity)) => Found::Alive(identity),
        (None, None) => Found::Undecided,
        (Some(_lock), Some(_)) => match ending()? {
            // The record came between the first look and the lock.
            Some(ending) => Found::Ended(ending.what),
            None => Found::Gone,
        },
        (Some(_lock), None) => Found::NeverStarted,
    })
}

/// As `look_at`, without who it is.
///
/// # Errors
/// Those of `look_at`.
pub fn examine(directory: &Path) -> Result<Evidence, record::ReadError> {
    Ok(match look_at(directory)? {
        Found::Ended(what) => Evidence::Ended(Box::new(what)),
        Found::Alive(_) | Found::Undecided => Evidence::Alive,
        Found::Gone => Evidence::Gone,
        Found::NeverStarted => Evidence::NeverStarted,
    })
}

/// Ends what a job left running whose supervisor is gone, until nothing more is found.
pub(super) fn end_survivors(id: JobId) {
    const ROUNDS: u32 = 100;
    for _ in 0..ROUNDS {
        let survivors = processes::of_job(id);
        if survivors.is_empty() {
            return;
        }
        for process in survivors {
            if let Err(error) = process.signal(Signal::KILL) {
                tracing::warn!(job = %id, pid = process.pid, %error, "a survivor can not be ended");
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    tracing::error!(job = %id, "processes of a lost job are still there");
}
