//! The dispatcher with a fake engine, and with the real index, in memory.

mod ends;
mod fake;
mod generated;
mod harness;
mod load;
mod restarts;
