//! What the command line says, as types. It decides nothing but what is a usage error on the face of it; paths are
//! resolved and jobs are looked up by the verbs.

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
#[command(name = "pyexec", version, about = "Run Python scripts as jobs that outlive whoever started them")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run a script or some code now, and exit with its code
    Run(Box<Run>),
    /// Measure scripts, and compare them: time, memory of all their processes, storage
    Bench(Box<Bench>),
    /// List jobs, newest first
    Jobs(Jobs),
    /// Everything about one job
    Show(Show),
    /// The output of a job
    Logs(Logs),
    /// The files that a job has left in $PYEXEC_ARTIFACTS
    Artifacts(Artifacts),
    /// Wait for jobs to end; exit as `run` would have for the last
    Wait(Wait),
    /// Write to a job's stdin
    Send(Send),
    /// Cancel jobs: TERM, then KILL
    Kill(Kill),
    /// Forget finished jobs, and their files
    Prune(Prune),
    /// Scripts that are kept under a name
    #[command(subcommand)]
    Scripts(ScriptsVerb),
    /// Environments that are kept
    #[command(subcommand)]
    Env(EnvVerb),
    /// The daemon that owns the jobs
    #[command(subcommand)]
    Daemon(DaemonVerb),
    /// Editors and agents that are to use pyexec
    #[command(subcommand)]
    Mcp(McpVerb),
    /// What is installed, what is not, and what to do about it
    Doctor(Doctor),
    /// Print a completion script for a shell
    Completions(Completions),
}

#[derive(Debug, Args)]
pub(crate) struct Jobs {
    /// Only jobs in this state: pending, running, completed, failed, cancelled; may be repeated
    #[arg(long, value_name = "S")]
    pub(crate) status: Vec<Status>,
    /// Only jobs of this label
    #[arg(long, value_name = "L")]
    pub(crate) label: Option<String>,
    /// The newest N
    #[arg(short = 'n', value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) number: u32,
    /// All there are
    #[arg(long, conflicts_with = "number")]
    pub(crate) all: bool,
    /// Keep the table up to date on the terminal; q leaves
    #[arg(long, conflicts_with_all = ["all", "number", "json"])]
    pub(crate) watch: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The job's id, or the beginning of it
    pub(crate) id: String,
    /// Of a job that was measured: draw memory and CPU of its last run into a PNG
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The job's id, or the beginning of it
    pub(crate) id: String,
    /// Go on until the job ends
    #[arg(short = 'f', long)]
    pub(crate) follow: bool,
    /// Only its stdout
    #[arg(long, conflicts_with = "stderr")]
    pub(crate) stdout: bool,
    /// Only its stderr
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
    /// The job's id, or the beginning of it
    pub(crate) id: String,
    /// A file, or with -o also a directory; one without -o is written to stdout, byte for byte
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,
    /// Copy them, or all there are, into this directory
    #[arg(short = 'o', long, value_name = "DIR")]
    pub(crate) output: Option<OsString>,
    /// With -o: replace files that are there
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Ids of jobs, or the beginnings of them
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The job's id, or the beginning of it
    pub(crate) id: String,
    /// What to write; a newline is added
    #[arg(allow_hyphen_values = true, required_unless_present = "eof")]
    pub(crate) text: Option<OsString>,
    /// Close its stdin, after the text if there is one
    #[arg(long)]
    pub(crate) eof: bool,
    /// Write the text as it is
    #[arg(long)]
    pub(crate) no_newline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Ids of jobs, or the beginnings of them
    #[arg(value_name = "ID", required_unless_present_any = ["all", "label"])]
    pub(crate) ids: Vec<String>,
    /// How long it has to end by itself [default: as it was submitted]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) grace: Option<Duration>,
    /// KILL at once
    #[arg(long, conflicts_with = "grace")]
    pub(crate) now: bool,
    /// All that are running or waiting to
    #[arg(long, conflicts_with = "ids")]
    pub(crate) all: bool,
    /// Those of this label that are running or waiting to
    #[arg(long, value_name = "L", conflicts_with = "ids")]
    pub(crate) label: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Only what ended longer ago than this
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_duration)]
    pub(crate) older_than: Duration,
    /// Completed ones; failed ones stay unless --failed is given too
    #[arg(long)]
    pub(crate) completed: bool,
    /// Failed ones; completed ones stay unless --completed is given too
    #[arg(long)]
    pub(crate) failed: bool,
    /// Only say what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScriptsVerb {
    /// List them by name
    List {
        /// Also code that was run without a file, newest first
        #[arg(long)]
        autosaved: bool,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Print one, byte for byte
    Show(ScriptsShow),
    /// Keep a script under a name
    Save(ScriptsSave),
    /// Run one, as `pyexec run` runs a file
    Run(Box<ScriptsRun>),
    /// Remove some
    Rm {
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ScriptsShow {
    pub(crate) name: String,
    /// One of those that were run without a file
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
    /// A package it needs (PEP 508), for its header if it has none, or several with commas; may be repeated
    #[arg(long, value_name = "DEP")]
    pub(crate) with: Vec<Requirements>,
    /// The Python versions it runs with, such as `>=3.11`, for its header if it has none
    #[arg(long, value_name = "SPEC")]
    pub(crate) requires_python: Option<String>,
    /// Replace the script of this name, if there is one
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// `pyexec scripts run`, whose options stand as those of [`Run`] do.
#[derive(Debug, Args)]
#[command(override_usage = "pyexec scripts run [OPTIONS] NAME [ARGS]...")]
pub(crate) struct ScriptsRun {
    pub(crate) name: String,
    /// What the script finds in sys.argv: all that follows, options and `--` too
    #[arg(value_name = ARGS, trailing_var_arg = true)]
    pub(crate) args: Vec<OsString>,
    #[command(flatten)]
    pub(crate) options: RunOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnvVerb {
    /// List them, named ones first
    List {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Make one, and keep it under a name
    Create(EnvCreate),
    /// Take away a name, or an environment by its id
    Rm {
        #[arg(value_name = "NAME|ID", required = true)]
        environments: Vec<String>,
    },
    /// Remove all that neither has a name nor is used by a job
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
    /// Make it anew if there is one of this name
    #[arg(long)]
    pub(crate) refresh: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DaemonVerb {
    /// Start it, unless it runs
    Start,
    /// Stop it; jobs go on
    Stop,
    /// Stop it and start the installed version; jobs go on
    Restart,
    /// Whether it runs (exit code 0) or not (3)
    Status {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Have systemd's manager of your user start it when it is called, and keep it
    Install {
        /// Also let it go on when you are logged out
        #[arg(long)]
        linger: bool,
    },
    /// Take its systemd units out again
    Uninstall,
    /// The end of its newest log
    Logs {
        /// The last N lines
        #[arg(short = 'n', value_name = "N", default_value_t = 100)]
        lines: usize,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum McpVerb {
    /// Write pyexec into the settings of editors and agents; what else is there stays as it is
    Install(McpInstall),
    /// Take it out again
    Uninstall(McpUninstall),
    /// Which of them there are, and where their settings lie
    List,
}

#[derive(Debug, Args)]
#[command(override_usage = "pyexec mcp install [OPTIONS] --client <NAME> [-- ARGS...]")]
pub(crate) struct McpInstall {
    /// Whose settings; may be repeated
    #[arg(long = "client", value_name = "NAME", required = true)]
    pub(crate) clients: Vec<McpClient>,
    /// Only say what would be written
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// What `pyexec-mcp` is started with, such as `-- --toolset core`
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct McpUninstall {
    /// Whose settings; may be repeated
    #[arg(long = "client", value_name = "NAME", required = true)]
    pub(crate) clients: Vec<McpClient>,
    /// Only say what would be removed
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

/// What is wrong with a command line, and where to look; `verb` is its first word.
///
/// In the form of every other error of ours: clap's own ends with "For more information, try '--help'".
pub(crate) fn explain(error: &clap::Error, verb: Option<&OsStr>) -> (String, String) {
    let problem = if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // What clap has to say of it is the whole help.
        "a verb is missing".to_owned()
    } else {
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        text.split("\n\nFor more information").next().unwrap_or(text).trim_end().to_owned()
    };
    let verb = verb.and_then(OsStr::to_str).filter(|verb| Cli::command().find_subcommand(verb).is_some());
    let help = verb.map_or_else(|| "pyexec --help".to_owned(), |verb| format!("pyexec {verb} --help"));
    (problem, format!("`{help}` says what can be given"))
}

#[cfg(test)]
mod tests;
