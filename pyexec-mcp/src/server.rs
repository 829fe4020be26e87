//! What the protocol asks of a server, each request passed on to the module that knows.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use pyexec_client::caller::Caller;
use pyexec_client::{Client, Daemon};
use pyexec_proto::paths::{NoHome, Paths};
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, GetPromptRequestParams,
    GetPromptResponse, Implementation, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
    ServerConfig, SubscribeRequestParams, SubscriptionFilter, UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::sync::OnceCell;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::answer::{self, Failure, Form};
use crate::arguments::shown::cut;
use crate::tools::{self, Call, Tool};
use crate::{Options, arguments, caller, prompts, resources, subscriptions};

/// How long a synchronous tool waits for its job, unless [`BUDGET_VARIABLE`] says otherwise: hosts give up after a minute.
const BUDGET: Duration = Duration::from_secs(20);
const BUDGET_VARIABLE: &str = "SMART_ASYNC_TIMEOUT_SECONDS";

/// What there is to list does not change while the server runs.
const LIST_TTL_MS: u64 = 3_600_000;

const INSTRUCTIONS: &str = "Runs Python scripts as jobs that outlive this connection. A call that takes longer than \
    about 20 s answers with a job_id, and the job goes on: py_job_status(job_id, wait_seconds=45) waits for its result. \
    Give third-party packages as `dependencies`.";

pub(crate) struct Server {
    paths: Paths,
    client: OnceCell<Arc<Client>>,
    tools: Vec<Tool>,
    structured: bool,
    budget: Duration,
    caller: Caller,
    /// Where the server was started; `None` when that directory has gone.
    directory: Option<PathBuf>,
    end_of_input: CancellationToken,
    /// Of clients that subscribe by the handshake versions' method, by URI.
    subscriptions: Mutex<HashMap<String, AbortHandle>>,
}

impl Server {
    pub(crate) fn new(options: &Options) -> Result<Self, NoHome> {
        let mut paths = Paths::from_environment()?;
        if let Some(socket) = &options.socket {
            paths.socket = std::path::absolute(socket).unwrap_or_else(|_| PathBuf::from(socket));
        }
        Ok(Self {
            paths,
            client: OnceCell::new(),
            tools: tools::of(options.toolset),
            structured: options.structured,
            budget: budget(std::env::var(BUDGET_VARIABLE).ok().as_deref()),
            caller: caller::of_this_process(),
            directory: std::env::current_dir().ok(),
            end_of_input: CancellationToken::new(),
            subscriptions: Mutex::default(),
        })
    }

    pub(crate) fn end_of_input(&self) -> CancellationToken {
        self.end_of_input.clone()
    }

    pub(crate) fn budget(&self) -> Duration {
        self.budget
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(crate) fn directory(&self) -> Option<&PathBuf> {
        self.directory.as_ref()
    }

    /// The daemon: started if there is none, and found again by the client itself should it go away.
    pub(crate) async fn client(&self) -> Result<Arc<Client>, Failure> {
        let connect = async || Client::connect(self.paths.clone(), Daemon::StartIfNone).await.map(Arc::new);
        Ok(self.client.get_or_try_init(connect).await?.clone())
    }

    async fn call(&self, request: CallToolRequestParams, context: &RequestContext<RoleServer>) -> CallToolOutcome {
        let Some(tool) = tools::find(&self.tools, &request.name) else {
            return Err(ErrorData::invalid_params(format!("unknown tool `{}`", cut(&request.name)), None));
        };
        let mut arguments = request.arguments.unwrap_or_default();
        // Of every tool, and about the answer rather than the call.
        let markdown = arguments::flag(&arguments, "markdown_output");
        if markdown.is_some() {
            arguments.remove("markdown_output");
        }
        let form = Form::of(self.structured, markdown);
        let arguments = match arguments::checked(&tool.parameters, arguments) {
            Ok(arguments) => arguments,
            Err(failure) => return Ok(answer::result(Err(failure), form).into()),
        };
        let call = Call { server: self, tool, arguments, context };
        let answered = unless_it_panics((tool.perform)(&call)).await.unwrap_or_else(|Panicked| {
            Err(Failure::argument(
                format!("{} failed inside the server, which is a defect of pyexec", tool.name),
                "jobs are not affected: py_list_jobs shows them",
            ))
        });
        let answered =
            answered.map_err(|failure| match call.arguments.get("job_id").and_then(serde_json::Value::as_str) {
                Some(job) => failure.of_job(job, || tools::next_after_failure(tool, job)),
                None => failure,
            });
        Ok(answer::result(answered, form).into())
    }
}

type CallToolOutcome = Result<CallToolResponse, ErrorData>;

/// What a request came to nothing by.
#[derive(Debug, PartialEq, Eq)]
struct Panicked;

impl From<Panicked> for ErrorData {
    fn from(_: Panicked) -> Self {
        ErrorData::internal_error("the request failed inside the server, which is a defect of pyexec", None)
    }
}

/// rmcp never answers a request whose handler has panicked.
async fn unless_it_panics<T>(request: impl Future<Output = T>) -> Result<T, Panicked> {
    AssertUnwindSafe(request).catch_unwind().await.map_err(|_| Panicked)
}

/// Of the variable's text, in seconds; what makes no sense is as if it were not there.
fn budget(given: Option<&str>) -> Duration {
    let Some(given) = given.filter(|given| !given.trim().is_empty()) else { return BUDGET };
    match given.trim().parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(budget) => budget,
        None => {
            tracing::warn!("{BUDGET_VARIABLE} is `{given}`, which is no number of seconds: {BUDGET:?} it is");
            BUDGET
        }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_prompts()
            .enable_completions()
            .build();
        let implementation = Implementation::new("pyexec", env!("CARGO_PKG_VERSION")).with_title("pyexec");
        ServerConfig::new(capabilities).with_server_info(implementation).with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.tools.iter().map(|tool| tool.declaration(self.structured)).collect();
        Ok(ListToolsResult::with_all_items(tools).with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.call(request, &context).await
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        unless_it_panics(resources::list(self)).await?
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(resources::templates().with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        unless_it_panics(resources::read(self, &request.uri)).await?.map(Into::into)
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        unless_it_panics(resources::complete(self, &request.argument)).await?
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(prompts::list().with_ttl_ms(LIST_TTL_MS).with_cache_scope(CacheScope::Public))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        unless_it_panics(prompts::get(self, &request)).await?.map(Into::into)
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let mut accepted = requested.supported_by(&self.get_info().capabilities);
        if let Some(uris) = &mut accepted.resource_subscriptions {
            uris.retain(|uri| resources::job_in(uri).is_some());
        }
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        unless_it_panics(subscriptions::listen(self, &context)).await?
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let task = subscriptions::subscribe(self, request.uri.clone(), context.peer).await?;
        let mut running = self.subscriptions.lock().expect("nobody panics while holding it");
        if let Some(before) = running.insert(request.uri, task) {
            before.abort();
        }
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let task = self.subscriptions.lock().expect("nobody panics while holding it").remove(&request.uri);
        if let Some(task) = task {
            task.abort();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_panics_is_answered_all_the_same() {
        assert_eq!(unless_it_panics(async { 1 }).await, Ok(1));
        let panicking = async { panic!("as it has to") as u8 };
        assert_eq!(unless_it_panics(panicking).await, Err(Panicked));
    }

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
            assert_eq!(budget(given), Duration::from_millis(milliseconds), "{given:?}");
        }
    }
}
