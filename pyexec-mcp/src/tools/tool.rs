//! The declaration of a tool: its name, parameters, results, and effects.

use std::sync::Arc;

use futures::future::BoxFuture;
use rmcp::model::{Tool as Declaration, ToolAnnotations};

use super::schema::{self, Shape};
use crate::answer::{Answer, Failure};
use crate::arguments::{self, Parameter};
use crate::call::Call;
use crate::execution;

pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) about: &'static str,
    pub(crate) hints: Hints,
    pub(crate) parameters: Vec<Parameter>,
    /// The types of its structured results.
    pub(super) returns: Vec<Shape>,
    pub(crate) perform: for<'a> fn(&'a Call<'a>) -> BoxFuture<'a, Result<Answer, Failure>>,
}

/// The effects of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hints {
    /// Runs code, which may have any effect.
    RunsCode,
    Reads,
    /// Creates something, and removes nothing.
    Adds,
    /// Ends or removes something; repeating the call has no further effect.
    Removes,
}

/// The follow-up call after a failure that the job did not cause.
pub(crate) fn next_after_failure(tool: &Tool, job: &str) -> String {
    match tool.hints {
        Hints::Reads | Hints::RunsCode => execution::wait_for_result(job, false),
        Hints::Adds | Hints::Removes => {
            format!(
                "py_job_status(job_id=\"{job}\") shows its state; then {} again, if it has had no effect",
                tool.name
            )
        }
    }
}

impl Tool {
    pub(crate) fn declaration(&self, structured: bool) -> Declaration {
        let mut declaration = Declaration::new(self.name, self.about, Arc::new(arguments::schema(&self.parameters)));
        declaration.title = Some(self.title.to_owned());
        declaration.annotations = Some(self.hints.annotations());
        declaration.output_schema = structured.then(|| Arc::new(schema::of(&self.returns)));
        declaration
    }
}

impl Hints {
    /// For people.
    pub(crate) fn described(self) -> &'static str {
        match self {
            Hints::RunsCode => "runs code",
            Hints::Reads => "only reads",
            Hints::Adds => "adds something, and removes nothing",
            Hints::Removes => "ends or removes something",
        }
    }

    fn annotations(self) -> ToolAnnotations {
        let (read_only, destructive, idempotent, open_world) = match self {
            Hints::RunsCode => (false, true, false, true),
            Hints::Reads => (true, false, true, false),
            Hints::Adds => (false, false, false, false),
            Hints::Removes => (false, true, true, false),
        };
        ToolAnnotations::new()
            .read_only(read_only)
            .destructive(destructive)
            .idempotent(idempotent)
            .open_world(open_world)
    }
}
