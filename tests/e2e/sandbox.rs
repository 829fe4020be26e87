//! A throw-away home with the real programs in it, and the means to wait for facts.
//!
//! Every test has a [`Sandbox`] of its own. When it is dropped, no process that belongs to it may be left: neither a
//! supervisor, nor a job, nor anything a job has started. A [`TestDaemon`] is a daemon that the test itself started, and
//! can therefore kill and reap; otherwise the command line starts one, as it does for its users.

mod attended;
mod daemon;
mod files;
mod mounts;
mod namespaces;
mod other_user;
mod process;
mod program;
mod skipped;
mod terminal;

use pyexec_run_directory::directories;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use pyexec_client::{Client, Daemon};
use pyexec_proto::environment::Interpreter;
use pyexec_proto::job::{Submission, Variables, Watching};
use pyexec_proto::paths::Paths;
use pyexec_proto::preamble::{self, Preamble};
use pyexec_proto::{JobId, JobSource, JobSpec};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) use attended::{Attended, Ran};
pub(crate) use daemon::TestDaemon;
pub(crate) use files::file_names;
pub(crate) use mounts::{Stalled, in_mount_namespace};
pub(crate) use namespaces::UserNamespace;
pub(crate) use other_user::{NOBODY, STRANGER, can_change_users};
use process::thread_count;
pub(crate) use process::{Process, every_pid, is_alive, process_state, send, started};
pub(crate) use program::{Program, manifest_directory};
pub(crate) use skipped::{Ability, can};
pub(crate) use terminal::Shown;

/// The command line under test.
pub(crate) const PYEXEC: Program = Program::new("e2e-pyexec", env!("CARGO_BIN_EXE_e2e-pyexec"));
/// The daemon under test.
pub(crate) const PYEXECD: Program = Program::new("e2e-pyexecd", env!("CARGO_BIN_EXE_e2e-pyexecd"));
/// The MCP server under test.
pub(crate) const PYEXEC_MCP: Program = Program::new("e2e-pyexec-mcp", env!("CARGO_BIN_EXE_e2e-pyexec-mcp"));

/// Not the kernel's number for users that a namespace does not know: those are to be told apart.
const OTHER_USER: (u32, u32) = (4321, 4322);

/// How long a fact may take to come true. Nothing is asserted about it: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names what sandboxes are called, up to a random end: `scripts/test.sh --group strange` puts spaces and letters into it.
const PREFIX_VARIABLE: &str = "PYEXEC_TEST_PREFIX";

/// What that also sets in them, with `PYEXEC_TEST_` before the name.
const STRANGE_VARIABLES: [&str; 2] = ["LANG", "TZ"];

/// The directory of the interpreter that `python3` really is: a `python3` on `PATH` may be a slow shim.
static PYTHON_DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let program = "import sys; print(sys.executable)";
    let asked = Command::new("python3").args(["-c", program]).output().expect("there is a python3 on PATH");
    let path = PathBuf::from(String::from_utf8(asked.stdout).expect("its path is UTF-8").trim());
    path.parent().expect("an executable lies in a directory").to_owned()
});

/// `PATH` with `first` in front of what the tests were started with.
pub(crate) fn path_variable(first: &Path) -> OsString {
    let rest = std::env::var_os("PATH").expect("PATH is set");
    std::env::join_paths(std::iter::once(first.to_owned()).chain(std::env::split_paths(&rest))).expect("can be joined")
}

/// The interpreter that jobs run with.
pub(crate) fn python() -> PathBuf {
    PYTHON_DIRECTORY.join("python3")
}

#[derive(Debug)]
pub(crate) struct Sandbox {
    root: TempDir,
    variables: BTreeMap<OsString, OsString>,
    pyexec: PathBuf,
    /// What the command line is started through.
    through: Vec<String>,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        // Short, because a socket's path has to fit into 107 bytes.
        let prefix = std::env::var_os(PREFIX_VARIABLE).unwrap_or_else(|| "px-".into());
        let root = tempfile::Builder::new().prefix(&prefix).tempdir_in("/tmp").expect("a directory");
        std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o700)).expect("can be made private");
        let mut variables = BTreeMap::new();
        for (name, directory) in [
            ("HOME", "home"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_RUNTIME_DIR", "run"),
            ("TMPDIR", "tmp"),
        ] {
            let path = root.path().join(directory);
            std::fs::create_dir(&path).expect("can be made");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("can be made private");
            variables.insert(name.into(), path.into());
        }
        std::fs::create_dir(root.path().join("work")).expect("can be made");
        variables.insert("PATH".into(), path_variable(&PYTHON_DIRECTORY));
        variables.insert("PYEXEC_DAEMON".into(), PYEXECD.into());
        variables.insert("LANG".into(), "C.UTF-8".into());
        for name in STRANGE_VARIABLES {
            if let Some(value) = std::env::var_os(format!("PYEXEC_TEST_{name}")) {
                variables.insert(name.into(), value);
            }
        }
        Self { root, variables, pyexec: PYEXEC.into(), through: vec![] }
    }

    /// Set for everything that is started in this sandbox from now on.
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.variables.insert(name.into(), value.as_ref().to_owned());
    }

    /// What is set for everything that is started in it.
    pub(crate) fn variables(&self) -> &BTreeMap<OsString, OsString> {
        &self.variables
    }

    /// From now on the command line runs from a directory of its own, with none of our other programs beside it.
    pub(crate) fn set_pyexec_apart(&mut self) {
        let apart = self.root().join("apart");
        std::fs::create_dir(&apart).expect("can be made");
        self.pyexec = apart.join("pyexec");
        std::fs::copy(PYEXEC, &self.pyexec).expect("can be copied");
    }

    /// From now on the command line, and the daemon it starts, have no power over files beyond what their modes say:
    /// root's own passes every one of them.
    pub(crate) fn set_unprivileged(&mut self) {
        if rustix::process::geteuid().is_root() {
            self.set_through(&["setpriv", "--inh-caps=-all", "--bounding-set=-all"]);
        }
    }

    /// From now on the command line is started through these words, and the daemon it starts with it.
    pub(crate) fn set_through(&mut self, words: &[&str]) {
        self.through = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// From now on all of this sandbox belongs to a user without any power, and so does what the command line starts. Tests
    /// that are not run by root have no other.
    pub(crate) fn set_other_user(&mut self) {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (user, group) = OTHER_USER;
        self.set_through(&["setpriv", &format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups"]);
        // Where everybody may read them.
        let bin = self.root().join("bin");
        std::fs::create_dir(&bin).expect("can be made");
        for program in [PYEXEC, PYEXECD] {
            let name = Path::new(program.path()).file_name().expect("has one");
            std::fs::copy(program, bin.join(name)).expect("can be copied");
        }
        self.pyexec = bin.join(Path::new(PYEXEC.path()).file_name().expect("has one"));
        self.set("PYEXEC_DAEMON", bin.join(Path::new(PYEXECD.path()).file_name().expect("has one")));
        let directories = std::env::split_paths(&std::env::var_os("PATH").expect("PATH is set")).collect::<Vec<_>>();
        let runs = |python: &PathBuf| {
            let mut command = self.command(&self.through[0]);
            let ran = command.args(&self.through[1..]).arg(python).args(["-c", ""]).current_dir("/").output();
            ran.is_ok_and(|ran| ran.status.success())
        };
        let python = directories.iter().map(|directory| directory.join("python3")).find(runs);
        let python = python.expect("there is a python3 on PATH that every user may run");
        self.set("PATH", path_variable(python.parent().expect("lies in a directory")));
        let given = Command::new("chown").arg("-R").arg(format!("{user}:{group}")).arg(self.root()).status();
        assert!(given.expect("can be started").success(), "the sandbox could not be given away");
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Where commands are started, and scripts lie.
    pub(crate) fn work(&self) -> PathBuf {
        self.root().join("work")
    }

    /// A path in [`Sandbox::work`].
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.work().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        let is_new = !path.exists();
        std::fs::write(&path, text).expect("can be written");
        if is_new {
            // For other users who run in this sandbox, whatever the umask of whoever runs the tests.
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("is ours");
        }
        path
    }

    pub(crate) fn paths(&self) -> Paths {
        let of = |name: &str| self.root().join(name).join("pyexec");
        let runtime = of("run");
        let socket =
            self.variables.get(OsStr::new("PYEXEC_SOCKET")).map_or_else(|| runtime.join("pyexecd.sock"), PathBuf::from);
        let (state, data, cache, config) = (of("state"), of("data"), of("cache"), of("config"));
        Paths { instance: None, state, data, cache, config, runtime, socket }
    }

    pub(crate) fn run_directory(&self, id: &str) -> PathBuf {
        self.paths().jobs().join(id)
    }

    /// A command that sees this sandbox, and nothing of the environment the tests were started in.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.variables).current_dir(self.work()).stdin(Stdio::null());
        command
    }

    /// A program that is started as the command line is.
    pub(crate) fn through(&self, program: impl AsRef<OsStr>) -> Command {
        match self.through.as_slice() {
            [] => self.command(program),
            [first, options @ ..] => {
                let mut command = self.command(first);
                command.args(options).arg(program);
                command
            }
        }
    }

    pub(crate) fn cli<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.through(&self.pyexec);
        command.args(arguments);
        command
    }

    /// Runs the command line to its end.
    #[track_caller]
    pub(crate) fn pyexec<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ran {
        self.attend(self.cli(arguments)).end()
    }

    /// Runs `pyexec run --no-uv` to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.attend_run(arguments).end()
    }

    /// Starts `pyexec run --no-uv`.
    #[track_caller]
    pub(crate) fn attend_run(&self, arguments: &[&str]) -> Attended<'_> {
        self.attend(self.cli(["run", "--no-uv"].iter().chain(arguments)))
    }

    /// Submits with `pyexec run --no-uv -d`; the job's id.
    #[track_caller]
    pub(crate) fn detach(&self, arguments: &[&str]) -> String {
        let ran = self.pyexec(["run", "--no-uv", "-d"].iter().chain(arguments)).expect_code(0);
        let id = ran.text();
        let id = id.strip_suffix('\n').unwrap_or(&id);
        assert!(id.parse::<JobId>().is_ok(), "not just an id: {ran}");
        id.to_owned()
    }

    /// Starts a command whose output is read as it comes.
    #[track_caller]
    pub(crate) fn attend(&self, mut command: Command) -> Attended<'_> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Attended::of(self, command.spawn().expect("can be started"))
    }

    /// `pyexec show ID --json`, the job itself.
    #[track_caller]
    pub(crate) fn show(&self, id: &str) -> Value {
        self.pyexec(["show", id, "--json"]).expect_code(0).json()["job"].clone()
    }

    #[track_caller]
    pub(crate) fn logs(&self, id: &str) -> Vec<u8> {
        self.pyexec(["logs", id, "--stdout"]).expect_code(0).stdout
    }

    /// Waits for the job to end, and shows it.
    #[track_caller]
    pub(crate) fn finished(&self, id: &str) -> Value {
        self.pyexec(["wait", id]);
        let job = self.show(id);
        assert!(is_finished(&job), "`pyexec wait` returned, but the job has not finished: {job}");
        job
    }

    #[track_caller]
    pub(crate) fn wait_for_status(&self, id: &str, status: &str) -> Value {
        self.wait_until(&format!("job {id} is {status}"), || {
            let job = self.show(id);
            if job["status"] == status { Ok(job) } else { Err(job.to_string()) }
        })
    }

    #[track_caller]
    pub(crate) fn wait_until_running(&self, id: &str) {
        self.wait_for_status(id, "running");
    }

    /// The whole content of a file that a job writes in one go and ends with a newline.
    #[track_caller]
    pub(crate) fn wait_for_file(&self, name: &str) -> String {
        let path = self.file(name);
        self.wait_until(&format!("{name} is written"), || match std::fs::read_to_string(&path) {
            Ok(text) if text.ends_with('\n') => Ok(text.trim_end().to_owned()),
            Ok(text) => Err(format!("{text:?}")),
            Err(error) => Err(error.to_string()),
        })
    }

    /// Returns what `look` finds as soon as it finds it; its error is the last state, for the reader of a failure.
    #[track_caller]
    pub(crate) fn wait_until<T, E: Display>(&self, what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match look() {
                Ok(found) => return found,
                Err(state) if Instant::now() > deadline => {
                    panic!("it never came true that {what}; last seen: {state}\n{}", self.daemon_log())
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Returns once no process has this pid any more, or only a zombie that its parent has not reaped.
    #[track_caller]
    pub(crate) fn wait_until_gone(&self, pid: u32) {
        self.wait_until(&format!("process {pid} is gone"), || match process_state(pid) {
            None => Ok(()),
            // Its other threads may still have its files open.
            Some('Z' | 'X') if thread_count(pid) <= 1 => Ok(()),
            Some(state) => Err(format!("state {state}, {} threads", thread_count(pid))),
        });
    }

    /// `pyexec daemon status --json`.
    #[track_caller]
    pub(crate) fn daemon_status(&self) -> Value {
        self.pyexec(["daemon", "status", "--json"]).json()
    }

    #[track_caller]
    pub(crate) fn daemon_pid(&self) -> u32 {
        let status = self.daemon_status();
        pid_of(&status["pid"])
    }

    /// `kill -9`, of a daemon that the command line has started.
    #[track_caller]
    pub(crate) fn kill_daemon(&self) {
        let pid = self.daemon_pid();
        send(pid, Signal::KILL);
        self.wait_until_gone(pid);
    }

    /// What the daemons of this sandbox have logged.
    pub(crate) fn daemon_log(&self) -> String {
        let mut text = String::new();
        for path in files_below(&self.paths().logs()) {
            text += &String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default());
        }
        format!("--- the daemon's log\n{text}---")
    }

    /// A daemon of the test's own.
    #[track_caller]
    pub(crate) fn daemon(&self) -> TestDaemon<'_> {
        self.daemon_with(&[])
    }

    #[track_caller]
    pub(crate) fn daemon_with(&self, variables: &[(&str, &str)]) -> TestDaemon<'_> {
        TestDaemon::of(self, variables.iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// A daemon of the test's own, from a program of its choice.
    #[track_caller]
    pub(crate) fn daemon_in_place_of_any(&self, program: &Path, variables: &[(&str, &str)]) -> TestDaemon<'_> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        TestDaemon::in_place_of_any(self, program.into(), variables)
    }

    /// A daemon of the test's own, unless a client was quicker to start one.
    #[track_caller]
    pub(crate) fn daemon_or_another(&self) -> TestDaemon<'_> {
        TestDaemon::or_another(self)
    }

    /// A connection on which both sides have greeted.
    #[track_caller]
    pub(crate) fn greeted(&self) -> UnixStream {
        let mut stream = UnixStream::connect(self.paths().socket).expect("somebody listens");
        stream.write_all(&self.opening()).expect("can be written");
        let mut theirs = [0; preamble::LENGTH];
        stream.read_exact(&mut theirs).expect("the daemon greets");
        assert_eq!(Preamble::decode(&theirs), Some(Preamble::ours()));
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("the daemon greets");
        let mut text = vec![0; usize::try_from(u32::from_le_bytes(length)).expect("fits")];
        stream.read_exact(&mut text).expect("the daemon greets");
        stream
    }

    /// What a client of this sandbox begins a connection with.
    pub(crate) fn opening(&self) -> Vec<u8> {
        directories::greeting(&self.paths()).opening(&Preamble::ours())
    }

    /// A client that starts no daemon.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.paths(), Daemon::MustRun).await.expect("a daemon listens")
    }

    /// What `pyexec run --no-uv -d -c CODE` submits, for a client.
    pub(crate) fn submission(&self, code: &str) -> Submission {
        let spec = JobSpec {
            resource_limits: pyexec_run_directory::own_limits::of_this_process(),
            ..JobSpec::new(JobSource::Code { code: code.into() }, self.work(), Interpreter::System)
        };
        let environment: Variables = self.variables.clone().into_iter().collect();
        let (id, overrides) = (JobId::mint(), Default::default());
        let watching = Watching::default();
        Submission { id, spec, watching, environment, overrides, stdin: vec![], env_file: None, autosave: None }
    }

    /// Every living process of this sandbox.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let mark = format!("{}/", self.root().display());
        let mut found: Vec<Process> = every_pid()
            .filter(|pid| *pid != std::process::id())
            .filter_map(Process::read)
            .filter(|process| contains(&process.environment, &mark) || contains(&process.arguments, &mark))
            .collect();
        found.sort_by_key(|process| process.pid);
        found
    }

    /// Named after its job, which tells it from the one that waits for the next.
    #[track_caller]
    pub(crate) fn supervisor_of(&self, id: &str) -> Process {
        let name = format!("pyexec-{}", &id[..8]);
        let found = self.processes().into_iter().find(|process| process.is_supervisor() && process.name() == name);
        found.unwrap_or_else(|| panic!("job {id} has no supervisor"))
    }

    /// What a daemon has forked looks like the daemon until it has become a supervisor: it is none.
    pub(crate) fn daemons(&self) -> Vec<Process> {
        let mut found: Vec<Process> = self.processes().into_iter().filter(Process::is_daemon).collect();
        let pids: Vec<u32> = found.iter().map(|process| process.pid).collect();
        found.retain(|process| process.parent().is_none_or(|parent| !pids.contains(&parent)));
        found
    }

    /// All regular files of this sandbox, whatever they are for.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        files_below(self.root())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            say(&self.daemon_log());
        }
        let deadline = Instant::now() + if failed { Duration::ZERO } else { PATIENCE / 2 };
        let mut told = BTreeSet::new();
        let survivors = loop {
            // One may just be starting: a client, or a supervisor whose daemon was killed, has asked for it.
            for daemon in self.daemons() {
                if told.insert(daemon.pid) {
                    send(daemon.pid, Signal::TERM);
                }
            }
            let left = self.processes();
            if left.is_empty() || Instant::now() > deadline {
                break left;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if survivors.is_empty() {
            return;
        }
        let list: Vec<String> = survivors.iter().map(Process::to_string).collect();
        // Supervisors first would be polite; there is no need to be, and a killed job can not start more.
        while !self.processes().is_empty() {
            for process in self.processes() {
                send(process.pid, Signal::KILL);
            }
        }
        let log = self.daemon_log();
        assert!(failed, "these processes have survived the test:\n{}\n{log}", list.join("\n"));
    }
}

/// Runs Python that does something to itself and then becomes `pyexec`.
#[track_caller]
pub(crate) fn starter(sandbox: &Sandbox, before: &str, arguments: &[&str]) -> Ran {
    const BECOME: &str = "os.execv(sys.argv[1], ['pyexec'] + sys.argv[2:])";
    let program = format!("import os, resource, signal, sys\n{before}\n{BECOME}\n");
    let (through, options) = match sandbox.through.as_slice() {
        [] => ("python3", vec![]),
        [program, options @ ..] => (program.as_str(), [options, &["python3".to_owned()]].concat()),
    };
    let mut command = sandbox.command(through);
    command.args(options).args(["-c", &program]).arg(&sandbox.pyexec).args(arguments);
    sandbox.attend(command).end()
}

#[track_caller]
pub(crate) fn pid_of(value: &Value) -> u32 {
    value.as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_else(|| panic!("{value} is no pid"))
}

pub(crate) fn is_finished(job: &Value) -> bool {
    job["status"] != "pending" && job["status"] != "running"
}

pub(crate) fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len().max(1)).any(|window| window == needle.as_bytes())
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return vec![] };
    let mut files = Vec::new();
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(files_below(&entry.path())),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            Ok(_) | Err(_) => {}
        }
    }
    files.sort();
    files
}

/// Into the report of a test that fails.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
