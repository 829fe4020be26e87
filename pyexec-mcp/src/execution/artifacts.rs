//! The line of an answer that names a job's artifacts.

use pyexec_view::{ArtifactView, ArtifactsView};

use crate::answer::render;
use crate::uri;

/// A line with the names of artifacts and how to read them; empty if there are none.
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

/// The percent-encoded path if the artifact has a URI, otherwise the path.
fn name(artifact: &ArtifactView) -> &str {
    let encoded = artifact.uri.as_deref().and_then(uri::encoded_path_in);
    encoded.unwrap_or(&artifact.path)
}
