//! The same checks without a fuzzer: on every seed, on seeds that are changed, and on bytes at random.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let mut directories = vec![workspace().join("fuzz/seeds").join(target)];
    if target == "progress" {
        directories.push(workspace().join("pyexecd/src/progress/recordings"));
    }
    let files = directories.iter().flat_map(|directory| std::fs::read_dir(directory).expect("can be listed"));
    let mut files: Vec<PathBuf> = files.map(|entry| entry.expect("can be listed").path()).collect();
    files.sort();
    assert!(files.len() > 3, "{target} has next to no seeds");
    files.iter().map(|file| std::fs::read(file).expect("can be read")).collect()
}

/// Of tests that were built elsewhere, where the sources are now.
fn workspace() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).parent().expect("the crate lies in the workspace").to_owned()
}

/// Something that is done to an input.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    /// The rest is that of another seed.
    GoOn(Index, Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    // What means something somewhere.
    let odd = prop::sample::select(vec![
        &b"\0"[..],
        b"\n",
        b"\r",
        b"\r\n",
        b"\x1b[A",
        b"\x1b[2K",
        b"\xff\xff\xff\xff",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\"",
        b"'",
        b"\\",
        b"${",
        b"}",
        b"${A:-",
        b"=",
        b"#",
        b"{",
        b"[",
        b"null",
        b"-1",
        b"1e999",
        b"9223372036854775807",
        b"18446744073709551615",
        b"100%",
        b"\n=== stdout.99999999999\n",
        b"\n=== exit.json -> ../exit.json\n",
        b" |",
        b"99/100",
    ]);
    let inserted = prop_oneof![odd.prop_map(<[u8]>::to_vec), prop::collection::vec(any::<u8>(), 1..9)];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<Index>(), inserted).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<Index>(), 1usize..40).prop_map(|(at, bytes)| Change::Remove(at, bytes)),
        (any::<Index>(), 1usize..40, 1usize..60).prop_map(|(at, bytes, times)| Change::Repeat(at, bytes, times)),
        (any::<Index>(), any::<Index>(), any::<Index>()).prop_map(|(at, seed, from)| Change::GoOn(at, seed, from)),
    ]
}

fn changed(mut input: Vec<u8>, change: &Change, seeds: &[Vec<u8>]) -> Vec<u8> {
    let place = |at: &Index, length: usize| at.index(length + 1);
    match change {
        Change::Set(at, byte) => {
            let at = place(at, input.len());
            input.splice(at..input.len().min(at + 1), [*byte]);
        }
        Change::Insert(at, bytes) => {
            let at = place(at, input.len());
            input.splice(at..at, bytes.iter().copied());
        }
        Change::Remove(at, bytes) => {
            let at = place(at, input.len());
            input.drain(at..input.len().min(at + bytes));
        }
        Change::Repeat(at, bytes, times) => {
            let at = place(at, input.len());
            let repeated = input[at..input.len().min(at + bytes)].repeat(*times);
            input.splice(at..at, repeated);
        }
        Change::GoOn(at, seed, from) => {
            input.truncate(place(at, input.len()));
            let other = &seeds[seed.index(seeds.len())];
            input.extend_from_slice(&other[place(from, other.len())..]);
        }
    }
    input
}

/// `check` on every seed, on `cases` changes of one, and on as many inputs at random.
fn go_through(target: &str, cases: u32, check: fn(&[u8])) {
    let seeds = seeds(target);
    for seed in &seeds {
        check(seed);
    }
    let bytes = prop::collection::vec(any::<u8>(), 0..2_000);
    let changes = (any::<Index>(), prop::collection::vec(change(), 1..8)).prop_map({
        let seeds = seeds.clone();
        move |(seed, changes)| {
            let seed = seeds[seed.index(seeds.len())].clone();
            changes.iter().fold(seed, |input, change| changed(input, change, &seeds))
        }
    });
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let inputs = prop_oneof![3 => changes, 1 => bytes];
    let checked = runner.run(&inputs.prop_map(Readable), |input| {
        check(&input.0);
        Ok(())
    });
    if let Err(problem) = checked {
        panic!("{problem}");
    }
}

/// What a failure is reported as: `b"…"`, to be put into `fuzz/seeds`.
struct Readable(Vec<u8>);

impl std::fmt::Debug for Readable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

#[test]
fn whatever_comes_over_a_socket_is_understood_or_refused() {
    go_through("wire", 1_000, super::wire::check);
}

#[test]
fn whatever_is_in_a_file_of_variables_it_is_read_line_by_line_or_refused() {
    go_through("dotenv", 2_000, super::dotenv::check);
}

#[test]
fn whatever_a_job_prints_its_progress_is_one_that_can_be() {
    go_through("progress", 100, super::progress::check);
}

#[test]
fn whatever_is_in_a_run_directory_no_outcome_is_made_up() {
    go_through("run_directory", 500, super::run_directory::check);
}

/// What is said on sockets today, under the name of its seed.
fn said() -> Vec<(&'static str, Vec<u8>)> {
    use pyexec_proto::environment::Interpreter;
    use pyexec_proto::exit::ExitStatus;
    use pyexec_proto::greeting::{Directories, Directory, Greeting};
    use pyexec_proto::job::{Leftovers, Submission};
    use pyexec_proto::output::{OutputLengths, Stream};
    use pyexec_proto::preamble::Preamble;
    use pyexec_proto::request::{FollowRequest, JobQuery};
    use pyexec_proto::service::PyexecRequest;
    use pyexec_proto::state::{ExitRecord, Run, StopReason};
    use pyexec_proto::{JobId, JobSource, JobSpec, Timestamp};
    use pyexec_run_directory::control::{self, Launch, LaunchStdin, Notice, Request};
    use pyexec_run_directory::record::WhatEnded;
    let id: JobId = "00112233-4455-4677-8899-aabbccddeeff".parse().expect("is an id");
    let submission = Submission {
        watching: Default::default(),
        id,
        spec: JobSpec::new(JobSource::Code { code: "print(1)".into() }, "/", Interpreter::System),
        environment: [("TOKEN".into(), "value".into())].into_iter().collect(),
        overrides: Default::default(),
        stdin: b"typed".to_vec(),
        env_file: None,
        autosave: None,
    };
    let call = |number: u64, message: PyexecRequest| {
        // Of tarpc's messages: the kind, a deadline of 10 s, a trace (16, 8 and 1 bytes), the number of the call.
        let head = (0u32, 10u64, 0u32, [0u8; 16], 7u64, 0u32, number);
        let options = bincode::DefaultOptions::new();
        let mut frame = bincode::Options::serialize(options, &head).expect("can be said");
        frame.extend(bincode::Options::serialize(options, &message).expect("can be said"));
        [&u32::try_from(frame.len()).expect("is short").to_be_bytes()[..], &frame].concat()
    };
    let calls = [
        call(1, PyexecRequest::Submit { submission }),
        call(2, PyexecRequest::Follow { id, request: FollowRequest::until_exit(5) }),
        call(3, PyexecRequest::List { query: JobQuery::default() }),
        call(4, PyexecRequest::TailOffset { id, stream: Stream::Stdout, lines: 10 }),
        call(5, PyexecRequest::Status {}),
    ];
    let launch = Launch {
        job: id,
        run_directory: "/j".into(),
        program: "/usr/bin/python3".into(),
        argv: vec!["python3".into(), b"\xff".to_vec().into()],
        directory: "/".into(),
        umask: 0o22,
        stdin: LaunchStdin::Null,
        timeout_ms: Some(1),
        grace_ms: 2,
        leftovers: Leftovers::End,
        leader_forwards: false,
        limits: vec![],
        nice: 0,
        control_socket: "/s".into(),
        benchmark: Some(Default::default()),
        job_limits: Default::default(),
        attached: true,
        fence: Default::default(),
        temporary_directory: None,
        has_own_group: false,
        environment_lock: None,
        group_limits_memory: false,
        taken_over: Default::default(),
    };
    let record = ExitRecord {
        run: Run::of_process(5, Timestamp(1)),
        exit: ExitStatus::Success,
        stopped: Some(StopReason::Cancelled),
        usage: Default::default(),
        ended_at: Timestamp(2),
        elapsed_us: 1,
        output: Default::default(),
        benchmark: None,
    };
    let requests = [
        control::encode(&Request::Launch(Box::new(launch)), b"TOKEN=value\0"),
        control::encode(&Request::Stop { reason: StopReason::TimedOut, grace_ms: 5 }, &[]),
        control::encode(&Request::Hold { from: Some(OutputLengths::default()) }, &[]),
    ];
    let notices = [
        control::encode(&Notice::Started { run: record.run.clone() }, &[]),
        control::encode(&Notice::Stalled { problem: Some("full".into()) }, &[]),
        control::encode(&Notice::Ended { what: WhatEnded::Run(record), unwritten: None }, &[]),
    ];
    let directory = |name: &str| Directory { path: name.into(), identity: Some((1, 2)) };
    let directories = Directories { state: directory("/home/u/.local/state/pyexec"), ..Directories::default() };
    let opening = Greeting { pid: 4711, directories }.opening(&Preamble::ours());
    vec![
        ("greeting", opening.clone()),
        ("conversation", [&opening[..], &calls.concat()].concat()),
        ("calls", calls.concat()),
        ("requests", requests.concat()),
        ("notices", notices.concat()),
    ]
}

/// After a change of what is said: `PYEXEC_WRITE_SEEDS=1 cargo test -p pyexecd seeds`.
#[test]
fn the_seeds_of_the_wire_are_what_is_said_today() {
    for (name, bytes) in said() {
        let file = workspace().join("fuzz/seeds/wire").join(name);
        if std::env::var_os("PYEXEC_WRITE_SEEDS").is_some() {
            std::fs::write(&file, &bytes).expect("can be written");
        }
        let seed = std::fs::read(&file).expect("can be read");
        // The version of the program is in the greeting, and of no matter.
        assert!(seed == bytes || name.starts_with("greeting"), "{} is of another time", file.display());
    }
    let calls = said().into_iter().find(|(name, _)| *name == "calls").expect("is there").1;
    let (understood, problem) = super::wire::calls(&calls);
    assert_eq!((understood.len(), problem.map(|problem| problem.to_string())), (5, None));
}
