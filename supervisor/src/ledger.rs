//! The CPU time of all processes of a job together, those that nobody waits for included.
//!
//! The kernel adds what a process has used to what its parent has used when the parent waits for it. Of children whose
//! parent ignores SIGCHLD it adds nothing to anybody's: such a process takes its figures with it when it ends. So the
//! last figures of each process are kept until somebody is seen to have taken them over.

use std::collections::HashMap;
use std::time::Duration;

use pyexec_proto::exit::ResourceUsage;

/// A process, and when it started.
pub(super) type Key = (u32, u64);

/// What one process was seen to have used, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) parent: u32,
    pub(super) own: u64,
    /// Of children that it has waited for.
    pub(super) waited: u64,
}

impl Figures {
    fn all(&self) -> u64 {
        self.own.saturating_add(self.waited)
    }
}

/// All processes as they were last seen.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    seen: HashMap<Key, Figures>,
    /// What the supervisor had reaped by then.
    reaped: u64,
    /// Of processes that have gone, and whose figures nobody has taken over.
    unwaited: u64,
}

impl Ledger {
    /// Those of the last look that are not in `now`.
    pub(super) fn missing(&self, now: &HashMap<Key, Figures>) -> Vec<(Key, Figures)> {
        self.seen.iter().filter(|(key, _)| !now.contains_key(*key)).map(|(key, figures)| (*key, *figures)).collect()
    }

    /// Takes down what was seen. Processes of which figures are missing have gone: their parents' figures are to be of a
    /// moment after that. `reaped` is what the supervisor, whose pid is `root`, has reaped by now.
    pub(super) fn note(&mut self, now: HashMap<Key, Figures>, reaped: u64, root: u32) {
        // What each of those that are still there has taken over since the last look.
        let mut taken: HashMap<u32, u64> = now
            .iter()
            .map(|(key, figures)| {
                let before = self.seen.get(key).map_or(0, |before| before.waited);
                (key.0, figures.waited.saturating_sub(before))
            })
            .collect();
        taken.insert(root, reaped.saturating_sub(self.reaped));
        let mut lost = 0;
        let mut orphans: u64 = 0;
        for (_, figures) in self.missing(&now) {
            match taken.get_mut(&figures.parent) {
                Some(taken) => {
                    let rest = figures.all().saturating_sub(*taken);
                    *taken = taken.saturating_sub(figures.all());
                    lost += rest;
                }
                // Its parent has gone as well: who has taken over its figures is not known.
                None => orphans = orphans.saturating_add(figures.all()),
            }
        }
        let left: u64 = taken.values().fold(0, |sum, taken| sum.saturating_add(*taken));
        lost += orphans.saturating_sub(left);
        self.unwaited = self.unwaited.saturating_add(lost);
        self.seen = now;
        self.reaped = reaped;
    }

    /// Of processes that have gone, and that nobody waited for.
    pub(super) fn unwaited(&self) -> u64 {
        self.unwaited
    }

    /// All but what has been reaped.
    pub(super) fn total(&self) -> u64 {
        self.seen.values().fold(self.unwaited, |sum, figures| sum.saturating_add(figures.all()))
    }
}

/// CPU time that is in no figure of `wait4(2)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unwaited {
    pub(super) cpu: Duration,
    /// There may be more of it.
    pub(super) is_incomplete: bool,
}

impl Unwaited {
    /// Of processes that have used `reaped` as far as they were waited for. `metered` is what their control group has
    /// counted, where they have one of their own; `seen` is what was seen of those that have gone unwaited for.
    pub(super) fn of(metered: Option<Duration>, seen: Duration, reaped: Duration) -> Self {
        // The group also counts what a process does after its figures have been taken, and rounds differently.
        let tolerance = Duration::from_millis(20) + reaped / 50;
        let Some(all) = metered else { return Self { cpu: seen, is_incomplete: !seen.is_zero() } };
        let exact = Some(all.saturating_sub(reaped)).filter(|more| *more > tolerance).unwrap_or_default();
        // Processes can leave their group.
        if seen > exact + tolerance {
            return Self { cpu: seen, is_incomplete: true };
        }
        Self { cpu: exact, is_incomplete: false }
    }

    pub(super) fn add_to(self, usage: &mut ResourceUsage) {
        usage.unwaited_cpu_us += u64::try_from(self.cpu.as_micros()).unwrap_or(u64::MAX);
        usage.cpu_is_incomplete |= self.is_incomplete;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOT: u32 = 1;

    fn seen(all: &[(u32, u32, u64, u64)]) -> HashMap<Key, Figures> {
        all.iter()
            .map(|(pid, parent, own, waited)| ((*pid, 0), Figures { parent: *parent, own: *own, waited: *waited }))
            .collect()
    }

    #[test]
    fn figures_are_kept_that_nobody_has_taken_over() {
        let before = [(2, ROOT, 10, 0), (3, 2, 50, 5), (4, 3, 7, 0)];
        for (what, now, reaped, expected) in [
            ("nothing has happened", &before[..], 0, 0),
            ("its parent has waited for 3 and 4", &[(2, ROOT, 10, 62)], 0, 0),
            ("and for others meanwhile", &[(2, ROOT, 10, 90)], 0, 0),
            ("2 ignores SIGCHLD, 4 was waited for by 3", &[(2, ROOT, 11, 0), (4, ROOT, 8, 0)], 0, 55),
            ("4 has become the supervisor's child, and was reaped", &[(2, ROOT, 11, 55)], 8, 0),
            ("nobody has waited for 4", &[(2, ROOT, 10, 0), (3, 2, 51, 5)], 0, 7),
            ("all were reaped", &[], 72, 0),
            ("2 was reaped, and had waited for nobody", &[], 10, 62),
        ] {
            let mut ledger = Ledger::default();
            ledger.note(seen(&before), 0, ROOT);
            assert_eq!((ledger.total(), ledger.unwaited()), (72, 0));
            ledger.note(seen(now), reaped, ROOT);
            assert_eq!(ledger.unwaited(), expected, "{what}");
        }
    }

    #[test]
    fn a_control_group_knows_better_unless_somebody_has_left_it() {
        let ms = Duration::from_millis;
        for (metered, seen, cpu, is_incomplete) in [
            (None, 0, 0, false),
            (None, 300, 300, true),
            (Some(1_000), 0, 0, false),
            (Some(1_030), 0, 0, false),
            (Some(1_500), 300, 500, false),
            (Some(1_500), 0, 500, false),
            (Some(1_000), 300, 300, true),
            (Some(900), 0, 0, false),
        ] {
            let found = Unwaited::of(metered.map(ms), ms(seen), ms(1_000));
            assert_eq!(found, Unwaited { cpu: ms(cpu), is_incomplete }, "{metered:?} and {seen}");
        }
    }

    proptest! {
        /// Children that are waited for are never counted twice, however seldom somebody looks.
        #[test]
        fn nothing_is_lost_where_everybody_waits(steps in proptest::collection::vec((1u64..9, any::<bool>()), 1..40)) {
            let mut ledger = Ledger::default();
            let (mut waited, mut child) = (0, 0);
            let mut alive = false;
            for (used, looks) in steps {
                if alive && used > 4 {
                    waited += child;
                    (alive, child) = (false, 0);
                } else {
                    alive = true;
                    child += used;
                }
                if looks {
                    let mut now = seen(&[(2, ROOT, 0, waited)]);
                    if alive {
                        now.extend(seen(&[(3, 2, child, 0)]));
                    }
                    ledger.note(now, 0, ROOT);
                    prop_assert_eq!((ledger.unwaited(), ledger.total()), (0, waited + child));
                }
            }
        }
    }
}
