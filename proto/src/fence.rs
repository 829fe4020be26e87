//! What a job is kept from, by the kernel: enforced for all of its processes, or the job is not started.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `None`: nothing is kept from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    #[serde(default)]
    pub network: Option<NetworkFence>,
    #[serde(default)]
    pub filesystem: Option<FilesystemFence>,
}

/// What a job has of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkFence {
    /// A network of its own, with nothing in it but a loopback device.
    None,
}

/// Where a job may write, besides its artifacts and a temporary directory of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilesystemFence {
    /// Nowhere.
    ReadOnly,
    /// Beneath its working directory.
    Workdir,
}

impl Fence {
    pub fn is_some(&self) -> bool {
        self.network.is_some() || self.filesystem.is_some()
    }
}

/// `network none, filesystem read-only`
impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = self.network.map(|NetworkFence::None| "network none");
        let filesystem = self.filesystem.map(|filesystem| match filesystem {
            FilesystemFence::ReadOnly => "filesystem read-only",
            FilesystemFence::Workdir => "filesystem workdir",
        });
        let words: Vec<&str> = network.into_iter().chain(filesystem).collect();
        f.write_str(&words.join(", "))
    }
}

/// What a machine can do of one kind of fence, as `pyexecd --check-fences` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceCheck {
    /// `network` or `filesystem`.
    pub fence: String,
    /// What it is made with, or why it can not be.
    pub detail: String,
    /// What to do where it can not be made.
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_said_as_it_is_asked_for() {
        let fence = Fence { network: Some(NetworkFence::None), filesystem: Some(FilesystemFence::ReadOnly) };
        assert_eq!(fence.to_string(), "network none, filesystem read-only");
        assert_eq!(serde_json::to_string(&fence).expect("is JSON"), r#"{"network":"none","filesystem":"read-only"}"#);
        assert_eq!(serde_json::from_str::<Fence>("{}").expect("is read"), Fence::default());
        assert_eq!(Fence::default().to_string(), "");
    }
}
