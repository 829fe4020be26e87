//! The preamble, which both sides of a connection send before tarpc starts.
//!
//! bincode is positional: a client of one version would call the wrong method of a daemon of another version, and get
//! an answer that decodes. So each side first sends [`LENGTH`] bytes of fixed form, `PYEXEC/1 <lowest>-<highest>
//! <program version>`, padded with NULs, and both speak the highest common protocol. This form never changes. Since
//! protocol 2 a greeting follows, which either side sends without waiting. Two sides without a common protocol can
//! still exchange the requests in `frozen.rs`.

use std::time::Duration;

/// The size of a preamble, in bytes.
pub const LENGTH: usize = 64;

/// How long the other side may take to send its preamble and greeting.
pub const TIME_LIMIT: Duration = Duration::from_secs(2);

/// The largest message either side accepts, in bytes. The largest submission fits.
pub const MAX_FRAME_BYTES: usize = 32 << 20;

const MAGIC: &str = "PYEXEC/1 ";

/// The protocol of this build. It is raised with every change of a type that crosses the wire.
pub const PROTOCOL: u16 = 4;

/// In debug builds, sets the protocol that the program claims to speak, so that tests have two that differ.
pub const PRETENDED_PROTOCOL_VARIABLE: &str = "PYEXEC_TEST_PROTOCOL";

#[cfg(debug_assertions)]
fn pretended() -> Option<u16> {
    std::env::var(PRETENDED_PROTOCOL_VARIABLE).ok()?.parse().ok()
}

#[cfg(not(debug_assertions))]
fn pretended() -> Option<u16> {
    None
}

/// The protocols and version of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preamble {
    pub lowest: u16,
    pub highest: u16,
    /// The version of the program, for people.
    pub version: String,
}

#[derive(Debug, thiserror::Error)]
pub enum PreambleError {
    #[error("the other side does not speak pyexec's protocol")]
    Foreign,
    #[error("the other side said nothing for {} s", TIME_LIMIT.as_secs())]
    Silent,
    #[error("the connection ended before the preamble did")]
    Io(#[from] std::io::Error),
}

impl Preamble {
    /// The preamble of this build.
    pub fn ours() -> Self {
        let protocol = pretended().unwrap_or(PROTOCOL);
        Self { lowest: protocol, highest: protocol, version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// The highest common protocol, if there is one.
    pub fn agree(&self, other: &Preamble) -> Option<u16> {
        let highest = self.highest.min(other.highest);
        (highest >= self.lowest.max(other.lowest)).then_some(highest)
    }

    /// `<lowest>-<highest>`: what a program answers to `--protocols`, and part of the preamble.
    pub fn range(&self) -> String {
        format!("{}-{}", self.lowest, self.highest)
    }

    /// Reads what [`Self::range`] writes.
    pub fn with_range(range: &str, version: &str) -> Option<Self> {
        let (lowest, highest) = range.split_once('-')?;
        let (lowest, highest) = (lowest.parse().ok()?, highest.parse().ok()?);
        (lowest <= highest).then(|| Self { lowest, highest, version: version.to_owned() })
    }

    pub fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let room = LENGTH - MAGIC.len() - "65535-65535 ".len();
        let version: String = self.version.chars().filter(char::is_ascii_graphic).take(room).collect();
        let text = format!("{MAGIC}{} {version}", self.range());
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; LENGTH]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
        let (range, version) = text.strip_prefix(MAGIC)?.split_once(' ')?;
        Self::with_range(range, version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn speaks(lowest: u16, highest: u16) -> Preamble {
        Preamble { lowest, highest, version: "1.2.3".to_owned() }
    }

    #[test]
    fn the_highest_common_protocol_is_spoken() {
        assert_eq!(speaks(1, 3).agree(&speaks(2, 5)), Some(3));
        assert_eq!(speaks(2, 5).agree(&speaks(1, 3)), Some(3));
        assert_eq!(speaks(1, 1).agree(&speaks(2, 3)), None);
    }

    proptest! {
        #[test]
        fn a_preamble_survives_the_wire(lowest: u16, more in 0u16..9, version in "[!-~]{0,30}") {
            let preamble = Preamble { lowest, highest: lowest.saturating_add(more), version };
            prop_assert_eq!(Preamble::decode(&preamble.encode()), Some(preamble));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::array::uniform32(any::<u8>()), tail in proptest::array::uniform32(any::<u8>())) {
            let mut all = [0; LENGTH];
            all[..32].copy_from_slice(&bytes);
            all[32..].copy_from_slice(&tail);
            let _ = Preamble::decode(&all);
        }
    }
}
