//! Sequences of whatever may happen, against a simple model: each accepted job ends exactly once, none is lost, none runs
//! twice, and what is counted agrees with what there is.

use std::collections::HashMap;

use proptest::prelude::*;
use pyexec_proto::JobId;
use pyexec_proto::job::Watching;
use pyexec_proto::state::{NotStarted, Outcome, StopReason};

use super::fake::exits;
use super::harness::Harness;
use crate::engine::RunEvent;
use crate::environment::EnvironmentError;
use crate::jobs::command::Command;
use pyexec_run_directory::directory as run_directory;
use pyexec_run_directory::record::WhatEnded;

/// Something that happens. Jobs are meant by their number, modulo how many there are.
#[derive(Clone, Debug)]
enum Step {
    Submit,
    /// Its environment is ready, or cannot be made.
    Prepare {
        job: usize,
        works: bool,
    },
    Start(usize),
    End(usize, Box<RunEvent>),
    Stop {
        job: usize,
        now: bool,
    },
    /// A supervisor of an earlier daemon's begins to run it.
    BeginElsewhere(usize),
    /// So many writes into the index fail.
    Refuse(u32),
    /// Everything that is on its way arrives.
    Wait,
    /// The daemon is killed, and another takes over.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let ends = prop_oneof![
        4 => Just(exits(None)),
        1 => Just(exits(Some(StopReason::TimedOut))),
        1 => Just(RunEvent::Ended(WhatEnded::SpawnFailed("no".to_owned()))),
        1 => Just(RunEvent::Lost),
    ];
    prop_oneof![
        4 => Just(Step::Submit),
        4 => (0usize..6, prop::bool::weighted(0.8)).prop_map(|(job, works)| Step::Prepare { job, works }),
        4 => (0usize..6).prop_map(Step::Start),
        3 => (0usize..6, ends).prop_map(|(job, event)| Step::End(job, Box::new(event))),
        3 => (0usize..6, any::<bool>()).prop_map(|(job, now)| Step::Stop { job, now }),
        1 => (0usize..6).prop_map(Step::BeginElsewhere),
        2 => (0u32..4).prop_map(Step::Refuse),
        3 => Just(Step::Wait),
        1 => Just(Step::Restart),
    ]
}

/// What the model knows of one job.
#[derive(Debug, Default)]
struct Known {
    stopped: bool,
    environment_failed: bool,
    /// Once a client has been told.
    outcome: Option<Outcome>,
}

struct Play {
    harness: Harness,
    order: Vec<JobId>,
    jobs: HashMap<JobId, Known>,
    /// The index has been told to refuse writes.
    has_refused: bool,
    restarts: u32,
}

impl Play {
    fn job(&self, number: usize) -> Option<JobId> {
        (!self.order.is_empty()).then(|| self.order[number % self.order.len()])
    }

    fn known(&mut self, id: JobId) -> &mut Known {
        self.jobs.entry(id).or_default()
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Submit => {
                // A submission that cannot be recorded is refused: no job.
                let refused = self.harness.index.still_refused();
                self.harness.index.refuse(0);
                let id = self.harness.submit().await;
                self.harness.index.refuse(refused);
                self.order.push(id);
                self.known(id);
            }
            Step::Prepare { job, works } => {
                let Some(id) = self.job(*job) else { return };
                let result = if *works { Ok(()) } else { Err(EnvironmentError::NoPython) };
                if self.harness.preparer.answer(id, result) && !works {
                    self.known(id).environment_failed = true;
                }
            }
            Step::Start(job) => self.job(*job).into_iter().for_each(|id| self.harness.engine.starts(id)),
            Step::End(job, event) => {
                self.job(*job).into_iter().for_each(|id| self.harness.engine.ends(id, event));
            }
            Step::Stop { job, now } => {
                let Some(id) = self.job(*job) else { return };
                self.known(id).stopped = true;
                drop(self.harness.stop(id, *now));
            }
            Step::BeginElsewhere(job) => {
                let Some(id) = self.job(*job) else { return };
                let _ = self.harness.engine.supervisor_begins(id);
            }
            Step::Refuse(number) => {
                self.has_refused |= *number > 0;
                self.harness.index.refuse(*number);
            }
            Step::Wait => {
                self.harness.store.barrier().await.expect("works");
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            Step::Restart => {
                self.restarts += 1;
                self.harness.restart().await;
            }
        }
    }

    /// What a client sees now never contradicts what it saw before.
    async fn check(&mut self) {
        for id in self.order.clone() {
            let state = self.harness.state(id).await;
            let starts = self.harness.engine.of(id, |run| run.starts);
            assert!(starts <= 1, "{id} ran {starts} times");
            let outcome = state.outcome().cloned();
            let known = self.known(id);
            if let Some(before) = &known.outcome {
                assert_eq!(outcome.as_ref(), Some(before), "{id} ended twice");
            }
            known.outcome = outcome;
        }
    }

    /// Lets everything come to its end.
    async fn finish(&mut self) {
        self.harness.index.refuse(0);
        for id in self.order.clone() {
            let Self { harness, .. } = &*self;
            harness
                .until("every job comes to its end", async || {
                    for id in &self.order {
                        harness.preparer.answer(*id, Ok(()));
                        harness.engine.ends(*id, &exits(None));
                    }
                    let live = harness.ask(|answer| Command::Contains { id, answer }).await;
                    (!live).then_some(())
                })
                .await;
        }
        self.check().await;
        for (id, known) in &self.jobs {
            let outcome = known.outcome.as_ref().expect("every job has ended");
            self.is_explained(*id, known, outcome);
            let in_index = self.harness.store.get(*id).await.expect("can be read").expect("is there").0.state;
            assert_eq!(in_index.outcome(), Some(outcome), "{id}: the index says otherwise");
            if !matches!(outcome, Outcome::Ended(_)) && self.harness.engine.end_of(*id).is_none() {
                let written = run_directory::outcome(&self.harness.run_directory(*id)).expect("can be read");
                assert_eq!(written.as_ref(), Some(outcome), "{id}: its run directory says otherwise");
            }
        }
        let counts = self.harness.counts().await;
        assert_eq!((counts.running, counts.pending), (0, 0));
        assert!(self.harness.store.unfinished().await.expect("can be read").is_empty());
        // No place is held by a job that has ended.
        assert!(
            self.harness.ask(|answer| Command::Foresee { parent: None, watching: Watching::default(), answer }).await
        );
    }

    fn is_explained(&self, id: JobId, known: &Known, outcome: &Outcome) {
        let end = self.harness.engine.end_of(id);
        let is_so = match outcome {
            Outcome::Ended(record) => end == Some(RunEvent::Ended(WhatEnded::Run(record.clone()))),
            Outcome::Lost { .. } => end == Some(RunEvent::Lost),
            Outcome::NotStarted(NotStarted::Spawn(_)) => {
                matches!(end, Some(RunEvent::Ended(WhatEnded::SpawnFailed(_))))
            }
            Outcome::NotStarted(NotStarted::Stopped(_)) => {
                known.stopped && matches!(end, None | Some(RunEvent::Ended(WhatEnded::SpawnFailed(_))))
            }
            // A daemon that is killed in the middle of a stop that the index would not take leaves a job that can start no
            // more, and nobody who knows why.
            Outcome::NotStarted(NotStarted::Environment(_)) => {
                end.is_none() && (known.environment_failed || (known.stopped && self.has_refused && self.restarts > 0))
            }
        };
        assert!(is_so, "{id} ended with {outcome:?}, and for its engine with {end:?}: {known:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_job_ends_exactly_once_whatever_happens(
        max_running in 1usize..3,
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let mut play = Play { harness: Harness::new(max_running), order: vec![], jobs: HashMap::new(), has_refused: false, restarts: 0 };
            for step in &steps {
                play.step(step).await;
                play.check().await;
            }
            play.finish().await;
        });
    }
}
