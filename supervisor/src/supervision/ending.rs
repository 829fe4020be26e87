//! How processes of the job end: by themselves, or because they are asked to, and then made to.

use std::time::Duration;

use pyexec_proto::exit::ExitStatus;
use pyexec_proto::job::Leftovers;
use pyexec_proto::state::StopReason;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::{Ended, LeaderExit, Supervision};
use crate::clock::Clocks;
use crate::control_group::LimitedGroup;
use crate::process::{self, Reaped, Received};
use crate::pump::Pump;
use pyexec_run_directory::processes::{self, Process};

impl Supervision {
    pub(super) fn read_signals(&mut self) {
        while let Some(received) = self.signals.next() {
            match received {
                Received::ChildEnded => self.reap(),
                Received::Terminate { sender } => {
                    if self.ended == Ended::NotAsked && processes::is_service_manager(sender) {
                        // The scope is stopped, and the job's processes hear of it by themselves: a second TERM would come
                        // while they clean up.
                        self.ended = Ended::Terminating { kill_at: Clocks::now().monotonic + self.grace };
                    }
                    self.stop(StopReason::Cancelled, self.grace);
                }
                Received::Rebind => self.door.open(),
            }
        }
    }

    fn reap(&mut self) {
        loop {
            match process::reap() {
                Reaped::Process { pid, exit, usage } => {
                    self.usage.add(&usage);
                    if let Some(benchmark) = &mut self.benchmark {
                        benchmark.reaped(&usage);
                    }
                    if Some(pid) == self.run.pid() && self.leader.is_none() {
                        // What it said before it ended tells whether there was a run at all.
                        self.conclude_start();
                    }
                    // Once: what the job left behind may get its leader's pid.
                    if Some(pid) == self.run.pid() && self.leader.is_none() && self.unstarted.is_none() {
                        let stopped = self.stop.or_else(|| self.kernels_reason(exit));
                        self.leader = Some(LeaderExit { exit, at: Clocks::now(), stopped });
                        self.goes_on = self.another_follows(exit);
                        if let Some(benchmark) = &mut self.benchmark {
                            benchmark.leader_ended();
                        }
                        self.pumps.iter_mut().for_each(Pump::take_all);
                        self.input.finish();
                        self.answer_waiting_input();
                    }
                }
                Reaped::NoneEnded => break,
                Reaped::NoChildren => {
                    self.childless = true;
                    if self.leader.is_none() && self.unstarted.is_none() {
                        // Nobody else can take it. Should it happen all the same, no record is better than an invented
                        // one: the daemon finds this supervisor gone, and the job lost.
                        panic!("the job's process has gone, and its status with it");
                    }
                    return;
                }
            }
        }
        // Whatever has ended may have left children of its own, and those are ours now.
        match (self.ended, self.leader, self.leftovers) {
            (Ended::Killing, _, _) => self.kill(),
            (Ended::NotAsked, Some(_), Leftovers::End) => self.terminate(self.grace),
            (Ended::NotAsked | Ended::Terminating { .. }, _, _) => {}
        }
    }

    /// A job that grows too fast to be looked at meets the limit of its control group, and is killed by the kernel.
    fn kernels_reason(&self, exit: ExitStatus) -> Option<StopReason> {
        let killed = matches!(exit, ExitStatus::Signal { signal: libc::SIGKILL, .. });
        let out_of_memory = killed && self.group.as_ref().is_some_and(LimitedGroup::killed_for_its_limit);
        out_of_memory.then_some(StopReason::MemoryLimit)
    }

    /// Ends the job: asks it to, and makes it after the grace period. A second stop can only be quicker.
    pub(super) fn stop(&mut self, reason: StopReason, grace: Duration) {
        if self.leader.is_none() && (self.stop.is_none() || reason == StopReason::Killed) {
            self.stop = Some(reason);
        }
        if let Some(leader) = self.leader.as_mut().filter(|_| self.goes_on) {
            // Between two runs: it is what keeps the next from being started.
            self.stop = Some(reason);
            leader.stopped = Some(reason);
            self.goes_on = false;
        }
        if grace.is_zero() {
            // It may be what fills the disk, and then nobody else makes room.
            self.forgoes_output = true;
            self.kill();
            return;
        }
        match self.ended {
            Ended::NotAsked => self.terminate(grace),
            Ended::Terminating { kill_at } => {
                let kill_at = kill_at.min(Clocks::now().monotonic + grace);
                self.ended = Ended::Terminating { kill_at };
            }
            Ended::Killing => {}
        }
    }

    /// What grows is ended at once, what takes its time may take its leave. It is ended once.
    pub(super) fn end_beyond_limit(&mut self, reason: StopReason) {
        if let Some(mut limits) = self.limits.take() {
            self.unwaited = self.unwaited.max(limits.unwaited(&self.usage, false));
        }
        let grows = matches!(reason, StopReason::MemoryLimit | StopReason::ProcessLimit);
        if reason == StopReason::ProcessLimit {
            // So that they can be killed without making others meanwhile.
            processes::hold_still(std::process::id());
        }
        self.stop(reason, if grows { Duration::ZERO } else { self.grace });
    }

    fn terminate(&mut self, grace: Duration) {
        self.ended = Ended::Terminating { kill_at: Clocks::now().monotonic + grace };
        if self.starting.is_some() {
            self.signal_unstarted(Signal::TERM);
            return;
        }
        let group = self.leader_group();
        let descendants = processes::descendants_of(std::process::id());
        let already_told = |process: &&Process| match group {
            None => false,
            // It tells its child.
            Some(_) if self.leader_forwards => Some(process.parent) == self.run.pid(),
            Some(_) => Some(process.group) == self.run.pid(),
        };
        if let Some(group) = group.filter(|_| !self.leader_forwards) {
            // At once, so that a shell and what it runs hear of it together; then those outside the group.
            let _ = kill_process_group(group, Signal::TERM);
            let _ = kill_process_group(group, Signal::CONT);
        }
        for process in descendants.iter().filter(|process| !already_told(process)) {
            let _ = process.signal(Signal::TERM);
            // A stopped process acts on a TERM only once it goes on.
            let _ = process.signal(Signal::CONT);
        }
        if self.leader.is_some() && descendants.is_empty() {
            self.kill();
        }
    }

    pub(super) fn kill(&mut self) {
        self.ended = Ended::Killing;
        self.signal_unstarted(Signal::KILL);
        if let Some(group) = self.leader_group() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let left = processes::descendants_of(std::process::id());
        let refused = left.iter().filter(|process| process.signal(Signal::KILL).is_err()).count();
        self.beyond_reach = refused > 0 && refused == left.len();
    }

    /// Of a process that has not become the program. It may not lead its group yet, and has our own environment still, by
    /// which it is taken for a service and passed over.
    fn signal_unstarted(&self, signal: Signal) {
        if let Some(leader) = self.leader_group().filter(|_| self.starting.is_some()) {
            let _ = kill_process(leader, signal);
        }
    }

    /// The leader's group, for as long as the leader has not been reaped: until then its number can mean no other.
    fn leader_group(&self) -> Option<Pid> {
        if self.leader.is_some() {
            return None;
        }
        self.run.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw)
    }
}
