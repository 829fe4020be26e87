//! The time a synchronous tool waits for its job before it answers with the job's id.

use std::time::Duration;

use pyexec_client::environment_file::EnvironmentFile;
use pyexec_proto::variables::WAIT_VARIABLE;

/// The default without [`WAIT_VARIABLE`]: hosts give up after a minute.
const DEFAULT: Duration = Duration::from_secs(20);

/// Reads this process's environment and then the environment file.
pub(super) fn of_setting(file: &EnvironmentFile) -> Duration {
    match std::env::var_os(WAIT_VARIABLE) {
        Some(own) => of(own.to_str()),
        None => of(file.value(WAIT_VARIABLE)),
    }
}

/// `given` is a number of seconds. Anything else is logged and ignored.
fn of(given: Option<&str>) -> Duration {
    let Some(given) = given.filter(|given| !given.trim().is_empty()) else { return DEFAULT };
    match given.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(budget) => budget,
        None => {
            tracing::warn!("{WAIT_VARIABLE} is `{given}`, which is not a number of seconds: {DEFAULT:?} is used");
            DEFAULT
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_makes_no_sense_is_the_usual_one() {
        let cases = [
            (None, 20_000),
            (Some(""), 20_000),
            (Some("0.25"), 250),
            (Some(" 5 "), 5_000),
            (Some("0"), 0),
            (Some("-1"), 20_000),
            (Some("soon"), 20_000),
            (Some("NaN"), 20_000),
        ];
        for (given, milliseconds) in cases {
            assert_eq!(of(given), Duration::from_millis(milliseconds), "{given:?}");
        }
    }
}
