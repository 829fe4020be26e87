use super::*;
use pyexec_proto::artifact::NoArtifact;
use pyexec_proto::benchmark::BenchmarkRecord;
use pyexec_proto::error::{Named, NoInput};
use pyexec_proto::exit::ResourceUsage;
use pyexec_proto::output::OutputLengths;
use pyexec_proto::state::{ExitRecord, Run};
use pyexec_proto::{OsText, Timestamp};

fn ended(exit: ExitStatus, stopped: Option<StopReason>) -> Outcome {
    Outcome::Ended(ExitRecord {
        run: Run::of_process(4711, Timestamp(0)),
        exit,
        stopped,
        usage: ResourceUsage::default(),
        ended_at: Timestamp(2_000_000),
        elapsed_us: 2_000_000,
        output: OutputLengths::default(),
        benchmark: None,
    })
}

fn cut_short(problem: &str) -> Outcome {
    let Outcome::Ended(record) = ended(ExitStatus::Success, None) else { panic!("it ended") };
    let benchmark = BenchmarkRecord { problem: Some(problem.to_owned()), ..Default::default() };
    Outcome::Ended(ExitRecord { benchmark: Some(Box::new(benchmark)), ..record })
}

fn code(code: u8) -> ExitStatus {
    ExitStatus::Code(code.try_into().expect("not zero"))
}

fn signal(signal: i32) -> ExitStatus {
    ExitStatus::Signal { signal, core_dumped: false }
}

fn is_documented(code: Code) -> bool {
    MEANINGS.iter().any(|(codes, _)| codes.contains(&code))
}

#[test]
fn every_outcome_has_its_exit_code() {
    use StopReason::{Cancelled, CpuLimit, Killed, MemoryLimit, TimedOut};
    let cases = [
        (ended(ExitStatus::Success, None), 0),
        (ended(code(1), None), 1),
        (ended(code(255), None), 255),
        (ended(signal(9), None), 137),
        (ended(signal(11), None), 139),
        (ended(signal(64), None), 192),
        (ended(ExitStatus::Success, Some(Cancelled)), 130),
        (ended(code(3), Some(Cancelled)), 3),
        (ended(signal(15), Some(Cancelled)), 143),
        (ended(signal(9), Some(Killed)), 137),
        (ended(ExitStatus::Success, Some(TimedOut)), 124),
        (ended(signal(15), Some(TimedOut)), 124),
        (ended(signal(9), Some(MemoryLimit)), 137),
        (ended(ExitStatus::Success, Some(CpuLimit)), 1),
        (cut_short("no"), 126),
        (Outcome::NotStarted(NotStarted::Stopped(Cancelled)), 130),
        (Outcome::NotStarted(NotStarted::Stopped(Killed)), 130),
        (Outcome::NotStarted(NotStarted::Stopped(TimedOut)), 124),
        (Outcome::NotStarted(NotStarted::Environment("no".into())), 126),
        (Outcome::NotStarted(NotStarted::Spawn("no".into())), 126),
        (Outcome::Lost { last_seen: None }, 125),
    ];
    for (outcome, expected) in cases {
        assert_eq!(of_outcome(&outcome), expected, "{outcome:?}");
    }
}

#[test]
fn every_refusal_of_the_daemon_has_its_exit_code() {
    let id = JobId::mint();
    let text = String::new;
    let cases = [
        (Error::NoSuchJob { given: text() }, 127),
        (Error::BeingRemoved { id }, 127),
        (Error::OutputRemoved { id, path: OsText::default() }, 127),
        (Error::AmbiguousJob { given: text(), candidates: vec![id] }, 2),
        (Error::IdTaken { id }, 125),
        (Error::InvalidArgument { what: text(), given: text(), problem: text(), hint: text() }, 2),
        (Error::NotFound { what: Named::Script, path: OsText::default() }, 127),
        (Error::NotFound { what: Named::Directory, path: OsText::default() }, 127),
        (Error::NotFound { what: Named::SavedScript, path: OsText::default() }, 127),
        (Error::Environment { problem: text(), hint: text() }, 126),
        (Error::NoFence { fence: text(), problem: text(), hint: text() }, 126),
        (Error::Fenced { why: text() }, 125),
        (Error::OtherWorld { how: text(), by_manager: false }, 126),
        (Error::NoInput { id, why: NoInput::Closed }, 125),
        (Error::NoArtifact { id, path: OsText::default(), why: NoArtifact::Link }, 127),
        (Error::ShuttingDown, 125),
        (Error::Storage { doing: text(), problem: text() }, 125),
    ];
    for (error, expected) in cases {
        assert!(is_documented(expected), "{expected}");
        assert_eq!(Failure::from(ClientError::from(error.clone())).code(), expected, "{error:?}");
    }
}

#[test]
fn failures_of_our_own_have_their_exit_codes() {
    let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    let unreadable =
        |kind: io::ErrorKind| Failure::Unreadable { what: Named::Script, path: "x.py".into(), source: kind.into() };
    let cases = [
        (Failure::Client(ClientError::NotRunning), 125),
        (Failure::NoHome(NoHome::NotSet), 125),
        (Failure::Usage { problem: String::new(), hint: String::new() }, 2),
        (Failure::NoCurrentDirectory(full()), 127),
        (Failure::Output(broken()), 141),
        (Failure::Output(full()), 125),
        (Failure::StdinTooLarge { limit: 1 }, 125),
        (unreadable(io::ErrorKind::NotFound), 127),
        (unreadable(io::ErrorKind::IsADirectory), 125),
        (Failure::Export { path: "x.json".into(), source: full() }, 125),
        (Failure::NothingToDraw { what: "a job".into() }, 125),
        (Failure::InputBufferFull { id: JobId::mint(), taken: 1, given: 2 }, 125),
    ];
    for (failure, expected) in cases {
        assert!(is_documented(expected), "{expected}");
        assert_eq!(failure.code(), expected, "{failure:?}");
    }
}

#[test]
fn a_signal_to_us_exits_as_a_shell_would_say_it() {
    let signals = [Interruption::HangUp, Interruption::Interrupt, Interruption::Terminate];
    let codes = signals.map(of_interruption);
    assert_eq!(codes, [129, 130, 143]);
    assert!(codes.into_iter().all(is_documented));
}

#[test]
fn only_a_reader_that_left_is_not_told() {
    assert!(Failure::Output(io::ErrorKind::BrokenPipe.into()).is_silent());
    assert!(!Failure::Output(io::ErrorKind::StorageFull.into()).is_silent());
}
