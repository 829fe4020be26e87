//! The files a job has left, as resources. As images in an answer: [`crate::images`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use pyexec_client::ClientError;
use pyexec_proto::artifact::MAX_ARTIFACT_CHUNK_BYTES;
use pyexec_proto::{Error, OsText};
use pyexec_view::{ArtifactView, ArtifactsView};
use rmcp::ErrorData;
use rmcp::model::{ReadResourceResult, ResourceContents, ResourceTemplate};

use crate::server::Server;
use crate::{images, render, resources};

const SCHEME: &str = "job-artifact://";

/// The largest file that is answered with.
const MOST_BYTES: u32 = MAX_ARTIFACT_CHUNK_BYTES;

pub(crate) fn template() -> ResourceTemplate {
    ResourceTemplate::new(format!("{SCHEME}{{job_id}}/{{path}}"), "job-artifact")
        .with_title("File of a job")
        .with_description("A file that a job has left in $PYEXEC_ARTIFACTS, up to 1 MiB; py_job_status lists them")
}

/// The job and the path that a URI names; `None` for what is no artifact.
pub(crate) fn named_in(uri: &str) -> Option<(&str, OsText)> {
    let (id, path) = uri.strip_prefix(SCHEME)?.split_once('/')?;
    let path = percent_decoded(path)?;
    (!id.is_empty() && !path.is_empty()).then(|| (id, path.into()))
}

pub(crate) fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).ok()?);
    }
    Some(bytes)
}

pub(crate) async fn read(server: &Server, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let Some((given, path)) = named_in(uri) else { return Err(resources::unknown(uri)) };
    let client = server.client().await.map_err(|failure| resources::internal(&failure))?;
    let id = client.resolve(given).await.map_err(|error| resources::explained(error, uri))?;
    let read = client.read_artifact(id, &path, 0, MOST_BYTES).await;
    let chunk = match read {
        Ok(chunk) => chunk,
        Err(ClientError::Refused(refusal @ Error::NoArtifact { .. })) => {
            let data = serde_json::json!({ "uri": uri });
            let text = format!("{}; py_job_status lists those there are", render::inline(&refusal.to_string()));
            return Err(ErrorData::resource_not_found(text, Some(data)));
        }
        Err(error) => return Err(resources::explained(error, uri)),
    };
    if chunk.total > u64::from(MOST_BYTES) {
        let text = format!(
            "the artifact has {} bytes, and {MOST_BYTES} is the most that is answered with: \
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

/// A line that names them, and how to read them; nothing where there are none.
pub(crate) fn line(id: &str, view: &ArtifactsView) -> String {
    const SHOWN: usize = 20;
    if let Some(problem) = &view.artifacts_problem {
        return format!("\n\nArtifacts: {}", render::inline(problem));
    }
    if view.artifacts.is_empty() {
        return String::new();
    }
    let shown = view.artifacts.iter().take(SHOWN);
    let mut names: Vec<String> =
        shown.map(|artifact| format!("{} ({} bytes)", render::inline(name(artifact)), artifact.bytes)).collect();
    let more = view.artifacts.len() as u64 + view.artifacts_left_out - names.len() as u64;
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    format!("\n\nArtifacts (job-artifact://{id}/…): {}", names.join(", "))
}

/// As it is written in a URI, where it is not what it looks like.
fn name(artifact: &ArtifactView) -> &str {
    let encoded = artifact.uri.as_deref().and_then(named_in_text);
    encoded.unwrap_or(&artifact.path)
}

fn named_in_text(uri: &str) -> Option<&str> {
    Some(uri.strip_prefix(SCHEME)?.split_once('/')?.1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_is_named_by_its_job_and_its_path_whatever_that_is_made_of() {
        type Named<'a> = Option<(&'a str, &'a [u8])>;
        let cases: [(&str, Named<'_>); 11] = [
            ("job-artifact://1234abcd/plot.png", Some(("1234abcd", b"plot.png"))),
            ("job-artifact://1234abcd/a/b.txt", Some(("1234abcd", b"a/b.txt"))),
            ("job-artifact://1234abcd/a%2Fb%20c%ff", Some(("1234abcd", b"a/b c\xff"))),
            // The daemon says what is wrong with it.
            ("job-artifact://1234abcd/%2e%2e/x", Some(("1234abcd", b"../x"))),
            ("job-artifact://1234abcd//etc/passwd", Some(("1234abcd", b"/etc/passwd"))),
            ("job-artifact://1234abcd/", None),
            ("job-artifact://1234abcd", None),
            ("job-artifact:///x", None),
            ("job-artifact://1234abcd/%", None),
            ("job-artifact://1234abcd/%+1", None),
            ("job-stream://1234abcd/x", None),
        ];
        for (uri, expected) in cases {
            let named = named_in(uri);
            let named = named.as_ref().map(|(id, path)| (*id, path.as_bytes()));
            assert_eq!(named, expected, "{uri}");
        }
    }
}
