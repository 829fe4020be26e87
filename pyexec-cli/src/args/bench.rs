//! `pyexec bench`: what is measured, how often, and where the results go.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pyexec_proto::environment::PythonVersion;

use super::{
    Assignment, BenchOptions, BufferingArg, DEFAULT_GRACE, DEFAULT_INTERVAL, Limit, Run, RunOptions, assignment_parser,
    parse_duration, parse_interval, run_count,
};

/// Each script is one job, measured as `run --bench` does; one after the other, in the order given, files first.
#[derive(Debug, Args)]
#[command(override_usage = "pyexec bench [OPTIONS] (FILE | -c CODE)... [-- ARGS...]")]
pub(crate) struct Bench {
    /// The scripts; several are compared. They run one after the other: name the first again at the end, and its two
    /// results say how steady the machine was
    #[arg(value_name = "FILE", required_unless_present = "code")]
    pub(crate) files: Vec<OsString>,
    /// Measure this code; may be repeated
    #[arg(short = 'c', value_name = "CODE", allow_hyphen_values = true)]
    pub(crate) code: Vec<OsString>,
    /// What all of them find in sys.argv
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,
    /// Measure each N times
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = run_count(1))]
    pub(crate) runs: u32,
    /// And run it N times before that, unmeasured
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = run_count(0))]
    pub(crate) warmup: u32,
    /// Look at its memory this often: 10ms, seconds as a bare number
    #[arg(long, value_name = "S", default_value = DEFAULT_INTERVAL, value_parser = parse_interval)]
    pub(crate) sample_interval: Duration,
    /// A package they need (PEP 508); may be repeated
    #[arg(long, value_name = "DEP")]
    pub(crate) with: Vec<String>,
    /// A file of requirements, as pip reads them
    #[arg(long, value_name = "FILE")]
    pub(crate) with_requirements: Option<OsString>,
    /// An environment that `pyexec env create` has made
    #[arg(long, value_name = "NAME", conflicts_with_all = ["with", "with_requirements", "python"])]
    pub(crate) environment: Option<String>,
    /// The Python version, such as 3.12
    #[arg(long, value_name = "X.Y")]
    pub(crate) python: Option<PythonVersion>,
    /// Run with the first python3 on PATH; uv is not asked
    #[arg(long)]
    pub(crate) no_uv: bool,
    /// Their working directory [default: this one]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<OsString>,
    /// Set an environment variable for them; may be repeated, later wins
    #[arg(short = 'e', long = "env", value_name = "K=V", value_parser = assignment_parser())]
    pub(crate) env: Vec<Assignment>,
    /// Read variables from a .env file, as python-dotenv does; -e wins over it
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Option<OsString>,
    /// End a script after this long, all its runs together: 90s, 5m, seconds as a bare number, 0 for no limit
    #[arg(long, value_name = "TIME", default_value = "0", hide_default_value = true)]
    pub(crate) timeout: Limit,
    /// When what Python prints becomes visible [default: as the daemon is configured]
    #[arg(long, value_name = "HOW")]
    pub(crate) buffering: Option<BufferingArg>,
    /// A name to find the jobs by
    #[arg(long, value_name = "L")]
    pub(crate) label: Option<String>,
    /// Show what they print; it is kept either way
    #[arg(long, conflicts_with = "json")]
    pub(crate) show_output: bool,
    /// Write the results, as --json prints them, into a file
    #[arg(long, value_name = "FILE")]
    pub(crate) export_json: Option<PathBuf>,
    /// Write a table of the results into a file
    #[arg(long, value_name = "FILE")]
    pub(crate) export_markdown: Option<PathBuf>,
    /// Draw memory and CPU of each one's last run into a PNG
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

impl Bench {
    /// As runs that are measured.
    pub(crate) fn scripts(&self) -> impl Iterator<Item = Run> + '_ {
        let files = self.files.iter().map(|file| (Some(file.clone()), None));
        let code = self.code.iter().map(|code| (None, Some(code.clone())));
        files.chain(code).map(|(file, code)| Run { file, code, args: self.args.clone(), options: self.options() })
    }

    fn options(&self) -> RunOptions {
        RunOptions {
            with: self.with.clone(),
            with_requirements: self.with_requirements.clone(),
            auto_install: false,
            environment: self.environment.clone(),
            refresh: false,
            python: self.python,
            no_uv: self.no_uv,
            dir: self.dir.clone(),
            env: self.env.clone(),
            env_file: self.env_file.clone(),
            timeout: self.timeout,
            grace: parse_duration(DEFAULT_GRACE).expect("is a length of time"),
            label: self.label.clone(),
            interactive: false,
            detach: false,
            stdin: false,
            buffering: self.buffering,
            keep_leftovers: false,
            bench: true,
            bench_options: BenchOptions { runs: self.runs, warmup: self.warmup, sample_interval: self.sample_interval },
            json: self.json,
        }
    }
}
