//! The request handlers of a connection. Each passes its request to the module that implements it.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, ContentBlock,
    GetPromptRequestParams, GetPromptResponse, Implementation, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse,
    ServerCapabilities, ServerConfig, SubscribeRequestParams, SubscriptionFilter, UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::task::AbortHandle;

use super::transport::Ticket;
use super::{subscriptions, succession};
use crate::answer::shown::cut;
use crate::answer::{self, Failure, Form, refusal};
use crate::call::Call;
use crate::session::{NoSuccessor, Session};
use crate::tools::{self, Hints, Tool};
use crate::{arguments, prompts, resources, uri};

/// The lists do not change while the server runs.
const LIST_TTL_MS: u64 = 3_600_000;

const INSTRUCTIONS: &str = "Runs Python scripts as jobs that outlive this connection. A call that takes longer than \
    about 20 s answers with a job_id, and the job goes on: py_job_status(job_id, wait_seconds=45) waits for its result. \
    Give third-party packages as `dependencies`.";

/// The server of one connection.
pub(crate) struct Server {
    session: Session,
    tools: Arc<[Tool]>,
    structured: bool,
    /// Subscriptions by the method of the handshake versions, by URI.
    subscriptions: Mutex<HashMap<String, AbortHandle>>,
}

impl Server {
    /// All connections share `tools` and `structured`, which says whether results have structured content.
    pub(crate) fn new(session: Session, tools: Arc<[Tool]>, structured: bool) -> Self {
        Self { session, tools, structured, subscriptions: Mutex::default() }
    }

    async fn call(&self, request: CallToolRequestParams, context: &RequestContext<RoleServer>) -> CallToolOutcome {
        let Some(tool) = tools::find(&self.tools, &request.name) else {
            return Err(ErrorData::invalid_params(format!("unknown tool `{}`", cut(&request.name)), None));
        };
        let mut arguments = request.arguments.unwrap_or_default();
        // Every tool accepts it: it selects the form of the answer.
        let markdown = arguments::flag(&arguments, "markdown_output");
        if markdown.is_some() {
            arguments.remove("markdown_output");
        }
        let form = Form::of(self.structured, markdown);
        let arguments = match arguments::checked(&tool.parameters, arguments) {
            Ok(arguments) => arguments,
            Err(failure) => return Ok(answer::result(Err(failure), form).into()),
        };
        let ticket = ticket_of(context);
        let call = Call {
            session: &self.session,
            name: tool.name,
            parameters: &tool.parameters,
            arguments,
            context,
            file: self.session.environment_file().await,
            job: ticket.and_then(Ticket::job),
        };
        let answered = catch_panic((tool.perform)(&call)).await.unwrap_or_else(|Panicked| {
            Err(Failure::argument(
                format!("{} failed inside the server, which is a defect of pyexec", tool.name),
                "jobs are not affected: py_list_jobs shows them",
            ))
        });
        let not_replaced = match &answered {
            Err(failure) => self.replace(ticket, tool, failure).await,
            Ok(_) => None,
        };
        let answered =
            answered.map_err(|failure| match call.arguments.get("job_id").and_then(serde_json::Value::as_str) {
                Some(job) => failure.of_job(job, || tools::next_after_failure(tool, job)),
                None => failure,
            });
        let mut result = answer::result(answered, form);
        if let Some(why) = not_replaced {
            result.content.push(ContentBlock::text(succession::not_taken_over(&why)));
        }
        if let Some(problem) = self.session.unreported(&call.file) {
            result.content.push(ContentBlock::text(format!("The environment file has a problem: {problem}")));
        }
        Ok(result.into())
    }

    /// If a call failed because the daemon is newer, makes a newer server take over. That server repeats the call,
    /// unless repeating it could do something twice. Returns why no server takes over.
    async fn replace(&self, ticket: Option<&Ticket>, tool: &Tool, failure: &Failure) -> Option<NoSuccessor> {
        let (ticket, daemon) = (ticket?, failure.newer_daemon()?);
        if let Err(why) = succession::begin(&self.session, ticket, daemon.lowest).await {
            return Some(why);
        }
        match (tool.hints, failure.job()) {
            // It may have succeeded, with only its answer lost.
            (Hints::Adds, _) => {}
            (Hints::RunsCode, job) => {
                ticket.put_off(job);
            }
            (Hints::Reads | Hints::Removes, _) => {
                ticket.put_off(None);
            }
        }
        None
    }

    /// Runs a read-only request, and answers with an error if the handler panics. If the request fails because the
    /// daemon is newer, a newer server takes over and answers it.
    async fn answer<T>(
        &self,
        context: &RequestContext<RoleServer>,
        request: impl Future<Output = Result<T, ErrorData>>,
    ) -> Result<T, ErrorData> {
        let error = match catch_panic(request).await? {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let (Some(ticket), Some(protocol)) = (ticket_of(context), refusal::newer_protocol(&error)) else {
            return Err(error);
        };
        match succession::begin(&self.session, ticket, protocol).await {
            Ok(()) => {
                ticket.put_off(None);
                Err(error)
            }
            Err(why) => {
                let message = format!("{}\n\n{}", error.message, succession::not_taken_over(&why));
                Err(ErrorData::new(error.code, message, error.data))
            }
        }
    }
}

/// The ticket of a request that came through our transport.
fn ticket_of(context: &RequestContext<RoleServer>) -> Option<&Ticket> {
    context.extensions.get()
}

type CallToolOutcome = Result<CallToolResponse, ErrorData>;

/// The handler panicked.
#[derive(Debug, PartialEq, Eq)]
struct Panicked;

impl From<Panicked> for ErrorData {
    fn from(_: Panicked) -> Self {
        ErrorData::internal_error("the request failed inside the server, which is a defect of pyexec", None)
    }
}

/// Catches a panic, because rmcp never answers a request whose handler panicked.
async fn catch_panic<T>(request: impl Future<Output = T>) -> Result<T, Panicked> {
    AssertUnwindSafe(request).catch_unwind().await.map_err(|_| Panicked)
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
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        self.answer(&context, resources::list(&self.session)).await
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
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        self.answer(&context, resources::read(&self.session, &request.uri)).await.map(Into::into)
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        self.answer(&context, resources::complete(&self.session, &request.argument)).await
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
        context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        self.answer(&context, prompts::get(&self.session, &request)).await.map(Into::into)
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        let mut accepted = requested.supported_by(&self.get_info().capabilities);
        if let Some(uris) = &mut accepted.resource_subscriptions {
            uris.retain(|uri| uri::job_in(uri).is_some());
        }
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        catch_panic(subscriptions::listen(&self.session, &context)).await?
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let ticket = ticket_of(&context).cloned();
        let subscribed = subscriptions::subscribe(&self.session, request.uri.clone(), context.peer.clone(), ticket);
        let task = self.answer(&context, subscribed).await?;
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
        assert_eq!(catch_panic(async { 1 }).await, Ok(1));
        let panicking = async { panic!("as it has to") as u8 };
        assert_eq!(catch_panic(panicking).await, Err(Panicked));
    }
}
