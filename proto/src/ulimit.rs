//! Resource limits: their names and values as `ulimit` of a shell shows them, and comparisons.

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

/// One limit of `getrlimit(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// The kernel's number of the resource.
    pub resource: u32,
    /// `None`: unlimited.
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// The unit of a limit's values.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Seconds,
    Microseconds,
    Bytes,
    Pieces,
}

/// The names of a limit elsewhere.
#[derive(Clone, Copy, Debug)]
struct Known {
    resource: Resource,
    name: &'static str,
    /// The option of bash's `ulimit`.
    option: char,
    unit: Unit,
    /// The beginning of its row in `/proc/PID/limits`.
    row: &'static str,
}

const fn known(resource: Resource, name: &'static str, option: char, unit: Unit, row: &'static str) -> Known {
    Known { resource, name, option, unit, row }
}

/// All limits of Linux, in the order of their numbers.
const KNOWN: [Known; 16] = [
    known(Resource::Cpu, "CPU time", 't', Unit::Seconds, "Max cpu time"),
    known(Resource::Fsize, "file size", 'f', Unit::Bytes, "Max file size"),
    known(Resource::Data, "data", 'd', Unit::Bytes, "Max data size"),
    known(Resource::Stack, "stack", 's', Unit::Bytes, "Max stack size"),
    known(Resource::Core, "core files", 'c', Unit::Bytes, "Max core file size"),
    known(Resource::Rss, "resident memory", 'm', Unit::Bytes, "Max resident set"),
    known(Resource::Nproc, "processes of the user", 'u', Unit::Pieces, "Max processes"),
    known(Resource::Nofile, "open files", 'n', Unit::Pieces, "Max open files"),
    known(Resource::Memlock, "locked memory", 'l', Unit::Bytes, "Max locked memory"),
    known(Resource::As, "address space", 'v', Unit::Bytes, "Max address space"),
    known(Resource::Locks, "file locks", 'x', Unit::Pieces, "Max file locks"),
    known(Resource::Sigpending, "pending signals", 'i', Unit::Pieces, "Max pending signals"),
    known(Resource::Msgqueue, "message queues", 'q', Unit::Bytes, "Max msgqueue size"),
    known(Resource::Nice, "nice priority", 'e', Unit::Pieces, "Max nice priority"),
    known(Resource::Rtprio, "real-time priority", 'r', Unit::Pieces, "Max realtime priority"),
    known(Resource::Rttime, "real-time without blocking", 'R', Unit::Microseconds, "Max realtime timeout"),
];

impl ResourceLimit {
    /// Parses the text of `/proc/PID/limits`.
    pub fn all_in(text: &str) -> Vec<Self> {
        let value = |text: &str| if text == "unlimited" { Some(None) } else { text.parse().ok().map(Some) };
        let limit = |line: &str| {
            let (known, values) = KNOWN.iter().find_map(|known| Some((known, line.strip_prefix(known.row)?)))?;
            let mut values = values.split_whitespace();
            let (soft, hard) = (value(values.next()?)?, value(values.next()?)?);
            Some(Self { resource: known.resource as u32, soft, hard })
        };
        text.lines().filter_map(limit).collect()
    }

    /// The limits of this process, read from the kernel one by one.
    pub fn asked_for() -> Vec<Self> {
        let limit = |known: &Known| {
            let limit = getrlimit(known.resource);
            Self { resource: known.resource as u32, soft: limit.current, hard: limit.maximum }
        };
        KNOWN.iter().map(limit).collect()
    }

    /// `None` for a number that only later versions know.
    fn known(&self) -> Option<&'static Known> {
        KNOWN.iter().find(|known| known.resource as u32 == self.resource)
    }

    /// ``CPU time (`ulimit -t`)``
    pub fn name(&self) -> String {
        match self.known() {
            Some(Known { name, option, .. }) => format!("{name} (`ulimit -{option}`)"),
            None => format!("resource {}", self.resource),
        }
    }

    /// Formats a soft or hard value of this limit: `2 s`, `16384 bytes`, `unlimited`.
    pub fn shown(&self, value: Option<u64>) -> String {
        let Some(value) = value else { return "unlimited".to_owned() };
        match self.known().map(|known| known.unit) {
            Some(Unit::Seconds) => format!("{value} s"),
            Some(Unit::Microseconds) => format!("{value} µs"),
            Some(Unit::Bytes) => format!("{value} bytes"),
            Some(Unit::Pieces) | None => value.to_string(),
        }
    }
}

/// The limits in `asked` whose soft value has to be lowered because a process cannot raise its limits `own`, with the
/// values that result.
pub fn lowered(asked: &[ResourceLimit], own: &[ResourceLimit]) -> Vec<ResourceLimit> {
    let lowered = asked.iter().filter_map(|asked| {
        let own = own.iter().find(|own| own.resource == asked.resource)?;
        let hard = lower(asked.hard, own.hard);
        let soft = lower(asked.soft, hard);
        (soft != asked.soft).then_some(ResourceLimit { resource: asked.resource, soft, hard })
    });
    lowered.collect()
}

fn lower(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// Sentences that report [`lowered`] limits.
pub fn tell_lowered(asked: &[ResourceLimit], lowered: &[ResourceLimit]) -> Vec<String> {
    let tell = |limit: &ResourceLimit| {
        let asked = asked.iter().find(|asked| asked.resource == limit.resource).and_then(|asked| asked.soft);
        let (name, now, asked) = (limit.name(), limit.shown(limit.soft), limit.shown(asked));
        format!("{name} is {now}, the daemon's own limit, instead of {asked}")
    };
    lowered.iter().map(tell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(resource: Resource, soft: Option<u64>, hard: Option<u64>) -> ResourceLimit {
        ResourceLimit { resource: resource as u32, soft, hard }
    }

    #[test]
    fn only_limits_that_a_job_is_given_lower_than_its_caller_had_are_told() {
        let own = [limit(Resource::Cpu, Some(2), Some(2)), limit(Resource::Nofile, Some(99), Some(500))];
        let asked = [limit(Resource::Cpu, None, None), limit(Resource::Nofile, Some(400), None)];
        let found = lowered(&asked, &own);
        assert_eq!(found, [limit(Resource::Cpu, Some(2), Some(2))]);
        let told = tell_lowered(&asked, &found);
        assert_eq!(told, ["CPU time (`ulimit -t`) is 2 s, the daemon's own limit, instead of unlimited"]);
        assert_eq!(lowered(&own, &asked), []);
        assert_eq!(lowered(&[limit(Resource::Cpu, Some(1), Some(1))], &own), []);
    }

    #[test]
    fn every_limit_of_the_kernel_has_its_name() {
        let asked = ResourceLimit::asked_for();
        assert_eq!(asked.len(), KNOWN.len());
        for limit in asked {
            assert!(limit.name().contains("ulimit -"), "{limit:?}");
        }
    }

    #[test]
    fn limits_are_read_as_the_kernel_writes_them_and_other_rows_passed_over() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max cpu time              unlimited            2                    seconds   \n\
            Max open files            1024                 unlimited            files     \n\
            Max of later kernels      1                    2                    pieces    \n\
            Max file size             much                 2                    bytes     \n";
        let expected = [limit(Resource::Cpu, None, Some(2)), limit(Resource::Nofile, Some(1024), None)];
        assert_eq!(ResourceLimit::all_in(text), expected);
        assert_eq!(ResourceLimit::all_in(""), []);
    }
}
