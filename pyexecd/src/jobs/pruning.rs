//! Forgetting jobs: those that somebody prunes, those beyond the bounds of history, and those whose removal an earlier
//! daemon had begun. Which they are is decided in [`crate::retention`].
//!
//! Each job is removed by itself, in this order:
//!
//! ```text
//! it is marked, in memory      nobody is told of it any more
//! its directory is renamed     the name says what the next daemon has to go on with
//! its files are removed        what cannot be removed gets its name back, and stays a job
//! its row is deleted
//! the renamed directory goes
//! ```

use std::time::Duration;

use pyexec_proto::request::{NotRemoved, NotRemovedList, PruneRequest, Pruned};
use pyexec_proto::{Error, JobId, OsText, Timestamp};
use tokio::sync::MutexGuard;

use super::{Jobs, storage};
use crate::blocking::blocking;
use crate::fault::{Point, reached};
use crate::retention::{Bounds, FinishedJob, Policy};
use crate::store::{HistoryPlace, StoreError, seen_time};
use pyexec_run_directory::directory as run_directory;
use pyexec_run_directory::directory::Listing;
use pyexec_run_directory::removal::RemovalError;

/// How many finished jobs are looked at, measured or removed in one go: the index answers others in between.
const PAGE: u32 = 500;

/// What became of jobs that were to be removed.
#[derive(Debug, Default)]
struct Removal {
    removed: u64,
    bytes: u64,
    not_removed: NotRemovedList,
}

impl Removal {
    fn extend(&mut self, other: Self) {
        self.removed += other.removed;
        self.bytes += other.bytes;
        self.not_removed.extend(other.not_removed);
    }
}

fn not_removed(id: JobId, error: &RemovalError) -> NotRemoved {
    tracing::warn!(job = %id, path = %error.path.display(), error = %error.source, "the job could not be removed, and is kept");
    NotRemoved { id: id.to_string(), path: OsText::from(error.path.as_path()), problem: error.source.to_string() }
}

impl Jobs {
    pub async fn prune(&self, request: PruneRequest) -> Result<Pruned, Error> {
        let this = self.clone();
        // A task of its own: half a prune must not end with the call that asked for it.
        let pruning = tokio::spawn(async move { this.prune_to_the_end(request).await });
        pruning.await.map_err(|error| Error::Storage { doing: "prune".to_owned(), problem: error.to_string() })?
    }

    async fn prune_to_the_end(&self, request: PruneRequest) -> Result<Pruned, Error> {
        let failed = |error: StoreError| error.while_doing("prune");
        let policy = Policy {
            older_than: Duration::from_millis(request.older_than_ms),
            keep_completed: request.keep_completed,
            keep_failed: request.keep_failed,
        };
        let now = Timestamp::now();
        let oldest = i64::try_from(request.older_than_ms).unwrap_or(i64::MAX).saturating_mul(1000);
        let mut place = HistoryPlace::at(Timestamp(now.0.saturating_sub(oldest)));
        let total = self.parts.store.count().await.map_err(failed)?;
        let mut all = Removal::default();
        loop {
            let mut page = self.parts.store.finished(place, PAGE).await.map_err(failed)?;
            let Some(last) = page.last() else { break };
            place = HistoryPlace::of(last);
            page.retain(|job| policy.forgets(job, now));
            if request.dry_run {
                self.measure(&mut page).await?;
                all.removed += page.len() as u64;
                all.bytes += page.iter().filter_map(|job| job.bytes).sum::<u64>();
            } else {
                all.extend(self.remove(&page.iter().map(|job| job.id).collect::<Vec<_>>()).await?);
            }
        }
        let Removal { removed, bytes, not_removed } = all;
        Ok(Pruned { removed, remaining: total.saturating_sub(removed), bytes_freed: bytes, not_removed })
    }

    /// Forgets what is beyond the bounds of history, in the background: nobody waits for it.
    pub async fn retire(&self, bounds: &Bounds) -> Result<(), Error> {
        let failed = |error: StoreError| error.while_doing("bound the history");
        let now = Timestamp::now();
        let newest = self.parts.store.finished(HistoryPlace::at(Timestamp(i64::MAX)), 1).await.map_err(failed)?;
        let newest = newest.first().map(|job| job.ended_at);
        let (state, longest_absence) = (self.parts.paths.state.clone(), bounds.longest_absence());
        let seen = blocking(move || Ok(seen_time::observe(&state, now, newest, longest_absence))).await;
        let seen = seen.map_err(storage("look how much time has passed"))?;
        let (mut tally, mut place) = (bounds.tally(seen, now), HistoryPlace::at(now));
        let mut all = Removal::default();
        loop {
            let mut page = self.parts.store.finished(place, PAGE).await.map_err(failed)?;
            let Some(last) = page.last() else { break };
            place = HistoryPlace::of(last);
            let measured = self.measure(&mut page).await?;
            if !measured.is_empty() {
                self.parts.store.set_kept_bytes(measured).await.map_err(failed)?;
            }
            let doomed: Vec<JobId> = page.iter().filter(|job| tally.forgets(job)).map(|job| job.id).collect();
            all.extend(self.remove(&doomed).await?);
        }
        let Removal { removed, bytes, not_removed } = all;
        if removed > 0 || !not_removed.is_empty() {
            let kept = not_removed.total;
            tracing::info!(jobs = removed, bytes, kept, "forgotten: beyond the bounds of history");
        }
        Ok(())
    }

    /// How much those keep of which that is not known yet.
    async fn measure(&self, page: &mut [FinishedJob]) -> Result<Vec<(JobId, u64)>, Error> {
        let unmeasured: Vec<JobId> = page.iter().filter(|job| job.bytes.is_none()).map(|job| job.id).collect();
        if unmeasured.is_empty() {
            return Ok(Vec::new());
        }
        let directories = self.parts.paths.jobs();
        let measure = move || {
            let size = |id: JobId| (id, run_directory::size(&directories.join(id.to_string())));
            Ok(unmeasured.into_iter().map(size).collect::<Vec<_>>())
        };
        let measured = blocking(measure).await.map_err(storage("measure finished jobs"))?;
        // In the same order.
        for (job, (_, bytes)) in page.iter_mut().filter(|job| job.bytes.is_none()).zip(&measured) {
            job.bytes = Some(*bytes);
        }
        Ok(measured)
    }

    /// What lies in the jobs directory, without what an earlier daemon had begun to remove: that is done with first.
    pub async fn listed(&self) -> Result<Listing, Error> {
        let alone = self.removing.lock().await;
        let jobs = self.parts.paths.jobs();
        let list = move || run_directory::list(&jobs);
        let mut listing = blocking(list).await.map_err(storage("list the run directories"))?;
        let half_removed = std::mem::take(&mut listing.half_removed);
        if !half_removed.is_empty() {
            let _marks = self.being_removed.mark(&half_removed);
            if let Err(error) = self.finish_removal(&alone, half_removed).await {
                tracing::warn!(%error, "jobs that were being pruned cannot be removed");
            }
        }
        Ok(listing)
    }

    /// Forgets finished jobs, and removes their files.
    async fn remove(&self, doomed: &[JobId]) -> Result<Removal, Error> {
        if doomed.is_empty() {
            return Ok(Removal::default());
        }
        let alone = self.removing.lock().await;
        let _marks = self.being_removed.mark(doomed);
        let (jobs, ids) = (self.parts.paths.jobs(), doomed.to_vec());
        // Away first, at once and whole.
        let rename = move || {
            let mut kept = NotRemovedList::default();
            let mut renamed = Vec::with_capacity(ids.len());
            for id in ids {
                match run_directory::rename_away(&jobs, id) {
                    Ok(()) => renamed.push(id),
                    Err(error) => kept.push(not_removed(id, &error)),
                }
            }
            Ok((renamed, kept))
        };
        let (renamed, kept) = blocking(rename).await.map_err(storage("remove run directories"))?;
        reached(Point::PruneRenamed);
        let mut removal = self.finish_removal(&alone, renamed).await?;
        removal.not_removed.extend(kept);
        Ok(removal)
    }

    /// Removes what has been renamed away: the files, then the rows, then the names. A daemon that dies in between leaves
    /// names, and the next one goes on here. On a full disk it is the files that make room for what the index has to write.
    async fn finish_removal(&self, _alone: &MutexGuard<'_, ()>, renamed: Vec<JobId>) -> Result<Removal, Error> {
        let failed = storage("remove run directories");
        let jobs = self.parts.paths.jobs();
        let empty = move || {
            let (mut emptied, mut removal) = (Vec::with_capacity(renamed.len()), Removal::default());
            for id in renamed {
                match run_directory::empty_renamed(&jobs, id) {
                    Ok(bytes) => {
                        emptied.push(id);
                        removal.bytes += bytes;
                    }
                    Err(error) => removal.not_removed.push(not_removed(id, &error)),
                }
            }
            Ok((emptied, removal))
        };
        let (emptied, mut removal) = blocking(empty).await.map_err(&failed)?;
        reached(Point::PruneEmptied);
        self.parts.store.delete(emptied.clone()).await.map_err(|error| error.while_doing("forget jobs"))?;
        emptied.iter().for_each(|id| self.parts.changes.note(*id));
        reached(Point::PruneForgotten);
        removal.removed = emptied.len() as u64;
        if self.parts.store.is_makeshift() {
            // The names stay until the index hears of it.
            return Ok(removal);
        }
        let jobs = self.parts.paths.jobs();
        let forget = move || {
            for id in emptied {
                // The job is forgotten; the next daemon tries to remove what is left.
                if let Err(error) = run_directory::forget_renamed(&jobs, id) {
                    tracing::warn!(job = %id, %error, "the directory of a job that was forgotten cannot be removed");
                }
            }
            Ok(())
        };
        blocking(forget).await.map_err(&failed)?;
        Ok(removal)
    }
}
