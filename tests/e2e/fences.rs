//! What a job is kept from: nothing of it is taken on trust, and where the kernel can not do it, no job is started.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde_json::json;

use crate::mcp_session::{Era, McpSession, text_of};
use crate::sandbox::{Ran, Sandbox, UserNamespace, is_alive, pid_of};

/// `attempt(what, function, …)` says what came of it.
const ATTEMPT: &str = "
import errno, os, sys
def attempt(what, function, *arguments):
    try: function(*arguments)
    except OSError as error: print(what, errno.errorcode.get(error.errno, error.errno), flush=True)
    else: print(what, 'done', flush=True)
def write(path, how='w'):
    with open(path, how) as file: file.write('written')
";

/// Of root's and of somebody's who has no power.
fn sandboxes() -> [Sandbox; 2] {
    let mut other = Sandbox::new();
    other.set_other_user();
    [Sandbox::new(), other]
}

#[test]
fn a_job_without_a_network_reaches_nobody_but_itself_and_is_the_same_user() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("can listen");
    let port = listener.local_addr().expect("is bound").port();
    for sandbox in sandboxes() {
        let code = format!(
            "{ATTEMPT}
import socket
attempt('outside', lambda: socket.create_connection(('127.0.0.1', {port}), 60).close())
with socket.create_server(('127.0.0.1', 0)) as own:
    attempt('inside', lambda: socket.create_connection(own.getsockname(), 60).close())
print('devices', [name for _, name in socket.if_nameindex()])
print(os.getuid(), os.geteuid(), os.getgid(), os.getegid())
write('mine')
print(os.stat('mine').st_uid, os.stat('.').st_uid, os.stat(sys.executable).st_size > 0)"
        );
        let free = sandbox.run(&["-c", &code]).expect_code(0).text();
        assert!(free.starts_with("outside done\ninside done\n"), "{free}");
        std::fs::remove_file(sandbox.file("mine")).expect("was written");
        let fenced = sandbox.run(&["--network", "none", "-c", &code]).expect_code(0).text();
        assert!(fenced.starts_with("outside ECONNREFUSED\ninside done\ndevices ['lo']\n"), "{fenced}");
        let ids = |text: &str| text.lines().skip(3).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(ids(&fenced), ids(&free), "it sees other users than it would");
        let (mine, work) = (std::fs::metadata(sandbox.file("mine")), std::fs::metadata(sandbox.work()));
        assert_eq!(mine.expect("was written").uid(), work.expect("is there").uid());
    }
}

/// Also not root, who has the power to enter any namespace of the one that it is in.
#[test]
fn the_network_of_others_can_not_be_walked_into() {
    for sandbox in sandboxes() {
        let code = format!(
            "{ATTEMPT}
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def enter(pid):
    namespace = os.open(f'/proc/{{pid}}/ns/net', os.O_RDONLY)
    if libc.setns(namespace, 0) < 0: raise OSError(ctypes.get_errno(), '')
attempt('itself', os.stat, '/proc/self/ns/net')
attempt('supervisor', enter, os.getppid())
attempt('init', enter, 1)"
        );
        let ran = sandbox.run(&["--network", "none", "-c", &code]).expect_code(0);
        assert_eq!(ran.text(), "itself done\nsupervisor EACCES\ninit EACCES\n");
    }
}

/// Every way of writing that Landlock knows, tried on `place`, in which there is a `file` and an empty `directory`.
const EVERY_WAY: &str = "
import socket
def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made: made.bind(path)
def every_way(place):
    at = lambda name: os.path.join(place, name)
    attempt('append', write, at('file'), 'a')
    attempt('overwrite', write, at('file'))
    attempt('update', write, at('file'), 'r+')
    attempt('truncate', os.truncate, at('file'), 0)
    attempt('create', write, at('new'), 'x')
    attempt('mkdir', os.mkdir, at('made'))
    attempt('rmdir', os.rmdir, at('directory'))
    attempt('symlink', os.symlink, 'file', at('symlink'))
    attempt('link', os.link, at('file'), at('link'))
    attempt('fifo', os.mkfifo, at('fifo'))
    attempt('socket', make_socket, at('socket'))
    attempt('rename', os.rename, at('file'), at('renamed'))
    attempt('unlink', os.unlink, at('renamed' if os.path.exists(at('renamed')) else 'file'))
";
const WAYS: usize = 13;

#[track_caller]
fn fill(sandbox: &Sandbox, place: &str) -> PathBuf {
    let place = sandbox.root().join(place);
    std::fs::create_dir_all(place.join("directory")).expect("can be made");
    std::fs::write(place.join("file"), "kept").expect("can be written");
    if rustix::process::geteuid().is_root() {
        let owner = std::fs::metadata(sandbox.work()).expect("is there");
        for made in [place.clone(), place.join("directory"), place.join("file")] {
            std::os::unix::fs::chown(made, Some(owner.uid()), Some(owner.gid())).expect("can be given");
        }
    }
    place
}

#[track_caller]
fn assert_all(ran: &Ran, came_of_it: &str) {
    let text = ran.text();
    assert_eq!(text.lines().filter(|line| line.ends_with(came_of_it)).count(), WAYS, "not all {came_of_it}: {ran}");
    assert_eq!(text.lines().count(), WAYS, "{ran}");
}

#[test]
fn a_read_only_job_writes_nowhere_in_no_way_and_neither_do_its_children() {
    for sandbox in sandboxes() {
        for place in ["home", "work", "tmp"] {
            let place = fill(&sandbox, place);
            let code = format!("{ATTEMPT}{EVERY_WAY}every_way({place:?})");
            let ran = sandbox.run(&["--filesystem", "read-only", "-c", &code]).expect_code(0);
            assert_all(&ran, " EACCES");
            assert_eq!(std::fs::read_to_string(place.join("file")).expect("is there"), "kept");
            let child = format!("import subprocess, sys; subprocess.run([sys.executable, '-c', {code:?}])");
            assert_all(&sandbox.run(&["--filesystem", "read-only", "-c", &child]).expect_code(0), " EACCES");
            let daemonized = format!(
                "{ATTEMPT}{EVERY_WAY}
def detach():
    if os.fork(): os._exit(0)
    os.setsid()
here, there = os.pipe()
if os.fork() == 0:
    detach(); detach(); every_way({place:?}); os._exit(0)
os.close(there); os.read(here, 1)"
            );
            assert_all(&sandbox.run(&["--filesystem", "read-only", "-c", &daemonized]).expect_code(0), " EACCES");
            // What is denied above is possible without.
            assert_all(&sandbox.run(&["-c", &code]).expect_code(0), " done");
        }
    }
}

#[test]
fn a_read_only_job_has_what_programs_take_for_granted() {
    for sandbox in sandboxes() {
        let artifacts = format!(
            "{ATTEMPT}{EVERY_WAY}
place = os.environ['PYEXEC_ARTIFACTS']
write(os.path.join(place, 'file')); os.mkdir(os.path.join(place, 'directory'))
every_way(place)"
        );
        assert_all(&sandbox.run(&["--filesystem", "read-only", "-c", &artifacts]).expect_code(0), " done");
        sandbox.write("readable", "text");
        let code = format!(
            "{ATTEMPT}
import multiprocessing, socket, subprocess, tempfile
from pyexec_progress import progress
attempt('read', lambda: open('readable').read())
attempt('execute', lambda: subprocess.run(['sh', '-c', 'echo > /dev/null'], check=True))
for path in ['/dev/null', '/dev/stdout', '/dev/stderr']: attempt(path, write, path)
print()
attempt('temporary', lambda: write(tempfile.NamedTemporaryFile(delete=False).name))
print(tempfile.gettempdir() == os.environ['TMPDIR'], oct(os.stat(os.environ['TMPDIR']).st_mode & 0o777))
queue = multiprocessing.get_context('spawn').Queue()
with multiprocessing.Manager() as manager: print(list(manager.list([1, 2])))
write(os.path.join(os.environ['PYEXEC_ARTIFACTS'], 'result'))
os.makedirs(os.path.join(os.environ['TMPDIR'], 'closed', 'inner')); os.chmod(os.path.join(os.environ['TMPDIR'], 'closed'), 0)
print(os.environ['TMPDIR'])
progress(3, 10, 'third')"
        );
        let script = sandbox.write("job.py", format!("if __name__ == '__main__':{}", code.replace('\n', "\n    ")));
        let script = script.to_str().expect("is UTF-8");
        let id = sandbox.detach(&["--filesystem", "read-only", script]);
        let job = sandbox.finished(&id);
        let said = String::from_utf8(sandbox.logs(&id)).expect("is text");
        assert_eq!(job["status"], "completed", "{job}\n{said}");
        let (said, temporary) = said.trim_end().rsplit_once('\n').expect("has lines");
        assert_eq!(
            said,
            "read done\nexecute done\n/dev/null done\nwritten/dev/stdout done\n/dev/stderr done\n\n\
            temporary done\nTrue 0o700\n[1, 2]"
        );
        assert!(temporary.starts_with(sandbox.root().join("tmp/pyexec-").to_str().expect("is UTF-8")), "{temporary}");
        assert_eq!(job["progress"]["message"], "third", "{job}");
        assert_eq!(job["artifacts"][0]["path"], "result", "{job}");
        sandbox.wait_until("its temporary directory is gone", || {
            if std::path::Path::new(temporary).exists() { Err(temporary.to_owned()) } else { Ok(()) }
        });
    }
}

/// Typing into a terminal has a shell behind it do what the job may not.
#[test]
fn a_read_only_job_has_no_power_over_the_terminals_of_others() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("can be opened");
    grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("is ours");
    let path = ptsname(&terminal, Vec::new()).expect("has a name");
    for sandbox in sandboxes() {
        let code = format!(
            "{ATTEMPT}
import fcntl, termios
def terminal(): return os.open({path:?}, os.O_RDONLY | os.O_NOCTTY)
attempt('types', lambda: fcntl.ioctl(terminal(), termios.TIOCSTI, b'x'))
attempt('takes', lambda: fcntl.ioctl(terminal(), termios.TIOCSCTTY, 1))
attempt('writes', write, '/dev/tty')
powers = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('CapEff'))
print(int(powers, 16) >> 21 & 1)",
            path = path.to_str().expect("is text")
        );
        let ran = sandbox.run(&["--filesystem", "read-only", "-c", &code]).expect_code(0).text();
        let lines: Vec<&str> = ran.lines().collect();
        assert!(!lines[0].ends_with("done") && !lines[2].ends_with("done"), "{ran}");
        assert_eq!(lines[3], "0", "{ran}");
    }
}

#[test]
fn a_job_in_its_working_directory_writes_there_and_leads_nothing_out_of_it() {
    for sandbox in sandboxes() {
        let beside = fill(&sandbox, "beside");
        let below = fill(&sandbox, "work/below");
        let fenced =
            |code: &str| sandbox.run(&["--filesystem", "workdir", "-c", &format!("{ATTEMPT}{code}")]).expect_code(0);
        assert_all(&fenced(&format!("{EVERY_WAY}every_way({below:?})")), " done");
        assert_all(&fenced(&format!("{EVERY_WAY}every_way({beside:?})")), " EACCES");
        let code = format!(
            "
beside = {beside:?}
os.symlink(os.path.join(beside, 'file'), 'symlink')
attempt('through a symbolic link', write, 'symlink')
attempt('through a hard link', os.link, os.path.join(beside, 'file'), 'link')
write('own')
attempt('out', os.rename, 'own', os.path.join(beside, 'own'))
attempt('in', os.rename, os.path.join(beside, 'file'), 'theirs')
os.mkdir('deep')
attempt('within', os.rename, 'own', 'deep/own')"
        );
        let expected =
            "through a symbolic link EACCES\nthrough a hard link EXDEV\nout EACCES\nin EACCES\nwithin done\n";
        assert_eq!(fenced(&code).text(), expected);
        assert_eq!(std::fs::read_to_string(beside.join("file")).expect("is there"), "kept");
    }
}

#[test]
fn a_working_directory_that_has_the_daemons_own_files_in_it_is_no_fence() {
    let sandbox = Sandbox::new();
    for directory in [sandbox.root().to_owned(), sandbox.paths().cache] {
        std::fs::create_dir_all(&directory).expect("can be made");
        let directory = directory.to_str().expect("is UTF-8");
        let arguments = ["--filesystem", "workdir", "--dir", directory, "-c", "print(1)"];
        let refused = sandbox.run(&arguments).expect_code(126);
        assert!(refused.stderr.contains("where pyexec keeps what it runs"), "{refused}");
        assert!(refused.stderr.contains("hint: give the job a directory of its own"), "{refused}");
        sandbox.run(&["--filesystem", "read-only", "--dir", directory, "-c", "print(1)"]).expect_code(0);
    }
}

#[test]
fn a_working_directory_of_the_kernels_is_no_fence() {
    let sandbox = Sandbox::new();
    for directory in ["/proc/self", "/sys", "/dev/shm"] {
        let arguments = ["--filesystem", "workdir", "--dir", directory, "-c", "print(1)"];
        let refused = sandbox.run(&arguments).expect_code(126);
        assert!(refused.stderr.contains("is the kernel's"), "{refused}");
        sandbox.run(&["--filesystem", "read-only", "--dir", directory, "-c", "print(1)"]).expect_code(0);
    }
}

/// A daemon does for whoever asks what that one could do by himself: not so for a job that it keeps from it.
#[test]
fn a_job_in_a_fence_has_the_daemon_do_nothing() {
    for sandbox in sandboxes() {
        let pyexec = sandbox.cli(["run"]).get_program().to_owned();
        let pyexec = if pyexec == "setpriv" { sandbox.root().join("bin/e2e-pyexec") } else { pyexec.into() };
        let free = sandbox.detach(&["-i", "-c", "print(input())"]);
        sandbox.wait_until_running(&free);
        for fence in [&["--network", "none"][..], &["--filesystem", "read-only"], &["--filesystem", "workdir"]] {
            let code = format!(
                "
import os, subprocess, sys
def pyexec(*words, **how): return subprocess.run([{pyexec:?}, *words], text=True, capture_output=True, **how)
out = pyexec('run', '--no-uv', '-c', 'print(1)')
print(out.returncode, out.stdout, 'jobs inside a fence may not change anything' in out.stderr, out.stderr)
unknown = {{name: value for name, value in os.environ.items() if name not in ('PYEXEC_JOB_ID', 'PYEXEC_FENCE')}}
for words in [('run', '--no-uv', '-c', 'print(1)'), ('kill', '--all'), ('send', {free:?}, 'x'), ('prune',),
              ('scripts', 'save', 'x', {script:?}), ('daemon', 'stop')]:
    print(words[0], pyexec(*words, env=unknown).returncode)
print(pyexec('jobs').returncode)",
                pyexec = pyexec.to_str().expect("is UTF-8"),
                script = sandbox.write("kept.py", "print(1)").to_str().expect("is UTF-8"),
            );
            let ran = sandbox.run(&[fence, &["-c", &code]].concat()).expect_code(0);
            let text = ran.text();
            assert!(text.starts_with("125  True"), "{fence:?}: {ran}");
            assert!(
                text.ends_with("run 125\nkill 125\nsend 125\nprune 125\nscripts 125\ndaemon 125\n0\n"),
                "{fence:?}: {ran}"
            );
        }
        sandbox.pyexec(["send", &free, "still there\n"]).expect_code(0);
        assert_eq!(sandbox.finished(&free)["status"], "completed");
    }
}

#[test]
fn a_job_in_a_fence_can_speak_to_no_supervisor() {
    for sandbox in sandboxes() {
        let free = sandbox.detach(&["-i", "-c", "input()"]);
        sandbox.wait_until_running(&free);
        let identity = std::fs::read_to_string(sandbox.run_directory(&free).join("supervisor.json"));
        let identity: serde_json::Value = serde_json::from_str(&identity.expect("is there")).expect("is JSON");
        let path = sandbox
            .paths()
            .supervisors()
            .join(PathBuf::from(identity["control_socket"].as_str().expect("is text")).file_name().expect("has one"));
        let code = format!(
            "
import socket
with socket.socket(socket.AF_UNIX) as supervisor:
    supervisor.connect({:?})
    print(len(supervisor.recv(1000)) > 0)",
            path.to_str().expect("is UTF-8")
        );
        assert_eq!(sandbox.run(&["-c", &code]).expect_code(0).text(), "True\n");
        for fence in [["--network", "none"], ["--filesystem", "workdir"]] {
            assert_eq!(sandbox.run(&[&fence[..], &["-c", &code]].concat()).expect_code(0).text(), "False\n");
        }
        sandbox.pyexec(["send", &free, "--eof"]).expect_code(0);
        sandbox.finished(&free);
    }
}

/// It would keep the jobs of everybody else in there, too.
#[test]
fn no_daemon_is_started_inside_of_a_fence() {
    let sandbox = Sandbox::new();
    let code = format!(
        "
import os, subprocess, time
open('started', 'w').write('yes\\n')
while not os.path.exists('go'): time.sleep(0.01)
out = subprocess.run([{:?}, 'jobs'], text=True, capture_output=True)
open('said', 'w').write(out.stderr.replace('\\n', ' ') + '\\n')",
        crate::sandbox::PYEXEC
    );
    let id = sandbox.detach(&["--network", "none", "-c", &code]);
    sandbox.wait_for_file("started");
    sandbox.kill_daemon();
    sandbox.write("go", "");
    let said = sandbox.wait_for_file("said");
    assert!(said.contains("this is inside of the fence of a job (network none)"), "{said}");
    assert_eq!(sandbox.finished(&id)["status"], "completed");
}

/// The supervisor stands outside, and has to reach in.
#[test]
fn a_job_in_a_fence_is_ended_measured_and_fed_as_any_other() {
    const BOTH: [&str; 4] = ["--network", "none", "--filesystem", "workdir"];
    for sandbox in sandboxes() {
        let fenced = |more: &[&str]| sandbox.run(&[&BOTH[..], more].concat());
        // Two processes, so that their proportional sets are asked for.
        let grow = "import os, time\nif os.fork(): x = bytearray(150 << 20)\ntime.sleep(600)";
        let ran = fenced(&["--max-memory", "100M", "-c", grow]).expect_code(137);
        assert!(ran.stderr.contains("it used more memory than its limit allows"), "{ran}");
        fenced(&["--timeout", "0.2s", "-c", "import time; time.sleep(600)"]).expect_code(124);
        let measured =
            fenced(&["--bench", "--runs", "2", "--json", "-c", "x = bytearray(60 << 20)"]).expect_code(0).json();
        assert!(measured["peak_rss_mb"].as_f64().is_some_and(|peak| peak > 60.0), "{measured}");
        let profiled = fenced(&["--profile", "-c", "sum(range(10))"]).expect_code(0);
        assert!(profiled.stderr.contains("cumulative") || profiled.text().contains("cumulative"), "{profiled}");
        let id = sandbox
            .detach(&[&BOTH[..], &["-i", "-c", "print(input(), flush=True); import time; time.sleep(600)"]].concat());
        sandbox.wait_until_running(&id);
        sandbox.pyexec(["send", &id, "typed\n"]).expect_code(0);
        sandbox.wait_until("it has read its input", || match sandbox.logs(&id) {
            output if output == b"typed\n" => Ok(()),
            output => Err(format!("{output:?}")),
        });
        let pid = pid_of(&sandbox.show(&id)["pid"]);
        // Whoever has it in his hand sees which fence it has.
        let shown = sandbox.pyexec(["show", &id]).expect_code(0).text();
        assert!(shown.contains("fence:     network none, filesystem workdir\n"), "{shown}");
        let ignores = "import os, signal, time
if os.fork() == 0: os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN); open('pid', 'w').write(f'{os.getpid()}\\n'); time.sleep(600)";
        sandbox.pyexec(["kill", &id]).expect_code(0);
        assert!(!is_alive(pid), "it has survived");
        fenced(&["--grace", "0.1s", "-c", &format!("{ignores}\nwhile not os.path.exists('pid'): time.sleep(0.01)")])
            .expect_code(0);
        let left: u32 = sandbox.wait_for_file("pid").parse().expect("is a pid");
        sandbox.wait_until_gone(left);
    }
}

/// As its own process does when it is not in a fence: new credentials must not undo that.
#[test]
fn a_job_in_a_fence_dies_with_its_supervisor() {
    for sandbox in sandboxes() {
        let fence = ["--network", "none", "--filesystem", "read-only"];
        let id = sandbox.detach(&[&fence[..], &["-c", "import time; time.sleep(600)"]].concat());
        sandbox.wait_until_running(&id);
        let pid = pid_of(&sandbox.show(&id)["pid"]);
        crate::sandbox::send(sandbox.supervisor_of(&id).pid, rustix::process::Signal::KILL);
        sandbox.wait_until_gone(pid);
        assert_eq!(sandbox.finished(&id)["reason"], "lost");
    }
}

#[test]
fn what_a_job_in_a_fence_may_leave_behind_is_left() {
    for sandbox in sandboxes() {
        let code = "
import os, time
here, there = os.pipe()
if os.fork() == 0:
    os.setsid()
    os.write(there, b'.')
    while not os.path.exists('go'): time.sleep(0.01)
    try: open('escaped', 'w')
    except OSError: os._exit(0)
    time.sleep(600)
os.read(here, 1)";
        let fence = ["--network", "none", "--filesystem", "read-only", "--keep-leftovers"];
        sandbox.run(&[&fence[..], &["-c", code]].concat()).expect_code(0);
        let left = sandbox
            .processes()
            .into_iter()
            .filter(|process| !process.is_daemon() && !process.is_supervisor() && !process.is_looker());
        let left: Vec<u32> = left.map(|process| process.pid).collect();
        assert_eq!(left.len(), 1, "{left:?}");
        sandbox.write("go", "");
        sandbox.wait_until_gone(left[0]);
        assert!(!sandbox.file("escaped").exists(), "it is kept in no longer");
    }
}

#[test]
fn agents_put_up_fences_and_are_told_of_them() {
    let sandbox = Sandbox::new();
    let mut session = McpSession::open(&sandbox, Era::Stateless);
    let mut arguments = session.script("import socket; print(socket.if_nameindex()); open('x', 'w')");
    arguments["limits"] = json!({"network": "none", "filesystem": "read-only"});
    let ran = session.structured("py_run_script_in_dir", arguments.clone());
    assert!(ran["stdout"].as_str().is_some_and(|said| said == "[(1, 'lo')]\n"), "{ran}");
    assert!(ran["stderr"].as_str().is_some_and(|said| said.contains("PermissionError")), "{ran}");
    let status = session.markdown("py_job_status", json!({"job_id": ran["job_id"]}));
    assert!(status.contains("Fence: network none, filesystem read-only"), "{status}");
    let status = session.structured("py_job_status", json!({"job_id": ran["job_id"]}));
    assert_eq!((&status["job"]["network"], &status["job"]["filesystem"]), (&"none".into(), &"read-only".into()));
    for (wrong, named) in [
        (json!({"network": "some"}), "limits.network"),
        (json!({"filesystem": "rw"}), "limits.filesystem"),
        (json!({"filesystem": true}), "limits.filesystem"),
    ] {
        arguments["limits"] = wrong;
        let refused = session.call("py_run_script_in_dir", arguments.clone());
        assert!(refused["isError"] == true && text_of(&refused).contains(named), "{refused}");
    }
    for wrong in [["--network", "some"], ["--filesystem", "rw"], ["--filesystem", "none"]] {
        sandbox.run(&[&wrong[..], &["-c", "pass"]].concat()).expect_code(2);
    }
}

/// Runs what follows where no user namespace may be made, or `most` of them.
fn where_namespaces_are_limited(sandbox: &mut Sandbox, most: u32) -> UserNamespace {
    let namespace = UserNamespace::new(&format!("echo {most} > /proc/sys/user/max_user_namespaces"));
    sandbox.set_through(&namespace.through(&[]));
    namespace
}

#[test]
fn a_network_fence_that_the_kernel_does_not_allow_is_refused_before_anything_is_made() {
    let mut sandbox = Sandbox::new();
    let _namespace = where_namespaces_are_limited(&mut sandbox, 0);
    let refused = sandbox.run(&["--network", "none", "-c", "open('ran', 'w')"]).expect_code(126);
    assert!(
        refused.stderr.contains("a network fence cannot be set up here: /proc/sys/user/max_user_namespaces is 0"),
        "{refused}"
    );
    assert!(refused.stderr.contains("hint: `sysctl -w user.max_user_namespaces="), "{refused}");
    assert_eq!(sandbox.pyexec(["jobs", "--json"]).json()["total"], 0);
    assert!(!sandbox.file("ran").exists(), "it has run without its fence");
    sandbox.run(&["--filesystem", "read-only", "-c", "pass"]).expect_code(0);
    let doctor = sandbox.pyexec(["doctor"]).text();
    assert!(doctor.contains("warning  network fence: /proc/sys/user/max_user_namespaces is 0\n"), "{doctor}");
    assert!(doctor.contains("ok       filesystem fence: Landlock, version "), "{doctor}");
}

#[test]
fn a_network_fence_that_can_not_be_made_when_the_job_starts_keeps_it_from_starting() {
    let mut sandbox = Sandbox::new();
    let _namespace = where_namespaces_are_limited(&mut sandbox, 1);
    let first = sandbox.detach(&["--network", "none", "-i", "-c", "input()"]);
    sandbox.wait_until_running(&first);
    let refused = sandbox.run(&["--network", "none", "-c", "open('ran', 'w')"]).expect_code(126);
    assert!(refused.stderr.contains("a network fence cannot be set up here"), "{refused}");
    assert!(refused.stderr.contains("No space left on device"), "{refused}");
    assert!(refused.stderr.contains("max_user_namespaces"), "{refused}");
    assert!(!sandbox.file("ran").exists(), "it has run without its fence");
    sandbox.pyexec(["send", &first, "--eof"]).expect_code(0);
    sandbox.finished(&first);
}

/// Container runtimes answer calls that they do not know with ENOSYS, as a kernel that does not have them.
#[test]
fn a_filesystem_fence_without_landlock_is_refused() {
    const LAUNCHER: &str = "
import ctypes, os, struct, sys
LANDLOCK_CREATE_RULESET, ENOSYS, PR_SET_SECCOMP, FILTER = 444, 38, 22, 2
code = [(0x20, 0, 0, 0), (0x15, 0, 1, LANDLOCK_CREATE_RULESET), (0x06, 0, 0, 0x00050000 | ENOSYS), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in code))
program = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', 4, ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(PR_SET_SECCOMP, FILTER, ctypes.c_void_p(ctypes.addressof(program)), 0, 0) == 0, ctypes.get_errno()
os.execvp(sys.argv[1], sys.argv[1:])";
    let mut sandbox = Sandbox::new();
    let python = crate::sandbox::python();
    let python = python.to_str().expect("is UTF-8");
    let namespace = UserNamespace::new("true");
    sandbox.set_through(&namespace.through(&[python, "-c", LAUNCHER]));
    let refused = sandbox.run(&["--filesystem", "read-only", "-c", "pass"]).expect_code(126);
    assert!(
        refused.stderr.contains("a filesystem fence cannot be set up here: this kernel has no Landlock"),
        "{refused}"
    );
    assert!(refused.stderr.contains("hint: it takes Linux 6.2 or later"), "{refused}");
    sandbox.run(&["--network", "none", "-c", "pass"]).expect_code(0);
}

/// It could not tell a job in such a fence from its other clients.
#[test]
fn a_daemon_that_may_gain_no_privileges_refuses_filesystem_fences_and_serves_clients_like_itself() {
    let mut sandbox = Sandbox::new();
    sandbox.set_through(&["setpriv", "--no-new-privs"]);
    sandbox.run(&["-c", "pass"]).expect_code(0);
    let code = format!(
        "
import subprocess
out = subprocess.run([{:?}, 'run', '--no-uv', '-c', 'print(1)'], text=True, capture_output=True)
print(out.returncode, 'this process has another network than the daemon' in out.stderr)",
        crate::sandbox::PYEXEC
    );
    assert_eq!(sandbox.run(&["--network", "none", "-c", &code]).expect_code(0).text(), "125 True\n");
    let refused = sandbox.run(&["--filesystem", "workdir", "-c", "pass"]).expect_code(126);
    assert!(refused.stderr.contains("this daemon may itself gain no privileges"), "{refused}");
}

#[test]
fn uv_itself_is_not_put_into_a_fence() {
    let sandbox = crate::uv::sandbox_with_uv();
    std::fs::create_dir(sandbox.file("package")).expect("can be made");
    sandbox.write("package/pyproject.toml", "[project]\nname = 'p'\nversion = '1'\n");
    let refused =
        sandbox.pyexec(["run", "--filesystem", "read-only", "--with", "./package", "-c", "pass"]).expect_code(126);
    assert!(refused.stderr.contains("uv resolves its requirements anew at every run"), "{refused}");
}
