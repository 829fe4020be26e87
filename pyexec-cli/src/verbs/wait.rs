//! `pyexec wait ID…`: waits for all of them, and exits as `run` would have for the last.

use pyexec_proto::output::PerStream;

use crate::args::Wait;
use crate::attach::forwarder::{BrokenStderr, OutputForwarder};
use crate::attach::status_line::{self, ShowStatus};
use crate::connection::{connect_and_resolve, note_unaffected};
use crate::exit_code::{Code, Ending, Failure, SUCCESS};
use crate::terminal;

pub(crate) async fn perform(wait: &Wait) -> Result<Code, Failure> {
    let (client, ids) = connect_and_resolve(&wait.ids).await?;
    let mut last = None;
    // One after the other takes as long as all at once: the slowest decides.
    for id in ids {
        // No output: only the line that says how it goes.
        let mut forwarder = OutputForwarder::open(id, PerStream { stdout: None, stderr: None }, BrokenStderr::Ignored);
        let waited = status_line::forward_to_end(&mut forwarder, &client, id, ShowStatus::UntilFinished).await;
        last = Some(note_unaffected(id, waited)?);
        forwarder.close().await?;
    }
    let Some(last) = last else { return Ok(SUCCESS) };
    let ending = Ending::of(&last)?;
    if let Some(problem) = &ending.problem {
        terminal::problem(problem, None);
    }
    Ok(ending.code)
}
