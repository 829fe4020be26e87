//! A connection to `pyexec-mcp` that says exactly what a test wants said, line by line.
//!
//! What real clients make of it is tested elsewhere, with those clients. Every line that the server prints has to be a
//! protocol message: one that is not ends the test.

#![expect(clippy::needless_pass_by_value, reason = "arguments are written where they are passed")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::result_schemas;
pub(crate) use super::sandbox::PYEXEC_MCP;
use super::sandbox::{Sandbox, send};

/// How long a message may take to come. Nothing is asserted about it: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    /// 2026-07-28: no handshake, everything in each request.
    Stateless,
    /// With `initialize`, in this version.
    Handshake(&'static str),
}

pub(crate) const ERAS: [Era; 2] = [Era::Stateless, Era::Handshake("2025-06-18")];

#[derive(Debug)]
pub(crate) struct McpSession<'a> {
    sandbox: &'a Sandbox,
    era: Era,
    child: Child,
    to_server: Option<std::fs::File>,
    from_server: Receiver<String>,
    answers: HashMap<u64, Value>,
    /// The tool of each call that is under way.
    called: HashMap<u64, String>,
    pub(crate) notifications: Vec<Value>,
    last_id: u64,
}

impl<'a> McpSession<'a> {
    #[track_caller]
    pub(crate) fn open(sandbox: &'a Sandbox, era: Era) -> Self {
        Self::open_with(sandbox, era, &[], &[])
    }

    #[track_caller]
    pub(crate) fn open_with(sandbox: &'a Sandbox, era: Era, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let (input, to_server) = std::io::pipe().expect("a pipe");
        let (from_server, output) = std::io::pipe().expect("a pipe");
        Self::over(
            sandbox,
            era,
            arguments,
            variables,
            [input.into(), output.into()],
            [to_server.into(), from_server.into()],
        )
    }

    /// Over sockets, as a host that runs on Node hands them out.
    #[track_caller]
    pub(crate) fn open_over_sockets(sandbox: &'a Sandbox, era: Era) -> Self {
        use std::os::unix::net::UnixStream;
        let (input, to_server) = UnixStream::pair().expect("a pair");
        let (output, from_server) = UnixStream::pair().expect("a pair");
        Self::over(
            sandbox,
            era,
            &[],
            &[],
            [OwnedFd::from(input), output.into()],
            [OwnedFd::from(to_server), from_server.into()],
        )
    }

    #[track_caller]
    fn over(
        sandbox: &'a Sandbox,
        era: Era,
        arguments: &[&str],
        variables: &[(&str, &str)],
        [input, output]: [OwnedFd; 2],
        [to_server, from_server]: [OwnedFd; 2],
    ) -> Self {
        let mut command = sandbox.command(PYEXEC_MCP);
        command.args(arguments).envs(variables.iter().copied());
        Self::of(sandbox, era, command, [input, output], [to_server, from_server])
    }

    /// Of a server that `command` starts.
    #[track_caller]
    pub(crate) fn open_command(sandbox: &'a Sandbox, era: Era, command: Command) -> Self {
        let (input, to_server) = std::io::pipe().expect("a pipe");
        let (from_server, output) = std::io::pipe().expect("a pipe");
        Self::of(sandbox, era, command, [input.into(), output.into()], [to_server.into(), from_server.into()])
    }

    #[track_caller]
    fn of(
        sandbox: &'a Sandbox,
        era: Era,
        mut command: Command,
        [input, output]: [OwnedFd; 2],
        [to_server, from_server]: [OwnedFd; 2],
    ) -> Self {
        command.stdin(input).stdout(output).stderr(Stdio::inherit());
        let child = command.spawn().expect("can be started");
        // Its ends of the pipes are in the command.
        drop(command);
        let (lines, received) = channel();
        let reader = BufReader::new(std::fs::File::from(from_server));
        std::thread::spawn(move || {
            for line in reader.lines() {
                let Ok(line) = line else { break };
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let mut session = Self {
            sandbox,
            era,
            child,
            to_server: Some(to_server.into()),
            from_server: received,
            answers: HashMap::new(),
            called: HashMap::new(),
            notifications: vec![],
            last_id: 0,
        };
        if let Era::Handshake(version) = era {
            let client = json!({"name": "tests", "version": "0"});
            let greeting = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": client});
            let greeted = session.ask("initialize", greeting);
            assert_eq!(greeted["protocolVersion"], version, "{greeted}");
            session.notify("notifications/initialized", json!({}));
        }
        session
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one line as it is.
    #[track_caller]
    pub(crate) fn say(&mut self, line: impl AsRef<[u8]>) {
        let to_server = self.to_server.as_mut().expect("stdin is open");
        let line = [line.as_ref(), b"\n"].concat();
        to_server.write_all(&line).expect("the server reads");
    }

    /// Sends text that does not end its line.
    #[track_caller]
    pub(crate) fn say_without_end(&mut self, text: impl AsRef<[u8]>) {
        self.to_server.as_mut().expect("stdin is open").write_all(text.as_ref()).expect("the server reads");
    }

    /// The next message, whatever it is.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Value {
        self.receive("the next message").expect("the server is there")
    }

    #[track_caller]
    pub(crate) fn notify(&mut self, method: &str, params: Value) {
        self.say(json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string());
    }

    /// Sends a request; its number.
    #[track_caller]
    pub(crate) fn request(&mut self, method: &str, mut params: Value) -> u64 {
        self.last_id += 1;
        if self.era == Era::Stateless {
            let meta = params["_meta"].take();
            let mut meta = if meta.is_null() { json!({}) } else { meta };
            meta["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
            meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
            params["_meta"] = meta;
        }
        let id = self.last_id;
        self.say(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        id
    }

    /// The next message; `None` when the server has closed its stdout.
    #[track_caller]
    fn receive(&mut self, what: &str) -> Option<Value> {
        match self.from_server.recv_timeout(PATIENCE) {
            Ok(line) => Some(serde_json::from_str(&line).unwrap_or_else(|error| {
                panic!("{line:?} is no protocol message: {error}");
            })),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{what} never came; so far: {:?}\n{}", self.notifications, self.sandbox.daemon_log())
            }
        }
    }

    /// The whole answer to a request, whatever comes before it.
    #[track_caller]
    pub(crate) fn answer(&mut self, id: u64) -> Value {
        loop {
            if let Some(answer) = self.answers.remove(&id) {
                if let Some(tool) = self.called.remove(&id) {
                    result_schemas::hold(&tool, &answer);
                }
                return answer;
            }
            match self.receive(&format!("the answer to {id}")) {
                Some(message) if message.get("id").is_some_and(Value::is_u64) => {
                    let answered = message["id"].as_u64().expect("is one");
                    let again = self.answers.insert(answered, message);
                    assert!(again.is_none(), "request {answered} is answered twice");
                }
                Some(message) => self.notifications.push(message),
                None => panic!("the server left without answering {id}\n{}", self.sandbox.daemon_log()),
            }
        }
    }

    /// Which of these is answered first.
    #[track_caller]
    pub(crate) fn first_answer(&mut self, ids: &[u64]) -> u64 {
        loop {
            if let Some(id) = ids.iter().find(|id| self.answers.contains_key(id)) {
                return *id;
            }
            let message = self.receive("any answer").expect("the server is there");
            match message["id"].as_u64() {
                Some(id) => drop(self.answers.insert(id, message)),
                None => self.notifications.push(message),
            }
        }
    }

    /// The first notification of this method, whenever it came.
    #[track_caller]
    pub(crate) fn notification(&mut self, method: &str) -> Value {
        loop {
            if let Some(at) = self.notifications.iter().position(|notification| notification["method"] == method) {
                return self.notifications.remove(at);
            }
            let message = self.receive(method).expect("the server is there");
            match message["id"].as_u64() {
                Some(id) => drop(self.answers.insert(id, message)),
                None => self.notifications.push(message),
            }
        }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params);
        let answer = self.answer(id);
        assert!(answer.get("error").is_none(), "{method} failed: {answer}");
        answer["result"].clone()
    }

    /// Sends a call without waiting for it.
    #[track_caller]
    pub(crate) fn begin(&mut self, tool: &str, arguments: Value) -> u64 {
        let id = self.request("tools/call", json!({"name": tool, "arguments": arguments}));
        self.called.insert(id, tool.to_owned());
        id
    }

    /// The result of a call, whatever it is.
    #[track_caller]
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let id = self.begin(tool, arguments);
        let answer = self.answer(id);
        assert!(answer.get("error").is_none(), "{tool} failed: {answer}");
        answer["result"].clone()
    }

    /// The text of a call that must succeed.
    #[track_caller]
    pub(crate) fn markdown(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], false, "{tool}: {result}");
        assert!(result.get("structuredContent").is_none(), "{tool}: {result}");
        text_of(&result)
    }

    /// The structured content of a call that must succeed.
    #[track_caller]
    pub(crate) fn structured(&mut self, tool: &str, mut arguments: Value) -> Value {
        arguments["markdown_output"] = false.into();
        let result = self.call(tool, arguments);
        structured_of(&result)
    }

    /// What is said of a call that must fail.
    #[track_caller]
    pub(crate) fn failure(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{tool}: {result}");
        text_of(&result)
    }

    /// Starts code with the system's Python; the job's id.
    #[track_caller]
    pub(crate) fn start(&mut self, code: &str) -> String {
        self.start_with(code, json!({}))
    }

    #[track_caller]
    pub(crate) fn start_with(&mut self, code: &str, more: Value) -> String {
        let mut arguments = self.script(code);
        for (name, value) in more.as_object().expect("is an object") {
            arguments[name] = value.clone();
        }
        let started = self.structured("py_run_script_in_dir_async", arguments);
        assert_eq!(started["status"], "started");
        started["job_id"].as_str().expect("is text").to_owned()
    }

    /// Arguments that run some code with the system's Python.
    pub(crate) fn script(&self, code: &str) -> Value {
        json!({"directory": self.sandbox.work(), "script_content": code, "use_uv": false})
    }

    pub(crate) fn end_input(&mut self) {
        self.to_server = None;
    }

    /// Ends its stdin, and waits for it to leave.
    #[track_caller]
    pub(crate) fn close(mut self) -> ExitStatus {
        self.end_input();
        // To the end of its stdout, so that it can write what it still has to.
        while self.receive("the end").is_some() {}
        self.child.wait().expect("can be reaped")
    }

    /// `kill -9`, and reaped.
    pub(crate) fn kill(mut self) {
        send(self.child.id(), Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Drop for McpSession<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
pub(crate) fn text_of(result: &Value) -> String {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text first: {result}")).to_owned()
}

/// With the same as text beside it.
#[track_caller]
pub(crate) fn structured_of(result: &Value) -> Value {
    assert_eq!(result["isError"], false, "{result}");
    let structured = &result["structuredContent"];
    assert!(structured.is_object(), "no structured content: {result}");
    let text: Value = serde_json::from_str(&text_of(result)).expect("the text is the same as JSON");
    assert_eq!(&text, structured);
    structured.clone()
}

/// Base64, of what has no line breaks in it.
pub(crate) fn base64_decoded(text: &str) -> Vec<u8> {
    const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let values = text.trim_end_matches('=').chars().map(|letter| LETTERS.find(letter).expect("is base64") as u32);
    let values: Vec<u32> = values.collect();
    let bytes_of = |group: &[u32]| {
        let bits = group.iter().chain([&0; 3]).take(4).fold(0, |bits, value| bits << 6 | value);
        bits.to_be_bytes()[1..group.len()].to_vec()
    };
    values.chunks(4).flat_map(bytes_of).collect()
}
