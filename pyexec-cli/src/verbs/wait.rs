//! `pyexec wait ID…`: waits for all of them, and exits as `run` would have for the last.

use pyexec_proto::output::PerStream;

use crate::args::Wait;
use crate::attach::passage::{BrokenStderr, Passage};
use crate::attach::status_line::{self, While};
use crate::connection::{connect_about, of_job};
use crate::exit_code::{Code, Ending, Failure, SUCCESS};
use crate::terminal;

pub(crate) async fn perform(wait: &Wait) -> Result<Code, Failure> {
    let (client, ids) = connect_about(&wait.ids).await?;
    let mut last = None;
    // One after the other takes as long as all at once: the slowest decides.
    for id in ids {
        // No output: only the line that says how it goes.
        let mut passage = Passage::open(id, PerStream { stdout: None, stderr: None }, BrokenStderr::GoesOn);
        let waited = status_line::to_the_end(&mut passage, &client, id, While::Unfinished).await;
        last = Some(of_job(id, waited)?);
        passage.close().await?;
    }
    let Some(last) = last else { return Ok(SUCCESS) };
    let ending = Ending::of(&last)?;
    if let Some(problem) = &ending.problem {
        terminal::problem(problem, None);
    }
    Ok(ending.code)
}
