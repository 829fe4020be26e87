//! The resource limits that this process runs under.

use pyexec_proto::ulimit::ResourceLimit;

use crate::proc_file;

/// From `/proc`, which is one file instead of a call for each limit; where there is none, from the kernel one by one.
pub fn of_this_process() -> Vec<ResourceLimit> {
    let read = proc_file::read(c"/proc/self/limits").unwrap_or_default();
    let all = ResourceLimit::all_in(&read);
    if all.is_empty() { ResourceLimit::asked_for() } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_the_kernel_says() {
        assert_eq!(of_this_process(), ResourceLimit::asked_for());
    }
}
