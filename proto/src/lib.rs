//! Shared types of pyexec, used by all its programs.
//!
//! This crate declares everything that crosses a process boundary: jobs ([`job`]), their states ([`state`]), their
//! output ([`output`]), artifacts ([`artifact`]), stored scripts ([`script`]), measurements ([`benchmark`],
//! [`profile`]), progress ([`progress`]), and the payloads of requests ([`request`]). The requests themselves
//! (`service`) and their transport (`wire`, `frozen`) need tokio and tarpc, and are behind the feature `wire`.
//!
//! This crate does no I/O and depends on no other crate of this workspace.

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
pub mod sanitize;
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
