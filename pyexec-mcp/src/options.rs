//! The options of the command line.

use std::ffi::OsString;

use clap::{Parser, ValueEnum};

/// Run Python for agents and editors, over the Model Context Protocol on stdin and stdout.
#[derive(Debug, Parser)]
#[command(name = "pyexec-mcp", version)]
pub(crate) struct Options {
    /// Which tools to offer
    #[arg(long, value_name = "SET", default_value = "full")]
    pub(crate) toolset: Toolset,
    /// Answer with structured content, and declare its schemas
    #[arg(long)]
    pub(crate) structured: bool,
    /// Where the daemon listens
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<OsString>,
    /// Print which protocols of the daemon this program speaks
    #[arg(long, hide = true)]
    pub(crate) protocols: bool,
    /// Print docs/tools.md, for scripts/docs.sh
    #[arg(long, hide = true)]
    pub(crate) reference: bool,
    /// The descriptor with the state of the older server that has executed this program
    #[arg(long, value_name = "FD", hide = true)]
    pub(crate) handover: Option<u32>,
}

/// The set of tools to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Toolset {
    Full,
    /// The six tools that most sessions need.
    Core,
}
