//! Files of `/proc`, read in one call: they are made anew for each read, and most are smaller than a buffer.

use std::io;
use std::mem::MaybeUninit;

use rustix::fs::{Mode, OFlags};

/// The whole text of a file such as `/proc/self/status`.
///
/// # Errors
/// Those of the kernel, and `InvalidData` when it is not UTF-8.
pub fn read(path: impl rustix::path::Arg) -> io::Result<String> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 8 << 10];
    let (read, room) = rustix::io::read(&file, &mut buffer)?;
    let mut text = read.to_vec();
    // Machines with very many CPUs have longer ones.
    if room.is_empty() {
        io::Read::read_to_end(&mut std::fs::File::from(file), &mut text)?;
    }
    String::from_utf8(text).map_err(io::Error::other)
}

/// The value of a line `name: value`, as `/proc/PID/status` has them.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_to_its_end_be_it_longer_than_the_buffer_or_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        for length in [0, 1, (8 << 10) - 1, 8 << 10, 100_000] {
            std::fs::write(&path, "x".repeat(length)).expect("can be written");
            assert_eq!(read(&path).expect("can be read").len(), length);
        }
        assert_eq!(read(c"/proc/self/gone").map_err(|error| error.kind()), Err(io::ErrorKind::NotFound));
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "Umask:\t0022\nGid:\t1\t2\t3\t4\nGroups:\t4 27 \n";
        assert_eq!((field(status, "Groups"), field(status, "Gid")), (Some("4 27"), Some("1\t2\t3\t4")));
        assert_eq!((field(status, "Group"), field(status, "mask")), (None, None));
    }
}
