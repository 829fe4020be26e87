//! The files of pyexec that outlive an upgrade: an older supervisor, and a newer daemon, read what this one has written.

#![forbid(unsafe_code)]

pub mod boot;
pub mod control;
pub mod directories;
pub mod directory;
pub mod lock_file;
pub mod output;
pub mod own_limits;
pub mod ownership;
pub mod place;
pub mod private;
pub mod proc_file;
pub mod processes;
pub mod record;
pub mod regular_file;
pub mod removal;
pub mod report;
pub mod segment;
pub mod socket;
