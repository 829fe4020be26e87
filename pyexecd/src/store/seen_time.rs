//! Keeps how much time has been seen to pass: see [`SeenTime`]. A file beside the index, so that it outlives that.

use std::path::Path;
use std::time::Duration;

use pyexec_proto::Timestamp;
use serde::{Deserialize, Serialize};

use crate::retention::{Moment, SeenTime};
use pyexec_run_directory::boot;
use pyexec_run_directory::record;

const NAME: &str = "clock.json";
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct SeenTimeFile {
    version: u32,
    #[serde(flatten)]
    seen: SeenTime,
}

/// Notes that it is `now`, as the wall clock has it, and tells what has passed unseen. `newest` is the end of the newest
/// job there is, and says when somebody was here where the file does not.
pub fn observe(state: &Path, now: Timestamp, newest: Option<Timestamp>, longest_absence: Duration) -> SeenTime {
    let moment = Moment { at: now, boot_id: boot::id(), since_boot: boot::elapsed() };
    let mut seen = match record::read::<SeenTimeFile>(&state.join(NAME)) {
        Ok(Some(file)) => file.seen,
        Ok(None) => SeenTime::default(),
        Err(error) => {
            tracing::warn!(%error, "how much time has passed is told from the newest job");
            SeenTime::default()
        }
    };
    if let Some(unseen) = seen.observe(&moment, newest, longest_absence) {
        tracing::warn!(
            from = %unseen.from, to = %unseen.to,
            "the clock is further on than anybody saw time pass; ages of jobs are counted without it"
        );
    }
    let file = SeenTimeFile { version: FORMAT, seen };
    if let Err(error) = record::write_atomically(state, NAME, &file) {
        tracing::warn!(%error, "how much time has passed cannot be written down");
    }
    file.seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_passed_unseen_is_remembered_and_a_damaged_file_is_done_without() {
        const DAY: i64 = 86_400_000_000;
        let state = tempfile::tempdir().expect("a directory");
        let absence = Duration::from_secs(7 * 86_400);
        let (ended, now) = (Timestamp(100 * DAY), Timestamp(500 * DAY));
        // Nobody has been here before, and the newest job is 400 days old.
        let first = observe(state.path(), now, Some(ended), absence);
        assert_eq!(first.age(ended, now), Duration::ZERO);
        // The job has been forgotten since, and another daemon looks.
        let second = observe(state.path(), now, None, absence);
        assert_eq!(second.age(ended, now), Duration::ZERO);
        std::fs::write(state.path().join(NAME), "{").expect("can be written");
        assert_eq!(observe(state.path(), now, None, absence).age(ended, now), Duration::from_secs(400 * 86_400));
    }
}
