//! Views of a job's artifacts, for the output of the CLI and of the MCP server.

use pyexec_proto::artifact::{Artifact, ArtifactList};
use pyexec_proto::{JobId, OsText};
use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ArtifactView {
    /// Bytes that are not UTF-8 are shown as U+FFFD.
    pub path: String,
    pub bytes: u64,
    /// The resource URI, if it cannot be derived from `path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// The first artifacts by path; the number is limited so that an answer stays small.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ArtifactsView {
    pub artifacts: Vec<ArtifactView>,
    /// The number of artifacts beyond those listed.
    #[serde(skip_serializing_if = "is_zero")]
    pub artifacts_left_out: u64,
    /// Why the artifacts could not be listed. The rest of the answer does not depend on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifacts_problem: Option<String>,
}

impl ArtifactView {
    pub fn of(id: JobId, artifact: &Artifact) -> Self {
        Self { path: artifact.path.to_text(), bytes: artifact.bytes, uri: uri_if_needed(id, &artifact.path) }
    }
}

impl ArtifactsView {
    pub fn of(id: JobId, list: &ArtifactList) -> Self {
        let artifacts: Vec<ArtifactView> =
            list.artifacts.iter().map(|artifact| ArtifactView::of(id, artifact)).collect();
        Self {
            artifacts_left_out: list.total.saturating_sub(artifacts.len() as u64),
            artifacts,
            artifacts_problem: None,
        }
    }

    /// Artifacts to show with a job. A listing failure is reported in `artifacts_problem` and does not fail the call.
    pub fn beside(id: JobId, listed: &Result<ArtifactList, String>) -> Self {
        match listed {
            Ok(list) => Self::of(id, list),
            Err(problem) => Self { artifacts_problem: Some(problem.clone()), ..Self::default() },
        }
    }

    /// `None` if there is nothing to report, so that a result omits the fields.
    pub fn if_any(self) -> Option<Self> {
        (!self.artifacts.is_empty() || self.artifacts_problem.is_some()).then_some(self)
    }
}

/// `None` for a path whose characters need no escaping in a URI and are shown unchanged in an answer.
fn uri_if_needed(id: JobId, path: &OsText) -> Option<String> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/');
    if path.as_bytes().iter().all(is_plain) {
        return None;
    }
    let encoded = path.as_bytes().iter().map(|byte| match is_plain(byte) {
        true => char::from(*byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    Some(format!("job-artifact://{id}/{}", encoded.collect::<String>()))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_given_where_the_path_does_not_say_how_to_read_the_file() {
        let id = JobId::mint();
        for (path, expected) in [
            (&b"plots/loss-1.png"[..], None),
            (b"a b.txt", Some("a%20b.txt")),
            (b"50%", Some("50%25")),
            (b"\xff\x1b\n.bin", Some("%FF%1B%0A.bin")),
            ("caf\u{e9}".as_bytes(), Some("caf%C3%A9")),
        ] {
            let uri = uri_if_needed(id, &OsText::from(path.to_vec()));
            assert_eq!(uri, expected.map(|encoded| format!("job-artifact://{id}/{encoded}")), "{path:?}");
        }
    }
}
