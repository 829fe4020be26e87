//! Statistics over a few measurements of the same quantity.

use serde::Serialize;

/// A summary of at least one value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Summary {
    pub mean: f64,
    /// The sample standard deviation (n − 1); `null` for a single value.
    pub stddev: Option<f64>,
    pub min: f64,
    pub max: f64,
    pub median: f64,
}

impl Summary {
    /// `None` if there are no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let count = values.len() as f64;
        // Rounding must not move the mean of equal values away from them.
        let mean = (values.iter().sum::<f64>() / count).max(min).min(max);
        let stddev = (values.len() > 1).then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            (squares / (count - 1.0)).sqrt()
        });
        Some(Self { mean, stddev, min, max, median: middle(&sorted) })
    }
}

/// The ratio of two means.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Ratio {
    pub ratio: f64,
    /// The propagated standard deviation; `null` if one of the means has none.
    pub stddev: Option<f64>,
}

impl Ratio {
    /// `None` if a mean is not positive. As in hyperfine, the two are assumed to be independent.
    pub fn of(one: &Summary, reference: &Summary) -> Option<Self> {
        if one.mean <= 0.0 || reference.mean <= 0.0 {
            return None;
        }
        let ratio = one.mean / reference.mean;
        let relative = |summary: &Summary| Some(summary.stddev? / summary.mean);
        let stddev = relative(one).zip(relative(reference)).map(|(one, other)| ratio * one.hypot(other));
        Some(Self { ratio, stddev })
    }
}

/// Values that do not fit the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outliers {
    /// The first value is larger, as if something had to be loaded that was cached for the others.
    First,
    /// The number of outliers.
    Some(usize),
}

/// The distance from the median beyond which a value is an outlier, in median absolute deviations. It is hyperfine's
/// threshold of ten standard deviations of a normal distribution (1.4826 converts between the two).
const OUTLIER: f64 = 1.4826 * 10.0;

/// Finds outliers by their modified z-score, as hyperfine does.
///
/// `resolution` is the smallest difference two values can have. It replaces the deviation if all values are equal.
pub fn outliers(values: &[f64], resolution: f64) -> Option<Outliers> {
    let median = median(values)?;
    let deviations: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
    let deviation = self::median(&deviations)?.max(resolution);
    let score = |value: &f64| (value - median) / deviation;
    if values.first().is_some_and(|first| score(first) > OUTLIER) {
        return Some(Outliers::First);
    }
    let far = values.iter().filter(|value| score(value).abs() > OUTLIER).count();
    (far > 0).then_some(Outliers::Some(far))
}

/// `None` if there are no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    (!sorted.is_empty()).then(|| middle(&sorted))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// The median of sorted values, of which there is at least one.
fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_summary_is_what_a_textbook_says() {
        let summary = |mean, stddev, min, max, median| Some(Summary { mean, stddev, min, max, median });
        let cases: [(&[f64], Option<Summary>); 6] = [
            (&[], None),
            (&[3.0], summary(3.0, None, 3.0, 3.0, 3.0)),
            (&[1.0, 3.0], summary(2.0, Some(2f64.sqrt()), 1.0, 3.0, 2.0)),
            (&[5.0, 1.0, 3.0], summary(3.0, Some(2.0), 1.0, 5.0, 3.0)),
            // The standard deviation of the sample, not of the population, which would be 2.
            (&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], summary(5.0, Some((32.0f64 / 7.0).sqrt()), 2.0, 9.0, 4.5)),
            (&[0.1, 0.1, 0.1], summary(0.1, Some(0.0), 0.1, 0.1, 0.1)),
        ];
        for (values, expected) in cases {
            assert_eq!(Summary::of(values), expected, "{values:?}");
        }
    }

    #[test]
    fn the_spread_of_a_ratio_comes_from_both() {
        let summary = |mean, stddev| Summary { mean, stddev, min: mean, max: mean, median: mean };
        let cases = [
            // A tenth of either makes √2 tenths of the quotient.
            (summary(20.0, Some(2.0)), summary(10.0, Some(1.0)), Some((2.0, Some(2.0 * 0.02f64.sqrt())))),
            (summary(20.0, Some(0.0)), summary(10.0, Some(3.0)), Some((2.0, Some(0.6)))),
            (summary(20.0, None), summary(10.0, Some(1.0)), Some((2.0, None))),
            (summary(20.0, Some(1.0)), summary(0.0, Some(0.0)), None),
            (summary(0.0, Some(0.0)), summary(10.0, Some(1.0)), None),
        ];
        for (one, reference, expected) in cases {
            let ratio = Ratio::of(&one, &reference);
            let shown = |(ratio, stddev): (f64, Option<f64>)| (ratio, stddev.map(|stddev| (stddev * 1e9).round()));
            let expected = expected.map(shown);
            assert_eq!(ratio.map(|found| shown((found.ratio, found.stddev))), expected, "{one:?} to {reference:?}");
        }
    }

    #[test]
    fn outliers_are_found_and_the_usual_spread_is_none() {
        let cases: [(&[f64], Option<Outliers>); 8] = [
            (&[], None),
            (&[5.0], None),
            (&[1.0, 100.0], None),
            (&[10.0, 10.1, 9.9, 10.2, 9.8], None),
            (&[10.0, 10.1, 9.9, 10.2, 30.0], Some(Outliers::Some(1))),
            (&[30.0, 10.0, 10.1, 9.9, 10.2], Some(Outliers::First)),
            // A first run that is quicker is just an outlier.
            (&[1.0, 10.0, 10.1, 9.9, 10.2], Some(Outliers::Some(1))),
            // Without any spread, a difference no larger than what can be measured is none.
            (&[10.0, 10.0, 10.0, 10.001], None),
        ];
        for (values, expected) in cases {
            assert_eq!(outliers(values, 0.001), expected, "{values:?}");
        }
    }

    proptest! {
        #[test]
        fn a_summary_is_in_order_whatever_the_values_are(values in proptest::collection::vec(0.0..1e9f64, 1..50)) {
            let summary = Summary::of(&values).expect("there are values");
            prop_assert!(summary.min <= summary.median && summary.median <= summary.max);
            prop_assert!(summary.min <= summary.mean && summary.mean <= summary.max);
            prop_assert!(summary.stddev.is_none_or(|deviation| deviation >= 0.0));
            prop_assert_eq!(summary.stddev.is_some(), values.len() > 1);
            let _ = outliers(&values, 1.0);
        }
    }
}
