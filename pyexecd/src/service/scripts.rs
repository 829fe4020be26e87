//! Scripts that are kept.

use pyexec_proto::Error;

/// Declared before it is made: clients can be written against it.
pub(super) fn not_yet<T>() -> Result<T, Error> {
    Err(Error::Storage { doing: "keep scripts".to_owned(), problem: "this daemon does not keep any yet".to_owned() })
}
