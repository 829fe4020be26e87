//! `py_list_environments` and `py_create_environment`.

use futures::FutureExt;
use pyexec_proto::environment::{EnvironmentSpec, Interpreter};
use pyexec_proto::request::CreateEnvironment;
use pyexec_view::EnvironmentView;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parameters::python;
use super::schema::Shape;
use super::tool::{Hints, Tool};
use crate::answer::{Answer, Failure, render};
use crate::arguments::{Kind, Parameter};
use crate::call::Call;
use crate::execution;

pub(super) fn tools() -> Vec<Tool> {
    vec![
        Tool {
            name: "py_list_environments",
            title: "List environments",
            about: "Environments that are kept, their packages, and the jobs that use them.",
            hints: Hints::Reads,
            parameters: vec![],
            returns: vec![Shape::of::<Listed>()],
            perform: |call| list(call).boxed(),
        },
        Tool {
            name: "py_create_environment",
            title: "Create an environment",
            about: "Build an environment and keep it under a name, for `environment` of the tools that run scripts.",
            hints: Hints::Adds,
            parameters: vec![
                Parameter::new("name", Kind::Text, "").required(),
                Parameter::new("dependencies", Kind::Texts, ""),
                Parameter::new("python_version", Kind::Text, ""),
            ],
            returns: vec![Shape::of::<EnvironmentView>()],
            perform: |call| create(call).boxed(),
        },
    ]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Serialize, JsonSchema)]
struct Listed {
    environments: Vec<EnvironmentView>,
}

async fn list(call: &Call<'_>) -> Result<Answer, Failure> {
    let Nothing {} = call.read()?;
    let environments = call.session.client().await?.list_environments().await?;
    let environments: Vec<EnvironmentView> = environments.iter().map(EnvironmentView::of).collect();
    let text = if environments.is_empty() {
        "No environments are kept yet.".to_owned()
    } else {
        let cells = |environment: &EnvironmentView| {
            vec![
                environment.name.as_deref().map(render::inline).unwrap_or_default(),
                environment.id.as_deref().map(|id| format!("`{id}`")).unwrap_or_default(),
                render::inline(&environment.python),
                execution::packages(&environment.packages),
                environment.bytes.to_string(),
                environment.last_used.clone().unwrap_or_default(),
                environment.used_by.len().to_string(),
            ]
        };
        let header = ["name", "id", "python", "packages", "bytes", "last used", "jobs"];
        render::table(&header, environments.iter().map(cells))
    };
    Ok(Answer::new(text, Listed { environments }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(default)]
    dependencies: Vec<String>,
    python_version: Option<String>,
}

async fn create(call: &Call<'_>) -> Result<Answer, Failure> {
    let given: Create = call.read()?;
    let version = given.python_version.as_deref().map(python).transpose()?;
    let Some(directory) = call.session.directory() else {
        return Err(Failure::argument(
            "the directory that this server was started in no longer exists",
            "restart the server from the editor's list of MCP servers",
        ));
    };
    let request = CreateEnvironment {
        name: given.name,
        spec: EnvironmentSpec {
            requirements: given.dependencies,
            ..EnvironmentSpec::bare(Interpreter::Uv { version })
        },
        directory: directory.into(),
        environment: call.caller().environment,
    };
    let created = call.session.client().await?.create_environment(&request).await?;
    let view = EnvironmentView::of(&created);
    let name = view.name.as_deref().map(render::inline).unwrap_or_default();
    let packages =
        if view.packages.is_empty() { "no packages".to_owned() } else { execution::packages(&view.packages) };
    let text = format!(
        "Environment **{name}** · Python {} · {packages}\n\n**Next:** give environment=\"{name}\" to \
         py_run_script_with_dependencies",
        view.python
    );
    Ok(Answer::new(text, view))
}
