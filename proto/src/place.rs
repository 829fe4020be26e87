//! The machine, boot and container that a process runs in. Two processes that differ in one of these cannot signal each
//! other or meet at a socket, although they may share a home directory.

use serde::{Deserialize, Serialize};

/// An empty text means unknown, and never counts as a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The host name of the machine or container.
    pub host: String,
    /// From `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// The link `/proc/self/ns/pid`.
    pub pid_namespace: String,
}

impl Place {
    /// Describes `self` to a reader at `here`; `None` if both are the same place.
    pub fn elsewhere_than(&self, here: &Place) -> Option<String> {
        let differ = |one: &str, other: &str| !one.is_empty() && !other.is_empty() && one != other;
        if differ(&self.boot_id, &here.boot_id) {
            // It may be this host before a reboot: nothing from then runs now.
            (self.host != here.host).then(|| format!("on another machine, `{}`", self.host))
        } else if differ(&self.pid_namespace, &here.pid_namespace) {
            Some(format!("in another container or namespace of this machine, `{}`", self.host))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(host: &str, boot_id: &str, pid_namespace: &str) -> Place {
        Place { host: host.to_owned(), boot_id: boot_id.to_owned(), pid_namespace: pid_namespace.to_owned() }
    }

    #[test]
    fn another_machine_and_another_container_are_elsewhere_and_an_earlier_boot_is_not() {
        let here = place("a", "1", "pid:[1]");
        for (there, expected) in [
            (here.clone(), None),
            (place("b", "2", "pid:[1]"), Some("on another machine, `b`")),
            (place("a", "1", "pid:[2]"), Some("in another container or namespace of this machine, `a`")),
            (place("a", "2", "pid:[1]"), None),
            (place("b", "", ""), None),
        ] {
            assert_eq!(there.elsewhere_than(&here).as_deref(), expected, "{there:?}");
        }
    }
}
