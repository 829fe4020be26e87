//! From the start of the job to its exit record: one loop over everything that can happen.
//!
//! The job ends in up to three steps. Its own process, the leader, exits or is made to. What it left running is ended
//! the same way: TERM, grace, KILL, until no child is left to reap. Then the pipes hold all there will ever be; they are
//! emptied, and the record is written; or, of a benchmark, the next run begins.

mod conversation;
mod ending;
mod sequence;
mod start;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use pyexec_proto::exit::{ExitStatus, ResourceUsage};
use pyexec_proto::job::Leftovers;
use pyexec_proto::limits::OnOutputLimit;
use pyexec_proto::output::{OutputLengths, Stream};
use pyexec_proto::state::{ExitRecord, Handle, Run, StopReason};
use pyexec_proto::ulimit;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::benchmark::{Benchmark, micros};
use super::clock::{Clocks, Timer};
use super::connection::{Connection, Door};
use super::control_group::{CpuMeter, LimitedGroup};
use super::input::Input;
use super::ledger::Unwaited;
use super::limits::Watch;
use super::process::{SignalDescriptor, Starting};
use super::pump::{Pump, Pumped};
use super::starter::{Named, Started};
use super::taking_over::{Given, Inherited};
use crate::own_limits;
use pyexec_run_directory::control::{Launch, Notice};
use pyexec_run_directory::processes;
use pyexec_run_directory::record::{Ending, ReservedRecord, WhatEnded};

/// How long to wait before a full disk is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long a job waits for a reader who has said nothing yet, or whose daemon has died.
const HOLD_PATIENCE: Duration = Duration::from_secs(30);

/// How the leader ended.
#[derive(Clone, Copy, Debug)]
struct LeaderExit {
    exit: ExitStatus,
    at: Clocks,
    /// What had been asked for by then. A stop that came too late does not rewrite how the job ended.
    stopped: Option<StopReason>,
}

/// Where the ending of processes has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    NotAsked,
    /// TERM was sent; KILL follows then, on the monotonic clock.
    Terminating {
        kill_at: Duration,
    },
    /// Everything that is found is killed, again whenever something ends.
    Killing,
}

pub(super) struct Supervision {
    run: Run,
    /// What the job's process has of its submitter's.
    given: Given,
    /// The process of this run has been forked, and has not become the program yet.
    starting: Option<(Starting, Named)>,
    /// Why it could not.
    unstarted: Option<String>,
    /// Of a benchmark: the run before this one.
    before: Option<(Run, LeaderExit)>,
    /// Of a benchmark, the first run.
    started: Clocks,
    grace: Duration,
    leftovers: Leftovers,
    leader_forwards: bool,
    times_out_at: Option<Duration>,
    stop: Option<StopReason>,
    ended: Ended,
    leader: Option<LeaderExit>,
    /// The leader has ended well, and another run is to follow once what it left behind is gone.
    goes_on: bool,
    /// wait4 has said that no child is left.
    childless: bool,
    /// What is left can not be signalled: it has become another user's.
    beyond_reach: bool,
    usage: ResourceUsage,
    pumps: [Pump; 2],
    hold: Option<Hold>,
    /// Beyond it, of either stream, the job is ended.
    output_limit: Option<u64>,
    stalled: Option<Stall>,
    /// Somebody wants it gone now: what can not be written is not waited for.
    forgoes_output: bool,
    input: Input,
    signals: SignalDescriptor,
    timer: Timer,
    door: Door,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    record: ReservedRecord,
    benchmark: Option<Benchmark>,
    limits: Option<Watch>,
    /// Where the kernel holds the job to its memory limit, too.
    group: Option<LimitedGroup>,
    /// Where it counts the job's CPU time.
    meter: Option<CpuMeter>,
    /// What processes used, as far as it was seen, that nobody has waited for.
    unwaited: Duration,
}

/// Somebody reads all of the output, and is so far with it: nothing behind that is dropped.
#[derive(Clone, Copy, Debug)]
struct Hold {
    from: OutputLengths,
    /// The connection on which it was said, while there is one.
    by: Option<u64>,
    /// On the monotonic clock: if nothing more is heard by then, nobody reads.
    until: Option<Duration>,
}

/// The log can not be written. The job waits on its pipe, and nothing is lost.
#[derive(Debug)]
struct Stall {
    problem: String,
    retry_at: Duration,
    /// The run directory itself has been taken away: waiting will not bring it back.
    hopeless: bool,
}

/// What woke the loop.
#[derive(Clone, Copy, Debug)]
enum Source {
    Signals,
    Start,
    Timer,
    Door,
    Input,
    Output(usize),
    Connection(u64),
}

impl Supervision {
    #[expect(clippy::too_many_arguments, reason = "each is handed over once, by the one caller")]
    pub(super) fn new(
        launch: &Launch,
        inherited: &Inherited,
        started: Started,
        benchmark: Option<Benchmark>,
        signals: SignalDescriptor,
        record: ReservedRecord,
        daemon: Connection,
        door: Door,
    ) -> io::Result<Self> {
        let most_bytes = launch.job_limits.output_bytes.unwrap_or(u64::MAX);
        let mut this = Self {
            run: Run {
                handle: Handle::Process(started.process.pid()),
                started_at: started.at.wall,
                lowered_limits: ulimit::lowered(&launch.limits, &inherited.limits),
                not_taken_over: vec![],
            },
            given: Given::new(launch, inherited),
            starting: Some((started.process, started.named)),
            unstarted: None,
            before: None,
            started: started.at,
            grace: Duration::from_millis(launch.grace_ms),
            leftovers: launch.leftovers,
            leader_forwards: launch.leader_forwards,
            times_out_at: launch.timeout_ms.map(|ms| started.at.monotonic + Duration::from_millis(ms)),
            stop: None,
            ended: Ended::NotAsked,
            leader: None,
            goes_on: false,
            childless: false,
            beyond_reach: false,
            usage: ResourceUsage::default(),
            pumps: [
                Pump::new(Stream::Stdout, started.stdout, most_bytes),
                Pump::new(Stream::Stderr, started.stderr, most_bytes),
            ],
            hold: None,
            output_limit: (launch.job_limits.on_output_limit == OnOutputLimit::Stop).then_some(most_bytes),
            stalled: None,
            forgoes_output: false,
            input: Input::new(started.input),
            signals,
            timer: Timer::new()?,
            door,
            connections: BTreeMap::new(),
            next_connection: 0,
            record,
            benchmark,
            limits: Watch::new(launch.job_limits, started.at),
            group: None,
            meter: None,
            unwaited: Duration::ZERO,
        };
        if launch.attached {
            let all = OutputLengths { stdout: 0, stderr: 0 };
            this.hold(Some(Hold { from: all, by: None, until: Some(started.at.monotonic + HOLD_PATIENCE) }));
        }
        this.welcome(daemon);
        Ok(this)
    }

    pub(super) fn in_group(self, group: Option<LimitedGroup>, meter: Option<CpuMeter>) -> Self {
        Self { group, meter, ..self }
    }

    /// Until the job has ended and its record is written.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            while !self.is_over() {
                for source in self.wait(None)? {
                    self.serve(source);
                }
                self.pass_time();
            }
            if let Some(why) = self.unstarted.take() {
                return self.finish_unstarted(why);
            }
            self.note_run();
            if !self.starts_again()? {
                return self.finish();
            }
        }
    }

    fn is_over(&self) -> bool {
        if self.unstarted.is_some() {
            return true;
        }
        if self.leader.is_none() {
            return false;
        }
        let let_go = self.leftovers == Leftovers::Keep && self.ended == Ended::NotAsked;
        if !(self.childless || let_go || self.only_spared_are_left()) {
            return false;
        }
        if let Some(stall) = &self.stalled {
            return stall.hopeless || self.forgoes_output;
        }
        self.pumps.iter().all(|pump| pump.pipe().is_none() || self.has_drained(pump))
    }

    /// What is left is a daemon that the job started, or a process that is not ours to end.
    fn only_spared_are_left(&self) -> bool {
        self.ended == Ended::Killing && (self.beyond_reach || processes::descendants_of(std::process::id()).is_empty())
    }

    /// With every process of the job gone, or let go, an empty pipe will stay empty, whoever else may hold it.
    fn has_drained(&self, pump: &Pump) -> bool {
        pump.pipe().is_none_or(|pipe| matches!(rustix::io::ioctl_fionread(pipe), Ok(0) | Err(_)))
    }

    /// Blocks until something has happened, or for so long. No interval, no tick: an idle job that is not measured costs
    /// nothing.
    fn wait(&mut self, at_most: Option<&Timespec>) -> io::Result<Vec<Source>> {
        self.timer.set(self.next_deadline())?;
        let mut sources = vec![(Source::Signals, PollFd::new(&self.signals, PollFlags::IN))];
        if let Some((process, _)) = &self.starting {
            sources.push((Source::Start, PollFd::new(process, PollFlags::IN)));
        }
        sources.push((Source::Timer, PollFd::new(&self.timer, PollFlags::IN)));
        if let Some(listener) = self.door.listener() {
            sources.push((Source::Door, PollFd::new(listener, PollFlags::IN)));
        }
        if let Some((pipe, wants_room)) = self.input.pipe() {
            // With nothing to write only the other end's closing is reported.
            let events = if wants_room { PollFlags::OUT } else { PollFlags::empty() };
            sources.push((Source::Input, PollFd::new(pipe, events)));
        }
        if self.stalled.is_none() {
            for (index, pump) in self.pumps.iter().enumerate() {
                if let Some(pipe) = pump.pipe().filter(|_| !pump.waits()) {
                    sources.push((Source::Output(index), PollFd::new(pipe, PollFlags::IN)));
                }
            }
        }
        for (number, connection) in &self.connections {
            let events = if connection.has_unsent() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            sources.push((Source::Connection(*number), PollFd::new(connection.stream(), events)));
        }
        let (names, mut polled): (Vec<Source>, Vec<PollFd<'_>>) = sources.into_iter().unzip();
        match poll(&mut polled, at_most) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        let ready = names.into_iter().zip(&polled).filter(|(_, polled)| !polled.revents().is_empty());
        Ok(ready.map(|(source, _)| source).collect())
    }

    fn serve(&mut self, source: Source) {
        match source {
            Source::Signals => self.read_signals(),
            Source::Start => self.conclude_start(),
            Source::Timer => self.timer.acknowledge(),
            Source::Door => {
                if let Some(connection) = self.door.accept() {
                    self.welcome(connection);
                }
            }
            Source::Input => {
                let broken = self.input.pipe().is_some_and(|(pipe, _)| is_broken(pipe));
                if broken {
                    self.input.closed_by_job();
                } else {
                    self.input.feed();
                }
                self.answer_waiting_input();
            }
            Source::Output(index) => self.pump(index),
            Source::Connection(number) => {
                if self.converse(number).is_err() {
                    self.connections.remove(&number);
                }
            }
        }
    }

    /// The earliest moment at which something is to be done without anything having happened.
    fn next_deadline(&self) -> Option<Duration> {
        let kill_at = match self.ended {
            Ended::Terminating { kill_at } => Some(kill_at),
            Ended::NotAsked | Ended::Killing => None,
        };
        let retry_at = self.stalled.as_ref().map(|stall| stall.retry_at);
        let input = self.connections.values().flat_map(|connection| &connection.waiting).map(|waiting| waiting.until);
        let look = self.benchmark.as_ref().and_then(Benchmark::next_look);
        let limits = self.limits.as_ref().map(Watch::next_look);
        let hold = self.hold.and_then(|hold| hold.until);
        let unfinished = self.connections.values().filter_map(Connection::due);
        let limits = limits.into_iter().chain(hold).chain(unfinished);
        self.times_out_at.into_iter().chain(kill_at).chain(retry_at).chain(input).chain(look).chain(limits).min()
    }

    fn pass_time(&mut self) {
        let now = Clocks::now().monotonic;
        if self.times_out_at.is_some_and(|at| at <= now) {
            self.times_out_at = None;
            self.stop(StopReason::TimedOut, self.grace);
        }
        if matches!(self.ended, Ended::Terminating { kill_at } if kill_at <= now) {
            self.kill();
        }
        if self.stalled.as_ref().is_some_and(|stall| stall.retry_at <= now) {
            self.retry_output();
        }
        if self.connections.values().any(|connection| connection.waiting.iter().any(|waiting| waiting.until <= now)) {
            self.answer_waiting_input();
        }
        self.connections.retain(|_, connection| connection.due().is_none_or(|due| due > now));
        self.pass_hold_on(now);
        if let Some(limits) = &mut self.limits
            && limits.next_look() <= now
            && let Some(reason) = limits.look(&self.usage, self.meter.as_ref())
        {
            self.end_beyond_limit(reason);
        }
        if let Some(benchmark) = &mut self.benchmark
            && benchmark.next_look().is_some_and(|at| at <= now)
            && benchmark.look()
        {
            self.tell_all(&Notice::Started { run: self.run.clone() });
        }
    }

    // Output.

    fn pump(&mut self, index: usize) {
        match self.pumps[index].turn() {
            Ok(Pumped::More | Pumped::Empty | Pumped::Closed | Pumped::Waits) => {}
            Err(error) if Stall::of(&error).hopeless => {
                // Its log has been taken away. The job goes on, and what it prints from here on is nobody's.
                self.pumps.iter_mut().for_each(Pump::discard);
                self.tell_all(&Notice::Stalled { problem: Some(format!("its output is lost: {error}")) });
            }
            Err(error) => self.stall(&error),
        }
        self.tell_watchers();
        if self.output_limit.is_some_and(|most| self.pumps[index].length() > most) {
            self.output_limit = None;
            // What it says from here on is beyond what was to be kept.
            self.pumps.iter_mut().for_each(Pump::discard);
            self.end_beyond_limit(StopReason::OutputLimit);
        }
    }

    fn hold(&mut self, hold: Option<Hold>) {
        self.hold = hold;
        for (stream, pump) in Stream::BOTH.into_iter().zip(&mut self.pumps) {
            pump.hold(hold.map(|hold| *hold.from.get(stream)));
        }
    }

    /// A reader whose daemon has died comes back through the next one, or has gone.
    fn pass_hold_on(&mut self, now: Duration) {
        let Some(hold) = self.hold else { return };
        if hold.until.is_some_and(|until| until <= now) {
            self.hold(None);
        } else if hold.by.is_some_and(|by| !self.connections.contains_key(&by)) {
            self.hold = Some(Hold { by: None, until: Some(now + HOLD_PATIENCE), ..hold });
        }
    }

    fn stall(&mut self, error: &io::Error) {
        let first = self.stalled.is_none();
        let stall = Stall::of(error);
        let problem = stall.problem.clone();
        self.stalled = Some(stall);
        if first {
            self.tell_all(&Notice::Stalled { problem: Some(problem) });
        }
    }

    fn retry_output(&mut self) {
        for index in 0..self.pumps.len() {
            if let Err(error) = self.pumps[index].turn() {
                self.stall(&error);
                return;
            }
        }
        self.stalled = None;
        self.tell_all(&Notice::Stalled { problem: None });
        self.tell_watchers();
    }

    fn lengths(&self) -> OutputLengths {
        OutputLengths { stdout: self.pumps[0].length(), stderr: self.pumps[1].length() }
    }

    // The end.

    fn finish(mut self) -> io::Result<()> {
        for index in 0..self.pumps.len() {
            self.pumps[index].close();
        }
        let leader = self.leader.expect("the loop ends after the leader");
        self.count_unwaited();
        let record = ExitRecord {
            run: self.run.clone(),
            exit: leader.exit,
            stopped: leader.stopped,
            usage: self.usage,
            ended_at: leader.at.wall,
            elapsed_us: micros(leader.at.monotonic.saturating_sub(self.started.monotonic)),
            output: self.lengths(),
            benchmark: self.benchmark.take().map(|measured| Box::new(measured.into_record(self.given.conditions()))),
        };
        let what = WhatEnded::Run(record);
        let ending = Ending::from(what.clone());
        // Told at once, also when it can not be written; then tried for as long as it takes.
        let mut failed = self.record.write(&ending).err();
        let unwritten = failed.as_ref().map(io::Error::to_string);
        self.tell_all(&Notice::Ended { what: what.clone(), unwritten });
        while let Some(error) = failed {
            let stall = Stall::of(&error);
            if stall.hopeless {
                break;
            }
            self.wait_to_retry(&what, stall)?;
            failed = self.record.write(&ending).err();
        }
        self.flush_all();
        Ok(())
    }

    /// Adds to what was reaped what nobody has waited for. Of a benchmark, that has been done run by run.
    fn count_unwaited(&mut self) {
        if self.benchmark.is_some() {
            return;
        }
        let seen = self.limits.as_mut().map_or(self.unwaited, |limits| limits.unwaited(&self.usage, self.childless));
        let metered = self.meter.as_ref().and_then(CpuMeter::used);
        let reaped = Duration::from_micros(self.usage.waited_cpu_us());
        Unwaited::of(metered, seen, reaped).add_to(&mut self.usage);
    }

    /// Answers those who ask until it is time to try again, with a record that can not be written yet.
    fn wait_to_retry(&mut self, what: &WhatEnded, stall: Stall) -> io::Result<()> {
        let (until, unwritten) = (stall.retry_at, Some(stall.problem.clone()));
        self.times_out_at = None;
        self.ended = Ended::Killing;
        self.stalled = Some(stall);
        while Clocks::now().monotonic < until {
            for source in self.wait(None)? {
                let connections_before = self.next_connection;
                self.serve(source);
                if self.next_connection > connections_before {
                    self.tell_all(&Notice::Ended { what: what.clone(), unwritten: unwritten.clone() });
                }
            }
        }
        Ok(())
    }
}

impl Stall {
    fn of(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied {
            // A job may change the mode of its run directory. It is ours: by this name even what may not be entered.
            let _ = rustix::fs::chmod("/proc/self/cwd", rustix::fs::Mode::RWXU);
        }
        let hopeless = error.kind() == io::ErrorKind::NotFound;
        Self {
            problem: own_limits::explain(error).unwrap_or_else(|| error.to_string()),
            retry_at: Clocks::now().monotonic + RETRY,
            hopeless,
        }
    }
}

/// The reader of this pipe has gone.
fn is_broken(pipe: &std::os::fd::OwnedFd) -> bool {
    let mut watched = [PollFd::new(pipe, PollFlags::empty())];
    let _ = poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    watched[0].revents().contains(PollFlags::ERR)
}
