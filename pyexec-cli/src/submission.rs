//! From arguments to a submission: what is read from stdin first, where the script is, what the job's environment and
//! stdin are.

pub(crate) mod own_files;

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyexec_client::caller::Caller;
use pyexec_client::submission::Draft;
use pyexec_proto::benchmark::BenchmarkSpec;
use pyexec_proto::environment::{Contradiction, EnvironmentOption, EnvironmentSpec, Interpreter, ProjectChoice};
use pyexec_proto::error::Named;
use pyexec_proto::fence::Fence;
use pyexec_proto::job::{Leftovers, MAX_STDIN_BYTES, StdinSource, Submission, Watching};
use pyexec_proto::limits::Limits;
use pyexec_proto::profile::ProfileSpec;
use pyexec_proto::{JobSource, JobSpec, OsText};
use rustix::fs::{FileType, fstat, stat};

use crate::args::{Assignment, BenchOptions, FenceOptions, LimitOptions, Requirements, Run, ScriptOptions, Source};
use crate::attach::input::AtEnd;
use crate::exit_code::Failure;
use own_files::{OwnFiles, is_there, read_up_to};

/// A job that is ready to be submitted.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) submission: Submission,
    /// Whether our stdin is passed on to the job, and what happens at its end.
    pub(crate) input: Option<AtEnd>,
}

/// Reads stdin to its end where the arguments say so, and files that only this process can open; the rest is looked up and put together.
pub(crate) fn prepare(run: Run, own_files: &mut OwnFiles) -> Result<Prepared, Failure> {
    refuse_contradictions(&run)?;
    let interpreter = interpreter(&run.options.script)?;
    let Run { source, args, options } = run;
    own_files::refuse_pipes(&args)?;
    let from_stdin = source.is_stdin();
    let cwd = working_directory(&options.script);
    let directory = match (&options.script.dir, &cwd) {
        (Some(given), Ok(cwd)) => absolute(&cwd.join(given))?,
        (Some(given), Err(_)) if Path::new(given).is_absolute() => PathBuf::from(given),
        (None, Ok(cwd)) => cwd.clone(),
        (_, Err(error)) => return Err(Failure::NoCurrentDirectory(io::Error::from(error.kind()))),
    };
    let directory_again = directory.clone();
    let source = match source {
        Source::Code(code) => JobSource::Code { code: code.into() },
        Source::Module(module) => JobSource::Module { module: module.into() },
        Source::File(_) if from_stdin => JobSource::Stdin { code: read_stdin()?.into() },
        Source::File(file) if own_files::is_own(Path::new(&file)) => {
            let content = own_files.read(Path::new(&file), Named::Script)?.into();
            JobSource::Content { path: file.into(), content }
        }
        Source::File(file) => {
            // Where there is no current directory, only the job's directory is left to look in.
            let cwd = cwd.as_deref().unwrap_or(&directory);
            JobSource::File { path: script_path(Path::new(&file), cwd, &directory, is_there).into() }
        }
    };
    let (stdin, input) = if from_stdin {
        // The code itself is what comes on stdin.
        (StdinSource::Null, None)
    } else {
        let fed = !options.detach && !options.bench;
        let asked = StdinAsked { fed, interactive: options.interactive, given: options.stdin };
        stdin_plan(asked, our_stdin())
    };
    // Looked for as the script is: where the caller is, then in the job's directory.
    let beside = |file: &OsStr| {
        let here = cwd.as_deref().unwrap_or(&directory_again);
        script_path(Path::new(file), here, &directory_again, is_there)
    };
    let mut given = |file: Option<OsString>, what| -> Result<_, Failure> {
        let path = file.map(|file| beside(&file));
        let content = path.as_deref().map(|path| own_files.content(path, what)).transpose()?.flatten();
        Ok((path.map(OsText::from), content))
    };
    let (env_file, env_file_content) = given(options.script.env_file, Named::EnvFile)?;
    let (requirements_file, requirements_content) = given(options.script.with_requirements, Named::RequirementsFile)?;
    let environment = EnvironmentSpec {
        interpreter,
        requirements: Requirements::of_all(options.script.with),
        requirements_content: requirements_content.map(own_files::requirements).transpose()?,
        requirements_file,
        named: options.script.environment,
        auto_install: options.script.auto_install,
        refresh: options.script.refresh,
        project: match (options.script.no_project, options.script.is_saved) {
            (true, _) => ProjectChoice::AsUvRunNoProject,
            (false, true) => ProjectChoice::OfDirectory,
            (false, false) => ProjectChoice::AsUvRun,
        },
    };
    let mut draft = Draft::new(Caller::this_process(), source, directory, environment);
    for Assignment { name, value } in &options.script.env {
        draft.set_variable(name, value);
    }
    draft.spec.stdin = stdin;
    if options.stdin {
        draft.set_stdin(read_stdin()?);
    }
    draft.env_file = env_file_content;
    draft.spec = JobSpec {
        args: args.into_iter().map(OsText::from).collect(),
        env_file,
        timeout_ms: options.script.timeout.0.map(milliseconds),
        grace_ms: milliseconds(options.grace),
        label: options.script.label,
        buffering: options.script.buffering.map(Into::into),
        leftovers: if options.keep_leftovers { Leftovers::Keep } else { Leftovers::End },
        benchmark: options.bench.then(|| benchmark(&options.bench_options)),
        profile: options.profile.then_some(ProfileSpec { top: options.top }),
        limits: limits(&options.script.limits),
        fence: fence(options.script.fence),
        ..draft.spec
    };
    draft.watching = Watching {
        waited_for: !options.detach,
        // With --json nothing but an excerpt is shown.
        attached: !options.detach && !options.json,
        ..draft.watching
    };
    Ok(Prepared { submission: draft.submission(), input })
}

fn limits(options: &LimitOptions) -> Limits {
    Limits {
        memory_bytes: options.max_memory,
        cpu_ms: options.max_cpu.map(milliseconds),
        processes: options.max_processes,
        output_bytes: options.max_output,
        on_output_limit: options.on_output_limit.into(),
    }
}

fn fence(options: FenceOptions) -> Fence {
    Fence { network: options.network.map(Into::into), filesystem: options.filesystem.map(Into::into) }
}

fn benchmark(options: &BenchOptions) -> BenchmarkSpec {
    BenchmarkSpec {
        runs: options.runs,
        warmup_runs: options.warmup,
        sample_interval_ms: milliseconds(options.sample_interval),
    }
}

fn usage(problem: &str, hint: &str) -> Failure {
    Failure::Usage { problem: problem.to_owned(), hint: hint.to_owned() }
}

/// The environment that is asked for. What of it cannot be had together is refused before anything is read.
fn interpreter(options: &ScriptOptions) -> Result<Interpreter, Failure> {
    let interpreter = Interpreter::choose(!options.no_uv, options.python).map_err(contradiction)?;
    let asked = EnvironmentSpec {
        requirements: Requirements::of_all(options.with.clone()),
        requirements_file: options.with_requirements.clone().map(OsText::from),
        named: options.environment.clone(),
        auto_install: options.auto_install,
        refresh: options.refresh,
        ..EnvironmentSpec::bare(interpreter)
    };
    match asked.contradiction() {
        Some(found) => Err(contradiction(found)),
        None => Ok(asked.interpreter),
    }
}

fn contradiction(found: Contradiction) -> Failure {
    let name = |option| match option {
        EnvironmentOption::Python => "--python",
        EnvironmentOption::Requirements => "--with",
        EnvironmentOption::RequirementsFile => "--with-requirements",
        EnvironmentOption::Named => "--environment",
        EnvironmentOption::AutoInstall => "--auto-install",
        EnvironmentOption::Refresh => "--refresh",
    };
    match found {
        Contradiction::WithoutUv(option) => {
            let why = match option {
                EnvironmentOption::Python => "versions are chosen by uv",
                EnvironmentOption::Requirements
                | EnvironmentOption::RequirementsFile
                | EnvironmentOption::Named
                | EnvironmentOption::AutoInstall
                | EnvironmentOption::Refresh => "packages are installed by uv",
            };
            usage(&format!("--no-uv and {} cannot be combined", name(option)), &format!("{why}; leave out --no-uv"))
        }
        Contradiction::BesideNamed(option) => usage(
            &format!("--environment and {} cannot be combined", name(option)),
            "an environment that has a name is used as it was made: leave out one of them",
        ),
    }
}

fn refuse_contradictions(run: &Run) -> Result<(), Failure> {
    let Run { source, options, .. } = run;
    if source.is_stdin() && (options.stdin || options.interactive) {
        return Err(usage(
            "stdin cannot carry both the code and the job's input",
            "put the code into a file, or give it with -c",
        ));
    }
    Ok(())
}

/// Where relative names start. `uv run` goes to what `UV_WORKING_DIR` names first, unless it is told where to go.
fn working_directory(options: &ScriptOptions) -> io::Result<PathBuf> {
    let cwd = std::env::current_dir()?;
    let is_uvs = !options.no_uv && options.dir.is_none();
    let names = ["UV_WORKING_DIR", "UV_WORKING_DIRECTORY"];
    let named = names.iter().find_map(|name| std::env::var_os(name).filter(|value| is_uvs && !value.is_empty()));
    let Some(named) = named.map(|named| cwd.join(named)) else { return Ok(cwd) };
    // As the kernel names it to uv once that is there.
    named.canonicalize().or_else(|_| std::path::absolute(named))
}

/// All of stdin, which a submission has to carry.
fn read_stdin() -> Result<Vec<u8>, Failure> {
    let bytes = read_up_to(io::stdin().lock(), MAX_STDIN_BYTES).map_err(Failure::Stdin)?;
    bytes.ok_or(Failure::StdinTooLarge { limit: MAX_STDIN_BYTES })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(Failure::NoCurrentDirectory)
}

/// Where the script is that `given` names.
///
/// It is looked for where the caller is, then in the job's directory. Where those are the same it stays as it was typed:
/// that is what the script finds in `sys.argv[0]`.
fn script_path(given: &Path, cwd: &Path, directory: &Path, exists: impl Fn(&Path) -> bool) -> PathBuf {
    if given.is_absolute() || cwd == directory {
        return given.to_owned();
    }
    let (here, there) = (cwd.join(given), directory.join(given));
    if !exists(&here) && exists(&there) { there } else { here }
}

/// What our stdin is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OurStdin {
    Terminal,
    /// `/dev/null`, or nothing.
    Null,
    /// A pipe, a file, a socket.
    Data,
}

fn our_stdin() -> OurStdin {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return OurStdin::Terminal;
    }
    let Ok(ours) = fstat(&stdin) else { return OurStdin::Null };
    let is_device = FileType::from_raw_mode(ours.st_mode) == FileType::CharacterDevice;
    if is_device && stat("/dev/null").is_ok_and(|null| null.st_rdev == ours.st_rdev) {
        return OurStdin::Null;
    }
    OurStdin::Data
}

/// The options about stdin.
#[derive(Clone, Copy, Debug)]
struct StdinAsked {
    /// Somebody stays to pass on what comes. Not so in a benchmark: what one run reads the next would not have.
    fed: bool,
    interactive: bool,
    /// `--stdin`
    given: bool,
}

/// What the job's stdin is, and whether ours is passed on to it.
fn stdin_plan(asked: StdinAsked, ours: OurStdin) -> (StdinSource, Option<AtEnd>) {
    let StdinAsked { fed, interactive, given } = asked;
    match ours {
        _ if given => (StdinSource::Given, None),
        _ if !fed => (if interactive { StdinSource::Open } else { StdinSource::Null }, None),
        // At a terminal, end of file is typed, and meant.
        OurStdin::Terminal if interactive => (StdinSource::Open, Some(AtEnd::Close)),
        OurStdin::Null if interactive => (StdinSource::Open, None),
        OurStdin::Terminal | OurStdin::Null => (StdinSource::Null, None),
        OurStdin::Data if interactive => (StdinSource::Open, Some(AtEnd::KeepOpen)),
        OurStdin::Data => (StdinSource::Open, Some(AtEnd::Close)),
    }
}

/// Rounded up: the shortest limit is one that ends at once, not none.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_looked_for_where_the_caller_is_and_then_where_the_job_will_be() {
        // (given, job directory, what exists, expected), for a caller in /here
        let cases: [(&str, &str, &[&str], &str); 8] = [
            ("x.py", "/here", &["/here/x.py"], "x.py"),
            ("./x.py", "/here", &[], "./x.py"),
            ("x.py", "/there", &["/here/x.py"], "/here/x.py"),
            ("x.py", "/there", &["/there/x.py"], "/there/x.py"),
            ("x.py", "/there", &["/here/x.py", "/there/x.py"], "/here/x.py"),
            ("x.py", "/there", &[], "/here/x.py"),
            ("sub/x.py", "/there", &["/there/sub/x.py"], "/there/sub/x.py"),
            ("/abs/x.py", "/there", &[], "/abs/x.py"),
        ];
        for (given, directory, existing, expected) in cases {
            let exists = |path: &Path| existing.iter().any(|known| path == Path::new(known));
            let found = script_path(Path::new(given), Path::new("/here"), Path::new(directory), exists);
            assert_eq!(found, Path::new(expected), "{given} for a job in {directory}, where {existing:?} exist");
        }
    }

    #[test]
    fn stdin_is_passed_on_only_when_there_is_something_to_pass_on() {
        use OurStdin::{Data, Null, Terminal};
        let asked = |fed, interactive, given| StdinAsked { fed, interactive, given };
        let attached = asked(true, false, false);
        let interactive = asked(true, true, false);
        let cases = [
            (attached, Terminal, (StdinSource::Null, None)),
            (attached, Null, (StdinSource::Null, None)),
            (attached, Data, (StdinSource::Open, Some(AtEnd::Close))),
            (interactive, Terminal, (StdinSource::Open, Some(AtEnd::Close))),
            (interactive, Null, (StdinSource::Open, None)),
            (interactive, Data, (StdinSource::Open, Some(AtEnd::KeepOpen))),
            (asked(false, false, false), Data, (StdinSource::Null, None)),
            (asked(false, true, false), Data, (StdinSource::Open, None)),
            (asked(false, false, true), Data, (StdinSource::Given, None)),
        ];
        for (asked, ours, expected) in cases {
            assert_eq!(stdin_plan(asked, ours), expected, "{asked:?} with {ours:?}");
        }
    }

    #[test]
    fn the_shortest_timeout_is_not_none() {
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_millis(1_500)), 1_500);
        assert_eq!(milliseconds(Duration::ZERO), 0);
    }

    fn run(line: &[&str]) -> Run {
        let line = ["pyexec", "run"].iter().chain(line).map(std::ffi::OsString::from);
        match crate::args::parse(line) {
            Ok(crate::args::Cli { verb: crate::args::Verb::Run(run) }) => *run,
            other => panic!("read as {other:?}"),
        }
    }

    #[test]
    fn what_needs_uv_is_refused_without_it() {
        for (line, named) in [
            (&["--no-uv", "--with", "numpy", "x.py"][..], "--with"),
            (&["--no-uv", "--python", "3.12", "x.py"], "--python"),
            (&["--no-uv", "--with-requirements", "r.txt", "x.py"], "--with-requirements"),
            (&["--no-uv", "--auto-install", "x.py"], "--auto-install"),
            (&["--no-uv", "--environment", "n", "x.py"], "--environment"),
        ] {
            let failure = prepare(run(line), &mut OwnFiles::default()).expect_err("it makes no sense");
            assert_eq!(failure.code(), 2, "{line:?}");
            assert!(failure.to_string().contains(named), "{failure}");
            assert!(failure.hint().is_some_and(|hint| hint.contains("uv")), "{:?}", failure.hint());
        }
    }

    #[test]
    fn an_environment_that_has_a_name_is_used_as_it_was_made() {
        for option in [
            &["--with", "numpy"][..],
            &["--with-requirements", "r.txt"],
            &["--auto-install"],
            &["--python", "3.12"],
            &["--refresh"],
        ] {
            let line = [&["--environment", "n"], option, &["x.py"]].concat();
            let failure = prepare(run(&line), &mut OwnFiles::default()).expect_err("it makes no sense");
            assert_eq!(failure.code(), 2, "{line:?}");
            let said = failure.to_string();
            assert!(said.contains("--environment") && said.contains(option[0]), "{said}");
        }
    }

    #[test]
    fn stdin_carries_either_code_or_input() {
        for line in [&["-i", "-"][..], &["-d", "--stdin", "-"]] {
            assert_eq!(
                prepare(run(line), &mut OwnFiles::default()).expect_err("it makes no sense").code(),
                2,
                "{line:?}"
            );
        }
    }

    #[test]
    fn a_detached_job_carries_all_it_needs() {
        let prepared =
            prepare(run(&["-d", "-c", "print(1)", "a"]), &mut OwnFiles::default()).expect("can be submitted");
        let (spec, watching) = (prepared.submission.spec, prepared.submission.watching);
        assert_eq!(spec.source, JobSource::Code { code: "print(1)".into() });
        assert_eq!(spec.args, ["a".into()]);
        assert_eq!((spec.stdin, spec.timeout_ms, watching.waited_for), (StdinSource::Null, None, false));
        assert!(spec.directory.as_path().is_absolute());
        assert_eq!(prepared.input, None);
    }
}
