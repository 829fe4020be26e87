//! What a run directory says, whatever a crash, a disk or the job has made of it.
//!
//! The input is text: a line `=== NAME` begins a file that is named so, and has what follows up to the next such line;
//! `=== NAME -> PATH` is a link, `=== NAME |` a pipe, `=== NAME /` a directory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use pyexec_proto::output::Stream;
use pyexec_proto::state::{Outcome, Run};
use pyexec_proto::{JobId, JobState, Timestamp};
use pyexec_view::JobView;
use rustix::fs::{FileType, Mode};

use super::Allowance;
use crate::engine::Evidence;
use crate::engine::local::examine;
use crate::jobs::recovery::{Belief, Circumstances, believe, believe_unreadable};
use pyexec_run_directory::directory::{list, outcome, outcome_of, read, same_boot, size, to_start};
use pyexec_run_directory::output;
use pyexec_run_directory::record::{ENDING, ENVIRONMENT, Ending, ReadError};

/// Values of JSON, of which a number takes two bytes, are kept as what they are. The end of the output is played.
const ALLOWANCE: Allowance =
    Allowance { held: 4 << 20, held_per_byte: 1 << 10, total: 32 << 20, total_per_byte: 256 << 10 };

/// The job, as seeds name it.
const JOB: &str = "00112233-4455-4677-8899-aabbccddeeff";
/// In a file beside the run directory, which is not the job's.
const ELSEWHERE: &str = "said elsewhere";
/// How many bytes of output are asked for.
const MOST: usize = 100;

pub fn check(input: &[u8]) {
    // A fuzzer that sees what is compared puts it into its input.
    if input.windows(ELSEWHERE.len()).any(|at| at == ELSEWHERE.as_bytes()) {
        return;
    }
    let home = tempfile::Builder::new().prefix("px-fuzz-").tempdir_in(memory()).expect("a directory");
    let jobs = home.path().join("jobs");
    let directory = jobs.join(JOB);
    std::fs::create_dir_all(&directory).expect("can be made");
    let elsewhere = [
        ("exit.json", format!(r#"{{"version":1,"spawn_failed":"{ELSEWHERE}"}}"#)),
        ("environment", format!("SAID={ELSEWHERE}\0")),
        ("stdout.0", ELSEWHERE.to_owned()),
        ("progress", format!(r#"{{"current":1,"message":"{ELSEWHERE}"}}"#)),
    ];
    for (name, text) in &elsewhere {
        std::fs::write(home.path().join(name), text).expect("can be written");
    }
    for (name, what) in sections(input).into_iter().take(64) {
        make(&directory, name, what);
    }
    ALLOWANCE.check(input, || check_directory(&jobs, &directory));
    for (name, text) in elsewhere {
        assert_eq!(std::fs::read_to_string(home.path().join(name)).expect("is there"), text, "it was written to");
    }
}

/// Where files are made fast.
fn memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

#[derive(Clone, Copy, Debug)]
enum What<'a> {
    File(&'a [u8]),
    Link(&'a [u8]),
    Pipe,
    Directory,
}

fn sections(input: &[u8]) -> Vec<(&[u8], What<'_>)> {
    const BEGIN: &[u8] = b"=== ";
    let mut found = Vec::new();
    let mut rest = input;
    while let Some(section) = rest.strip_prefix(BEGIN) {
        let end = section.windows(BEGIN.len() + 1).position(|at| at[0] == b'\n' && at[1..] == *BEGIN);
        let (section, next) = end.map_or((section, &b""[..]), |end| (&section[..end], &section[end + 1..]));
        let line = section.iter().position(|byte| *byte == b'\n').unwrap_or(section.len());
        let (head, text) = (&section[..line], section.get(line + 1..).unwrap_or_default());
        let arrow = head.windows(4).position(|at| at == b" -> ");
        found.push(match (arrow, head) {
            (Some(arrow), _) => (&head[..arrow], What::Link(&head[arrow + 4..])),
            (None, [name @ .., b' ', b'|']) => (name, What::Pipe),
            (None, [name @ .., b' ', b'/']) => (name, What::Directory),
            (None, name) => (name, What::File(text)),
        });
        rest = next;
    }
    found
}

/// A name that no file can have makes none.
fn make(directory: &Path, name: &[u8], what: What<'_>) {
    if name.contains(&b'/') || name.contains(&0) || matches!(name, b"" | b"." | b"..") {
        return;
    }
    let path = directory.join(OsStr::from_bytes(name));
    let _ = match what {
        // Not through a link that was made before.
        What::File(_) if path.symlink_metadata().is_ok() => Ok(()),
        What::File(text) => std::fs::write(path, text),
        What::Link(target) => std::os::unix::fs::symlink(OsStr::from_bytes(target), path),
        What::Pipe => {
            rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).map_err(Into::into)
        }
        What::Directory => std::fs::create_dir(path),
    };
}

fn check_directory(jobs: &Path, directory: &Path) {
    let id: JobId = JOB.parse().expect("is an id");
    assert_eq!(list(jobs).expect("can be listed").jobs, [id]);
    let ended = outcome(directory);
    match &ended {
        Ok(Some(outcome)) => check_outcome(directory, outcome),
        Ok(None) => assert!(!is_file(&directory.join(ENDING)), "there is a record"),
        Err(error) => check_error(directory, error),
    }
    match read(jobs, id) {
        Ok(Some(job)) => {
            assert_eq!(job.id, id);
            let known = match &ended {
                // A record that is damaged tells nothing.
                Err(ReadError::Damaged { .. }) => None,
                ended => ended.as_ref().expect("could be read").clone(),
            };
            assert_eq!(job.state, known.map_or(JobState::Queued, JobState::Finished));
            for now in [Timestamp::now(), Timestamp(i64::MIN), Timestamp(i64::MAX)] {
                serde_json::to_string(&JobView::of(&job, now)).expect("can be shown");
            }
        }
        Ok(None) => assert!(directory.join("spec.json").symlink_metadata().is_err(), "there is a specification"),
        Err(error) => check_error(directory, &error),
    }
    let _ = same_boot(directory);
    if let Ok(Some(starts)) = to_start(directory) {
        assert!(is_file(&directory.join(ENVIRONMENT)));
        assert!(!String::from_utf8_lossy(starts.variables.as_block()).contains(ELSEWHERE), "through a link");
    }
    check_recovery(directory);
    for stream in Stream::BOTH {
        check_output(directory, stream);
    }
    for is_finished in [false, true] {
        let progress = crate::progress::of_job(directory, is_finished);
        assert!(!format!("{progress:?}").contains(ELSEWHERE), "through a link: {progress:?}");
    }
    size(directory);
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file())
}

/// It says which file of which job.
fn check_error(directory: &Path, error: &ReadError) {
    let (ReadError::Io { path, .. } | ReadError::Damaged { path, .. }) = error;
    assert_eq!(path.parent(), Some(directory), "{error}");
    let name = path.file_name().expect("is a file").to_string_lossy();
    assert!(error.to_string().contains(JOB) && error.to_string().contains(&*name), "{error}");
}

/// How a job ended is never made up: it is in a file of the job's own, and reads the same when it is written again.
fn check_outcome(directory: &Path, outcome: &Outcome) {
    let told = if is_file(&directory.join(ENDING)) { ENDING } else { "outcome.json" };
    assert!(is_file(&directory.join(told)), "no file tells of {outcome:?}");
    assert!(!format!("{outcome:?}").contains(ELSEWHERE), "through a link: {outcome:?}");
    let again: Outcome =
        serde_json::from_slice(&serde_json::to_vec(outcome).expect("can be written")).expect("can be read");
    assert_eq!(again, *outcome);
    if told == ENDING {
        let text = std::fs::read(directory.join(ENDING)).expect("can be read");
        let ending: Ending = serde_json::from_slice(&text).expect("was read");
        let again: Ending =
            serde_json::from_slice(&serde_json::to_vec(&ending).expect("can be written")).expect("is read");
        assert_eq!(again, ending);
        assert_eq!(outcome_of(ending.what), *outcome);
    }
    let _ = (outcome.verdict(), outcome.explanation());
}

/// What the next daemon takes a job for that the index knows.
fn check_recovery(directory: &Path) {
    let run = || Run::of_process(9, Timestamp(1));
    for known in [JobState::Queued, JobState::Starting { stop: None }, JobState::Running { run: run() }] {
        let believed = match examine(directory) {
            Ok(evidence) => {
                let circumstances = Circumstances { has_environment: true, may_have_run: false };
                let believed = believe(known.clone(), evidence.clone(), circumstances);
                match (&believed, &evidence) {
                    (Belief::Finished(Outcome::Ended(record)), Evidence::Ended(what)) => {
                        assert_eq!(outcome_of((**what).clone()), Outcome::Ended(record.clone()));
                    }
                    (Belief::Finished(Outcome::Ended(record)), _) => panic!("{record:?} out of {evidence:?}"),
                    (Belief::Finished(_) | Belief::Waits | Belief::Adopt(_), _) => {}
                }
                believed
            }
            Err(error) => {
                assert!(error.to_string().contains(JOB), "{error}");
                let outcome = believe_unreadable(known.clone(), &error.to_string());
                assert!(!matches!(outcome, Outcome::Ended(_)), "{outcome:?}");
                Belief::Finished(outcome)
            }
        };
        assert!(!format!("{believed:?}").contains(ELSEWHERE), "through a link: {believed:?}");
    }
}

fn check_output(directory: &Path, stream: Stream) {
    let Ok(lengths) = output::lengths(directory) else { return };
    let length = *lengths.get(stream);
    for offset in [0, 1, length.saturating_sub(50), length, u64::MAX] {
        let Ok(chunk) = output::read(directory, stream, offset, MOST) else { continue };
        assert!(chunk.bytes.len() <= MOST && chunk.offset >= offset, "{chunk:?}");
        assert!(chunk.offset.checked_add(MOST as u64).is_some() || chunk.bytes.is_empty(), "{chunk:?}");
        assert!(!String::from_utf8_lossy(&chunk.bytes).contains(ELSEWHERE), "through a link");
    }
    for lines in [0, 1, 10] {
        if let Ok(offset) = output::tail_offset(directory, stream, lines) {
            assert!(offset <= length, "{offset} of {length}");
        }
    }
}
