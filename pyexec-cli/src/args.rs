//! The command line as types: every verb with its arguments and options, and the help that `--help` prints.
//!
//! This module decides only what is a usage error by itself. The verbs resolve paths and look up jobs.

mod bench;
mod run;
mod values;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ErrorKind};
use clap::{Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use pyexec_proto::Status;
use pyexec_proto::environment::PythonVersion;

pub(crate) use bench::Bench;
use run::{ARGS, words_of_ours};
pub(crate) use run::{BenchOptions, FenceOptions, LimitOptions, Run, RunOptions, ScriptOptions, Source};
use values::parse_duration;
pub(crate) use values::{Assignment, Requirements};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "pyexec", version, about = "Run Python scripts as jobs that survive the session that started them")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a script, a module or code, and exit with its exit code
    Run(Box<Run>),
    /// Measure and compare scripts: time, memory of all their processes, storage
    Bench(Box<Bench>),
    /// List jobs, newest first
    Jobs(Jobs),
    /// Show everything about one job
    Show(Show),
    /// Print the output of a job
    Logs(Logs),
    /// List, print or copy the files that a job left in $PYEXEC_ARTIFACTS
    Artifacts(Artifacts),
    /// Wait for jobs to end, and exit with the exit code of the last one
    Wait(Wait),
    /// Write text to the stdin of a job
    Send(Send),
    /// Cancel jobs: send TERM to all of their processes, then KILL
    Kill(Kill),
    /// Remove finished jobs and their files
    Prune(Prune),
    /// Save scripts under a name, and run them
    #[command(subcommand)]
    Scripts(ScriptsVerb),
    /// Create, list and remove environments
    #[command(subcommand)]
    Env(EnvVerb),
    /// Control the daemon that owns the jobs
    #[command(subcommand)]
    Daemon(DaemonVerb),
    /// Connect editors and agents to pyexec
    #[command(subcommand)]
    Mcp(McpVerb),
    /// Check the installation, and say what to do about each problem
    Doctor(Doctor),
    /// Print a completion script for a shell
    Completions(Completions),
}

#[derive(Debug, Args)]
pub(crate) struct Jobs {
    /// Show only jobs in this state: pending, running, completed, failed, cancelled; may be repeated
    #[arg(long, value_name = "S")]
    pub(crate) status: Vec<Status>,
    /// Show only jobs with this label
    #[arg(long, value_name = "L")]
    pub(crate) label: Option<String>,
    /// Show the newest N jobs
    #[arg(short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) number: u32,
    /// Show all jobs
    #[arg(long, conflicts_with = "number")]
    pub(crate) all: bool,
    /// Keep the table up to date on the terminal; q quits
    #[arg(long, conflicts_with_all = ["all", "number", "json"])]
    pub(crate) watch: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The id of the job, or a unique beginning of it
    pub(crate) id: String,
    /// Draw memory and CPU of the last run of a measured job into this PNG file
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The id of the job, or a unique beginning of it
    pub(crate) id: String,
    /// Follow the output until the job ends
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
    /// Print only stdout
    #[arg(long, conflicts_with = "stderr")]
    pub(crate) stdout: bool,
    /// Print only stderr
    #[arg(long)]
    pub(crate) stderr: bool,
    /// Start at the last N lines of each stream
    #[arg(long, value_name = "N", conflicts_with = "since_byte")]
    pub(crate) tail: Option<u64>,
    /// Start at byte N of each stream
    #[arg(long, value_name = "N")]
    pub(crate) since_byte: Option<u64>,
}

#[derive(Debug, Args)]
#[command(override_usage = "pyexec artifacts [OPTIONS] <ID>\n       pyexec artifacts <ID> <PATH>\n       \
    pyexec artifacts <ID> -o <DIR> [--force] [PATH]...")]
pub(crate) struct Artifacts {
    /// The id of the job, or a unique beginning of it
    pub(crate) id: String,
    /// A file, or with -o also a directory; without -o, the file is written to stdout byte for byte
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Copy the named files, or all of them, into this directory
    #[arg(short = 'o', long, value_name = "DIR")]
    pub(crate) output: Option<OsString>,
    /// With -o: replace existing files
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// The ids of the jobs, or unique beginnings of them
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The id of the job, or a unique beginning of it
    pub(crate) id: String,
    /// The text to write; a newline is added
    #[arg(allow_hyphen_values = true, required_unless_present = "eof")]
    pub(crate) text: Option<OsString>,
    /// Close the stdin of the job, after the text if there is one
    #[arg(long)]
    pub(crate) eof: bool,
    /// Do not add a newline
    #[arg(long)]
    pub(crate) no_newline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// The ids of the jobs, or unique beginnings of them
    #[arg(value_name = "ID", required_unless_present_any = ["all", "label"])]
    pub(crate) ids: Vec<String>,
    /// How long the job may take to end after TERM [default: as it was submitted]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) grace: Option<Duration>,
    /// Send KILL at once
    #[arg(long, conflicts_with = "grace")]
    pub(crate) now: bool,
    /// Cancel all running and waiting jobs
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
    /// Cancel all running and waiting jobs with this label
    #[arg(long, value_name = "L", conflicts_with = "ids")]
    pub(crate) label: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Remove only jobs that ended longer ago than this
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_duration)]
    pub(crate) older_than: Duration,
    /// Remove completed jobs; failed ones stay unless --failed is given too
    #[arg(long)]
    pub(crate) completed: bool,
    /// Remove failed jobs; completed ones stay unless --completed is given too
    #[arg(long)]
    pub(crate) failed: bool,
    /// Only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScriptsVerb {
    /// List scripts by name
    List {
        /// List code that was run without a file as well, newest first
        #[arg(long)]
        autosaved: bool,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Print a script byte for byte
    Show(ScriptsShow),
    /// Save a script under a name
    Save(ScriptsSave),
    /// Run a saved script, as `pyexec run` runs a file
    Run(Box<ScriptsRun>),
    /// Remove saved scripts
    Rm {
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ScriptsShow {
    pub(crate) name: String,
    /// Look among code that was run without a file
    #[arg(long)]
    pub(crate) autosaved: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ScriptsSave {
    /// A file name; `.py` may be left out
    pub(crate) name: String,
    /// The script, or `-` to read it from stdin
    #[arg(value_name = "FILE")]
    pub(crate) file: OsString,
    /// A package for the header of a script that has none (PEP 508), or several with commas; may be repeated
    #[arg(long, value_name = "DEP")]
    pub(crate) with: Vec<Requirements>,
    /// The Python versions for the header of a script that has none, such as `>=3.11`
    #[arg(long, value_name = "SPEC")]
    pub(crate) requires_python: Option<String>,
    /// Replace an existing script of this name
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// `pyexec scripts run`, whose options stand as those of [`Run`] do.
#[derive(Debug, Args)]
#[command(override_usage = "pyexec scripts run [OPTIONS] NAME [ARGS]...")]
pub(crate) struct ScriptsRun {
    pub(crate) name: String,
    /// Arguments of the script: everything that follows, including options and `--`
    #[arg(value_name = ARGS, trailing_var_arg = true)]
    pub(crate) args: Vec<OsString>,
    #[command(flatten)]
    pub(crate) options: RunOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnvVerb {
    /// List environments, named ones first
    List {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Create an environment and give it a name
    Create(EnvCreate),
    /// Remove a name, or an environment by its id
    Rm {
        #[arg(value_name = "NAME|ID", required = true)]
        environments: Vec<String>,
    },
    /// Remove unnamed environments that no job uses
    Prune,
}

#[derive(Debug, Args)]
pub(crate) struct EnvCreate {
    pub(crate) name: String,
    /// A package (PEP 508), or several with commas; may be repeated
    #[arg(long, value_name = "DEP")]
    pub(crate) with: Vec<Requirements>,
    /// A file of requirements, as pip reads them
    #[arg(long, value_name = "FILE")]
    pub(crate) with_requirements: Option<OsString>,
    /// The Python version, such as 3.12
    #[arg(long, value_name = "X.Y")]
    pub(crate) python: Option<PythonVersion>,
    /// Replace an existing environment of this name
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DaemonVerb {
    /// Start the daemon, unless it runs
    Start,
    /// Stop the daemon; jobs go on
    Stop,
    /// Stop the daemon and start the installed version; jobs go on
    Restart,
    /// Say whether the daemon runs (exit code 0) or not (3)
    Status {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Install systemd units of your user that start the daemon on demand
    Install {
        /// Keep the daemon running when you are logged out
        #[arg(long)]
        linger: bool,
    },
    /// Remove the systemd units
    Uninstall,
    /// Print the end of the newest log
    Logs {
        /// Print the last N lines
        #[arg(short = 'n', value_name = "N", default_value_t = 100)]
        lines: usize,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum McpVerb {
    /// Add pyexec to the settings of editors and agents; everything else in them stays as it is
    Install(McpInstall),
    /// Remove pyexec from the settings of editors and agents
    Uninstall(McpUninstall),
    /// List the editors and agents, and where their settings are
    List,
}

#[derive(Debug, Args)]
#[command(override_usage = "pyexec mcp install [OPTIONS] --client <NAME> [-- ARGS...]")]
pub(crate) struct McpInstall {
    /// The editor or agent; may be repeated
    #[arg(long = "client", value_name = "NAME", required = true)]
    pub(crate) clients: Vec<McpClient>,
    /// Only show what would be written
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Arguments of `pyexec-mcp`, such as `-- --toolset core`
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct McpUninstall {
    /// The editor or agent; may be repeated
    #[arg(long = "client", value_name = "NAME", required = true)]
    pub(crate) clients: Vec<McpClient>,
    /// Only show what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// An editor or agent that starts MCP servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum McpClient {
    ClaudeCode,
    ClaudeDesktop,
    Cursor,
    #[value(name = "vscode")]
    VsCode,
    Zed,
    Codex,
}

impl McpClient {
    /// As it is written on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            McpClient::ClaudeCode => "claude-code",
            McpClient::ClaudeDesktop => "claude-desktop",
            McpClient::Cursor => "cursor",
            McpClient::VsCode => "vscode",
            McpClient::Zed => "zed",
            McpClient::Codex => "codex",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    pub(crate) shell: clap_complete::Shell,
}

/// Reads a whole command line, program name included.
pub(crate) fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut line: Vec<OsString> = line.into_iter().collect();
    let command = Cli::command();
    let Some(scripts) = split_off_arguments(&command, &mut line) else {
        return Cli::from_arg_matches(&command.try_get_matches_from(line)?);
    };
    let matches = command.try_get_matches_from(line).map_err(|mut error| {
        // The tip to write `--` before an option that is not known would make it the script.
        error.remove(ContextKind::Suggested);
        error
    })?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let Verb::Run(run) = &mut cli.verb {
        run.args = scripts;
    } else if let Verb::Scripts(ScriptsVerb::Run(run)) = &mut cli.verb {
        run.args = scripts;
    }
    Ok(cli)
}

/// Takes the arguments of a script off the command line that runs it; `None` where none is run.
fn split_off_arguments(command: &Command, line: &mut Vec<OsString>) -> Option<Vec<OsString>> {
    let verb = |at: usize| line.get(at).and_then(|word| word.to_str());
    let verbs: &[&str] = match (verb(1), verb(2)) {
        (Some("run"), _) => &["run"],
        (Some("scripts"), Some("run")) => &["scripts", "run"],
        _ => return None,
    };
    let begin = 1 + verbs.len();
    let known = verbs.iter().try_fold(command, |command, verb| command.find_subcommand(verb));
    let ours = words_of_ours(known.expect("is a verb"), &line[begin..]);
    Some(line.split_off(begin + ours))
}

/// The problem of a command line and a hint, in the form of all other errors. `verb` is the first word of the line.
pub(crate) fn explain(error: &clap::Error, verb: Option<&OsStr>) -> (String, String) {
    let problem = if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // What clap has to say of it is the whole help.
        "no command given".to_owned()
    } else {
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        text.split("\n\nFor more information").next().unwrap_or(text).trim_end().to_owned()
    };
    let verb = verb.and_then(OsStr::to_str).filter(|verb| Cli::command().find_subcommand(verb).is_some());
    let help = verb.map_or_else(|| "pyexec --help".to_owned(), |verb| format!("pyexec {verb} --help"));
    (problem, format!("see `{help}`"))
}

#[cfg(test)]
mod tests;
