//! What a submission must be before anything is made of it.

use std::path::PathBuf;

use pyexec_proto::Error;
use pyexec_proto::OsText;
use pyexec_proto::benchmark::BenchmarkSpec;
use pyexec_proto::error::Named;
use pyexec_proto::fence::FilesystemFence;
use pyexec_proto::job::{JobSource, JobSpec, Leftovers, MAX_ARGUMENT_BYTES, MAX_STDIN_BYTES, StdinSource, Submission};
use pyexec_proto::limits::Limits;
use pyexec_proto::paths::Paths;
use pyexec_proto::profile::ProfileSpec;

use crate::client_files::{ClientFiles, Deadline, Kind, Problem};

/// What of arguments and environment together the kernel takes at the least, for a stack limit of 8 MiB: a quarter of it.
const MAX_STRINGS_BYTES: usize = 2 << 20;
/// A label is for a column of a table.
const MAX_LABEL_CHARS: usize = 200;

pub fn validate(submission: &Submission) -> Result<(), Error> {
    let spec = &submission.spec;
    let directory = spec.directory.as_path();
    if !directory.is_absolute() {
        return Err(invalid("directory", &spec.directory, "it is not absolute", "send the absolute path"));
    }
    match &spec.source {
        JobSource::File { path } => {
            string("script", path)?;
        }
        // From this length on, it is run from a file.
        JobSource::Code { code } if code.as_bytes().len() < MAX_ARGUMENT_BYTES => {
            string("code", code)?;
        }
        JobSource::Module { module } => {
            string("module", module)?;
        }
        JobSource::Content { path, content } => {
            string("script", path)?;
            sent("script", content.as_bytes())?;
        }
        JobSource::Code { code } | JobSource::Stdin { code } | JobSource::Inline { code } => {
            sent("code", code.as_bytes())?;
        }
    }
    if let Some(content) = &spec.environment.requirements_content {
        sent("requirements file", content.as_bytes())?;
    }
    if let Some(label) = &spec.label
        && label.chars().count() > MAX_LABEL_CHARS
    {
        let given = OsText::from(label.chars().take(40).collect::<String>() + "…");
        return Err(invalid(
            "label",
            &given,
            &format!("it is longer than {MAX_LABEL_CHARS} characters"),
            "use a shorter one",
        ));
    }
    if let Some(wanted) = &spec.benchmark {
        benchmark(wanted, spec)?;
    }
    if let Some(wanted) = &spec.profile {
        profile(*wanted, spec)?;
    }
    limits(&spec.limits)?;
    sent("stdin", &submission.stdin)?;
    let mut strings = 0;
    for arg in &spec.args {
        strings += string("argument", arg)?;
    }
    for (name, value) in submission.environment.iter() {
        let bytes = name.len() + 1 + value.len();
        if bytes >= MAX_ARGUMENT_BYTES {
            // The value may be a secret: its name is all that is said of it.
            return Err(invalid(
                "environment variable",
                &OsText::from(name),
                &format!("it has {bytes} bytes; the kernel takes {}", MAX_ARGUMENT_BYTES - 1),
                "pass a file's name instead",
            ));
        }
        strings += bytes + 1;
    }
    if strings > MAX_STRINGS_BYTES {
        let problem = format!("they have {strings} bytes together; {MAX_STRINGS_BYTES} is the most that always works");
        return Err(invalid("arguments", &OsText::from("and environment"), &problem, "pass a file's name instead"));
    }
    Ok(())
}

/// Refuses a job whose working directory or script is not there. On a file system that does not answer nobody can know, and
/// the job is taken: it waits for that file system by itself, and can be stopped meanwhile.
pub async fn places(spec: &JobSpec, client_files: &ClientFiles, deadline: Deadline) -> Result<(), Error> {
    let directory = spec.directory.as_path();
    let script = spec.source.file();
    let looking = async {
        let mut files = client_files.open();
        if files.kind(directory).await? != Some(Kind::Directory) {
            return Ok(Err(Error::NotFound { what: Named::Directory, path: spec.directory.clone() }));
        }
        let Some(path) = script else { return Ok(Ok(())) };
        let script = directory.join(path.as_path());
        Ok(match files.kind(&script).await {
            // Python also runs a directory with a __main__.py.
            Ok(Some(Kind::Directory)) if files.kind(&script.join("__main__.py")).await? != Some(Kind::File) => {
                Err(invalid("script", path, "it is a directory without a __main__.py", "name a file in it"))
            }
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::NotFound { what: Named::Script, path: OsText::from(script) }),
            Err(Problem::Io(error)) => {
                Err(invalid("script", path, &error.to_string(), "check the path and its permissions"))
            }
            Err(problem) => return Err(problem),
        })
    };
    match deadline.bounds(looking).await {
        Ok(found) => found,
        Err(Problem::NoAnswer) => {
            tracing::warn!(job.directory = %spec.directory, "a job is taken whose files could not be looked at in time");
            Ok(())
        }
        Err(Problem::Io(_)) => Err(Error::NotFound { what: Named::Directory, path: spec.directory.clone() }),
        Err(problem) => Err(problem.refusal(Named::Directory, directory)),
    }
}

/// Refuses a fence with a hole in it. Whether there can be one is for the engine to say.
pub async fn fence(spec: &JobSpec, paths: &Paths, client_files: &ClientFiles, deadline: Deadline) -> Result<(), Error> {
    if spec.fence.filesystem != Some(FilesystemFence::Workdir) {
        return Ok(());
    }
    let refused = |why: String| Error::NoFence {
        fence: "filesystem".to_owned(),
        problem: format!("the working directory {} {why}", spec.directory),
        hint: "give the job a directory of its own".to_owned(),
    };
    let ours = [&paths.state, &paths.data, &paths.cache, &paths.config, &paths.runtime];
    let looking = async {
        let mut files = client_files.open();
        let mut real = Vec::new();
        for path in std::iter::once(spec.directory.as_path()).chain(ours.map(PathBuf::as_path)) {
            real.push(match files.canonical(path).await {
                Err(Problem::Io(_)) => path.to_owned(),
                real => real?,
            });
        }
        Ok((real.remove(0), real))
    };
    let looked = deadline.bounds(looking);
    // Not taken unseen: it could be one of ours.
    let (directory, ours) = looked.await.map_err(|problem| refused(format!("could not be looked at: {problem}")))?;
    // There a name means something else to each process, or a device.
    if ["/proc", "/sys", "/dev"].iter().any(|kernels| directory.starts_with(kernels)) {
        return Err(refused("is the kernel's".to_owned()));
    }
    // Either way: what we keep there decides what is run outside of the fence.
    let overlapping = ours.iter().find(|ours| ours.starts_with(&directory) || directory.starts_with(ours));
    match overlapping {
        Some(ours) => Err(refused(format!("overlaps {}, where pyexec keeps what it runs", ours.display()))),
        None => Ok(()),
    }
}

fn benchmark(wanted: &BenchmarkSpec, spec: &JobSpec) -> Result<(), Error> {
    let most = BenchmarkSpec::MAX_RUNS;
    let between = |what: &str, given: u64, least: u64, most: u64| {
        if (least..=most).contains(&given) {
            return Ok(());
        }
        let hint = format!("use {least} to {most}");
        Err(invalid(what, &OsText::from(given.to_string()), "it is out of range", &hint))
    };
    between("runs", wanted.runs.into(), 1, most.into())?;
    between("warm-up runs", wanted.warmup_runs.into(), 0, most.into())?;
    let interval = wanted.sample_interval_ms;
    between("sample interval in milliseconds", interval, 1, BenchmarkSpec::MAX_SAMPLE_INTERVAL_MS)?;
    if spec.stdin == StdinSource::Open && !matches!(spec.source, JobSource::Stdin { .. }) {
        let problem = "what is sent to it would be read by one run, and not by the others";
        return Err(invalid("stdin", &"open".into(), problem, "give the whole text with the submission, or none"));
    }
    if spec.leftovers == Leftovers::Keep {
        let problem = "what one run leaves behind would run during the next, and be measured with it";
        return Err(invalid("leftovers", &"keep".into(), problem, "let them be ended"));
    }
    Ok(())
}

fn limits(limits: &Limits) -> Result<(), Error> {
    let least = |what: &str, given: Option<u64>, least: u64, hint: &str| match given {
        Some(given) if given < least => {
            Err(invalid(what, &OsText::from(given.to_string()), "no Python would get by with it", hint))
        }
        _ => Ok(()),
    };
    least("memory limit in bytes", limits.memory_bytes, Limits::LEAST_MEMORY_BYTES, "give 1 MiB at the least")?;
    least("CPU limit in milliseconds", limits.cpu_ms, Limits::LEAST_CPU_MS, "give 1 ms at the least")?;
    least("limit of processes", limits.processes.map(u64::from), 1, "give 1 at the least")
}

fn profile(wanted: ProfileSpec, spec: &JobSpec) -> Result<(), Error> {
    let most = ProfileSpec::MAX_TOP;
    if !(1..=most).contains(&wanted.top) {
        let given = OsText::from(wanted.top.to_string());
        return Err(invalid("functions in a table", &given, "it is out of range", &format!("use 1 to {most}")));
    }
    if spec.benchmark.is_some() {
        let problem = "the profiler would be what is measured";
        return Err(invalid("profile", &"with a benchmark".into(), problem, "run it twice, once for each"));
    }
    Ok(())
}

/// A string that exec will be given. Returns what it takes up.
fn string(what: &str, text: &OsText) -> Result<usize, Error> {
    let bytes = text.as_bytes();
    if bytes.contains(&0) {
        let before = bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        return Err(invalid(what, &before.into(), "it has a NUL byte", "no program can be given one"));
    }
    if bytes.len() >= MAX_ARGUMENT_BYTES {
        return Err(too_long(what, bytes.len(), MAX_ARGUMENT_BYTES - 1));
    }
    Ok(bytes.len() + 1)
}

/// What a submission carries.
fn sent(what: &str, content: &[u8]) -> Result<(), Error> {
    if content.len() > MAX_STDIN_BYTES { Err(too_long(what, content.len(), MAX_STDIN_BYTES)) } else { Ok(()) }
}

fn too_long(what: &str, bytes: usize, most: usize) -> Error {
    let given = OsText::from(format!("({bytes} bytes)"));
    invalid(what, &given, &format!("{most} bytes is the most"), "put it into a file")
}

fn invalid(what: &str, given: &OsText, problem: &str, hint: &str) -> Error {
    Error::InvalidArgument {
        what: what.to_owned(),
        given: given.to_text(),
        problem: problem.to_owned(),
        hint: hint.to_owned(),
    }
}
