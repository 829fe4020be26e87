//! What users rely on, proved with the real programs: `pyexec`, `pyexecd`, its supervisors, and Python.
//!
//! One module per subject. Nothing here waits for a duration: every wait is for a fact, see [`sandbox`].

mod daemon_death;
mod house;
mod output;
mod processes;
mod running;
mod sandbox;
