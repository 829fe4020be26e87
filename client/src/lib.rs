//! The client library of `pyexec` and `pyexec-mcp`: it connects to the daemon, starting one if necessary, and calls it.
//!
//! [`Client`] makes the calls and repeats them when the daemon restarts. [`start`] starts a daemon exactly once, however
//! many clients want one. [`caller`] reads what a job inherits from the submitting process; [`submission`] builds a job.
//! [`reading`] reads a job's output; [`excerpt`], [`profile`] and [`files`] gather what the faces show, as plain values of
//! `pyexec-proto`. The library never prints and never decides how anything is shown.

#![forbid(unsafe_code)]

pub mod caller;
mod client;
pub mod environment_file;
mod error;
pub mod excerpt;
pub mod files;
pub mod profile;
pub mod reading;
pub mod start;
pub mod submission;
pub mod threads;

pub use client::{Client, Daemon};
pub use error::ClientError;
