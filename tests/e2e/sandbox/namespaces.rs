//! A user namespace in which programs are started one after the other: each `unshare` makes another one, and a daemon runs
//! nothing for clients that are not in its own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// There until this is dropped, and for as long as a process is in it.
#[derive(Debug)]
pub(crate) struct UserNamespace {
    holder: Child,
    through: Vec<String>,
}

impl UserNamespace {
    /// `prepare` is run in it first, by a shell.
    pub(crate) fn new(prepare: &str) -> Self {
        let script = format!("{prepare} && echo ready && exec cat");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("there is an unshare");
        let mut said = String::new();
        let stdout = holder.stdout.as_mut().expect("is a pipe");
        BufReader::new(stdout).read_line(&mut said).expect("can be read");
        assert_eq!(said, "ready\n", "no user namespace can be made, or not be prepared");
        let namespace = format!("--user=/proc/{}/ns/user", holder.id());
        let through = ["nsenter", "--preserve-credentials", &namespace].map(str::to_owned).to_vec();
        Self { holder, through }
    }

    /// The words that start a program in it, and what follows them.
    pub(crate) fn through<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        self.through.iter().map(String::as_str).chain(more.iter().copied()).collect()
    }
}

impl Drop for UserNamespace {
    fn drop(&mut self) {
        // Its holder reads to the end.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
