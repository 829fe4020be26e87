//! What `doctor` says of one thing that it has looked at, and how long it looks.

use std::time::Duration;

use pyexec_client::threads;
use serde::Serialize;

/// How long a directory, a file or a daemon may take to be looked at: a network's may be gone.
pub(super) const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Of the packages of this workspace, which all have the same.
pub(super) const OUR_VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    /// Something does not work that not everybody needs.
    Warning,
    /// Jobs do not run as they should.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) status: Status,
    /// What was found.
    pub(super) detail: String,
    /// What to do about it; there is always something, unless it is fine.
    pub(super) hint: Option<String>,
}

impl Check {
    pub(super) fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Ok, detail: detail.into(), hint: None }
    }

    pub(super) fn warning(name: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Warning, detail: detail.into(), hint: Some(hint.into()) }
    }

    pub(super) fn problem(name: impl Into<String>, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Problem, detail: detail.into(), hint: Some(hint.into()) }
    }
}

/// What `look` finds, which may wait for a disk or a network that does not answer.
pub(super) async fn within_limit(name: &str, look: impl FnOnce() -> Vec<Check> + Send + 'static) -> Vec<Check> {
    match tokio::time::timeout(LOOK_LIMIT, threads::run_on_thread(look)).await {
        Ok(Ok(checks)) => checks,
        Ok(Err(error)) => vec![Check::problem(name, format!("the check failed: {error}"), "report this")],
        Err(_) => {
            let detail = format!("did not answer within {} s", LOOK_LIMIT.as_secs());
            vec![Check::problem(name, detail, "check the file systems that they are on")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_panics_is_told_and_does_not_end_the_others() {
        let checks = within_limit("x", || panic!("on purpose")).await;
        assert_eq!((checks.len(), checks[0].status), (1, Status::Problem));
    }
}
