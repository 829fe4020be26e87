//! What a tool is: its name, what it takes and gives, and what it does to the world.

use std::sync::Arc;

use futures::future::BoxFuture;
use rmcp::model::{JsonObject, Tool as Declaration, ToolAnnotations};
use serde_json::{Map, Value, json};

use crate::answer::{Answer, Failure};
use crate::arguments::{self, Parameter};
use crate::call::Call;
use crate::execution;

pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(super) title: &'static str,
    pub(super) about: &'static str,
    pub(crate) hints: Hints,
    pub(crate) parameters: Vec<Parameter>,
    /// Fields of the structured result, for those who want a schema of it.
    pub(super) returns: &'static [&'static [(&'static str, Field)]],
    pub(crate) perform: for<'a> fn(&'a Call<'a>) -> BoxFuture<'a, Result<Answer, Failure>>,
}

/// What a tool does to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hints {
    /// Runs code, which can do anything.
    RunsCode,
    Reads,
    /// Makes something, and takes nothing away.
    Adds,
    /// Ends or removes something; once is as good as twice.
    Removes,
}

/// The type of a field of a result.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    Text,
    /// Text, or null.
    MaybeText,
    Whole,
    MaybeWhole,
    MaybeNumber,
    Flag,
    Texts,
    Objects,
    Object,
    MaybeObject,
}

/// What to call when a call about a job has failed for a reason that is not the job's.
pub(crate) fn next_after_failure(tool: &Tool, job: &str) -> String {
    match tool.hints {
        Hints::Reads | Hints::RunsCode => execution::wait_for_result(job, false),
        Hints::Adds | Hints::Removes => {
            format!("py_job_status(job_id=\"{job}\") says how it is; then {} again, if it has not been done", tool.name)
        }
    }
}

impl Tool {
    pub(crate) fn declaration(&self, structured: bool) -> Declaration {
        let mut declaration = Declaration::new(self.name, self.about, Arc::new(arguments::schema(&self.parameters)));
        declaration.title = Some(self.title.to_owned());
        declaration.annotations = Some(self.hints.annotations());
        declaration.output_schema = structured.then(|| Arc::new(self.output_schema()));
        declaration
    }

    fn output_schema(&self) -> JsonObject {
        let properties: Map<String, Value> =
            self.returns.iter().copied().flatten().map(|(name, field)| ((*name).to_owned(), field.schema())).collect();
        let mut schema = Map::new();
        schema.insert("type".to_owned(), "object".into());
        schema.insert("properties".to_owned(), properties.into());
        schema
    }
}

impl Hints {
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

impl Field {
    fn schema(self) -> Value {
        // Not a list of types, which validators in strict mode do not like.
        let or_null = |schema: Value| json!({"anyOf": [schema, {"type": "null"}]});
        match self {
            Field::Text => json!({"type": "string"}),
            Field::MaybeText => or_null(json!({"type": "string"})),
            Field::Whole => json!({"type": "integer"}),
            Field::MaybeWhole => or_null(json!({"type": "integer"})),
            Field::MaybeNumber => or_null(json!({"type": "number"})),
            Field::Flag => json!({"type": "boolean"}),
            Field::Texts => json!({"type": "array", "items": {"type": "string"}}),
            Field::Objects => json!({"type": "array", "items": {"type": "object"}}),
            Field::Object => json!({"type": "object"}),
            Field::MaybeObject => or_null(json!({"type": "object"})),
        }
    }
}
