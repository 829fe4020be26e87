//! A command that runs, whose output is read as it comes, and what there is of it once it has ended.

use std::fmt::Display;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::Signal;
use serde_json::Value;

use super::process::send;
use super::{Sandbox, contains};

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Attended<'a> {
    sandbox: &'a Sandbox,
    child: Child,
    stdout: Capture,
    stderr: Capture,
    ended: bool,
}

impl<'a> Attended<'a> {
    /// Of a child whose stdout and stderr are pipes.
    pub(super) fn of(sandbox: &'a Sandbox, mut child: Child) -> Self {
        let stdout = Capture::of(child.stdout.take().expect("is a pipe"));
        let stderr = Capture::of(child.stderr.take().expect("is a pipe"));
        Self { sandbox, child, stdout, stderr, ended: false }
    }
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
