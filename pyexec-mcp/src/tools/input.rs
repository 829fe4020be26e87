//! `py_send_input`: writes to the stdin of a running job.

use futures::FutureExt;
use pyexec_proto::id::SenderId;
use pyexec_proto::request::{Input, MAX_INPUT_BYTES};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parameters::job_id;
use super::schema::Shape;
use super::tool::{Hints, Tool};
use crate::answer::{Answer, Failure};
use crate::arguments::{Kind, Parameter};
use crate::call::Call;

/// How long to wait for a job that has not started, or has not read earlier input.
const PATIENCE_MS: u64 = 10_000;

pub(super) fn tools() -> Vec<Tool> {
    vec![Tool {
        name: "py_send_input",
        title: "Write to a job's stdin",
        about: "Write text, as it is, to the stdin of a job started with open_stdin; add the newline yourself. \
            close=true ends it.",
        hints: Hints::Adds,
        parameters: vec![
            job_id(),
            Parameter::new("text", Kind::Text, "").required(),
            Parameter::new("close", Kind::Flag, "").default(false),
        ],
        returns: vec![Shape::of::<Written>()],
        perform: |call| perform(call).boxed(),
    }]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    job_id: String,
    text: String,
    close: bool,
}

#[derive(Serialize, JsonSchema)]
struct Written {
    job_id: String,
    /// Fewer than given if the job does not read and its buffer is full.
    bytes_written: u64,
    closed: bool,
}

async fn perform(call: &Call<'_>) -> Result<Answer, Failure> {
    let given: Given = call.read()?;
    let client = call.session.client().await?;
    let id = client.resolve(&given.job_id).await?;
    let sender = SenderId::mint();
    let (bytes, mut written) = (given.text.as_bytes(), 0);
    loop {
        let rest = &bytes[written..];
        let piece = &rest[..rest.len().min(MAX_INPUT_BYTES)];
        let input = Input {
            sender,
            offset: written as u64,
            bytes: piece.to_vec(),
            // Stdin is closed only after the last chunk.
            close: given.close && piece.len() == rest.len(),
            // After the first chunk the call does not wait: it reports how much was written.
            wait_ms: if written == 0 { PATIENCE_MS } else { 0 },
            start_wait_ms: PATIENCE_MS,
        };
        let taken = client.send_input(id, &input).await?;
        let before = written;
        written = usize::try_from(taken.total).unwrap_or(usize::MAX).min(bytes.len());
        if written == bytes.len() || written == before {
            break;
        }
    }
    let closed = given.close && written == bytes.len();
    let mut text = format!("Wrote {written} of {} bytes to job `{id}`.", bytes.len());
    if closed {
        text.push_str(" Its stdin is closed.");
    }
    if written < bytes.len() {
        text.push_str(
            "\n\n**Next:** the job does not read, and its buffer is full: send the rest once it has read some of it.",
        );
    }
    Ok(Answer::new(text, Written { job_id: id.to_string(), bytes_written: written as u64, closed }))
}
