//! Scripts that are kept: those somebody saved under a name, and code that was run without a file, autosaved.

use serde::{Deserialize, Serialize};

use crate::os_text::OsText;
use crate::time::Timestamp;

/// The most bytes a script that is kept may have.
pub const MAX_SOURCE_BYTES: usize = 16 << 20;

/// The most bytes the parameters of an autosaved script may have, without those that are left out.
pub const MAX_PARAMETERS_BYTES: usize = 4 << 20;

/// The most bytes a script's name may have, its `.py` included. A file name may have 255, and one that is being written
/// has a few more.
pub const MAX_NAME_BYTES: usize = 200;

/// The most characters of a docstring a listing shows.
pub const MAX_DOCSTRING_CHARS: usize = 300;

/// One row of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptInfo {
    /// A file name, with its `.py`.
    pub name: String,
    /// Absolute.
    pub path: OsText,
    /// The beginning of the module's docstring, at most [`MAX_DOCSTRING_CHARS`]; one that was cut ends with `…`.
    pub docstring: Option<String>,
    /// From the PEP 723 header. Empty also for a header that can not be read.
    pub dependencies: Vec<String>,
    pub requires_python: Option<String>,
    pub autosaved: bool,
    pub bytes: u64,
    pub modified_at: Timestamp,
}

/// One script, whole.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    pub name: String,
    /// Absolute.
    pub path: OsText,
    #[serde(with = "serde_bytes")]
    pub source: Vec<u8>,
    /// What is known of where an autosaved script came from: the text of the JSON file beside it.
    pub metadata: Option<String>,
}

/// A script that is to be kept under a name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveScript {
    /// A file name; `.py` is added where it is missing.
    pub name: String,
    #[serde(with = "serde_bytes")]
    pub source: Vec<u8>,
    /// PEP 508. With these, or with `requires_python`, a source without a PEP 723 header gets one.
    pub dependencies: Vec<String>,
    /// PEP 440 version specifiers, such as `>=3.11`.
    pub requires_python: Option<String>,
    /// Replace the script of this name, if there is one.
    pub overwrite: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedScript {
    pub name: String,
    /// Absolute.
    pub path: OsText,
    /// There was one of this name.
    pub replaced: bool,
    /// `false` also when the source has a header of its own, which is kept whatever else was asked for.
    pub header_written: bool,
}

/// That the code of a job, which has no file, is to be kept for a while, so that it can be found again. Of the same job it is
/// kept once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Autosave {
    /// What runs it: the name of a tool.
    pub tool: String,
    /// What the tool was given: a JSON object, without what the submission has beside it, which is the code, arguments,
    /// values of variables and stdin. The daemon adds arguments and names of variables, and keeps nothing that may be secret.
    pub parameters: String,
}

// Code is long, and parameters may be secrets: neither belongs into a log.

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
