//! From what a job asks of its environment to the command that runs it.
//!
//! uv resolves, downloads and installs; what is added here is not to pay for it twice. A request resolves to a lock, the
//! lock and the interpreter are the address of an environment, and that is built once and then run directly by its own
//! interpreter.

mod build;
mod cache;
mod caller;
mod check;
mod command;
mod contents;
mod discovery;
mod environments;
mod error;
mod eviction;
mod hashes;
mod imported;
mod inline;
mod interpreter;
mod job_files;
mod locks;
mod log;
mod mark;
mod named;
pub(crate) mod passwords;
mod preparation;
mod present;
mod probes;
mod project;
mod python_request;
mod request;
mod requirement;
mod runner;
mod search_path;
mod sent_files;
mod settings;
mod shelf;
mod startup;
mod uv;
pub mod variables;
mod wanted;
mod way;

pub use cache::Lease;
pub use command::{Command, Target};
pub use environments::Environments;
pub use error::EnvironmentError;
pub use log::PreparationLog;
pub use preparation::{Preparation, Prepared};
pub(crate) use requirement::check_requirement;
