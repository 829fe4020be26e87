//! The log on stderr, which never blocks the server.
//!
//! Many hosts start a server with a pipe for stderr that they never read, and a pipe holds 64 KiB. A separate thread
//! therefore writes the lines; the first line starts it. Lines that do not fit into the queue are dropped, and their
//! number is logged once there is room again.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use pyexec_proto::sanitize;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The longest line, in bytes. Longer lines are truncated, because they may contain text of the client.
const LONGEST: usize = 1 << 10;

/// The largest number of queued lines.
const MOST_LINES: usize = 256;

/// The thread only writes lines.
const STACK_BYTES: usize = 64 << 10;

/// How long the end of the program waits for the last lines; a host that reads stderr has them by then.
const LAST_LINES: Duration = Duration::from_millis(5);

static STDERR: LazyLock<Arc<Lines>> = LazyLock::new(Arc::default);

/// Logs warnings and errors only: lower levels repeat whole scripts. Warnings of rmcp about requests are off, because
/// `transport` logs those itself; those of tarpc about a lost daemon are off, because the client finds the next daemon.
pub(crate) fn to_stderr() {
    let levels =
        Targets::new().with_default(Level::WARN).with_target("rmcp", Level::ERROR).with_target("tarpc", Level::ERROR);
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(|| Stderr);
    tracing_subscriber::registry().with(lines).with(levels).init();
    // The default hook writes to stderr directly.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}

/// Waits until the queued lines are written, at most [`LAST_LINES`].
pub(crate) fn finish() {
    STDERR.wait_until_written(LAST_LINES);
}

#[derive(Default)]
struct Lines {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    /// The thread is writing a line.
    is_writing: bool,
    dropped: u64,
    has_thread: bool,
}

impl State {
    /// Queues a line, or counts it as dropped. The number of dropped lines is queued before the next line.
    fn push(&mut self, line: Vec<u8>) {
        if self.waiting.len() >= MOST_LINES {
            self.dropped += 1;
            return;
        }
        let notice = self.notice();
        self.waiting.extend(notice.into_iter().chain([line]));
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        self.waiting.pop_front().or_else(|| self.notice())
    }

    fn notice(&mut self) -> Option<Vec<u8>> {
        let dropped = std::mem::take(&mut self.dropped);
        (dropped > 0).then(|| {
            format!("{dropped} lines of the log were dropped, because nobody was reading stderr\n").into_bytes()
        })
    }
}

impl Lines {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    fn push(self: &Arc<Self>, line: Vec<u8>) {
        let mut state = self.state();
        state.push(line);
        if !state.has_thread {
            let lines = self.clone();
            let thread = std::thread::Builder::new().name("log".to_owned()).stack_size(STACK_BYTES);
            // Without a thread the lines are lost: there is no place to report that.
            state.has_thread = thread.spawn(move || lines.write(&mut io::stderr())).is_ok();
        }
        drop(state);
        self.changed.notify_all();
    }

    fn write(&self, output: &mut impl Write) {
        let mut state = self.state();
        loop {
            match state.next() {
                None => state = self.changed.wait(state).expect("nobody panics while holding it"),
                Some(line) => {
                    state.is_writing = true;
                    drop(state);
                    // A host that has closed stderr does not need the line.
                    let _ = output.write_all(&line);
                    state = self.state();
                    state.is_writing = false;
                    self.changed.notify_all();
                }
            }
        }
    }

    fn wait_until_written(&self, longest: Duration) {
        let is_left = |state: &mut State| state.has_thread && (state.is_writing || !state.waiting.is_empty());
        drop(self.changed.wait_timeout_while(self.state(), longest, is_left));
    }
}

struct Stderr;

impl Write for Stderr {
    /// tracing writes each event with one call.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        STDERR.push(one_line(event));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event as one sanitized line of limited length.
fn one_line(event: &[u8]) -> Vec<u8> {
    let event = event.strip_suffix(b"\n").unwrap_or(event);
    let text = String::from_utf8_lossy(event);
    let kept = text.floor_char_boundary(LONGEST);
    let mut line = sanitize::one_line(&text[..kept]).into_owned();
    if kept < text.len() {
        line.push_str(&format!("… ({} bytes more)", text.len() - kept));
    }
    line.push('\n');
    line.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_room_are_counted_and_the_number_is_said_before_the_next() {
        let mut state = State::default();
        let line = |number: usize| format!("{number}\n").into_bytes();
        for number in 0..MOST_LINES + 3 {
            state.push(line(number));
        }
        assert_eq!((state.waiting.len(), state.dropped), (MOST_LINES, 3));
        for number in 0..2 {
            assert_eq!(state.next(), Some(line(number)));
        }
        state.push(b"next\n".to_vec());
        let rest: Vec<String> =
            std::iter::from_fn(|| state.next()).map(|line| String::from_utf8(line).expect("is text")).collect();
        let [.., last, notice, next] = rest.as_slice() else { panic!("{rest:?}") };
        assert_eq!((last.as_str(), next.as_str()), ("255\n", "next\n"));
        assert_eq!(notice, "3 lines of the log were dropped, because nobody was reading stderr\n");
        // And when nothing more comes.
        state.dropped = 1;
        assert!(state.next().is_some_and(|notice| notice.starts_with(b"1 lines")));
        assert_eq!(state.next(), None);
    }

    #[test]
    fn a_reader_that_does_not_read_holds_up_nobody_who_has_something_to_say() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let lines = Arc::new(Lines::default());
        lines.state().has_thread = true;
        let thread = lines.clone();
        std::thread::spawn(move || thread.write(&mut writer));
        // More than the pipe and the queue hold.
        let count = 1000;
        for _ in 0..count {
            lines.push("x".repeat(LONGEST).into_bytes().into_iter().chain(*b"\n").collect());
        }
        lines.wait_until_written(Duration::ZERO);
        // Read at last, each is there or counted.
        let (mut read, mut dropped) = (0, 0);
        for line in io::BufRead::lines(io::BufReader::new(reader)) {
            let line = line.expect("is text");
            match line.strip_suffix(" lines of the log were dropped, because nobody was reading stderr") {
                Some(number) => dropped += number.parse::<u64>().expect("is a number"),
                None => read += 1,
            }
            if read + dropped == count {
                break;
            }
        }
        assert!(dropped > 0, "there was room for all of it");
    }

    #[test]
    fn a_long_event_is_cut_and_stays_on_its_line() {
        assert_eq!(one_line(b"short\n"), b"short\n");
        let obeyed = String::from_utf8(one_line(b"two\nlines\x1b[2J\n")).expect("is text");
        assert!(obeyed.lines().count() == 1 && !obeyed.contains('\u{1b}'), "{obeyed:?}");
        let long = one_line("é".repeat(100_000).as_bytes());
        assert!(long.len() < LONGEST + 40 && long.ends_with(" (198976 bytes more)\n".as_bytes()), "{}", long.len());
    }
}
