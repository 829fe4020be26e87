//! Starts the takeover by a newer server if this one does not speak the daemon's protocol.

use super::transport::{Successor, Ticket};
use crate::session::{NoSuccessor, Session};

/// `daemon_protocol` is the lowest protocol of the daemon; `ticket` belongs to a request on the connection to hand
/// over.
///
/// # Errors
///
/// No program can take over. This server goes on, and reports that in answers to requests that need the daemon.
pub(super) async fn begin(session: &Session, ticket: &Ticket, daemon_protocol: u16) -> Result<(), NoSuccessor> {
    // A program that was executed for that protocol could only execute the same program again.
    if ticket.executed_for().is_some_and(|protocol| protocol >= daemon_protocol) {
        return Err(NoSuccessor::Again { protocol: daemon_protocol });
    }
    let program = session.successor(daemon_protocol).await?;
    ticket.hand_over_to(Successor { program, daemon_protocol });
    Ok(())
}

pub(super) fn not_taken_over(why: &NoSuccessor) -> String {
    format!("No newer server has taken over from this one: {why}.")
}
