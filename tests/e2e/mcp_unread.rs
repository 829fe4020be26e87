//! Clients that do not read: neither stderr nor stdout holds the server up, and the end of stdin ends it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use super::mcp_session::PYEXEC_MCP;
use super::sandbox::Sandbox;

struct Server {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Its stderr is a pipe, in the hands of the test.
    fn start(sandbox: &Sandbox) -> Self {
        let mut command = sandbox.command(PYEXEC_MCP);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("can be started");
        let stdin = child.stdin.take().expect("is a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("is a pipe"));
        let mut server = Self { child, stdin, stdout };
        let handshake = json!({
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "tests", "version": "0"}
        });
        assert!(server.ask("initialize", &handshake)["result"].is_object());
        server
    }

    fn say(&mut self, id: &str, method: &str, params: &Value) {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.stdin.write_all(format!("{request}\n").as_bytes()).expect("is read");
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("is text");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:.1000?}: {error}"))
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.say("one", method, params);
        self.answer()
    }

    /// Ends its stdin; nothing is read until it has ended.
    #[track_caller]
    fn end(self, sandbox: &Sandbox) {
        let Self { mut child, stdin, stdout } = self;
        drop(stdin);
        let ended = sandbox.wait_until("the server ends with its stdin", || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}")),
        });
        assert!(ended.success(), "{ended}");
        drop(stdout);
    }
}

#[test]
fn stderr_that_nobody_reads_holds_up_nothing() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let mut said = 0;
    // Several times as much as a pipe holds, and a line that is larger than one.
    for _ in 0..2000 {
        let answer = server.ask("tools/call", &json!({"name": "no_such_tool", "arguments": {}}));
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
        said += 1;
    }
    for method in ["x".repeat(70_000), "\u{1f600}".repeat(70_000)] {
        let answer = server.ask(&method, &json!({}));
        assert_eq!(answer["error"]["code"], -32601, "{answer}");
        said += 1;
    }
    // Read at last, every line is there or counted, and none is long.
    let mut stderr = BufReader::new(server.child.stderr.take().expect("is a pipe"));
    let (mut lines, mut dropped) = (0, 0);
    for line in stderr.by_ref().lines() {
        let line = line.expect("is text");
        assert!(line.len() < 2000, "{line}");
        match line.strip_suffix(" lines of the log were dropped, because nobody was reading stderr") {
            Some(count) => dropped += count.parse::<u64>().expect("is a number"),
            None => lines += 1,
        }
        if lines + dropped == said {
            break;
        }
    }
    assert!(dropped > 0, "all of it was written");
    // Full again, the server leaves all the same.
    for _ in 0..2000 {
        server.ask("tools/call", &json!({"name": "no_such_tool", "arguments": {}}));
    }
    server.end(&sandbox);
    drop(stderr);
}

/// A request whose answer is as long, since both have its `id`.
fn long_request(number: usize) -> Vec<u8> {
    let id = format!("{number}-{}", "x".repeat(1 << 20));
    format!("{{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":\"{id}\"}}\n").into_bytes()
}

/// Sends long requests until the server takes no more of them; how many it was sent, and the rest of the last one, which it
/// has not read.
fn fill(sandbox: &Sandbox, server: &mut Server) -> (usize, Vec<u8>) {
    const MOST: usize = 400;
    rustix::io::ioctl_fionbio(&server.stdin, true).expect("can be set");
    for number in 0..MOST {
        let line = long_request(number);
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            match server.stdin.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if sleeps_before_a_full_pipe(sandbox, server) {
                        return (number, rest.to_vec());
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    panic!("the server has read {MOST} requests, and nobody has read its answers");
}

/// A server that reads what is in its stdin is not asleep for long.
fn sleeps_before_a_full_pipe(sandbox: &Sandbox, server: &Server) -> bool {
    let look = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.child.id())).expect("it is there");
        let fields: Vec<String> =
            stat.rsplit_once(')').expect("has a name").1.split_whitespace().map(str::to_owned).collect();
        // State, and the time it has used.
        (fields[0].clone(), fields[11].clone(), fields[12].clone())
    };
    let room = || {
        let mut watched = [rustix::event::PollFd::new(&server.stdin, rustix::event::PollFlags::OUT)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut watched, Some(&now)).expect("can be asked") > 0
    };
    let first = look();
    let mut looks = 0;
    sandbox.wait_until("the server reads, or sleeps", || {
        looks += 1;
        if room() || look() != first || first.0 != "S" || looks == 20 { Ok(()) } else { Err("it sleeps") }
    });
    looks == 20 && !room()
}

fn resident_mib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).expect("it is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("is a number") / 1024
}

#[test]
fn answers_that_nobody_reads_are_kept_within_bounds_and_are_all_there_at_last() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    let (sent, rest) = fill(&sandbox, &mut server);
    assert!(sent >= 28, "{sent} requests were too much");
    let peak = resident_mib(&server);
    assert!(peak < 120, "{peak} MiB");
    let answer = |server: &mut Server, number: usize| {
        let mut line = String::new();
        server.stdout.read_line(&mut line).expect("is text");
        let begin = format!("{{\"jsonrpc\":\"2.0\",\"id\":\"{number}-x");
        assert!(line.starts_with(&begin) && line.len() > 1 << 20, "{line:.100}");
    };
    for number in 0..sent {
        answer(&mut server, number);
    }
    rustix::io::ioctl_fionbio(&server.stdin, false).expect("can be set");
    server.stdin.write_all(&rest).expect("is read");
    answer(&mut server, sent);
    server.end(&sandbox);
}

#[test]
fn the_end_of_stdin_is_noticed_while_neither_stdout_nor_stderr_is_read() {
    let sandbox = Sandbox::new();
    let mut server = Server::start(&sandbox);
    for _ in 0..2000 {
        server.ask("tools/call", &json!({"name": "no_such_tool", "arguments": {}}));
    }
    fill(&sandbox, &mut server);
    let stderr = server.child.stderr.take();
    server.end(&sandbox);
    let mut said = Vec::new();
    stderr.expect("is a pipe").read_to_end(&mut said).expect("can be read");
    assert!(said.len() >= 60_000, "stderr was not full: {} bytes", said.len());
}
