//! The ids of a child that has a user namespace of its own.

use std::fs::{self, File};
use std::io::{self, Write};

use rustix::process::{getegid, geteuid};

/// Maps the ids of a child that has a user namespace of its own to themselves: all that there are for root, whose powers
/// reach them, and for anybody else the one that the kernel allows.
pub(super) fn map_ids(child: u32) -> io::Result<()> {
    let write = |name: &str, text: &str| {
        File::options().write(true).open(format!("/proc/{child}/{name}"))?.write_all(text.as_bytes())
    };
    if geteuid().is_root() {
        let all = |name: &str| Ok::<_, io::Error>(onto_themselves(&fs::read_to_string(format!("/proc/self/{name}"))?));
        write("uid_map", &all("uid_map")?)?;
        return write("gid_map", &all("gid_map")?);
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    // Without it the kernel lets no user map a group: leaving one could open what is closed to that group.
    write("setgroups", "deny")?;
    write("uid_map", &format!("{user} {user} 1"))?;
    write("gid_map", &format!("{group} {group} 1"))
}

/// The ids that a map knows, each mapped to itself.
fn onto_themselves(map: &str) -> String {
    let ranges = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace();
        let (first, _outside, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(format!("{first} {first} {count}\n"))
    });
    ranges.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_mapped_to_themselves_whatever_they_are_outside() {
        assert_eq!(onto_themselves("         0          0 4294967295\n"), "0 0 4294967295\n");
        assert_eq!(onto_themselves("0 1000 1\n1 100000 65536\n"), "0 0 1\n1 1 65536\n");
    }
}
