use super::*;
use proptest::prelude::*;
use pyexec_proto::benchmark::{RunMeasurement, Sample};
use pyexec_proto::exit::{ExitStatus, ResourceUsage};

const BLOCKS: Pen = Pen { unicode: true, colour: false };
const ASCII: Pen = Pen { unicode: false, colour: false };

/// Grows for two seconds with one core busy, then stays for one with two of them.
fn timeline() -> Timeline {
    let sample = |number: u64| Sample {
        at_us: number * 50_000,
        rss_kib: number.min(40) * 5 * 1024,
        cpu_us: if number <= 40 { number * 50_000 } else { 2_000_000 + (number - 40) * 100_000 },
    };
    let usage = ResourceUsage { user_us: 4_000_000, max_rss_kib: 200 << 10, ..Default::default() };
    let run = RunMeasurement { wall_us: 3_000_000, usage, tree_peak_kib: None, exit: ExitStatus::Success };
    Timeline::of_run(&run, &(1..60).map(sample).collect::<Vec<_>>()).expect("it was looked at")
}

#[test]
fn a_chart_of_forty_columns() {
    assert_eq!(text(&timeline(), 40, BLOCKS), FORTY);
}

#[test]
fn a_chart_of_eighty_columns() {
    assert_eq!(text(&timeline(), 80, BLOCKS), EIGHTY);
}

#[test]
fn a_chart_for_terminals_that_know_nothing_but_ascii() {
    let chart = text(&timeline(), 40, ASCII);
    assert_eq!(chart, PLAIN);
    assert!(chart.is_ascii());
}

#[test]
fn colour_is_around_the_curves_and_nowhere_else() {
    let coloured = text(&timeline(), 40, Pen { colour: true, ..BLOCKS });
    assert_eq!(coloured.replace("\x1b[36m", "").replace("\x1b[33m", "").replace("\x1b[0m", ""), FORTY);
}

#[test]
fn the_end_of_a_scale_is_a_number_one_would_write() {
    for (value, expected) in [(0.0, 1.0), (1.0, 1.0), (9.1, 10.0), (101.0, 120.0), (213.4, 240.0), (0.3, 0.3)] {
        assert!((rounded_up(value) - expected).abs() < 1e-9, "{value}: {}", rounded_up(value));
    }
}

proptest! {
    #[test]
    fn a_chart_stays_within_its_columns_and_twelve_lines(
        steps in proptest::collection::vec((0u64..10_000_000, 0u64..40_000_000, 0u64..10_000_000), 1..80),
        columns in 40usize..200, unicode in any::<bool>(),
    ) {
        let mut now = (0, 0);
        let samples: Vec<_> = steps.iter().map(|(passed, rss_kib, cpu_us)| {
            now = (now.0 + passed, now.1 + cpu_us);
            Sample { at_us: now.0, rss_kib: *rss_kib, cpu_us: now.1 }
        }).collect();
        let usage = ResourceUsage::default();
        let run = RunMeasurement { wall_us: now.0, usage, tree_peak_kib: None, exit: ExitStatus::Success };
        let chart = text(&Timeline::of_run(&run, &samples).expect("was looked at"), columns, Pen { unicode, colour: false });
        prop_assert!(chart.lines().count() <= 12);
        let widest = chart.lines().map(|line| line.chars().count()).max();
        prop_assert!(widest <= Some(columns), "{}", chart);
    }
}

const FORTY: &str = "\
\x20  memory
  200 MiB▏                ▂▄▆███████████
         ▏            ▂▄▆███████████████
  100 MiB▏        ▂▄▆███████████████████
         ▏    ▂▄▆███████████████████████
        0▏▂▄▆███████████████████████████
      CPU
     200%▏                    ██████████
         ▏▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▆██████████
        0▏██████████████████████████████
          0 s                    3.000 s
";
const EIGHTY: &str = "\
\x20  memory
  200 MiB▏                                     ▁▁▂▃▄▅▆▇▇████████████████████████
         ▏                            ▁▂▃▃▄▅▆▇██████████████████████████████████
  100 MiB▏                   ▁▂▃▄▅▅▆▇███████████████████████████████████████████
         ▏         ▁▁▂▃▄▅▆▇▇████████████████████████████████████████████████████
        0▏ ▂▃▃▄▅▆▇██████████████████████████████████████████████████████████████
      CPU
     200%▏                                              ▂▇██████████████████████
         ▏▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▅████████████████████████
        0▏██████████████████████████████████████████████████████████████████████
          0 s                                                            3.000 s
";
const PLAIN: &str = "\
\x20  memory
  200 MiB|                .::###########
         |            .::###############
  100 MiB|        .::###################
         |    .::#######################
        0|.::###########################
      CPU
     200%|                    ##########
         |::::::::::::::::::::##########
        0|##############################
          0 s                    3.000 s
";
