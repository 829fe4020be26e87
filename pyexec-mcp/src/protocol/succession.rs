//! Has a newer server take over from this one, which does not speak the protocol of the daemon.

use super::transport::{Successor, Ticket};
use crate::session::{NoSuccessor, Session};

/// `daemon_protocol` is the lowest that the daemon speaks; `ticket` is of a request on the connection that is taken over.
///
/// # Errors
/// No program can take over: this one goes on, and says so to whoever asks something of the daemon.
pub(super) async fn begin(session: &Session, ticket: &Ticket, daemon_protocol: u16) -> Result<(), NoSuccessor> {
    // Whoever has executed this program for that protocol could only execute it again.
    if ticket.executed_for().is_some_and(|protocol| protocol >= daemon_protocol) {
        return Err(NoSuccessor::Again { protocol: daemon_protocol });
    }
    let program = session.successor(daemon_protocol).await?;
    ticket.have_taken_over_by(Successor { program, daemon_protocol });
    Ok(())
}

pub(super) fn not_taken_over(why: &NoSuccessor) -> String {
    format!("No newer server has taken over from this one: {why}.")
}
