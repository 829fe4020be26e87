//! What users rely on, proved with the real programs: `pyexec`, `pyexecd`, its supervisors, and Python.
//!
//! One module per subject. Nothing here waits for a duration: every wait is for a fact, see [`sandbox`].

mod artifacts;
mod bad_input;
mod bench_verb;
mod benchmarks;
mod clients;
mod daemon_death;
mod daemon_verbs;
mod doctor;
mod environment_builds;
mod environment_cache;
mod environment_sandbox;
mod environment_variables;
mod environments;
mod figures;
mod following;
mod house;
mod input;
mod interruption;
mod limits;
mod listing;
mod mcp_calls;
mod mcp_clients;
mod mcp_install;
mod mcp_protocol;
mod mcp_recovery;
mod mcp_session;
mod memory;
mod output;
mod output_limit;
mod processes;
mod profile;
mod progress;
mod projects;
mod python_start;
mod queue;
mod recovery;
mod retention;
mod running;
mod sandbox;
mod scripts;
mod secrets;
mod starter;
mod submission;
mod uv;
