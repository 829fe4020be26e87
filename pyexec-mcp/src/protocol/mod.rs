//! The Model Context Protocol: what is asked over a connection, and how it gets here.
//!
//! [`server`] answers the requests of one connection, [`subscriptions`] tells of what happens between them, [`succession`]
//! has a newer server take over when the daemon is newer, and [`transport`] reads and writes the stream.

pub(crate) mod server;
mod subscriptions;
mod succession;
pub(crate) mod transport;
