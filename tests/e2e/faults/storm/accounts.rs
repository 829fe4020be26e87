//! What the clients of the storm were told of their jobs, and the check that it is true.
//!
//! A job is found by its label, also when its client was killed before it could say the job's id.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pyexec_client::Client;
use pyexec_proto::state::{NotStarted, Outcome, StopReason};
use pyexec_proto::{JobDetail, JobId, JobState};

use crate::faults::ledger::{ids_in, insist, leaves_trace, listed, read_all, trace};
use crate::sandbox::Sandbox;

/// How a job may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Only by itself.
    ByItself,
    /// By itself, or cancelled: its client was told to end.
    Cancellable,
    /// By itself, or lost: its supervisor was killed at some time.
    Losable,
    /// Lost: it does not end by itself, and its supervisor was killed.
    Lost,
}

/// A package of which there are two versions, and what a job asks for to have one of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Package {
    module: &'static str,
    version: &'static str,
    requirement: &'static str,
}

/// What wheels there are.
pub(super) const WHEELS: [(&str, &str); 4] =
    [("storm-a", "1.0"), ("storm-a", "2.0"), ("storm-b", "1.0"), ("storm-b", "2.0")];

const PACKAGES: [[Package; 3]; 2] = [
    [
        Package { module: "storm_a", version: "1.0", requirement: "storm-a==1.0" },
        Package { module: "storm_a", version: "1.0", requirement: "storm-a<2" },
        Package { module: "storm_a", version: "2.0", requirement: "storm-a" },
    ],
    [
        Package { module: "storm_b", version: "1.0", requirement: "storm-b<1.5" },
        Package { module: "storm_b", version: "2.0", requirement: "storm-b==2.0" },
        Package { module: "storm_b", version: "2.0", requirement: "storm-b>1" },
    ],
];

/// A job, and what its clients were told.
#[derive(Debug)]
pub(super) struct Account {
    /// Its label, and the name of its trace.
    pub(super) tag: String,
    pub(super) packages: Vec<Package>,
    /// How long it takes in milliseconds; `None` for ever.
    lasts: Option<u64>,
    pub(super) exit: u8,
    pub(super) end: End,
    /// Its id, once a client has been told that the job was taken.
    pub(super) id: Option<JobId>,
    /// What was said by clients that failed.
    pub(super) failures: Vec<String>,
    /// It was not there when all jobs were removed, but nobody knows whether its submission was still on its way.
    may_be_removed: bool,
}

impl Account {
    pub(super) fn new(tag: String, random: &mut fastrand::Rng) -> Self {
        let mut packages = Vec::new();
        // Most jobs need no environment, so that there are many.
        if random.u8(..5) < 2 {
            packages.extend(PACKAGES.iter().filter_map(|of| random.choice(of).copied()));
            packages.truncate(random.usize(1..=2));
        }
        Self {
            tag,
            packages,
            lasts: Some(random.u64(..400)),
            exit: random.u8(..3),
            end: End::ByItself,
            id: None,
            failures: vec![],
            may_be_removed: false,
        }
    }

    /// It does not end by itself.
    pub(super) fn endless(mut self) -> Self {
        self.lasts = None;
        self
    }

    pub(super) fn requirements(&self) -> impl Iterator<Item = &'static str> {
        self.packages.iter().map(|package| package.requirement)
    }

    pub(super) fn code(&self, sandbox: &Sandbox) -> String {
        let mut code = leaves_trace(sandbox, &self.tag);
        for Package { module, .. } in &self.packages {
            code += &format!("import {module}\nprint('{module}', {module}.__version__)\n");
        }
        code += &match self.lasts {
            Some(lasts) => format!("time.sleep({lasts} / 1000)\n"),
            None => "time.sleep(600)\n".to_owned(),
        };
        code + &format!("print('end')\nprint('err', file=sys.stderr)\nsys.exit({})\n", self.exit)
    }

    pub(super) fn stdout(&self) -> String {
        let versions = self.packages.iter().map(|of| format!("{} {}\n", of.module, of.version));
        versions.chain(["end\n".to_owned()]).collect()
    }

    /// Notes what a client said, if it says that something failed. What a job prints has no such line.
    pub(super) fn told(&mut self, text: &str) {
        if text.lines().any(|line| line.starts_with("error: ") || line.starts_with("**Error:**")) {
            self.failures.push(text.to_owned());
        }
    }

    /// Panics unless all of it holds. Returns whether its job was there.
    async fn check(&self, sandbox: &Sandbox, client: &Client, jobs: &[JobDetail]) -> bool {
        let runs = ids_in(&trace(sandbox, &self.tag));
        assert!(runs.len() <= 1, "it ran {} times: {self:?}, {jobs:?}", runs.len());
        let [job] = jobs else {
            assert!(jobs.is_empty(), "it was submitted several times: {self:?}, {jobs:?}");
            assert!(self.id.is_none(), "it was acknowledged, and is unknown: {self:?}");
            assert!(runs.is_empty() || self.may_be_removed, "it ran, and is unknown: {self:?}, {runs:?}");
            return false;
        };
        assert!(self.id.is_none_or(|id| id == job.id), "{self:?} is another job: {job:?}");
        for text in &self.failures {
            assert!(text.contains(&job.id.to_string()), "a client failed, and did not name job {}: {text}", job.id);
        }
        assert!(runs.is_empty() || runs == [job.id.to_string()], "{runs:?} ran as {job:?}");
        let JobState::Finished(outcome) = &job.state else { panic!("it has not finished: {job:?}") };
        let output = read_all(client, job.id).await;
        let ended_by_itself = match outcome {
            Outcome::Ended(record) => record.stopped.is_none() && record.exit.returncode() == i32::from(self.exit),
            Outcome::NotStarted(_) | Outcome::Lost { .. } => false,
        };
        if ended_by_itself && self.end != End::Lost {
            assert_eq!(runs.len(), 1, "it is said to have ended, and has not run: {job:?}");
            assert_eq!(output.stdout, self.stdout(), "{self:?}: {job:?}");
            assert!(output.stderr.ends_with("err\n"), "{self:?}: {output:?}");
            return true;
        }
        let may_end_like_this = match outcome {
            Outcome::Ended(record) => {
                self.end == End::Cancellable && record.stopped.is_some_and(|reason| reason == StopReason::Cancelled)
            }
            Outcome::NotStarted(NotStarted::Stopped(reason)) => {
                self.end == End::Cancellable && *reason == StopReason::Cancelled
            }
            Outcome::NotStarted(_) => false,
            Outcome::Lost { .. } => matches!(self.end, End::Losable | End::Lost),
        };
        assert!(may_end_like_this, "{self:?} has become {outcome:?}, with {output:?}");
        assert!(self.stdout().starts_with(&output.stdout), "{self:?}: {output:?}");
        true
    }
}

/// All jobs there are, once all have ended and no more turn up, by label.
async fn all_jobs(client: &Client) -> BTreeMap<String, Vec<JobDetail>> {
    let mut before = BTreeMap::new();
    loop {
        let now = listed(client).await;
        assert!(now.values().all(|times| *times == 1), "listed more than once: {now:?}");
        if now == before {
            break;
        }
        for id in now.keys() {
            insist(async || client.wait(*id).await).await;
        }
        before = now;
    }
    let mut jobs: BTreeMap<String, Vec<JobDetail>> = BTreeMap::new();
    for id in before.into_keys() {
        let job = insist(async || client.show(id).await).await;
        jobs.entry(job.spec.label.clone().unwrap_or_default()).or_default().push(job);
    }
    jobs
}

/// Waits for all jobs, and checks every one of them. Keeps the accounts of which there is no job; the jobs may be removed.
pub(super) async fn settle(sandbox: &Sandbox, client: &Client, accounts: &mut Vec<Account>) -> Vec<JobId> {
    let mut jobs = all_jobs(client).await;
    let mut without = Vec::new();
    let mut ids = Vec::new();
    for mut account in accounts.drain(..) {
        let own = jobs.remove(&account.tag).unwrap_or_default();
        ids.extend(own.iter().map(|job| job.id));
        if !account.check(sandbox, client, &own).await {
            account.may_be_removed = true;
            without.push(account);
        }
    }
    assert!(jobs.is_empty(), "nobody has submitted these: {jobs:?}");
    *accounts = without;
    ids
}

/// The directory of environments in a cache.
pub(super) fn shelf(cache: &Path) -> PathBuf {
    cache.join("pyexec/environments")
}
