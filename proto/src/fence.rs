//! Fences: what the kernel keeps a job from. A fence holds for all processes of the job; if it cannot be set up, the
//! job is not started.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A field is `None` if there is no fence of that kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    #[serde(default)]
    pub network: Option<NetworkFence>,
    #[serde(default)]
    pub filesystem: Option<FilesystemFence>,
}

/// The network that a job has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkFence {
    /// A network namespace that contains only a loopback device.
    None,
}

/// Where a job may write, besides its artifact directory and its own temporary directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilesystemFence {
    /// Nowhere.
    ReadOnly,
    /// Below its working directory.
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

/// Whether this machine supports one kind of fence, as `pyexecd --check-fences` reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceCheck {
    /// `network` or `filesystem`.
    pub fence: String,
    /// How the fence is set up, or why it cannot be.
    pub detail: String,
    /// What to do if it cannot be set up.
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
