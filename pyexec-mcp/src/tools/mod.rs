//! The tools, one file for each kind: what it is called, what it takes and gives, and what it does.

mod control;
mod environments;
mod input;
mod listing;
mod output;
mod running;
mod scripts;
mod status;

use std::sync::Arc;

use futures::future::BoxFuture;
use rmcp::RoleServer;
use rmcp::model::{JsonObject, Tool as Declaration, ToolAnnotations};
use rmcp::service::RequestContext;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::Toolset;
use crate::answer::{Answer, Failure};
use crate::arguments::{self, Kind, Parameter};
use crate::execution;
use crate::server::Server;

pub(crate) struct Tool {
    pub(crate) name: &'static str,
    title: &'static str,
    about: &'static str,
    hints: Hints,
    pub(crate) parameters: Vec<Parameter>,
    /// Fields of the structured result, for those who want a schema of it.
    returns: &'static [&'static [(&'static str, Field)]],
    pub(crate) perform: for<'a> fn(&'a Call<'a>) -> BoxFuture<'a, Result<Answer, Failure>>,
}

/// What a tool does to the world.
#[derive(Clone, Copy, Debug)]
enum Hints {
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

/// One call of a tool.
pub(crate) struct Call<'a> {
    pub(crate) server: &'a Server,
    pub(crate) tool: &'a Tool,
    /// Those that [`arguments::checked`] has let through.
    pub(crate) arguments: JsonObject,
    pub(crate) context: &'a RequestContext<RoleServer>,
}

impl Call<'_> {
    /// The arguments, with what is usual for those that are left out.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        arguments::read(self.tool.name, &self.tool.parameters, self.arguments.clone())
    }
}

/// In the order in which they are listed.
pub(crate) fn of(toolset: Toolset) -> Vec<Tool> {
    let all = [
        running::tools(),
        status::tools(),
        listing::tools(),
        output::tools(),
        input::tools(),
        control::tools(),
        environments::tools(),
        scripts::tools(),
    ];
    let is_core = |tool: &Tool| CORE.contains(&tool.name);
    all.into_iter().flatten().filter(|tool| toolset == Toolset::Full || is_core(tool)).collect()
}

const CORE: [&str; 6] = [
    "py_run_script_in_dir",
    "py_run_script_with_dependencies",
    "py_job_status",
    "py_list_jobs",
    "py_get_job_output",
    "py_cancel_job",
];

/// Also by its name without the prefix, as older clients call it.
pub(crate) fn find<'a>(tools: &'a [Tool], name: &str) -> Option<&'a Tool> {
    tools.iter().find(|tool| tool.name == name || tool.name.strip_prefix("py_") == Some(name))
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

// What several tools take.

fn markdown_output() -> Parameter {
    Parameter::new("markdown_output", Kind::Flag, "")
}

/// Those that the job leaves as artifacts.
fn images() -> Parameter {
    Parameter::new("images", Kind::Flag, "")
}

/// Of each stream.
fn max_output_bytes() -> Parameter {
    const MOST: u64 = pyexec_proto::output::MAX_CHUNK_BYTES as u64;
    Parameter::new("max_output_bytes", Kind::Whole { least: 0, most: MOST }, "")
}

fn job_id() -> Parameter {
    Parameter::new("job_id", Kind::Text, "").required()
}

fn wait_seconds(about: &'static str) -> Parameter {
    const MOST: f64 = (pyexec_proto::request::MAX_WAIT_MS / 1000) as f64;
    Parameter::new("wait_seconds", Kind::Number { least: 0.0, most: MOST }, about).default(0)
}

/// In milliseconds, rounded up: the shortest wait is a wait.
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1e3).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn listed(toolset: Toolset, structured: bool) -> String {
        let declarations: Vec<_> = of(toolset).iter().map(|tool| tool.declaration(structured)).collect();
        serde_json::to_string(&json!({"tools": declarations})).expect("can be serialised")
    }

    #[test]
    fn the_list_of_tools_stays_small() {
        let (full, core) = (listed(Toolset::Full, false).len(), listed(Toolset::Core, false).len());
        assert!(full <= 16 << 10, "{full} bytes");
        assert!(core <= 6 << 10, "{core} bytes");
    }

    #[test]
    fn the_list_of_tools_is_the_same_every_time() {
        assert_eq!(listed(Toolset::Full, true), listed(Toolset::Full, true));
    }

    #[test]
    fn the_core_is_the_six_it_should_be() {
        let names: BTreeSet<_> = of(Toolset::Core).iter().map(|tool| tool.name).collect();
        assert_eq!(names, CORE.into());
    }

    #[test]
    fn every_tool_can_be_told_what_form_its_answer_has() {
        for tool in of(Toolset::Full) {
            assert!(tool.parameters.iter().any(|parameter| parameter.name == "markdown_output"), "{}", tool.name);
            assert!(!tool.title.is_empty() && !tool.about.is_empty() && !tool.returns.is_empty(), "{}", tool.name);
        }
    }

    #[test]
    fn tools_are_found_with_and_without_their_prefix() {
        let tools = of(Toolset::Full);
        for name in ["py_job_status", "job_status"] {
            assert_eq!(find(&tools, name).map(|tool| tool.name), Some("py_job_status"));
        }
        assert!(find(&tools, "py_py_job_status").is_none());
        assert!(find(&tools, "status").is_none());
    }
}
