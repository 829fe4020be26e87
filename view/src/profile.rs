//! Views of a profile.

use serde::Serialize;

use pyexec_proto::profile::{ProfileSpec, ProfileSummary, ProfiledFunction, STATISTICS};

/// The profile of a finished job.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProfileView {
    /// Sorted by the time in a function and in what it called.
    pub by_cumulative: Vec<ProfileRow>,
    /// Sorted by the time in the function itself.
    pub by_own: Vec<ProfileRow>,
    pub functions: Option<u64>,
    pub calls: Option<u64>,
    pub seconds: Option<f64>,
    /// The artifact with the complete profile, for `pstats`; `null` if there is none.
    pub artifact: Option<&'static str>,
    /// Why there is no profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProfileRow {
    pub ncalls: u64,
    pub primitive_calls: u64,
    /// Seconds in the function itself.
    pub tottime: f64,
    pub tottime_per_call: f64,
    /// Seconds in it and in what it called.
    pub cumtime: f64,
    /// Per primitive call, as `pstats` has it.
    pub cumtime_per_call: f64,
    /// `file:line(name)`, or only the name if the function is not written in Python.
    pub function: String,
}

impl ProfileView {
    /// The first rows of the profile, as many as `spec` requests.
    pub fn of(found: &Result<ProfileSummary, String>, spec: ProfileSpec) -> Self {
        let top = spec.top.min(ProfileSpec::MAX_TOP) as usize;
        let rows = |functions: &[ProfiledFunction]| functions.iter().take(top).map(ProfileRow::of).collect();
        match found {
            Ok(summary) => Self {
                by_cumulative: rows(&summary.by_cumulative),
                by_own: rows(&summary.by_own),
                functions: Some(summary.functions),
                calls: Some(summary.calls),
                seconds: Some(summary.seconds),
                artifact: Some(STATISTICS),
                problem: None,
            },
            Err(problem) => Self {
                by_cumulative: vec![],
                by_own: vec![],
                functions: None,
                calls: None,
                seconds: None,
                artifact: None,
                problem: Some(problem.clone()),
            },
        }
    }
}

impl ProfileRow {
    fn of(function: &ProfiledFunction) -> Self {
        const SHOWN: usize = 300;
        let per = |seconds: f64, calls: u64| if calls == 0 { 0.0 } else { seconds / calls as f64 };
        let ProfiledFunction { ncalls, primitive_calls, tottime, cumtime, file, line, name } = function;
        let whole = if file == "~" { name.clone() } else { format!("{file}:{line}({name})") };
        Self {
            ncalls: *ncalls,
            primitive_calls: *primitive_calls,
            tottime: *tottime,
            tottime_per_call: per(*tottime, *ncalls),
            cumtime: *cumtime,
            cumtime_per_call: per(*cumtime, *primitive_calls),
            function: whole.chars().take(SHOWN).collect(),
        }
    }

    /// The cells of a table: [`ProfileRow::HEADER`].
    pub fn cells(&self) -> Vec<String> {
        let calls = match self.ncalls == self.primitive_calls {
            true => self.ncalls.to_string(),
            false => format!("{}/{}", self.ncalls, self.primitive_calls),
        };
        let seconds = |value: f64| format!("{value:.4}");
        vec![
            calls,
            seconds(self.tottime),
            seconds(self.tottime_per_call),
            seconds(self.cumtime),
            seconds(self.cumtime_per_call),
            self.function.clone(),
        ]
    }

    /// The column names of `pstats`.
    pub const HEADER: [&str; 6] = ["ncalls", "tottime", "percall", "cumtime", "percall", "function"];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_what_pstats_says_of_a_function() {
        let function = |file: &str, ncalls, primitive_calls| ProfiledFunction {
            ncalls,
            primitive_calls,
            tottime: 0.5,
            cumtime: 2.0,
            file: file.into(),
            line: 7,
            name: "work".into(),
        };
        let cells = |function: &ProfiledFunction| ProfileRow::of(function).cells();
        assert_eq!(cells(&function("x.py", 10, 2)), ["10/2", "0.5000", "0.0500", "2.0000", "1.0000", "x.py:7(work)"]);
        assert_eq!(cells(&function("~", 0, 0)), ["0", "0.5000", "0.0000", "2.0000", "0.0000", "work"]);
    }

    #[test]
    fn only_what_was_asked_for_is_shown_and_a_missing_profile_says_why() {
        let row = ProfiledFunction {
            ncalls: 1,
            primitive_calls: 1,
            tottime: 0.0,
            cumtime: 0.0,
            file: "~".into(),
            line: 0,
            name: "n".into(),
        };
        let rows = vec![row; 30];
        let summary =
            ProfileSummary { functions: 30, calls: 30, seconds: 0.0, by_cumulative: rows.clone(), by_own: rows };
        let view = ProfileView::of(&Ok(summary), ProfileSpec { top: 5 });
        assert_eq!((view.by_cumulative.len(), view.by_own.len(), view.artifact), (5, 5, Some(STATISTICS)));
        let view = ProfileView::of(&Err("because".into()), ProfileSpec { top: 5 });
        assert_eq!((view.problem.as_deref(), view.artifact), (Some("because"), None));
    }
}
