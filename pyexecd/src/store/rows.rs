//! The queries, but for [`super::listing`]. Each function is one, or one transaction.

use pyexec_proto::job::{JobDetail, JobSummary};
use pyexec_proto::output::OutputLengths;
use pyexec_proto::state::{Reason, Status};
use pyexec_proto::{JobId, Progress, Timestamp};
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::error::StoreError;
use crate::retention::FinishedJob;

/// A place in the history of finished jobs, whose order is that of their ends and, where those are alike, of submission.
#[derive(Clone, Copy, Debug)]
pub struct HistoryPlace {
    ended_at: Timestamp,
    sequence: i64,
}

impl HistoryPlace {
    /// Before every job that had ended by then.
    pub fn at(ended_at: Timestamp) -> Self {
        Self { ended_at, sequence: i64::MAX }
    }

    pub fn of(job: &FinishedJob) -> Self {
        Self { ended_at: job.ended_at, sequence: job.sequence }
    }
}

const INSERT: &str = "
    INSERT INTO jobs (id, created_at, label, status, reason, exit_code, pid, started_at, ended_at, elapsed_us,
                      stdout_bytes, stderr_bytes, command, directory, strategy, spec, state, finished, may_have_started,
                      environment, watching)
    VALUES (:id, :created_at, :label, :status, :reason, :exit_code, :pid, :started_at, :ended_at, :elapsed_us,
            :stdout_bytes, :stderr_bytes, :command, :directory, :strategy, :spec, :state, :finished, :may_have_started,
            :environment, :watching)
    ON CONFLICT (id) DO NOTHING";

fn insert(connection: &Connection, job: &JobDetail, may_have_started: bool) -> Result<bool, StoreError> {
    let row = JobSummary::of(job);
    let inserted = connection.prepare_cached(INSERT)?.execute(named_params! {
        ":id": row.id.to_string(),
        ":created_at": row.created_at.0,
        ":label": row.label,
        ":status": row.status.name(),
        ":reason": row.reason.map(Reason::name),
        ":exit_code": row.exit_code,
        ":pid": row.pid,
        ":started_at": row.started_at.map(|at| at.0),
        ":ended_at": end_of(job, &row).map(|at| at.0),
        ":elapsed_us": row.elapsed_us.map(u64::cast_signed),
        ":stdout_bytes": row.output.stdout.cast_signed(),
        ":stderr_bytes": row.output.stderr.cast_signed(),
        ":command": row.command,
        ":directory": row.directory.as_bytes(),
        ":strategy": row.strategy,
        ":spec": serde_json::to_string(&job.spec)?,
        ":state": serde_json::to_string(&job.state)?,
        ":finished": job.state.is_finished(),
        ":may_have_started": may_have_started,
        ":environment": environment_of(job)?,
        ":watching": serde_json::to_string(&job.watching)?,
    })?;
    Ok(inserted > 0)
}

fn environment_of(job: &JobDetail) -> Result<Option<String>, serde_json::Error> {
    job.environment.as_ref().map(serde_json::to_string).transpose()
}

/// When retention counts a job as finished: those that never ran count from their submission.
fn end_of(job: &JobDetail, row: &JobSummary) -> Option<Timestamp> {
    row.ended_at.or_else(|| job.state.is_finished().then_some(row.started_at.unwrap_or(row.created_at)))
}

/// Durable once it returns, also against a loss of power.
pub(super) fn insert_durably(
    connection: &Connection,
    job: &JobDetail,
    may_have_started: bool,
) -> Result<bool, StoreError> {
    durably(connection, |connection| insert(connection, job, may_have_started))
}

/// Durable once it returns, also against a loss of power.
pub(super) fn mark_started(connection: &Connection, id: JobId) -> Result<(), StoreError> {
    durably(connection, |connection| {
        connection.prepare_cached("UPDATE jobs SET may_have_started = 1 WHERE id = ?1")?.execute([id.to_string()])?;
        Ok(())
    })
}

/// FULL for this one commit: with a write-ahead log it is what makes it survive a loss of power.
fn durably<T>(
    connection: &Connection,
    commit: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.execute_batch("PRAGMA synchronous = FULL")?;
    let committed = commit(connection);
    connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    committed
}

/// Remembers this boot. Returns whether the index was last written in another.
pub(super) fn note_boot(connection: &Connection, boot_id: &str) -> Result<bool, StoreError> {
    let last: Option<String> = connection.query_row("SELECT boot_id FROM daemon", [], |row| row.get(0)).optional()?;
    if last.as_deref() == Some(boot_id) {
        return Ok(false);
    }
    connection.execute("DELETE FROM daemon", [])?;
    connection.execute("INSERT INTO daemon (boot_id) VALUES (?1)", [boot_id])?;
    Ok(last.is_some())
}

pub(super) fn import(connection: &mut Connection, jobs: &[JobDetail]) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    for job in jobs {
        // What is found on disk was there before this daemon: nobody can say that it has not been started.
        insert(&transaction, job, true)?;
    }
    Ok(transaction.commit()?)
}

/// Everything but the specification, which never changes.
pub(super) fn update(connection: &Connection, job: &JobDetail) -> Result<(), StoreError> {
    let row = JobSummary::of(job);
    connection
        .prepare_cached(
            "UPDATE jobs SET status = :status, reason = :reason, exit_code = :exit_code, pid = :pid,
                 started_at = :started_at, ended_at = :ended_at, elapsed_us = :elapsed_us,
                 stdout_bytes = :stdout_bytes, stderr_bytes = :stderr_bytes, state = :state, finished = :finished,
                 environment = :environment
             WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": row.id.to_string(),
            ":status": row.status.name(),
            ":reason": row.reason.map(Reason::name),
            ":exit_code": row.exit_code,
            ":pid": row.pid,
            ":started_at": row.started_at.map(|at| at.0),
            ":ended_at": end_of(job, &row).map(|at| at.0),
            ":elapsed_us": row.elapsed_us.map(u64::cast_signed),
            ":stdout_bytes": row.output.stdout.cast_signed(),
            ":stderr_bytes": row.output.stderr.cast_signed(),
            ":state": serde_json::to_string(&job.state)?,
            ":finished": job.state.is_finished(),
            ":environment": environment_of(job)?,
        })?;
    Ok(())
}

const DETAIL: &str =
    "SELECT id, created_at, spec, state, stdout_bytes, stderr_bytes, may_have_started, environment, progress,
            watching
     FROM jobs";

fn detail(row: &Row<'_>) -> Result<JobDetail, StoreError> {
    let Text(id) = row.get("id")?;
    // Rows of before there was the column have it among the fields of the specification.
    let watching = match row.get_ref("watching")?.as_str_or_null().map_err(rusqlite::Error::from)? {
        Some(json) => json,
        None => row.get_ref("spec")?.as_str().map_err(rusqlite::Error::from)?,
    };
    Ok(JobDetail {
        id,
        created_at: Timestamp(row.get("created_at")?),
        spec: serde_json::from_str(row.get_ref("spec")?.as_str().map_err(rusqlite::Error::from)?)?,
        watching: serde_json::from_str(watching)?,
        state: serde_json::from_str(row.get_ref("state")?.as_str().map_err(rusqlite::Error::from)?)?,
        environment: match row.get_ref("environment")?.as_str_or_null().map_err(rusqlite::Error::from)? {
            Some(json) => Some(serde_json::from_str(json)?),
            None => None,
        },
        output: lengths(row)?,
        message: None,
        progress: progress(row)?.flatten(),
        output_removed_from: None,
    })
}

/// `None` when nobody has looked for it; what can not be read is as good as that.
pub(super) fn progress(row: &Row<'_>) -> Result<Option<Option<Progress>>, rusqlite::Error> {
    let json = row.get_ref("progress")?.as_str_or_null()?;
    Ok(json.and_then(|json| serde_json::from_str(json).ok()))
}

pub(super) fn set_progress(connection: &Connection, id: JobId, progress: Option<&Progress>) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE jobs SET progress = ?2 WHERE id = ?1 AND finished")?
        .execute(params![id.to_string(), serde_json::to_string(&progress)?])?;
    Ok(())
}

pub(super) fn lengths(row: &Row<'_>) -> Result<OutputLengths, rusqlite::Error> {
    let bytes = |column| row.get(column).map(i64::cast_unsigned);
    Ok(OutputLengths { stdout: bytes("stdout_bytes")?, stderr: bytes("stderr_bytes")? })
}

/// With whether its last progress has been looked for.
pub(super) fn get(connection: &Connection, id: JobId) -> Result<Option<(JobDetail, bool)>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{DETAIL} WHERE id = ?1"))?;
    let mut rows = statement.query([id.to_string()])?;
    rows.next()?.map(|row| Ok((detail(row)?, progress(row)?.is_some()))).transpose()
}

/// With whether each may have been started.
pub(super) fn unfinished(connection: &Connection) -> Result<Vec<(JobDetail, bool)>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{DETAIL} WHERE NOT finished ORDER BY sequence"))?;
    let mut rows = statement.query([])?;
    let (mut jobs, mut damaged) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        match detail(row) {
            Ok(job) => jobs.push((job, row.get("may_have_started")?)),
            // One row is one job's affair. Without it the job is one that was found on disk.
            Err(error) => {
                let id: String = row.get("id")?;
                tracing::error!(job = id, %error, "a row of the index is damaged; the run directory has to do");
                damaged.push(id);
            }
        }
    }
    for id in damaged {
        connection.prepare_cached("DELETE FROM jobs WHERE id = ?1")?.execute([id])?;
    }
    Ok(jobs)
}

pub(super) fn with_prefix(connection: &Connection, prefix: &str, limit: u32) -> Result<Vec<JobId>, StoreError> {
    // A range, which the index answers; `~` sorts behind every character of an id.
    let mut statement =
        connection.prepare_cached("SELECT id FROM jobs WHERE id >= ?1 AND id < ?1 || '~' ORDER BY id LIMIT ?2")?;
    let ids = statement.query_map(params![prefix, limit], |row| row.get(0).map(|Text(id)| id))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

pub(super) fn unknown(connection: &Connection, ids: &[JobId]) -> Result<Vec<JobId>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM jobs WHERE id = ?1")?;
    let mut unknown = Vec::new();
    for id in ids {
        if !statement.exists([id.to_string()])? {
            unknown.push(*id);
        }
    }
    Ok(unknown)
}

pub(super) fn set_kept_bytes(connection: &mut Connection, measured: &[(JobId, u64)]) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    for (id, bytes) in measured {
        transaction
            .prepare_cached("UPDATE jobs SET kept_bytes = ?2 WHERE id = ?1 AND finished")?
            .execute(params![id.to_string(), bytes.cast_signed()])?;
    }
    Ok(transaction.commit()?)
}

/// The newest end first.
pub(super) fn finished(
    connection: &Connection,
    after: HistoryPlace,
    limit: u32,
) -> Result<Vec<FinishedJob>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT id, sequence, status, ended_at, kept_bytes FROM jobs
         WHERE finished AND (ended_at, sequence) < (?1, ?2)
         ORDER BY ended_at DESC, sequence DESC LIMIT ?3",
    )?;
    let jobs = statement.query_map(params![after.ended_at.0, after.sequence, limit], |row| {
        let (Text(id), Text(status)) = (row.get("id")?, row.get("status")?);
        let bytes: Option<i64> = row.get("kept_bytes")?;
        Ok(FinishedJob {
            id,
            sequence: row.get("sequence")?,
            status,
            ended_at: Timestamp(row.get("ended_at")?),
            bytes: bytes.map(i64::cast_unsigned),
        })
    })?;
    Ok(jobs.collect::<Result<_, _>>()?)
}

pub(super) fn count(connection: &Connection) -> Result<u64, StoreError> {
    let count: i64 = connection.query_row("SELECT coalesce(sum(jobs), 0) FROM totals", [], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

pub(super) fn delete(connection: &mut Connection, ids: &[JobId]) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    for id in ids {
        transaction.prepare_cached("DELETE FROM jobs WHERE id = ?1")?.execute([id.to_string()])?;
    }
    Ok(transaction.commit()?)
}

/// A column that holds the name of something.
pub(super) struct Text<T>(pub T);

impl FromSql for Text<JobId> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map(Text).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

impl FromSql for Text<Status> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map(Text).map_err(|error: String| FromSqlError::Other(error.into()))
    }
}

impl FromSql for Text<Reason> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name = serde_json::Value::from(value.as_str()?);
        serde_json::from_value(name).map(Text).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}
