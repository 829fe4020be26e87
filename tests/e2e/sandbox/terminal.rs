//! A command at a terminal: what it draws is played on a screen, and keys can be pressed.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::Sandbox;
use super::process::send;

/// A command whose terminal we are.
pub(crate) struct Terminal<'a> {
    sandbox: &'a Sandbox,
    child: Child,
    keys: File,
    drawn: Arc<Mutex<Drawn>>,
    reader: JoinHandle<()>,
}

/// What has come.
struct Drawn {
    screen: vt100::Parser,
    bytes: Vec<u8>,
}

/// What there is of a command at a terminal that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// Negative for a signal.
    pub(crate) code: i32,
    /// Everything it wrote.
    pub(crate) bytes: Vec<u8>,
    /// What is on the screen then.
    pub(crate) screen: String,
    pub(crate) is_cursor_visible: bool,
}

fn winsize(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Sandbox {
    /// Starts a command in a session of its own, with a terminal of this size.
    #[track_caller]
    pub(crate) fn at_terminal(&self, command: &Command, rows: u16, columns: u16) -> Terminal<'_> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("there are terminals");
        grantpt(&ours).expect("is ours");
        unlockpt(&ours).expect("is ours");
        tcsetwinsize(&ours, winsize(rows, columns)).expect("is a terminal");
        let name = ptsname(&ours, Vec::new()).expect("has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs: OwnedFd = rustix::fs::open(name, flags, Mode::empty()).expect("can be opened");
        let stdio = || Stdio::from(theirs.try_clone().expect("can be cloned"));
        // It becomes the session's terminal: the one that sends SIGWINCH and SIGHUP, and that /dev/tty is.
        let mut session = self.command("setsid");
        session.arg("--ctty").arg(command.get_program()).args(command.get_args());
        session.env("TERM", "xterm-256color");
        session.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let child = session.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().expect("setsid can be started");
        drop(theirs);
        let (screen, bytes) = (vt100::Parser::new(size(rows), size(columns), 0), Vec::new());
        let drawn = Arc::new(Mutex::new(Drawn { screen, bytes }));
        let mut output = File::from(ours.try_clone().expect("can be cloned"));
        let played = drawn.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            // EIO: nobody has it open any more.
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                let mut drawn = played.lock().expect("nobody panics with it");
                drawn.screen.process(&buffer[..read]);
                drawn.bytes.extend_from_slice(&buffer[..read]);
            }
        });
        Terminal { sandbox: self, child, keys: File::from(ours), drawn, reader }
    }
}

fn size(cells: u16) -> std::num::NonZeroU16 {
    std::num::NonZeroU16::new(cells).expect("a terminal has some")
}

impl Terminal<'_> {
    /// What is on the screen now.
    pub(crate) fn screen(&self) -> String {
        self.drawn.lock().expect("nobody panics with it").screen.screen().contents()
    }

    /// Returns what is on the screen once it is as `expected`.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, expected: impl Fn(&str) -> bool) -> String {
        self.sandbox.wait_until(what, || {
            let screen = self.screen();
            let is_over = self.reader.is_finished();
            match expected(&screen) {
                true => Ok(screen),
                false if is_over => panic!("it ended before this came true: {what}; its screen:\n{screen}"),
                false => Err(format!("the screen is\n{screen}")),
            }
        })
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("somebody has the terminal open");
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        self.drawn.lock().expect("nobody panics with it").screen.screen_mut().set_size(size(rows), size(columns));
        tcsetwinsize(&self.keys, winsize(rows, columns)).expect("is a terminal");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Shown {
        let status = self.sandbox.wait_until("the command has ended", || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err(format!("{other:?}, its screen:\n{}", self.screen())),
        });
        self.sandbox.wait_until("nobody has its terminal open", || match self.reader.is_finished() {
            true => Ok(()),
            false => Err("still open"),
        });
        let drawn = self.drawn.lock().expect("nobody panics with it");
        let screen = drawn.screen.screen();
        Shown {
            code: status.code().unwrap_or_else(|| -status.signal().expect("one or the other")),
            bytes: drawn.bytes.clone(),
            screen: screen.contents(),
            is_cursor_visible: !screen.hide_cursor(),
        }
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Shown {
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "its screen:\n{}", self.screen);
        self
    }

    /// Everything it wrote, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}
