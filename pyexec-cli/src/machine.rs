//! The memory of this machine, for `doctor` and `daemon status`.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    /// What programs can still get without swapping: caches that can be given up count as available.
    pub(crate) available: u64,
}

impl Memory {
    /// `None` if the kernel does not say, for example without `/proc`.
    pub(crate) fn now() -> Option<Self> {
        let kinds = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(kinds).ok()?;
        let memory = Self { total: system.total_memory(), available: system.available_memory() };
        (memory.total > 0).then_some(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_kernel_says_in_bytes() {
        let text = std::fs::read_to_string("/proc/meminfo").expect("can be read");
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).expect("is in it");
        let kib: u64 = total.trim().trim_end_matches(" kB").parse().expect("is a number");
        let memory = Memory::now().expect("the kernel says it");
        assert_eq!(memory.total, kib * 1024);
        assert!(memory.available > 0 && memory.available <= memory.total, "{memory:?}");
    }
}
