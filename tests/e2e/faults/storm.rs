//! A storm: two daemons of two state directories share one cache, and whatever takes part is killed or restarted at random:
//! daemons, clients, supervisors, and whole trees of processes from which clients were started.
//!
//! `PYEXEC_TEST_KILLS` is the number of kills and restarts, `PYEXEC_TEST_SEED` plays a run again, as far as the machine's own
//! timing allows.

mod accounts;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::ledger::{assert_nothing_is_left, connect, kill_supervisor};
use super::random::{GIVEN_UP, block_on, joined};
use crate::environment_sandbox::EnvironmentSandbox;
use crate::mcp_session::{Era, McpSession, text_of};
use crate::nobodys_child::{Found, belonging_to};
use crate::sandbox::{Attended, PYEXEC, PYEXEC_MCP, PYEXECD, Ran, Sandbox, file_names, send};
use crate::seed::{number, say, seed};
use crate::wheels;
use accounts::{Account, End};

/// Clients that do something all the time, for each daemon.
const WORKERS: usize = 4;

/// Fewer than those clients have jobs, so that some wait.
const MAX_RUNNING: &str = "2";

/// Kills and restarts, where no number is asked for.
const EVENTS: usize = 40;

/// Leads a session, starts the program that it is told, with a line on stdin if there is one, and stays.
const HOST: &str = "
import os, signal, subprocess, sys
os.setsid()
line, words = sys.argv[1], sys.argv[2:]
client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
if line:
    client.stdin.write(line.encode() + b'\\n')
    client.stdin.flush()
else:
    client.stdin.close()
signal.pause()
";

/// How many kills and restarts of each kind there were, and what else there was.
#[derive(Debug, Default)]
struct Tally {
    wanted: usize,
    events: Mutex<BTreeMap<&'static str, usize>>,
    others: Mutex<BTreeMap<&'static str, usize>>,
    /// A thread has panicked: the others are to stop.
    failed: Mutex<bool>,
}

impl Tally {
    fn count(&self, event: &'static str) {
        *self.events.lock().expect("nothing panics with it").entry(event).or_default() += 1;
    }

    fn count_other(&self, what: &'static str, number: usize) {
        *self.others.lock().expect("nothing panics with it").entry(what).or_default() += number;
    }

    fn is_enough(&self) -> bool {
        let events: usize = self.events.lock().expect("nothing panics with it").values().sum();
        events >= self.wanted || *self.failed.lock().expect("nothing panics with it")
    }
}

/// Tells the other threads when it is dropped by a panic.
struct Watched<'a>(&'a Tally);

/// A client of a side, until it is dropped.
struct Working<'a>(&'a AtomicUsize);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.0.failed.lock().expect("nothing panics with it") = true;
        }
    }
}

/// One state directory, its daemons and its clients.
#[derive(Debug)]
struct Side<'a> {
    sandbox: &'a EnvironmentSandbox,
    tally: &'a Tally,
    /// Who submits and follows jobs only reads; who settles and removes all jobs writes.
    calm: RwLock<()>,
    /// Clients that have not ended.
    working: AtomicUsize,
    accounts: Mutex<Vec<Account>>,
}

fn pause(random: &mut fastrand::Rng, longest: u64) {
    std::thread::sleep(Duration::from_millis(random.u64(..longest)));
}

fn kill_or_term(random: &mut fastrand::Rng) -> (Signal, &'static str, &'static str) {
    match random.bool() {
        true => (Signal::KILL, "client KILL", "host KILL"),
        false => (Signal::TERM, "client TERM", "host TERM"),
    }
}

impl Side<'_> {
    /// Kills and restarts daemons, whoever has started them.
    fn attack_daemons(&self, mut random: fastrand::Rng) {
        let _watched = Watched(self.tally);
        while !self.tally.is_enough() {
            let longest = *random.choice(&[100, 500, 1_500]).expect("there are some");
            pause(&mut random, longest);
            match random.u8(..6) {
                0 => {
                    self.sandbox.pyexec(["daemon", "restart"]);
                    self.tally.count("daemon restart");
                }
                1 => self.take_daemon_away(&mut random),
                _ => self.kill_daemon(),
            }
            // Mostly a client or a supervisor is quicker; but when everybody settles, there is none.
            pause(&mut random, 300);
            self.start_daemon();
        }
        // Whoever is still waiting for the end of a job may be one who starts no daemon.
        while self.working.load(Ordering::Relaxed) > 0 {
            pause(&mut random, 50);
            self.start_daemon();
        }
    }

    fn start_daemon(&self) {
        if self.sandbox.daemons().is_empty() {
            self.sandbox.pyexec(["daemon", "start"]);
        }
    }

    /// Kills a daemon when there is none to be started for a while, as in an upgrade: clients fail, and have to say of which
    /// job.
    fn take_daemon_away(&self, random: &mut fastrand::Rng) {
        let (program, aside) = (daemon_program(self.sandbox), self.sandbox.root().join("aside"));
        std::fs::rename(&program, &aside).expect("is there");
        self.kill_daemon();
        pause(random, 500);
        std::fs::rename(&aside, &program).expect("is there");
        self.tally.count("daemon's program away");
    }

    fn kill_daemon(&self) {
        for daemon in self.sandbox.daemons() {
            send(daemon.pid, Signal::KILL);
            self.sandbox.wait_until_gone(daemon.pid);
            self.tally.count("daemon KILL");
        }
    }

    /// Submits jobs, follows them, and kills what does it, until there were enough events.
    fn work(&self, name: &str, mut random: fastrand::Rng) {
        let (_watched, _working) = (Watched(self.tally), Working(&self.working));
        for number in 0.. {
            if self.tally.is_enough() {
                break;
            }
            if random.u8(..60) == 0 {
                self.remove_all_jobs();
            }
            let _calm = self.calm.read().expect("nothing panics with it");
            if random.u8(..15) == 0 {
                let pruned = self.sandbox.pyexec(["env", "prune"]);
                assert!(pruned.code == 0 || pruned.code == GIVEN_UP, "{pruned}");
                self.tally.count_other("env prune", 1);
            }
            let mut account = Account::new(format!("{name}-{number}"), &mut random);
            match random.u8(..10) {
                0..2 => self.run_attached(&mut account, &mut random),
                2..4 => self.call(&mut account, &mut random),
                4..6 => self.end_host(&mut account, &mut random),
                6 => {
                    account = account.endless();
                    self.lose(&mut account);
                }
                7 => self.kill_supervisor_at_any_time(&mut account, &mut random),
                _ => {
                    self.detach(&mut account);
                    self.follow(&mut account, &mut random);
                }
            }
            self.tally.count_other("jobs", 1);
            self.tally.count_other("clients that failed", account.failures.len());
            self.accounts.lock().expect("nothing panics with it").push(account);
        }
    }

    /// The words that run a job, behind `pyexec`.
    fn words(&self, account: &Account, detached: bool) -> Vec<String> {
        let mut words = vec!["run".to_owned(), "--label".into(), account.tag.clone()];
        if detached {
            words.push("-d".into());
        }
        if account.packages.is_empty() {
            words.push("--no-uv".into());
        }
        words.extend(account.requirements().flat_map(|requirement| ["--with".to_owned(), requirement.to_owned()]));
        words.extend(["-c".to_owned(), account.code(self.sandbox)]);
        words
    }

    /// The tool that runs a job, and its arguments.
    fn tool(&self, account: &Account) -> (&'static str, Value) {
        let mut arguments = json!({
            "script_content": account.code(self.sandbox), "job_label": account.tag, "markdown_output": false,
        });
        if account.packages.is_empty() {
            arguments["directory"] = json!(self.sandbox.work());
            arguments["use_uv"] = false.into();
            return ("py_run_script_in_dir", arguments);
        }
        arguments["dependencies"] = account.requirements().collect();
        ("py_run_script_with_dependencies", arguments)
    }

    /// `pyexec run -d`, again under another label as long as no daemon stays for it.
    fn detach(&self, account: &mut Account) {
        let ran = self.sandbox.pyexec(self.words(account, true));
        account.told(&ran.stderr);
        if ran.code == 0 {
            account.id = Some(ran.text().trim_end().parse().expect("is an id"));
        } else {
            assert_eq!(ran.code, GIVEN_UP, "{ran}");
        }
    }

    /// Ends it at some time, perhaps. Returns what it has said, and by which signal it was told to end.
    fn end_client(&self, client: Attended<'_>, random: &mut fastrand::Rng) -> (Ran, Option<Signal>) {
        if random.bool() {
            return (client.end(), None);
        }
        pause(random, 600);
        let (signal, event, _) = kill_or_term(random);
        client.signal(signal);
        self.tally.count(event);
        (client.end(), Some(signal))
    }

    fn run_attached(&self, account: &mut Account, random: &mut fastrand::Rng) {
        let client = self.sandbox.attend(self.sandbox.cli(self.words(account, false)));
        let (ran, signal) = self.end_client(client, random);
        account.told(&ran.stderr);
        if signal == Some(Signal::TERM) {
            account.end = End::Cancellable;
        }
        if signal.is_none() && ran.code == i32::from(account.exit) {
            assert_eq!(ran.text(), account.stdout(), "{account:?}: {ran}");
            assert!(ran.stderr.ends_with("err\n"), "{account:?}: {ran}");
        } else if signal.is_none() {
            assert_eq!(ran.code, GIVEN_UP, "{account:?}: {ran}");
        }
    }

    /// Waits for the job, or shows what it prints, and sees its end unless that is killed.
    fn follow(&self, account: &mut Account, random: &mut fastrand::Rng) {
        let Some(id) = account.id else { return };
        let id = id.to_string();
        let waits = random.bool();
        let words: &[&str] = if waits { &["wait", &id] } else { &["logs", "-f", &id] };
        let (ran, signal) = self.end_client(self.sandbox.attend(self.sandbox.cli(words)), random);
        account.told(&ran.stderr);
        if signal.is_some() {
            return;
        }
        if ran.code == GIVEN_UP {
            assert!(ran.stderr.contains(&id), "it does not name its job: {words:?}: {ran}");
        } else if waits {
            assert_eq!(ran.code, i32::from(account.exit), "{account:?}: {ran}");
        } else {
            assert_eq!((ran.code, ran.text()), (0, account.stdout()), "{account:?}: {ran}");
        }
    }

    /// An agent's call, which waits for the job; its server is killed at some time, perhaps.
    fn call(&self, account: &mut Account, random: &mut fastrand::Rng) {
        let mut session = McpSession::open(self.sandbox, Era::Stateless);
        let (tool, arguments) = self.tool(account);
        let call = session.begin(tool, arguments);
        if random.u8(..3) == 0 {
            pause(random, 600);
            session.kill();
            self.tally.count("client KILL");
            return;
        }
        let result = session.answer(call)["result"].clone();
        if result["structuredContent"]["job_id"].is_null() {
            let text = text_of(&result);
            assert_eq!(result["isError"], true, "{account:?}: {result}");
            account.failures.push(text);
            return;
        }
        let answer = &result["structuredContent"];
        account.id = answer["job_id"].as_str().and_then(|id| id.parse().ok());
        assert_eq!(answer["exit_code"], account.exit, "{account:?}: {answer}");
        assert_eq!(answer["stdout"], json!(account.stdout()), "{account:?}: {answer}");
    }

    /// A client whose host is ended with everything below it, be it before the client has submitted anything.
    fn end_host(&self, account: &mut Account, random: &mut fastrand::Rng) {
        let (line, words) = match random.u8(..3) {
            0 => {
                let (tool, arguments) = self.tool(account);
                let meta = json!({
                    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                    "io.modelcontextprotocol/clientCapabilities": {},
                });
                let params = json!({"name": tool, "arguments": arguments, "_meta": meta});
                let request = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
                (request.to_string(), vec![PYEXEC_MCP.path().to_owned()])
            }
            detached => {
                let words = self.words(account, detached == 1);
                (String::new(), [vec![PYEXEC.path().to_owned()], words].concat())
            }
        };
        let (signal, _, event) = kill_or_term(random);
        if signal == Signal::TERM && line.is_empty() {
            account.end = End::Cancellable;
        }
        if random.bool() {
            // So that it is this host whose client starts the next one.
            self.kill_daemon();
        }
        let said = self.sandbox.file(&format!("said-{}", account.tag));
        let mut command = self.sandbox.command("python3");
        command.args(["-c", HOST, &line]).args(words).stdout(Stdio::null());
        let mut host = command.stderr(File::create(&said).expect("can be made")).spawn().expect("can be started");
        pause(random, 1_200);
        let members = belonging_to(host.id(), Found::Parent);
        for pid in &members {
            send(*pid, signal);
        }
        self.tally.count(event);
        host.wait().expect("is our child");
        for pid in members {
            self.sandbox.wait_until_gone(pid);
        }
        account.told(&String::from_utf8_lossy(&std::fs::read(said).expect("is there")));
    }

    /// Kills the supervisor of a job that would never end.
    fn lose(&self, account: &mut Account) {
        self.detach(account);
        let Some(id) = account.id else {
            // Whatever there is of it has to end.
            self.give_up(account);
            return;
        };
        account.end = End::Lost;
        block_on(kill_supervisor(self.sandbox, id));
        self.tally.count("supervisor KILL");
        let ran = self.sandbox.pyexec(["wait", &id.to_string()]);
        assert!(ran.code == GIVEN_UP && ran.stderr.contains(&id.to_string()), "{account:?}: {ran}");
        account.told(&ran.stderr);
    }

    /// Cancels what may have come of a submission whose client failed.
    fn give_up(&self, account: &mut Account) {
        account.end = End::Cancellable;
        loop {
            let jobs = self.sandbox.pyexec(["jobs", "--label", &account.tag, "--json"]);
            if jobs.code != 0 {
                continue;
            }
            let Some(id) = jobs.json()["jobs"][0]["id"].as_str().map(str::to_owned) else { return };
            if self.sandbox.pyexec(["kill", &id]).code == 0 {
                return;
            }
        }
    }

    fn kill_supervisor_at_any_time(&self, account: &mut Account, random: &mut fastrand::Rng) {
        self.detach(account);
        let Some(id) = account.id else { return };
        pause(random, 500);
        account.end = End::Losable;
        let name = format!("pyexec-{}", &id.to_string()[..8]);
        let processes = self.sandbox.processes();
        if let Some(supervisor) = processes.iter().find(|process| process.is_supervisor() && process.name() == name) {
            send(supervisor.pid, Signal::KILL);
            self.tally.count("supervisor KILL");
        }
    }

    /// Checks all jobs that there are so far, and has them removed.
    fn remove_all_jobs(&self) {
        let _calm = self.calm.write().expect("nothing panics with it");
        let mut accounts = self.accounts.lock().expect("nothing panics with it");
        let ids = block_on(async {
            let client = connect(self.sandbox).await;
            accounts::settle(self.sandbox, &client, &mut accounts).await
        });
        loop {
            let ran = self.sandbox.pyexec(["prune", "--older-than", "0s"]);
            if ran.code == 0 {
                break;
            }
            assert_eq!(ran.code, GIVEN_UP, "{ran}");
        }
        self.tally.count_other("jobs pruned", ids.len());
        for id in ids {
            assert!(!self.sandbox.run_directory(&id.to_string()).exists(), "job {id} was removed");
        }
    }

    /// The check at the end, when nobody is killed any more.
    fn settle(&self) {
        let _daemon = self.sandbox.daemon_or_another();
        let mut accounts = self.accounts.lock().expect("nothing panics with it");
        let ids = block_on(async {
            let client = connect(self.sandbox).await;
            accounts::settle(self.sandbox, &client, &mut accounts).await
        });
        assert_nothing_is_left(self.sandbox, &ids.into_iter().collect());
    }
}

/// The daemon's program, which can be taken away.
fn daemon_program(sandbox: &Sandbox) -> PathBuf {
    sandbox.root().join("pyexecd")
}

/// A sandbox with a state directory of its own, whose cache and packages are in a directory that others use too.
fn beside(shared: &std::path::Path) -> EnvironmentSandbox {
    let mut sandbox = wheels::sandbox_without_index();
    sandbox.set("UV_FIND_LINKS", shared.join("wheels"));
    sandbox.set("UV_CACHE_DIR", shared.join("uv-cache"));
    sandbox.set("XDG_CACHE_HOME", shared.join("cache"));
    let program = daemon_program(&sandbox);
    std::fs::copy(PYEXECD, &program).expect("can be copied");
    sandbox.set("PYEXEC_DAEMON", program);
    sandbox.set("PYEXEC_MAX_RUNNING", MAX_RUNNING);
    // A call waits for its job, however long that takes here.
    sandbox.set("SMART_ASYNC_TIMEOUT_SECONDS", "600");
    sandbox
}

#[test]
fn whatever_is_killed_of_two_daemons_on_one_cache_no_acknowledged_job_is_lost_or_wrong_or_runs_twice() {
    let wanted = number("PYEXEC_TEST_KILLS").map_or(EVENTS, |kills| usize::try_from(kills).expect("is small"));
    let mut random = fastrand::Rng::with_seed(seed());
    let shared = tempfile::Builder::new().prefix("px-").tempdir_in("/tmp").expect("a directory");
    let sandboxes = [beside(shared.path()), beside(shared.path())];
    for (name, version) in accounts::WHEELS {
        wheels::wheel(&sandboxes[0], name, version);
    }
    std::fs::rename(wheels::directory(&sandboxes[0]), shared.path().join("wheels")).expect("can be moved");
    let tally = Tally { wanted, ..Tally::default() };
    let sides = sandboxes.each_ref().map(|sandbox| Side {
        sandbox,
        tally: &tally,
        calm: RwLock::default(),
        working: AtomicUsize::new(WORKERS),
        accounts: Mutex::default(),
    });
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for side in &sides {
            let of_daemons = random.fork();
            threads.push(scope.spawn(move || side.attack_daemons(of_daemons)));
            for worker in 0..WORKERS {
                let random = random.fork();
                threads.push(scope.spawn(move || side.work(&format!("worker-{worker}"), random)));
            }
        }
        threads.into_iter().for_each(joined);
    });
    tally.count_other("builds", sandboxes.iter().map(|sandbox| sandbox.calls("venv")).sum());
    let [events, others] = [&tally.events, &tally.others].map(|counts| counts.lock().expect("all have ended").clone());
    say(&format!("{events:?}, {others:?}"));
    for side in &sides {
        side.settle();
    }
    // No environment is in use any more, and nothing is left of those that were being built.
    let sandbox: &Sandbox = &sandboxes[0];
    sandbox.pyexec(["env", "prune"]).expect_code(0);
    let left = file_names(&accounts::shelf(&shared.path().join("cache")));
    assert!(left.is_empty(), "{left:?}");
}
