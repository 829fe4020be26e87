//! The Model Context Protocol: the requests of a connection, and their transport.
//!
//! [`server`] answers the requests, [`subscriptions`] sends notifications about jobs, [`succession`] makes a newer
//! server take over if the daemon is newer, and [`transport`] reads and writes the stream.

pub(crate) mod server;
mod subscriptions;
mod succession;
pub(crate) mod transport;
