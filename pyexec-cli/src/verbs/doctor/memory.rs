//! How much memory is left for jobs.

use super::check::Check;
use crate::machine::Memory;
use crate::render;

const NAME: &str = "memory";

/// Below this, a Python that imports a few large packages may be killed by the kernel.
const TIGHT: u64 = 256 << 20;

/// `None` if the kernel does not say.
pub(super) fn check() -> Option<Check> {
    Memory::now().map(judge)
}

fn judge(memory: Memory) -> Check {
    let detail = format!("{} of {} available", render::size(memory.available), render::size(memory.total));
    if memory.available < TIGHT {
        let hint = "the kernel may kill jobs: end what is not needed, or bound jobs with `pyexec run --max-memory`";
        return Check::warning(NAME, detail, hint);
    }
    Check::ok(NAME, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::doctor::check::Status;

    #[test]
    fn little_memory_is_a_warning_and_never_a_problem() {
        for (available, status) in [(TIGHT, Status::Ok), (TIGHT - 1, Status::Warning), (0, Status::Warning)] {
            let check = judge(Memory { total: 8 << 30, available });
            assert_eq!(check.status, status, "{available}");
            assert!(check.detail.ends_with("of 8.0 GiB available"), "{}", check.detail);
        }
    }
}
