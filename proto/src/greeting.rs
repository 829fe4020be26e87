//! The greeting, which client and daemon exchange after the preamble and before tarpc starts.
//!
//! A daemon is bound to five directories. The client learns from the greeting if its own directories differ, and
//! decides whether to go on. Both sides send preamble and greeting at once, so that the exchange costs no additional
//! round trip.
//!
//! The form is a length of four bytes, little-endian, followed by that many bytes of JSON, whose fields are only ever
//! added to.

use serde::{Deserialize, Serialize};
#[cfg(feature = "wire")]
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::OsText;
use crate::preamble::Preamble;
#[cfg(feature = "wire")]
use crate::preamble::{self, PreambleError};

/// The longest greeting, in bytes: five paths of the kernel's maximal length, in their longest JSON form.
pub const MAX_BYTES: usize = 128 << 10;

/// The process and directories of one side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Greeting {
    pub pid: u32,
    pub directories: Directories,
}

/// The directories that a program uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Directories {
    pub state: Directory,
    pub data: Directory,
    pub cache: Directory,
    pub config: Directory,
    pub runtime: Directory,
}

/// A directory: its path, and its identity, because in a container the same path may be another directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Directory {
    pub path: OsText,
    /// Device and inode, `stat(2)`; `None` while there is no such directory.
    pub identity: Option<(u64, u64)>,
}

impl Directory {
    /// Whether both are the same directory. If neither exists yet, the paths are compared.
    pub fn is(&self, other: &Self) -> bool {
        match (self.identity, other.identity) {
            (Some(this), Some(that)) => this == that,
            (None, None) => self.path == other.path,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}

impl Directories {
    /// The directories that differ: name, variable, ours, theirs.
    pub fn differences<'a>(
        &'a self,
        other: &'a Directories,
    ) -> impl Iterator<Item = (&'static str, &'static str, &'a Directory, &'a Directory)> {
        let pairs = self.each().into_iter().zip(other.each());
        let pairs = pairs.map(|((name, variable, here), (_, _, there))| (name, variable, here, there));
        // A directory that was created since compares by its path.
        let both_are_there = |here: &Directory, there: &Directory| here.identity.is_some() && there.identity.is_some();
        pairs.filter(move |(_, _, here, there)| {
            !here.is(there) && (here.path != there.path || both_are_there(here, there))
        })
    }

    /// The directories, each with its usual name and the variable that sets it.
    pub fn each(&self) -> [(&'static str, &'static str, &Directory); 5] {
        [
            ("state", "XDG_STATE_HOME", &self.state),
            ("data", "XDG_DATA_HOME", &self.data),
            ("cache", "XDG_CACHE_HOME", &self.cache),
            ("config", "XDG_CONFIG_HOME", &self.config),
            ("runtime", "XDG_RUNTIME_DIR", &self.runtime),
        ]
    }
}

impl Greeting {
    /// The bytes that one side of a connection sends first.
    pub fn opening(&self, preamble: &Preamble) -> Vec<u8> {
        let text = serde_json::to_vec(self).expect("a greeting has text for keys");
        let length = u32::try_from(text.len()).expect("five paths are shorter than 4 GiB");
        [&preamble.encode()[..], &length.to_le_bytes(), &text].concat()
    }

    /// Decodes the bytes after the length; `None` if they are not a greeting.
    pub fn decode(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Sends our preamble and greeting and receives theirs. Their greeting is `None` if the two sides have no common
    /// protocol.
    #[cfg(feature = "wire")]
    pub async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        connection: &mut S,
    ) -> Result<(Preamble, Option<Greeting>), PreambleError> {
        let ours = Preamble::ours();
        let opening = self.opening(&ours);
        let (mut from, mut to) = tokio::io::split(connection);
        let say = async { Ok(to.write_all(&opening).await?) };
        let hear = async {
            let mut theirs = [0; preamble::LENGTH];
            from.read_exact(&mut theirs).await?;
            let theirs = Preamble::decode(&theirs).ok_or(PreambleError::Foreign)?;
            if ours.agree(&theirs).is_none() {
                return Ok((theirs, None));
            }
            let length = usize::try_from(from.read_u32_le().await?).unwrap_or(usize::MAX);
            if length > MAX_BYTES {
                return Err(PreambleError::Foreign);
            }
            let mut text = vec![0; length];
            from.read_exact(&mut text).await?;
            let greeting = Self::decode(&text).ok_or(PreambleError::Foreign)?;
            Ok((theirs, Some(greeting)))
        };
        // Concurrently, because neither side waits for the other to read first.
        let exchange = async { futures::try_join!(say, hear).map(|((), heard)| heard) };
        tokio::time::timeout(preamble::TIME_LIMIT, exchange).await.map_err(|_| PreambleError::Silent)?
    }
}

#[cfg(all(test, feature = "wire"))]
mod tests {
    use super::*;

    #[test]
    fn the_longest_paths_fit_into_a_greeting() {
        let directory = || Directory { path: vec![0xff; 4096].into(), identity: Some((u64::MAX, u64::MAX)) };
        let directories = Directories {
            state: directory(),
            data: directory(),
            cache: directory(),
            config: directory(),
            runtime: directory(),
        };
        let opening = Greeting { pid: u32::MAX, directories }.opening(&Preamble::ours());
        assert!(opening.len() - preamble::LENGTH - 4 <= MAX_BYTES, "{} bytes", opening.len());
    }

    #[tokio::test]
    async fn both_sides_hear_who_the_other_is() {
        let (mut one, mut other) = tokio::io::duplex(256);
        let greeting = |pid| Greeting { pid, ..Greeting::default() };
        let (first, second) = (greeting(1), greeting(2));
        let (heard, overheard) = tokio::join!(first.exchange(&mut one), second.exchange(&mut other));
        assert_eq!(heard.expect("both speak").1, Some(second));
        assert_eq!(overheard.expect("both speak").1, Some(first));
    }

    #[tokio::test]
    async fn something_else_on_the_socket_is_named_as_such() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        theirs.write_all(&[b'x'; preamble::LENGTH]).await.expect("can be written");
        let heard = Greeting::default().exchange(&mut ours).await;
        assert!(matches!(heard, Err(PreambleError::Foreign)), "{heard:?}");
    }

    #[tokio::test]
    async fn who_speaks_another_protocol_is_not_listened_to() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        let future = Preamble { lowest: 900, highest: 901, version: "9.0.0".to_owned() };
        theirs.write_all(&future.encode()).await.expect("can be written");
        assert_eq!(Greeting::default().exchange(&mut ours).await.expect("both speak"), (future, None));
    }

    #[tokio::test]
    async fn an_endless_greeting_is_no_greeting() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        let said = [&Preamble::ours().encode()[..], &[0xff; 4]].concat();
        theirs.write_all(&said).await.expect("can be written");
        let heard = Greeting::default().exchange(&mut ours).await;
        assert!(matches!(heard, Err(PreambleError::Foreign)), "{heard:?}");
    }
}
