//! What a job asks of its Python environment.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The interpreter and the packages a job wants to run with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EnvironmentSpec {
    pub interpreter: Interpreter,
    /// PEP 508 requirements, as given.
    pub requirements: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Interpreter {
    /// The first `python3` on the caller's `PATH`; uv is not asked.
    System,
    /// The interpreter uv chooses, of exactly this minor version when one is named.
    Uv { version: Option<PythonVersion> },
}

impl Interpreter {
    /// The name results carry in `execution_strategy`.
    pub fn strategy(&self) -> &'static str {
        match self {
            Interpreter::System => "system-python",
            Interpreter::Uv { .. } => "uv-run",
        }
    }
}

/// A minor version of Python, such as `3.12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PythonVersion {
    pub major: u8,
    pub minor: u8,
}

/// What pyexec can run: the line buffering it arranges needs `TextIOWrapper.reconfigure`, new in 3.7, and uv itself
/// supports 3.8 and later.
const OLDEST: PythonVersion = PythonVersion { major: 3, minor: 8 };

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPythonVersion {
    #[error("python version `{0}` is not of the form 3.N")]
    Form(String),
    #[error("python {0} is too old: pyexec runs Python {OLDEST} and later")]
    TooOld(PythonVersion),
}

impl FromStr for PythonVersion {
    type Err = InvalidPythonVersion;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let form = || InvalidPythonVersion::Form(given.chars().take(40).collect());
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { digits.parse::<u8>().map_err(|_| form()) } else { Err(form()) }
        };
        let (major, minor) = given.split_once('.').ok_or_else(form)?;
        let version = PythonVersion { major: number(major)?, minor: number(minor)? };
        if version < OLDEST {
            return Err(InvalidPythonVersion::TooOld(version));
        }
        if version.major != OLDEST.major {
            return Err(form());
        }
        Ok(version)
    }
}

impl fmt::Display for PythonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minor_version_is_read_and_shown_as_written() {
        assert_eq!("3.12".parse::<PythonVersion>().map(|version| version.to_string()), Ok("3.12".to_owned()));
    }

    #[test]
    fn anything_but_a_minor_version_is_refused() {
        for given in ["", "3", "3.", ".12", "3.12.1", "3.12.x; rm -rf", " 3.12", "3.+9", "three", "3.999", "4.1"] {
            assert!(given.parse::<PythonVersion>().is_err(), "{given:?} was taken for a version");
        }
    }

    #[test]
    fn versions_before_3_8_are_refused_as_too_old() {
        for given in ["2.9", "3.7", "2.7"] {
            let refused = given.parse::<PythonVersion>();
            assert!(matches!(refused, Err(InvalidPythonVersion::TooOld(_))), "{given}: {refused:?}");
        }
    }
}
