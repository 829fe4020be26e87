//! `pyexec run`: what is run, where, in which environment, and how it is watched. Other verbs that run something share it.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use pyexec_proto::benchmark::BenchmarkSpec;
use pyexec_proto::environment::PythonVersion;
use pyexec_proto::profile::ProfileSpec;

use super::values::{
    Assignment, BufferingArg, FilesystemArg, Limit, NetworkArg, OnOutputLimitArg, Requirements, assignment_parser,
    parse_duration, parse_size,
};

/// `pyexec run`. Its own options come before what is run; everything after that is the script's.
#[derive(Debug, Args)]
#[command(override_usage = "pyexec run [OPTIONS] (FILE | -c CODE | -m MODULE | -) [ARGS]...")]
#[command(group = clap::ArgGroup::new(NOT_FED).multiple(true))]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) source: Source,
    /// What the script finds in sys.argv: all that follows, options and `--` too
    #[arg(value_name = ARGS, trailing_var_arg = true)]
    pub(crate) args: Vec<OsString>,
    #[command(flatten)]
    pub(crate) options: RunOptions,
}

/// How the help calls a script's arguments.
pub(super) const ARGS: &str = "ARGS";

/// What is run, as `python3` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A script, a directory or a zip file with a `__main__.py`, or `-` for code on stdin.
    File(OsString),
    Code(OsString),
    Module(OsString),
}

impl Source {
    /// Whether the code is what comes on stdin.
    pub(crate) fn is_stdin(&self) -> bool {
        matches!(self, Source::File(file) if file == "-")
    }
}

/// A [`Source`] as clap sees it: one of them is given.
#[derive(Debug, Args)]
#[group(id = "source", required = true, multiple = false)]
struct SourceArgs {
    /// The script, a directory or zip file with a __main__.py, or `-` to read code from stdin
    #[arg(value_name = "FILE")]
    file: Option<OsString>,
    /// Run this code, as `python -c` does
    #[arg(short = 'c', value_name = "CODE", allow_hyphen_values = true)]
    code: Option<OsString>,
    /// Run this module, as `python -m` does
    #[arg(short = 'm', value_name = "MODULE", allow_hyphen_values = true)]
    module: Option<OsString>,
}

impl Args for Source {
    fn augment_args(command: Command) -> Command {
        SourceArgs::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        SourceArgs::augment_args_for_update(command)
    }
}

impl FromArgMatches for Source {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let SourceArgs { file, code, module } = SourceArgs::from_arg_matches(matches)?;
        let given = [file.map(Source::File), code.map(Source::Code), module.map(Source::Module)];
        let missing = || clap::Error::new(clap::error::ErrorKind::MissingRequiredArgument);
        given.into_iter().flatten().next().ok_or_else(missing)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// How many of the words after `pyexec run` or `pyexec scripts run` are pyexec's: those up to the script, the code or the
/// module. The rest is the script's, whatever it looks like, as with `python3`.
///
/// It is found out before clap reads the line, because clap would go on to look for options after `-c CODE`. `command`
/// says which options take a value. A line that makes no sense is left whole for clap to explain.
pub(super) fn words_of_ours(command: &Command, words: &[OsString]) -> usize {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        match word.as_encoded_bytes() {
            b"--" => return words.len().min(at + 1),
            [b'-', b'-', name @ ..] => {
                let named = |arg: &&Arg| arg.get_long().is_some_and(|long| long.as_bytes() == name);
                at += usize::from(command.get_arguments().find(named).is_some_and(takes_value));
            }
            [b'-', letters @ ..] if !letters.is_empty() => {
                let valued = letters.iter().enumerate().find_map(|(place, letter)| {
                    let named = |arg: &&Arg| arg.get_short() == Some(char::from(*letter)) && takes_value(arg);
                    Some((place, command.get_arguments().find(named)?))
                });
                if let Some((place, option)) = valued {
                    // The rest of the word is its value; if nothing is left of it, the next word is.
                    at += usize::from(place + 1 == letters.len());
                    if ["code", "module"].contains(&option.get_id().as_str()) {
                        return words.len().min(at);
                    }
                }
            }
            _ => return at,
        }
    }
    words.len()
}

fn takes_value(option: &Arg) -> bool {
    option.get_action().takes_values()
}

/// What can be said of a script, however it is run: its environment, its place, its limits.
#[derive(Clone, Debug, Args)]
pub(crate) struct ScriptOptions {
    /// A package the job needs (PEP 508), or several with commas; may be repeated
    #[arg(long, value_name = "DEP")]
    pub(crate) with: Vec<Requirements>,
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
    /// Run without the project that the script or the working directory belongs to, as `uv run --no-project` does
    #[arg(long)]
    pub(crate) no_project: bool,
    /// It is a saved script: where that lies says nothing about its project.
    #[arg(skip)]
    pub(crate) is_saved: bool,
    /// The job's working directory [default: this one]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<OsString>,
    /// Set an environment variable for the job; may be repeated, later wins
    #[arg(short = 'e', long = "env", value_name = "K=V", value_parser = assignment_parser())]
    pub(crate) env: Vec<Assignment>,
    /// Read variables from a .env file, as python-dotenv does; -e wins over it
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<OsString>,
    /// End the job after this long, all its runs together where it is measured: 90s, 5m, 1h30m, seconds as a bare number, 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true)]
    pub(crate) timeout: Limit,
    #[command(flatten)]
    pub(crate) limits: LimitOptions,
    #[command(flatten)]
    pub(crate) fence: FenceOptions,
    /// A name to find it by
    #[arg(long, value_name = "L")]
    pub(crate) label: Option<String>,
    /// When what Python prints becomes visible [default: as the daemon is configured]
    #[arg(long, value_name = "HOW")]
    pub(crate) buffering: Option<BufferingArg>,
}

/// What all processes of a job together may use.
#[derive(Clone, Debug, Args)]
pub(crate) struct LimitOptions {
    /// End it when all its processes together have more memory: 512M, 2G, bytes as a bare number
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_memory: Option<u64>,
    /// End it when all its processes together have used more CPU time: 90s, 5m, seconds as a bare number
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) max_cpu: Option<Duration>,
    /// End it when it has more processes at the same time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_processes: Option<u32>,
    /// Keep so much of each of its streams [default: as the daemon is configured]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_output: Option<u64>,
    /// What becomes of it when it prints more
    #[arg(long, value_name = "WHAT", default_value = "drop-oldest")]
    pub(crate) on_output_limit: OnOutputLimitArg,
}

/// What the kernel keeps from a job; where it can not, the job is refused.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct FenceOptions {
    /// What it has of the network [default: all of it]
    #[arg(long, value_name = "WHAT")]
    pub(crate) network: Option<NetworkArg>,
    /// Where it may write [default: wherever you may]
    #[arg(long, value_name = "WHERE")]
    pub(crate) filesystem: Option<FilesystemArg>,
}

/// What can be said of a run, whatever it runs.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) script: ScriptOptions,
    /// How long it has to end by itself once it is stopped
    #[arg(long, value_name = "TIME", default_value = DEFAULT_GRACE, value_parser = parse_duration)]
    pub(crate) grace: Duration,
    /// Keep its stdin open for `pyexec send`
    #[arg(short = 'i', long)]
    pub(crate) interactive: bool,
    /// Print its id and leave it running
    #[arg(short = 'd', long, group = NOT_FED)]
    pub(crate) detach: bool,
    /// With --detach or --bench: read stdin to its end first, and give it to the job
    #[arg(long, requires = NOT_FED, conflicts_with = "interactive")]
    pub(crate) stdin: bool,
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
pub(super) const DEFAULT_INTERVAL: &str = "50ms";

pub(super) fn run_count(least: i64) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(least..=i64::from(BenchmarkSpec::MAX_RUNS))
}

pub(super) fn parse_interval(given: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_millis(BenchmarkSpec::MAX_SAMPLE_INTERVAL_MS);
    match parse_duration(given)? {
        interval if interval < Duration::from_millis(1) => Err("shorter than a millisecond".to_owned()),
        interval if interval > LONGEST => Err(format!("longer than {} seconds", LONGEST.as_secs())),
        interval => Ok(interval),
    }
}

/// Has to say what [`pyexec_proto::job::DEFAULT_GRACE_MS`] says; a test compares them.
pub(super) const DEFAULT_GRACE: &str = "5s";
