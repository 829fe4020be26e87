//! What settings become when pyexec is written into them, or taken out: texts in, texts out. Whatever is not the entry
//! stays as it was, to the byte.

mod entry;
mod json;
mod toml;

pub(crate) use entry::{EditError, Entry, NAME};

/// How a client's settings are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON, in which comments and trailing commas are put up with.
    Json {
        /// Under which name the servers are.
        section: &'static str,
        /// Whether an entry says `"type": "stdio"`.
        typed: bool,
    },
    /// TOML, with a table for each server below `mcp_servers`.
    Toml,
}

impl Form {
    /// The text with this entry; the same text where nothing is to be changed.
    pub(crate) fn with_entry(self, text: &str, entry: &Entry) -> Result<String, EditError> {
        let edited = match self {
            Form::Json { section, typed } => json::with_entry(text, section, typed, entry)?,
            Form::Toml => toml::with_entry(text, entry)?,
        };
        // Whatever the libraries make of unusual files: nobody's settings are replaced with something that was not meant.
        if self.entry(&edited).ok().flatten().as_ref() != Some(entry) {
            return Err(EditError::Shape("its layout cannot be edited safely".into()));
        }
        Ok(edited)
    }

    /// The text without the entry; the same text where there is none.
    pub(crate) fn without_entry(self, text: &str) -> Result<String, EditError> {
        let edited = match self {
            Form::Json { section, .. } => json::without_entry(text, section)?,
            Form::Toml => toml::without_entry(text)?,
        };
        if self.has_entry(&edited) != Ok(false) {
            return Err(EditError::Shape("its layout cannot be edited safely".into()));
        }
        Ok(edited)
    }

    /// What the entry says, if there is one that starts a program.
    pub(crate) fn entry(self, text: &str) -> Result<Option<Entry>, EditError> {
        match self {
            Form::Json { section, .. } => json::entry(text, section),
            Form::Toml => toml::entry(text),
        }
    }

    /// Whether there is an entry of our name, whatever it says.
    pub(crate) fn has_entry(self, text: &str) -> Result<bool, EditError> {
        match self {
            Form::Json { section, .. } => json::has_entry(text, section),
            Form::Toml => toml::has_entry(text),
        }
    }

    /// The whole of a file that says nothing else, for somebody to paste from.
    pub(crate) fn snippet(self, entry: &Entry) -> String {
        match self {
            Form::Json { section, typed } => json::snippet(section, typed, entry),
            Form::Toml => toml::snippet(entry),
        }
    }
}

#[cfg(test)]
mod tests;
