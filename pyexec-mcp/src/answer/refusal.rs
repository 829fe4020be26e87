//! Errors of the protocol, for requests that are not calls of tools.

use pyexec_client::ClientError;
use pyexec_proto::Error;
use rmcp::ErrorData;

use super::failure::Failure;

/// Why a resource cannot be read.
pub(crate) fn explained(error: ClientError, uri: &str) -> ErrorData {
    if matches!(error, ClientError::Refused(Error::NoSuchJob { .. } | Error::AmbiguousJob { .. })) {
        return unknown_resource(uri);
    }
    internal(error)
}

pub(crate) fn unknown_resource(uri: &str) -> ErrorData {
    let data = serde_json::json!({ "uri": uri });
    ErrorData::resource_not_found(
        "no such job, or no resource: job-stream://{job_id} is one for each of py_list_jobs, and \
         job-artifact://{job_id}/{path}, percent-encoded, one for each artifact that py_job_status lists",
        Some(data),
    )
}

/// The daemon cannot be asked, or refuses.
pub(crate) fn internal(error: ClientError) -> ErrorData {
    ErrorData::internal_error(Failure::from(error).text(), None)
}
