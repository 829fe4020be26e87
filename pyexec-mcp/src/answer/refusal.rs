//! Errors of the protocol, for requests that are not calls of tools.

use pyexec_client::ClientError;
use pyexec_proto::Error;
use rmcp::ErrorData;
use rmcp::model::ErrorCode;
use serde_json::json;

use super::failure::Failure;

/// The code of the error that says that the daemon is newer than this server: one of those that JSON-RPC leaves to servers.
const OUTDATED: ErrorCode = ErrorCode(-32001);
/// In its data.
const PROTOCOL: &str = "daemon_protocol";

/// Why a resource cannot be read.
pub(crate) fn explained(error: ClientError, uri: &str) -> ErrorData {
    if matches!(error, ClientError::Refused(Error::NoSuchJob { .. } | Error::AmbiguousJob { .. })) {
        return unknown_resource(uri);
    }
    internal(error)
}

pub(crate) fn unknown_resource(uri: &str) -> ErrorData {
    let data = json!({ "uri": uri });
    ErrorData::resource_not_found(
        "no such job, or no resource: job-stream://{job_id} is one for each of py_list_jobs, and \
         job-artifact://{job_id}/{path}, percent-encoded, one for each artifact that py_job_status lists",
        Some(data),
    )
}

/// The daemon cannot be asked, or refuses.
pub(crate) fn internal(error: ClientError) -> ErrorData {
    of(&error.into(), ErrorCode::INTERNAL_ERROR)
}

/// A failure as an error with this code, unless it has one of its own.
pub(crate) fn of(failure: &Failure, code: ErrorCode) -> ErrorData {
    match failure.newer_daemon() {
        Some(daemon) => ErrorData::new(OUTDATED, failure.text(), Some(json!({ PROTOCOL: daemon.lowest }))),
        None => ErrorData::new(code, failure.text(), None),
    }
}

/// The lowest protocol that the daemon speaks, of an error that says that it is newer than this server.
pub(crate) fn newer_protocol(error: &ErrorData) -> Option<u16> {
    let protocol = error.data.as_ref().filter(|_| error.code == OUTDATED)?.get(PROTOCOL)?.as_u64()?;
    u16::try_from(protocol).ok()
}
