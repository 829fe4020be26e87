//! `pyexec wait ID…`: waits for all of them, and exits as `run` would have for the last.

use crate::args::Wait;
use crate::exit_code::{Code, Ending, Failure, SUCCESS};
use crate::terminal;

pub(crate) async fn perform(wait: &Wait) -> Result<Code, Failure> {
    let client = super::connect().await?;
    let ids = super::resolve(&client, &wait.ids).await?;
    let mut last = None;
    // One after the other takes as long as all at once: the slowest decides.
    for id in ids {
        last = Some(client.wait(id).await?);
    }
    let Some(last) = last else { return Ok(SUCCESS) };
    let ending = Ending::of(&last)?;
    if let Some(problem) = &ending.problem {
        terminal::problem(problem, None);
    }
    Ok(ending.code)
}
