//! Identifiers that clients create: of a job, and of a sender of input.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A UUIDv4 created by the client, so that a submission can be repeated safely.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(Uuid);

impl JobId {
    pub fn mint() -> Self {
        Self(Uuid::new_v4())
    }

    /// The 32 hexadecimal digits without hyphens, for names that must be short.
    pub fn simple(self) -> String {
        self.0.simple().to_string()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a job id")]
pub struct InvalidJobId;

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, InvalidJobId> {
        // `Uuid` also reads braces, URNs and capitals; a job id has one spelling.
        let id = Uuid::try_parse(text).map(Self).map_err(|_| InvalidJobId)?;
        if id.to_string() == text { Ok(id) } else { Err(InvalidJobId) }
    }
}

/// Identifies a sender of input to a job, so that the sender can safely repeat bytes that may not have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SenderId(u64);

impl SenderId {
    pub fn mint() -> Self {
        Self(Uuid::new_v4().as_u64_pair().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_has_one_spelling() {
        let id = JobId::mint();
        assert_eq!(id.to_string().parse::<JobId>().ok(), Some(id));
        for other in [id.simple(), format!("{{{id}}}"), id.to_string().to_uppercase() + "0", String::new()] {
            assert!(other.parse::<JobId>().is_err(), "{other} was taken for a job id");
        }
    }
}
