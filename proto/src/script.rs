//! Stored scripts: those saved under a name, and autosaved code that was run without a file.

use serde::{Deserialize, Serialize};

use crate::os_text::OsText;
use crate::time::Timestamp;

/// The largest stored script, in bytes.
pub const MAX_SOURCE_BYTES: usize = 16 << 20;

/// The largest parameters of an autosaved script, in bytes, without the omitted ones.
pub const MAX_PARAMETERS_BYTES: usize = 4 << 20;

/// The longest name of a script, in bytes, including `.py`. File names may have 255 bytes, and the temporary name
/// during a write is a few bytes longer.
pub const MAX_NAME_BYTES: usize = 200;

/// The largest number of characters of a docstring in a listing.
pub const MAX_DOCSTRING_CHARS: usize = 300;

/// One row of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptInfo {
    /// A file name, with its `.py`.
    pub name: String,
    /// Absolute.
    pub path: OsText,
    /// The beginning of the module's docstring, at most [`MAX_DOCSTRING_CHARS`]; a truncated one ends with `…`.
    pub docstring: Option<String>,
    /// From the PEP 723 header. Empty also if the header cannot be read.
    pub dependencies: Vec<String>,
    pub requires_python: Option<String>,
    pub autosaved: bool,
    pub bytes: u64,
    pub modified_at: Timestamp,
}

/// One script with its source.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    pub name: String,
    /// Absolute.
    pub path: OsText,
    #[serde(with = "serde_bytes")]
    pub source: Vec<u8>,
    /// The origin of an autosaved script, as far as known: the text of the JSON file beside it.
    pub metadata: Option<String>,
}

/// A script to save under a name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveScript {
    /// A file name; `.py` is appended if missing.
    pub name: String,
    #[serde(with = "serde_bytes")]
    pub source: Vec<u8>,
    /// PEP 508 requirements. If these or `requires_python` are given, a source without a PEP 723 header gets one.
    pub dependencies: Vec<String>,
    /// PEP 440 version specifiers, such as `>=3.11`.
    pub requires_python: Option<String>,
    /// Replace an existing script of this name.
    pub overwrite: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedScript {
    pub name: String,
    /// Absolute.
    pub path: OsText,
    /// Whether a script of this name was replaced.
    pub replaced: bool,
    /// `false` also if the source has a header of its own, which is always kept.
    pub header_written: bool,
}

/// The request to keep the code of a job without a file for a while, so that it can be found again. The code of one job
/// is kept once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autosave {
    /// The name of the tool that runs the code.
    pub tool: String,
    /// The parameters of the tool: a JSON object without what the submission carries separately, which is the code,
    /// arguments, values of variables and stdin. The daemon adds arguments and names of variables, and stores nothing
    /// that may be secret.
    pub parameters: String,
}

// Code is long and parameters may be secret, so neither may appear in a log.

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Script({:?}, {} bytes)", self.name, self.source.len())
    }
}

impl std::fmt::Debug for SaveScript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SaveScript({:?}, {} bytes, overwrite: {})", self.name, self.source.len(), self.overwrite)
    }
}

impl std::fmt::Debug for Autosave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Autosave({}, {} bytes)", self.tool, self.parameters.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tool_was_given_does_not_show() {
        let parameters = r#"{"env_vars": {"TOKEN": "hunter2"}}"#.to_owned();
        let given = Autosave { tool: "a_tool".to_owned(), parameters };
        assert_eq!(format!("{given:?}"), "Autosave(a_tool, 34 bytes)");
    }
}
