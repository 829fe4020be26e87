//! Opening the index: migrations, and what to do with a file that is damaged, or can not be written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pyexec_proto::Timestamp;
use rusqlite::{Connection, ErrorCode};

use super::error::StoreError;

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

/// Only ever added to. Each brings the schema from its index to the next number.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE jobs (
        sequence     INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of submission, whatever the clock says
        id           TEXT NOT NULL UNIQUE,
        created_at   INTEGER NOT NULL,                   -- microseconds since 1970, as all times here
        label        TEXT,
        status       TEXT NOT NULL,
        reason       TEXT,
        exit_code    INTEGER,
        pid          INTEGER,
        started_at   INTEGER,
        ended_at     INTEGER,
        elapsed_us   INTEGER,
        stdout_bytes INTEGER NOT NULL,
        stderr_bytes INTEGER NOT NULL,
        command      TEXT NOT NULL,
        directory    BLOB NOT NULL,
        strategy     TEXT NOT NULL,
        spec         TEXT NOT NULL,                      -- JSON
        state        TEXT NOT NULL,                      -- JSON
        finished     INTEGER NOT NULL,
        may_have_started INTEGER NOT NULL,               -- durable before anything is started
        environment  TEXT                                -- JSON, once it is known
    ) STRICT;
    CREATE TABLE daemon (boot_id TEXT NOT NULL) STRICT;  -- one row: the boot in which the index was last written
    CREATE INDEX jobs_by_status ON jobs (status, sequence);
    CREATE INDEX jobs_by_label ON jobs (label, sequence) WHERE label IS NOT NULL;
    CREATE INDEX jobs_by_end ON jobs (ended_at) WHERE finished;
    CREATE INDEX jobs_unfinished ON jobs (sequence) WHERE NOT finished;
",
    "
    ALTER TABLE jobs ADD COLUMN progress TEXT;           -- JSON, the last of a finished job; NULL: not looked for yet
",
    "
    ALTER TABLE jobs ADD COLUMN kept_bytes INTEGER;      -- in the files of a finished job; NULL: not measured yet
",
    // Counting rows takes milliseconds where there are many, and every listing says how many there are.
    "
    CREATE TABLE totals (status TEXT PRIMARY KEY, jobs INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO totals SELECT status, count(*) FROM jobs GROUP BY status;
    CREATE TRIGGER jobs_counted AFTER INSERT ON jobs BEGIN
        INSERT INTO totals VALUES (new.status, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
    END;
    CREATE TRIGGER jobs_uncounted AFTER DELETE ON jobs BEGIN
        UPDATE totals SET jobs = jobs - 1 WHERE status = old.status;
    END;
    CREATE TRIGGER jobs_recounted AFTER UPDATE OF status ON jobs WHEN old.status <> new.status BEGIN
        UPDATE totals SET jobs = jobs - 1 WHERE status = old.status;
        INSERT INTO totals VALUES (new.status, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;
    END;
    CREATE INDEX jobs_by_label_and_status ON jobs (label, status, sequence) WHERE label IS NOT NULL;
",
    "
    ALTER TABLE jobs ADD COLUMN watching TEXT;           -- JSON; NULL: among the fields of the specification
",
];

/// A damaged file is renamed, never deleted: what is in it may still be wanted by somebody.
pub(super) fn open_or_quarantine(path: &Path) -> Result<(Connection, Found), StoreError> {
    let existed = path.exists();
    match open(path) {
        Ok(connection) => Ok((connection, if existed { Found::Whole } else { Found::Empty { quarantined: None } })),
        Err(StoreError::Open { source, .. }) if existed && is_damage(&source) => {
            tracing::error!(path = %path.display(), error = %source, "the index is damaged; it is set aside and rebuilt");
            let aside = set_aside(path).map_err(|source| StoreError::Quarantine { source })?;
            Ok((open(path)?, Found::Empty { quarantined: Some(aside) }))
        }
        Err(StoreError::Open { source, .. }) if is_out_of_reach(&source) => {
            tracing::error!(path = %path.display(), error = %source, "the index can not be used; doing without it for now");
            Ok((makeshift(path)?, Found::OutOfReach { problem: source.to_string() }))
        }
        Err(error) => Err(error),
    }
}

/// For as long as the file can not be used: in memory, to be filled from the run directories.
pub(super) fn makeshift(path: &Path) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let mut connection = Connection::open_in_memory().map_err(failed)?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// As [`makeshift`], with what can be read of a file that somebody else holds. What cannot be read is filled in from the run
/// directories.
pub(super) fn copy_in_memory(path: &Path) -> Result<Connection, StoreError> {
    let connection = makeshift(path)?;
    if let Err(error) = copy(&connection, path) {
        tracing::warn!(path = %path.display(), %error, "the index cannot be read, either");
    }
    Ok(connection)
}

fn copy(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    // Whoever waits for the index waits for this, too.
    connection.busy_timeout(Duration::ZERO)?;
    let path = path.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(path.to_owned()))?;
    connection.execute("ATTACH DATABASE ?1 AS held", [path])?;
    let copied = connection.execute_batch(
        "BEGIN; INSERT INTO main.jobs SELECT * FROM held.jobs ORDER BY sequence;
         INSERT INTO main.daemon SELECT * FROM held.daemon; COMMIT;",
    );
    if copied.is_err() {
        // There may be no transaction any more.
        let _ = connection.execute_batch("ROLLBACK");
    }
    connection.execute_batch("DETACH DATABASE held")?;
    copied
}

/// Whether the file can be used now.
pub(super) fn is_usable(path: &Path) -> bool {
    open(path).is_ok()
}

/// The disk is full, or read-only, or fails; or somebody else holds the file. What is in it may well be right.
fn is_out_of_reach(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::PermissionDenied
        )
    )
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn set_aside(path: &Path) -> std::io::Result<PathBuf> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mark = format!(".damaged-{}", Timestamp::now().0);
    for part in ["-wal", "-shm"] {
        // They belong to the damaged file, and would be taken for the new one's.
        let part = beside(part);
        if part.exists() {
            let mut aside = part.clone().into_os_string();
            aside.push(&mark);
            std::fs::rename(&part, aside)?;
        }
    }
    let aside = beside(&mark);
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    // With a write-ahead log, NORMAL survives the death of the daemon; `insert` asks for more.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -2048; PRAGMA foreign_keys = ON;",
        )
        .map_err(failed)?;
    migrate(&mut connection, path)?;
    // The least write there is: an index that can only be read is of no use.
    connection.execute_batch("BEGIN IMMEDIATE; UPDATE daemon SET boot_id = boot_id; COMMIT;").map_err(failed)?;
    Ok(connection)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let known = i64::try_from(MIGRATIONS.len()).expect("there are few");
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    if found > known {
        return Err(StoreError::Newer { path: path.to_owned(), found, known });
    }
    for (number, migration) in (1..).zip(MIGRATIONS).skip(usize::try_from(found).unwrap_or(0)) {
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(migration).map_err(failed)?;
        transaction.pragma_update(None, "user_version", number).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    // A file that is damaged beyond its header shows it here, at the latest.
    connection
        .query_row("SELECT count(*) FROM (SELECT state FROM jobs ORDER BY sequence DESC LIMIT 100)", [], |_| Ok(()))
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_index_is_empty_and_an_old_one_is_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("jobs.sqlite3");
        assert_eq!(open_or_quarantine(&path).expect("opens").1, Found::Empty { quarantined: None });
        assert_eq!(open_or_quarantine(&path).expect("opens").1, Found::Whole);
    }

    #[test]
    fn a_file_that_is_no_database_is_set_aside_and_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("jobs.sqlite3");
        std::fs::write(&path, "garbage ".repeat(1000)).expect("can be written");
        let Found::Empty { quarantined: Some(aside) } = open_or_quarantine(&path).expect("opens").1 else {
            panic!("garbage was taken for an index");
        };
        assert!(std::fs::read_to_string(aside).expect("is kept").starts_with("garbage"));
    }

    #[test]
    fn an_index_of_the_future_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("jobs.sqlite3");
        let (connection, _) = open_or_quarantine(&path).expect("opens");
        connection.pragma_update(None, "user_version", 99).expect("can be set");
        drop(connection);
        assert!(matches!(open_or_quarantine(&path), Err(StoreError::Newer { found: 99, .. })));
        assert!(path.exists());
    }
}
