//! `pyexec run`: what is run, where, in which environment, and how it is watched. The other verbs that run scripts share
//! these options.

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
    /// Arguments of the script: everything that follows, including options and `--`
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
    /// A script, a directory or zip file with a __main__.py, or `-` to read code from stdin
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
/// says which options take a value. An invalid line is left whole, so that clap explains it.
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

/// Options of a script, however it is run: its environment, directory and limits.
#[derive(Clone, Debug, Args)]
pub(crate) struct ScriptOptions {
    /// A package the job needs (PEP 508), or several with commas; may be repeated
    #[arg(long, value_name = "DEP")]
    pub(crate) with: Vec<Requirements>,
    /// A file of requirements, as pip reads them
    #[arg(long, value_name = "FILE")]
    pub(crate) with_requirements: Option<OsString>,
    /// Also install the packages of known modules that the script imports
    #[arg(long)]
    pub(crate) auto_install: bool,
    /// Run in an environment that `pyexec env create` has made
    #[arg(long, value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// Resolve the requirements again, even if a recent resolution is known
    #[arg(long)]
    pub(crate) refresh: bool,
    /// The Python version, such as 3.12
    #[arg(long, value_name = "X.Y")]
    pub(crate) python: Option<PythonVersion>,
    /// Run with the first python3 on PATH, without uv
    #[arg(long)]
    pub(crate) no_uv: bool,
    /// Run without the project that the script or the working directory belongs to, as `uv run --no-project` does
    #[arg(long)]
    pub(crate) no_project: bool,
    /// It is a saved script: where that lies says nothing about its project.
    #[arg(skip)]
    pub(crate) is_saved: bool,
    /// The working directory of the job [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<OsString>,
    /// Set an environment variable for the job; may be repeated, later wins
    #[arg(short = 'e', long = "env", value_name = "K=V", value_parser = assignment_parser())]
    pub(crate) env: Vec<Assignment>,
    /// Read variables from a .env file, as python-dotenv does; -e wins over it
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<OsString>,
    /// End the job after this time: 90s, 5m, 1h30m, a number of seconds, or 0 for no limit. For a benchmark it covers all runs
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true)]
    pub(crate) timeout: Limit,
    #[command(flatten)]
    pub(crate) limits: LimitOptions,
    #[command(flatten)]
    pub(crate) fence: FenceOptions,
    /// A label to find the job by
    #[arg(long, value_name = "L")]
    pub(crate) label: Option<String>,
    /// When Python writes out what it prints [default: the daemon's setting]
    #[arg(long, value_name = "HOW")]
    pub(crate) buffering: Option<BufferingArg>,
}

/// Limits of all processes of a job together.
#[derive(Clone, Debug, Args)]
pub(crate) struct LimitOptions {
    /// End the job when all of its processes together use more memory: 512M, 2G, or a number of bytes
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_memory: Option<u64>,
    /// End the job when all of its processes together have used more CPU time: 90s, 5m, or a number of seconds
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) max_cpu: Option<Duration>,
    /// End the job when it has more processes at the same time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_processes: Option<u32>,
    /// How much to keep of stdout and of stderr [default: the daemon's setting]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_output: Option<u64>,
    /// What to do when the job prints more
    #[arg(long, value_name = "WHAT", default_value = "drop-oldest")]
    pub(crate) on_output_limit: OnOutputLimitArg,
}

/// What the kernel denies a job. If the kernel cannot, the job is refused.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct FenceOptions {
    /// Restrict the network [default: no restriction]
    #[arg(long, value_name = "WHAT")]
    pub(crate) network: Option<NetworkArg>,
    /// Restrict where the job may write [default: no restriction]
    #[arg(long, value_name = "WHERE")]
    pub(crate) filesystem: Option<FilesystemArg>,
}

/// Options of `pyexec run` and `pyexec scripts run`.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) script: ScriptOptions,
    /// How long the job may take to end after TERM, before KILL
    #[arg(long, value_name = "TIME", default_value = DEFAULT_GRACE, value_parser = parse_duration)]
    pub(crate) grace: Duration,
    /// Interactive: connect the terminal to stdin (input(), pdb), and keep stdin open for `pyexec send`
    #[arg(short = 'i', long)]
    pub(crate) interactive: bool,
    /// Print the id of the job and leave it running
    #[arg(short = 'd', long, group = NOT_FED)]
    pub(crate) detach: bool,
    /// With --detach or --bench: read stdin to its end first, and give the text to the job
    #[arg(long, requires = NOT_FED, conflicts_with = "interactive")]
    pub(crate) stdin: bool,
    /// Do not kill child processes that still run when the script ends
    #[arg(long)]
    pub(crate) keep_leftovers: bool,
    /// Measure the job: time, memory of all processes, page faults, context switches, storage
    #[arg(long, group = NOT_FED, conflicts_with_all = ["interactive", "keep_leftovers"])]
    pub(crate) bench: bool,
    #[command(flatten)]
    pub(crate) bench_options: BenchOptions,
    /// Profile the job: where Python's time goes, as a table and as the artifact profile.prof
    #[arg(long, conflicts_with = "bench")]
    pub(crate) profile: bool,
    /// With --profile: show the N functions that took most time
    #[arg(long, value_name = "N", requires = "profile", default_value_t = ProfileSpec::DEFAULT_TOP,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(ProfileSpec::MAX_TOP)))]
    pub(crate) top: u32,
    /// Print one JSON document at the end instead of the output
    #[arg(long)]
    pub(crate) json: bool,
}

/// The group of options with which stdin is not passed on to the job as it comes.
const NOT_FED: &str = "not_fed";

/// How a benchmark is run.
#[derive(Debug, Args)]
pub(crate) struct BenchOptions {
    /// With --bench: run the script N times, one after the other
    #[arg(long, value_name = "N", requires = "bench", default_value_t = 1, value_parser = run_count(1))]
    pub(crate) runs: u32,
    /// With --bench: run the script N times before that, without measuring
    #[arg(long, value_name = "N", requires = "bench", default_value_t = 0, value_parser = run_count(0))]
    pub(crate) warmup: u32,
    /// With --bench: sample the memory at this interval: 10ms, or a number of seconds
    #[arg(long, value_name = "S", requires = "bench", default_value = DEFAULT_INTERVAL, value_parser = parse_interval)]
    pub(crate) sample_interval: Duration,
}

/// Must agree with [`BenchmarkSpec::DEFAULT_SAMPLE_INTERVAL_MS`], which a test checks.
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

/// Must agree with [`pyexec_proto::job::DEFAULT_GRACE_MS`], which a test checks.
pub(super) const DEFAULT_GRACE: &str = "5s";
