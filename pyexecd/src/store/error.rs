//! Why the index could not be opened, asked or told.

use std::path::PathBuf;

use pyexec_proto::Error;
use rusqlite::ErrorCode;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("could not open {}: {source}", path.display())]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("{} was made by a newer pyexec (schema {found}, this one knows {known})", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("could not set a damaged index aside: {source}")]
    Quarantine { source: std::io::Error },
    #[error("could not make a thread for the index: {0}")]
    Thread(std::io::Error),
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

    pub(super) fn is_held_by_somebody(&self) -> bool {
        matches!(self, Self::Query(error) if is_held_by_somebody(error))
    }
}

fn is_held_by_somebody(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
