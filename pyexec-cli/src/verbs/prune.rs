//! `pyexec prune`: forgets finished jobs, and removes their files.

use pyexec_proto::request::{PruneRequest, Pruned};
use pyexec_view::NotRemovedView;
use serde::Serialize;

use crate::args::Prune;
use crate::connection::connect;
use crate::exit_code::{Code, Failure, SUCCESS};
use crate::not_removed::report_not_removed;
use crate::{render, terminal};

/// `pyexec prune --json`.
#[derive(Serialize)]
struct PrunedView {
    removed: u64,
    remaining: u64,
    bytes_freed: u64,
    /// How many jobs could not be removed, and are kept.
    not_removed_total: u64,
    /// The first of them.
    not_removed: Vec<NotRemovedView>,
}

pub(crate) async fn perform(prune: &Prune) -> Result<Code, Failure> {
    let client = connect().await?;
    let pruned = client.prune(request(prune)).await?;
    if prune.json {
        terminal::print_json(&PrunedView {
            removed: pruned.removed,
            remaining: pruned.remaining,
            bytes_freed: pruned.bytes_freed,
            not_removed_total: pruned.not_removed.total,
            not_removed: pruned.not_removed.first.iter().map(NotRemovedView::of).collect(),
        })?;
    } else {
        terminal::print(&sentence(&pruned, prune.dry_run))?;
    }
    report_not_removed(&pruned.not_removed, "job", "jobs")?;
    Ok(SUCCESS)
}

/// `--completed` and `--failed` each name what is to go; neither, or both, is everything that has finished.
fn request(prune: &Prune) -> PruneRequest {
    PruneRequest {
        older_than_ms: u64::try_from(prune.older_than.as_millis()).unwrap_or(u64::MAX),
        keep_completed: prune.failed && !prune.completed,
        keep_failed: prune.completed && !prune.failed,
        dry_run: prune.dry_run,
    }
}

fn sentence(pruned: &Pruned, dry_run: bool) -> String {
    let jobs = if pruned.removed == 1 { "job" } else { "jobs" };
    let Pruned { removed, remaining, .. } = pruned;
    let freed = render::size(pruned.bytes_freed);
    if dry_run {
        format!("would remove {removed} {jobs}, free {freed}, {remaining} would remain\n")
    } else {
        format!("removed {removed} {jobs}, freed {freed}, {remaining} remain\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn naming_one_kind_keeps_the_other() {
        for (completed, failed, keep_completed, keep_failed) in [
            (false, false, false, false),
            (true, false, false, true),
            (false, true, true, false),
            (true, true, false, false),
        ] {
            let older_than = Duration::from_secs(3_600);
            let request = request(&Prune { older_than, completed, failed, dry_run: true, json: false });
            let expected = PruneRequest { older_than_ms: 3_600_000, keep_completed, keep_failed, dry_run: true };
            assert_eq!(request, expected, "--completed {completed}, --failed {failed}");
        }
    }

    #[test]
    fn a_dry_run_does_not_claim_to_have_removed_anything() {
        let pruned = Pruned { removed: 2, remaining: 5, bytes_freed: 2_048, ..Pruned::default() };
        assert_eq!(sentence(&pruned, false), "removed 2 jobs, freed 2.0 KiB, 5 remain\n");
        assert_eq!(sentence(&pruned, true), "would remove 2 jobs, free 2.0 KiB, 5 would remain\n");
    }
}
