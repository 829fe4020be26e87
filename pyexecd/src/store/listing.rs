//! A page of jobs, the newest first.

use std::cmp::Reverse;
use std::collections::HashMap;

use pyexec_proto::job::JobSummary;
use pyexec_proto::request::{JobPage, JobQuery, MAX_PAGE};
use pyexec_proto::state::{Reason, Status};
use pyexec_proto::{JobId, OsText, Timestamp};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params_from_iter};

use super::error::StoreError;
use super::rows::{Text, lengths, progress};

/// A page of a listing.
#[derive(Debug)]
pub struct Listed {
    pub page: JobPage,
    /// Finished jobs of it whose last progress nobody has looked for yet.
    pub unseen: Vec<JobId>,
}

/// Jobs of whose latest state their rows could not be told: the disk is full, say. A listing knows it all the same.
pub(super) type Unwritten = HashMap<JobId, JobSummary>;

/// What is asked for, of whatever page.
struct Wanted<'a> {
    /// Each once; none for all.
    statuses: Vec<Status>,
    label: Option<&'a str>,
}

impl Wanted<'_> {
    fn takes(&self, status: Status) -> bool {
        self.statuses.is_empty() || self.statuses.contains(&status)
    }
}

/// A row, in its place.
struct Found {
    sequence: i64,
    /// `None` for one that is damaged.
    job: Option<JobSummary>,
    /// It has finished, and nobody has looked for its last progress.
    unseen: bool,
}

pub(super) fn list(connection: &Connection, query: &JobQuery, unwritten: &Unwritten) -> Result<Listed, StoreError> {
    let wanted = Wanted {
        statuses: Status::ALL.into_iter().filter(|status| query.statuses.contains(status)).collect(),
        label: query.label.as_deref(),
    };
    let limit = query.limit.min(MAX_PAGE) as usize;
    let before = query.page.as_deref().and_then(|page| page.parse().ok()).unwrap_or(i64::MAX);
    let mut total = total(connection, &wanted)?;
    // One more than asked for says whether there is a next page; and each row that does not belong there makes room.
    let mut found = newest(connection, &wanted, before, limit + 1 + unwritten.len())?;
    for job in unwritten.values().filter(|job| wanted.label.is_none() || job.label.as_deref() == wanted.label) {
        let Some((sequence, written)) = place(connection, job.id)? else { continue };
        found.retain(|row| row.sequence != sequence);
        total = total.saturating_sub(wanted.takes(written).into());
        if wanted.takes(job.status) {
            total += 1;
            if sequence < before {
                found.push(Found { sequence, job: Some(job.clone()), unseen: job.ended_at.is_some() });
            }
        }
    }
    found.sort_by_key(|row| Reverse(row.sequence));
    let has_more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| has_more).map(|row| row.sequence.to_string());
    let unseen = found.iter().filter(|row| row.unseen).filter_map(|row| row.job.as_ref()).map(|job| job.id).collect();
    let jobs = found.into_iter().filter_map(|row| row.job).collect();
    Ok(Listed { page: JobPage { jobs, total, next }, unseen })
}

/// Where a job stands, and the status its row has.
fn place(connection: &Connection, id: JobId) -> Result<Option<(i64, Status)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT sequence, status FROM jobs WHERE id = ?1")?;
    let place = statement.query_row([id.to_string()], |row| {
        let Text(status) = row.get("status")?;
        Ok((row.get("sequence")?, status))
    });
    Ok(place.optional()?)
}

/// The newest `most` of those that come behind `before`.
fn newest(connection: &Connection, wanted: &Wanted<'_>, before: i64, most: usize) -> Result<Vec<Found>, StoreError> {
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(i64::try_from(most).unwrap_or(i64::MAX)), Box::new(before)];
    let mut rows_wanted = "sequence < ?2".to_owned();
    if let Some(label) = wanted.label {
        values.push(Box::new(label.to_owned()));
        rows_wanted += " AND label = ?3";
    }
    let mut of_each = Vec::new();
    for status in &wanted.statuses {
        values.push(Box::new(status.name()));
        of_each.push(format!("{rows_wanted} AND status = ?{}", values.len()));
    }
    match of_each.as_slice() {
        [] => {}
        [one] => rows_wanted.clone_from(one),
        // An index has the jobs of one state in order, and not those of several: the newest of each.
        several => {
            let newest = |one| {
                format!("SELECT sequence FROM (SELECT sequence FROM jobs WHERE {one} ORDER BY sequence DESC LIMIT ?1)")
            };
            let newest: Vec<String> = several.iter().map(newest).collect();
            rows_wanted = format!("sequence IN ({})", newest.join(" UNION ALL "));
        }
    }
    let mut statement = connection.prepare_cached(&format!(
        "SELECT sequence, id, created_at, label, status, reason, exit_code, pid, started_at, ended_at, elapsed_us,
             stdout_bytes, stderr_bytes, command, directory, strategy, finished, progress
         FROM jobs WHERE {rows_wanted} ORDER BY sequence DESC LIMIT ?1"
    ))?;
    let found = statement.query_map(params_from_iter(&values), |row| {
        let sequence = row.get("sequence")?;
        let read = summary(row).and_then(|job| Ok((job, row.get("finished")? && progress(row)?.is_none())));
        Ok(match read {
            Ok((job, unseen)) => Found { sequence, job: Some(job), unseen },
            Err(error) => {
                tracing::error!(sequence, %error, "a row of the index is damaged, and left out");
                Found { sequence, job: None, unseen: false }
            }
        })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// How many there are. Of all labels together that has been counted already.
fn total(connection: &Connection, wanted: &Wanted<'_>) -> Result<u64, StoreError> {
    let mut values: Vec<&str> = wanted.statuses.iter().map(|status| status.name()).collect();
    let of_statuses = match wanted.statuses.as_slice() {
        [] => String::new(),
        some => format!("AND status IN ({})", vec!["?"; some.len()].join(", ")),
    };
    let sql = match wanted.label {
        None => format!("SELECT coalesce(sum(jobs), 0) FROM totals WHERE true {of_statuses}"),
        Some(label) => {
            values.push(label);
            format!("SELECT count(*) FROM jobs WHERE true {of_statuses} AND label = ?")
        }
    };
    let total: i64 = connection.prepare_cached(&sql)?.query_row(params_from_iter(values), |row| row.get(0))?;
    Ok(total.cast_unsigned())
}

fn summary(row: &Row<'_>) -> Result<JobSummary, rusqlite::Error> {
    let Text(id) = row.get("id")?;
    let Text(status) = row.get("status")?;
    let time = |column| row.get::<_, Option<i64>>(column).map(|at| at.map(Timestamp));
    let ended_at = time("ended_at")?;
    let elapsed_us = row.get::<_, Option<i64>>("elapsed_us")?.map(i64::cast_unsigned);
    Ok(JobSummary {
        id,
        created_at: Timestamp(row.get("created_at")?),
        label: row.get("label")?,
        status,
        reason: row.get::<_, Option<Text<Reason>>>("reason")?.map(|Text(reason)| reason),
        exit_code: row.get("exit_code")?,
        pid: row.get("pid")?,
        started_at: time("started_at")?,
        // The column also holds what retention goes by; only a run that ended has an end.
        ended_at: ended_at.filter(|_| elapsed_us.is_some()),
        elapsed_us,
        output: lengths(row)?,
        progress: progress(row)?.flatten(),
        command: row.get("command")?,
        directory: OsText::from(row.get::<_, Vec<u8>>("directory")?),
        strategy: row.get("strategy")?,
    })
}
