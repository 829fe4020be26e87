//! One call of a tool: its session, arguments and context.

use std::time::Duration;

use pyexec_client::caller::Caller;
use pyexec_client::environment_file::EnvironmentFile;
use pyexec_proto::JobId;
use rmcp::RoleServer;
use rmcp::model::JsonObject;
use rmcp::service::RequestContext;
use serde::de::DeserializeOwned;

use crate::answer::Failure;
use crate::arguments::{self, Parameter};
use crate::session::Session;

pub(crate) struct Call<'a> {
    pub(crate) session: &'a Session,
    /// The name of the tool.
    pub(crate) name: &'static str,
    pub(crate) parameters: &'a [Parameter],
    /// The arguments after [`arguments::checked`].
    pub(crate) arguments: JsonObject,
    pub(crate) context: &'a RequestContext<RoleServer>,
    /// The environment file, as read when the call arrived.
    pub(crate) file: EnvironmentFile,
    /// The job that an older server, from which this one took over, has submitted or may have submitted for this call.
    pub(crate) job: Option<JobId>,
}

impl Call<'_> {
    /// The environment and directory for jobs of this call.
    pub(crate) fn caller(&self) -> Caller {
        self.session.caller(&self.file)
    }

    /// How long this call waits for its job.
    pub(crate) fn budget(&self) -> Duration {
        self.session.budget(&self.file)
    }

    /// The arguments, with defaults for omitted ones.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        arguments::read(self.name, self.parameters, self.arguments.clone())
    }
}
