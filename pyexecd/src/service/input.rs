//! Writing to a job's stdin.

use std::time::Duration;

use pyexec_proto::error::NoInput;
use pyexec_proto::job::StdinSource;
use pyexec_proto::request::{Input, InputTaken, MAX_INPUT_BYTES, MAX_WAIT_MS};
use pyexec_proto::{Error, JobId, JobState};
use tokio::time::Instant;

use crate::jobs::{Jobs, leaving};

/// For a job that has not started, waits for the start for as long as the sender says, and then for room in its buffer.
pub(super) async fn send(jobs: &Jobs, id: JobId, mut input: Input) -> Result<InputTaken, Error> {
    let refused = |why| Error::NoInput { id, why };
    let watched = jobs.watch(id).await?;
    let stdin = match &watched {
        Some(told) => told.borrow().job.spec.stdin,
        None => jobs.get(id).await?.spec.stdin,
    };
    if stdin != StdinSource::Open {
        return Err(refused(NoInput::NotOpened));
    }
    if input.bytes.len() > MAX_INPUT_BYTES {
        return Err(Error::InvalidArgument {
            what: "input".to_owned(),
            given: format!("({} bytes)", input.bytes.len()),
            problem: format!("{MAX_INPUT_BYTES} bytes is the most that one call takes"),
            hint: "send it in pieces".to_owned(),
        });
    }
    let now = Instant::now();
    let at_most = now + Duration::from_millis(MAX_WAIT_MS);
    let starts_by = (now + Duration::from_millis(input.start_wait_ms.min(MAX_WAIT_MS))).min(at_most);
    let room = Duration::from_millis(input.wait_ms.min(MAX_WAIT_MS));
    // Counted from the moment at which the job is seen to run.
    let mut room_by = None;
    let mut shutting_down = jobs.shutting_down();
    let Some(mut told) = watched else { return Err(refused(NoInput::Finished)) };
    loop {
        let (state, handle) = {
            let snapshot = told.borrow_and_update();
            (snapshot.job.state.clone(), snapshot.handle.clone())
        };
        if state.is_finished() {
            return Err(refused(NoInput::Finished));
        }
        if let (JobState::Running { .. } | JobState::Stopping { .. }, Some(handle)) = (&state, &handle) {
            let room_by = *room_by.get_or_insert_with(|| (Instant::now() + room).min(at_most));
            input.wait_ms = u64::try_from(room_by.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(0);
            match handle.input(input.clone()).await {
                Ok(taken) => return Ok(taken),
                // The link broke and is being tied again; the offset keeps anything from being fed twice.
                Err(NoInput::NotStarted) if Instant::now() < starts_by.max(room_by) => continue,
                Err(why) => return Err(refused(why)),
            }
        }
        tokio::select! {
            changed = told.changed() => if changed.is_err() {
                return Err(refused(NoInput::Finished));
            },
            () = tokio::time::sleep_until(starts_by) => return Err(refused(NoInput::NotStarted)),
            () = leaving(&mut shutting_down) => return Err(Error::ShuttingDown),
        }
    }
}
