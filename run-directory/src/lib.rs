//! The files that outlive an upgrade: what lies in a run directory, locks, and the frames that the daemon and a supervisor
//! exchange.

pub mod directories;
pub mod lock_file;
pub mod own_limits;
pub mod ownership;
pub mod place;
pub mod private;
pub mod proc_file;
pub mod socket;
