//! Programs of different versions: a newer client has an older daemon hand over, never the other way round.
//!
//! `PYEXEC_TEST_PROTOCOL` has a program of a development build speak another protocol than its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use pyexec_proto::preamble::{LENGTH, PRETENDED_PROTOCOL_VARIABLE, PROTOCOL, Preamble};
use serde_json::{Value, json};

use crate::sandbox::{Ran, Sandbox, is_alive, pid_of};

const SCRIPT: &str =
    "import os, time\nprint('before')\nwhile not os.path.exists('go'): time.sleep(0.005)\nprint('after')\n";

const OLDER: &str = "700";
const NEWER: &str = "701";

/// A daemon of an older version with a job that runs, whose clients are of a newer version from here on.
fn upgraded(older: &str) -> (Sandbox, String, u32) {
    let mut sandbox = Sandbox::new();
    sandbox.set(PRETENDED_PROTOCOL_VARIABLE, older);
    sandbox.write("script.py", SCRIPT);
    let id = sandbox.detach(&["script.py"]);
    sandbox.wait_until_running(&id);
    let daemon = sandbox.daemon_pid();
    sandbox.set(PRETENDED_PROTOCOL_VARIABLE, NEWER);
    (sandbox, id, daemon)
}

fn ends_well(sandbox: &Sandbox, id: &str) {
    sandbox.write("go", "");
    assert_eq!(sandbox.finished(id)["exit_code"], 0);
    assert_eq!(sandbox.logs(id), b"before\nafter\n");
}

#[test]
fn a_newer_client_has_an_older_daemon_hand_over_and_its_job_goes_on() {
    // One that knows the frozen requests, and one from before them.
    for older in [OLDER, "3"] {
        let (sandbox, id, old) = upgraded(older);
        let job = pid_of(&sandbox.wait_for_status(&id, "running")["pid"]);
        let new = sandbox.daemon_pid();
        assert_ne!(new, old, "protocol {older}");
        sandbox.wait_until_gone(old);
        assert!(is_alive(job));
        assert_eq!(pid_of(&sandbox.show(&id)["pid"]), job, "protocol {older}");
        if older == OLDER {
            assert!(sandbox.daemon_log().contains("handing over to a newer daemon"), "{}", sandbox.daemon_log());
        }
        ends_well(&sandbox, &id);
        assert_eq!(sandbox.daemon_pid(), new, "it was replaced again");
    }
}

#[test]
fn an_older_client_is_told_to_upgrade_and_a_newer_daemon_stays() {
    let mut sandbox = Sandbox::new();
    sandbox.set(PRETENDED_PROTOCOL_VARIABLE, NEWER);
    let new = pid_of(&started(&sandbox)["pid"]);
    sandbox.set(PRETENDED_PROTOCOL_VARIABLE, OLDER);
    let refused = sandbox.run(&["-c", "pass"]).expect_code(125);
    assert!(refused.stderr.contains("speaks protocol 701-701"), "{refused}");
    assert!(refused.stderr.contains("hint: this program is the older one: upgrade it"), "{refused}");
    sandbox.set(PRETENDED_PROTOCOL_VARIABLE, NEWER);
    assert_eq!(sandbox.daemon_pid(), new);
}

fn started(sandbox: &Sandbox) -> Value {
    sandbox.pyexec(["daemon", "start"]).expect_code(0);
    sandbox.daemon_status()
}

#[test]
fn the_handing_over_is_told_on_a_terminal_and_nowhere_else() {
    let told = "the daemon of version ";
    let (sandbox, id, _) = upgraded(OLDER);
    let shown = sandbox.at_terminal(&sandbox.cli(["jobs"]), 24, 120).end().expect_code(0).text();
    assert!(shown.contains(told) && shown.contains("running jobs continue"), "{shown}");
    let shown = sandbox.at_terminal(&sandbox.cli(["jobs"]), 24, 120).end().expect_code(0).text();
    assert!(!shown.contains(told), "{shown}");
    ends_well(&sandbox, &id);
    let (sandbox, id, _) = upgraded(OLDER);
    let listed: Ran = sandbox.pyexec(["jobs"]).expect_code(0);
    assert_eq!(listed.stderr, "", "{listed}");
    ends_well(&sandbox, &id);
}

#[test]
fn many_newer_clients_at_once_replace_an_older_daemon_once() {
    let (sandbox, id, old) = upgraded(OLDER);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                let code = format!("print({number})");
                assert_eq!(sandbox.run(&["-c", &code]).expect_code(0).text(), format!("{number}\n"));
            });
        }
    });
    let daemons = sandbox.daemons();
    assert_eq!(daemons.len(), 1, "{daemons:?}");
    assert_ne!(daemons[0].pid, old);
    let log = sandbox.daemon_log();
    assert_eq!(log.matches("handing over to a newer daemon").count(), 1, "{log}");
    ends_well(&sandbox, &id);
}

#[test]
fn an_older_daemon_stays_where_no_newer_one_could_be_started() {
    let (mut sandbox, id, old) = upgraded(OLDER);
    let program = sandbox.write("older-pyexecd", "#!/bin/sh\necho 700-700\n");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("can be changed");
    for program in [program.to_str().expect("is text"), "/bin/false", "/nowhere/pyexecd"] {
        sandbox.set("PYEXEC_DAEMON", program);
        let refused = sandbox.pyexec(["jobs"]).expect_code(125);
        assert!(refused.stderr.contains("speaks protocol 700-700, this program ("), "{refused}");
        assert!(refused.stderr.contains("`pyexec daemon restart`"), "{refused}");
    }
    sandbox.set(PRETENDED_PROTOCOL_VARIABLE, OLDER);
    assert_eq!(sandbox.daemon_pid(), old);
    ends_well(&sandbox, &id);
}

#[test]
fn a_client_that_only_looks_leaves_an_older_daemon_alone() {
    let (mut sandbox, id, old) = upgraded(OLDER);
    let told = sandbox.pyexec(["daemon", "status"]).expect_code(125);
    assert!(told.stderr.contains("the daemon is the older one"), "{told}");
    sandbox.set(PRETENDED_PROTOCOL_VARIABLE, OLDER);
    assert_eq!(sandbox.daemon_pid(), old);
    ends_well(&sandbox, &id);
}

/// Speaks as a client of protocol `highest`, and sends these requests.
fn frozen(sandbox: &Sandbox, highest: u16, requests: &[Value]) -> Vec<Value> {
    let mut stream = UnixStream::connect(sandbox.paths().socket).expect("the daemon listens");
    let preamble = Preamble { lowest: highest, highest, version: "9.9.9".to_owned() };
    stream.write_all(&preamble.encode()).expect("can be written");
    stream.write_all(&framed(&json!({}))).expect("can be written");
    stream.read_exact(&mut [0; LENGTH]).expect("it greets");
    let _greeting = read(&mut stream);
    let ask = |request: &Value| {
        stream.write_all(&framed(request)).expect("can be written");
        read(&mut stream)
    };
    requests.iter().map(ask).collect()
}

fn framed(message: &Value) -> Vec<u8> {
    let text = message.to_string();
    [&u32::try_from(text.len()).expect("is short").to_le_bytes()[..], text.as_bytes()].concat()
}

fn read(stream: &mut UnixStream) -> Value {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer comes");
    let mut text = vec![0; u32::from_le_bytes(length).try_into().expect("fits")];
    stream.read_exact(&mut text).expect("an answer comes");
    serde_json::from_slice(&text).expect("is JSON")
}

#[test]
fn the_frozen_requests_are_answered_and_only_a_newer_client_is_handed_over_to() {
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    let asked = [
        json!({ "request": "status" }),
        json!({ "request": "of_a_later_version", "with": [1, 2] }),
        json!({ "request": "hand_over", "highest": PROTOCOL }),
        json!({ "request": "status", "of_a_later_version": true }),
    ];
    let answers = frozen(&sandbox, 900, &asked);
    for answer in &answers {
        assert_eq!(pid_of(&answer["pid"]), daemon.pid(), "{answer}");
        assert_eq!(answer["highest_protocol"], PROTOCOL, "{answer}");
        assert!(answer["program"].as_str().is_some_and(|program| program.ends_with("pyexecd")), "{answer}");
        assert_eq!(answer["hands_over"], false, "{answer}");
    }
    assert_eq!((&answers[0]["problem"], &answers[3]["problem"]), (&Value::Null, &Value::Null));
    assert_eq!(answers[1]["problem"], "this request is not known to this daemon");
    let refused = answers[2]["problem"].as_str().expect("it is refused");
    assert!(refused.contains("is not newer than"), "{refused}");
    assert_eq!(sandbox.daemon_pid(), daemon.pid());
    let answer = &frozen(&sandbox, 900, &[json!({ "request": "hand_over", "highest": 900 })])[0];
    assert_eq!((&answer["hands_over"], &answer["problem"]), (&true.into(), &Value::Null), "{answer}");
    sandbox.wait_until_gone(daemon.pid());
}

/// Asks the daemon to hand over, and prints its answer.
const ASK: &str = r#"
import json, os, socket, struct
def framed(message):
    text = json.dumps(message).encode()
    return struct.pack('<I', len(text)) + text
def received(stream, length):
    got = b''
    while len(got) < length:
        got += stream.recv(length - len(got))
    return got
stream = socket.socket(socket.AF_UNIX)
stream.connect(os.environ['SOCKET'])
stream.sendall(b'PYEXEC/1 900-900 9.9.9'.ljust(64, b'\0') + framed({}))
received(stream, 64)
received(stream, struct.unpack('<I', received(stream, 4))[0])
stream.sendall(framed({'request': 'hand_over', 'highest': 900}))
answer = json.loads(received(stream, struct.unpack('<I', received(stream, 4))[0]))
print(answer['hands_over'], answer['problem'])
"#;

#[test]
fn a_job_in_a_fence_cannot_have_the_daemon_hand_over() {
    let sandbox = Sandbox::new();
    let daemon = sandbox.daemon();
    let socket = format!("SOCKET={}", sandbox.paths().socket.display());
    let ran = sandbox.run(&["--filesystem", "read-only", "-e", &socket, "-c", ASK]).expect_code(0);
    assert!(ran.text().starts_with("False ") && ran.text().contains("fence"), "{ran}");
    assert_eq!(sandbox.daemon_pid(), daemon.pid());
}

/// A client that may gain no privileges counts as one in a fence. It may send signals all the same: a refusal that led to
/// TERM would be none.
#[test]
fn a_newer_client_that_is_refused_does_not_end_the_daemon_in_another_way() {
    let (mut sandbox, id, old) = upgraded(OLDER);
    sandbox.set_through(&["setpriv", "--no-new-privs"]);
    let refused = sandbox.pyexec(["jobs"]).expect_code(125);
    assert!(refused.stderr.contains("speaks protocol 700-700"), "{refused}");
    sandbox.set_through(&[]);
    sandbox.set(PRETENDED_PROTOCOL_VARIABLE, OLDER);
    assert_eq!(sandbox.daemon_pid(), old);
    ends_well(&sandbox, &id);
}
