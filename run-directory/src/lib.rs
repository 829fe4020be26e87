//! The files that outlive an upgrade: what lies in a run directory, locks, and the frames that the daemon and a supervisor
//! exchange.
