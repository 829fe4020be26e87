//! Jobs that know what has to become of them, and the check that it did.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pyexec_client::{Client, ClientError, Daemon};
use pyexec_proto::error::Error;
use pyexec_proto::job::{StdinSource, Submission};
use pyexec_proto::output::PerStream;
use pyexec_proto::request::{FollowRequest, JobQuery, MAX_PAGE, StopRequest};
use pyexec_proto::state::{NotStarted, Outcome, StopReason};
use pyexec_proto::{JobDetail, JobId, JobState};
use rustix::process::Signal;

use crate::sandbox::{Process, Sandbox, send};

/// What a job does, and so what has to become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Prints a little and exits with this code.
    Exits(u8),
    /// Prints so many lines to each stream.
    Prints(u32),
    /// Says what it was given on stdin.
    Echoes,
    /// Ends by a signal of its own.
    Dies,
    /// Leaves a process in a session of its own behind.
    Leaves,
    /// Never ends by itself, and has a timeout.
    Overdue,
    /// Never ends by itself, and is stopped.
    Stopped,
    /// Never ends by itself, and its supervisor is killed.
    Orphaned,
}

/// A job that is submitted, and what it has to print if it comes to its end.
#[derive(Debug)]
pub(super) struct Promise {
    pub(super) kind: Kind,
    pub(super) submission: Submission,
    stdout: String,
    stderr: String,
}

/// The file in which a job says that it runs, once for every time.
pub(super) fn trace(sandbox: &Sandbox, tag: &str) -> PathBuf {
    sandbox.file(&format!("ran-{tag}"))
}

/// Code that adds a line with the job's id to the trace of this tag.
pub(super) fn leaves_trace(sandbox: &Sandbox, tag: &str) -> String {
    format!(
        "import os, sys, signal, time\n\
        trace = os.open({:?}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)\n\
        os.write(trace, (os.environ['PYEXEC_JOB_ID'] + '\\n').encode())\n",
        trace(sandbox, tag)
    )
}

/// Code that leaves its trace, and then does what `kind` says.
pub(super) fn code(sandbox: &Sandbox, tag: &str, kind: Kind) -> String {
    let begin = leaves_trace(sandbox, tag);
    let forever = "print('begun')\nwhile True: time.sleep(600)\n";
    begin
        + &match kind {
            Kind::Exits(code) => format!("print('out')\nprint('err', file=sys.stderr)\nsys.exit({code})\n"),
            Kind::Prints(lines) => format!(
                "for line in range({lines}):\n    print('out', line)\n    print('err', line, file=sys.stderr)\n"
            ),
            Kind::Echoes => "sys.stdout.write(sys.stdin.read())\n".to_owned(),
            Kind::Dies => "print('out', flush=True)\nos.kill(os.getpid(), signal.SIGSEGV)\n".to_owned(),
            Kind::Leaves => "print('out', flush=True)\n\
                if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(600)\n    os._exit(0)\nos.wait()\n"
                .to_owned(),
            Kind::Overdue | Kind::Stopped | Kind::Orphaned => forever.to_owned(),
        }
}

/// What it prints if nothing ends it before it ends itself.
pub(super) fn printed(kind: Kind, stdin: &str) -> (String, String) {
    let lines = |word: &str, count: u32| (0..count).map(|line| format!("{word} {line}\n")).collect();
    match kind {
        Kind::Exits(_) => ("out\n".to_owned(), "err\n".to_owned()),
        Kind::Prints(count) => (lines("out", count), lines("err", count)),
        Kind::Echoes => (stdin.to_owned(), String::new()),
        Kind::Dies | Kind::Leaves => ("out\n".to_owned(), String::new()),
        Kind::Overdue | Kind::Stopped | Kind::Orphaned => ("begun\n".to_owned(), String::new()),
    }
}

impl Promise {
    pub(super) fn new(sandbox: &Sandbox, kind: Kind) -> Self {
        let mut submission = sandbox.submission("");
        let text = code(sandbox, &submission.id.to_string(), kind);
        submission.spec.source = pyexec_proto::JobSource::Code { code: text.into() };
        let stdin = format!("given to {}\n", submission.id);
        if kind == Kind::Echoes {
            submission.spec.stdin = StdinSource::Given;
            submission.stdin = stdin.clone().into_bytes();
        }
        if kind == Kind::Overdue {
            submission.spec.timeout_ms = Some(300);
        }
        let (stdout, stderr) = printed(kind, &stdin);
        Self { kind, submission, stdout, stderr }
    }

    pub(super) fn id(&self) -> JobId {
        self.submission.id
    }

    /// Submits it, brings about the end it is to have, and sees it end; through however many daemons.
    pub(super) async fn play(&self, sandbox: &Sandbox, client: &Client) {
        insist(async || client.submit(self.submission.clone()).await).await;
        match self.kind {
            Kind::Stopped => self.stop(client).await,
            Kind::Orphaned => kill_supervisor(sandbox, self.id()).await,
            Kind::Exits(_) | Kind::Prints(_) | Kind::Echoes | Kind::Dies | Kind::Leaves | Kind::Overdue => {}
        }
        let job = insist(async || client.wait(self.id()).await).await;
        self.check(sandbox, client, &job).await;
    }

    pub(super) async fn stop(&self, client: &Client) {
        let request = StopRequest { now: false, grace_ms: None };
        insist(async || client.stop(self.id(), request).await).await;
    }

    /// What has become of it is what had to.
    pub(super) async fn check(&self, sandbox: &Sandbox, client: &Client, job: &JobDetail) {
        let JobState::Finished(outcome) = &job.state else { panic!("it has not finished: {job:?}") };
        let (exit, stopped) = match outcome {
            Outcome::Ended(record) => (Some(record.exit.returncode()), record.stopped),
            Outcome::NotStarted(NotStarted::Stopped(reason)) => (None, Some(*reason)),
            Outcome::NotStarted(_) | Outcome::Lost { .. } => (None, None),
        };
        let by_itself = match self.kind {
            Kind::Exits(code) => Some(i32::from(code)),
            Kind::Prints(_) | Kind::Echoes | Kind::Leaves => Some(0),
            Kind::Dies => Some(-Signal::SEGV.as_raw()),
            Kind::Overdue | Kind::Stopped | Kind::Orphaned => None,
        };
        let fits = match self.kind {
            Kind::Overdue => exit.is_some() && stopped == Some(StopReason::TimedOut),
            Kind::Stopped => stopped == Some(StopReason::Cancelled),
            Kind::Orphaned => matches!(outcome, Outcome::Lost { .. }),
            Kind::Exits(_) | Kind::Prints(_) | Kind::Echoes | Kind::Dies | Kind::Leaves => {
                exit == by_itself && stopped.is_none()
            }
        };
        assert!(fits, "{:?} has become {outcome:?}", self.kind);
        let runs = ids_in(&trace(sandbox, &self.id().to_string()));
        assert!(runs.len() <= 1, "it ran {} times: {job:?}", runs.len());
        let output = read_all(client, self.id()).await;
        if by_itself.is_some() {
            assert_eq!(runs, [self.id().to_string()], "it is said to have ended, and has not run: {job:?}");
            assert!(output.stdout == self.stdout && output.stderr == self.stderr, "{:?}: {output:?}", self.kind);
        } else {
            let whole = self.stdout.starts_with(&output.stdout) && self.stderr.starts_with(&output.stderr);
            assert!(whole, "{:?}: {output:?}", self.kind);
        }
    }
}

/// Which jobs have left this trace.
pub(super) fn ids_in(trace: &Path) -> Vec<String> {
    std::fs::read_to_string(trace).unwrap_or_default().lines().map(str::to_owned).collect()
}

pub(super) fn has_run(sandbox: &Sandbox, tag: &str) -> bool {
    trace(sandbox, tag).exists()
}

/// The one job that left a trace under this tag.
pub(super) fn id_of(sandbox: &Sandbox, tag: &str) -> JobId {
    match ids_in(&trace(sandbox, tag)).as_slice() {
        [id] => id.parse().expect("is an id"),
        other => panic!("{tag} ran as {other:?}"),
    }
}

/// Again and again while there is no daemon, or one that goes away under the call.
pub(super) async fn insist<T>(call: impl AsyncFn() -> Result<T, ClientError>) -> T {
    loop {
        let error = match call().await {
            Ok(answer) => return answer,
            // Sent again, it is the same job.
            Err(ClientError::Unanswered { source, .. }) => *source,
            Err(error) => error,
        };
        let is_between_daemons = matches!(
            error,
            ClientError::NotRunning
                | ClientError::Broken { .. }
                | ClientError::Preamble { .. }
                | ClientError::Refused(Error::ShuttingDown)
        );
        assert!(is_between_daemons, "{error}: {error:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A client that never starts a daemon, once there is one to connect to.
pub(super) async fn connect(sandbox: &Sandbox) -> Client {
    insist(async || Client::connect(sandbox.paths(), Daemon::MustRun).await).await
}

pub(super) async fn read_all(client: &Client, id: JobId) -> PerStream<String> {
    let mut whole: PerStream<Vec<u8>> = PerStream { stdout: vec![], stderr: vec![] };
    loop {
        let at = |bytes: &Vec<u8>| Some(bytes.len() as u64);
        let request = FollowRequest {
            cursors: PerStream { stdout: at(&whole.stdout), stderr: at(&whole.stderr) },
            max_bytes: 1 << 20,
            wait_ms: 0,
            attached: false,
        };
        let read = insist(async || client.follow(id, &request).await).await;
        whole.stdout.extend_from_slice(&read.output.stdout.bytes);
        whole.stderr.extend_from_slice(&read.output.stderr.bytes);
        if read.finished.is_some() {
            let text = |bytes| String::from_utf8(bytes).expect("was text");
            return PerStream { stdout: text(whole.stdout), stderr: text(whole.stderr) };
        }
    }
}

/// As soon as it has said who it is: the job may be about to start, or run.
pub(super) async fn kill_supervisor(sandbox: &Sandbox, id: JobId) {
    let identity = sandbox.run_directory(&id.to_string()).join("supervisor.json");
    let pid = loop {
        let read = std::fs::read(&identity).ok();
        if let Some(identity) = read.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok()) {
            break crate::sandbox::pid_of(&identity["pid"]);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    send(pid, Signal::KILL);
}

/// All jobs there are, by id, with how often each is listed.
pub(super) async fn listed(client: &Client) -> BTreeMap<JobId, usize> {
    let mut found = BTreeMap::new();
    let mut query = JobQuery { limit: MAX_PAGE, ..JobQuery::default() };
    loop {
        let page = insist(async || client.list(&query).await).await;
        for job in page.jobs {
            *found.entry(job.id).or_default() += 1;
        }
        match page.next {
            Some(next) => query.page = Some(next),
            None => return found,
        }
    }
}

/// The invariant, when all has come to rest: what was promised holds, also of jobs that ended long ago; `others` are jobs
/// that were checked elsewhere, `perhaps` such as were not acknowledged; and nothing else is there, in the index or on disk.
pub(super) async fn verify(sandbox: &Sandbox, promises: &[Promise], others: &[JobId], perhaps: &[JobId]) {
    let client = connect(sandbox).await;
    let listed = listed(&client).await;
    let expected: BTreeSet<JobId> = promises.iter().map(Promise::id).chain(others.iter().copied()).collect();
    let twice: Vec<_> = listed.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "listed more than once: {twice:?}");
    let there: BTreeSet<JobId> = listed.into_keys().collect();
    let missing: Vec<_> = expected.difference(&there).collect();
    let invented: Vec<_> = there.difference(&expected).filter(|id| !perhaps.contains(id)).collect();
    assert!(missing.is_empty() && invented.is_empty(), "missing: {missing:?}, invented: {invented:?}");
    for id in perhaps.iter().filter(|id| there.contains(id)) {
        insist(async || client.wait(*id).await).await;
    }
    for promise in promises {
        let job = insist(async || client.show(promise.id()).await).await;
        promise.check(sandbox, &client, &job).await;
    }
    drop(client);
    assert_nothing_is_left(sandbox, &there);
}

/// Beyond the jobs themselves: no secret, no temporary file, no socket, no process.
pub(super) fn assert_nothing_is_left(sandbox: &Sandbox, jobs: &BTreeSet<JobId>) {
    sandbox.wait_until("nothing is left but a daemon and its spare", || {
        let left = sandbox.processes();
        let daemons: Vec<u32> = sandbox.daemons().iter().map(|daemon| daemon.pid).collect();
        let is_spare = |process: &Process| process.is_spare();
        let others: Vec<String> = left
            .iter()
            .filter(|process| !daemons.contains(&process.pid) && !is_spare(process) && !process.is_looker())
            .map(ToString::to_string)
            .collect();
        let spares = left.iter().filter(|process| is_spare(process)).count();
        if others.is_empty() && spares <= 1 && daemons.len() <= 1 {
            Ok(())
        } else {
            Err(format!("{} daemons, {spares} spares, {others:?}", daemons.len()))
        }
    });
    sandbox.wait_until("only what belongs to finished jobs is on disk", || {
        let names = |directory: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let mut left: Vec<String> = names(&sandbox.paths().supervisors());
        let of_jobs: BTreeSet<String> = jobs.iter().map(ToString::to_string).collect();
        for name in names(&sandbox.paths().jobs()) {
            if !of_jobs.contains(&name) {
                left.push(name);
                continue;
            }
            let is_temporary = |file: &String| file == "environment" || file == "stdin" || file.ends_with(".tmp");
            let files = names(&sandbox.run_directory(&name));
            left.extend(files.into_iter().filter(is_temporary).map(|file| format!("{name}/{file}")));
        }
        left.extend(
            names(&sandbox.paths().cache.join("environments")).into_iter().filter(|name| name.starts_with('.')),
        );
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    for id in jobs {
        let lock = sandbox.run_directory(&id.to_string()).join("lock");
        if let Ok(file) = std::fs::File::open(&lock) {
            let taken = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
            assert!(taken.is_ok(), "{} is held", lock.display());
        }
    }
}
