//! The artifacts of a job as resources. [`crate::answer::images`] has images in an answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use pyexec_client::ClientError;
use pyexec_proto::artifact::MAX_ARTIFACT_CHUNK_BYTES;
use pyexec_proto::{Error, OsText};
use rmcp::ErrorData;
use rmcp::model::{ReadResourceResult, ResourceContents, ResourceTemplate};

use crate::answer::{images, refusal, render};
use crate::session::Session;
use crate::uri::{self, ARTIFACT_SCHEME};

/// The largest artifact in an answer, in bytes.
const MOST_BYTES: u32 = MAX_ARTIFACT_CHUNK_BYTES;

pub(crate) fn template() -> ResourceTemplate {
    ResourceTemplate::new(format!("{ARTIFACT_SCHEME}{{job_id}}/{{path}}"), "job-artifact")
        .with_title("File of a job")
        .with_description("A file that a job has left in $PYEXEC_ARTIFACTS, up to 1 MiB; py_job_status lists them")
}

pub(crate) async fn read(session: &Session, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let Some((given, path)) = uri::artifact_in(uri) else { return Err(refusal::unknown_resource(uri)) };
    let client = session.client().await.map_err(refusal::internal)?;
    let id = client.resolve(given).await.map_err(|error| refusal::explained(error, uri))?;
    let read = client.read_artifact(id, &path, 0, MOST_BYTES).await;
    let chunk = match read {
        Ok(chunk) => chunk,
        Err(ClientError::Refused(refusal @ Error::NoArtifact { .. })) => {
            let data = serde_json::json!({ "uri": uri });
            let text = format!("{}; py_job_status lists its artifacts", render::inline(&refusal.to_string()));
            return Err(ErrorData::resource_not_found(text, Some(data)));
        }
        Err(error) => return Err(refusal::explained(error, uri)),
    };
    if chunk.total > u64::from(MOST_BYTES) {
        let text = format!(
            "the artifact has {} bytes, and the limit for an answer is {MOST_BYTES}: \
             `pyexec artifacts {id} -o DIR` in a terminal copies it",
            chunk.total
        );
        return Err(ErrorData::invalid_params(text, Some(serde_json::json!({ "uri": uri, "bytes": chunk.total }))));
    }
    let (bytes, image) = images::mime_type(chunk.bytes).await;
    let contents = match (image, String::from_utf8(bytes)) {
        (None, Ok(text)) => ResourceContents::text(text, uri).with_mime_type(text_type(&path)),
        (Some(mime_type), Ok(text)) => blob(text.as_bytes(), uri, mime_type),
        (image, Err(error)) => blob(error.as_bytes(), uri, image.unwrap_or_else(|| binary_type(&path))),
    };
    Ok(ReadResourceResult::new(vec![contents]))
}

fn blob(bytes: &[u8], uri: &str, mime_type: &str) -> ResourceContents {
    ResourceContents::blob(BASE64.encode(bytes), uri).with_mime_type(mime_type)
}

fn extension(path: &OsText) -> String {
    path.as_path().extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn text_type(path: &OsText) -> &'static str {
    match extension(path).as_str() {
        "json" => "application/json",
        "csv" => "text/csv",
        "md" => "text/markdown",
        "html" | "htm" => "text/html",
        "xml" => "application/xml",
        "svg" => "image/svg+xml",
        _ => "text/plain",
    }
}

fn binary_type(path: &OsText) -> &'static str {
    match extension(path).as_str() {
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        _ => "application/octet-stream",
    }
}
