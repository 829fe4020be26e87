//! Daemons that die at random, under load. `PYEXEC_TEST_SEED` plays a run again, as far as the machine's own timing allows;
//! `PYEXEC_TEST_KILLS` makes it longer.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyexec_proto::JobId;
use pyexec_proto::request::PruneRequest;
use rustix::process::Signal;

use super::ledger::{Kind, Promise, code, connect, has_run, id_of, insist, printed, verify};
use crate::sandbox::{PYEXECD, Ran, Sandbox, send};
use crate::seed::{number, say, seed};

/// How many clients submit jobs all the time.
const WORKERS: u64 = 4;

fn kind(random: &mut fastrand::Rng) -> Kind {
    match random.u8(..20) {
        0..6 => Kind::Exits(random.u8(..4)),
        6..9 => Kind::Prints(random.u32(1..5_000)),
        9..12 => Kind::Echoes,
        12 => Kind::Dies,
        13..15 => Kind::Leaves,
        15 => Kind::Overdue,
        16..19 => Kind::Stopped,
        _ => Kind::Orphaned,
    }
}

/// Starts daemon after daemon, unless a client is quicker, and kills whichever there are, each some time after it was
/// started, be it before it listens.
fn kill_daemons(sandbox: &Sandbox, mut random: fastrand::Rng, wanted: u32) {
    for _ in 0..wanted {
        let mut command = sandbox.command(PYEXECD);
        command.arg("--announce").env("PYEXEC_SERVICE", "daemon").stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("can be started");
        let longest = *random.choice(&[20, 100, 400, 800]).expect("there are some");
        std::thread::sleep(Duration::from_millis(random.u64(..longest)));
        let others = sandbox.daemons();
        child.kill().expect("is our child");
        child.wait().expect("is our child");
        for daemon in others {
            send(daemon.pid, Signal::KILL);
            sandbox.wait_until_gone(daemon.pid);
        }
    }
}

/// Submits jobs of all kinds and sees each to its end, until it is time to stop.
async fn submit_jobs(sandbox: &Sandbox, mut random: fastrand::Rng, done: &AtomicBool) -> Vec<Promise> {
    let client = connect(sandbox).await;
    let mut promises = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let promise = Promise::new(sandbox, kind(&mut random));
        promise.play(sandbox, &client).await;
        promises.push(promise);
    }
    promises
}

/// `pyexec run`, attached, again and again; it starts a daemon itself when there is none.
///
/// Returns the jobs it has seen to the end, and those of which it was told that they may have been taken.
fn run_attached(sandbox: &Sandbox, mut random: fastrand::Rng, done: &AtomicBool) -> (Vec<JobId>, Vec<JobId>) {
    let (mut ids, mut perhaps) = (Vec::new(), Vec::new());
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let (kind, exit) = match random.bool() {
            true => (Kind::Prints(random.u32(1..5_000)), 0),
            false => (Kind::Exits(7), 7),
        };
        let tag = format!("attached-{number}");
        let mut ran = sandbox.pyexec(["run", "--no-uv", "-c", &code(sandbox, &tag, kind)]);
        if ran.code == GIVEN_UP {
            // Five daemons in a row died under it. It says how to look again, unless it never got as far as that.
            let Some((_, id)) = ran.stderr.split_once("pyexec logs -f ") else {
                match ran.stderr.split_once("pyexec show ") {
                    Some((_, id)) => perhaps.push(id[..36].parse().expect("is an id")),
                    None => assert!(!has_run(sandbox, &tag), "it says nothing of its job: {ran}"),
                }
                continue;
            };
            let id = id[..36].to_owned();
            ran = insist_on(sandbox, &["logs", "-f", &id]);
            ran.code = insist_on(sandbox, &["wait", &id]).code;
        }
        let (stdout, stderr) = printed(kind, "");
        assert!(ran.text() == stdout && ran.stderr == stderr, "{kind:?}: {ran}");
        assert!(ran.code == exit, "{kind:?}: {ran}");
        ids.push(id_of(sandbox, &tag));
    }
    (ids, perhaps)
}

/// The command line's own failure.
pub(super) const GIVEN_UP: i32 = 125;

fn insist_on(sandbox: &Sandbox, arguments: &[&str]) -> Ran {
    loop {
        let ran = sandbox.pyexec(arguments);
        if ran.code != GIVEN_UP {
            return ran;
        }
    }
}

/// Whether it ends well or by a panic: the others are to stop.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) fn block_on<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(task)
}

#[test]
fn daemons_that_are_killed_at_random_under_load_lose_nothing() {
    let wanted = number("PYEXEC_TEST_KILLS").map_or(200, |kills| u32::try_from(kills).expect("is small"));
    let mut random = fastrand::Rng::with_seed(seed());
    let sandbox = Sandbox::new();
    let done = AtomicBool::new(false);
    let (promises, (attached, perhaps)) = std::thread::scope(|scope| {
        let submitting: Vec<_> = (0..WORKERS)
            .map(|_| {
                let random = random.fork();
                scope.spawn(|| {
                    let _done = SetWhenDropped(&done);
                    block_on(submit_jobs(&sandbox, random, &done))
                })
            })
            .collect();
        let of_runs = random.fork();
        let running = scope.spawn(|| {
            let _done = SetWhenDropped(&done);
            run_attached(&sandbox, of_runs, &done)
        });
        {
            let _done = SetWhenDropped(&done);
            kill_daemons(&sandbox, random.fork(), wanted);
        }
        // Those who still wait for the end of a job are to see it.
        let _daemon = sandbox.daemon_or_another();
        let promises: Vec<Promise> = submitting.into_iter().flat_map(joined).collect();
        (promises, joined(running))
    });
    say(&format!("{} kills, {} jobs, {} of them attached", wanted, promises.len() + attached.len(), attached.len()));
    let daemon = sandbox.daemon_or_another();
    block_on(verify(&sandbox, &promises, &attached, &perhaps));
    drop(daemon);
    prune_under_kills(&sandbox, random, wanted / 10);
}

/// And then they go, whatever happens meanwhile.
fn prune_under_kills(sandbox: &Sandbox, mut random: fastrand::Rng, wanted: u32) {
    std::thread::scope(|scope| {
        let killing = scope.spawn(|| kill_daemons(sandbox, random.fork(), wanted));
        let all = PruneRequest { older_than_ms: 0, keep_completed: false, keep_failed: false, dry_run: false };
        let pruning = scope.spawn(move || {
            block_on(async {
                let client = connect(sandbox).await;
                insist(async || client.prune(all).await).await
            })
        });
        joined(killing);
        let _daemon = sandbox.daemon_or_another();
        joined(pruning);
        block_on(verify(sandbox, &[], &[], &[]));
    });
}

/// Its panic is ours.
pub(super) fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
