//! The index of jobs: SQLite, on a thread of its own.
//!
//! An index, not the truth: everything in it can be read again from the run directories (see [`run_directory`]), and is
//! when the file turns out to be damaged.

pub mod removal;
pub mod run_directory;

mod rows;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use pyexec_proto::job::JobDetail;
use pyexec_proto::service::{JobPage, JobQuery};
use pyexec_proto::{Error, JobId, Progress, Timestamp};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::jobs::retention::FinishedJob;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("could not open {}: {source}", path.display())]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("{} was made by a newer pyexec (schema {found}, this one knows {known})", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("could not set a damaged index aside: {source}")]
    Quarantine { source: std::io::Error },
    #[error(transparent)]
    Query(#[from] rusqlite::Error),
    #[error("a row of the index is damaged: {0}")]
    Row(#[from] serde_json::Error),
    #[error("the index has been closed")]
    Closed,
}

impl StoreError {
    /// As a client is told, with what was being done.
    pub fn while_doing(&self, doing: &str) -> Error {
        Error::Storage { doing: doing.to_owned(), problem: self.to_string() }
    }
}

type Task = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle; the connection lives on the thread.
#[derive(Clone, Debug)]
pub struct Store {
    tasks: mpsc::Sender<Task>,
    /// In memory, because the file is out of reach.
    makeshift: bool,
}

/// How the index was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    Whole,
    /// There was none, or a damaged one, which is now at this path. Rebuild it from the run directories.
    Empty {
        quarantined: Option<PathBuf>,
    },
    /// It can not be used now: the disk is full, say. What is used is in memory, and empty. Fill it from the run directories.
    OutOfReach {
        problem: String,
    },
}

/// A page of a listing.
#[derive(Debug)]
pub struct Listed {
    pub page: JobPage,
    /// Finished jobs of it whose last progress nobody has looked for yet.
    pub unseen: Vec<JobId>,
}

impl Store {
    pub fn open(path: &Path) -> Result<(Self, Found), StoreError> {
        let (mut connection, found) = schema::open_or_quarantine(path)?;
        let (tasks, queue) = mpsc::channel::<Task>();
        let work = move || {
            for task in queue {
                task(&mut connection);
            }
        };
        std::thread::Builder::new()
            .name("index".to_owned())
            .stack_size(512 << 10)
            .spawn(work)
            .map_err(|source| StoreError::Quarantine { source })?;
        let makeshift = matches!(found, Found::OutOfReach { .. });
        Ok((Self { tasks, makeshift }, found))
    }

    /// Whether it ends with this daemon.
    pub fn is_makeshift(&self) -> bool {
        self.makeshift
    }

    /// Whether the file could be used now.
    pub fn is_usable(path: &Path) -> bool {
        schema::is_usable(path)
    }

    /// Takes its place in the queue at once, whether or not the answer is waited for: whoever asks later sees it done.
    fn run<T, F>(&self, task: F) -> impl Future<Output = Result<T, StoreError>> + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let task: Task = Box::new(move |connection| {
            // Nobody may be waiting any more; the work is done all the same.
            let _ = answer.send(task(connection));
        });
        let queued = self.tasks.send(task);
        async move {
            queued.map_err(|_| StoreError::Closed)?;
            answered.await.map_err(|_| StoreError::Closed)?
        }
    }

    /// Durable once this returns, also against a loss of power. `false` when the id is taken.
    pub async fn insert(&self, job: JobDetail, may_have_started: bool) -> Result<bool, StoreError> {
        self.run(move |connection| rows::insert_durably(connection, &job, may_have_started)).await
    }

    /// Durable once this returns, also against a loss of power: from here on the job may be started.
    pub fn mark_started(&self, id: JobId) -> impl Future<Output = Result<(), StoreError>> + use<> {
        self.run(move |connection| rows::mark_started(connection, id))
    }

    /// Returns when everything that was asked for before has been done.
    pub fn barrier(&self) -> impl Future<Output = Result<(), StoreError>> + use<> {
        self.run(|_| Ok(()))
    }

    /// Whether the machine has been restarted since the index was last written.
    pub async fn note_boot(&self, boot_id: String) -> Result<bool, StoreError> {
        self.run(move |connection| rows::note_boot(connection, &boot_id)).await
    }

    /// Rows for jobs that were found on disk, all or none. Those that are known already are left as they are.
    pub async fn import(&self, jobs: Vec<JobDetail>) -> Result<(), StoreError> {
        self.run(move |connection| rows::import(connection, &jobs)).await
    }

    /// Queued at once: a query that is made later sees it, though the answer may still be under way.
    pub fn update(&self, job: JobDetail) -> impl Future<Output = Result<(), StoreError>> + use<> {
        self.run(move |connection| rows::update(connection, &job))
    }

    /// With whether its last progress has been looked for.
    pub async fn get(&self, id: JobId) -> Result<Option<(JobDetail, bool)>, StoreError> {
        self.run(move |connection| rows::get(connection, id)).await
    }

    /// Ids that begin with `prefix`, at most `limit`.
    pub async fn with_prefix(&self, prefix: String, limit: u32) -> Result<Vec<JobId>, StoreError> {
        self.run(move |connection| rows::with_prefix(connection, &prefix, limit)).await
    }

    /// Keeps the last progress of a job that has finished, or that there was none. Queued at once.
    pub fn set_progress(
        &self,
        id: JobId,
        progress: Option<Progress>,
    ) -> impl Future<Output = Result<(), StoreError>> + use<> {
        self.run(move |connection| rows::set_progress(connection, id, progress.as_ref()))
    }

    /// Keeps how much the files of jobs that have finished hold.
    pub fn set_kept_bytes(&self, measured: Vec<(JobId, u64)>) -> impl Future<Output = Result<(), StoreError>> + use<> {
        self.run(move |connection| rows::set_kept_bytes(connection, &measured))
    }

    pub async fn list(&self, query: JobQuery) -> Result<Listed, StoreError> {
        self.run(move |connection| rows::list(connection, &query)).await
    }

    /// Every job that has not finished, in the order of submission, with whether it may have been started.
    pub async fn unfinished(&self) -> Result<Vec<(JobDetail, bool)>, StoreError> {
        self.run(|connection| rows::unfinished(connection)).await
    }

    /// Every id, for comparing with the run directories.
    pub async fn ids(&self) -> Result<std::collections::HashSet<JobId>, StoreError> {
        self.run(|connection| rows::ids(connection)).await
    }

    pub async fn finished_before(&self, end: Timestamp) -> Result<Vec<FinishedJob>, StoreError> {
        self.run(move |connection| rows::finished_before(connection, end)).await
    }

    pub async fn count(&self) -> Result<u64, StoreError> {
        self.run(|connection| rows::count(connection)).await
    }

    pub async fn delete(&self, ids: Vec<JobId>) -> Result<(), StoreError> {
        self.run(move |connection| rows::delete(connection, &ids)).await
    }
}
