//! Nothing is lost: daemons that die at every named point, and at random under load, and what may lie broken on disk.
//!
//! What must hold is said once, in [`ledger`]: every job that was acknowledged exists exactly once, ran at most once, has
//! its true outcome and its whole output; and nothing is left behind.

mod damage;
mod disk;
mod ledger;
mod points;
mod random;
mod storm;
mod strange;
