//! Parameters of the tools that run code, in groups that several tools share.

use pyexec_proto::benchmark::BenchmarkSpec;
use pyexec_proto::profile::ProfileSpec;

use crate::arguments::{Kind, Parameter};
use crate::tools::parameters::{images, max_output_bytes};

/// Removes the descriptions, which the first tool with these parameters has: every session pays for them.
pub(super) fn without_descriptions(parameters: Vec<Parameter>) -> Vec<Parameter> {
    parameters.into_iter().map(Parameter::brief).collect()
}

pub(super) fn directory() -> Parameter {
    Parameter::new("directory", Kind::Path, "")
}

fn sources() -> Vec<Parameter> {
    vec![
        Parameter::new("script_path", Kind::Path, ""),
        Parameter::new("script_content", Kind::Text, "").may_be_empty(),
        Parameter::new("module", Kind::Text, ""),
    ]
}

fn python_version() -> Parameter {
    Parameter::new("python_version", Kind::Text, "e.g. 3.12")
}

pub(super) fn in_directory() -> Vec<Parameter> {
    let own = vec![
        directory().about("must exist").required(),
        Parameter::new("use_uv", Kind::Flag, "false: python3 on PATH").default(true),
        python_version(),
    ];
    [own, sources()].concat()
}

pub(super) fn with_dependencies() -> Vec<Parameter> {
    let own = vec![
        Parameter::new("dependencies", Kind::Texts, "PEP 508, e.g. numpy>=2"),
        python_version(),
        Parameter::new("environment", Kind::Text, "instead: name of py_create_environment"),
        directory(),
    ];
    [sources(), own].concat()
}

/// The parameters of every tool that runs code.
pub(super) fn execution(timeout_seconds: u32) -> Vec<Parameter> {
    const LIMITS: Kind = Kind::Object(&[
        ("memory_mb", Kind::Number { least: 1.0, most: (u64::MAX >> 20) as f64 }),
        ("cpu_seconds", Kind::Number { least: 0.001, most: LONGEST }),
        ("processes", Kind::Whole { least: 1, most: u32::MAX as u64 }),
        ("output_bytes", Kind::Whole { least: 1, most: u64::MAX }),
        ("on_output_limit", Kind::Choice(&["drop_oldest", "stop"])),
        ("nice", Kind::Whole { least: 0, most: 19 }),
        ("network", Kind::Choice(&["none"])),
        ("filesystem", Kind::Choice(&["read-only", "workdir"])),
    ]);
    // A hundred years, which is as good as no limit.
    const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;
    vec![
        Parameter::new("args", Kind::Texts, ""),
        Parameter::new("env_vars", Kind::Map, ""),
        Parameter::new("env_file", Kind::Path, ""),
        Parameter::new("timeout_seconds", Kind::Number { least: 0.0, most: LONGEST }, "0: none")
            .default(timeout_seconds),
        Parameter::new("job_label", Kind::Text, ""),
        Parameter::new("stdin", Kind::Text, "").may_be_empty(),
        Parameter::new("open_stdin", Kind::Flag, "for py_send_input"),
        Parameter::new("auto_install_deps", Kind::Flag, "add what is imported"),
        Parameter::new("no_project", Kind::Flag, "without the project and its .venv"),
        Parameter::new(
            "limits",
            LIMITS,
            "memory_mb, cpu_seconds, processes: of all together; output_bytes, on_output_limit, nice; network: none; \
            filesystem: read-only, workdir",
        ),
    ]
}

pub(super) fn measured() -> Vec<Parameter> {
    const MOST_RUNS: u64 = BenchmarkSpec::MAX_RUNS as u64;
    const LONGEST: f64 = (BenchmarkSpec::MAX_SAMPLE_INTERVAL_MS / 1000) as f64;
    vec![
        Parameter::new("runs", Kind::Whole { least: 1, most: MOST_RUNS }, "").default(1),
        Parameter::new("warmup_runs", Kind::Whole { least: 0, most: MOST_RUNS }, "").default(0),
        Parameter::new("sample_interval", Kind::Number { least: 0.001, most: LONGEST }, "seconds").default(0.05),
        Parameter::new("plot", Kind::Flag, "show memory and CPU over time"),
    ]
}

pub(super) fn profiled() -> Vec<Parameter> {
    const MOST: u64 = ProfileSpec::MAX_TOP as u64;
    vec![Parameter::new("top", Kind::Whole { least: 1, most: MOST }, "").default(ProfileSpec::DEFAULT_TOP)]
}

pub(super) fn synchronous() -> Vec<Parameter> {
    vec![
        Parameter::new("async_mode", Kind::Flag, "return a job_id at once"),
        images().about("also return image artifacts"),
    ]
}

pub(super) fn asynchronous() -> Vec<Parameter> {
    vec![Parameter::new("stream", Kind::Flag, "").default(true)]
}

pub(super) fn answers() -> Vec<Parameter> {
    vec![max_output_bytes()]
}
