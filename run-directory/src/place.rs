//! Where this process runs.

use pyexec_proto::place::Place;
use rustix::system::uname;

/// As the kernel says it.
pub fn here() -> Place {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let pid_namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    Place {
        host: uname().nodename().to_string_lossy().into_owned(),
        boot_id: boot_id.trim().to_owned(),
        pid_namespace: pid_namespace.to_string_lossy().into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn here_is_not_elsewhere() {
        assert_eq!(here().elsewhere_than(&here()), None);
    }
}
