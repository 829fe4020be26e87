//! Views of a benchmark's measurements.

use serde::Serialize;

use crate::statistics::{Outliers, Summary, outliers};
use pyexec_proto::benchmark::{BenchmarkRecord, BenchmarkSpec, RunMeasurement};
use pyexec_proto::job::JobDetail;
use pyexec_proto::state::ExitRecord;
use pyexec_proto::ulimit;
use pyexec_proto::world::Conditions;

/// A peak that is exact for the largest single process.
pub const LARGEST_PROCESS: &str = "largest_process";
/// A peak that is sampled over all processes together, and at least that of the largest one.
pub const TREE_SAMPLED: &str = "tree_sampled";

/// The resource use of a finished job. For a benchmark: the means over its runs, and the highest peak.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ResourceTotals {
    pub(super) wall_time_seconds: f64,
    /// User and system time of all processes.
    pub(super) cpu_time_seconds: f64,
    pub(super) peak_rss_mb: f64,
    pub(super) peak_rss_scope: &'static str,
}

impl ResourceTotals {
    pub(super) fn of(record: &ExitRecord) -> Self {
        let measured = record.benchmark.as_deref().map(compared).unwrap_or_default();
        let mean =
            |value: fn(&RunMeasurement) -> f64| Summary::of(&values(&measured, value)).map(|summary| summary.mean);
        let usage = &record.usage;
        Self {
            // Without a measured run, the usage of the whole job.
            wall_time_seconds: mean(wall_seconds).unwrap_or(record.elapsed_us as f64 / 1e6),
            cpu_time_seconds: mean(cpu_seconds).unwrap_or(usage.cpu_us() as f64 / 1e6),
            peak_rss_mb: measured.iter().map(peak_mb).reduce(f64::max).unwrap_or(usage.max_rss_kib as f64 / 1024.0),
            peak_rss_scope: if measured.is_empty() { LARGEST_PROCESS } else { TREE_SAMPLED },
        }
    }
}

/// The measurements over all measured runs that exited with 0 or, if there are none, over the failed run.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BenchmarkView {
    /// The number of measured runs.
    pub runs: usize,
    /// The number of requested runs. The benchmark ends at the first run that does not exit with 0.
    pub runs_requested: u32,
    /// The number of measured runs that did not exit with 0 or were stopped; the means exclude them.
    pub failed_runs: usize,
    /// The number of unmeasured runs before them.
    pub warmup_runs: u32,
    /// From just before the process was created to its end.
    pub wall_time_seconds: Option<Summary>,
    /// User and system time of all processes of a run.
    pub cpu_time_seconds: Option<Summary>,
    pub user_time_seconds: Option<Summary>,
    pub system_time_seconds: Option<Summary>,
    /// A note if the CPU time is incomplete, or includes time that is neither in user nor in system time.
    pub cpu_time_note: Option<String>,
    /// MiB. The larger of the sampled sum over all processes and the peak of the largest process.
    pub peak_rss_mb: Option<Summary>,
    /// If [`BenchmarkView::samples`] is 0, the peak is that of the largest process regardless.
    pub peak_rss_scope: &'static str,
    pub minor_page_faults: Option<Summary>,
    pub major_page_faults: Option<Summary>,
    pub voluntary_context_switches: Option<Summary>,
    pub involuntary_context_switches: Option<Summary>,
    /// Bytes from and to storage; accesses served by the page cache are not counted.
    pub read_bytes: Option<Summary>,
    pub written_bytes: Option<Summary>,
    /// The mean interval between two memory samples.
    pub sample_interval_seconds: f64,
    /// The number of memory samples over all measured runs.
    pub samples: u64,
    /// The scheduling conditions of the runs; `null` in records of earlier versions.
    pub conditions: Option<ConditionsView>,
    /// Sentences about properties of the submitter that the job did not have: limits, and what the daemon may not set.
    pub not_taken_over: Vec<String>,
    /// Why the wall times are not reliable.
    pub outlier_warning: Option<String>,
    /// The measured runs in order.
    pub measured: Vec<MeasuredRun>,
}

/// The scheduling of the job's process, in the terms of `taskset`, `chrt` and `ionice`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConditionsView {
    /// The CPUs it could run on: `0-3,8`.
    pub cpu_affinity: String,
    pub cpu_scheduling: String,
    pub io_scheduling: String,
    pub nice: i32,
    pub oom_score_adj: Option<i32>,
    pub timer_slack_ns: u64,
    /// The number of `personality(2)`: 262144 disables address space randomization.
    pub personality: u32,
    /// A sentence for people with the values that are not defaults.
    #[serde(skip)]
    pub sentence: String,
}

impl ConditionsView {
    fn of(conditions: &Conditions) -> Self {
        let scheduling = &conditions.scheduling;
        Self {
            cpu_affinity: scheduling.cpus.clone(),
            cpu_scheduling: scheduling.shown_policy(),
            io_scheduling: scheduling.shown_io(),
            nice: scheduling.nice,
            oom_score_adj: scheduling.oom_score_adj,
            timer_slack_ns: conditions.timer_slack_ns,
            personality: conditions.personality,
            sentence: conditions.sentence(),
        }
    }
}

/// One measured run.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MeasuredRun {
    pub wall_time_seconds: f64,
    pub user_time_seconds: f64,
    pub system_time_seconds: f64,
    /// CPU time of processes that no parent waited for; in neither of the two above.
    pub unwaited_cpu_seconds: f64,
    /// MiB, as in [`BenchmarkView::peak_rss_mb`].
    pub peak_rss_mb: f64,
    /// MiB, exact.
    pub largest_process_rss_mb: f64,
    /// MiB; `null` if the run ended before the first sample.
    pub tree_sampled_rss_mb: Option<f64>,
    pub minor_page_faults: u64,
    pub major_page_faults: u64,
    pub voluntary_context_switches: u64,
    pub involuntary_context_switches: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub exit_code: i32,
}

impl BenchmarkView {
    /// `None` for a job that is not a benchmark, or has no exit record.
    pub fn of(detail: &JobDetail) -> Option<Self> {
        let ended = detail.state.record()?;
        let record = ended.benchmark.as_deref()?;
        let lowered = ulimit::tell_lowered(&detail.spec.resource_limits, &ended.run.lowered_limits);
        let not_taken_over = [lowered, ended.run.not_taken_over.clone()].concat();
        Some(Self { not_taken_over, ..Self::over(record, detail.spec.benchmark.unwrap_or_default()) })
    }

    fn over(record: &BenchmarkRecord, spec: BenchmarkSpec) -> Self {
        let runs = compared(record);
        let over = |value: fn(&RunMeasurement) -> f64| Summary::of(&values(&runs, value));
        Self {
            runs: record.measured.len(),
            runs_requested: spec.runs,
            failed_runs: record.measured.iter().filter(|run| !run.is_whole()).count(),
            warmup_runs: record.warmup_runs,
            wall_time_seconds: over(wall_seconds),
            cpu_time_seconds: over(cpu_seconds),
            user_time_seconds: over(|run| run.usage.user_us as f64 / 1e6),
            system_time_seconds: over(|run| run.usage.system_us as f64 / 1e6),
            cpu_time_note: cpu_time_note(&runs),
            peak_rss_mb: over(peak_mb),
            peak_rss_scope: TREE_SAMPLED,
            minor_page_faults: over(|run| run.usage.minor_faults as f64),
            major_page_faults: over(|run| run.usage.major_faults as f64),
            voluntary_context_switches: over(|run| run.usage.voluntary_switches as f64),
            involuntary_context_switches: over(|run| run.usage.involuntary_switches as f64),
            read_bytes: over(|run| run.usage.read_bytes() as f64),
            written_bytes: over(|run| run.usage.written_bytes() as f64),
            sample_interval_seconds: record.sample_interval_us as f64 / 1e6,
            samples: record.samples_taken,
            conditions: record.conditions.as_ref().map(ConditionsView::of),
            not_taken_over: vec![],
            outlier_warning: outlier_warning(&values(&runs, wall_seconds), record.warmup_runs > 0),
            measured: record.measured.iter().map(MeasuredRun::of).collect(),
        }
    }
}

impl MeasuredRun {
    fn of(run: &RunMeasurement) -> Self {
        Self {
            wall_time_seconds: wall_seconds(run),
            user_time_seconds: run.usage.user_us as f64 / 1e6,
            system_time_seconds: run.usage.system_us as f64 / 1e6,
            unwaited_cpu_seconds: run.usage.unwaited_cpu_us as f64 / 1e6,
            peak_rss_mb: peak_mb(run),
            largest_process_rss_mb: run.usage.max_rss_kib as f64 / 1024.0,
            tree_sampled_rss_mb: run.tree_peak_kib.map(|kib| kib as f64 / 1024.0),
            minor_page_faults: run.usage.minor_faults,
            major_page_faults: run.usage.major_faults,
            voluntary_context_switches: run.usage.voluntary_switches,
            involuntary_context_switches: run.usage.involuntary_switches,
            read_bytes: run.usage.read_bytes(),
            written_bytes: run.usage.written_bytes(),
            exit_code: run.exit.returncode(),
        }
    }
}

/// The runs that the statistics are computed from.
fn compared(record: &BenchmarkRecord) -> Vec<RunMeasurement> {
    let whole: Vec<_> = record.measured.iter().copied().filter(RunMeasurement::is_whole).collect();
    if whole.is_empty() { record.measured.clone() } else { whole }
}

fn values(runs: &[RunMeasurement], value: fn(&RunMeasurement) -> f64) -> Vec<f64> {
    runs.iter().map(value).collect()
}

fn wall_seconds(run: &RunMeasurement) -> f64 {
    run.wall_us as f64 / 1e6
}

fn cpu_seconds(run: &RunMeasurement) -> f64 {
    run.usage.cpu_us() as f64 / 1e6
}

fn peak_mb(run: &RunMeasurement) -> f64 {
    run.peak_kib() as f64 / 1024.0
}

/// A note if a run had processes that no parent waited for, as those of a parent that ignores SIGCHLD.
fn cpu_time_note(runs: &[RunMeasurement]) -> Option<String> {
    let unwaited = Summary::of(&values(runs, |run| run.usage.unwaited_cpu_us as f64 / 1e6))?.mean;
    if runs.iter().any(|run| run.usage.cpu_is_incomplete) {
        return Some(format!(
            "the CPU time is incomplete: processes that no parent waited for are counted as of the last sample, with {unwaited:.3} \
             s on average"
        ));
    }
    (unwaited > 0.0)
        .then(|| format!("the CPU time includes {unwaited:.3} s on average of processes that no parent waited for"))
}

fn outlier_warning(wall_seconds: &[f64], warmed_up: bool) -> Option<String> {
    /// The resolution of stored wall times.
    const MICROSECOND: f64 = 1e-6;
    match (outliers(wall_seconds, MICROSECOND)?, warmed_up) {
        (Outliers::First, false) => Some(
            "the first measured run took far longer than the others, perhaps because files were not in the page cache \
             yet; warm-up runs take that out"
                .to_owned(),
        ),
        (Outliers::First, true) => {
            Some("the first measured run took far longer than the others; more warm-up runs may help".to_owned())
        }
        (Outliers::Some(count), _) => Some(format!(
            "{count} of {} wall times are far from the rest; something else may have kept the machine busy",
            wall_seconds.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyexec_proto::exit::{ExitStatus, ResourceUsage};
    use pyexec_proto::output::OutputLengths;
    use pyexec_proto::state::Run;
    use pyexec_proto::time::Timestamp;

    fn run(wall_us: u64, kib: u64, exit: ExitStatus) -> RunMeasurement {
        let usage = ResourceUsage { user_us: wall_us / 2, system_us: 10, max_rss_kib: kib, ..Default::default() };
        RunMeasurement { wall_us, usage, tree_peak_kib: Some(kib * 2), exit }
    }

    fn record(measured: Vec<RunMeasurement>) -> BenchmarkRecord {
        BenchmarkRecord { measured, warmup_runs: 1, sample_interval_us: 50_000, ..Default::default() }
    }

    fn ended(benchmark: Option<BenchmarkRecord>) -> ExitRecord {
        ExitRecord {
            run: Run::of_process(1, Timestamp(0)),
            exit: ExitStatus::Success,
            stopped: None,
            usage: ResourceUsage { user_us: 3_000_000, system_us: 1_000_000, max_rss_kib: 1024, ..Default::default() },
            ended_at: Timestamp(9),
            elapsed_us: 9_000_000,
            output: OutputLengths::default(),
            benchmark: benchmark.map(Box::new),
        }
    }

    #[test]
    fn a_run_that_failed_is_shown_and_is_in_no_mean() {
        let failed = ExitStatus::Signal { signal: 15, core_dumped: false };
        let runs = vec![run(1_000, 10, ExitStatus::Success), run(3_000, 20, ExitStatus::Success), run(9, 90, failed)];
        let spec = BenchmarkSpec { runs: 5, ..Default::default() };
        let view = BenchmarkView::over(&record(runs), spec);
        assert_eq!((view.runs, view.runs_requested, view.failed_runs, view.measured.len()), (3, 5, 1, 3));
        assert_eq!(view.wall_time_seconds.map(|wall| (wall.mean, wall.max)), Some((0.002, 0.003)));
        assert_eq!(view.measured[2].exit_code, -15);
    }

    #[test]
    fn a_single_run_that_failed_is_all_there_is_to_tell() {
        let view = BenchmarkView::over(
            &record(vec![run(1_000, 10, ExitStatus::Signal { signal: 9, core_dumped: false })]),
            BenchmarkSpec::default(),
        );
        assert_eq!((view.runs, view.failed_runs), (1, 1));
        assert_eq!(view.wall_time_seconds.map(|wall| wall.mean), Some(0.001));
    }

    #[test]
    fn what_a_job_took_is_the_mean_of_its_runs_and_the_highest_peak() {
        let plain = ResourceTotals {
            wall_time_seconds: 9.0,
            cpu_time_seconds: 4.0,
            peak_rss_mb: 1.0,
            peak_rss_scope: LARGEST_PROCESS,
        };
        let runs = vec![run(1_000_000, 1024, ExitStatus::Success), run(3_000_000, 512, ExitStatus::Success)];
        let benchmarked = ResourceTotals {
            wall_time_seconds: 2.0,
            cpu_time_seconds: 1.00001,
            peak_rss_mb: 2.0,
            peak_rss_scope: TREE_SAMPLED,
        };
        for (benchmark, expected) in [
            (None, plain),
            // Its warm-up failed: nothing was measured.
            (Some(record(vec![])), plain),
            (Some(record(runs)), benchmarked),
        ] {
            assert_eq!(ResourceTotals::of(&ended(benchmark)), expected);
        }
    }
}
