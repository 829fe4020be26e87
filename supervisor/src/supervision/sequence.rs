//! From one run of a benchmark to the next.
//!
//! A run is a job of its own in all but name: it has fresh pipes, all its processes are gone before the next begins, and a
//! stop ends the one that goes on. What they share is the log, the timeout, and the record in the end.

use std::io;
use std::path::Path;

use pyexec_proto::exit::ExitStatus;
use pyexec_proto::state::Handle;
use rustix::time::Timespec;

use super::{Ended, Supervision};
use crate::control_group::CpuMeter;
use crate::starter::Started;
use pyexec_run_directory::record;
use pyexec_run_directory::report::RUNS_FILE;

impl Supervision {
    /// The run is over: takes down what was measured of it.
    pub(super) fn note_run(&mut self) {
        if let (Some(benchmark), Some(leader)) = (&mut self.benchmark, &self.leader) {
            let metered = self.meter.as_ref().and_then(CpuMeter::used);
            let unwaited = benchmark.end(leader.exit, &leader.at, metered, self.childless);
            unwaited.add_to(&mut self.usage);
        }
    }

    /// Starts the next run, unless there is none, or it is not to be.
    pub(super) fn starts_again(&mut self) -> io::Result<bool> {
        if !self.goes_on {
            return Ok(false);
        }
        // A stop that has come by now must not find one more run started.
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        for source in self.wait(Some(&AT_ONCE))? {
            self.serve(source);
        }
        self.pass_time();
        if !self.goes_on || self.stalled.is_some() {
            return Ok(false);
        }
        let Some(benchmark) = &mut self.benchmark else { return Ok(false) };
        if let Some(report) = benchmark.report() {
            // Nothing but a report: without it the runs go on just the same.
            let _ = record::write_atomically(Path::new("."), RUNS_FILE, &report);
        }
        let metered = self.meter.as_ref().and_then(CpuMeter::used);
        match benchmark.starter.start() {
            Ok(started) => {
                benchmark.begin(started.at, metered);
                self.take_up(started);
                Ok(true)
            }
            Err(why) => {
                benchmark.cut_short(&why);
                Ok(false)
            }
        }
    }

    /// Whether another run follows one that has ended like this.
    pub(super) fn another_follows(&self, exit: ExitStatus) -> bool {
        let has_more = self.benchmark.as_ref().is_some_and(|benchmark| benchmark.has_more());
        has_more && exit == ExitStatus::Success && self.stop.is_none()
    }

    fn take_up(&mut self, started: Started) {
        self.before = self.leader.take().map(|leader| (self.run.clone(), leader));
        self.run.handle = Handle::Process(started.process.pid());
        self.starting = Some((started.process, started.named));
        self.goes_on = false;
        self.ended = Ended::NotAsked;
        self.childless = false;
        self.beyond_reach = false;
        let [stdout, stderr] = &mut self.pumps;
        stdout.go_on_with(started.stdout);
        stderr.go_on_with(started.stderr);
    }
}
