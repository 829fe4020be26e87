//! Parameters that several tools have, and their conversion.

use pyexec_proto::environment::{InvalidPythonVersion, PythonVersion};
use pyexec_proto::output::MAX_CHUNK_BYTES;
use pyexec_proto::request::MAX_WAIT_MS;

use crate::answer::Failure;
use crate::arguments::{Kind, Parameter};

/// Every tool accepts it, but it is not passed on: the protocol layer selects the form of the answer.
pub(super) fn markdown_output() -> Parameter {
    Parameter::new("markdown_output", Kind::Flag, "")
}

/// The images among the job's artifacts.
pub(super) fn images() -> Parameter {
    Parameter::new("images", Kind::Flag, "")
}

/// The limit for each stream.
pub(super) fn max_output_bytes() -> Parameter {
    const MOST: u64 = MAX_CHUNK_BYTES as u64;
    Parameter::new("max_output_bytes", Kind::Whole { least: 0, most: MOST }, "")
}

pub(super) fn job_id() -> Parameter {
    Parameter::new("job_id", Kind::Text, "").required()
}

pub(super) fn wait_seconds(about: &'static str) -> Parameter {
    const MOST: f64 = (MAX_WAIT_MS / 1000) as f64;
    Parameter::new("wait_seconds", Kind::Number { least: 0.0, most: MOST }, about).default(0)
}

/// In milliseconds, rounded up, so that the shortest wait is not zero.
pub(super) fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1e3).ceil() as u64
}

pub(super) fn python(given: &str) -> Result<PythonVersion, Failure> {
    let refused =
        |error: InvalidPythonVersion| Failure::argument(error.to_string(), "give a minor version, such as \"3.12\"");
    given.parse().map_err(refused)
}
