//! Attaches this process to a job: forwards its output ([`forwarder`], with a [`status_line`] below it), forwards stdin to
//! it ([`input`]) and turns signals into stop requests ([`interruption`]). The verbs `run`, `bench`, `logs` and `wait` use
//! it. The job never depends on it.

pub(crate) mod forwarder;
pub(crate) mod input;
pub(crate) mod interruption;
pub(crate) mod status_line;

use pyexec_client::Client;
use pyexec_proto::output::PerStream;
use pyexec_proto::{JobDetail, JobId};

use crate::exit_code::{self, Code, Failure, Interruption};
use crate::terminal;
use forwarder::{BrokenStderr, OutputForwarder};
use status_line::ShowStatus;

/// Shows the job's output until the job has finished.
pub(crate) async fn follow_to_end(client: &Client, id: JobId) -> Result<JobDetail, Failure> {
    let start = PerStream { stdout: Some(0), stderr: Some(0) };
    let mut forwarder = OutputForwarder::open(id, start, BrokenStderr::Ignored).attached();
    let job = status_line::forward_to_end(&mut forwarder, client, id, ShowStatus::UntilStarted).await?;
    forwarder.close().await?;
    Ok(job)
}

/// Reports that pyexec exits before the job has finished; returns the exit code.
pub(crate) fn stop_waiting(id: JobId, interruption: Interruption) -> Code {
    match interruption {
        // The terminal is gone: there is no reader for a note, and the job continues.
        Interruption::HangUp => {}
        Interruption::Interrupt | Interruption::Terminate => {
            terminal::note(&format!("stopped waiting for job {id}; `pyexec show {id}` shows its state"));
        }
    }
    exit_code::of_interruption(interruption)
}
