//! The index of jobs: SQLite, on a thread of its own.
//!
//! An index, not the truth: everything in it can be read again from the run directories (see [`pyexec_run_directory`]), and is
//! when the file turns out to be damaged.

mod error;
#[cfg(test)]
pub(crate) mod in_memory;
mod listing;
mod rows;
mod schema;
pub mod seen_time;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use pyexec_proto::job::{JobDetail, JobSummary};
use pyexec_proto::request::JobQuery;
use pyexec_proto::{JobId, Progress};
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use crate::retention::FinishedJob;
pub use error::StoreError;
pub use listing::Listed;
use listing::Unwritten;
pub use rows::HistoryPlace;
pub use schema::Found;

/// How long a write waits for somebody else who holds the file. Everybody else waits with it.
const PATIENCE: Duration = Duration::from_millis(250);

/// What lives on the thread.
struct Index {
    path: PathBuf,
    connection: Connection,
    unwritten: Unwritten,
    /// See [`Store::problem`].
    problem: watch::Sender<Option<String>>,
    #[cfg(test)]
    orders: in_memory::Orders,
}

impl Index {
    /// After a write that was refused because somebody else holds the file: goes on in memory, with what can be read of the
    /// file, so that no other call waits for whoever that is. `false` when it is in memory already.
    fn go_without_file(&mut self, refused: &StoreError) -> bool {
        if self.problem.borrow().is_some() {
            return false;
        }
        match schema::copy_in_memory(&self.path) {
            Ok(connection) => {
                tracing::error!(path = %self.path.display(), error = %refused, "the index cannot be used; doing without it for now");
                self.connection = connection;
                self.problem.send_replace(Some(refused.to_string()));
                true
            }
            Err(error) => {
                tracing::error!(%error, "the index cannot be held in memory");
                false
            }
        }
    }
}

#[cfg(not(test))]
impl Index {
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "a test may order a write to be refused")]
    fn may_write(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

type Task = Box<dyn FnOnce(&mut Index) + Send>;

/// A handle on the thread.
#[derive(Clone, Debug)]
pub struct Store {
    tasks: mpsc::Sender<Task>,
    problem: watch::Receiver<Option<String>>,
}

impl Store {
    pub fn open(path: &Path) -> Result<(Self, Found), StoreError> {
        let (connection, found) = schema::open_or_quarantine(path)?;
        connection.busy_timeout(PATIENCE)?;
        let problem = match &found {
            Found::OutOfReach { problem } => Some(problem.clone()),
            Found::Whole | Found::Empty { .. } => None,
        };
        let (told, problem) = watch::channel(problem);
        let index = Index {
            path: path.to_owned(),
            connection,
            unwritten: Unwritten::new(),
            problem: told,
            #[cfg(test)]
            orders: in_memory::Orders::default(),
        };
        Ok((Self::serve(index, problem)?, found))
    }

    /// Starts the thread.
    fn serve(mut index: Index, problem: watch::Receiver<Option<String>>) -> Result<Self, StoreError> {
        let (tasks, queue) = mpsc::channel::<Task>();
        let work = move || {
            for task in queue {
                #[cfg(test)]
                index.orders.wait();
                task(&mut index);
            }
        };
        std::thread::Builder::new()
            .name("index".to_owned())
            .stack_size(512 << 10)
            .spawn(work)
            .map_err(StoreError::Thread)?;
        Ok(Self { tasks, problem })
    }

    /// Whether it is in memory, and ends with this daemon.
    pub fn is_makeshift(&self) -> bool {
        self.problem.borrow().is_some()
    }

    /// Why the file is out of reach, and the index is held in memory.
    pub fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    /// Returns why, once the file is out of reach.
    pub async fn out_of_reach(&self) -> String {
        let mut problem = self.problem.clone();
        let found = problem.wait_for(Option::is_some).await.ok().and_then(|problem| problem.clone());
        match found {
            Some(problem) => problem,
            // The thread has gone, and the daemon is going.
            None => std::future::pending().await,
        }
    }

    /// Whether the file could be used now.
    pub fn is_usable(path: &Path) -> bool {
        schema::is_usable(path)
    }

    /// Takes its place in the queue at once, whether or not the answer is waited for: whoever asks later sees it done. It is
    /// done a second time, in memory, when somebody else holds the file.
    fn run<T, F>(&self, task: F) -> impl Future<Output = Result<T, StoreError>> + use<T, F>
    where
        T: Send + 'static,
        F: Fn(&mut Index) -> Result<T, StoreError> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let task: Task = Box::new(move |index| {
            let mut done = task(index);
            if let Err(error) = &done
                && error.is_held_by_somebody()
                && index.go_without_file(error)
            {
                done = task(index);
            }
            // Nobody may be waiting any more; the work is done all the same.
            let _ = answer.send(done);
        });
        let queued = self.tasks.send(task);
        async move {
            queued.map_err(|_| StoreError::Closed)?;
            answered.await.map_err(|_| StoreError::Closed)?
        }
    }

    /// Durable once this returns, also against a loss of power. `false` when the id is taken.
    pub async fn insert(&self, job: JobDetail, may_have_started: bool) -> Result<bool, StoreError> {
        let insert = move |index: &mut Index| {
            index.may_write()?;
            rows::insert_durably(&index.connection, &job, may_have_started)
        };
        self.run(insert).await
    }

    /// Durable once this returns, also against a loss of power: from here on the job may be started.
    pub fn mark_started(&self, id: JobId) -> impl Future<Output = Result<(), StoreError>> + use<> {
        self.run(move |index| {
            index.may_write()?;
            rows::mark_started(&index.connection, id)
        })
    }

    /// Returns when everything that was asked for before has been done.
    pub fn barrier(&self) -> impl Future<Output = Result<(), StoreError>> + use<> {
        self.run(|_| Ok(()))
    }

    /// Whether the machine has been restarted since the index was last written.
    pub async fn note_boot(&self, boot_id: String) -> Result<bool, StoreError> {
        self.run(move |index| rows::note_boot(&index.connection, &boot_id)).await
    }

    /// Rows for jobs that were found on disk, all or none. Those that are known already are left as they are.
    pub async fn import(&self, jobs: Vec<JobDetail>) -> Result<(), StoreError> {
        self.run(move |index| rows::import(&mut index.connection, &jobs)).await
    }

    /// Queued at once: a query that is made later sees it, though the answer may still be under way. A listing sees it also
    /// when it could not be written.
    pub fn update(&self, job: JobDetail) -> impl Future<Output = Result<(), StoreError>> + use<> {
        self.run(move |index| {
            let updated = index.may_write().and_then(|()| rows::update(&index.connection, &job));
            match updated {
                Ok(()) => index.unwritten.remove(&job.id),
                Err(_) => index.unwritten.insert(job.id, JobSummary::of(&job)),
            };
            updated
        })
    }

    /// With whether its last progress has been looked for.
    pub async fn get(&self, id: JobId) -> Result<Option<(JobDetail, bool)>, StoreError> {
        self.run(move |index| rows::get(&index.connection, id)).await
    }

    /// Ids that begin with `prefix`, at most `limit`.
    pub async fn with_prefix(&self, prefix: String, limit: u32) -> Result<Vec<JobId>, StoreError> {
        self.run(move |index| rows::with_prefix(&index.connection, &prefix, limit)).await
    }

    /// Keeps the last progress of a job that has finished, or that there was none. Queued at once.
    pub fn set_progress(
        &self,
        id: JobId,
        progress: Option<Progress>,
    ) -> impl Future<Output = Result<(), StoreError>> + use<> {
        self.run(move |index| rows::set_progress(&index.connection, id, progress.as_ref()))
    }

    /// Keeps how much the files of jobs that have finished hold.
    pub fn set_kept_bytes(&self, measured: Vec<(JobId, u64)>) -> impl Future<Output = Result<(), StoreError>> + use<> {
        self.run(move |index| rows::set_kept_bytes(&mut index.connection, &measured))
    }

    pub async fn list(&self, query: JobQuery) -> Result<Listed, StoreError> {
        self.run(move |index| listing::list(&index.connection, &query, &index.unwritten)).await
    }

    /// Every job that has not finished, in the order of submission, with whether it may have been started.
    pub async fn unfinished(&self) -> Result<Vec<(JobDetail, bool)>, StoreError> {
        self.run(|index| rows::unfinished(&index.connection)).await
    }

    /// Those of `ids` that the index does not know.
    pub async fn unknown(&self, ids: Vec<JobId>) -> Result<Vec<JobId>, StoreError> {
        self.run(move |index| rows::unknown(&index.connection, &ids)).await
    }

    /// The next `limit` of finished jobs, the newest end first: those that come behind `after`.
    pub async fn finished(&self, after: HistoryPlace, limit: u32) -> Result<Vec<FinishedJob>, StoreError> {
        self.run(move |index| rows::finished(&index.connection, after, limit)).await
    }

    pub async fn count(&self) -> Result<u64, StoreError> {
        self.run(|index| rows::count(&index.connection)).await
    }

    pub async fn delete(&self, ids: Vec<JobId>) -> Result<(), StoreError> {
        let delete = move |index: &mut Index| {
            rows::delete(&mut index.connection, &ids)?;
            index.unwritten.retain(|id, _| !ids.contains(id));
            Ok(())
        };
        self.run(delete).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyexec_proto::environment::Interpreter;
    use pyexec_proto::job::Watching;
    use pyexec_proto::state::{NotStarted, Outcome, StopReason};
    use pyexec_proto::{JobSource, JobSpec, JobState, Status, Timestamp};

    fn job(created_at: i64, state: JobState) -> JobDetail {
        let spec = JobSpec::new(JobSource::Code { code: "pass".into() }, "/", Interpreter::System);
        JobDetail { state, ..JobDetail::submitted(JobId::mint(), Timestamp(created_at), spec) }
    }

    /// One that never ran counts as ended when it was submitted.
    fn ended(at: i64) -> JobDetail {
        job(at, JobState::Finished(Outcome::NotStarted(NotStarted::Stopped(StopReason::Cancelled))))
    }

    #[tokio::test]
    async fn history_is_gone_through_once_from_the_newest_end_whatever_the_size_of_a_page_and_what_is_deleted() {
        for (limit, delete) in [(1, false), (2, false), (3, true), (100, false)] {
            let directory = tempfile::tempdir().expect("a directory");
            let (store, _) = Store::open(&directory.path().join("jobs.sqlite3")).expect("opens");
            let jobs: Vec<JobDetail> = [30, 10, 20, 20, 20, 20, 40].map(ended).into();
            let unfinished = job(15, JobState::Queued);
            store.import(jobs.clone()).await.expect("are recorded");
            store.import(vec![unfinished]).await.expect("is recorded");
            let mut expected: Vec<(i64, usize)> =
                jobs.iter().enumerate().map(|(order, job)| (job.created_at.0, order)).collect();
            expected.retain(|(at, _)| *at <= 30);
            expected.sort();
            expected.reverse();
            let (mut place, mut seen) = (HistoryPlace::at(Timestamp(30)), Vec::new());
            loop {
                let page = store.finished(place, limit).await.expect("can be read");
                let Some(last) = page.last() else { break };
                assert!(page.len() <= limit as usize);
                place = HistoryPlace::of(last);
                if delete {
                    store.delete(page.iter().map(|job| job.id).collect()).await.expect("can be deleted");
                }
                seen.extend(page);
            }
            let order_of = |id| jobs.iter().position(|job| job.id == id).expect("is one of them");
            let seen: Vec<_> = seen.iter().map(|job| (job.ended_at.0, order_of(job.id))).collect();
            assert_eq!(seen, expected, "in pages of {limit}");
        }
    }

    #[tokio::test]
    async fn how_a_job_is_watched_is_kept_and_read_of_rows_that_have_it_in_the_specification() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("jobs.sqlite3");
        let (store, _) = Store::open(&path).expect("opens");
        let watching = Watching { waited_for: true, notify_output: false, attached: true };
        let jobs = [job(1, JobState::Queued), job(2, JobState::Queued)].map(|job| JobDetail { watching, ..job });
        store.import(jobs.to_vec()).await.expect("are recorded");
        // As an earlier daemon has left it.
        let connection = Connection::open(&path).expect("opens");
        let old = r#"UPDATE jobs SET watching = NULL, spec = json_patch(spec, ?2) WHERE id = ?1"#;
        let fields = r#"{"waited_for":true,"notify_output":false,"attached":true}"#;
        assert_eq!(connection.execute(old, [&jobs[0].id.to_string(), fields]).expect("can be written"), 1);
        for job in jobs {
            let (found, _) = store.get(job.id).await.expect("can be read").expect("is there");
            assert_eq!((found.watching, found.spec), (watching, job.spec));
        }
    }

    #[tokio::test]
    async fn a_listing_says_how_many_there_are_of_each_state_whatever_became_of_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, _) = Store::open(&directory.path().join("jobs.sqlite3")).expect("opens");
        let total = async |statuses: &[Status]| {
            let query = JobQuery { statuses: statuses.to_vec(), limit: 1, ..JobQuery::default() };
            store.list(query).await.expect("can be listed").page.total
        };
        assert_eq!(total(&[]).await, 0);
        let jobs: Vec<JobDetail> = (0..5).map(|at| job(at, JobState::Queued)).collect();
        store.import(jobs.clone()).await.expect("are recorded");
        assert!(!store.insert(jobs[0].clone(), false).await.expect("is known"));
        assert_eq!((total(&[]).await, total(&[Status::Pending]).await), (5, 5));
        for known in &jobs[..3] {
            let state = ended(0).state;
            store.update(JobDetail { state, ..known.clone() }).await.expect("is recorded");
        }
        store.update(jobs[4].clone()).await.expect("is recorded");
        assert_eq!((total(&[Status::Pending]).await, total(&[Status::Cancelled]).await), (2, 3));
        store.delete(jobs[2..4].iter().map(|job| job.id).collect()).await.expect("are deleted");
        assert_eq!((total(&[Status::Pending]).await, total(&[Status::Cancelled]).await), (1, 2));
        assert_eq!(total(&[Status::Pending, Status::Cancelled]).await, 3);
        assert_eq!((total(&[]).await, store.count().await.expect("can be counted")), (3, 3));
    }

    #[tokio::test]
    async fn a_listing_in_pages_is_all_that_was_asked_for_the_newest_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, _) = Store::open(&directory.path().join("jobs.sqlite3")).expect("opens");
        let mut jobs = Vec::new();
        for number in 0..24 {
            let state = match number % 3 {
                0 => JobState::Queued,
                1 => ended(0).state,
                _ => JobState::Finished(Outcome::Lost { last_seen: None }),
            };
            let mut job = job(number, state);
            job.spec.label =
                ["night", "day"].get(usize::try_from(number % 4).expect("is small")).map(|l| (*l).to_owned());
            jobs.push(job);
        }
        store.import(jobs.clone()).await.expect("are recorded");
        assert_listed_in_pages(&store, &jobs).await;
    }

    #[tokio::test]
    async fn a_listing_knows_what_could_not_be_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, _) = Store::open(&directory.path().join("jobs.sqlite3")).expect("opens");
        let mut jobs: Vec<JobDetail> = (0..12).map(|number| job(number, JobState::Queued)).collect();
        for job in &mut jobs[..3] {
            job.spec.label = Some("night".to_owned());
        }
        store.import(jobs.clone()).await.expect("are recorded");
        let writable = async |writable: bool| {
            let set = move |index: &mut Index| Ok(index.connection.pragma_update(None, "query_only", !writable)?);
            store.run(set).await.expect("can be set");
        };
        writable(false).await;
        for number in [0, 1, 5, 6, 11] {
            jobs[number].state = ended(0).state;
            store.update(jobs[number].clone()).await.expect_err("nothing can be written");
        }
        assert_listed_in_pages(&store, &jobs).await;
        jobs[6].state = JobState::Finished(Outcome::Lost { last_seen: None });
        store.update(jobs[6].clone()).await.expect_err("nothing can be written");
        assert_listed_in_pages(&store, &jobs).await;
        writable(true).await;
        for number in [1, 6, 11] {
            store.update(jobs[number].clone()).await.expect("can be written again");
        }
        assert_listed_in_pages(&store, &jobs).await;
        store.delete(vec![jobs.remove(5).id, jobs.remove(1).id]).await.expect("can be deleted");
        assert_listed_in_pages(&store, &jobs).await;
        let unwritten = store.run(|index| Ok(index.unwritten.len())).await.expect("can be asked");
        assert_eq!(unwritten, 1);
    }

    /// Whatever is asked for, and however long a page is.
    async fn assert_listed_in_pages(store: &Store, jobs: &[JobDetail]) {
        use Status::{Cancelled, Failed, Pending, Running};
        for statuses in [&[][..], &[Pending], &[Failed, Cancelled], &[Cancelled, Running, Pending, Pending, Cancelled]]
        {
            for label in [None, Some("night"), Some("day"), Some("dusk")] {
                let matches = |job: &&JobDetail| {
                    (statuses.is_empty() || statuses.contains(&job.state.status()))
                        && label.is_none_or(|label| job.spec.label.as_deref() == Some(label))
                };
                let expected: Vec<JobId> = jobs.iter().rev().filter(matches).map(|job| job.id).collect();
                for limit in [1, 3, 100] {
                    let (mut listed, mut page) = (Vec::new(), None);
                    loop {
                        let (statuses, label) = (statuses.to_vec(), label.map(str::to_owned));
                        let query = JobQuery { statuses, label, limit, page };
                        let found = store.list(query).await.expect("can be listed").page;
                        assert_eq!(found.total, expected.len() as u64);
                        listed.extend(found.jobs.iter().map(|job| job.id));
                        page = found.next;
                        if page.is_none() {
                            break;
                        }
                    }
                    assert_eq!(listed, expected, "{statuses:?} of {label:?} in pages of {limit}");
                }
            }
        }
    }
}
