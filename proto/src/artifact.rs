//! Artifacts, the files that a job leaves in its artifact directory: listings, and chunks of one file.

use serde::{Deserialize, Serialize};

use crate::os_text::OsText;
use crate::time::Timestamp;

/// The largest number of artifacts shown together with a job.
pub const MOST_SHOWN_ARTIFACTS: u32 = 100;

/// One artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Relative to the job's artifact directory; every component is a name, never `.` or `..`.
    pub path: OsText,
    pub bytes: u64,
    pub modified_at: Timestamp,
}

/// The artifacts of a job, sorted by path. Only regular files are listed: a link may point elsewhere, and reading a
/// pipe may block for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactList {
    pub artifacts: Vec<Artifact>,
    /// The number of files found, including those beyond the limit.
    pub total: u64,
    /// The number of entries that are not regular files: links, pipes, sockets and devices.
    pub other_entries: u64,
    /// The list may be incomplete: there are more than [`MAX_ARTIFACTS`] files, directories deeper than
    /// [`MAX_ARTIFACT_DEPTH`], or directories that cannot be read.
    pub is_cut: bool,
}

/// A chunk of one artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactChunk {
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// The size of the whole file, in bytes, when this chunk was read.
    pub total: u64,
    /// The file's inode number. If it changes between two chunks, the file has been replaced.
    pub inode: u64,
}

/// The largest number of files that are listed.
pub const MAX_ARTIFACTS: u32 = 10_000;

/// The number of directory levels below the artifact directory that are searched.
pub const MAX_ARTIFACT_DEPTH: usize = 16;

/// The largest number of bytes in one answer.
pub const MAX_ARTIFACT_CHUNK_BYTES: u32 = 1 << 20;

/// Why a path does not name a readable artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NoArtifact {
    #[error("there is no such file")]
    NotThere,
    #[error("it is not a path inside the directory of artifacts")]
    OutOfPlace,
    #[error("it is a link, or its path leads through one")]
    Link,
    #[error("it is a directory")]
    Directory,
    #[error("it is a pipe, a socket or a device")]
    Special,
    #[error("permission denied, for the file or for a directory of its path")]
    Unreadable,
}
