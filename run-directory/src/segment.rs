//! How a stream is cut into files: `stdout.0`, `stdout.1`, …, each [`BYTES`] long but the last.

use pyexec_proto::output::Stream;

/// The size of a segment. Part of the run directory's format: never changes.
pub const BYTES: u64 = 8 << 20;

pub fn number(offset: u64) -> u64 {
    offset / BYTES
}

pub fn offset_within(offset: u64) -> u64 {
    offset % BYTES
}

pub fn name(stream: Stream, number: u64) -> String {
    format!("{stream}.{number}")
}

/// Of a file of that name; `None` when it is no segment, or one that no stream can have come to.
pub fn number_in(stream: Stream, file_name: &str) -> Option<u64> {
    let number = file_name.strip_prefix(stream.name())?.strip_prefix('.')?.parse().ok()?;
    (number < u64::MAX / BYTES && name(stream, number) == file_name).then_some(number)
}
