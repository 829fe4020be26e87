//! What is measured of a job's runs. `supervision` says when one begins and ends; nothing here starts or stops anything.

use std::time::Duration;

use pyexec_proto::benchmark::{BenchmarkRecord, BenchmarkSpec, RunMeasurement, Sample};
use pyexec_proto::exit::{ExitStatus, ResourceUsage};
use pyexec_proto::world::Conditions;

use super::clock::Clocks;
use super::ledger::Unwaited;
use super::sampling::{self, Series, Tree};
use super::starter::Starter;
use pyexec_run_directory::report::Report;

/// A run that has gone on for so long is worth telling the daemon of: nobody can do anything with the pid of one that is
/// over in a moment, and telling takes time while others are being measured.
const WORTH_TELLING: Duration = Duration::from_secs(1);
/// Runs may follow each other quicker than anybody wants to hear of it.
const BETWEEN_REPORTS: Duration = Duration::from_millis(100);

/// A job that is measured: the run that goes on, and what has come of those before it.
pub(super) struct Benchmark {
    spec: BenchmarkSpec,
    pub(super) starter: Starter,
    current: Current,
    tree: Tree,
    /// How long to wait until the next look; what looking costs is learnt over all runs.
    interval: Duration,
    /// The time that the looks at measured runs stand for, all together.
    looked_over: Duration,
    ended: u32,
    first_started: Duration,
    last_report: Duration,
    record: BenchmarkRecord,
}

/// The run that goes on.
#[derive(Debug)]
struct Current {
    started: Clocks,
    /// Of what has been reaped.
    usage: ResourceUsage,
    peak_kib: Option<u64>,
    cpu: Duration,
    series: Series<{ BenchmarkRecord::MAX_SAMPLES }>,
    last_look: Duration,
    /// On the monotonic clock; `None` once its own process has ended.
    next_look: Option<Duration>,
    /// The daemon knows of it.
    told: bool,
    /// What the control group had counted when it began.
    metered: Duration,
}

impl Current {
    fn new(started: Clocks, interval: Duration, told: bool) -> Self {
        Self {
            metered: Duration::ZERO,
            started,
            usage: ResourceUsage::default(),
            peak_kib: None,
            cpu: Duration::ZERO,
            series: Series::new(),
            last_look: started.monotonic,
            next_look: Some(started.monotonic + interval),
            told,
        }
    }
}

impl Benchmark {
    /// The first run has been started.
    pub(super) fn new(spec: BenchmarkSpec, starter: Starter, started: Clocks) -> Self {
        let interval = Duration::from_millis(spec.sample_interval_ms.max(1));
        Self {
            spec,
            starter,
            // Told when the daemon is greeted.
            current: Current::new(started, interval, true),
            tree: Tree::default(),
            interval,
            looked_over: Duration::ZERO,
            ended: 0,
            first_started: started.monotonic,
            last_report: started.monotonic,
            record: BenchmarkRecord::default(),
        }
    }

    /// What its record may take up at the most, written out.
    pub(super) fn record_bytes(spec: &BenchmarkSpec) -> u64 {
        /// Every number as long as it can be.
        const RUN: u64 = 640;
        const SAMPLE: u64 = 96;
        u64::from(spec.runs) * RUN + BenchmarkRecord::MAX_SAMPLES as u64 * SAMPLE
    }

    /// Whether there are runs to come after this one, if it goes well.
    pub(super) fn has_more(&self) -> bool {
        self.ended + 1 < self.runs()
    }

    /// How far all the runs are, when it is time to say so again: between two of them, where it is in no measurement.
    pub(super) fn report(&mut self) -> Option<Report> {
        let now = Clocks::now().monotonic;
        if now.saturating_sub(self.last_report) < BETWEEN_REPORTS {
            return None;
        }
        self.last_report = now;
        let all = self.runs();
        Some(Report {
            current: f64::from(self.ended),
            total: Some(f64::from(all)),
            message: Some(format!("run {} of {all}", self.ended + 1)),
            rate: Some(f64::from(self.ended) / now.saturating_sub(self.first_started).as_secs_f64()),
        })
    }

    /// Those to warm up and those that are measured.
    fn runs(&self) -> u32 {
        self.spec.warmup_runs.saturating_add(self.spec.runs)
    }

    /// The next run has been started; by then the job's control group had counted so much CPU time, where it has one.
    pub(super) fn begin(&mut self, started: Clocks, metered: Option<Duration>) {
        let metered = metered.unwrap_or_default();
        self.current = Current { metered, ..Current::new(started, self.interval, false) };
        self.tree.start_over();
    }

    pub(super) fn reaped(&mut self, usage: &ResourceUsage) {
        self.current.usage.add(usage);
    }

    /// The run's own process has ended; what it left behind may go on for a while, and is not looked at.
    pub(super) fn leader_ended(&mut self) {
        self.current.next_look = None;
    }

    pub(super) fn next_look(&self) -> Option<Duration> {
        self.current.next_look
    }

    /// Looks at the run. Says whether the daemon should hear of it.
    pub(super) fn look(&mut self) -> bool {
        let now = Clocks::now();
        let reaped = Duration::from_micros(self.current.usage.waited_cpu_us());
        let (looked, cost) = self.tree.look(reaped);
        self.interval = sampling::interval(Duration::from_millis(self.spec.sample_interval_ms), cost);
        let measured = self.is_measured();
        let current = &mut self.current;
        // One that ends between being seen and being reaped is missing for a moment.
        current.cpu = current.cpu.max(looked.cpu + reaped);
        current.peak_kib = current.peak_kib.max(Some(looked.memory_kib));
        let at = now.monotonic.saturating_sub(current.started.monotonic);
        current.series.push(Sample { at_us: micros(at), rss_kib: looked.memory_kib, cpu_us: micros(current.cpu) });
        if measured {
            self.record.samples_taken += 1;
            self.looked_over += now.monotonic.saturating_sub(current.last_look);
        }
        current.last_look = now.monotonic;
        current.next_look = Some(Clocks::now().monotonic + self.interval);
        let tell = !current.told && at >= WORTH_TELLING;
        current.told |= tell;
        tell
    }

    /// The run is over. `all_gone`: none of its processes is left. What they used that nobody waited for.
    pub(super) fn end(&mut self, exit: ExitStatus, at: &Clocks, metered: Option<Duration>, all_gone: bool) -> Unwaited {
        let reaped = Duration::from_micros(self.current.usage.waited_cpu_us());
        if all_gone {
            self.tree.settle(reaped);
        }
        let metered = metered.map(|metered| metered.saturating_sub(self.current.metered));
        let unwaited = Unwaited::of(metered, self.tree.unwaited(), reaped);
        unwaited.add_to(&mut self.current.usage);
        let current = std::mem::replace(&mut self.current, Current::new(*at, self.interval, true));
        self.current.next_look = None;
        if self.is_measured() {
            self.record.measured.push(RunMeasurement {
                wall_us: micros(at.monotonic.saturating_sub(current.started.monotonic)),
                usage: current.usage,
                tree_peak_kib: current.peak_kib,
                exit,
            });
            self.record.samples = current.series.into_samples();
        } else {
            self.record.warmup_runs += 1;
        }
        self.ended += 1;
        unwaited
    }

    /// The next run could not be started.
    pub(super) fn cut_short(&mut self, why: &str) {
        let all = self.runs();
        self.record.problem = Some(format!("run {} of {all} could not be started: {why}", self.ended + 1));
    }

    pub(super) fn into_record(self, conditions: Conditions) -> BenchmarkRecord {
        let average =
            u32::try_from(self.record.samples_taken).ok().and_then(|looks| self.looked_over.checked_div(looks));
        let asked = Duration::from_millis(self.spec.sample_interval_ms);
        let sample_interval_us = micros(average.unwrap_or(asked));
        BenchmarkRecord { sample_interval_us, conditions: Some(conditions), ..self.record }
    }

    /// And not a warm-up.
    fn is_measured(&self) -> bool {
        self.ended >= self.spec.warmup_runs
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_longest_numbers_fits_into_what_is_reserved_for_it() {
        let most = u64::MAX;
        let usage = ResourceUsage {
            user_us: most,
            system_us: most,
            max_rss_kib: most,
            minor_faults: most,
            major_faults: most,
            voluntary_switches: most,
            involuntary_switches: most,
            blocks_read: most,
            blocks_written: most,
            unwaited_cpu_us: most,
            cpu_is_incomplete: false,
        };
        let exit = ExitStatus::Signal { signal: i32::MIN, core_dumped: false };
        let run = RunMeasurement { wall_us: most, usage, tree_peak_kib: Some(most), exit };
        for runs in [1u32, 10, 1_000] {
            let record = BenchmarkRecord {
                measured: vec![run; runs as usize],
                samples: vec![Sample { at_us: most, rss_kib: most, cpu_us: most }; BenchmarkRecord::MAX_SAMPLES],
                ..Default::default()
            };
            let written = serde_json::to_vec(&record).expect("is JSON").len() as u64;
            let reserved = Benchmark::record_bytes(&BenchmarkSpec { runs, ..Default::default() });
            // The rest of the record has room of its own.
            assert!(written <= reserved + 1024, "{written} bytes for {runs} runs, where {reserved} are reserved");
        }
    }
}
