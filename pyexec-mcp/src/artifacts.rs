//! The files a job has left: as resources, and as images in an answer.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use pyexec_proto::artifact::{ArtifactList, MAX_ARTIFACT_CHUNK_BYTES, MAX_ARTIFACTS};
use pyexec_proto::client::ClientError;
use pyexec_proto::view::{ArtifactView, ArtifactsView};
use pyexec_proto::{Client, Error, JobId, OsText};
use rmcp::ErrorData;
use rmcp::model::{ContentBlock, ReadResourceResult, ResourceContents, ResourceTemplate};

use crate::server::Server;
use crate::{render, resources};

const SCHEME: &str = "job-artifact://";

/// The largest file that is answered with, as a resource or as an image.
const MOST_BYTES: u32 = MAX_ARTIFACT_CHUNK_BYTES;

/// How many images one answer has.
const MOST_IMAGES: usize = 4;

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
    let contents = match (raster(&chunk.bytes), String::from_utf8(chunk.bytes)) {
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

/// The first images among the artifacts, and what is to be said of those that are left out.
pub(crate) async fn images(client: &Client, id: JobId) -> Result<(Vec<ContentBlock>, String), ClientError> {
    let list = match client.list_artifacts(id, MAX_ARTIFACTS).await {
        // The answer says so already, and is no worse for it.
        Err(ClientError::Refused(Error::OutputRemoved { .. })) => ArtifactList::default(),
        listed => listed?,
    };
    let named = list.artifacts.iter().filter(|artifact| is_named_as_image(&artifact.path));
    let (fitting, large): (Vec<_>, Vec<_>) = named.partition(|artifact| artifact.bytes <= u64::from(MOST_BYTES));
    let mut blocks = Vec::new();
    let mut beyond = 0;
    for artifact in fitting {
        if blocks.len() == MOST_IMAGES {
            beyond += 1;
            continue;
        }
        let chunk = match client.read_artifact(id, &artifact.path, 0, MOST_BYTES).await {
            Ok(chunk) => chunk,
            // It has gone, or become something else.
            Err(ClientError::Refused(Error::NoArtifact { .. })) => continue,
            Err(error) => return Err(error),
        };
        // By what it is, not by what it is called; and whole.
        if let Some(mime_type) = raster(&chunk.bytes)
            && chunk.total == chunk.bytes.len() as u64
        {
            blocks.push(ContentBlock::image(BASE64.encode(&chunk.bytes), mime_type));
        }
    }
    let mut said = String::new();
    if beyond > 0 {
        said.push_str(&format!("\n\nImages beyond the first {MOST_IMAGES} are left out: {beyond}."));
    }
    if !large.is_empty() {
        said.push_str(&format!("\n\nImages larger than 1 MiB are left out: {}.", large.len()));
    }
    Ok((blocks, said))
}

fn extension(path: &OsText) -> String {
    path.as_path().extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn is_named_as_image(path: &OsText) -> bool {
    matches!(extension(path).as_str(), "png" | "jpg" | "jpeg" | "gif" | "webp")
}

/// What kind of image these bytes begin, if they do.
fn raster(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
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

    #[test]
    fn an_image_is_known_by_how_it_begins() {
        assert_eq!(raster(b"\x89PNG\r\n\x1a\nrest"), Some("image/png"));
        assert_eq!(raster(b"\xff\xd8\xff\xe0"), Some("image/jpeg"));
        assert_eq!(raster(b"GIF89a"), Some("image/gif"));
        assert_eq!(raster(b"RIFF\0\0\0\0WEBPVP8 "), Some("image/webp"));
        for other in [&b""[..], b"\x89PN", b"<svg>", b"RIFF\0\0\0\0WAVE", b"GIF88a"] {
            assert_eq!(raster(other), None, "{other:?}");
        }
    }
}
