//! Named points at which a test can have the daemon die as `kill -9` would have it: between any two steps that a crash
//! might part. Only builds for development have them; in a release they are nothing.

use pyexec_run_directory::directory::Step;

/// Where: what has been done by then, and what has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The run directory is being filled, under its temporary name.
    SubmitFilling,
    /// It is whole, and has no name yet.
    SubmitFilled,
    /// It has its name; the index does not know of it.
    SubmitNamed,
    /// The index has the job; it has no place in the queue.
    SubmitRecorded,
    /// It has a place; the client has heard nothing.
    SubmitAccepted,
    /// Its turn has come.
    PrepareAdmitted,
    /// Its variables have been read.
    PrepareBegun,
    /// Its environment is whole, under its temporary name.
    PrepareBuilt,
    /// The environment is in its place; the job has not heard.
    PrepareShelved,
    /// The job has heard what to run, and not what it runs with been noted.
    PrepareDone,
    /// That it starts is on its way into the index.
    StartCommitted,
    /// A job that had waited: it is on disk that it may start.
    StartMarked,
    /// A supervisor has been taken for it, and told nothing.
    StartLaunched,
    /// The supervisor has been told what to run.
    StartTold,
    /// The supervisor says that the job runs.
    StartHeard,
    /// Somebody wants it stopped; nobody has written that down.
    StopAsked,
    /// It is written down; the supervisor has not been told.
    StopWritten,
    /// The supervisor says how it ended.
    ExitHeard,
    /// How it ended is on its way into the index.
    ExitCommitted,
    /// The index has it.
    ExitNoted,
    /// Jobs that go have been renamed away.
    PruneRenamed,
    /// Their files are gone.
    PruneEmptied,
    /// The index has forgotten them.
    PruneForgotten,
    /// A new daemon knows what an earlier one left.
    RecoverListed,
    /// It is about to look into the run directory of a job that had not finished.
    RecoverLooking,
    /// It listens, and has not said so.
    RecoverListening,
}

impl Point {
    /// All of them, in the order in which a job comes by.
    pub const ALL: [Self; 26] = [
        Self::SubmitFilling,
        Self::SubmitFilled,
        Self::SubmitNamed,
        Self::SubmitRecorded,
        Self::SubmitAccepted,
        Self::PrepareAdmitted,
        Self::PrepareBegun,
        Self::PrepareBuilt,
        Self::PrepareShelved,
        Self::PrepareDone,
        Self::StartCommitted,
        Self::StartMarked,
        Self::StartLaunched,
        Self::StartTold,
        Self::StartHeard,
        Self::StopAsked,
        Self::StopWritten,
        Self::ExitHeard,
        Self::ExitCommitted,
        Self::ExitNoted,
        Self::PruneRenamed,
        Self::PruneEmptied,
        Self::PruneForgotten,
        Self::RecoverListed,
        Self::RecoverLooking,
        Self::RecoverListening,
    ];

    /// As it is asked for.
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

/// Names the point, in the environment of the daemon that is to die there.
pub const FAULT_VARIABLE: &str = "PYEXEC_FAIL_POINT";

/// Whoever comes to `point` first ends the daemon, if it is the one that [`FAULT_VARIABLE`] names.
#[cfg(debug_assertions)]
pub(crate) fn reached(point: Point) {
    static WANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var(FAULT_VARIABLE).ok());
    if wanted.as_ref().is_some_and(|wanted| *wanted == point.name()) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Likewise, while the run directory of a submission is made.
pub(crate) fn reached_in_creation(step: Step) {
    reached(match step {
        Step::Filling => Point::SubmitFilling,
        Step::Filled => Point::SubmitFilled,
        Step::Named => Point::SubmitNamed,
    });
}

#[cfg(not(debug_assertions))]
pub(crate) fn reached(_: Point) {}
