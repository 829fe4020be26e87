//! The client of pyexec that both faces share: it connects to the daemon, or starts it, and speaks with it.
//!
//! [`Client`] makes the calls, and makes them again when a daemon goes away. [`start`] starts a daemon, exactly once however
//! many clients want one. [`caller`] reads what a job takes over from the process that submits it, [`submission`] puts a job together.
//! [`reading`] reads what a job prints; [`excerpt`], [`profile`] and [`files`] gather what is shown of a job, as plain
//! values of the vocabulary.

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
