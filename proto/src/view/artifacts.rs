//! What people and agents are shown of the files a job left.

use serde::Serialize;

use crate::artifact::ArtifactList;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArtifactView {
    /// Bytes that are not UTF-8 are U+FFFD.
    pub path: String,
    pub bytes: u64,
}

/// The first of them by path: an answer stays small.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ArtifactsView {
    pub artifacts: Vec<ArtifactView>,
    /// How many more there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub artifacts_left_out: u64,
}

impl ArtifactsView {
    /// How many are shown beside everything else that is said of a job.
    pub const MOST_SHOWN: u32 = 100;

    pub fn of(list: &ArtifactList) -> Self {
        let artifacts: Vec<ArtifactView> = list
            .artifacts
            .iter()
            .map(|artifact| ArtifactView { path: artifact.path.to_text(), bytes: artifact.bytes })
            .collect();
        Self { artifacts_left_out: list.total.saturating_sub(artifacts.len() as u64), artifacts }
    }

    /// For results, which say nothing of artifacts where there are none.
    pub fn if_any(list: &ArtifactList) -> Option<Self> {
        (list.total > 0).then(|| Self::of(list))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
