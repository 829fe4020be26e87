//! From the fork to the moment at which the process has become the program. That can take for ever, and the job can be
//! stopped meanwhile as at any other time.

use std::io;

use super::Supervision;
use crate::process::Piece;
use pyexec_run_directory::control::Notice;
use pyexec_run_directory::record::{Ending, WhatEnded};

impl Supervision {
    /// Whether the job has become a program, be it in an earlier run.
    pub(super) fn has_begun(&self) -> bool {
        self.starting.is_none() || self.before.is_some()
    }

    /// Looks whether the process has become the program, or could not.
    pub(super) fn conclude_start(&mut self) {
        let Some((process, named)) = &mut self.starting else { return };
        let Some(outcome) = process.outcome() else { return };
        self.unstarted = outcome.err().map(|failure| named.explain(&failure));
        // Later runs of a benchmark are started as the first one.
        if self.before.is_none() {
            let unset = process.unset();
            let cpus = if unset.contains(&Piece::Cpus) { process.cpus() } else { None };
            self.given = self.given.clone().without(unset, cpus.as_deref());
            self.run.not_taken_over = self.given.told();
        }
        self.starting = None;
        if self.unstarted.is_none() && self.before.is_none() {
            self.greet_all();
        }
    }

    /// The first run could not be started, and the job with it; or a later one, and the benchmark ends with the one before.
    pub(super) fn finish_unstarted(mut self, why: String) -> io::Result<()> {
        if let (Some((run, leader)), Some(benchmark)) = (self.before.take(), &mut self.benchmark) {
            benchmark.cut_short(&why);
            self.run = run;
            self.leader = Some(leader);
            return self.finish();
        }
        let what = WhatEnded::SpawnFailed(why);
        let unwritten = self.record.write(&Ending::from(what.clone())).err().map(|error| error.to_string());
        self.tell_all(&Notice::Ended { what, unwritten });
        self.flush_all();
        Ok(())
    }
}
