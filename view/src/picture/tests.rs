use super::*;
use pyexec_proto::benchmark::{RunMeasurement, Sample};
use pyexec_proto::exit::{ExitStatus, ResourceUsage};

fn timeline(mib: u64, tenths: u64) -> Timeline {
    let sample = |number: u64| Sample {
        at_us: number * 100_000,
        rss_kib: 1024 * (mib * number / tenths),
        cpu_us: number * 95_000,
    };
    let samples: Vec<_> = (1..=tenths).map(sample).collect();
    let usage = ResourceUsage { max_rss_kib: mib << 10, ..Default::default() };
    let run = RunMeasurement { wall_us: tenths * 100_000, usage, tree_peak_kib: None, exit: ExitStatus::Success };
    Timeline::of_run(&run, &samples).expect("it was looked at")
}

/// Its pixels, as another reader of the format sees them.
fn decoded(file: &[u8]) -> Vec<u8> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("is a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("fits")];
    let frame = reader.next_frame(&mut pixels).expect("is a whole one");
    assert_eq!((frame.width, frame.height, frame.color_type), (WIDTH, HEIGHT, png::ColorType::Rgb));
    pixels
}

fn share(pixels: &[u8], Colour(red, green, blue): Colour) -> f64 {
    let found = pixels.chunks(3).filter(|pixel| **pixel == [red, green, blue]).count();
    found as f64 / (WIDTH * HEIGHT) as f64
}

#[test]
fn strips_make_up_the_whole_picture() {
    assert_eq!(HEIGHT % STRIP, 0);
}

#[test]
fn a_picture_is_a_png_with_its_own_background_and_both_curves() {
    let timeline = timeline(200, 30);
    let file = png("a.py", &[Curve { name: "a.py", timeline: &timeline }]);
    assert!(file.len() < 200_000, "{} bytes", file.len());
    let pixels = decoded(&file);
    assert!(share(&pixels, BACKGROUND) > 0.5);
    for colour in [MEMORY, CPU, TEXT] {
        assert!(share(&pixels, colour) > 0.000_05, "{colour:?}: {}", share(&pixels, colour));
    }
}

#[test]
fn each_of_several_runs_has_a_colour_and_what_is_more_is_left_out() {
    let timelines: Vec<Timeline> = (1..=8).map(|number| timeline(40 * number, 10 * number)).collect();
    let names: Vec<String> = (1..=8).map(|number| format!("variant-{number}.py")).collect();
    let curves: Vec<Curve<'_>> =
        names.iter().zip(&timelines).map(|(name, timeline)| Curve { name, timeline }).collect();
    let pixels = decoded(&png("compared", &curves));
    for colour in RUNS {
        assert!(share(&pixels, colour) > 0.000_05, "{colour:?}: {}", share(&pixels, colour));
    }
}

#[test]
fn whatever_a_title_is_made_of_it_stays_within_the_picture() {
    let timeline = timeline(1, 1);
    for title in ["", "\u{1b}[31m\n\t\0", "表計算.py", &"very long ".repeat(500), "🙂"] {
        decoded(&png(title, &[Curve { name: title, timeline: &timeline }, Curve { name: title, timeline: &timeline }]));
    }
}
