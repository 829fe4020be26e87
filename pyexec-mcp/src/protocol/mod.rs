//! The Model Context Protocol: what is asked over a connection, and how it gets here.
//!
//! [`server`] answers the requests of one connection, [`subscriptions`] tells of what happens between them, and
//! [`transport`] reads and writes the stream.

pub(crate) mod server;
mod subscriptions;
pub(crate) mod transport;
