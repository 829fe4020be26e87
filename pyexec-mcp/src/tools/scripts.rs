//! `py_save_script`, `py_list_scripts` and `py_view_script`.

use futures::FutureExt;
use pyexec_proto::script::SaveScript;
use pyexec_view::{ScriptRow, ScriptView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::Shape;
use super::tool::{Hints, Tool};
use crate::answer::{Answer, Failure, render};
use crate::arguments::{Kind, Parameter};
use crate::call::Call;
use crate::execution;

/// The largest source in an answer, in bytes: about the limit of hosts for one answer.
const MOST_SHOWN: usize = 64 << 10;

pub(super) fn tools() -> Vec<Tool> {
    let name = || Parameter::new("script_name", Kind::Text, "").required();
    vec![
        Tool {
            name: "py_save_script",
            title: "Save a script",
            about: "Keep a script under a name for py_run_saved_script; dependencies go into a PEP 723 header.",
            hints: Hints::Removes,
            parameters: vec![
                name(),
                Parameter::new("source", Kind::Text, "").required(),
                Parameter::new("dependencies", Kind::Texts, ""),
                Parameter::new("requires_python", Kind::Text, "e.g. >=3.11"),
                Parameter::new("overwrite", Kind::Flag, "").default(false),
            ],
            returns: vec![Shape::of::<Saved>()],
            perform: |call| save(call).boxed(),
        },
        Tool {
            name: "py_list_scripts",
            title: "List scripts",
            about: "Saved scripts; with include_autosaved also inline code that was run.",
            hints: Hints::Reads,
            parameters: vec![Parameter::new("include_autosaved", Kind::Flag, "").default(false)],
            returns: vec![Shape::of::<Listed>()],
            perform: |call| list(call).boxed(),
        },
        Tool {
            name: "py_view_script",
            title: "View a script",
            about: "The source of a saved or autosaved script.",
            hints: Hints::Reads,
            parameters: vec![name(), Parameter::new("autosaved", Kind::Flag, "").default(false)],
            returns: vec![Shape::of::<ScriptView>()],
            perform: |call| view(call).boxed(),
        },
    ]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Save {
    script_name: String,
    source: String,
    #[serde(default)]
    dependencies: Vec<String>,
    requires_python: Option<String>,
    overwrite: bool,
}

#[derive(Serialize, JsonSchema)]
struct Saved {
    name: String,
    written: bool,
    path: String,
    message: String,
}

async fn save(call: &Call<'_>) -> Result<Answer, Failure> {
    let given: Save = call.read()?;
    let wants_header = !given.dependencies.is_empty() || given.requires_python.is_some();
    let script = SaveScript {
        name: given.script_name,
        source: given.source.into_bytes(),
        dependencies: given.dependencies,
        requires_python: given.requires_python,
        overwrite: given.overwrite,
    };
    let saved = call.session.client().await?.save_script(&script).await?;
    let how = if saved.replaced { "replaced" } else { "saved" };
    let header = match (wants_header, saved.header_written) {
        (_, true) => ", with a PEP 723 header",
        (true, false) => "; its own PEP 723 header was kept as it is",
        (false, false) => "",
    };
    let message = format!("{how} {}{header}", render::code(&saved.name));
    let text = format!("{message}\n\n**Next:** py_run_saved_script(script_name=\"{}\")", render::inline(&saved.name));
    let saved = Saved { name: saved.name, written: true, path: saved.path.to_text(), message };
    Ok(Answer::new(text, saved))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    include_autosaved: bool,
}

#[derive(Serialize, JsonSchema)]
struct Listed {
    scripts: Vec<ScriptRow>,
}

async fn list(call: &Call<'_>) -> Result<Answer, Failure> {
    let given: List = call.read()?;
    let scripts = call.session.client().await?.list_scripts(given.include_autosaved).await?;
    let scripts: Vec<ScriptRow> = scripts.iter().map(ScriptRow::of).collect();
    let text = if scripts.is_empty() {
        "No scripts are saved.".to_owned()
    } else {
        let cells = |script: &ScriptRow| {
            vec![
                render::code(&script.name),
                script.docstring.as_deref().map(render::inline).unwrap_or_default(),
                execution::packages(&script.dependencies),
                script.requires_python.as_deref().map(render::inline).unwrap_or_default(),
                if script.autosaved { "yes" } else { "" }.to_owned(),
            ]
        };
        let header = ["name", "what it does", "dependencies", "python", "autosaved"];
        render::table(&header, scripts.iter().map(cells))
    };
    Ok(Answer::new(text, Listed { scripts }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct View {
    script_name: String,
    autosaved: bool,
}

async fn view(call: &Call<'_>) -> Result<Answer, Failure> {
    let given: View = call.read()?;
    let script = call.session.client().await?.view_script(&given.script_name, given.autosaved).await?;
    let mut viewed = ScriptView::of(&script);
    if let Some((at, _)) = viewed.source.char_indices().find(|(at, _)| *at >= MOST_SHOWN) {
        let left_out = viewed.source.len() - at;
        viewed.source.truncate(at);
        viewed.source.push_str(&format!("\n[… {left_out} bytes left out: the file is {} …]\n", viewed.path));
    }
    let mut text = format!(
        "**{}** · {}\n\n{}",
        render::inline(&viewed.name),
        render::code(&viewed.path),
        render::fenced(&viewed.source)
    );
    if let Some(metadata) = &script.metadata {
        text.push_str(&format!("\n\nRun as:\n{}", render::fenced(metadata)));
    }
    Ok(Answer::new(text, viewed))
}
