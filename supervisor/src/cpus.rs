//! Sets of CPUs as the kernel lists them.

use std::fmt::Write as _;

use rustix::thread::CpuSet;

/// `0-3,8`
pub(super) fn list_of(cpus: &CpuSet) -> String {
    let mut text = String::new();
    let mut next = 0;
    // Most machines have few, and the set has room for many.
    let mut left = usize::try_from(cpus.count()).unwrap_or(0);
    while left > 0
        && let Some(first) = (next..CpuSet::MAX_CPU).find(|cpu| cpus.is_set(*cpu))
    {
        next = (first..CpuSet::MAX_CPU).find(|cpu| !cpus.is_set(*cpu)).unwrap_or(CpuSet::MAX_CPU);
        left -= next - first;
        let separator = if text.is_empty() { "" } else { "," };
        let last = if next - first > 1 { format!("-{}", next - 1) } else { String::new() };
        let _ = write!(text, "{separator}{first}{last}");
    }
    text
}

/// `None` of what is no such list, or names no CPU.
pub(super) fn cpus_in(list: &str) -> Option<CpuSet> {
    let mut cpus = CpuSet::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= CpuSet::MAX_CPU {
            return None;
        }
        (first..=last).for_each(|cpu| cpus.set(cpu));
    }
    (cpus.count() > 0).then_some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_cpus_is_the_same_when_it_was_written_as_a_list() {
        for list in ["0", "0-1", "3", "0-3,8", "1,3,5-7,1023"] {
            let cpus = cpus_in(list).expect("is a list");
            assert_eq!(list_of(&cpus), list);
        }
        for wrong in ["", "a", "1-", "-1", "0-1024", "3-1", "1,,2"] {
            assert!(cpus_in(wrong).is_none(), "{wrong}");
        }
    }
}
