//! Builds a submission from the user's options, the properties of the caller, and defaults.

use std::ffi::OsStr;

use pyexec_proto::environment::EnvironmentSpec;
use pyexec_proto::id::JobId;
use pyexec_proto::job::{JobSource, JobSpec, StdinSource, Submission, Variables, Watching};
use pyexec_proto::os_text::OsText;
use pyexec_proto::script::Autosave;

use crate::caller::Caller;

/// A submission under construction. It has its job id from the beginning.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Filled with the caller's properties and defaults.
    pub spec: JobSpec,
    pub watching: Watching,
    pub id: JobId,
    environment: Variables,
    overrides: Variables,
    stdin: Vec<u8>,
    /// The content of the env file, if only this process can read it.
    pub env_file: Option<Vec<u8>>,
    pub autosave: Option<Autosave>,
}

impl Draft {
    pub fn new(caller: Caller, source: JobSource, directory: impl Into<OsText>, environment: EnvironmentSpec) -> Self {
        let bare = JobSpec::new(source, directory, environment.interpreter.clone());
        let spec = JobSpec {
            environment,
            umask: caller.umask,
            resource_limits: caller.limits,
            nice: caller.nice,
            timer_slack_ns: caller.timer_slack_ns,
            personality: caller.personality,
            parent: caller.parent,
            ..bare
        };
        Self {
            spec,
            watching: Watching::default(),
            id: JobId::mint(),
            environment: caller.environment,
            overrides: Variables::default(),
            stdin: Vec::new(),
            env_file: None,
            autosave: None,
        }
    }

    /// Sets a variable of the job. Its name is stored with the job, its value is not.
    pub fn set_variable(&mut self, name: &OsStr, value: &OsStr) {
        self.overrides.set(name, value);
        let name = name.to_string_lossy().into_owned();
        if !self.spec.variables.contains(&name) {
            self.spec.variables.push(name);
        }
    }

    /// Sets the job's whole stdin. With empty text the job reads end of file at once.
    pub fn set_stdin(&mut self, text: Vec<u8>) {
        self.spec.stdin = StdinSource::Given;
        self.stdin = text;
    }

    /// Raises the job's nice value to at least `nice`; never lowers it.
    pub fn raise_nice_to(&mut self, nice: i32) {
        self.spec.nice = self.spec.nice.max(nice);
    }

    pub fn submission(self) -> Submission {
        let Self { spec, watching, id, environment, overrides, stdin, env_file, autosave } = self;
        Submission { id, spec, watching, environment, overrides, stdin, env_file, autosave }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyexec_proto::environment::Interpreter;
    use pyexec_proto::ulimit::ResourceLimit;

    fn draft() -> Draft {
        let caller = Caller {
            environment: [("A".into(), "1".into())].into_iter().collect(),
            parent: Some(JobId::mint()),
            umask: 0o027,
            limits: vec![ResourceLimit { resource: 7, soft: Some(1), hard: None }],
            nice: 3,
            timer_slack_ns: Some(5),
            personality: Some(8),
        };
        let environment = EnvironmentSpec { auto_install: true, ..EnvironmentSpec::bare(Interpreter::System) };
        Draft::new(caller, JobSource::Code { code: "pass".into() }, "/d", environment)
    }

    #[test]
    fn a_job_has_what_its_caller_has() {
        let Draft { spec, environment, .. } = draft();
        assert_eq!((spec.umask, spec.nice, spec.timer_slack_ns, spec.personality), (0o027, 3, Some(5), Some(8)));
        assert_eq!((spec.resource_limits.len(), spec.parent.is_some()), (1, true));
        assert!(spec.environment.auto_install);
        assert_eq!(environment.get("A"), Some(OsStr::new("1")));
    }

    #[test]
    fn the_names_of_variables_are_kept_once_each_and_the_last_value_is_set() {
        let mut draft = draft();
        for (name, value) in [("B", "3"), ("C", "4"), ("C", "5")] {
            draft.set_variable(name.as_ref(), value.as_ref());
        }
        let submission = draft.submission();
        assert_eq!(submission.spec.variables, ["B", "C"]);
        assert_eq!(submission.overrides.get("C"), Some(OsStr::new("5")));
    }

    #[test]
    fn a_job_is_never_given_a_higher_priority_than_its_caller_has() {
        let mut draft = draft();
        draft.raise_nice_to(0);
        assert_eq!(draft.spec.nice, 3);
        draft.raise_nice_to(10);
        assert_eq!(draft.spec.nice, 10);
    }
}
