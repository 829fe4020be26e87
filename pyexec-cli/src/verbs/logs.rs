//! `pyexec logs ID`: what a job has printed, its stdout to ours and its stderr to ours.

use pyexec_client::{Client, ClientError};
use pyexec_proto::JobId;
use pyexec_proto::output::{PerStream, Stream};

use crate::args::Logs;
use crate::attach::forwarder::{BrokenStderr, OutputForwarder};
use crate::attach::status_line::{self, ShowStatus};
use crate::connection::{connect_and_resolve_one, note_unaffected};
use crate::exit_code::{Code, Failure, SUCCESS};

pub(crate) async fn perform(logs: &Logs) -> Result<Code, Failure> {
    let (client, id) = connect_and_resolve_one(&logs.id).await?;
    let cursors = note_unaffected(id, cursors(&client, id, logs).await)?;
    let mut forwarder = OutputForwarder::open(id, cursors, BrokenStderr::Fatal);
    let job = if logs.follow {
        forwarder = forwarder.stop_without_reader();
        let followed = status_line::forward_to_end(&mut forwarder, &client, id, ShowStatus::UntilFinished).await;
        note_unaffected(id, followed)?
    } else {
        let mut job = client.show(id).await?;
        if !job.state.is_finished() {
            // What it prints from here on is for the next call; a job that never stops printing would keep us for ever.
            forwarder = forwarder.until(job.output);
        }
        while !forwarder.is_done() {
            let forwarded = forwarder.forward(&client, 0).await?;
            let has_finished = forwarded.finished.is_some();
            job = forwarded.finished.unwrap_or(job);
            if has_finished || forwarded.empty {
                break;
            }
        }
        job
    };
    forwarder.close().await?;
    // What there was has been shown; that it is not all is no success.
    job.output_error().map_or(Ok(SUCCESS), |gone| Err(ClientError::from(gone).into()))
}

async fn cursors(client: &Client, id: JobId, logs: &Logs) -> Result<PerStream<Option<u64>>, Failure> {
    let mut cursors = PerStream { stdout: None, stderr: None };
    for stream in selected(logs) {
        let start = match (logs.tail, logs.since_byte) {
            (Some(lines), _) => client.tail_offset(id, *stream, lines).await?,
            (None, Some(offset)) => offset,
            (None, None) => 0,
        };
        *cursors.get_mut(*stream) = Some(start);
    }
    Ok(cursors)
}

fn selected(logs: &Logs) -> &'static [Stream] {
    match (logs.stdout, logs.stderr) {
        (true, false) => &[Stream::Stdout],
        (false, true) => &[Stream::Stderr],
        (false, false) | (true, true) => &Stream::BOTH,
    }
}
