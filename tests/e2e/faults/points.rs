//! The daemon dies at a named point; the next one goes on, and nothing is missing.

use std::os::unix::process::ExitStatusExt;

use pyexec_proto::request::PruneRequest;
use pyexecd::fault::Point;
use rustix::process::Signal;

use super::ledger::{Kind, Promise, code, connect, id_of, insist, verify};
use crate::environment_sandbox::EnvironmentSandbox;
use crate::sandbox::{PYEXECD, Sandbox, manifest_directory};

/// Plays `scene` while one daemon dies at `point` and another takes over; then what `scene` promises has to hold.
fn die_at(point: Point, sandbox: &Sandbox, scene: impl AsyncFnOnce() -> Promised) {
    let mut command = sandbox.command(PYEXECD);
    let mut doomed =
        command.env("PYEXEC_FAIL_POINT", point.name()).env("PYEXEC_SERVICE", "daemon").spawn().expect("can be started");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    std::thread::scope(|scope| {
        let next = scope.spawn(|| {
            let status = sandbox.wait_until(&format!("the daemon has died at {point:?}"), || {
                doomed.try_wait().expect("is our child").ok_or("it lives")
            });
            assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{point:?}: it ended with {status}");
            sandbox.daemon_or_another()
        });
        let promised = runtime.block_on(scene());
        let _daemon = next.join().expect("says itself what was wrong");
        runtime.block_on(verify(sandbox, &promised.jobs, &promised.checked, &[]));
    });
}

/// What there has to be in the end.
#[derive(Default)]
struct Promised {
    jobs: Vec<Promise>,
    checked: Vec<pyexec_proto::JobId>,
}

impl From<Vec<Promise>> for Promised {
    fn from(jobs: Vec<Promise>) -> Self {
        Self { jobs, checked: vec![] }
    }
}

/// One at a time, so that there are jobs that wait for their turn.
fn sandbox() -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.set("PYEXEC_MAX_RUNNING", "1");
    sandbox
}

/// A job that runs until it is stopped, and two that wait for it.
fn three(sandbox: &Sandbox) -> Vec<Promise> {
    [Kind::Stopped, Kind::Exits(7), Kind::Echoes].map(|kind| Promise::new(sandbox, kind)).into()
}

async fn submit(sandbox: &Sandbox, promises: &[Promise]) {
    let client = connect(sandbox).await;
    for promise in promises {
        insist(async || client.submit(promise.submission.clone()).await).await;
    }
}

/// Ends the first, so that the others get their turn, and sees them all to their ends.
async fn finish(sandbox: &Sandbox, promises: &[Promise]) {
    let client = connect(sandbox).await;
    promises[0].stop(&client).await;
    for promise in promises {
        insist(async || client.wait(promise.id()).await).await;
    }
}

fn die_with_three_jobs(points: &[Point]) {
    for point in points {
        let sandbox = sandbox();
        let promises = three(&sandbox);
        die_at(*point, &sandbox, async || {
            submit(&sandbox, &promises).await;
            finish(&sandbox, &promises).await;
            promises.into()
        });
    }
}

#[test]
fn while_a_job_is_submitted() {
    use Point::{SubmitAccepted, SubmitFilled, SubmitFilling, SubmitNamed, SubmitRecorded};
    die_with_three_jobs(&[SubmitFilling, SubmitFilled, SubmitNamed, SubmitRecorded, SubmitAccepted]);
}

#[test]
fn while_a_job_is_prepared() {
    die_with_three_jobs(&[Point::PrepareAdmitted, Point::PrepareBegun, Point::PrepareDone]);
}

#[test]
fn while_its_environment_is_built() {
    for point in [Point::PrepareBuilt, Point::PrepareShelved] {
        let sandbox = EnvironmentSandbox::new();
        die_at(point, &sandbox, async || {
            let text = format!("import six\n{}", code(&sandbox, "six", Kind::Exits(3)));
            // The command line starts the next daemon itself, unless we are quicker.
            let ran = sandbox.run_with_uv(&["--with", "six", "-c", &text]).expect_code(3);
            assert_eq!(ran.text(), "out\n");
            sandbox.wait_until_the_shelf_is_tidy();
            Promised { checked: vec![id_of(&sandbox, "six")], ..Promised::default() }
        });
        assert_eq!(sandbox.environments().len(), 1, "{point:?}");
    }
}

#[test]
fn while_a_job_starts() {
    use Point::{StartCommitted, StartHeard, StartLaunched, StartMarked, StartTold};
    die_with_three_jobs(&[StartCommitted, StartMarked, StartLaunched, StartTold, StartHeard]);
}

#[test]
fn while_a_job_is_stopped() {
    die_with_three_jobs(&[Point::StopAsked, Point::StopWritten]);
}

#[test]
fn while_a_job_ends() {
    die_with_three_jobs(&[Point::ExitHeard, Point::ExitCommitted, Point::ExitNoted]);
}

#[test]
fn while_jobs_are_pruned() {
    for point in [Point::PruneRenamed, Point::PruneEmptied, Point::PruneForgotten] {
        let sandbox = sandbox();
        let finished = {
            let _daemon = sandbox.daemon();
            ["print(1)", "raise SystemExit(1)", "1/0"].map(|code| sandbox.finished(&sandbox.detach(&["-c", code])))
        };
        let statuses = finished.map(|job| job["status"].clone());
        assert_eq!(statuses, ["completed", "failed", "failed"], "there is nothing to prune");
        die_at(point, &sandbox, async || {
            let client = connect(&sandbox).await;
            let all = PruneRequest { older_than_ms: 0, keep_completed: false, keep_failed: false, dry_run: false };
            insist(async || client.prune(all).await).await;
            let later = Promise::new(&sandbox, Kind::Exits(0));
            later.play(&sandbox, &client).await;
            vec![later].into()
        });
    }
}

#[test]
fn while_the_jobs_of_an_earlier_daemon_are_taken_up() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for point in [Point::RecoverListed, Point::RecoverLooking, Point::RecoverListening] {
        let sandbox = sandbox();
        let promises = three(&sandbox);
        let mut first = sandbox.daemon();
        runtime.block_on(submit(&sandbox, &promises));
        sandbox.wait_until_running(&promises[0].id().to_string());
        first.kill();
        die_at(point, &sandbox, async || {
            finish(&sandbox, &promises).await;
            promises.into()
        });
    }
}

/// So that a point that is added is not forgotten here.
#[test]
fn every_point_is_died_at() {
    let here = std::fs::read_to_string(manifest_directory().join("e2e/faults/points.rs")).expect("is there");
    let forgotten: Vec<_> = Point::ALL.iter().filter(|point| !here.contains(&point.name())).collect();
    assert!(forgotten.is_empty(), "nothing dies at {forgotten:?}");
}
