//! The daemon belongs to no client: whoever starts it, and however that ends, it and all jobs go on.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::mcp_session::{Era, McpSession, PYEXEC_MCP};
use crate::sandbox::{Ability, PYEXEC, Sandbox, can, every_pid, send};

/// A host: leads a session, starts a client through the words it is given, and stays. Of an MCP server it is the client.
const HOST: &str = r#"
import json, os, signal, subprocess, sys
os.setsid()
words, script = sys.argv[2:], sys.argv[1]
if words[-1].endswith('mcp'):
    server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    def send(**message):
        server.stdin.write(json.dumps({'jsonrpc': '2.0', **message}).encode() + b'\n')
        server.stdin.flush()
    def ask(method, **params):
        send(id=1, method=method, params=params)
        return server.stdout.readline()
    ask('initialize', protocolVersion='2025-06-18', capabilities={}, clientInfo={'name': 'host', 'version': '0'})
    send(method='notifications/initialized')
    if script:
        ask('tools/call', name='py_run_script_in_dir_async',
            arguments={'directory': os.getcwd(), 'use_uv': False, 'script_content': script})
    else:
        ask('tools/call', name='py_list_jobs', arguments={})
else:
    client = subprocess.Popen(words + ([script] if script else []), stdin=subprocess.DEVNULL)
    if words[-1] == 'jobs': client.wait()
open('host-has-asked', 'w').write('yes\n')
signal.pause()
"#;

/// Waits for the test, and prints.
const JOB: &str = "
import os, sys, time
open(f'started-{sys.argv[1:]}', 'w').write('yes\\n')
while not os.path.exists('go'): time.sleep(0.01)
print('went on')
";

/// By what somebody finds the processes that belong to a host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    Parent,
    Group,
    Session,
}

/// Of `/proc/PID/stat`, behind the name: parent, process group, session, terminal.
fn kin(pid: u32) -> Option<[i64; 4]> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(1).map(|field| field.parse().unwrap_or(-1));
    Some([fields.next()?, fields.next()?, fields.next()?, fields.next()?])
}

pub(crate) fn belonging_to(host: u32, found: Found) -> BTreeSet<u32> {
    let mut all = BTreeSet::from([host]);
    loop {
        let before = all.len();
        for pid in every_pid() {
            let Some([parent, group, session, _]) = kin(pid) else { continue };
            let belongs = match found {
                Found::Parent => u32::try_from(parent).is_ok_and(|parent| all.contains(&parent)),
                Found::Group => group == i64::from(host),
                Found::Session => session == i64::from(host),
            };
            if belongs {
                all.insert(pid);
            }
        }
        if all.len() == before {
            return all;
        }
    }
}

fn zombies_of(parent: u32) -> Vec<u32> {
    let is_zombie = |pid: &u32| crate::sandbox::process_state(*pid) == Some('Z');
    let is_child = |pid: &u32| kin(*pid).is_some_and(|[of, ..]| of == i64::from(parent));
    every_pid().filter(is_child).filter(is_zombie).collect()
}

fn start_host(sandbox: &Sandbox, script: &str, words: &[&str]) -> Child {
    let mut command = sandbox.command("python3");
    command.args(["-c", HOST, script]).args(words).stdout(Stdio::null()).stderr(Stdio::null());
    let host = command.spawn().expect("can be started");
    sandbox.wait_for_file("host-has-asked");
    host
}

/// Ends the host with everything that belongs to it, when a daemon is there and, if `script` says so, a job of the host's.
fn end_host(words: &[&str], script: &str, found: Found, signal: Signal) {
    let scenario = format!("{words:?} ended by {found:?} with {signal:?}, job: {}", !script.is_empty());
    let sandbox = Sandbox::new();
    let mut host = start_host(&sandbox, script, words);
    if !script.is_empty() {
        sandbox.wait_for_file("started-[]");
    }
    let daemon = sandbox.wait_until("a daemon serves", || {
        let status = sandbox.daemon_status();
        status["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).ok_or(status)
    });
    // Of another terminal.
    let other = sandbox.detach(&["-c", JOB, "other"]);
    sandbox.wait_for_file("started-['other']");
    let members = belonging_to(host.id(), found);
    assert!(!members.contains(&daemon), "{scenario}: the daemon is one of {members:?}");
    for pid in &members {
        send(*pid, signal);
    }
    host.wait().expect("is our child");
    for pid in members {
        sandbox.wait_until_gone(pid);
    }
    sandbox.write("go", "");
    let job = sandbox.finished(&other);
    assert_eq!((&job["status"], &job["exit_code"]), (&json!("completed"), &json!(0)), "{scenario}: {job}");
    assert_eq!(sandbox.logs(&other), b"went on\n", "{scenario}");
    assert_eq!(sandbox.daemon_pid(), daemon, "{scenario}: it is another daemon");
    // An attached `run` that is asked to end asks its job to.
    let is_asked = words.contains(&"-c") && !words.contains(&"-d") && signal == Signal::TERM;
    if !script.is_empty() && !is_asked {
        let jobs = sandbox.pyexec(["jobs", "--json"]).expect_code(0).json();
        let of_the_host = jobs["jobs"].as_array().expect("a list").iter().find(|job| job["id"] != json!(other));
        let id = of_the_host.and_then(|job| job["id"].as_str()).expect("was acknowledged").to_owned();
        assert_eq!(sandbox.finished(&id)["exit_code"], json!(0), "{scenario}");
        assert_eq!(sandbox.logs(&id), b"went on\n", "{scenario}");
    }
}

fn end_host_in_every_way(words: &[&str], script: &str) {
    for found in [Found::Parent, Found::Group, Found::Session] {
        for signal in [Signal::TERM, Signal::KILL] {
            end_host(words, script, found, signal);
        }
    }
}

#[test]
fn a_host_that_ends_its_mcp_server_with_everything_below_ends_no_job() {
    end_host_in_every_way(&[PYEXEC_MCP.path()], JOB);
}

#[test]
fn a_host_that_ends_its_mcp_server_before_the_first_job_does_not_end_the_daemon() {
    end_host_in_every_way(&[PYEXEC_MCP.path()], "");
}

#[test]
fn a_shell_tool_that_ends_what_it_has_started_ends_no_detached_job() {
    end_host_in_every_way(&["sh", "-c", "\"$@\"; sleep 600", "sh", PYEXEC.path(), "run", "--no-uv", "-d", "-c"], JOB);
}

#[test]
fn a_terminal_that_is_ended_with_everything_below_ends_no_job_but_the_one_it_asks_to_end() {
    end_host_in_every_way(&[PYEXEC.path(), "run", "--no-uv", "-c"], JOB);
}

#[test]
fn a_client_that_only_looks_takes_no_daemon_with_it_however_it_was_started() {
    for words in [&["setsid"][..], &["nohup"], &["setsid", "nohup"], &["sh", "-c", "\"$@\"; true", "sh"]] {
        let words = [words, &[PYEXEC.path(), "jobs"]].concat();
        end_host_in_every_way(&words, "");
    }
}

#[test]
fn the_daemon_has_nothing_of_whoever_started_it() {
    let sandbox = Sandbox::new();
    // As much as a process can hand down; root may also raise a priority again.
    let starter = format!(
        "import fcntl, os, signal, termios
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
os.nice(7)
open('/proc/self/oom_score_adj', 'w').write('500')
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.umask(0)
master, terminal = os.openpty()
os.setsid()
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
for n in (0, 1, 2): os.dup2(terminal, n)
for n in (master, terminal): os.set_inheritable(n, True)
os.execv({PYEXEC:?}, ['pyexec', 'jobs'])"
    );
    let mut command = sandbox.command("python3");
    let mut starter = command.args(["-c", &starter]).spawn().expect("can be started");
    let before = starter.id();
    assert!(starter.wait().expect("is our child").success());
    let daemon = sandbox.daemon_pid();
    let [parent, _, session, terminal] = kin(daemon).expect("lives");
    assert!(parent != i64::from(before) && parent != i64::from(std::process::id()), "its parent is {parent}");
    assert_eq!((session, terminal), (i64::from(daemon), 0), "a session of its own, without a terminal");
    let link = |name: &str| std::fs::read_link(format!("/proc/{daemon}/{name}")).expect("can be read");
    assert_eq!(link("cwd").to_str(), Some("/"));
    for descriptor in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(link(descriptor).to_str(), Some("/dev/null"), "{descriptor}");
    }
    let status = std::fs::read_to_string(format!("/proc/{daemon}/status")).expect("can be read");
    let field = |name: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {status}"));
        line.trim_start_matches(':').trim().to_owned()
    };
    assert_eq!(field("SigBlk"), "0000000000000000");
    assert_eq!(field("Umask"), "0077");
    let every = std::fs::read_to_string("/proc/self/status").expect("can be read");
    let allowed =
        every.lines().find_map(|line| line.strip_prefix("Cpus_allowed:")).expect("is there").trim().to_owned();
    assert_eq!(field("Cpus_allowed"), allowed);
    let stat = std::fs::read_to_string(format!("/proc/{daemon}/stat")).expect("can be read");
    let stat: Vec<&str> = stat.rsplit_once(") ").expect("has a name").1.split(' ').collect();
    // Scheduling policy, the 41st field of all.
    assert_eq!(stat[38], "0", "SCHED_OTHER");
    if rustix::process::geteuid().is_root() {
        assert_eq!(stat[16], "0", "its nice value");
        let score = std::fs::read_to_string(format!("/proc/{daemon}/oom_score_adj")).expect("can be read");
        assert_eq!(score.trim(), "0", "what is ended first without memory");
    }
}

/// The first process of a container, which waits for nobody: what it is left with stays as a zombie if it ends.
const INIT: &str = r#"
import os, signal, subprocess, sys, time
def states():
    found = {}
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try: name, _, rest = open(f'/proc/{pid}/stat').read().partition(') ')
        except OSError: continue
        found[int(pid)] = (name.partition('(')[2], rest[0], int(rest.split()[1]))
    return found
def below(top):
    found = [top]
    for pid in found: found += [child for child, (_, _, parent) in states().items() if parent == pid]
    return found
def pyexec(*words): return subprocess.run([sys.argv[1], *words], stdout=subprocess.PIPE, text=True, check=True).stdout
assert os.getpid() == 1
host = subprocess.Popen(['sh', '-c', '"$@"; sleep 600', 'sh', sys.argv[1], 'run', '--no-uv', '-d', '-c', sys.argv[2]],
                        stdout=subprocess.DEVNULL)
while not os.path.exists('started-[]'): time.sleep(0.01)
for pid in below(host.pid): os.kill(pid, signal.SIGKILL)
host.wait()
open('go', 'w')
pyexec('wait', pyexec('jobs', '--json').split('"id":')[1].split('"')[1])
# The shell's own child has lost its parent, and is not ours to answer for. The job is over a moment before its
# supervisor ends, and the daemon waits for that one a moment later still.
def dead(): return [(pid, *of) for pid, of in states().items() if of[1] == 'Z' and of[0] != 'sleep']
until = time.monotonic() + 30
while dead() and time.monotonic() < until: time.sleep(0.01)
assert not dead(), dead()
assert len([1 for name, _, parent in states().values() if parent == 1 and 'pyexecd' in name]) == 1, states()
pyexec('daemon', 'stop')
print('all went on')
"#;

fn in_a_container(sandbox: &Sandbox, words: &[&str]) -> std::process::Command {
    let as_root: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--map-root-user"] };
    let mut command = sandbox.command("unshare");
    command.args(as_root).args(["--pid", "--fork", "--mount-proc", "--kill-child"]).args(words);
    command
}

#[track_caller]
fn containers_can_be_made(sandbox: &Sandbox) -> bool {
    let made = in_a_container(sandbox, &["true"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    can(Ability::Namespaces, made)
}

#[test]
fn below_an_init_that_waits_for_nobody_no_zombie_is_left() {
    let sandbox = Sandbox::new();
    if !containers_can_be_made(&sandbox) {
        return;
    }
    let command = in_a_container(&sandbox, &["python3", "-c", INIT, PYEXEC.path(), JOB]);
    let ran = sandbox.attend(command).end().expect_code(0);
    assert_eq!(ran.text(), "all went on\n", "{ran}");
}

#[test]
fn what_doctor_runs_as_the_first_process_of_a_container_is_its_own() {
    let sandbox = Sandbox::new();
    if !containers_can_be_made(&sandbox) {
        return;
    }
    let script = "\"$1\" daemon start; exec \"$1\" doctor --json";
    let ran = sandbox.attend(in_a_container(&sandbox, &["sh", "-c", script, "sh", PYEXEC.path()])).end();
    let said = ran.text();
    assert!(said.contains("\"checks\"") && !said.contains("No child processes"), "{ran}");
}

#[test]
fn a_server_that_is_the_first_process_of_a_container_waits_for_what_it_is_left_with() {
    let sandbox = Sandbox::new();
    if !containers_can_be_made(&sandbox) {
        return;
    }
    let mut session = McpSession::open_command(
        &sandbox,
        Era::Handshake("2025-06-18"),
        in_a_container(&sandbox, &[PYEXEC_MCP.path()]),
    );
    // Each daemon, and the supervisor that outlives it, is left to the server.
    for round in ["first", "second"] {
        let (started, go) = (format!("started-{round}"), format!("go-{round}"));
        let script = format!(
            "import os, time\nopen({started:?}, 'w').write('yes\\n')\nwhile not os.path.exists({go:?}): time.sleep(0.01)"
        );
        let arguments = json!({"directory": sandbox.work(), "use_uv": false, "script_content": script});
        session.call("py_run_script_in_dir_async", arguments);
        sandbox.wait_for_file(&started);
        let daemons = sandbox.daemons();
        assert_eq!(daemons.len(), 1, "{daemons:?}");
        let server = daemons[0].parent().expect("has a parent");
        assert_eq!(
            std::fs::read_to_string(format!("/proc/{server}/comm")).expect("lives").trim_end(),
            "e2e-pyexec-mcp"
        );
        send(daemons[0].pid, Signal::KILL);
        sandbox.write(&go, "");
        sandbox.wait_until("no zombie is left to the server", || {
            let (zombies, left) = (zombies_of(server), sandbox.processes());
            let is_gone = left.iter().all(|process| !process.is_daemon() && !process.is_supervisor());
            if zombies.is_empty() && is_gone { Ok(()) } else { Err(format!("{zombies:?}, {left:?}")) }
        });
    }
}
