//! Supervisors that are kept from answering: stopped by a signal, which their own job may send, held by a debugger, or
//! waiting for a disk. Whoever speaks to one lets it go on before, looks again after a while whether it does, and in the
//! end does without it.
//!
//! How the job ended is still the supervisor's to record. It is killed only when it has been stopped over and over while
//! its job was to end: then nobody knows how the job ended, and it is lost.

use std::time::Duration;

use pyexec_proto::error::Held;
use rustix::process::Signal;
use tokio::time::Instant;

use pyexec_run_directory::processes::{self, Process, State};

/// How soon to look whether a supervisor does what it was told.
const FIRST_LOOK: Duration = Duration::from_millis(250);
/// Looks become less frequent until they are so far apart.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How much longer than it was given a job that is to end may take, until it is ended without its supervisor.
const OVERTIME: Duration = Duration::from_secs(5);
/// How long a supervisor may take to say that the job runs before it is looked at.
const START: Duration = Duration::from_secs(5);
/// How much longer than the sender wanted to wait an answer to input may take.
const ANSWER: Duration = Duration::from_secs(3);
/// No wait is longer: clients name any number, and a moment has to be representable.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How often a supervisor is let go on before it is given up.
const ATTEMPTS: u32 = 4;

/// What a supervisor is expected to do, and when to look whether it has.
#[derive(Debug, Default)]
pub(super) struct Patience {
    next_look: Option<Instant>,
    pause: Duration,
    /// The job is to have ended by then.
    ends_by: Option<Instant>,
    /// When its timeout is over, with all the time it may take to end after that.
    times_out_by: Option<(Instant, Duration)>,
    /// How often in a row it was found to be held up.
    held_up: u32,
    /// The job's processes have been killed for it.
    job_ended: bool,
}

impl Patience {
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    pub(super) fn launched(&mut self, now: Instant) {
        self.look_by(now + START);
    }

    /// The job runs, of whose timeout so much is `left`.
    pub(super) fn started(&mut self, left: Option<Duration>, grace: Duration, now: Instant) {
        let left = left.map(|left| left.min(LONGEST));
        self.times_out_by = left.map(|left| (now + left, grace));
        // What there was to look for has happened, but for a stop.
        self.next_look = self.ends_by.map(|_| now + FIRST_LOOK);
        if let Some(left) = left {
            self.look_by(now + left + FIRST_LOOK);
        }
    }

    /// When the grace is over.
    pub(super) fn told_to_stop(&mut self, grace: Duration, now: Instant) -> Instant {
        let over = now + grace.min(LONGEST);
        let by = over + OVERTIME;
        self.ends_by = Some(self.ends_by.map_or(by, |before| before.min(by)));
        self.pause = FIRST_LOOK;
        self.look_by(now + FIRST_LOOK);
        over
    }

    /// Input was passed on whose sender waits for so long; when it is to be answered.
    pub(super) fn told_of_input(&mut self, wait: Duration, now: Instant) -> Instant {
        let due = now + wait + ANSWER;
        // Looks come early enough for more than one attempt.
        self.pause = Duration::ZERO;
        self.look_by(now + wait + FIRST_LOOK);
        due
    }

    fn look_by(&mut self, at: Instant) {
        self.next_look = Some(self.next_look.map_or(at, |before| before.min(at)));
    }

    /// What to do with a supervisor that is in this `state`, and when to look again. `is_awaited`: somebody waits for an
    /// answer of its.
    pub(super) fn look(&mut self, state: State, is_awaited: bool, now: Instant) -> Remedy {
        if let Some((at, grace)) = self.times_out_by
            && at <= now
        {
            self.times_out_by = None;
            self.told_to_stop(grace, now);
        }
        // Often enough that it is no coincidence: every supervisor waits for a disk now and then.
        let is_given_up = self.ends_by.is_some_and(|by| by <= now) && self.held_up >= ATTEMPTS;
        let remedy = match state {
            State::Runs | State::Sleeps | State::Ended => {
                self.held_up = 0;
                Remedy::Nothing
            }
            // Without its job, which may be what holds it, it may still record how that ended.
            State::Stopped | State::Traced if is_given_up => {
                if self.job_ended {
                    Remedy::DoWithout
                } else {
                    Remedy::EndJob
                }
            }
            State::Stopped if self.held_up == 0 => Remedy::LetGoOn,
            State::Stopped => Remedy::LetGoOnAlone,
            State::Uninterruptible if is_given_up && !self.job_ended => Remedy::EndJob,
            State::Traced | State::Uninterruptible => Remedy::Nothing,
        };
        if !matches!(state, State::Runs | State::Sleeps | State::Ended) {
            self.held_up += 1;
        }
        self.job_ended |= remedy == Remedy::EndJob;
        let goes_on = self.ends_by.is_some() || is_awaited || self.held_up > 0;
        self.pause = (self.pause * 2).clamp(FIRST_LOOK, LONGEST_PAUSE);
        self.next_look = goes_on.then_some(now + self.pause);
        if let Some((at, _)) = self.times_out_by {
            self.look_by(at + FIRST_LOOK);
        }
        remedy
    }

    /// What people are told of a supervisor that is held up, once it was found so again.
    pub(super) fn problem(&self, supervisor: &Process) -> Option<String> {
        let held = held(supervisor.state).filter(|_| self.held_up > 1)?;
        let pid = supervisor.pid;
        let remedy = match held {
            Held::Stopped => "the daemon lets it go on each time; look for what stops it",
            Held::Traced => "the debugger has to let it go on",
            Held::Disk | Held::Busy | Held::OutOfReach => "it goes on by itself once it can",
        };
        Some(format!("its supervisor (process {pid}) does not answer: it {held}; {remedy}"))
    }
}

/// What keeps it from answering.
pub(super) fn held(state: State) -> Option<Held> {
    match state {
        State::Stopped => Some(Held::Stopped),
        State::Traced => Some(Held::Traced),
        State::Uninterruptible => Some(Held::Disk),
        State::Runs | State::Sleeps | State::Ended => None,
    }
}

/// What helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    Nothing,
    LetGoOn,
    /// The job is held still meanwhile: it may be what stops it.
    LetGoOnAlone,
    /// The job's processes are killed, and the supervisor let go on. It records their end once it can.
    EndJob,
    /// The supervisor as well, which will not record anything.
    DoWithout,
}

impl Remedy {
    /// May take up to a second.
    pub(super) fn apply(self, supervisor: &Process) {
        match self {
            Remedy::Nothing => {}
            Remedy::LetGoOn => let_go_on(supervisor),
            Remedy::LetGoOnAlone => let_go_on_alone(supervisor),
            Remedy::EndJob => {
                tracing::warn!(pid = supervisor.pid, "the job of a supervisor that does not answer is killed");
                end_job(supervisor);
                let_go_on(supervisor);
            }
            Remedy::DoWithout => {
                tracing::error!(pid = supervisor.pid, "a supervisor does not answer, and is ended with its job");
                end_job(supervisor);
                signal(supervisor, Signal::KILL);
            }
        }
    }
}

/// Continues a supervisor that is stopped. It takes two looks into `/proc`, so that it can be done before each word to it.
pub(super) fn let_go_on(supervisor: &Process) {
    if supervisor.now().is_some_and(|now| now.state == State::Stopped) {
        tracing::warn!(pid = supervisor.pid, "a supervisor was stopped; it is told to go on");
        signal(supervisor, Signal::CONT);
    }
}

fn let_go_on_alone(supervisor: &Process) {
    const ROUNDS: u32 = 100;
    let job = processes::hold_still(supervisor.pid);
    for _ in 0..ROUNDS {
        let_go_on(supervisor);
        std::thread::sleep(Duration::from_millis(5));
        // It sleeps when it has done all that it was told.
        if supervisor.now().is_none_or(|now| now.state == State::Sleeps) {
            break;
        }
    }
    for process in job {
        signal(&process, Signal::CONT);
    }
}

/// Kills all processes of the job, until no more are found.
pub(super) fn end_job(supervisor: &Process) {
    const ROUNDS: u32 = 100;
    for _ in 0..ROUNDS {
        let left = processes::descendants_of(supervisor.pid);
        if left.is_empty() {
            return;
        }
        for process in left {
            signal(&process, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(super) fn signal(process: &Process, signal: Signal) {
    if let Err(error) = process.signal(signal) {
        tracing::warn!(pid = process.pid, ?signal, %error, "a process cannot be signalled");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(2);

    /// What is done about a supervisor that is found in `state` at every look, until nobody looks any more, or it is given
    /// up; and how long that took.
    fn remedies(patience: &mut Patience, state: State, start: Instant) -> (Vec<Remedy>, Duration) {
        let mut all = Vec::new();
        let mut last = start;
        while let Some(at) = patience.next_look()
            && all.len() < 50
        {
            last = at;
            all.push(patience.look(state, false, at));
            if matches!(all.last(), Some(Remedy::DoWithout)) {
                break;
            }
        }
        (all, last - start)
    }

    #[test]
    fn nobody_looks_at_a_supervisor_from_which_nothing_is_expected() {
        let mut patience = Patience::default();
        assert_eq!(patience.next_look(), None);
        let start = Instant::now();
        patience.launched(start);
        patience.started(None, GRACE, start);
        assert_eq!(patience.next_look(), None);
    }

    #[test]
    fn a_supervisor_that_is_stopped_over_and_over_is_given_up_after_the_grace_and_not_before() {
        let start = Instant::now();
        let mut patience = Patience::default();
        patience.told_to_stop(GRACE, start);
        let (all, took) = remedies(&mut patience, State::Stopped, start);
        assert_eq!(all.first(), Some(&Remedy::LetGoOn));
        let before_the_end = all.len() - 2;
        assert!(
            all[1..before_the_end].iter().all(|remedy| *remedy == Remedy::LetGoOnAlone) && all.len() > 5,
            "{all:?}"
        );
        assert_eq!(all[before_the_end..], [Remedy::EndJob, Remedy::DoWithout]);
        assert!((GRACE + OVERTIME..GRACE + OVERTIME + LONGEST_PAUSE * 2).contains(&took), "{took:?}");
    }

    #[test]
    fn a_supervisor_that_works_is_never_given_up() {
        for state in [State::Runs, State::Sleeps] {
            let start = Instant::now();
            let mut patience = Patience::default();
            patience.told_to_stop(Duration::ZERO, start);
            let (all, took) = remedies(&mut patience, state, start);
            assert!(took > OVERTIME && all.iter().all(|remedy| *remedy == Remedy::Nothing), "{all:?}");
        }
    }

    #[test]
    fn no_time_is_too_long() {
        let now = Instant::now();
        let mut patience = Patience::default();
        patience.started(Some(Duration::MAX), Duration::MAX, now);
        patience.told_to_stop(Duration::MAX, now);
        assert_eq!(patience.next_look(), Some(now + FIRST_LOOK));
    }

    #[test]
    fn what_waits_for_a_disk_is_left_to_record_the_end_of_its_job() {
        let start = Instant::now();
        let mut patience = Patience::default();
        patience.told_to_stop(Duration::ZERO, start);
        let (all, _) = remedies(&mut patience, State::Uninterruptible, start);
        assert!(all.contains(&Remedy::EndJob) && !all.contains(&Remedy::DoWithout), "{all:?}");
    }

    #[test]
    fn a_supervisor_that_waits_for_a_disk_now_and_then_keeps_its_job() {
        let start = Instant::now();
        let mut patience = Patience::default();
        patience.told_to_stop(Duration::ZERO, start);
        let late = start + OVERTIME * 2;
        let states =
            [State::Uninterruptible, State::Sleeps, State::Uninterruptible, State::Uninterruptible, State::Runs];
        for state in states.into_iter().cycle().take(20) {
            assert_eq!(patience.look(state, false, late), Remedy::Nothing);
        }
    }

    #[test]
    fn a_timeout_that_is_over_is_a_stop_that_should_have_come() {
        let (start, left) = (Instant::now(), Duration::from_secs(60));
        let mut patience = Patience::default();
        patience.started(Some(left), GRACE, start);
        let (all, took) = remedies(&mut patience, State::Stopped, start);
        assert_eq!(all.first(), Some(&Remedy::LetGoOn));
        assert_eq!(all.last(), Some(&Remedy::DoWithout));
        assert!(took > left + GRACE + OVERTIME, "{took:?}");
    }

    #[test]
    fn a_supervisor_that_went_on_and_is_stopped_again_is_first_let_go_on() {
        let start = Instant::now();
        let mut patience = Patience::default();
        patience.told_to_stop(GRACE, start);
        let looks = [State::Stopped, State::Stopped, State::Sleeps, State::Stopped];
        let all = looks.map(|state| patience.look(state, false, start));
        assert_eq!(all, [Remedy::LetGoOn, Remedy::LetGoOnAlone, Remedy::Nothing, Remedy::LetGoOn]);
    }
}
