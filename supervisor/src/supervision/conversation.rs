//! What is said to the daemon, or to whoever else knocks, and what they ask for.

use std::io;
use std::time::Duration;

use pyexec_proto::output::{OutputLengths, Stream};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::{Hold, Supervision};
use crate::clock::Clocks;
use crate::connection::{Connection, WaitingInput};
use pyexec_run_directory::control::{InputAnswer, Notice, Request};

impl Supervision {
    pub(super) fn welcome(&mut self, mut connection: Connection) {
        // Of a job that has not begun, greetings follow when it has.
        if !self.has_begun() || self.greet(&mut connection).is_ok() {
            let number = self.next_connection;
            self.next_connection += 1;
            self.connections.insert(number, connection);
            // It may have brought requests along with the launch.
            if self.converse(number).is_err() {
                self.connections.remove(&number);
            }
        }
    }

    fn greet(&self, connection: &mut Connection) -> io::Result<()> {
        connection.send(&Notice::Started { run: self.run.clone() })?;
        connection.send(&Notice::Output { lengths: self.lengths() })
    }

    pub(super) fn greet_all(&mut self) {
        let mut connections = std::mem::take(&mut self.connections);
        connections.retain(|_, connection| self.greet(connection).is_ok());
        self.connections = connections;
    }

    pub(super) fn converse(&mut self, number: u64) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        connection.flush()?;
        let received = connection.receive();
        let now = Clocks::now().monotonic;
        // What came before the end still counts.
        while let Some(connection) = self.connections.get_mut(&number)
            && let Some((request, payload)) = connection.next(now)?
        {
            self.obey(number, &request, payload)?;
        }
        received
    }

    fn obey(&mut self, number: u64, request: &Request, payload: Vec<u8>) -> io::Result<()> {
        match *request {
            Request::Stop { reason, grace_ms } => self.stop(reason, Duration::from_millis(grace_ms)),
            Request::Watch { lengths } => {
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.watch = Some(lengths);
                }
                self.tell_watchers();
            }
            Request::Input { sequence, sender, offset, close, wait_ms } => {
                let until = Clocks::now().monotonic + Duration::from_millis(wait_ms);
                let waiting = WaitingInput { sequence, sender, offset, bytes: payload, close, until };
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.waiting.push(waiting);
                }
                self.answer_waiting_input();
            }
            Request::Hold { from } => {
                self.hold(from.map(|from| Hold { from, by: Some(number), until: None }));
            }
            // A job is launched once.
            Request::Launch(_) => return Err(io::ErrorKind::InvalidData.into()),
        }
        Ok(())
    }

    /// Takes what there is room for; answers each sender that got something in, can never, or has waited long enough.
    pub(super) fn answer_waiting_input(&mut self) {
        let now = Clocks::now().monotonic;
        let input = &mut self.input;
        self.connections.retain(|_, connection| {
            for waiting in std::mem::take(&mut connection.waiting) {
                let answer = match input.offer(waiting.sender, waiting.offset, &waiting.bytes, waiting.close) {
                    Ok(taken) if taken.bytes_written == 0 && !waiting.bytes.is_empty() && waiting.until > now => {
                        connection.waiting.push(waiting);
                        continue;
                    }
                    Ok(taken) => InputAnswer::Taken(taken),
                    Err(refusal) => InputAnswer::Refused(refusal),
                };
                if connection.send(&Notice::Input { sequence: waiting.sequence, answer }).is_err() {
                    return false;
                }
            }
            true
        });
    }

    pub(super) fn tell_all(&mut self, notice: &Notice) {
        self.connections.retain(|_, connection| connection.send(notice).is_ok());
    }

    pub(super) fn tell_watchers(&mut self) {
        let lengths = self.lengths();
        self.connections.retain(|_, connection| {
            let news =
                |seen: &OutputLengths| Stream::BOTH.iter().any(|stream| lengths.get(*stream) > seen.get(*stream));
            if !connection.watch.as_ref().is_some_and(news) {
                return true;
            }
            connection.watch = None;
            connection.send(&Notice::Output { lengths }).is_ok()
        });
    }

    /// The last notice may be waiting behind earlier ones. A daemon that does not read finds the record.
    pub(super) fn flush_all(&mut self) {
        const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
        for connection in self.connections.values_mut() {
            while connection.has_unsent() {
                let mut room = [PollFd::new(connection.stream(), PollFlags::OUT)];
                if !matches!(poll(&mut room, Some(&PATIENCE)), Ok(1..)) || connection.flush().is_err() {
                    break;
                }
            }
        }
    }
}
