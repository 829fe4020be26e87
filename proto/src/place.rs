//! Where a process runs: on which machine, since which boot, and in which container. Two that differ in one of these cannot
//! signal each other, nor meet at a socket, although they may have the same home.

use serde::{Deserialize, Serialize};

/// Empty texts are what could not be found out, and differ from nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The name of the host, or of the container.
    pub host: String,
    /// From `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// As `/proc/self/ns/pid` says it.
    pub pid_namespace: String,
}

impl Place {
    /// Says where this is, to somebody at `here`; `None` where both are the same place.
    pub fn elsewhere_than(&self, here: &Place) -> Option<String> {
        let differ = |one: &str, other: &str| !one.is_empty() && !other.is_empty() && one != other;
        if differ(&self.boot_id, &here.boot_id) {
            // The host may be this one, before it was booted again: nothing of then runs now.
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
