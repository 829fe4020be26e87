//! Resource limits as people know them: named and shown as a shell's `ulimit` does, and compared.

use rustix::process::Resource;

use crate::job::ResourceLimit;

/// What the numbers of a limit count.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Seconds,
    Bytes,
    Pieces,
}

/// Name, `ulimit`'s option, unit; of a number that a later version may send, only the number.
fn known(resource: u32) -> Option<(&'static str, char, Unit)> {
    use Unit::{Bytes, Pieces, Seconds};
    let known = [
        (Resource::Cpu, "CPU time", 't', Seconds),
        (Resource::Fsize, "file size", 'f', Bytes),
        (Resource::Data, "data", 'd', Bytes),
        (Resource::Stack, "stack", 's', Bytes),
        (Resource::Core, "core files", 'c', Bytes),
        (Resource::Rss, "resident memory", 'm', Bytes),
        (Resource::Nproc, "processes of the user", 'u', Pieces),
        (Resource::Nofile, "open files", 'n', Pieces),
        (Resource::Memlock, "locked memory", 'l', Bytes),
        (Resource::As, "address space", 'v', Bytes),
    ];
    let found = known.into_iter().find(|(known, ..)| *known as u32 == resource);
    found.map(|(_, name, option, unit)| (name, option, unit))
}

impl ResourceLimit {
    /// ``CPU time (`ulimit -t`)``
    pub fn name(&self) -> String {
        match known(self.resource) {
            Some((name, option, _)) => format!("{name} (`ulimit -{option}`)"),
            None => format!("resource {}", self.resource),
        }
    }

    /// A soft or hard value of this limit: `2 s`, `16384 bytes`, `unlimited`.
    pub fn shown(&self, value: Option<u64>) -> String {
        let Some(value) = value else { return "unlimited".to_owned() };
        match known(self.resource) {
            Some((_, _, Unit::Seconds)) => format!("{value} s"),
            Some((_, _, Unit::Bytes)) => format!("{value} bytes"),
            Some((_, _, Unit::Pieces)) | None => value.to_string(),
        }
    }
}

/// What a process with the limits `own`, which it cannot raise, gives to one that is to have those in `asked`: the limits
/// of `asked` whose soft value becomes lower by that, as they become.
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

/// The sentences that tell of limits that were [`lowered`].
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
    fn every_limit_that_a_job_takes_over_has_its_name() {
        for limit in ResourceLimit::of_this_process() {
            assert!(limit.name().contains("ulimit -"), "{limit:?}");
        }
    }
}
