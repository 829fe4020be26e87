//! Runs jobs on this machine: a supervisor process for each, and a link to it that the daemon's death cuts and the next
//! daemon ties again.

mod evidence;
mod held_up;
mod link;
mod spare;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyexec_proto::job::{JobDetail, JobSource, StdinSource};
use pyexec_proto::limits::Limits;
use pyexec_proto::paths::Paths;
use pyexec_proto::variables::TEMPORARY_VARIABLE;
use pyexec_proto::{Error, JobId, JobSpec, OsText};

use super::scopes::Scopes;
use super::{Engine, Events, Evidence, Order, RunHandle};
use crate::blocking::spawn;
use crate::fault::{Point, reached};
pub use evidence::examine;
use link::{Link, Replacement};
use pyexec_run_directory::control::{self, Launch, LaunchStdin, Request, TakenOver};
use pyexec_run_directory::record::{self, ReadError};
use pyexec_supervisor::peer::Own;
use pyexec_supervisor::{fence, own_limits};
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
        let (directory, id) = (self.paths.run_directory(events.id), events.id);
        Link::new(events, directory, control_socket(&self.paths.supervisors(), id))
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
            program: order.command.interpreter.clone(),
            argv: order.command.argv(),
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
            attached: order.watching.attached,
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
    fn check(&self, spec: &JobSpec) -> Result<(), Error> {
        fence::check(spec.fence).map_err(|fence::Refusal { fence, problem, hint }| Error::NoFence {
            fence: fence.to_owned(),
            problem,
            hint,
        })
    }

    fn examine(&self, id: JobId) -> Result<Evidence, ReadError> {
        evidence::examine(&self.paths.run_directory(id))
    }

    fn end_survivors(&self, id: JobId) {
        evidence::end_survivors(id);
    }

    fn launch(&self, order: Order, events: Events) -> RunHandle {
        let (mut link, handle) = self.link(events);
        link.expects(&order.spec);
        let mut launch = match self.taken_over(&order) {
            Ok(taken_over) => Box::new(self.launch_of(&order, taken_over)),
            Err(why) => {
                link.spawn_failed(why);
                return handle;
            }
        };
        match self.spare.take() {
            Ok(supervisor) => {
                reached(Point::StartLaunched);
                let replacement = match order.spec.benchmark {
                    Some(_) => Replacement::OnceEnded(self.spare.clone()),
                    None => Replacement::OnceStarted(self.spare.clone()),
                };
                link.takes(&supervisor, replacement);
                let Supervisor { child, stream, scope } = supervisor;
                let scopes = self.scopes.clone();
                tokio::spawn(async move {
                    // Nothing of a job runs before it is where it belongs: what is started earlier stays outside.
                    if let Some(scope) = scope.settled().await {
                        launch.has_own_group = true;
                        launch.group_limits_memory = scopes.dedicate(&scope, &order.spec, order.id).await;
                    }
                    let frame = control::encode(&Request::Launch(launch), order.command.environment.as_block());
                    link.let_supervisor_go_on();
                    link.launched();
                    link.run(Some((stream, frame)), Some(child)).await;
                });
            }
            Err(error) => {
                link.spawn_failed(format!("could not start a supervisor: {}", own_limits::explain_start(&error)));
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
        link.launched();
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

/// A supervisor's control socket: short, and no secret.
fn control_socket(supervisors: &Path, id: JobId) -> PathBuf {
    supervisors.join(&id.simple()[..16])
}
