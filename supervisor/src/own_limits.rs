//! The resource limits that the daemon itself runs under: those of whoever happened to start it. It raises them as far as
//! it may, and names one that stands in its way. Jobs have their own caller's.

use std::io;

use pyexec_proto::ulimit::ResourceLimit;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this, a file of the index or of a job's output cannot be what it has to be.
pub const LEAST_FILE_BYTES: u64 = 16 << 20;

/// Soft limits that would stop or stall the daemon, and are raised to the hard ones. The others, such as that on the
/// stack, say how a process is laid out, and stay.
const IN_THE_WAY: [Resource; 6] =
    [Resource::Cpu, Resource::Fsize, Resource::Data, Resource::As, Resource::Nproc, Resource::Nofile];

/// Hard limits that jobs of other callers would meet.
const OF_JOBS: [Resource; 10] = [
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Memlock,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

/// Raises soft limits to the hard ones, and hard ones away where that is allowed, as it is to root. Supervisors inherit
/// what comes of it.
pub fn lift() {
    for resource in OF_JOBS {
        lift_hard(resource);
    }
    for resource in IN_THE_WAY {
        let before = getrlimit(resource).maximum;
        lift_hard(resource);
        let now = getrlimit(resource).maximum;
        // Of descriptors no more than there were to be had: programs may count through all numbers up to the limit.
        let soft = if resource == Resource::Nofile { before } else { now };
        let _ = setrlimit(resource, Rlimit { current: soft, maximum: now });
    }
}

/// Fails for whoever may not; then it stays as it is.
fn lift_hard(resource: Resource) {
    let limit = getrlimit(resource);
    let most = if resource == Resource::Nofile { most_descriptors() } else { None };
    let is_higher = most.is_none_or(|most| limit.maximum.is_some_and(|now| now < most));
    if limit.maximum.is_some() && is_higher {
        let _ = setrlimit(resource, Rlimit { current: limit.current, maximum: most });
    }
}

/// The kernel's own bound, which no limit may be above.
fn most_descriptors() -> Option<u64> {
    const USUAL: u64 = 1 << 20;
    let said = std::fs::read_to_string("/proc/sys/fs/nr_open").ok();
    Some(said.and_then(|said| said.trim().parse().ok()).unwrap_or(USUAL))
}

/// The limit on file sizes, where it is too low to work with.
pub fn too_low_for_files() -> Option<u64> {
    getrlimit(Resource::Fsize).current.filter(|limit| *limit < LEAST_FILE_BYTES)
}

/// The error with the limit that it comes from, where it comes from one.
pub fn name_in(error: io::Error) -> io::Error {
    match explain(&error) {
        Some(problem) => io::Error::new(error.kind(), problem),
        None => error,
    }
}

/// What such an error says; `None` of one that comes from no limit.
pub fn explain(error: &io::Error) -> Option<String> {
    let resource = match rustix::io::Errno::from_io_error(error)? {
        rustix::io::Errno::FBIG => Resource::Fsize,
        rustix::io::Errno::MFILE => Resource::Nofile,
        _ => return None,
    };
    let limit = getrlimit(resource);
    let limit = ResourceLimit { resource: resource as u32, soft: limit.current, hard: limit.maximum };
    Some(format!("{error}; the daemon's limit on {} is {}", limit.name(), limit.shown(limit.soft)))
}

/// What an error of starting a process or a thread says, with the limit that it comes from; `EAGAIN` comes from having too
/// many of them.
pub fn explain_start(error: &io::Error) -> String {
    if rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::AGAIN) {
        return format!("{error}; this user may have reached the limit on processes (`ulimit -u`)");
    }
    explain(error).unwrap_or_else(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_comes_from_a_limit_names_it() {
        let named = |errno: rustix::io::Errno| name_in(errno.into()).to_string();
        assert!(named(rustix::io::Errno::FBIG).contains("file size (`ulimit -f`) is "));
        assert!(named(rustix::io::Errno::MFILE).contains("open files (`ulimit -n`) is "));
        assert_eq!(named(rustix::io::Errno::NOENT), io::Error::from(rustix::io::Errno::NOENT).to_string());
    }
}
