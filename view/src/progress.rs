//! The view of a job's progress.

use serde::{Serialize, Serializer};

use pyexec_proto::progress::Progress;

/// Unknown values are `null`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProgressView {
    #[serde(serialize_with = "number")]
    pub current: Option<f64>,
    #[serde(serialize_with = "number")]
    pub total: Option<f64>,
    pub message: Option<String>,
    /// Per second.
    pub rate: Option<f64>,
    pub eta_seconds: Option<f64>,
    /// For people, in a word or two.
    #[serde(skip)]
    pub short: String,
    /// For people, in a sentence.
    #[serde(skip)]
    pub sentence: String,
}

impl ProgressView {
    pub fn of(progress: &Progress) -> Self {
        Self {
            current: progress.current,
            total: progress.total,
            message: progress.message.clone(),
            rate: progress.rate,
            eta_seconds: progress.eta_seconds,
            short: progress.short().into_owned(),
            sentence: progress.sentence(),
        }
    }
}

/// Whole numbers are written without a fraction: 3, not 3.0.
fn number<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    const EXACT: f64 = (1_u64 << 53) as f64;
    match value {
        Some(value) if value.fract() == 0.0 && value.abs() < EXACT => serializer.serialize_i64(*value as i64),
        other => other.serialize(serializer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyexec_proto::progress::Seen;

    #[test]
    fn progress_has_the_documented_fields_and_counts_in_whole_numbers() {
        let shown = |progress: &Progress| serde_json::to_string(&ProgressView::of(progress)).expect("is JSON");
        assert_eq!(
            shown(&Progress::of(Seen::Drawn, 3.0, Some(10.5))),
            r#"{"current":3,"total":10.5,"message":null,"rate":null,"eta_seconds":null}"#
        );
    }
}
