//! What people and agents are shown of jobs. This crate does no I/O.
