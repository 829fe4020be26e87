//! One supervisor per job: `pyexecd supervise`, a small process with one thread, no runtime and no database.
//!
//! It owns the job's process tree, its pipes, its timeout and its exit record. The daemon that started it may die at any
//! moment; nothing here notices, except that there is nobody to tell.
//!
//! This file is the start: everything up to the moment the job runs. `starter` is what it takes to start the job's process,
//! and `supervision` is the loop from there to the end.

pub mod fence;
pub mod own_limits;
pub mod peer;
pub mod scheduling;

mod benchmark;
mod clock;
mod connection;
mod control_group;
mod cpus;
mod input;
mod ledger;
mod limits;
mod process;
mod pump;
mod sampling;
mod starter;
mod supervision;
mod taking_over;

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use pyexec_run_directory::control::{self, Launch, Request};
use pyexec_run_directory::private::open_lock;
use pyexec_run_directory::record::{
    self, ENVIRONMENT, Ending, IDENTITY, Identity, LOCK, PANIC, ReservedRecord, WhatEnded,
};
use pyexec_run_directory::{processes, removal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;

use benchmark::Benchmark;
use connection::{Connection, Door};
use control_group::{CpuMeter, LimitedGroup};
use process::SignalDescriptor;
use starter::Starter;
use supervision::Supervision;
use taking_over::Inherited;

/// The word on the command line that makes this program a supervisor.
pub const VERB: &str = "supervise";

/// Exit code of a supervisor that found that the job is not its to run.
pub const NOT_MINE: u8 = 75;

/// What has become of a supervisor that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervised {
    /// Its job has ended, and it has let go of all that it held: locks, sockets, the run directory's files.
    ToTheEnd,
    /// There was no job, or one that was not its to run.
    NotMine,
    /// It could not run its job, and has said why in the run directory, as far as there was one.
    Failed,
}

impl Supervised {
    /// What the process ends with.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Supervised::ToTheEnd => ExitCode::SUCCESS,
            Supervised::NotMine => ExitCode::from(NOT_MINE),
            Supervised::Failed => ExitCode::FAILURE,
        }
    }
}

/// Waits to be told which job to run, and runs it to its end. Its stdin is the first connection to the daemon.
///
/// The daemon keeps one that waits: it has been loaded and set up by the time a job comes.
pub fn supervise() -> Supervised {
    try_supervise().unwrap_or_else(|error| {
        // There is no job yet, and nobody to tell but the daemon, which sees the code and looks here.
        say_in_run_directory(&error.to_string());
        Supervised::Failed
    })
}

/// Only where a job has been taken on: before that the working directory is not ours.
fn say_in_run_directory(text: &str) {
    if Path::new(LOCK).exists() {
        let _ = std::fs::write(PANIC, format!("{text}\n"));
    }
}

fn try_supervise() -> io::Result<Supervised> {
    pyexec_sys::forget_starter(3);
    std::panic::set_hook(Box::new(|panic| say_in_run_directory(&panic.to_string())));
    let _ = rustix::thread::set_name(c"pyexec-spare");
    let _ = rustix::process::setsid();
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let signals = SignalDescriptor::open()?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;

    let own = std::process::id();
    let started = processes::Process::find(own).map_or(0, |process| process.started);
    let boot_id = pyexec_run_directory::boot::id();
    let mut inherited = Inherited::look()?;

    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let mut daemon = UnixStream::from(stdin);
    // A daemon that died before it said what to start has promised nothing: the next one starts this job.
    let Some((launch, environment, rest)) = receive_launch(&mut daemon, &signals)? else {
        return Ok(Supervised::NotMine);
    };

    inherited.look_at_cpus();
    // A signal that came while nothing ran was not for this job.
    while signals.next().is_some() {}
    // Relative names from here on: the run directory may be renamed away by a prune.
    std::env::set_current_dir(launch.run_directory.as_path())?;
    let name = CString::new(format!("pyexec-{}", &launch.job.simple()[..8])).expect("has no NUL");
    let _ = rustix::thread::set_name(&name);
    let mut connection = Connection::new(daemon, rest)?;
    let identity = Identity::new(launch.job, own, started, boot_id, launch.control_socket.clone());
    let _lock = match take_on(&identity) {
        Ok(Some(lock)) => lock,
        Ok(None) => return Ok(Supervised::NotMine),
        Err(error) => {
            // On a disk that is full there is no other way to say so.
            let what = WhatEnded::SpawnFailed(format!("its supervisor could not take it on: {error}"));
            let _ = connection.send(&control::Notice::Ended { what, unwritten: None });
            return Err(error);
        }
    };
    let prepare = || {
        let record = ReservedRecord::reserve(launch.benchmark.as_ref().map_or(0, Benchmark::record_bytes));
        let mut door = Door::new(launch.control_socket.as_path().to_owned());
        door.open();
        (record, door)
    };
    // A run that is measured is to have the machine for itself.
    let early = launch.benchmark.is_some().then(prepare);
    let temporary_directory = launch.temporary_directory.clone();
    // Also while there is no daemon. Whoever asks for this job's start holds it as well, so that there is nothing to wait for.
    let _environment = launch.environment_lock.as_ref().and_then(|lock| hold(lock.as_path()));
    let group = if launch.group_limits_memory { LimitedGroup::own() } else { None };
    let meter = if launch.has_own_group { CpuMeter::own() } else { None };
    match Starter::new(&launch, &environment, &inherited)
        .and_then(|starter| starter.start().map(|started| (starter, started)))
    {
        Ok((starter, started)) => {
            // While Python starts: nothing of it is needed before.
            let (record, door) = early.unwrap_or_else(prepare);
            let benchmark = launch.benchmark.map(|spec| Benchmark::new(spec, starter, started.at));
            let supervision =
                Supervision::new(&launch, &inherited, started, benchmark, signals, record, connection, door)?;
            supervision.in_group(group, meter).run()?;
        }
        Err(why) => {
            let what = WhatEnded::SpawnFailed(why);
            let mut record = early.map_or_else(|| ReservedRecord::reserve(0), |(record, _door)| record);
            let unwritten = record.write(&Ending::from(what.clone())).err().map(|error| error.to_string());
            let _ = connection.send(&control::Notice::Ended { what, unwritten });
        }
    }
    if let Some(directory) = temporary_directory {
        // What can not be removed is left for whoever tidies temporary files.
        let _ = removal::remove(directory.as_path());
    }
    Ok(Supervised::ToTheEnd)
}

/// Keeps an environment from being removed, for as long as the file is open.
fn hold(lock: &Path) -> Option<File> {
    let file = open_lock(lock).ok()?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared).ok()?;
    Some(file)
}

/// Makes the job in the working directory this supervisor's own; the lock says so for as long as it is held. `None` when it
/// is somebody else's, or nobody's any more.
fn take_on(identity: &Identity) -> io::Result<Option<File>> {
    let Some(lock) = record::try_lock(Path::new("."))? else { return Ok(None) };
    if Path::new(IDENTITY).exists() {
        return Ok(None);
    }
    // Not synced: that this job may have started is on disk already, in the index, and nothing of it survives a reboot.
    record::write_atomically(Path::new("."), IDENTITY, identity)?;
    // The permission to start. Cancelling a job that waits takes it away.
    match std::fs::remove_file(ENVIRONMENT) {
        Ok(()) => Ok(Some(lock)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

type Received = (Box<Launch>, Vec<u8>, Vec<u8>);

/// Waits for the first frame. `None` when the daemon has gone without sending it, or somebody wants this process to end.
fn receive_launch(daemon: &mut UnixStream, signals: &SignalDescriptor) -> io::Result<Option<Received>> {
    let mut received = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match control::decode::<Request>(&mut received)? {
            Some((Request::Launch(launch), environment)) => return Ok(Some((launch, environment, received))),
            Some((other, _)) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("launch expected, got {other:?}")));
            }
            None => {}
        }
        // Once the frame has begun there is a job, and it is not left behind.
        if received.is_empty() && is_to_leave(daemon, signals)? {
            return Ok(None);
        }
        match daemon.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(read) => received.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// Waits until there is something to read, or a TERM has come: a scope that is stopped must not have to wait for us.
fn is_to_leave(daemon: &UnixStream, signals: &SignalDescriptor) -> io::Result<bool> {
    loop {
        let mut watched = [PollFd::new(daemon, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        match poll(&mut watched, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if !watched[0].revents().is_empty() {
            return Ok(false);
        }
        while let Some(signal) = signals.next() {
            if matches!(signal, process::Received::Terminate { .. }) {
                return Ok(true);
            }
        }
    }
}
