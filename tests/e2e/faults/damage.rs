//! A run directory with each of its files missing, cut short, overwritten, or something else altogether: that job's affair,
//! never another's, and never an outcome that was made up.

use std::path::Path;

use pyexec_client::Client;
use pyexec_proto::job::StdinSource;
use pyexec_proto::state::{NotStarted, Outcome};
use pyexec_proto::{JobDetail, JobId, JobSource, JobState};
use rustix::fs::{CWD, FileType, mknodat};

use super::ledger::connect;
use crate::sandbox::Sandbox;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Missing,
    Empty,
    Half,
    Garbage,
    Directory,
    Pipe,
    Endless,
}

const DAMAGES: [Damage; 7] =
    [Damage::Missing, Damage::Empty, Damage::Half, Damage::Garbage, Damage::Directory, Damage::Pipe, Damage::Endless];

impl Damage {
    fn inflict(self, path: &Path) {
        let content = std::fs::read(path).unwrap_or_default();
        if path.is_dir() {
            std::fs::remove_dir_all(path).expect("can be removed");
        } else {
            let _ = std::fs::remove_file(path);
        }
        let done = match self {
            Self::Missing => Ok(()),
            Self::Empty => std::fs::write(path, ""),
            Self::Half => std::fs::write(path, &content[..content.len() / 2]),
            Self::Garbage => std::fs::write(path, b"\xff\x00{\"version\": [[[[ no such thing".repeat(50)),
            Self::Directory => std::fs::create_dir(path),
            Self::Pipe => mknodat(CWD, path, FileType::Fifo, 0o600.into(), 0).map_err(Into::into),
            Self::Endless => std::os::unix::fs::symlink("/dev/zero", path),
        };
        done.expect("can be damaged");
    }
}

/// A job, and what is to be damaged of it; nothing of the last.
struct Victim {
    id: JobId,
    file: &'static str,
    damage: Option<Damage>,
}

impl Victim {
    fn is_hurt_in(&self, files: &[&str]) -> bool {
        self.damage.is_some() && files.contains(&self.file)
    }

    fn what(&self) -> String {
        format!("{} {:?}", self.file, self.damage)
    }
}

/// One for each file and each damage, and one that stays whole.
async fn victims(sandbox: &Sandbox, files: &[&'static str], code: &str) -> Vec<Victim> {
    let client = connect(sandbox).await;
    let each = files.iter().flat_map(|file| DAMAGES.map(|damage| (*file, Some(damage)))).chain([("nothing", None)]);
    let mut victims = Vec::new();
    for (file, damage) in each {
        let mut submission = sandbox.submission("");
        submission.spec.source = JobSource::Code { code: code.replace("ID", &submission.id.to_string()).into() };
        submission.spec.stdin = StdinSource::Given;
        submission.stdin = b"given".to_vec();
        let id = client.submit(submission).await.expect("is taken").id;
        victims.push(Victim { id, file, damage });
    }
    victims
}

fn hurt(sandbox: &Sandbox, victims: &[Victim]) {
    for victim in victims {
        if let Some(damage) = victim.damage {
            damage.inflict(&sandbox.run_directory(&victim.id.to_string()).join(victim.file));
        }
    }
}

fn block_on<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(task)
}

fn outcome(job: &JobDetail) -> &Outcome {
    let JobState::Finished(outcome) = &job.state else { panic!("it has not finished: {:?}", job.state) };
    outcome
}

fn exit(job: &JobDetail) -> Option<i32> {
    match outcome(job) {
        Outcome::Ended(record) => Some(record.exit.returncode()),
        Outcome::NotStarted(_) | Outcome::Lost { .. } => None,
    }
}

/// Whatever is left of it: an answer comes, and it is not longer than what was printed.
fn read(sandbox: &Sandbox, victim: &Victim, printed: &str) {
    let ran = sandbox.pyexec(["logs", &victim.id.to_string(), "--stdout"]);
    if victim.is_hurt_in(&["stdout.0"]) {
        assert!(ran.text().len() <= 2_000, "{}: {} bytes", victim.what(), ran.stdout.len());
    } else if ran.code == 0 {
        assert_eq!(ran.text(), printed, "{}", victim.what());
    }
}

const FINISHED: [&str; 8] =
    ["spec.json", "lock", "supervisor.json", "exit.json", "resolved.json", "stdout.0", "stderr.0", "artifacts"];

fn finished(sandbox: &Sandbox) -> Vec<Victim> {
    block_on(async {
        let victims = victims(sandbox, &FINISHED, "print('out')\nraise SystemExit(3)").await;
        let client = connect(sandbox).await;
        for victim in &victims {
            assert_eq!(exit(&client.wait(victim.id).await.expect("ends")), Some(3));
        }
        victims
    })
}

#[test]
fn of_a_job_that_has_finished_the_index_knows_how() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let victims = finished(&sandbox);
    daemon.kill();
    hurt(&sandbox, &victims);
    daemon.start();
    let client = block_on(connect(&sandbox));
    for victim in &victims {
        let job = block_on(client.show(victim.id)).unwrap_or_else(|error| panic!("{}: {error}", victim.what()));
        assert_eq!(exit(&job), Some(3), "{}", victim.what());
        read(&sandbox, victim, "out\n");
    }
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).expect_code(0).json()["total"], victims.len());
    let pruned = sandbox.pyexec(["prune", "--older-than", "0s", "--json"]).expect_code(0).json();
    assert_eq!(pruned["removed"], victims.len(), "{pruned}");
}

#[test]
fn without_an_index_what_can_not_be_read_is_said_not_to_be_known() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let victims = finished(&sandbox);
    daemon.kill();
    hurt(&sandbox, &victims);
    sandbox.remove_index();
    daemon.start();
    let readable: Vec<&Victim> = victims.iter().filter(|victim| !victim.is_hurt_in(&["spec.json"])).collect();
    sandbox.wait_until("all that can be read are known again", || {
        // All have ended, and none is ever said to wait for its turn.
        let listing = sandbox.pyexec(["jobs", "--all", "--json"]).expect_code(0).json();
        let jobs = listing["jobs"].as_array().expect("is an array");
        let waits = jobs.iter().find(|job| job["status"] == "pending" || job["status"] == "running");
        assert!(waits.is_none(), "{waits:?}");
        if listing["total"] == readable.len() { Ok(()) } else { Err(listing["total"].clone()) }
    });
    let client = block_on(connect(&sandbox));
    for victim in readable {
        let job = block_on(client.wait(victim.id)).unwrap_or_else(|error| panic!("{}: {error}", victim.what()));
        if victim.is_hurt_in(&["exit.json"]) {
            assert!(matches!(outcome(&job), Outcome::Lost { .. }), "{}: {:?}", victim.what(), job.state);
        } else {
            assert_eq!(exit(&job), Some(3), "{}: {:?}", victim.what(), job.state);
        }
        read(&sandbox, victim, "out\n");
    }
    // What can not be read is left where it is: somebody may make sense of it. Nothing else names it.
    let doctor = sandbox.pyexec(["doctor", "--json"]).json();
    let checks = doctor["checks"].as_array().expect("is a list");
    let check = checks.iter().find(|check| check["name"] == "run directories").expect("there are some");
    let unreadable = victims.iter().filter(|victim| victim.is_hurt_in(&["spec.json"]));
    let mut unreadable: Vec<String> = unreadable.map(|victim| victim.id.to_string()).collect();
    unreadable.sort();
    assert!(unreadable.iter().all(|id| sandbox.run_directory(id).is_dir()));
    let detail = check["detail"].as_str().expect("is text");
    assert!(detail.contains(&unreadable[0]) && detail.ends_with(" and 2 more"), "{check}");
}

/// Whether or not it can be told any more how it ends, it ends.
#[test]
fn a_job_that_runs_goes_on_whatever_becomes_of_its_directory() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let files = ["spec.json", "lock", "supervisor.json", "exit.json.tmp", "resolved.json", "stdout.0", "stderr.0"];
    let code = "import os, time\nprint('out')\nopen('begun-ID', 'w').write('begun\\n')\n\
        while not os.path.exists('go'): time.sleep(0.02)\nopen('ended', 'a').write('ID\\n')";
    let victims = block_on(victims(&sandbox, &files, code));
    for victim in &victims {
        sandbox.wait_for_file(&format!("begun-{}", victim.id));
        sandbox.wait_until_running(&victim.id.to_string());
    }
    daemon.kill();
    hurt(&sandbox, &victims);
    daemon.start();
    // With the lock gone nobody can say that its supervisor lives.
    let lockless = |victim: &Victim| victim.is_hurt_in(&["lock"]);
    let client = block_on(connect(&sandbox));
    for victim in victims.iter().filter(|victim| !lockless(victim)) {
        let job = block_on(client.show(victim.id)).unwrap_or_else(|error| panic!("{}: {error}", victim.what()));
        assert!(matches!(job.state, JobState::Running { .. }), "{}: {:?}", victim.what(), job.state);
    }
    sandbox.write("go", "");
    for victim in &victims {
        let job = block_on(client.wait(victim.id)).unwrap_or_else(|error| panic!("{}: {error}", victim.what()));
        if lockless(victim) {
            assert!(
                matches!(outcome(&job), Outcome::Lost { .. }) || exit(&job) == Some(0),
                "{}: {job:?}",
                victim.what()
            );
        } else {
            assert_eq!(exit(&job), Some(0), "{}: {:?}", victim.what(), job.state);
        }
        read(&sandbox, victim, "out\n");
    }
}

#[test]
fn a_job_that_waits_does_not_start_with_anything_but_what_it_was_given() {
    let mut sandbox = Sandbox::new();
    sandbox.set("PYEXEC_MAX_RUNNING", "1");
    sandbox.set("KNOWN", "known");
    let mut daemon = sandbox.daemon();
    let first = sandbox.detach(&["-c", "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)"]);
    sandbox.wait_until_running(&first);
    let code = "import os, sys\nopen('ran-ID', 'a').write('ran\\n')\nprint(sys.stdin.read(), os.environ['KNOWN'])";
    let victims = block_on(victims(&sandbox, &["spec.json", "environment", "stdin", "lock"], code));
    daemon.kill();
    hurt(&sandbox, &victims);
    daemon.start();
    sandbox.write("go", "");
    let client: Client = block_on(connect(&sandbox));
    for victim in &victims {
        let job = block_on(client.wait(victim.id)).unwrap_or_else(|error| panic!("{}: {error}", victim.what()));
        let runs = std::fs::read_to_string(sandbox.file(&format!("ran-{}", victim.id))).unwrap_or_default();
        let said = sandbox.pyexec(["logs", &victim.id.to_string(), "--stdout"]).text();
        if exit(&job) == Some(0) {
            assert_eq!((runs.as_str(), said.as_str()), ("ran\n", "given known\n"), "{}", victim.what());
        } else {
            assert!(runs.is_empty(), "{}: it is said not to have run: {:?}", victim.what(), job.state);
            let told = matches!(
                outcome(&job),
                Outcome::NotStarted(NotStarted::Environment(_) | NotStarted::Spawn(_)) | Outcome::Lost { .. }
            );
            assert!(told, "{}: {:?}", victim.what(), job.state);
        }
        assert_eq!(
            exit(&job) == Some(0),
            !victim.is_hurt_in(&["environment", "stdin"]) && !blocks_the_lock(victim),
            "{}: {:?}",
            victim.what(),
            job.state
        );
    }
}

/// What can not be opened can not be locked.
fn blocks_the_lock(victim: &Victim) -> bool {
    victim.is_hurt_in(&["lock"]) && matches!(victim.damage, Some(Damage::Directory | Damage::Endless))
}
