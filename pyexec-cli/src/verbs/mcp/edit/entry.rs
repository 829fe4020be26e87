//! The entry that is written into settings, and why that may fail.

/// The name of our entry among a client's servers.
pub(crate) const NAME: &str = "pyexec";

/// What belongs to a server that is reached by its address. Beside a `command` it would contradict it, and some clients
/// then refuse the whole file.
pub(super) const OF_A_REMOTE_SERVER: [&str; 4] = ["url", "headers", "http_headers", "bearer_token_env_var"];

/// What a client is to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) command: String,
    pub(crate) args: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EditError {
    #[error("line {line}, column {column}: {problem}")]
    Syntax { line: usize, column: usize, problem: String },
    #[error("{0}")]
    Shape(String),
}
