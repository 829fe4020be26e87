//! The timelines of memory and CPU of one run, computed from its samples. The charts of the CLI and [`crate::picture`]
//! draw them.

use pyexec_proto::benchmark::{BenchmarkRecord, RunMeasurement, Sample};
use pyexec_proto::job::JobDetail;

/// The largest number of runs in one picture: as many as colours can distinguish.
pub const MOST_CURVES: usize = 6;

/// One run in a picture or chart, with its name.
#[derive(Clone, Copy, Debug)]
pub struct Curve<'a> {
    pub name: &'a str,
    pub timeline: &'a Timeline,
}

/// The timelines of the last measured run of a benchmark. Times are in seconds from its start.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    /// The duration of the run.
    pub seconds: f64,
    /// MiB, as [`RunMeasurement::peak_kib`]: at least the largest value in the timeline.
    pub peak_mib: f64,
    /// Pairs of time and MiB, from the first sample to the end of the run. Never empty.
    memory: Vec<(f64, f64)>,
    /// Pairs of time and CPU seconds used until then, from the start to the end of the run.
    cpu: Vec<(f64, f64)>,
}

impl Timeline {
    /// `None` for a job that is not a benchmark, or whose last run ended before the first sample.
    pub fn of(detail: &JobDetail) -> Option<Self> {
        let record = detail.state.record()?.benchmark.as_deref()?;
        Self::over(record)
    }

    fn over(record: &BenchmarkRecord) -> Option<Self> {
        Self::of_run(record.measured.last()?, &record.samples)
    }

    /// `None` without samples.
    pub fn of_run(run: &RunMeasurement, samples: &[Sample]) -> Option<Self> {
        let last = samples.last()?;
        let seconds = |micros: u64| micros as f64 / 1e6;
        let end = seconds(run.wall_us.max(last.at_us)).max(1e-6);
        let mut memory: Vec<_> =
            samples.iter().map(|sample| (seconds(sample.at_us), sample.rss_kib as f64 / 1024.0)).collect();
        let mut cpu: Vec<_> = std::iter::once((0.0, 0.0))
            .chain(samples.iter().map(|sample| (seconds(sample.at_us), seconds(sample.cpu_us))))
            .collect();
        if seconds(last.at_us) < end {
            // Nothing is known between the last sample and the end.
            memory.push((end, last.rss_kib as f64 / 1024.0));
            cpu.push((end, seconds(run.usage.cpu_us().max(last.cpu_us))));
        }
        let largest = memory.iter().map(|(_, mib)| *mib).fold(0.0, f64::max);
        Some(Self { seconds: end, peak_mib: largest.max(run.peak_kib() as f64 / 1024.0), memory, cpu })
    }

    /// Pairs of time and MiB.
    pub fn memory(&self) -> &[(f64, f64)] {
        &self.memory
    }

    /// The largest MiB in each of `parts` equal parts of the run; `None` before the first sample.
    pub fn memory_in(&self, parts: usize) -> Vec<Option<f64>> {
        let first = self.memory[0].0;
        let width = self.seconds / parts as f64;
        let most_between = |from: f64, to: f64| {
            if to < first {
                return None;
            }
            let edges = [from.max(first), to].map(|at| interpolated(&self.memory, at));
            let within = self.memory.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, mib)| *mib);
            Some(within.chain(edges).fold(0.0, f64::max))
        };
        (0..parts).map(|part| most_between(part as f64 * width, (part + 1) as f64 * width)).collect()
    }

    /// The CPU use around each of `steps` equally spaced times from the start to the end, in percent of a core.
    ///
    /// The kernel counts CPU time in ticks of 10 ms. Over fewer than ten ticks the curve would show ticks rather than
    /// work.
    pub fn cpu_percent(&self, steps: usize) -> Vec<f64> {
        const TEN_TICKS: f64 = 0.1;
        let half = (self.seconds / 40.0).max(TEN_TICKS) / 2.0;
        let used_around = |at: f64| {
            // The window is as wide at the edges as in the middle.
            let from = (at - half).min(self.seconds - 2.0 * half).max(0.0);
            let to = (from + 2.0 * half).min(self.seconds);
            100.0 * (interpolated(&self.cpu, to) - interpolated(&self.cpu, from)) / (to - from)
        };
        let last = steps.saturating_sub(1).max(1) as f64;
        (0..steps).map(|step| used_around(self.seconds * step as f64 / last).max(0.0)).collect()
    }
}

/// Linear interpolation over sorted points, of which there is at least one; constant before the first and after the
/// last.
fn interpolated(points: &[(f64, f64)], at: f64) -> f64 {
    let after = points.partition_point(|(known, _)| *known < at);
    match (after.checked_sub(1).map(|before| points[before]), points.get(after)) {
        (Some((x, y)), Some((next_x, next_y))) => y + (next_y - y) * (at - x) / (next_x - x),
        (None, Some((_, y))) => *y,
        (Some((_, y)), None) => y,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use pyexec_proto::exit::{ExitStatus, ResourceUsage};

    fn run(wall_us: u64, cpu_us: u64, max_rss_kib: u64) -> RunMeasurement {
        let usage = ResourceUsage { user_us: cpu_us, max_rss_kib, ..Default::default() };
        RunMeasurement { wall_us, usage, tree_peak_kib: None, exit: ExitStatus::Success }
    }

    fn sample(at_us: u64, mib: u64, cpu_us: u64) -> Sample {
        Sample { at_us, rss_kib: mib * 1024, cpu_us }
    }

    #[test]
    fn a_run_that_nobody_has_looked_at_has_no_timeline() {
        assert_eq!(Timeline::of_run(&run(9_000, 1, 1), &[]), None);
        assert_eq!(Timeline::over(&BenchmarkRecord { samples: vec![sample(1, 1, 1)], ..Default::default() }), None);
    }

    #[test]
    fn each_part_shows_the_most_of_it_and_nothing_is_made_up_before_the_first_look() {
        let samples = [sample(1_000_000, 10, 0), sample(1_250_000, 90, 0), sample(1_500_000, 20, 0)];
        let timeline = Timeline::of_run(&run(4_000_000, 0, 95 << 10), &samples).expect("it was looked at");
        assert_eq!(
            timeline.memory_in(8),
            [None, Some(10.0), Some(90.0), Some(20.0)].into_iter().chain([Some(20.0); 4]).collect::<Vec<_>>()
        );
        assert_eq!((timeline.seconds, timeline.peak_mib), (4.0, 95.0));
    }

    #[test]
    fn a_core_that_is_kept_busy_is_one_hundred_percent() {
        let samples: Vec<_> =
            (1..80u64).map(|number| sample(number * 50_000, 1, number * 50_000 / 10_000 * 10_000)).collect();
        let timeline = Timeline::of_run(&run(4_000_000, 4_000_000, 1), &samples).expect("it was looked at");
        for percent in timeline.cpu_percent(60) {
            assert!((85.0..115.0).contains(&percent), "{percent}");
        }
    }

    proptest! {
        #[test]
        fn whatever_was_seen_can_be_drawn(
            steps in proptest::collection::vec((0u64..100_000, 0u64..10_000, 0u64..100_000), 1..100),
            after in 0u64..100_000, parts in 1usize..200,
        ) {
            let mut now = (0, 0);
            let samples: Vec<_> = steps.iter().map(|(passed, mib, used)| {
                now = (now.0 + passed, now.1 + used);
                sample(now.0, *mib, now.1)
            }).collect();
            let timeline = Timeline::of_run(&run(now.0 + after, 0, 0), &samples).expect("it was looked at");
            let memory = timeline.memory_in(parts);
            prop_assert_eq!(memory.len(), parts);
            prop_assert!(memory.iter().flatten().all(|mib| (0.0..=timeline.peak_mib).contains(mib)));
            prop_assert!(timeline.cpu_percent(parts).iter().all(|percent| percent.is_finite() && *percent >= 0.0));
        }
    }
}
