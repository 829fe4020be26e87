//! JSON-RPC errors, for requests other than tool calls.

use pyexec_client::ClientError;
use pyexec_proto::Error;
use rmcp::ErrorData;
use rmcp::model::ErrorCode;
use serde_json::json;

use super::failure::Failure;

/// The error code for a daemon that is newer than this server, from the range that JSON-RPC leaves to servers.
const OUTDATED: ErrorCode = ErrorCode(-32001);
/// The member of the error's data that holds the daemon's lowest protocol.
const PROTOCOL: &str = "daemon_protocol";

/// The error for a resource that cannot be read.
pub(crate) fn explained(error: ClientError, uri: &str) -> ErrorData {
    if matches!(error, ClientError::Refused(Error::NoSuchJob { .. } | Error::AmbiguousJob { .. })) {
        return unknown_resource(uri);
    }
    internal(error)
}

pub(crate) fn unknown_resource(uri: &str) -> ErrorData {
    let data = json!({ "uri": uri });
    ErrorData::resource_not_found(
        "no such job or resource: job-stream://{job_id} exists for each job of py_list_jobs, and \
         job-artifact://{job_id}/{path}, percent-encoded, for each artifact that py_job_status lists",
        Some(data),
    )
}

/// The error for a daemon that refuses the request or cannot be reached.
pub(crate) fn internal(error: ClientError) -> ErrorData {
    of(&error.into(), ErrorCode::INTERNAL_ERROR)
}

/// Converts a failure to an error with this code, unless the failure has a code of its own.
pub(crate) fn of(failure: &Failure, code: ErrorCode) -> ErrorData {
    match failure.newer_daemon() {
        Some(daemon) => ErrorData::new(OUTDATED, failure.text(), Some(json!({ PROTOCOL: daemon.lowest }))),
        None => ErrorData::new(code, failure.text(), None),
    }
}

/// The lowest protocol of the daemon, if the error says that the daemon is newer than this server.
pub(crate) fn newer_protocol(error: &ErrorData) -> Option<u16> {
    let protocol = error.data.as_ref().filter(|_| error.code == OUTDATED)?.get(PROTOCOL)?.as_u64()?;
    u16::try_from(protocol).ok()
}
