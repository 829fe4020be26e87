//! What the dispatcher is asked, and what tasks that it has started report back.

use std::collections::HashMap;
use std::time::Duration;

use pyexec_proto::job::{JobDetail, Watching};
use pyexec_proto::request::StopRequest;
use pyexec_proto::world::Submitter;
use pyexec_proto::{JobId, JobState};
use tokio::sync::{oneshot, watch};

use super::snapshot::Snapshot;
use crate::environment::{EnvironmentError, Prepared};
use crate::store::StoreError;

/// A job that an earlier daemon left unfinished.
#[derive(Debug)]
pub struct LeftUnfinished {
    pub job: JobDetail,
    /// In an earlier boot, which left no trace but the index.
    pub may_have_run: bool,
    /// The index did not know of it.
    pub is_found_on_disk: bool,
}

/// All that there is to be known of a job before its process is started.
#[derive(Debug)]
pub struct ReadyToStart {
    pub prepared: Box<Prepared>,
    /// As it is kept in the run directory.
    pub submitter: Option<Submitter>,
}

#[derive(Debug)]
pub enum Command {
    /// A job that is on disk and in the index; `may_start` says whether that says that it may be started.
    Accept {
        job: Box<JobDetail>,
        may_start: bool,
        answer: oneshot::Sender<Option<Box<JobDetail>>>,
    },
    /// Whether a job, accepted now, would be started at once. It may have changed by then.
    Foresee {
        parent: Option<JobId>,
        watching: Watching,
        answer: oneshot::Sender<bool>,
    },
    /// Jobs that an earlier daemon left unfinished. All at once: what runs has to be known before what waits is admitted.
    Recover {
        jobs: Vec<LeftUnfinished>,
    },
    /// `true` when there is something to stop.
    Stop {
        id: JobId,
        request: StopRequest,
        answer: oneshot::Sender<bool>,
    },
    Watch {
        id: JobId,
        answer: oneshot::Sender<Option<watch::Receiver<Snapshot>>>,
    },
    Describe {
        id: JobId,
        answer: oneshot::Sender<Option<Box<JobDetail>>>,
    },
    /// Whether it has not finished, or the index has still to hear of its end.
    Contains {
        id: JobId,
        answer: oneshot::Sender<bool>,
    },
    EnvironmentsInUse {
        answer: oneshot::Sender<HashMap<String, Vec<JobId>>>,
    },
    Count {
        answer: oneshot::Sender<Counts>,
    },
    Prepared {
        id: JobId,
        result: Result<ReadyToStart, EnvironmentError>,
    },
    /// It is on disk that the job may be started.
    StartMarked {
        id: JobId,
    },
    /// Its permission to start has been taken away, or had been used by an earlier daemon's supervisor.
    Withdrawn {
        id: JobId,
        is_started_elsewhere: bool,
    },
    /// It is in the index that the job is to be stopped.
    StopWritten {
        id: JobId,
        grace: Duration,
        answer: oneshot::Sender<bool>,
    },
    /// How it ended is in its run directory.
    Settled {
        id: JobId,
    },
    /// The index has heard of a state, or could not.
    Committed {
        id: JobId,
        state: Box<JobState>,
        committed: Result<(), StoreError>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub running: usize,
    pub pending: usize,
}
