//! Runs jobs on this machine: a supervisor process for each, and a link to it that the daemon's death cuts and the next
//! daemon ties again.

mod held_up;
mod out_of_reach;
mod spare;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pyexec_proto::error::{Held, NoInput};
use pyexec_proto::job::{JobDetail, JobSource, StdinSource};
use pyexec_proto::limits::Limits;
use pyexec_proto::output::{OutputLengths, Stream};
use pyexec_proto::paths::Paths;
use pyexec_proto::request::InputTaken;
use pyexec_proto::state::Run;
use pyexec_proto::variables::TEMPORARY_VARIABLE;
use pyexec_proto::{JobId, JobSpec, OsText, Timestamp};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::scopes::Scopes;
use super::{Engine, Events, Order, RunEvent, RunHandle, RunRequest, control_socket};
use crate::blocking::spawn;
use crate::fault::{Point, reached};
use crate::output::segment;
use crate::own_limits;
use crate::supervisor::control::{self, InputAnswer, Launch, LaunchStdin, Notice, Request};
use crate::supervisor::peer::Own;
use crate::supervisor::processes::{self, Process, State};
use crate::supervisor::record::{self, IDENTITY, Identity, WhatEnded};
use crate::supervisor::taking_over::TakenOver;
use held_up::{Patience, Remedy};
use out_of_reach::Seen;
use spare::{Spare, Supervisor};

#[derive(Debug)]
pub struct LocalEngine {
    paths: Paths,
    spare: Spare,
    scopes: Arc<Scopes>,
    output_bytes: u64,
    own: Arc<Own>,
}

impl LocalEngine {
    /// Of a job that says nothing of it, `output_bytes` of each stream are kept.
    pub fn new(paths: Paths, scopes: Arc<Scopes>, output_bytes: u64, own: Arc<Own>) -> Self {
        let spare = Spare::new(scopes.clone(), &paths.state);
        spare.provide();
        Self { paths, spare, scopes, output_bytes, own }
    }

    /// What the job's process takes over from its submitter.
    ///
    /// # Errors
    /// It would not run where that process was: the job waited, and the daemon that took it runs no more. In words for people.
    fn taken_over(&self, order: &Order) -> Result<TakenOver, String> {
        let (timer_slack_ns, personality) = (order.spec.timer_slack_ns, order.spec.personality);
        let Some(submitter) = &order.submitter else {
            return Ok(TakenOver { timer_slack_ns, personality, ..TakenOver::default() });
        };
        let (theirs, ours) = (&submitter.world, &self.own.world);
        let not_taken_over = match self.own.otherwise_than(theirs) {
            Some(how) if theirs.is_of_an_earlier_start(ours) => {
                vec![format!(
                    "it was submitted before the machine or the container was started again: the daemon {how}"
                )]
            }
            Some(how) => {
                return Err(format!(
                    "it was submitted where the daemon, which has been restarted since, does not run: the daemon {how}; \
                     submit it again, or restart the daemon there"
                ));
            }
            None => vec![],
        };
        let differ = (theirs.group, &theirs.groups) != (ours.group, &ours.groups);
        Ok(TakenOver {
            scheduling: Some(submitter.scheduling.clone()),
            timer_slack_ns,
            personality,
            groups: (differ && self.own.may_set_groups).then(|| (theirs.group, theirs.groups.clone())),
            not_taken_over,
        })
    }

    fn link(&self, events: Events) -> (Link, RunHandle) {
        let (sender, requests) = mpsc::unbounded_channel();
        let directory = self.paths.run_directory(events.id);
        let link = Link {
            supervisor: None,
            patience: Patience::default(),
            timeout: None,
            grace: Duration::ZERO,
            kills_at: None,
            problem: None,
            requests_open: true,
            directory,
            control_socket: control_socket(&self.paths.supervisors(), events.id),
            events,
            requests,
            watched: false,
            armed: false,
            readers: BTreeMap::new(),
            held: None,
            waiting: Vec::new(),
            sequence: 0,
            to_replace: None,
            measured: false,
        };
        (link, RunHandle::new(sender))
    }

    fn launch_of(&self, order: &Order, taken_over: TakenOver) -> Launch {
        let stdin = match (&order.spec.source, order.spec.stdin) {
            (JobSource::Stdin { .. }, _) | (_, StdinSource::Given) => LaunchStdin::File,
            (_, StdinSource::Null) => LaunchStdin::Null,
            (_, StdinSource::Open) => LaunchStdin::Pipe,
        };
        Launch {
            job: order.id,
            run_directory: OsText::from(self.paths.run_directory(order.id)),
            program: order.command.program.clone(),
            argv: order.command.argv.clone(),
            directory: order.spec.directory.clone(),
            umask: order.spec.umask,
            stdin,
            timeout_ms: order.spec.timeout_ms,
            grace_ms: order.spec.grace_ms,
            leftovers: order.spec.leftovers,
            leader_forwards: order.command.leader_forwards,
            limits: order.spec.resource_limits.clone(),
            nice: order.spec.nice,
            control_socket: OsText::from(control_socket(&self.paths.supervisors(), order.id)),
            benchmark: order.spec.benchmark,
            job_limits: Limits {
                output_bytes: Some(order.spec.limits.output_bytes.unwrap_or(self.output_bytes)),
                ..order.spec.limits
            },
            attached: order.spec.attached,
            fence: order.spec.fence,
            temporary_directory: order
                .spec
                .fence
                .filesystem
                .and_then(|_| order.command.environment.get(TEMPORARY_VARIABLE))
                .map(OsText::from),
            group_limits_memory: false,
            has_own_group: false,
            environment_lock: order.environment_lock.clone(),
            taken_over,
        }
    }
}

impl Engine for LocalEngine {
    fn launch(&self, order: Order, events: Events) -> RunHandle {
        let (mut link, handle) = self.link(events);
        link.to_replace = Some(self.spare.clone());
        link.measured = order.spec.benchmark.is_some();
        link.expects(&order.spec);
        let mut launch = match self.taken_over(&order) {
            Ok(taken_over) => Box::new(self.launch_of(&order, taken_over)),
            Err(why) => {
                link.events.send(RunEvent::SpawnFailed(why));
                return handle;
            }
        };
        match self.spare.take() {
            Ok(Supervisor { child, stream, scope }) => {
                reached(Point::StartLaunched);
                link.supervisor = child.id().and_then(Process::find);
                let scopes = self.scopes.clone();
                tokio::spawn(async move {
                    // Nothing of a job runs before it is where it belongs: what is started earlier stays outside.
                    if let Some(scope) = scope.settled().await {
                        launch.has_own_group = true;
                        launch.group_limits_memory = scopes.dedicate(&scope, &order.spec, order.id).await;
                    }
                    let frame = control::encode(&Request::Launch(launch), order.command.environment.as_block());
                    link.let_supervisor_go_on();
                    link.patience.launched(Instant::now());
                    link.run(Some((stream, frame)), Some(child)).await;
                });
            }
            Err(error) => {
                let error = own_limits::explain_start(&error);
                link.events.send(RunEvent::SpawnFailed(format!("could not start a supervisor: {error}")));
            }
        }
        handle
    }

    fn adopt(&self, job: &JobDetail, events: Events) -> RunHandle {
        let (mut link, handle) = self.link(events);
        link.expects(&job.spec);
        if let Some(run) = job.state.run() {
            link.note_started(run);
        }
        link.patience.launched(Instant::now());
        tokio::spawn(link.run(None, None));
        handle
    }

    fn clear(&self, id: JobId) {
        let (directory, socket) = (self.paths.run_directory(id), control_socket(&self.paths.supervisors(), id));
        drop(spawn(move || {
            // Mostly, there is none.
            let _ = std::fs::remove_file(socket);
            if let Err(error) = record::remove_unfinished(&directory) {
                tracing::warn!(job = %id, %error, "what its supervisor left can not be removed");
            }
        }));
    }
}

/// One job's link to its supervisor, for as long as there is one.
struct Link {
    directory: PathBuf,
    control_socket: PathBuf,
    events: Events,
    requests: mpsc::UnboundedReceiver<RunRequest>,
    /// Somebody wants to know of new output.
    watched: bool,
    /// The supervisor has been told so.
    armed: bool,
    /// Where those are who read all of the output.
    readers: BTreeMap<u64, OutputLengths>,
    /// What the supervisor has been told of them.
    held: Option<OutputLengths>,
    waiting: Vec<Waiting>,
    sequence: u64,
    /// Once it is known.
    supervisor: Option<Process>,
    patience: Patience,
    /// What the job was given.
    timeout: Option<Duration>,
    grace: Duration,
    /// When the job is killed for a supervisor that could be told of the stop by signal only.
    kills_at: Option<Instant>,
    /// What people have been told of a supervisor that does not answer.
    problem: Option<String>,
    /// Somebody may still ask for something.
    requests_open: bool,
    /// This job has taken the spare supervisor. The next one is made once the job runs, not while it starts.
    to_replace: Option<Spare>,
    /// The first moments of this job are measured: the next supervisor is made when it has ended.
    measured: bool,
}

/// Input that was passed on and not answered yet.
struct Waiting {
    sequence: u64,
    answer: oneshot::Sender<Result<InputTaken, NoInput>>,
    due: Instant,
}

/// What a connection came to.
enum Cut {
    /// The supervisor said how it ended.
    Ended(Box<WhatEnded>),
    /// The connection is over, and nothing was said.
    Silent,
}

impl Link {
    async fn run(mut self, born: Option<(UnixStream, Vec<u8>)>, mut child: Option<Child>) {
        let mut next = match born {
            Some((stream, frame)) => Next::Connected(stream, frame),
            None => Next::Unknown,
        };
        let event = loop {
            next = match next {
                Next::Connected(stream, frame) => match self.converse(stream, frame).await {
                    Cut::Ended(what) => break ended(*what),
                    Cut::Silent => Next::Unknown,
                },
                Next::Unknown => match self.look(&mut child).await {
                    Seen::Reachable(stream) => Next::Connected(stream, Vec::new()),
                    Seen::Over(event) => break event,
                },
            };
        };
        self.refuse_all();
        self.events.send(event);
        self.replace_spare();
        // Takes the exit status, so that no zombie is left; the supervisor is on its way out.
        if let Some(mut child) = child {
            let _ = child.wait().await;
        }
    }

    /// Passes requests and notices to and fro until the connection ends.
    async fn converse(&mut self, stream: UnixStream, first: Vec<u8>) -> Cut {
        let (mut reader, mut writer) = stream.into_split();
        let (outgoing, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
        let launches = !first.is_empty();
        self.tell_problem(None);
        // Written by a task of its own: a supervisor that is busy with the disk must not hold up what it says.
        let writing = tokio::spawn(async move {
            while let Some(frame) = queue.recv().await {
                if writer.write_all(&frame).await.is_err() {
                    break;
                }
                if launches {
                    reached(Point::StartTold);
                }
            }
        });
        if launches {
            let _ = outgoing.send(first);
        }
        self.armed = false;
        self.arm(&outgoing);
        self.held = None;
        self.tell_hold(&outgoing);
        let mut received = Vec::new();
        let cut = loop {
            let (look_at, kill_at, is_open) = (self.patience.next_look(), self.kills_at, self.requests_open);
            tokio::select! {
                read = reader.read_buf(&mut received) => {
                    if !matches!(read, Ok(1..)) {
                        break Cut::Silent;
                    }
                    match self.hear(&mut received, &outgoing) {
                        Ok(None) => {}
                        Ok(Some(what)) => break Cut::Ended(Box::new(what)),
                        Err(error) => {
                            tracing::warn!(job = %self.events.id, %error, "a supervisor does not make sense");
                            break Cut::Silent;
                        }
                    }
                }
                request = self.requests.recv(), if is_open => match request {
                    Some(request) => self.pass_on(request, &outgoing),
                    // Nobody can ask any more, but the end is still to be seen.
                    None => self.requests_open = false,
                },
                () = until(look_at) => self.attend().await,
                () = until(kill_at) => self.kill_job().await,
            }
        };
        writing.abort();
        cut
    }

    fn hear(
        &mut self,
        received: &mut Vec<u8>,
        outgoing: &mpsc::UnboundedSender<Vec<u8>>,
    ) -> io::Result<Option<WhatEnded>> {
        while let Some((notice, _)) = control::decode::<Notice>(received)? {
            match notice {
                Notice::Started { run } => {
                    self.note_started(&run);
                    self.events.send(RunEvent::Started(run));
                    if !self.measured {
                        self.replace_spare();
                    }
                }
                Notice::Output { lengths } => {
                    self.armed = false;
                    self.watched = false;
                    self.events.lengths.send_replace(lengths);
                }
                Notice::Input { sequence, answer } => {
                    if let Some(index) = self.waiting.iter().position(|waiting| waiting.sequence == sequence) {
                        let Waiting { answer: sender, .. } = self.waiting.swap_remove(index);
                        let _ = sender.send(match answer {
                            InputAnswer::Taken(taken) => Ok(taken),
                            InputAnswer::Refused(refusal) => Err(refusal.as_no_input()),
                        });
                    }
                }
                Notice::Stalled { problem } => {
                    tracing::warn!(job = %self.events.id, ?problem, "its output can not be written, or can again");
                    self.events.send(RunEvent::Stalled(problem));
                }
                Notice::Ended { what, unwritten } => {
                    if let Some(problem) = unwritten {
                        tracing::error!(job = %self.events.id, %problem, "the exit record can not be written yet");
                    }
                    return Ok(Some(what));
                }
            }
        }
        self.arm(outgoing);
        Ok(None)
    }

    /// What a job was given is what its supervisor is expected to keep.
    fn expects(&mut self, spec: &JobSpec) {
        self.timeout = spec.timeout_ms.map(Duration::from_millis);
        self.grace = Duration::from_millis(spec.grace_ms);
    }

    fn note_started(&mut self, run: &Run) {
        let age = run.started_at.age_at(Timestamp::now());
        self.patience.started(self.timeout.map(|timeout| timeout.saturating_sub(age)), self.grace, Instant::now());
    }

    fn let_supervisor_go_on(&self) {
        if let Some(supervisor) = &self.supervisor {
            held_up::let_go_on(supervisor);
        }
    }

    fn pass_on(&mut self, request: RunRequest, outgoing: &mpsc::UnboundedSender<Vec<u8>>) {
        self.let_supervisor_go_on();
        match request {
            RunRequest::Stop { reason, grace } => {
                self.patience.told_to_stop(grace, Instant::now());
                let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
                let _ = outgoing.send(control::encode(&Request::Stop { reason, grace_ms }, &[]));
            }
            RunRequest::Input { input, answer } => {
                let sequence = self.sequence;
                self.sequence += 1;
                let pyexec_proto::request::Input { sender, offset, bytes, close, wait_ms, start_wait_ms: _ } = input;
                let due = self.patience.told_of_input(Duration::from_millis(wait_ms), Instant::now());
                self.waiting.push(Waiting { sequence, answer, due });
                let _ = outgoing
                    .send(control::encode(&Request::Input { sequence, sender, offset, close, wait_ms }, &bytes));
            }
            RunRequest::WatchOutput => {
                self.watched = true;
                self.arm(outgoing);
            }
            RunRequest::Hold { reader, from } => {
                self.note_reader(reader, from);
                self.tell_hold(outgoing);
            }
        }
    }

    /// Where the slowest of the readers is, when it has come to another segment: whole segments are what is dropped.
    fn tell_hold(&mut self, outgoing: &mpsc::UnboundedSender<Vec<u8>>) {
        let slowest = |stream| self.readers.values().map(|from| *from.get(stream)).min();
        let from = slowest(Stream::Stdout)
            .zip(slowest(Stream::Stderr))
            .map(|(stdout, stderr)| OutputLengths { stdout, stderr });
        let segments = |from: Option<OutputLengths>| {
            from.map(|from| Stream::BOTH.map(|stream| segment::number(*from.get(stream))))
        };
        if segments(from) != segments(self.held) {
            self.held = from;
            let _ = outgoing.send(control::encode(&Request::Hold { from }, &[]));
        }
    }

    fn arm(&mut self, outgoing: &mpsc::UnboundedSender<Vec<u8>>) {
        if self.watched && !self.armed {
            self.armed = true;
            let lengths = *self.events.lengths.borrow();
            let _ = outgoing.send(control::encode(&Request::Watch { lengths }, &[]));
        }
    }

    /// Looks whether the supervisor does what is expected of it, and helps it where it does not.
    async fn attend(&mut self) {
        let now = Instant::now();
        let Some(supervisor) = self.supervisor.and_then(|supervisor| supervisor.now()) else {
            // Its connection ends with it.
            self.patience.look(State::Ended, false, now);
            return;
        };
        let remedy = self.patience.look(supervisor.state, !self.waiting.is_empty(), now);
        if remedy != Remedy::Nothing {
            let _ = spawn(move || remedy.apply(&supervisor)).await;
        }
        self.tell_problem(self.patience.problem(&supervisor));
        let (pid, held) = (supervisor.pid, held_up::held(supervisor.state).unwrap_or(Held::Busy));
        let waiting = std::mem::take(&mut self.waiting);
        let (late, waiting) = waiting.into_iter().partition::<Vec<_>, _>(|waiting| waiting.due <= now);
        self.waiting = waiting;
        for Waiting { answer, .. } in late {
            let _ = answer.send(Err(NoInput::NoAnswer { pid, held }));
        }
    }

    fn tell_problem(&mut self, problem: Option<String>) {
        if self.problem != problem {
            if let Some(problem) = &problem {
                tracing::warn!(job = %self.events.id, problem, "a supervisor does not answer");
            }
            self.problem.clone_from(&problem);
            self.events.send(RunEvent::Unanswered(problem));
        }
    }

    fn note_reader(&mut self, reader: u64, from: Option<OutputLengths>) {
        match from {
            Some(from) => self.readers.insert(reader, from),
            None => self.readers.remove(&reader),
        };
    }

    fn replace_spare(&mut self) {
        if let Some(spare) = self.to_replace.take() {
            spare.provide();
        }
    }

    fn refuse_all(&mut self) {
        for Waiting { answer, .. } in self.waiting.drain(..) {
            let _ = answer.send(Err(NoInput::NotStarted));
        }
    }
}

enum Next {
    Connected(UnixStream, Vec<u8>),
    Unknown,
}

/// Returns at that moment; without one, never.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn ended(what: WhatEnded) -> RunEvent {
    match what {
        WhatEnded::Run(record) => RunEvent::Ended(record),
        WhatEnded::SpawnFailed(why) => RunEvent::SpawnFailed(why),
    }
}

/// What a run directory says about a job that may be running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// There is a record.
    Ended(WhatEnded),
    /// Somebody holds the lock; who, unless what they wrote about themselves is damaged.
    Alive(Option<Identity>),
    /// It was started, nobody holds the lock, and there is no record.
    Gone,
    /// Nobody has begun to run it.
    NeverStarted,
    /// Locked by somebody who has not said who: about to start, or about to leave.
    Undecided,
}

/// # Errors
/// When the directory can not be looked at. A file in it that is damaged says as much as that it is there: a record that
/// tells nothing is none, and a supervisor that left its name was there, whatever it was.
pub fn examine(directory: &Path) -> Result<Evidence, record::ReadError> {
    let ending = || match record::read::<record::Ending>(&directory.join(record::ENDING)) {
        Err(record::ReadError::Damaged { .. }) => Ok(None),
        read => read,
    };
    if let Some(ending) = ending()? {
        return Ok(Evidence::Ended(ending.what));
    }
    let lock =
        record::try_lock(directory).map_err(|source| record::ReadError::Io { path: directory.into(), source })?;
    let identity = match record::read::<Identity>(&directory.join(IDENTITY)) {
        Ok(identity) => identity.map(Some),
        Err(record::ReadError::Damaged { .. }) => Some(None),
        Err(error) => return Err(error),
    };
    Ok(match (lock, identity) {
        (None, Some(identity)) => Evidence::Alive(identity),
        (None, None) => Evidence::Undecided,
        (Some(_lock), Some(_)) => match ending()? {
            // The record came between the first look and the lock.
            Some(ending) => Evidence::Ended(ending.what),
            None => Evidence::Gone,
        },
        (Some(_lock), None) => Evidence::NeverStarted,
    })
}

/// Ends what a job left running whose supervisor is gone, until nothing more is found.
pub fn end_survivors(id: JobId) {
    const ROUNDS: u32 = 100;
    for _ in 0..ROUNDS {
        let survivors = processes::of_job(id);
        if survivors.is_empty() {
            return;
        }
        for process in survivors {
            if let Err(error) = process.signal(Signal::KILL) {
                tracing::warn!(job = %id, pid = process.pid, %error, "a survivor can not be ended");
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    tracing::error!(job = %id, "processes of a lost job are still there");
}
