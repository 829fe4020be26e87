//! Many clients, odd ones, and daemons that are none.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;

use pyexec_proto::preamble::{LENGTH, Preamble};

use crate::sandbox::{PYEXECD, Sandbox};

#[test]
fn fifty_clients_at_once_start_one_daemon_and_get_fifty_answers() {
    let sandbox = Sandbox::new();
    let runs: Vec<_> = (0..50).map(|n| (n, sandbox.attend_run(&["-c", &format!("print({n} * 7)")]))).collect();
    for (n, run) in runs {
        assert_eq!(run.end().expect_code(0).text(), format!("{}\n", n * 7));
    }
    let daemons = sandbox.daemons();
    assert_eq!(daemons.len(), 1, "{daemons:?}");
    assert_eq!(daemons[0].pid, sandbox.daemon_pid());
    assert_eq!(sandbox.daemon_log().matches("started version=").count(), 1, "{}", sandbox.daemon_log());
    assert_eq!(sandbox.pyexec(["jobs", "--all", "--json"]).json()["total"], 50);
}

#[test]
fn a_second_daemon_leaves_and_says_why() {
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    let second = sandbox.attend(sandbox.command(PYEXECD)).end().expect_code(1);
    assert!(second.stderr.starts_with("error: another daemon is running (its lock is "), "{second}");
    assert_eq!(sandbox.daemon_pid(), daemon.pid());
}

#[test]
fn clients_that_make_no_sense_disturb_nobody() {
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    let connect = || UnixStream::connect(sandbox.paths().socket).expect("somebody listens");
    let mut odd = Vec::new();
    // Says nothing at all; says half a greeting; greets as something else; says something else.
    odd.push(connect());
    for said in [
        &b"PYEXEC/1 1-"[..],
        &[0; LENGTH],
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/everything-there-is\r\n\r\n",
    ] {
        let mut stream = connect();
        stream.write_all(said).expect("can be written");
        odd.push(stream);
    }
    // Of a protocol of the future.
    let mut stream = connect();
    let future = Preamble { lowest: 900, highest: 901, version: "9.0.0".to_owned() };
    stream.write_all(&future.encode()).expect("can be written");
    odd.push(stream);
    // Greets well, and then: a frame of 4 GiB; half a frame; a frame of garbage; an empty one.
    for said in [&[0xff; 12][..], &[0, 0, 0, 200, 1, 2, 3], &[0, 0, 0, 5, 9, 9, 9, 9, 9], &[0, 0, 0, 0]] {
        let mut stream = sandbox.greeted();
        stream.write_all(said).expect("can be written");
        odd.push(stream);
    }
    for round in 0..3 {
        assert_eq!(sandbox.run(&["-c", "print('fine')"]).expect_code(0).text(), "fine\n");
        assert_eq!(sandbox.daemon_pid(), daemon.pid(), "in round {round}");
    }
    drop(odd);
    assert_eq!(sandbox.run(&["-c", "print('fine')"]).expect_code(0).text(), "fine\n");
    assert_eq!(sandbox.daemon_pid(), daemon.pid());
}

#[test]
fn a_daemon_that_is_none_or_of_another_version_is_told_as_such() {
    let mut sandbox = Sandbox::new();
    let socket = sandbox.root().join("other.sock");
    sandbox.set("PYEXEC_SOCKET", &socket);
    let of = |lowest, highest| Preamble { lowest, highest, version: "7.7.7".to_owned() }.encode().to_vec();
    let newer = Preamble::ours().highest + 1;
    let said_of_newer = format!("pyexecd 7.7.7 speaks protocol {newer}-900, this program (");
    for (says, error, hint) in [
        (of(newer, 900), said_of_newer.as_str(), "this program is the older one: upgrade it"),
        (
            of(0, 0),
            "pyexecd 7.7.7 speaks protocol 0-0, this program (",
            "the daemon is the older one: `pyexec daemon restart`",
        ),
        (vec![b'x'; LENGTH], "the other side does not speak pyexec's protocol", "look at PYEXEC_SOCKET"),
        (vec![], "the other side said nothing for 2 s", "look at PYEXEC_SOCKET"),
    ] {
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("can be bound");
        // As often as somebody calls, and each time until the client hangs up.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("somebody calls");
                let _ = stream.write_all(&says);
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        let ran = sandbox.run(&["-c", "pass"]).expect_code(125);
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert!(lines[0].starts_with("error: ") && lines[0].contains(error), "{ran}");
        assert!(lines.len() == 2 && lines[1].starts_with("hint: ") && lines[1].contains(hint), "{ran}");
    }
    assert!(sandbox.daemons().is_empty(), "one was started nevertheless");
}

#[test]
fn a_stale_socket_is_replaced() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    daemon.kill();
    assert!(sandbox.paths().socket.exists(), "kill -9 leaves it behind");
    assert_eq!(sandbox.run(&["-c", "print(1)"]).expect_code(0).text(), "1\n");
}

#[test]
fn a_daemon_that_can_not_start_says_why_to_whoever_wanted_it() {
    let sandbox = Sandbox::new();
    let config = sandbox.paths().config;
    std::fs::create_dir_all(&config).expect("can be made");
    std::fs::write(config.join("config.toml"), "max_runing = 3\n").expect("can be written");
    let ran = sandbox.run(&["-c", "pass"]).expect_code(125);
    assert!(ran.stderr.starts_with("error: the daemon did not start: ") && ran.stderr.contains("max_runing"), "{ran}");
}

/// Binds the socket, as systemd does, and becomes the daemon.
const ACTIVATE: &str = "
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
os.makedirs(os.path.dirname(sys.argv[1]), 0o700, exist_ok=True)
listener.bind(sys.argv[1])
listener.listen()
if listener.fileno() != 3: os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), PYEXEC_SERVICE='daemon')
print('bound', flush=True)
os.execv(sys.argv[2], sys.argv[2:])
";

#[test]
fn a_daemon_serves_the_socket_that_systemd_hands_over_and_leaves_it_there() {
    let sandbox = Sandbox::new();
    let socket = sandbox.paths().socket;
    let mut command = sandbox.command(crate::sandbox::python());
    command.args(["-c", ACTIVATE]).arg(&socket).arg(PYEXECD).stdout(Stdio::piped());
    let mut daemon = command.spawn().expect("can be started");
    let mut said = String::new();
    BufReader::new(daemon.stdout.take().expect("is a pipe")).read_line(&mut said).expect("can be read");
    assert_eq!(said, "bound\n");
    assert_eq!(sandbox.run(&["-c", "print(1)"]).expect_code(0).text(), "1\n");
    assert_eq!(sandbox.daemon_pid(), daemon.id());
    let env = sandbox.run(&["-c", "import os; print([n for n in os.environ if n.startswith('LISTEN_')])"]);
    assert_eq!(env.expect_code(0).text(), "[]\n");
    crate::sandbox::send(daemon.id(), rustix::process::Signal::TERM);
    assert!(daemon.wait().expect("can be reaped").success());
    assert!(socket.exists(), "the socket is systemd's");
    std::fs::remove_file(socket).expect("is there");
}

#[test]
fn systemd_is_told_when_the_daemon_is_ready_and_when_it_leaves() {
    let sandbox = Sandbox::new();
    let path = sandbox.root().join("notify");
    let systemd = std::os::unix::net::UnixDatagram::bind(&path).expect("can be bound");
    systemd.set_read_timeout(Some(std::time::Duration::from_secs(60))).expect("can be set");
    let mut daemon = sandbox.daemon_with(&[("NOTIFY_SOCKET", path.to_str().expect("is UTF-8"))]);
    let heard = || {
        let mut buffer = [0; 256];
        let length = systemd.recv(&mut buffer).expect("something is said");
        String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned()
    };
    assert_eq!(heard(), "READY=1");
    sandbox.pyexec(["daemon", "stop"]).expect_code(0);
    assert_eq!(heard(), "STOPPING=1");
    daemon.wait_until_it_leaves();
}
