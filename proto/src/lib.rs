//! The vocabulary of pyexec, and the client that speaks it.
//!
//! Everything that crosses a process boundary is declared here: what a job is ([`job`]), which states it passes
//! through ([`state`]), how its output is addressed ([`output`]), which files it leaves ([`artifact`]), which scripts are
//! kept ([`script`]), what is measured of it ([`benchmark`], [`course`], [`profile`]), how far it has got ([`progress`]), the
//! calls a client may make ([`service`]), and what people and agents are shown of it ([`view`]).
//! [`Client`] connects to the daemon, or starts it.
//!
//! This crate imports nothing else of ours.

pub mod artifact;
pub mod benchmark;
pub mod caller;
pub mod client;
pub mod course;
pub mod environment;
pub mod error;
pub mod excerpt;
pub mod fence;
pub mod frozen;
pub mod greeting;
pub mod harmless;
pub mod job;
pub mod limits;
pub mod os_text;
pub mod output;
pub mod paths;
pub mod place;
pub mod preamble;
pub mod proc_file;
pub mod profile;
pub mod progress;
pub mod script;
pub mod service;
pub mod start;
pub mod state;
pub mod statistics;
pub mod threads;
pub mod time;
pub mod ulimit;
pub mod url_password;
pub mod view;
pub mod wire;
pub mod world;

pub use client::{Client, ClientError};
pub use error::Error;
pub use job::{JobDetail, JobId, JobSource, JobSpec};
pub use os_text::OsText;
pub use progress::Progress;
pub use state::{JobState, Outcome, Reason, Status};
pub use time::Timestamp;
