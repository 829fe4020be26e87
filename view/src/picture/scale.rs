//! The axes of a picture: their range, and the position and text of their labels.

/// An axis from 0 to `end`, with its labels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    pub(crate) end: f64,
    pub(crate) ticks: Vec<(f64, String)>,
}

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;

impl Scale {
    /// An axis that ends with the run.
    pub(crate) fn of_seconds(end: f64) -> Self {
        let (size, unit) = match end {
            ..1e-3 => (1e-6, "µs"),
            ..1.0 => (1e-3, "ms"),
            ..180.0 => (1.0, "s"),
            ..HOUR_AND_A_HALF => (MINUTE, "min"),
            _ => (HOUR, "h"),
        };
        Self { end, ticks: ticks(end / size, 8.0, size, unit) }
    }

    /// An axis that ends slightly above the largest value.
    pub(crate) fn of_mebibytes(largest: f64) -> Self {
        let (size, unit) = if largest >= 4096.0 { (1024.0, "GiB") } else { (1.0, "MiB") };
        let largest = (largest / size).max(1e-3) * 1.04;
        let step = step(largest / 5.0);
        let end = (largest / step).ceil() * step;
        Self { end: end * size, ticks: ticks(end, 5.0, size, unit) }
    }

    /// An axis for as many whole cores as the largest value needs.
    pub(crate) fn of_percent(largest: f64) -> Self {
        // Clock ticks make a busy core occasionally appear slightly above 100%.
        let cores = (largest / 100.0 - 0.15).ceil().max(1.0);
        let every = (cores / 4.0).ceil() * 100.0;
        let end = ((cores * 100.0) / every).ceil() * every;
        let steps = if cores <= 1.0 { vec![0.0, 50.0, 100.0] } else { multiples(every, end) };
        Self { end, ticks: steps.into_iter().map(|percent| (percent, format!("{percent:.0} %"))).collect() }
    }
}

const HOUR_AND_A_HALF: f64 = 1.5 * HOUR;

/// About `about` labels up to `end`, in a unit of the given size.
fn ticks(end: f64, about: f64, size: f64, unit: &str) -> Vec<(f64, String)> {
    let step = step(end / about);
    let digits = if step >= 1.0 && step.fract() == 0.0 { 0 } else { (1.0 - step.log10().floor()).max(1.0) as usize };
    let written = |value: f64| match value {
        0.0 => "0".to_owned(),
        _ => {
            let text = format!("{value:.digits$}");
            let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
            format!("{text} {unit}")
        }
    };
    multiples(step, end).into_iter().map(|value| (value * size, written(value))).collect()
}

/// The multiples of `step` up to `end`, with a tolerance for rounding.
fn multiples(step: f64, end: f64) -> Vec<f64> {
    let last = (end / step + 1e-6).floor() as u32;
    (0..=last).map(|number| f64::from(number) * step).collect()
}

/// The smallest step of 1, 2, 2.5 or 5 times a power of ten that is at least `least`.
fn step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 2.5, 5.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= least * 0.999)
        .unwrap_or(10.0 * power)
}

/// `812 µs`, `12.3 ms`, `3.41 s`, `12.5 min`.
pub(crate) fn seconds(seconds: f64) -> String {
    match seconds {
        ..1e-3 => format!("{:.0} µs", seconds * 1e6),
        ..1.0 => format!("{:.1} ms", seconds * 1e3),
        ..180.0 => format!("{seconds:.2} s"),
        ..HOUR_AND_A_HALF => format!("{:.1} min", seconds / MINUTE),
        _ => format!("{:.1} h", seconds / HOUR),
    }
}

pub(crate) fn mebibytes(mib: f64) -> String {
    if mib >= 4096.0 { format!("{:.2} GiB", mib / 1024.0) } else { format!("{mib:.1} MiB") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(scale: &Scale) -> Vec<&str> {
        scale.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn an_axis_is_counted_in_numbers_one_would_write() {
        assert_eq!(written(&Scale::of_seconds(3.2)), ["0", "0.5 s", "1 s", "1.5 s", "2 s", "2.5 s", "3 s"]);
        assert_eq!(written(&Scale::of_seconds(0.05))[..3], ["0", "10 ms", "20 ms"]);
        assert_eq!(written(&Scale::of_seconds(1_200.0))[..3], ["0", "2.5 min", "5 min"]);
        assert_eq!(written(&Scale::of_mebibytes(213.4)), ["0", "50 MiB", "100 MiB", "150 MiB", "200 MiB", "250 MiB"]);
        assert_eq!(written(&Scale::of_mebibytes(10_000.0)), ["0", "2.5 GiB", "5 GiB", "7.5 GiB", "10 GiB", "12.5 GiB"]);
        assert_eq!(written(&Scale::of_percent(97.0)), ["0 %", "50 %", "100 %"]);
        assert_eq!(written(&Scale::of_percent(113.0)), ["0 %", "50 %", "100 %"]);
        assert_eq!(written(&Scale::of_percent(380.0)), ["0 %", "100 %", "200 %", "300 %", "400 %"]);
        assert_eq!(written(&Scale::of_percent(3_150.0)), ["0 %", "800 %", "1600 %", "2400 %", "3200 %"]);
    }

    #[test]
    fn whatever_there_is_lies_on_its_axis() {
        for power in -6..9 {
            for digits in 1..100u32 {
                let value = f64::from(digits) * 10f64.powi(power);
                for scale in [Scale::of_mebibytes(value), Scale::of_seconds(value)] {
                    assert!(scale.end >= value && (1..=12).contains(&scale.ticks.len()), "{value}: {scale:?}");
                    assert!(scale.ticks.iter().all(|(at, _)| *at <= scale.end * 1.001), "{value}: {scale:?}");
                }
            }
        }
    }
}
