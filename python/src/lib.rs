//! The Python code that pyexec brings along, and readers of Python files: pure functions of bytes.

#![forbid(unsafe_code)]

pub mod docstring;
pub mod dotenv;
pub mod imports;
pub mod python_requirement;
pub mod script_metadata;
pub mod startup;
pub mod version_specifiers;

#[cfg(test)]
mod oracle;
