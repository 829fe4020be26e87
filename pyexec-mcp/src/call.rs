//! One call of a tool, as everybody who works on it sees it.

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
    /// The job that an older server, which this one has taken over from, has submitted for this call, or may have.
    pub(crate) job: Option<JobId>,
}

impl Call<'_> {
    /// The arguments, with the defaults of those that are left out.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        arguments::read(self.name, self.parameters, self.arguments.clone())
    }
}
