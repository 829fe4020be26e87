//! What `prune` and `env prune` say of what the daemon could not remove.

use pyexec_proto::request::{NotRemoved, NotRemovedList};

use crate::exit_code::Failure;
use crate::terminal;

/// Names what could not be removed, which is a failure. `one` and `several` say what it is.
pub(crate) fn report_not_removed(
    list: &NotRemovedList,
    one: &'static str,
    several: &'static str,
) -> Result<(), Failure> {
    for NotRemoved { id, path, problem } in &list.first {
        terminal::note(&format!("not removed: {one} {id}: {path}: {problem}"));
    }
    let left_out = list.total - list.first.len() as u64;
    if left_out > 0 {
        terminal::note(&format!("not removed: {left_out} more, which `pyexec daemon logs` names"));
    }
    match list.total {
        0 => Ok(()),
        1 => Err(Failure::NotRemoved { number: 1, what: one }),
        number => Err(Failure::NotRemoved { number, what: several }),
    }
}
