//! A throw-away home with the real programs in it, and the means to wait for facts.
//!
//! Every test has a [`Sandbox`] of its own. When it is dropped, no process that belongs to it may be left: neither a
//! supervisor, nor a job, nor anything a job has started. A [`TestDaemon`] is a daemon that the test itself started, and
//! can therefore kill and reap; otherwise the command line starts one, as it does for its users.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pyexec_proto::client::Daemon;
use pyexec_proto::environment::Interpreter;
use pyexec_proto::job::{Submission, Variables};
use pyexec_proto::paths::Paths;
use pyexec_proto::start::{READY, SERVICE_MARK};
use pyexec_proto::{Client, JobId, JobSource, JobSpec};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The command line under test.
pub(crate) const PYEXEC: &str = env!("CARGO_BIN_EXE_e2e-pyexec");
/// The daemon under test.
pub(crate) const PYEXECD: &str = env!("CARGO_BIN_EXE_e2e-pyexecd");

/// How long a fact may take to come true. Nothing is asserted about it: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

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
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        // Short, because a socket's path has to fit into 107 bytes.
        let root = tempfile::Builder::new().prefix("px-").tempdir_in("/tmp").expect("a directory");
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
        Self { root, variables, pyexec: PYEXEC.into() }
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
        std::fs::write(&path, text).expect("can be written");
        path
    }

    pub(crate) fn paths(&self) -> Paths {
        let of = |name: &str| self.root().join(name).join("pyexec");
        let runtime = of("run");
        let socket =
            self.variables.get(OsStr::new("PYEXEC_SOCKET")).map_or_else(|| runtime.join("pyexecd.sock"), PathBuf::from);
        Paths { state: of("state"), data: of("data"), cache: of("cache"), config: of("config"), runtime, socket }
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

    pub(crate) fn cli<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.command(&self.pyexec);
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
        let mut child = command.spawn().expect("can be started");
        let stdout = Capture::of(child.stdout.take().expect("is a pipe"));
        let stderr = Capture::of(child.stderr.take().expect("is a pipe"));
        Attended { sandbox: self, child, stdout, stderr, ended: false }
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
            None | Some('Z' | 'X') => Ok(()),
            Some(state) => Err(format!("state {state}")),
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
        let variables: Vec<_> = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let child = start_daemon(self, &variables);
        assert!(child.is_some(), "another daemon runs in this sandbox\n{}", self.daemon_log());
        TestDaemon { sandbox: self, variables, child }
    }

    /// A client that starts no daemon.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.paths(), Daemon::MustRun).await.expect("a daemon listens")
    }

    /// What `pyexec run --no-uv -d -c CODE` submits, for a client.
    pub(crate) fn submission(&self, code: &str) -> Submission {
        let spec = JobSpec {
            limits: pyexec_proto::job::ResourceLimit::of_this_process(),
            ..JobSpec::new(JobSource::Code { code: code.into() }, self.work(), Interpreter::System)
        };
        let environment: Variables = self.variables.clone().into_iter().collect();
        Submission { id: JobId::mint(), spec, environment, overrides: Default::default(), stdin: vec![] }
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

    pub(crate) fn daemons(&self) -> Vec<Process> {
        self.processes().into_iter().filter(Process::is_daemon).collect()
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
        for daemon in self.daemons() {
            send(daemon.pid, Signal::TERM);
        }
        let deadline = Instant::now() + if failed { Duration::ZERO } else { PATIENCE / 2 };
        let survivors = loop {
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

/// A daemon that is this process's own child.
#[derive(Debug)]
pub(crate) struct TestDaemon<'a> {
    sandbox: &'a Sandbox,
    variables: Vec<(OsString, OsString)>,
    child: Option<Child>,
}

/// Returns when a daemon listens; `None` when that is another one, which a client was quicker to start.
fn start_daemon(sandbox: &Sandbox, variables: &[(OsString, OsString)]) -> Option<Child> {
    let mut command = sandbox.command(PYEXECD);
    command.arg("--detach").envs(variables.iter().cloned()).env(SERVICE_MARK, "daemon").current_dir("/");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("can be started");
    let mut said = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("is a pipe"));
    stdout.read_line(&mut said).expect("can be read");
    if said.trim_end() != READY {
        let _ = child.kill();
        let _ = child.wait();
        if said.contains("another daemon is running") {
            return None;
        }
        panic!("the daemon said {said:?} instead of listening\n{}", sandbox.daemon_log());
    }
    Some(child)
}

impl TestDaemon<'_> {
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// `kill -9`, and reaped: when this returns, there is no daemon.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("can be killed");
        child.wait().expect("can be reaped");
    }

    /// Returns when a daemon listens: this one, or one that a client was quicker to start.
    #[track_caller]
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.child = start_daemon(self.sandbox, &self.variables);
    }

    /// `kill -9`, and the next one.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.start();
    }

    /// Returns when it has left by itself.
    #[track_caller]
    pub(crate) fn wait_until_it_leaves(&mut self) {
        let child = self.child.as_mut().expect("it runs");
        let status = self.sandbox.wait_until("the daemon has left", || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        });
        self.child = None;
        assert!(status.success(), "the daemon left with {status}\n{}", self.sandbox.daemon_log());
    }
}

impl Drop for TestDaemon<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            send(child.id(), Signal::TERM);
            let deadline = Instant::now() + PATIENCE / 2;
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() > deadline {
                    let _ = child.kill();
                    let _ = child.wait();
                    assert!(std::thread::panicking(), "the daemon did not leave\n{}", self.sandbox.daemon_log());
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Attended<'a> {
    sandbox: &'a Sandbox,
    child: Child,
    stdout: Capture,
    stderr: Capture,
    ended: bool,
}

impl Attended<'_> {
    /// When it was started with a pipe for stdin.
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("its stdin is a pipe")
    }

    /// Returns once this text has been printed, while the command goes on.
    #[track_caller]
    pub(crate) fn wait_for_stdout(&mut self, text: &str) {
        self.wait_for(text, |this| this.stdout.so_far());
    }

    #[track_caller]
    pub(crate) fn wait_for_stderr(&mut self, text: &str) {
        self.wait_for(text, |this| this.stderr.so_far());
    }

    #[track_caller]
    fn wait_for(&mut self, text: &str, seen: impl Fn(&Self) -> Vec<u8>) {
        let sandbox = self.sandbox;
        sandbox.wait_until(&format!("{text:?} is printed"), || {
            let ended = self.child.try_wait().expect("can be waited for");
            if contains(&seen(self), text) {
                return Ok(());
            }
            let stderr = String::from_utf8_lossy(&self.stderr.so_far()).into_owned();
            if ended.is_some() && self.stdout.is_closed() && self.stderr.is_closed() && !contains(&seen(self), text) {
                panic!("it ended with {ended:?} before it printed {text:?}; stderr: {stderr}");
            }
            Err(format!("{:?}, stderr {stderr:?}", String::from_utf8_lossy(&seen(self))))
        });
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ran {
        let status = self.sandbox.wait_until("the command has ended", || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}, stderr {:?}", String::from_utf8_lossy(&self.stderr.so_far()))),
        });
        self.ended = true;
        // The ends of its streams, too: nothing it has started may hold them open.
        let (stdout, stderr) = (&self.stdout, &self.stderr);
        self.sandbox.wait_until("the streams of a command that has ended are closed", || {
            if stdout.is_closed() && stderr.is_closed() { Ok(()) } else { Err("still open") }
        });
        let code = status.code().unwrap_or_else(|| -status.signal().expect("one or the other"));
        Ran { code, stdout: self.stdout.so_far(), stderr: String::from_utf8_lossy(&self.stderr.so_far()).into_owned() }
    }
}

impl Drop for Attended<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What has come through a pipe so far.
#[derive(Debug)]
struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Capture {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let captured = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                captured.lock().expect("nobody panics with it").extend_from_slice(&buffer[..read]);
            }
        });
        Self { bytes, reader }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().expect("nobody panics with it").clone()
    }

    fn is_closed(&self) -> bool {
        self.reader.is_finished()
    }
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    /// Negative for a signal.
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("not one JSON document: {error}\n{self}"))
    }
}

impl Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stdout = self.text();
        let shown: String = stdout.chars().take(4_000).collect();
        write!(f, "exit code {}\n--- stdout\n{shown}\n--- stderr\n{}\n---", self.code, self.stderr)
    }
}

/// A process as `/proc` shows it.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    arguments: Vec<u8>,
    environment: Vec<u8>,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        if matches!(process_state(pid)?, 'Z' | 'X') {
            return None;
        }
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        Some(Self { pid, arguments: read("cmdline"), environment: read("environ") })
    }

    pub(crate) fn is_daemon(&self) -> bool {
        self.environment.split(|byte| *byte == 0).any(|variable| variable == b"PYEXEC_SERVICE=daemon")
            // uv and systemctl, when the daemon asks them something, are no daemons.
            && contains(self.arguments.split(|byte| *byte == 0).next().unwrap_or_default(), "pyexecd")
    }

    fn name(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default().trim_end().to_owned()
    }

    /// A supervisor that waits for the next job.
    pub(crate) fn is_spare(&self) -> bool {
        self.is_supervisor() && !self.name().starts_with("pyexec-") || self.name() == "pyexec-spare"
    }

    pub(crate) fn is_supervisor(&self) -> bool {
        self.environment.split(|byte| *byte == 0).any(|variable| variable == b"PYEXEC_SERVICE=supervisor")
    }
}

impl Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = self.arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
        write!(f, "{}: {words}", self.pid)
    }
}

fn every_pid() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").expect("there is a /proc");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The letter of `/proc/PID/stat`; `None` when there is no such process.
pub(crate) fn process_state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    !matches!(process_state(pid), None | Some('Z' | 'X'))
}

/// To a process of this test's own.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("is the pid of a process");
    let _ = kill_process(pid, signal);
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
