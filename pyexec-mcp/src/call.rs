//! One call of a tool, as everybody who works on it sees it.

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
    /// The tool that is called.
    pub(crate) name: &'static str,
    pub(crate) parameters: &'a [Parameter],
    /// Those that [`arguments::checked`] has let through.
    pub(crate) arguments: JsonObject,
    pub(crate) context: &'a RequestContext<RoleServer>,
    /// The environment file, as it was when the call came.
    pub(crate) file: EnvironmentFile,
    /// The job that an older server, which this one has taken over from, has submitted for this call, or may have.
    pub(crate) job: Option<JobId>,
}

impl Call<'_> {
    /// Whose environment jobs get.
    pub(crate) fn caller(&self) -> Caller {
        self.session.caller(&self.file)
    }

    /// How long this call waits for its job.
    pub(crate) fn budget(&self) -> Duration {
        self.session.budget(&self.file)
    }

    /// The arguments, with the defaults of those that are left out.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        arguments::read(self.name, self.parameters, self.arguments.clone())
    }
}
