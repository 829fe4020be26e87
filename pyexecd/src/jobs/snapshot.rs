//! What those who watch a job are told of it.

use std::sync::Arc;

use pyexec_proto::job::JobDetail;
use pyexec_proto::output::OutputLengths;
use tokio::sync::watch;

use crate::engine::RunHandle;

/// A job as it is now, for those who watch it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub job: Arc<JobDetail>,
    /// While there is a supervisor to speak to.
    pub handle: Option<RunHandle>,
    /// As far as is known; what a supervisor knows it tells when asked to.
    pub lengths: watch::Receiver<OutputLengths>,
}
