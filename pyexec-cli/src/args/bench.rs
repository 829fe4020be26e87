//! `pyexec bench`: what is measured, how often, and where the results go.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pyexec_proto::profile::ProfileSpec;

use super::run::{
    BenchOptions, DEFAULT_GRACE, DEFAULT_INTERVAL, Run, RunOptions, ScriptOptions, Source, parse_interval, run_count,
};
use super::values::parse_duration;

/// Each script is one job, measured as `run --bench` does; one after the other, in the order given, files first. There can
/// be several, so that, unlike those of `pyexec run`, their arguments come after `--`.
#[derive(Debug, Args)]
#[command(override_usage = "pyexec bench [OPTIONS] (FILE | -c CODE | -m MODULE)... [-- ARGS...]")]
pub(crate) struct Bench {
    /// The scripts to measure and compare. They run one after the other: name the first one again at the end to see how
    /// steady the machine was
    #[arg(value_name = "FILE", required_unless_present_any = ["code", "module"])]
    pub(crate) files: Vec<OsString>,
    /// Measure this code; may be repeated
    #[arg(short = 'c', value_name = "CODE", allow_hyphen_values = true)]
    pub(crate) code: Vec<OsString>,
    /// Measure this module, as `python -m` runs it; may be repeated
    #[arg(short = 'm', value_name = "MODULE", allow_hyphen_values = true)]
    pub(crate) module: Vec<OsString>,
    /// Arguments of all scripts: everything that follows, including `--`
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,
    /// Measure each script N times
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = run_count(1))]
    pub(crate) runs: u32,
    /// Run each script N times before that, without measuring
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = run_count(0))]
    pub(crate) warmup: u32,
    /// Sample the memory at this interval: 10ms, or a number of seconds
    #[arg(long, value_name = "S", default_value = DEFAULT_INTERVAL, value_parser = parse_interval)]
    pub(crate) sample_interval: Duration,
    #[command(flatten)]
    pub(crate) script: ScriptOptions,
    /// Show the output of the scripts; it is kept in any case
    #[arg(long, conflicts_with = "json")]
    pub(crate) show_output: bool,
    /// Write the results to this file, as --json prints them
    #[arg(long, value_name = "FILE")]
    pub(crate) export_json: Option<PathBuf>,
    /// Write a table of the results to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) export_markdown: Option<PathBuf>,
    /// Draw memory and CPU of the last run of each script into this PNG file
    #[arg(long, value_name = "FILE")]
    pub(crate) plot: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

impl Bench {
    /// Each script as a measured run.
    pub(crate) fn scripts(&self) -> impl Iterator<Item = Run> + '_ {
        let files = self.files.iter().cloned().map(Source::File);
        let code = self.code.iter().cloned().map(Source::Code);
        let modules = self.module.iter().cloned().map(Source::Module);
        let sources = files.chain(code).chain(modules);
        sources.map(|source| Run { source, args: self.args.clone(), options: self.options() })
    }

    fn options(&self) -> RunOptions {
        RunOptions {
            script: self.script.clone(),
            grace: parse_duration(DEFAULT_GRACE).expect("is a length of time"),
            interactive: false,
            detach: false,
            stdin: false,
            keep_leftovers: false,
            bench: true,
            bench_options: BenchOptions { runs: self.runs, warmup: self.warmup, sample_interval: self.sample_interval },
            profile: false,
            top: ProfileSpec::DEFAULT_TOP,
            json: self.json,
        }
    }
}
