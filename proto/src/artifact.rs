//! What a job leaves in its directory of artifacts: which files there are, and pieces of one.

use serde::{Deserialize, Serialize};

use crate::os_text::OsText;
use crate::time::Timestamp;

/// How many artifacts are shown beside everything else that is said of a job.
pub const MOST_SHOWN_ARTIFACTS: u32 = 100;

/// A file that a job left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Relative to the job's directory of artifacts; its parts are names, never `.` or `..`.
    pub path: OsText,
    pub bytes: u64,
    pub modified_at: Timestamp,
}

/// Files by path. What is no regular file is not among them: a link may lead elsewhere, a pipe may never end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactList {
    pub artifacts: Vec<Artifact>,
    /// How many files were found, those beyond the limit included.
    pub total: u64,
    /// Links, pipes, sockets and devices.
    pub no_files: u64,
    /// There may be more: beyond [`MAX_ARTIFACTS`], deeper than [`MAX_ARTIFACT_DEPTH`], or in a directory whose
    /// permissions do not let it be read.
    pub is_cut: bool,
}

/// A piece of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactChunk {
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// The whole file's, when this piece was read.
    pub total: u64,
    /// The kernel's number for the file: another one means that the file has been replaced.
    pub inode: u64,
}

/// The most files that are listed.
pub const MAX_ARTIFACTS: u32 = 10_000;

/// How many directories below the first are looked into.
pub const MAX_ARTIFACT_DEPTH: usize = 16;

/// The most bytes one answer carries.
pub const MAX_ARTIFACT_CHUNK_BYTES: u32 = 1 << 20;

/// Why something is not to be had as an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NoArtifact {
    #[error("there is no such file")]
    NotThere,
    #[error("it is not a path inside the directory of artifacts")]
    OutOfPlace,
    #[error("it is a link, or leads through one")]
    Link,
    #[error("it is a directory")]
    Directory,
    #[error("it is a pipe, a socket or a device")]
    Special,
    #[error("its permissions, or those of a directory on the way, do not let it be read")]
    Unreadable,
}
