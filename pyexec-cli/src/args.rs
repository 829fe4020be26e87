//! What the command line says, as types. It decides nothing but what is a usage error on the face of it; paths are
//! resolved and jobs are looked up by the verbs.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use pyexec_proto::Status;
use pyexec_proto::benchmark::BenchmarkSpec;
use pyexec_proto::environment::PythonVersion;
use pyexec_proto::job::Buffering;
use pyexec_proto::profile::ProfileSpec;

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

/// `pyexec run`. Its own options come before the first argument of the script; what begins with a hyphen reaches the
/// script after `--`.
#[derive(Debug, Args)]
#[command(override_usage = "pyexec run [OPTIONS] (FILE | -c CODE | -) [ARGS]... [-- ARGS...]")]
#[command(group = clap::ArgGroup::new(NOT_FED).multiple(true))]
pub(crate) struct Run {
    /// The script, or `-` to read code from stdin
    #[arg(value_name = "FILE", required_unless_present = "code")]
    pub(crate) file: Option<OsString>,
    /// What the script finds in sys.argv; write `--` before what begins with a hyphen
    #[arg(value_name = "ARGS", trailing_var_arg = true)]
    pub(crate) args: Vec<OsString>,
    /// Run this code, as `python -c` does
    #[arg(short = 'c', value_name = "CODE", allow_hyphen_values = true)]
    pub(crate) code: Option<OsString>,
    #[command(flatten)]
    pub(crate) options: RunOptions,
}

/// What can be said of a run, whatever it runs.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// A package the job needs (PEP 508); may be repeated
    #[arg(long, value_name = "DEP")]
    pub(crate) with: Vec<String>,
    /// A file of requirements, as pip reads them
    #[arg(long, value_name = "FILE")]
    pub(crate) with_requirements: Option<OsString>,
    /// Also install what the script imports, where it is known which package that is
    #[arg(long)]
    pub(crate) auto_install: bool,
    /// An environment that `pyexec env create` has made
    #[arg(long, value_name = "NAME", conflicts_with_all = ["with", "with_requirements", "auto_install", "python", "refresh"])]
    pub(crate) environment: Option<String>,
    /// Resolve the requirements again, whatever was resolved before
    #[arg(long)]
    pub(crate) refresh: bool,
    /// The Python version, such as 3.12
    #[arg(long, value_name = "X.Y")]
    pub(crate) python: Option<PythonVersion>,
    /// Run with the first python3 on PATH; uv is not asked
    #[arg(long)]
    pub(crate) no_uv: bool,
    /// The job's working directory [default: this one]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<OsString>,
    /// Set an environment variable for the job; may be repeated, later wins
    #[arg(short = 'e', long = "env", value_name = "K=V", value_parser = assignment_parser())]
    pub(crate) env: Vec<Assignment>,
    /// Read variables from a .env file, as python-dotenv does; -e wins over it
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<OsString>,
    /// End the job after this long: 90s, 5m, 1h30m, seconds as a bare number, 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true)]
    pub(crate) timeout: Limit,
    /// How long it has to end by itself once it is stopped
    #[arg(long, value_name = "TIME", default_value = DEFAULT_GRACE, value_parser = parse_duration)]
    pub(crate) grace: Duration,
    /// A name to find it by
    #[arg(long, value_name = "L")]
    pub(crate) label: Option<String>,
    /// Keep its stdin open for `pyexec send`
    #[arg(short = 'i', long)]
    pub(crate) interactive: bool,
    /// Print its id and leave it running
    #[arg(short = 'd', long, group = NOT_FED)]
    pub(crate) detach: bool,
    /// With --detach or --bench: read stdin to its end first, and give it to the job
    #[arg(long, requires = NOT_FED, conflicts_with = "interactive")]
    pub(crate) stdin: bool,
    /// When what Python prints becomes visible [default: as the daemon is configured]
    #[arg(long, value_name = "HOW")]
    pub(crate) buffering: Option<BufferingArg>,
    /// Leave processes alone that the job leaves behind
    #[arg(long)]
    pub(crate) keep_leftovers: bool,
    /// Measure it: time, memory of all its processes, faults, context switches, storage
    #[arg(long, group = NOT_FED, conflicts_with_all = ["interactive", "keep_leftovers"])]
    pub(crate) bench: bool,
    #[command(flatten)]
    pub(crate) bench_options: BenchOptions,
    /// Profile it: where Python's time goes, as a table and as the artifact profile.prof
    #[arg(long, conflicts_with = "bench")]
    pub(crate) profile: bool,
    /// With --profile: the N functions that took most
    #[arg(long, value_name = "N", requires = "profile", default_value_t = ProfileSpec::DEFAULT_TOP,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(ProfileSpec::MAX_TOP)))]
    pub(crate) top: u32,
    /// Print one JSON document at the end instead of the output
    #[arg(long)]
    pub(crate) json: bool,
}

/// The options whose job gets no stdin that is passed on as it comes.
const NOT_FED: &str = "not_fed";

/// How a benchmark is run.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// With --bench: run it N times, one after the other
    #[arg(long, value_name = "N", requires = "bench", default_value_t = 1, value_parser = run_count(1))]
    pub(crate) runs: u32,
    /// With --bench: and N times before that, unmeasured
    #[arg(long, value_name = "N", requires = "bench", default_value_t = 0, value_parser = run_count(0))]
    pub(crate) warmup: u32,
    /// With --bench: look at its memory this often: 10ms, seconds as a bare number
    #[arg(long, value_name = "S", requires = "bench", default_value = DEFAULT_INTERVAL, value_parser = parse_interval)]
    pub(crate) sample_interval: Duration,
}

/// Has to say what [`BenchmarkSpec::DEFAULT_SAMPLE_INTERVAL_MS`] says; a test compares them.
const DEFAULT_INTERVAL: &str = "50ms";

fn run_count(least: i64) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(least..=i64::from(BenchmarkSpec::MAX_RUNS))
}

fn parse_interval(given: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_millis(BenchmarkSpec::MAX_SAMPLE_INTERVAL_MS);
    match parse_duration(given)? {
        interval if interval < Duration::from_millis(1) => Err("shorter than a millisecond".to_owned()),
        interval if interval > LONGEST => Err(format!("longer than {} seconds", LONGEST.as_secs())),
        interval => Ok(interval),
    }
}

/// Has to say what [`pyexec_proto::job::DEFAULT_GRACE_MS`] says; a test compares them.
const DEFAULT_GRACE: &str = "5s";

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
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The job's id, or the beginning of it
    pub(crate) id: String,
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
    /// A package it needs (PEP 508), for its header if it has none; may be repeated
    #[arg(long, value_name = "DEP")]
    pub(crate) with: Vec<String>,
    /// The Python versions it runs with, such as `>=3.11`, for its header if it has none
    #[arg(long, value_name = "SPEC")]
    pub(crate) requires_python: Option<String>,
    /// Replace the script of this name, if there is one
    #[arg(long)]
    pub(crate) overwrite: bool,
}

/// `pyexec scripts run`, whose options stand as those of [`Run`] do.
#[derive(Debug, Args)]
#[command(override_usage = "pyexec scripts run [OPTIONS] NAME [ARGS]... [-- ARGS...]")]
pub(crate) struct ScriptsRun {
    pub(crate) name: String,
    /// What the script finds in sys.argv; write `--` before what begins with a hyphen
    #[arg(value_name = "ARGS", trailing_var_arg = true)]
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
    /// A package (PEP 508); may be repeated
    #[arg(long, value_name = "DEP")]
    pub(crate) with: Vec<String>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BufferingArg {
    /// Line by line
    Line,
    /// In blocks, as Python does when it does not print to a terminal
    Full,
}

impl From<BufferingArg> for Buffering {
    fn from(given: BufferingArg) -> Self {
        match given {
            BufferingArg::Line => Buffering::Line,
            BufferingArg::Full => Buffering::Full,
        }
    }
}

/// `NAME=value`, of any bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) name: OsString,
    pub(crate) value: OsString,
}

/// How long something may take at most; `None` is without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<Duration>);

impl std::str::FromStr for Limit {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        parse_duration(given).map(|limit| Self((!limit.is_zero()).then_some(limit)))
    }
}

/// Reads `90s`, `1h30m`, and a bare number of seconds.
pub(crate) fn parse_duration(given: &str) -> Result<Duration, String> {
    // What is kept is milliseconds in a u64; far below that there is already no difference to forever.
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
    let bare = !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let read = if bare {
        given.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    } else {
        humantime::parse_duration(given).ok()
    };
    match read {
        None => Err("not a length of time; write 90s, 5m, 1h30m, or seconds as a bare number".to_owned()),
        Some(long) if long > LONGEST => Err("longer than a hundred years".to_owned()),
        Some(duration) => Ok(duration),
    }
}

fn assignment_parser() -> impl clap::builder::TypedValueParser<Value = Assignment> {
    use clap::builder::TypedValueParser as _;
    clap::builder::OsStringValueParser::new().try_map(parse_assignment)
}

fn parse_assignment(given: OsString) -> Result<Assignment, String> {
    use std::os::unix::ffi::OsStringExt as _;
    let mut name = given.into_vec();
    match name.iter().position(|byte| *byte == b'=') {
        None => Err("no `=` in it; write NAME=value".to_owned()),
        Some(0) => Err("no name before the `=`".to_owned()),
        Some(at) => {
            let value = name.split_off(at + 1);
            name.truncate(at);
            Ok(Assignment { name: OsString::from_vec(name), value: OsString::from_vec(value) })
        }
    }
}

/// Reads a whole command line, program name included.
pub(crate) fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let matches = Cli::command().try_get_matches_from(line)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let Verb::Run(run) = &mut cli.verb
        && let Some(matches) = matches.subcommand_matches("run")
    {
        tell_file_from_argument(run, matches)?;
    }
    Ok(cli)
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

/// With `-c CODE` there is no FILE, and the word that clap took for it is the first argument, as it is for `python -c`.
/// A word *before* `-c` was meant as a script, though.
fn tell_file_from_argument(run: &mut Run, matches: &ArgMatches) -> Result<(), clap::Error> {
    if run.code.is_none() || run.file.is_none() {
        return Ok(());
    }
    if matches.index_of("file") < matches.index_of("code") {
        let problem = "a script and -c CODE can not be combined";
        let mut command = Cli::command();
        command.build();
        let command = command.find_subcommand_mut("run").expect("`run` is a verb");
        return Err(command.error(ErrorKind::ArgumentConflict, problem));
    }
    run.args.splice(0..0, run.file.take());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pyexec_proto::job::DEFAULT_GRACE_MS;

    fn read(line: &[&str]) -> Result<Cli, clap::Error> {
        parse(std::iter::once("pyexec").chain(line.iter().copied()).map(OsString::from))
    }

    fn run(line: &[&str]) -> Run {
        let line: Vec<&str> = std::iter::once("run").chain(line.iter().copied()).collect();
        match read(&line) {
            Ok(Cli { verb: Verb::Run(run) }) => *run,
            other => panic!("{line:?} was read as {other:?}"),
        }
    }

    fn refusal(line: &[&str]) -> String {
        let error = match read(line) {
            Err(error) => error,
            Ok(read) => panic!("{line:?} was read as {read:?}"),
        };
        assert_eq!(error.exit_code(), 2, "{line:?}");
        error.to_string()
    }

    #[test]
    fn a_usage_error_is_explained_like_any_other() {
        for (line, problem, hint) in [
            (
                &["run", "x.py", "--timeout", "abc"][..],
                "invalid value 'abc' for '--timeout <TIME>'",
                "pyexec run --help",
            ),
            (&["run", "x.py", "-c", "pass"], "a script and -c CODE can not be combined", "pyexec run --help"),
            (&["nonsense"], "unrecognized subcommand 'nonsense'", "pyexec --help"),
            (&["daemon"], "a verb is missing", "pyexec daemon --help"),
            (&[], "a verb is missing", "pyexec --help"),
        ] {
            let error = read(line).expect_err("it makes no sense");
            let explained = explain(&error, line.first().map(OsStr::new));
            assert!(explained.0.starts_with(problem), "{line:?}: {explained:?}");
            assert!(explained.1.contains(&format!("`{hint}`")), "{line:?}: {explained:?}");
            assert!(!explained.0.contains("For more information"), "{line:?}: {explained:?}");
        }
    }

    #[test]
    fn the_declared_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_of_a_script_may_follow_it_directly_or_after_two_hyphens() {
        type Case<'a> = (&'a [&'a str], Option<&'a str>, Option<&'a str>, &'a [&'a str]);
        let cases: [Case<'_>; 9] = [
            (&["x.py"], Some("x.py"), None, &[]),
            (&["x.py", "a", "b"], Some("x.py"), None, &["a", "b"]),
            (&["x.py", "a", "--json"], Some("x.py"), None, &["a", "--json"]),
            (&["x.py", "--", "--epochs", "3"], Some("x.py"), None, &["--epochs", "3"]),
            (&["-", "a"], Some("-"), None, &["a"]),
            (&["-c", "print(1)"], None, Some("print(1)"), &[]),
            (&["-c", "print(1)", "a", "b"], None, Some("print(1)"), &["a", "b"]),
            (&["-c", "print(1)", "--", "--flag", "b"], None, Some("print(1)"), &["--flag", "b"]),
            (&["-c", "-1"], None, Some("-1"), &[]),
        ];
        for (line, file, code, args) in cases {
            let run = run(line);
            assert_eq!(run.file.as_deref(), file.map(std::ffi::OsStr::new), "{line:?}");
            assert_eq!(run.code.as_deref(), code.map(std::ffi::OsStr::new), "{line:?}");
            assert_eq!(run.args, args.iter().map(OsString::from).collect::<Vec<_>>(), "{line:?}");
        }
    }

    #[test]
    fn options_may_stand_before_and_after_the_script() {
        assert!(run(&["--json", "x.py"]).options.json);
        assert!(run(&["x.py", "--json"]).options.json);
        assert!(run(&["-c", "1", "--json"]).options.json);
        assert!(!run(&["x.py", "--", "--json"]).options.json);
        assert_eq!(run(&["--with", "a", "x.py", "--with", "b"]).options.with, ["a", "b"]);
    }

    #[test]
    fn a_saved_script_is_run_with_the_arguments_and_options_of_a_file() {
        let line = ["scripts", "run", "--label", "l", "train", "--with", "six", "--", "--epochs", "3"];
        let Ok(Cli { verb: Verb::Scripts(ScriptsVerb::Run(of_name)) }) = read(&line) else { panic!("was refused") };
        let of_file = run(&["--label", "l", "train.py", "--with", "six", "--", "--epochs", "3"]);
        assert_eq!((of_name.name.as_str(), &of_name.args), ("train", &of_file.args));
        assert_eq!(of_name.args, ["--epochs", "3"]);
        assert_eq!(format!("{:?}", of_name.options), format!("{:?}", of_file.options));
    }

    #[test]
    fn contradictions_are_usage_errors() {
        for line in [
            &["run"][..],
            &["run", "x.py", "-c", "print(1)"],
            &["run", "x.py", "-e", "NAME"],
            &["run", "x.py", "-e", "=value"],
            &["run", "x.py", "--stdin"],
            &["run", "x.py", "-d", "-i", "--stdin"],
            &["run", "x.py", "--python", "3"],
            &["run", "x.py", "--buffering", "none"],
            &["run", "x.py", "--unknown"],
            &["jobs", "--status", "done"],
            &["jobs", "-n", "0"],
            &["jobs", "-n", "3", "--all"],
            &["logs", "abcd", "--stdout", "--stderr"],
            &["logs", "abcd", "--tail", "3", "--since-byte", "4"],
            &["wait"],
            &["send", "abcd"],
            &["kill"],
            &["kill", "abcd", "--all"],
            &["kill", "abcd", "--now", "--grace", "1s"],
            &["scripts"],
            &["scripts", "save", "x"],
            &["scripts", "rm"],
            &["scripts", "run"],
            &["scripts", "run", "x", "-c", "pass"],
            &["daemon"],
            &["mcp"],
            &["mcp", "install"],
            &["mcp", "install", "--client", "emacs"],
            &["completions", "cmd"],
            &[],
        ] {
            refusal(line);
        }
    }

    #[test]
    fn a_script_together_with_code_is_told_so() {
        assert!(refusal(&["run", "x.py", "-c", "1"]).starts_with("error: a script and -c CODE can not be combined"));
    }

    #[test]
    fn text_to_send_may_begin_with_a_hyphen() {
        let cases: [(&[&str], Option<&str>, bool); 5] = [
            (&["send", "abcd", "-5"], Some("-5"), false),
            (&["send", "abcd", "hello"], Some("hello"), false),
            (&["send", "abcd", "--eof"], None, true),
            (&["send", "abcd", "bye", "--eof"], Some("bye"), true),
            (&["send", "abcd", "--", "--eof"], Some("--eof"), false),
        ];
        for (line, text, eof) in cases {
            let Ok(Cli { verb: Verb::Send(send) }) = read(line) else { panic!("{line:?} was refused") };
            assert_eq!((send.text.as_deref(), send.eof), (text.map(std::ffi::OsStr::new), eof), "{line:?}");
        }
    }

    #[test]
    fn lengths_of_time_are_read_with_units_or_as_seconds() {
        let cases = [
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("7", Some(7_000)),
            ("0.5", Some(500)),
            ("0", None),
            ("0s", None),
        ];
        for (given, milliseconds) in cases {
            assert_eq!(given.parse(), Ok(Limit(milliseconds.map(Duration::from_millis))), "{given}");
        }
        for given in ["", "-1", "soon", ".", "1.2.3", "1e3", "NaN", "5 parsecs", "9".repeat(40).as_str()] {
            assert!(given.parse::<Limit>().is_err(), "{given:?} was taken for a length of time");
        }
    }

    #[test]
    fn a_client_is_called_what_it_is_called_on_the_command_line() {
        for client in McpClient::value_variants() {
            let value = client.to_possible_value().expect("none is hidden");
            assert_eq!(value.get_name(), client.name());
        }
    }

    #[test]
    fn the_default_grace_is_the_one_of_the_vocabulary() {
        assert_eq!(run(&["x.py"]).options.grace, Duration::from_millis(DEFAULT_GRACE_MS));
    }

    #[test]
    fn the_options_of_a_benchmark_come_with_it_and_have_defaults() {
        let options = |line: &[&str]| {
            let options = run(line).options.bench_options;
            (options.runs, options.warmup, options.sample_interval.as_millis())
        };
        let default = u128::from(BenchmarkSpec::DEFAULT_SAMPLE_INTERVAL_MS);
        assert_eq!(options(&["--bench", "x.py"]), (1, 0, default));
        assert_eq!(
            options(&["--bench", "--runs", "3", "--warmup", "2", "--sample-interval", "0.01", "x.py"]),
            (3, 2, 10)
        );
        for line in [
            &["run", "x.py", "--runs", "3"][..],
            &["run", "x.py", "--warmup", "1"],
            &["run", "x.py", "--bench", "--runs", "0"],
            &["run", "x.py", "--bench", "--runs", "1001"],
            &["run", "x.py", "--bench", "--sample-interval", "0"],
            &["run", "x.py", "--bench", "--sample-interval", "61"],
            &["run", "x.py", "--bench", "-i"],
            &["run", "x.py", "--bench", "--profile"],
            &["run", "x.py", "--top", "3"],
            &["run", "x.py", "--profile", "--top", "0"],
            &["run", "x.py", "--profile", "--top", "101"],
            &["run", "x.py", "--bench", "--keep-leftovers"],
        ] {
            refusal(line);
        }
        assert!(run(&["x.py", "-d", "--bench", "--stdin"]).options.stdin);
    }

    #[test]
    fn an_assignment_is_split_at_its_first_equals_sign() {
        let assignment = |name: &str, value: &str| Assignment { name: name.into(), value: value.into() };
        assert_eq!(
            run(&["x.py", "-e", "A=b=c", "-e", "EMPTY="]).options.env,
            [assignment("A", "b=c"), assignment("EMPTY", "")]
        );
    }
}
