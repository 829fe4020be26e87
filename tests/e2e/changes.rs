//! Which jobs have changed is told as it happens, and nobody has to ask again and again.

use pyexec_proto::request::{Changes, MAX_WAIT_MS, PruneRequest, Revision, StopRequest};
use pyexec_proto::{JobId, Status};

use crate::sandbox::Sandbox;

/// Goes on from `since` until `wanted` is told.
async fn until(client: &pyexec_client::Client, since: &mut Revision, wanted: impl Fn(&Changes) -> bool) -> Changes {
    loop {
        let changes = client.changes(Some(*since), MAX_WAIT_MS).await.expect("is answered");
        assert!(changes.is_news() && !changes.is_incomplete, "{changes:?}");
        *since = changes.revision;
        if wanted(&changes) {
            return changes;
        }
    }
}

fn is(id: JobId, status: Status) -> impl Fn(&Changes) -> bool {
    move |changes| changes.jobs.iter().any(|job| job.id == id && job.status == status)
}

#[tokio::test]
async fn each_change_of_a_job_is_told_to_those_who_wait_for_it() {
    let sandbox = Sandbox::new();
    let _daemon = sandbox.daemon();
    let client = sandbox.client().await;
    let first = client.changes(None, MAX_WAIT_MS).await.expect("answers at once");
    assert!(first.is_incomplete && first.jobs.is_empty());
    let mut since = first.revision;
    let nothing = client.changes(Some(since), 0).await.expect("is answered");
    assert!(!nothing.is_news());
    assert_eq!(nothing.revision, since);
    let submission = sandbox.submission("import time; time.sleep(600)");
    let id = submission.id;
    let (told, submitted) = tokio::join!(
        until(&client, &mut since, |changes| changes.jobs.iter().any(|job| job.id == id)),
        client.submit(submission)
    );
    assert_eq!((told.removed.len(), submitted.expect("is taken").id), (0, id));
    until(&client, &mut since, is(id, Status::Running)).await;
    client.stop(id, StopRequest { now: true, grace_ms: None }).await.expect("is there");
    until(&client, &mut since, is(id, Status::Cancelled)).await;
    let all = PruneRequest { older_than_ms: 0, keep_completed: false, keep_failed: false, dry_run: false };
    client.prune(all).await.expect("can be pruned");
    until(&client, &mut since, |changes| changes.removed == [id]).await;
}

#[tokio::test]
async fn whoever_has_waited_at_another_daemon_is_told_to_list_anew() {
    let sandbox = Sandbox::new();
    let mut daemon = sandbox.daemon();
    let client = sandbox.client().await;
    let since = client.changes(None, 0).await.expect("is answered").revision;
    daemon.kill();
    let _daemon = sandbox.daemon();
    let changes = client.changes(Some(since), MAX_WAIT_MS).await.expect("is answered");
    assert!(changes.is_incomplete, "{changes:?}");
    assert_ne!(changes.revision.daemon, since.daemon);
}
