//! A daemon that a test starts itself, and can therefore kill and reap.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use pyexec_client::start::READY;
use pyexec_proto::variables::SERVICE_MARK;
use rustix::process::Signal;

use super::process::send;
use super::{PATIENCE, PYEXECD, Sandbox};

/// A daemon that is this process's own child.
#[derive(Debug)]
pub(crate) struct TestDaemon<'a> {
    sandbox: &'a Sandbox,
    program: OsString,
    variables: Vec<(OsString, OsString)>,
    child: Option<Child>,
}

/// Returns when a daemon listens; `None` when that is another one, which a client was quicker to start.
fn start_daemon(sandbox: &Sandbox, program: &OsStr, variables: &[(OsString, OsString)]) -> Option<Child> {
    let mut command = sandbox.command(program);
    command.arg("--announce").envs(variables.iter().cloned()).env(SERVICE_MARK, "daemon").current_dir("/");
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

impl<'a> TestDaemon<'a> {
    pub(super) fn of(sandbox: &'a Sandbox, variables: Vec<(OsString, OsString)>) -> Self {
        let program = OsString::from(PYEXECD);
        let child = start_daemon(sandbox, &program, &variables);
        assert!(child.is_some(), "another daemon is running");
        Self { sandbox, program, variables, child }
    }

    /// As long as a client is quicker to start another one, that one is ended: a newer client does so to an older daemon.
    pub(super) fn in_place_of_any(
        sandbox: &'a Sandbox,
        program: OsString,
        variables: Vec<(OsString, OsString)>,
    ) -> Self {
        let child = loop {
            if let Some(child) = start_daemon(sandbox, &program, &variables) {
                break Some(child);
            }
            for other in sandbox.daemons() {
                send(other.pid, Signal::KILL);
                sandbox.wait_until_gone(other.pid);
            }
        };
        Self { sandbox, program, variables, child }
    }

    pub(super) fn or_another(sandbox: &'a Sandbox) -> Self {
        let program = OsString::from(PYEXECD);
        let child = start_daemon(sandbox, &program, &[]);
        Self { sandbox, program, variables: vec![], child }
    }
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
        self.child = start_daemon(self.sandbox, &self.program, &self.variables);
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
