//! One job's link to its supervisor, for as long as there is one.
//!
//! It passes requests to the supervisor and tells the dispatcher what the supervisor says. When the connection ends without
//! word of the job's end, it finds out from the run directory what has become of the job ([`out_of_reach`]).

mod out_of_reach;
mod state;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use pyexec_proto::output::{OutputLengths, Stream};
use pyexec_proto::state::Run;
use pyexec_proto::{JobSpec, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::held_up::{self, Patience};
use super::spare::Supervisor;
use crate::engine::{Events, Report, RunEvent, RunHandle, RunRequest};
use crate::fault::{Point, reached};
use out_of_reach::Seen;
use pyexec_run_directory::control::{self, InputAnswer, Notice, Request};
use pyexec_run_directory::processes::Process;
use pyexec_run_directory::record::WhatEnded;
use pyexec_run_directory::segment;
pub(super) use state::{Link, Replacement};
use state::{OutputWatch, Waiting, until};

impl Link {
    pub(super) fn new(events: Events, directory: PathBuf, control_socket: PathBuf) -> (Self, RunHandle) {
        let (sender, requests) = mpsc::unbounded_channel();
        let link = Self {
            directory,
            control_socket,
            events,
            requests,
            output_watch: OutputWatch::Unwanted,
            readers: BTreeMap::new(),
            held: None,
            waiting: Vec::new(),
            sequence: 0,
            supervisor: None,
            patience: Patience::default(),
            timeout: None,
            grace: Duration::ZERO,
            kills_at: None,
            problem: None,
            requests_open: true,
            replacement: Replacement::NotNeeded,
        };
        (link, RunHandle::new(sender))
    }

    pub(super) async fn run(mut self, born: Option<(UnixStream, Vec<u8>)>, mut child: Option<Child>) {
        let mut next = match born {
            Some((stream, frame)) => Next::Connected(stream, frame),
            None => Next::Unknown,
        };
        let event = loop {
            next = match next {
                Next::Connected(stream, frame) => match self.converse(stream, frame).await {
                    Some(what) => break RunEvent::Ended(*what),
                    None => Next::Unknown,
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

    /// Passes requests and notices to and fro until the connection ends. Returns how the job ended, if the supervisor said so.
    async fn converse(&mut self, stream: UnixStream, first: Vec<u8>) -> Option<Box<WhatEnded>> {
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
        if self.output_watch == OutputWatch::Asked {
            // The supervisor was asked over another connection.
            self.output_watch = OutputWatch::Wanted;
        }
        self.ask_for_output(&outgoing);
        self.held = None;
        self.tell_hold(&outgoing);
        let mut received = Vec::new();
        let ended = loop {
            let (look_at, kill_at, is_open) = (self.patience.next_look(), self.kills_at, self.requests_open);
            tokio::select! {
                read = reader.read_buf(&mut received) => {
                    if !matches!(read, Ok(1..)) {
                        break None;
                    }
                    match self.hear(&mut received, &outgoing) {
                        Ok(None) => {}
                        Ok(Some(what)) => break Some(Box::new(what)),
                        Err(error) => {
                            tracing::warn!(job = %self.events.id, %error, "a supervisor does not make sense");
                            break None;
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
        ended
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
                    if matches!(self.replacement, Replacement::OnceStarted(_)) {
                        self.replace_spare();
                    }
                }
                Notice::Output { lengths } => {
                    self.output_watch = OutputWatch::Unwanted;
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
                    self.events.send(Report::Stalled(problem));
                }
                Notice::Ended { what, unwritten } => {
                    if let Some(problem) = unwritten {
                        tracing::error!(job = %self.events.id, %problem, "the exit record can not be written yet");
                    }
                    return Ok(Some(what));
                }
            }
        }
        self.ask_for_output(outgoing);
        Ok(None)
    }

    /// A supervisor is about to be told to start a job, or may have been by an earlier daemon.
    pub(super) fn launched(&mut self) {
        self.patience.launched(Instant::now());
    }

    /// The supervisor that this job has taken, which another is to replace when `replacement` says.
    pub(super) fn takes(&mut self, supervisor: &Supervisor, replacement: Replacement) {
        self.supervisor = supervisor.child.id().and_then(Process::find);
        self.replacement = replacement;
    }

    /// A job that cannot be started.
    pub(super) fn spawn_failed(self, why: String) {
        self.events.send(RunEvent::Ended(WhatEnded::SpawnFailed(why)));
    }

    /// What a job was given is what its supervisor is expected to keep.
    pub(super) fn expects(&mut self, spec: &JobSpec) {
        self.timeout = spec.timeout_ms.map(Duration::from_millis);
        self.grace = Duration::from_millis(spec.grace_ms);
    }

    pub(super) fn note_started(&mut self, run: &Run) {
        let age = run.started_at.age_at(Timestamp::now());
        self.patience.started(self.timeout.map(|timeout| timeout.saturating_sub(age)), self.grace, Instant::now());
    }

    pub(super) fn let_supervisor_go_on(&self) {
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
                self.want_output();
                self.ask_for_output(outgoing);
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

    fn ask_for_output(&mut self, outgoing: &mpsc::UnboundedSender<Vec<u8>>) {
        if self.output_watch == OutputWatch::Wanted {
            self.output_watch = OutputWatch::Asked;
            let lengths = *self.events.lengths.borrow();
            let _ = outgoing.send(control::encode(&Request::Watch { lengths }, &[]));
        }
    }

    fn replace_spare(&mut self) {
        match std::mem::replace(&mut self.replacement, Replacement::NotNeeded) {
            Replacement::OnceStarted(spare) | Replacement::OnceEnded(spare) => spare.provide(),
            Replacement::NotNeeded => {}
        }
    }
}

enum Next {
    Connected(UnixStream, Vec<u8>),
    Unknown,
}
