//! The cache, and two daemons that share one.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn cache() -> (tempfile::TempDir, Arc<Cache>) {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = Arc::new(Cache::new(directory.path().to_owned(), PathBuf::from("/state"), ClientFiles::in_threads()));
    (directory, cache)
}

/// Something that looks like what uv makes.
fn populate(at: &Path) {
    let packages = at.join("lib/python3.12/site-packages");
    for directory in [at.join("bin"), packages.join("six-1.17.0.dist-info"), packages.join("six")] {
        std::fs::create_dir_all(directory).expect("can be made");
    }
    std::fs::write(packages.join("six-1.17.0.dist-info/METADATA"), "Name: six\n").expect("can be written");
    std::fs::write(at.join("bin/python"), "#!/bin/sh\n").expect("can be written");
    std::fs::set_permissions(at.join("bin/python"), PermissionsExt::from_mode(0o755)).expect("can be set");
}

async fn obtain(cache: &Arc<Cache>, id: &str) -> Outcome {
    cache
        .obtain(id, "f", |at| async move {
            populate(&at.directory);
            Ok("3.12.1".to_owned())
        })
        .await
}

#[tokio::test]
async fn ten_who_want_the_same_at_once_get_it_from_one_build() {
    let (_directory, cache) = cache();
    let builds = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let all = futures::future::join_all((0..10).map(|_| {
        let (cache, builds) = (cache.clone(), builds.clone());
        async move {
            cache
                .obtain("a", "f", move |at| async move {
                    builds.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    populate(&at.directory);
                    Ok("3.12.1".to_owned())
                })
                .await
        }
    }));
    for ready in all.await {
        assert_eq!(ready.expect("is built").marker.packages, ["six==1.17.0"]);
    }
    assert_eq!(builds.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_build_that_fails_leaves_nothing_and_can_be_tried_again() {
    let (directory, cache) = cache();
    let failed = cache
        .obtain("a", "f", |at| async move {
            populate(&at.directory);
            Err(EnvironmentError::NoPython)
        })
        .await;
    assert!(failed.is_err());
    assert!(cache.ready("a").await.is_none());
    assert!(obtain(&cache, "a").await.is_ok());
    drop(directory);
}

#[tokio::test]
async fn a_build_nobody_waits_for_ends() {
    let (_directory, cache) = cache();
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let waiting = cache.obtain("a", "f", |_| async move {
        let _ended = ended;
        std::future::pending::<Result<String, EnvironmentError>>().await
    });
    assert!(tokio::time::timeout(std::time::Duration::from_millis(1), waiting).await.is_err());
    // The sender goes with the build.
    end.await.expect_err("is dropped");
}

#[tokio::test]
async fn damage_is_seen_and_mended() {
    let (_directory, cache) = cache();
    let ready = obtain(&cache, "a").await.expect("is built");
    let packages = ready.directory.join("lib/python3.12/site-packages");
    for damaged in [
        packages.join("six"),
        packages.join("six-1.17.0.dist-info/METADATA"),
        ready.python(),
        ready.directory.join(MARKER),
    ] {
        if damaged.is_dir() {
            std::fs::remove_dir_all(&damaged).expect("can be removed");
        } else {
            std::fs::remove_file(&damaged).expect("can be removed");
        }
        assert!(cache.ready("a").await.is_none(), "{} is missing, and not missed", damaged.display());
        obtain(&cache, "a").await.expect("is built again");
    }
}

#[tokio::test]
async fn what_is_used_is_not_evicted() {
    let (_directory, cache) = cache();
    obtain(&cache, "a").await.expect("is built");
    let lease = cache.lease("a").await;
    assert_eq!(cache.evict("a").expect("works"), None);
    drop(lease);
    assert!(cache.evict("a").expect("works").is_some());
    assert!(cache.ready("a").await.is_none());
}

/// Two daemons with one cache.
fn shared() -> (tempfile::TempDir, Arc<Cache>, Arc<Cache>) {
    let directory = tempfile::tempdir().expect("a directory");
    let cache = |state: &str| {
        Arc::new(Cache::new(directory.path().to_owned(), PathBuf::from(state), ClientFiles::in_threads()))
    };
    let (one, other) = (cache("/one"), cache("/other"));
    (directory, one, other)
}

#[tokio::test]
async fn what_another_daemon_uses_is_not_evicted_and_where_it_builds_is_not_tidied() {
    let (directory, one, other) = shared();
    obtain(&one, "a").await.expect("is built");
    let lease = one.lease("a").await;
    assert_eq!(other.evict("a").expect("works"), None);
    // A supervisor that outlives its daemon holds the lock by itself.
    let supervisor = other.locks.take("a.use", Mode::Shared).expect("is shared");
    drop(lease);
    assert_eq!(other.evict("a").expect("works"), None);
    drop(supervisor);
    assert!(other.evict("a").expect("works").is_some());
    let environments = directory.path().join("environments");
    let building = Unfinished::begin(&environments, "f", &one.locks).expect("can be had");
    std::fs::create_dir_all(&building.slot.directory).expect("can be made");
    other.tidy().expect("works");
    assert!(building.slot.directory.exists(), "removed under whoever builds there");
    let beside = Unfinished::begin(&environments, "f", &other.locks).expect("can be had");
    assert_ne!(beside.slot.directory, building.slot.directory, "both build in one place");
}

#[tokio::test]
async fn a_lease_from_a_time_without_locks_is_in_nobodys_way_and_has_its_lock_later() {
    let (directory, cache) = cache();
    let locks = Paths::cache_locks_in(directory.path());
    std::fs::write(&locks, "no directory").expect("can be written");
    let building = directory.path().join("environments/.building-of-somebody-0");
    std::fs::create_dir_all(&building).expect("can be made");
    let first = cache.lease("a").await;
    assert!(!cache.is_locked("a"));
    cache.tidy().expect("can be tidied");
    assert!(building.exists(), "whether somebody builds there cannot be known");
    let refused = obtain(&cache, "a").await.expect_err("two might build").to_string();
    assert!(refused.contains(&locks.display().to_string()), "{refused}");
    std::fs::remove_file(&locks).expect("can be removed");
    let second = cache.lease("a").await;
    assert!(cache.is_locked("a"));
    drop((first, second));
    assert!(!cache.is_leased("a"));
}

#[tokio::test]
async fn waiting_for_another_daemon_takes_no_thread_and_ends_when_nobody_wants_it() {
    let (_directory, one, other) = shared();
    let _builds = one.locks.take("a.build", Mode::Exclusive).expect("is free");
    // More than there may be threads.
    for _ in 0..600 {
        let waiting = obtain(&other, "a");
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), waiting).await.is_err());
    }
    obtain(&other, "b").await.expect("is built");
}

#[tokio::test]
async fn two_daemons_that_want_one_environment_build_it_once() {
    let (_directory, one, other) = shared();
    let built = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let build = || {
        let built = built.clone();
        async move |slot: Slot| {
            built.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            populate(&slot.directory);
            Ok("3.12.1".to_owned())
        }
    };
    let (first, second) = tokio::join!(one.obtain("a", "f", build()), other.obtain("a", "f", build()));
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(built.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_was_built_for_another_address_is_damage_and_goes() {
    let (directory, cache) = cache();
    obtain(&cache, "a").await.expect("is built");
    let environments = directory.path().join("environments");
    std::fs::rename(environments.join("a"), environments.join("b")).expect("can be renamed");
    assert!(cache.ready("b").await.is_none(), "the content of another is taken");
    assert_eq!(cache.list().expect("can be listed").len(), 0);
    assert!(!environments.join("b").exists());
}

#[test]
fn the_least_recently_used_go_until_the_rest_fits() {
    let all = [("new", 5, 30), ("old", 5, 10), ("kept", 5, 1), ("middle", 5, 20)]
        .map(|(id, bytes, used)| (id.to_owned(), bytes, Timestamp(used)));
    let kept = |id: &str| id == "kept";
    assert_eq!(to_evict(&all, kept, 20), Vec::<String>::new());
    assert_eq!(to_evict(&all, kept, 15), ["old"]);
    assert_eq!(to_evict(&all, kept, 10), ["old", "middle"]);
    assert_eq!(to_evict(&all, kept, 0), ["old", "middle", "new"]);
}

#[tokio::test]
async fn leavings_of_an_earlier_daemon_are_taken_away() {
    let (directory, cache) = cache();
    let environments = directory.path().join("environments");
    for name in [".building-a-1", ".removed-2"] {
        std::fs::create_dir_all(environments.join(name).join("inside")).expect("can be made");
    }
    obtain(&cache, "a").await.expect("is built");
    std::os::unix::fs::symlink("/nothing/here", environments.join(".removed-link")).expect("can be made");
    std::fs::write(environments.join(".building-file"), "").expect("can be written");
    assert!(cache.tidy().expect("can be tidied").is_empty());
    assert_eq!(names(&environments).expect("can be listed"), ["a"]);
}
