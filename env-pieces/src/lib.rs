//! Pure parts of the daemon's environment module: what a `.env` file, a script's header and its imports say.

pub mod dotenv;
pub mod imports;
pub mod script_metadata;

#[cfg(test)]
mod oracle;
