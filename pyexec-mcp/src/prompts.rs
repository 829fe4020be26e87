//! Two prompts: find out why a job failed, and write a script that declares its requirements.

use pyexec_client::{Client, excerpt};
use pyexec_proto::Timestamp;
use pyexec_view::JobView;
use rmcp::ErrorData;
use rmcp::model::{
    ErrorCode, GetPromptRequestParams, GetPromptResult, ListPromptsResult, Prompt, PromptArgument, PromptMessage, Role,
};

use crate::answer::shown::cut;
use crate::answer::{Failure, refusal, render};
use crate::execution::Executed;
use crate::resources;
use crate::session::Session;

const DEBUG_JOB: &str = "debug_failed_job";
const WRITE_SCRIPT: &str = "write_script";

pub(crate) fn list() -> ListPromptsResult {
    let argument =
        |name: &str, about: &str, required| PromptArgument::new(name).with_description(about).with_required(required);
    ListPromptsResult::with_all_items(vec![
        Prompt::new(
            DEBUG_JOB,
            Some("Find out why a job failed, and correct it"),
            Some(vec![argument("job_id", "The job's id", true)]),
        )
        .with_title("Debug a failed job"),
        Prompt::new(
            WRITE_SCRIPT,
            Some("Write a script with a PEP 723 header, run it, and save it"),
            Some(vec![
                argument("task", "What the script is to do", true),
                argument("script_name", "The name to save it under", false),
            ]),
        )
        .with_title("Write a script"),
    ])
}

pub(crate) async fn get(session: &Session, request: &GetPromptRequestParams) -> Result<GetPromptResult, ErrorData> {
    let argument = |name: &str| {
        let arguments = request.arguments.as_ref();
        arguments.and_then(|arguments| arguments.get(name)?.as_str()).map(str::trim).filter(|text| !text.is_empty())
    };
    let needed = |name: &str| {
        let missing = || ErrorData::invalid_params(format!("the prompt `{}` needs `{name}`", cut(&request.name)), None);
        argument(name).ok_or_else(missing)
    };
    match request.name.as_str() {
        DEBUG_JOB => {
            let client = session.client().await.map_err(refusal::internal)?;
            let text = debug_job(&client, needed("job_id")?)
                .await
                .map_err(|failure| refusal::of(&failure, ErrorCode::INVALID_PARAMS))?;
            Ok(as_prompt(text).with_description("Find out why a job failed"))
        }
        WRITE_SCRIPT => {
            Ok(as_prompt(write_script(needed("task")?, argument("script_name"))).with_description("Write a script"))
        }
        unknown => Err(ErrorData::invalid_params(format!("no prompt `{}`", cut(unknown)), None)),
    }
}

fn as_prompt(text: String) -> GetPromptResult {
    GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)])
}

async fn debug_job(client: &Client, given: &str) -> Result<String, Failure> {
    let job = resources::find(client, given).await?;
    let view = JobView::of(&job, Timestamp::now());
    let executed = Executed::of(client, &job, excerpt::DEFAULT_BYTES).await?;
    let source = match &job.spec.source {
        pyexec_proto::JobSource::File { path } => {
            format!("It ran the file {} in {}.", render::code(&path.to_text()), render::code(&view.directory))
        }
        pyexec_proto::JobSource::Module { module } => {
            let module = render::code(&module.to_text());
            format!("It ran the module {module} (python -m) in {}.", render::code(&view.directory))
        }
        pyexec_proto::JobSource::Code { code }
        | pyexec_proto::JobSource::Stdin { code }
        | pyexec_proto::JobSource::Inline { code }
        | pyexec_proto::JobSource::Content { content: code, .. } => {
            format!("It ran this code in {}:\n{}", render::code(&view.directory), render::fenced(&code.to_text()))
        }
    };
    Ok(format!(
        "Find out why this Python job failed, explain the cause in a sentence or two, and correct it. Change the code as \
         little as it takes, run it again with the tools of pyexec, and show that it works now.\n\n{source}\n\n\
         What came of it:\n\n{}",
        executed.markdown()
    ))
}

fn write_script(task: &str, name: Option<&str>) -> String {
    let save = match name {
        Some(name) => format!("Once it works, save it with py_save_script(script_name=\"{}\").", render::inline(name)),
        None => "Once it works, save it with py_save_script under a name that says what it does.".to_owned(),
    };
    format!(
        "Write a Python script for this task:\n\n{task}\n\nBegin it with a PEP 723 header that names the Python versions \
         and the packages it needs:\n\n```python\n# /// script\n# requires-python = \">=3.11\"\n# dependencies = [\"httpx\"]\n\
         # ///\n```\n\nleaving out `dependencies` if the standard library is enough, followed by a docstring that says what \
         it does and how it is called. Run it with py_run_script_with_dependencies, which reads the header. {save}"
    )
}
