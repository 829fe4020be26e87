//! The vocabulary of pyexec.
//!
//! Everything that crosses a process boundary is declared here: what a job is ([`job`]), which states it passes
//! through ([`state`]), how its output is addressed ([`output`]), which files it leaves ([`artifact`]), which scripts are
//! kept ([`script`]), what is measured of it ([`benchmark`], [`profile`]), how far it has got ([`progress`]), and what the
//! calls of a client carry ([`request`]). The calls themselves (`service`) and what carries them (`wire`, `frozen`) need tokio and
//! tarpc: only the feature `wire` brings them.
//!
//! This crate imports nothing else of ours, and does no I/O.

#![forbid(unsafe_code)]

pub mod artifact;
pub mod benchmark;
pub mod daemon;
pub mod environment;
pub mod error;
pub mod exit;
pub mod fence;
#[cfg(feature = "wire")]
pub mod frozen;
pub mod greeting;
pub mod harmless;
pub mod id;
pub mod job;
pub mod limits;
pub mod os_text;
pub mod output;
pub mod paths;
pub mod place;
pub mod preamble;
pub mod profile;
pub mod progress;
pub mod request;
pub mod script;
#[cfg(feature = "wire")]
pub mod service;
pub mod state;
pub mod time;
pub mod ulimit;
pub mod url_password;
pub mod variables;
#[cfg(feature = "wire")]
pub mod wire;
pub mod world;

pub use error::Error;
pub use id::JobId;
pub use job::{JobDetail, JobSource, JobSpec};
pub use os_text::OsText;
pub use progress::Progress;
pub use state::{JobState, Outcome, Reason, Status};
pub use time::Timestamp;
