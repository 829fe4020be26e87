//! What the daemon and a supervisor say to each other.
//!
//! A frame is two little-endian lengths, a JSON message, and bytes that belong to it. JSON, and only ever added to: an
//! old supervisor outlives an upgrade of the daemon.

use std::io;

use pyexec_proto::benchmark::BenchmarkSpec;
use pyexec_proto::error::NoInput;
use pyexec_proto::fence::Fence;
use pyexec_proto::id::SenderId;
use pyexec_proto::job::Leftovers;
use pyexec_proto::limits::Limits;
use pyexec_proto::output::OutputLengths;
use pyexec_proto::request::InputTaken;
use pyexec_proto::state::{Run, StopReason};
use pyexec_proto::ulimit::ResourceLimit;
use pyexec_proto::world::Scheduling;
use pyexec_proto::{JobId, OsText};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::record::WhatEnded;

/// Daemon to supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// The first frame on the connection a supervisor is born with; the environment block is its payload.
    Launch(Box<Launch>),
    /// End the job: TERM, `grace_ms`, KILL. Without grace: KILL at once.
    Stop { reason: StopReason, grace_ms: u64 },
    /// The payload goes to the job's stdin. Answered with [`Notice::Input`] of the same `sequence`.
    Input { sequence: u64, sender: SenderId, offset: u64, close: bool, wait_ms: u64 },
    /// Say [`Notice::Output`], once, as soon as a stream is longer than this.
    Watch { lengths: OutputLengths },
    /// Drop nothing from here on: somebody is still to read it. `None` once nobody is.
    Hold { from: Option<OutputLengths> },
}

/// Supervisor to daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Notice {
    /// Also the first thing said on every later connection; and again of a later run of a benchmark, when it has gone on
    /// for a while.
    Started {
        run: Run,
    },
    Output {
        lengths: OutputLengths,
    },
    Input {
        sequence: u64,
        answer: InputAnswer,
    },
    /// Output can not be written; the job waits. Said when it begins, and again when it is over, with `None`.
    Stalled {
        problem: Option<String>,
    },
    /// The end. `exit.json` says the same, unless `unwritten` says why it could not be written yet.
    Ended {
        what: WhatEnded,
        unwritten: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputAnswer {
    Taken(InputTaken),
    Refused(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    NotOpened,
    Closed,
    ClosedByJob,
    Finished,
}

impl Refusal {
    /// As the wire says it.
    pub fn as_no_input(self) -> NoInput {
        match self {
            Refusal::NotOpened => NoInput::NotOpened,
            Refusal::Closed => NoInput::Closed,
            Refusal::ClosedByJob => NoInput::ClosedByJob,
            Refusal::Finished => NoInput::Finished,
        }
    }
}

/// All a supervisor needs to start its job; it reads no specification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    pub job: JobId,
    pub run_directory: OsText,
    pub program: OsText,
    pub argv: Vec<OsText>,
    pub directory: OsText,
    pub umask: u32,
    pub stdin: LaunchStdin,
    pub timeout_ms: Option<u64>,
    pub grace_ms: u64,
    pub leftovers: Leftovers,
    /// The leader passes a TERM on to its child by itself, as `uv run` does: the child must not hear of it twice.
    #[serde(default)]
    pub leader_forwards: bool,
    pub limits: Vec<ResourceLimit>,
    pub nice: i32,
    pub control_socket: OsText,
    /// Run it several times, and measure each.
    #[serde(default)]
    pub benchmark: Option<BenchmarkSpec>,
    /// What all its processes together may use.
    #[serde(default)]
    pub job_limits: Limits,
    /// Somebody is about to read all of its output: until he says how far he is, nothing is dropped.
    #[serde(default)]
    pub attached: bool,
    /// What its processes are kept from.
    #[serde(default)]
    pub fence: Fence,
    /// Of a job that may write nowhere else: made before it starts, removed when it has ended.
    #[serde(default)]
    pub temporary_directory: Option<OsText>,
    /// The control group that the supervisor is in is this job's alone, and has been given its memory limit.
    #[serde(default)]
    pub group_limits_memory: bool,
    /// The control group that the supervisor is in is this job's alone.
    #[serde(default)]
    pub has_own_group: bool,
    /// The lock of the environment that it runs in: held for as long as the job runs, so that no daemon removes it.
    #[serde(default)]
    pub environment_lock: Option<OsText>,
    /// What it takes over from its submitter beside limits, umask and nice value.
    #[serde(default)]
    pub taken_over: TakenOver,
}

/// What the job has as its submitter had it, besides what its specification says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TakenOver {
    pub scheduling: Option<Scheduling>,
    pub timer_slack_ns: Option<u64>,
    pub personality: Option<u32>,
    /// Where they are not the daemon's: the primary group, and the supplementary ones.
    pub groups: Option<(u32, Vec<u32>)>,
    /// What the daemon has found already that the job will not have as its submitter did.
    pub not_taken_over: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchStdin {
    Null,
    /// [`crate::record::STDIN`], unlinked once it is open.
    File,
    Pipe,
}

/// No message of ours is near it; a length beyond is garbage.
const MAX_PART_BYTES: usize = 32 << 20;
const HEADER: usize = 8;

pub fn encode<T: Serialize>(message: &T, payload: &[u8]) -> Vec<u8> {
    let json = serde_json::to_vec(message).expect("messages have string keys and no failing serializer");
    let mut frame = Vec::with_capacity(HEADER + json.len() + payload.len());
    for length in [json.len(), payload.len()] {
        frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    }
    frame.extend_from_slice(&json);
    frame.extend_from_slice(payload);
    frame
}

/// Takes the first frame off `buffer`; `None` when it is not whole yet.
///
/// # Errors
/// When what is there is not a frame. Nothing more can be read from such a connection.
pub fn decode<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> io::Result<Option<(T, Vec<u8>)>> {
    let Some(header) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
    let length = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
    let (json, payload) = (length(0), length(4));
    if json > MAX_PART_BYTES || payload > MAX_PART_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {json} + {payload} bytes")));
    }
    let whole = HEADER + json + payload;
    if buffer.len() < whole {
        return Ok(None);
    }
    let message = serde_json::from_slice(&buffer[HEADER..HEADER + json])?;
    let payload = buffer[HEADER + json..whole].to_vec();
    buffer.drain(..whole);
    Ok(Some((message, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..5),
            cut in 1usize..50,
        ) {
            let sender = SenderId::mint();
            let message = |number| Request::Input { sequence: number as u64, sender, offset: 0, close: false, wait_ms: 0 };
            let wire: Vec<u8> = payloads.iter().enumerate().flat_map(|(n, payload): (usize, _)| encode(&message(n), payload)).collect();
            let (mut buffer, mut out) = (Vec::new(), Vec::new());
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some((request, payload)) = decode::<Request>(&mut buffer).expect("well formed") {
                    prop_assert_eq!(request, message(out.len()));
                    out.push(payload);
                }
            }
            prop_assert_eq!(out, payloads);
        }

        #[test]
        fn garbage_is_refused_or_waited_for_and_never_panics(mut bytes: Vec<u8>) {
            let _ = decode::<Request>(&mut bytes);
        }
    }

    #[test]
    fn a_frame_of_four_gigabytes_is_refused_at_its_header() {
        let mut buffer = vec![0xff; HEADER];
        assert!(decode::<Request>(&mut buffer).is_err());
    }
}
