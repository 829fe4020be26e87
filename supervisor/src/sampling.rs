//! Looking at all processes of a run together: what they have in memory, what they have used, and how often to look.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use pyexec_proto::benchmark::Sample;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::time::{ClockId, clock_gettime};

use super::ledger::{Figures, Key, Ledger};
use pyexec_run_directory::processes::{self, Process};

/// A look may take one part in so many of the time until the next: 2.5 % of a core.
const SHARE: u32 = 40;

/// What all processes of a run have and have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    pub(super) memory_kib: u64,
    /// Of those that still run, of those that nobody has waited for yet or ever will, and of children they have waited for.
    pub(super) cpu: Duration,
}

/// The same, and how many there are, as far as limits ask for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) memory_kib: u64,
    pub(super) cpu: Duration,
    /// That run.
    pub(super) processes: u64,
}

/// The processes of the job. All of `/proc` is read for them only when there may be new ones: that is most of what a look
/// at a small job costs.
#[derive(Debug, Default)]
pub(super) struct Tree {
    known: Vec<Process>,
    /// The last pid that had been given out when they were looked for.
    last_pid: Option<u64>,
    ledger: Ledger,
}

impl Tree {
    /// Looks at all that descends from this process, which has reaped children that used so much. Also says what it took of
    /// a core.
    ///
    /// A process that is alone is asked for its resident set, which is what `ru_maxrss` is the peak of. Several are asked
    /// for their proportional set: a page that they share, as forks do, counts once between them. It takes the kernel a
    /// walk through the page tables, 10 ms for each gigabyte.
    pub(super) fn look(&mut self, reaped: Duration) -> (Looked, Duration) {
        let before = own_cpu_time();
        self.refresh(last_pid(&fs::read_to_string("/proc/loadavg").unwrap_or_default()));
        // First, so that it belongs to the time of the look: asking for memory can take long.
        let cpu = self.cpu_time(reaped);
        let living: Vec<&Process> = self.known.iter().filter(|process| !process.zombie).collect();
        let memory: fn(&Process) -> u64 = if living.len() > 1 { proportional_kib } else { resident_kib };
        let looked = Looked { memory_kib: living.into_iter().map(memory).sum(), cpu };
        (looked, own_cpu_time().saturating_sub(before))
    }

    /// As [`Tree::look`], for limits. Memory is looked at no closer than it takes: resident sets are never less than
    /// proportional ones, and cost next to nothing.
    pub(super) fn look_for_limits(&mut self, most_kib: Option<u64>, reaped: Duration) -> (Used, Duration) {
        let before = own_cpu_time();
        self.refresh(last_pid(&fs::read_to_string("/proc/loadavg").unwrap_or_default()));
        let cpu = self.cpu_time(reaped);
        let living: Vec<&Process> = self.known.iter().filter(|process| !process.zombie).collect();
        let sum = |memory: fn(&Process) -> u64| living.iter().map(|process| memory(process)).sum::<u64>();
        let memory_kib = match most_kib {
            None => 0,
            Some(most) => match sum(resident_kib) {
                resident if resident > most && living.len() > 1 => sum(proportional_kib),
                resident => resident,
            },
        };
        let used = Used { memory_kib, cpu, processes: living.len() as u64 };
        (used, own_cpu_time().saturating_sub(before))
    }

    /// What processes used, as far as it was seen, that have gone without anybody having waited for them.
    pub(super) fn unwaited(&self) -> Duration {
        duration(self.ledger.unwaited())
    }

    /// All have gone: what has not been reaped by now was waited for by nobody.
    pub(super) fn settle(&mut self, reaped: Duration) {
        self.note(HashMap::new(), reaped);
    }

    /// Other processes come, and nothing of those before them counts any more.
    pub(super) fn start_over(&mut self) {
        *self = Self::default();
    }

    /// Of all that is known, and of what has gone unwaited for; not of what was reaped.
    fn cpu_time(&mut self, reaped: Duration) -> Duration {
        // Parents before their children: what a child that is still there has used is in no figure of its parent's.
        let figures = |process: &Process| Some(((process.pid, process.started), figures(process)?));
        let mut now: HashMap<Key, Figures> = self.known.iter().filter_map(figures).collect();
        for ((pid, started), last) in self.ledger.missing(&now) {
            let is_there = Process::find(pid).is_some_and(|process| process.started == started);
            if is_there {
                // Out of sight: its parents ended while they were being looked for, or it has become a service.
                now.insert((pid, started), last);
            } else if let Some(parent) = self.known.iter().find(|process| process.pid == last.parent)
                && let Some(after) = self::figures(parent)
            {
                // Its parent has taken over its figures by now, if it has waited for it.
                now.insert((parent.pid, parent.started), after);
            }
        }
        self.note(now, reaped);
        duration(self.ledger.total())
    }

    fn note(&mut self, now: HashMap<Key, Figures>, reaped: Duration) {
        // More is taken for reaped rather than less: nothing is to be counted twice.
        let reaped = (reaped.as_nanos() * u128::from(ticks_per_second())).div_ceil(1_000_000_000);
        self.ledger.note(now, u64::try_from(reaped).unwrap_or(u64::MAX), std::process::id());
    }

    fn refresh(&mut self, last_pid: Option<u64>) {
        if last_pid.is_some() && last_pid == self.last_pid {
            let still_there = |known: &Process| Process::find(known.pid).filter(|now| now.started == known.started);
            self.known = self.known.iter().filter_map(still_there).collect();
        } else {
            self.known = processes::descendants_and_zombies_of(std::process::id());
            self.last_pid = last_pid;
        }
    }
}

/// How long to wait after a look that took `cost`.
pub(super) fn interval(asked: Duration, cost: Duration) -> Duration {
    asked.max(cost * SHARE)
}

pub(super) fn own_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Nothing for one that has gone in between.
fn resident_kib(process: &Process) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{}/statm", process.pid)).unwrap_or_default();
    parse_statm(&statm).unwrap_or(0) * (page_size() as u64 / 1024)
}

fn proportional_kib(process: &Process) -> u64 {
    // One of another user does not let itself be looked at that closely.
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid)).unwrap_or_default();
    parse_rollup(&rollup).unwrap_or_else(|| resident_kib(process))
}

/// `None` for one that has gone.
fn figures(process: &Process) -> Option<Figures> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).ok()?;
    let (own, waited) = parse_ticks(&stat)?;
    Some(Figures { parent: process.parent, own, waited })
}

fn ticks_per_second() -> u64 {
    clock_ticks_per_second().max(1)
}

fn duration(ticks: u64) -> Duration {
    Duration::from_secs(ticks) / u32::try_from(ticks_per_second()).unwrap_or(100)
}

/// The last word of `/proc/loadavg`: which pid was given out last.
fn last_pid(loadavg: &str) -> Option<u64> {
    loadavg.split_whitespace().nth(4)?.parse().ok()
}

/// The resident pages: the second number.
fn parse_statm(statm: &str) -> Option<u64> {
    statm.split(' ').nth(1)?.parse().ok()
}

fn parse_rollup(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// User and system time together, in clock ticks: its own, and of children it has waited for.
fn parse_ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let times: Vec<u64> = fields.split(' ').skip(11).take(4).map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, system, waited_user, waited_system] = times.try_into().ok()?;
    Some((user + system, waited_user + waited_system))
}

/// A series of samples that stays bounded however long it goes on: when it is full, every two become one, and from then
/// on each stands for twice as many. Of those it stands for, it is the largest: a peak stays visible.
#[derive(Debug)]
pub(super) struct Series<const MOST: usize> {
    kept: Vec<Sample>,
    seen: u64,
    /// How many each stands for.
    stride: u64,
}

impl<const MOST: usize> Series<MOST> {
    pub(super) fn new() -> Self {
        Self { kept: Vec::new(), seen: 0, stride: 1 }
    }

    pub(super) fn push(&mut self, sample: Sample) {
        if self.seen.is_multiple_of(self.stride) {
            if self.kept.len() >= MOST {
                self.kept = self.kept.chunks(2).map(largest).collect();
                self.stride *= 2;
            }
            self.kept.push(sample);
        } else if let Some(last) = self.kept.last_mut() {
            *last = largest(&[*last, sample]);
        }
        self.seen += 1;
    }

    pub(super) fn into_samples(self) -> Vec<Sample> {
        self.kept
    }
}

/// The earliest of the largest, of at least one.
fn largest(samples: &[Sample]) -> Sample {
    samples[1..]
        .iter()
        .fold(samples[0], |largest, sample| if sample.rss_kib > largest.rss_kib { *sample } else { largest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_interval_is_the_one_asked_for_unless_looking_costs_too_much() {
        let (ms, us) = (Duration::from_millis, Duration::from_micros);
        for (asked, cost, expected) in [
            (ms(50), us(300), ms(50)),
            (ms(50), us(1_250), ms(50)),
            // Four gigabytes, 37 ms.
            (ms(50), ms(37), ms(1_480)),
            (ms(1), us(100), ms(4)),
            (ms(60_000), ms(37), ms(60_000)),
            (ms(1), Duration::ZERO, ms(1)),
        ] {
            assert_eq!(interval(asked, cost), expected, "{asked:?} at {cost:?} a look");
        }
    }

    fn sample(number: u64, rss_kib: u64) -> Sample {
        Sample { at_us: number * 50, rss_kib, cpu_us: number }
    }

    #[test]
    fn a_short_series_is_kept_as_it_is_and_a_full_one_is_halved() {
        let shown = |sizes: &[u64]| {
            let mut series = Series::<4>::new();
            (0..).zip(sizes).for_each(|(number, size)| series.push(sample(number, *size)));
            series.into_samples().iter().map(|sample| (sample.cpu_us, sample.rss_kib)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&[]), []);
        assert_eq!(shown(&[5, 6, 7, 8]), [(0, 5), (1, 6), (2, 7), (3, 8)]);
        assert_eq!(shown(&[5, 6, 7, 8, 9]), [(1, 6), (3, 8), (4, 9)]);
        assert_eq!(shown(&[5, 6, 7, 8, 9, 1, 1, 2]), [(1, 6), (3, 8), (4, 9), (7, 2)]);
        assert_eq!(shown(&[5, 6, 7, 8, 9, 1, 1, 2, 3]), [(3, 8), (4, 9), (8, 3)]);
    }

    proptest! {
        #[test]
        fn a_series_is_bounded_in_order_and_keeps_its_peak(sizes in proptest::collection::vec(0u64..1000, 1..3000)) {
            let mut series = Series::<16>::new();
            (0..).zip(&sizes).for_each(|(number, size)| series.push(sample(number, *size)));
            let kept = series.into_samples();
            prop_assert!(!kept.is_empty() && kept.len() <= 16);
            prop_assert!(sizes.len() < 16 || kept.len() >= 8, "{} of {}", kept.len(), sizes.len());
            prop_assert!(kept.windows(2).all(|pair| pair[0].at_us < pair[1].at_us));
            prop_assert_eq!(kept.iter().map(|sample| sample.rss_kib).max(), sizes.iter().copied().max());
        }
    }

    #[test]
    fn what_proc_says_is_read() {
        assert_eq!(last_pid("0.20 0.18 0.12 1/80 11206\n"), Some(11206));
        assert_eq!(last_pid("0.20 0.18"), None);
        assert_eq!(parse_statm("3041 1337 1000 5 0 400 0\n"), Some(1337));
        assert_eq!(parse_statm(""), None);
        let rollup =
            "55d-7ff ---p 00000000 00:00 0    [rollup]\nRss:   9000 kB\nPss:        4711 kB\nPss_Dirty: 1 kB\n";
        assert_eq!(parse_rollup(rollup), Some(4711));
        assert_eq!(parse_rollup(""), None);
        let stat = "42 (a) b (c) S 7 8 8 0 -1 4194560 1 2 3 4 50 6 700 8 20 0 1 0 999 1000 2\n";
        assert_eq!(parse_ticks(stat), Some((56, 708)));
        assert_eq!(parse_ticks("42 (a) S 7"), None);
    }

    /// Returns when it has ended; it is ours, and stays until it is waited for.
    fn wait_for_zombie(pid: u32) {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("is a pid");
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).expect("is a child of ours");
    }

    #[test]
    fn a_child_is_found_and_missed_whether_or_not_all_of_proc_was_read() {
        let has = |tree: &Tree, pid| tree.known.iter().any(|process| process.pid == pid);
        let mut tree = Tree::default();
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("can be started");
        tree.refresh(Some(1));
        assert!(has(&tree, child.id()));
        tree.refresh(Some(1));
        assert!(has(&tree, child.id()), "it is still there");
        child.kill().expect("can be killed");
        wait_for_zombie(child.id());
        tree.refresh(Some(1));
        assert!(tree.known.iter().any(|process| process.pid == child.id() && process.zombie), "what it used counts");
        child.wait().expect("can be reaped");
        tree.refresh(Some(1));
        assert!(!has(&tree, child.id()), "it has gone");
        let mut second = std::process::Command::new("sleep").arg("600").spawn().expect("can be started");
        tree.refresh(Some(2));
        assert!(has(&tree, second.id()), "a pid has been given out since");
        second.kill().expect("can be killed");
        second.wait().expect("can be reaped");
        tree.refresh(None);
        assert!(!has(&tree, second.id()));
    }

    #[test]
    fn what_this_process_has_is_seen() {
        let own = Process::find(std::process::id()).expect("it runs");
        let (resident, proportional) = (resident_kib(&own), proportional_kib(&own));
        assert!(0 < proportional && proportional <= resident + 4096, "{proportional} of {resident} KiB");
    }
}
