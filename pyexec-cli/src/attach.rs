//! Being the terminal of a job: its output is shown ([`passage`], with a line of our own at its foot, [`status_line`]),
//! stdin is passed on ([`input`]), and signals are turned into stops ([`interruption`]). The job itself needs none of them.

pub(crate) mod input;
pub(crate) mod interruption;
pub(crate) mod passage;
pub(crate) mod status_line;

use pyexec_client::Client;
use pyexec_proto::output::PerStream;
use pyexec_proto::{JobDetail, JobId};

use crate::exit_code::{self, Code, Failure, Interruption};
use crate::terminal;
use passage::{BrokenStderr, Passage};
use status_line::While;

/// Shows what the job prints, until its end.
pub(crate) async fn live(client: &Client, id: JobId) -> Result<JobDetail, Failure> {
    let start = PerStream { stdout: Some(0), stderr: Some(0) };
    let mut passage = Passage::open(id, start, BrokenStderr::GoesOn).attached();
    let job = status_line::to_the_end(&mut passage, client, id, While::Pending).await?;
    passage.close().await?;
    Ok(job)
}

/// Goes without having seen the end.
pub(crate) fn left(id: JobId, interruption: Interruption) -> Code {
    match interruption {
        // It was only the terminal that went away; the job goes on, and nobody is there to be told.
        Interruption::HangUp => {}
        Interruption::Interrupt | Interruption::Terminate => {
            terminal::note(&format!("stopped waiting for job {id}; `pyexec show {id}` shows its state"));
        }
    }
    exit_code::of_interruption(interruption)
}
