//! The store from append to block, without crashes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blob::Blob;
use blob::sim::SimStore;
use disk::LogOptions;
use disk::sim::SimFiles;
use model::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::kv::*;
use crate::layout::Layout;
use crate::*;

pub(super) struct Running {
    pub(super) store: Arc<Store<Kv>>,
    cancel: CancellationToken,
    tasks: JoinHandle<()>,
}

impl Running {
    pub(super) async fn stop(self) {
        self.cancel.cancel();
        self.tasks.await.unwrap();
        let closed = append(&self.store, &tenant("a"), &[0]).await;
        assert!(matches!(closed, Err(AppendError::Closed)));
        assert!(matches!(self.store.flush().await, Err(FlushError::Closed)));
    }
}

pub(super) async fn start(dir: &Path, blob: Blob, options: StoreOptions) -> Running {
    let (log, recovered) = DiskIngestLog::open(dir.join("wal"), LogOptions { segment_bytes: 4096 }).unwrap();
    run(Store::open(Kv::default(), options, blob, log, recovered).await.unwrap())
}

fn run((store, tasks): (Arc<Store<Kv>>, StoreTasks<Kv>)) -> Running {
    let cancel = CancellationToken::new();
    let tasks = tokio::spawn(tasks.run(cancel.clone()));
    Running { store, cancel, tasks }
}

pub(super) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

fn segments(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir.join("wal")).unwrap();
    names.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "log")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_pass_from_head_to_block_and_survive_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let blob = Blob::local(dir.path().join("blocks")).unwrap();
    let (a, b) = (tenant("a"), tenant("b'*"));
    let running = start(dir.path(), blob.clone(), StoreOptions::default()).await;
    let store = &running.store;
    assert_eq!(store.tenants(), []);
    for n in 0..100 {
        append(store, &a, &[n, 1000 + n]).await.unwrap();
        append(store, &b, &[n]).await.unwrap();
    }
    let all: Vec<i64> = (0..100).chain(1000..1100).collect();
    assert_eq!(keys(store, &a).await, all);
    assert_eq!(store.stats().head_rows, 300);
    running.stop().await;

    let running = start(dir.path(), blob.clone(), StoreOptions::default()).await;
    let store = &running.store;
    assert_eq!(store.tenants(), [a.clone(), b.clone()]);
    assert_eq!(keys(store, &a).await, all);
    assert_eq!(store.stats().replayed_records, 200);
    assert!(segments(dir.path()) > 2);
    store.flush().await.unwrap();
    assert_eq!(keys(store, &a).await, all);
    assert_eq!(keys(store, &b).await, (0..100).collect::<Vec<_>>());
    let stats = store.stats();
    assert_eq!((stats.head_rows, stats.unflushed_bytes, stats.blocks), (0, 0, 4));
    until("the log is trimmed", async || segments(dir.path()) == 1).await;
    append(store, &a, &[5000]).await.unwrap();
    running.stop().await;

    let running = start(dir.path(), blob, StoreOptions::default()).await;
    let store = &running.store;
    assert_eq!(store.tenants(), [a.clone(), b.clone()]);
    assert_eq!((store.stats().replayed_records, store.stats().replay_covered), (1, 0));
    let snapshot = store.snapshot(&a);
    assert_eq!((snapshot.heads.len(), snapshot.manifest.blocks.len(), snapshot.manifest.version), (1, 2, 1));
    assert_eq!(snapshot.manifest.blocks[0].summary.detail, serde_json::json!({ "keys": 100 }));
    assert_eq!(keys(store, &a).await.len(), 201);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_flushed_by_size_and_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let a = tenant("a");
    let options = StoreOptions {
        head_max_bytes: 64 * 100,
        head_max_age: Duration::from_millis(50),
        ..StoreOptions::default()
    };
    let running = start(dir.path(), Blob::memory(), options).await;
    let store = &running.store;
    append(store, &a, &(0..250).collect::<Vec<_>>()).await.unwrap();
    until("flushed by size", async || store.snapshot(&a).heads.is_empty()).await;
    append(store, &a, &[1000]).await.unwrap();
    until("flushed by age", async || store.snapshot(&a).heads.is_empty()).await;
    assert_eq!(store.snapshot(&a).manifest.version, 2);
    assert_eq!(keys(store, &a).await.len(), 251);
    running.stop().await;
}

/// Queries that run while heads are frozen, flushed and swapped see every acknowledged row exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn snapshots_are_seamless() {
    let dir = tempfile::tempdir().unwrap();
    let a = tenant("a");
    let options = StoreOptions { head_max_bytes: 64 * 60, ..StoreOptions::default() };
    let running = start(dir.path(), Blob::memory(), options).await;
    let store = &running.store;
    let acknowledged = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let appender = {
        let (store, a, acknowledged) = (Arc::clone(store), a.clone(), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            for n in 0..2000 {
                append(&store, &a, &[n]).await.unwrap();
                acknowledged.store(n + 1, std::sync::atomic::Ordering::SeqCst);
            }
        })
    };
    let mut queries = 0;
    while !appender.is_finished() {
        let least = acknowledged.load(std::sync::atomic::Ordering::SeqCst);
        let seen = keys(store, &a).await;
        assert_eq!(seen, (0..seen.len() as i64).collect::<Vec<_>>());
        assert!(seen.len() as i64 >= least);
        queries += 1;
    }
    appender.await.unwrap();
    assert!(queries > 10 && store.snapshot(&a).manifest.version > 10);
    assert_eq!(keys(store, &a).await.len(), 2000);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_away_presses_back_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (a, bucket) = (tenant("a"), SimStore::new());
    let options = StoreOptions {
        head_max_bytes: 64 * 20,
        max_unflushed_bytes: 64 * 100,
        flush_retry: Duration::from_millis(5),
        ..StoreOptions::default()
    };
    let running = start(dir.path(), bucket.blob(), options).await;
    let store = &running.store;
    bucket.set_failing(100, 1);
    let mut taken = Vec::new();
    let refused = loop {
        let key = taken.len() as i64;
        match append(store, &a, &[key]).await {
            Ok(()) => taken.push(key),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::Full { .. }), "{refused}");
    assert!(
        taken.len() > 80 && store.stats().unflushed_bytes <= 64 * 100 && store.stats().refused_records == 1
    );
    assert!(matches!(store.flush().await, Err(FlushError::Failed { .. })));
    assert_eq!(keys(store, &a).await, taken);
    bucket.set_failing(0, 1);
    until("the flushes catch up", async || store.flush().await.is_ok()).await;
    assert_eq!(store.stats().unflushed_bytes, 0);
    assert!(store.stats().flush_failures > 0);
    assert_eq!(keys(store, &a).await, taken);
    append(store, &a, &[taken.len() as i64]).await.unwrap();
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_sees_new_versions_when_it_looks() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, blob) = (tenant("a"), Blob::memory());
    let writer = start(first.path(), blob.clone(), StoreOptions::default()).await;
    let reader = start(second.path(), blob, StoreOptions::default()).await;
    reader.store.refresh(&a).await.unwrap();
    assert_eq!(reader.store.tenants(), []);
    for n in 0..2 {
        append(&writer.store, &a, &[n]).await.unwrap();
        writer.store.flush().await.unwrap();
        reader.store.refresh(&a).await.unwrap();
        assert_eq!(keys(&reader.store, &a).await, (0..=n).collect::<Vec<_>>());
    }
    // Both write: each adds its blocks to what the other made.
    append(&reader.store, &a, &[2]).await.unwrap();
    reader.store.flush().await.unwrap();
    append(&writer.store, &a, &[3]).await.unwrap();
    writer.store.flush().await.unwrap();
    assert_eq!(keys(&writer.store, &a).await, [0, 1, 2, 3]);
    writer.stop().await;
    reader.stop().await;
}

/// Many tenants with small heads fill the memory: the largest are flushed early.
#[tokio::test(flavor = "multi_thread")]
async fn small_heads_of_many_tenants_make_room() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { max_unflushed_bytes: 64 * 400, ..StoreOptions::default() };
    let running = start(dir.path(), Blob::memory(), options).await;
    let store = &running.store;
    for n in 0..1000 {
        let tenant = tenant(&format!("t{}", n % 50));
        until("there is room", async || append(store, &tenant, &[n]).await.is_ok()).await;
    }
    assert!(store.stats().flushes > 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_log_refuses_and_comes_back() {
    let (a, files) = (tenant("a"), SimFiles::new());
    let open = |files: &SimFiles| {
        DiskIngestLog::open_on(Arc::new(files.clone()), "wal", LogOptions::default()).unwrap()
    };
    let (log, recovered) = open(&files);
    let blob = Blob::memory();
    let running =
        run(Store::open(Kv::default(), StoreOptions::default(), blob.clone(), log, recovered).await.unwrap());
    append(&running.store, &a, &[1]).await.unwrap();
    files.fail_syncs(1);
    for n in 0..3 {
        let refused = append(&running.store, &a, &[100 + n]).await;
        assert!(matches!(refused, Err(AppendError::Unavailable(_))));
    }
    assert_eq!(keys(&running.store, &a).await, [1]);
    assert_eq!(running.store.stats().commit_failures, 3);
    running.stop().await;
    let (log, recovered) = open(&files.restart(1));
    let running =
        run(Store::open(Kv::default(), StoreOptions::default(), blob, log, recovered).await.unwrap());
    append(&running.store, &a, &[2]).await.unwrap();
    let seen = keys(&running.store, &a).await;
    assert!(seen.starts_with(&[1, 2]), "{seen:?}");
    running.stop().await;
}

/// A folder for the log that was lost begins at position 0 again: what the old one covered must not hide its records.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_log_does_not_hide_new_rows() {
    let (a, blob) = (tenant("a"), Blob::memory());
    for n in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        for again in 0..2 {
            let running = start(dir.path(), blob.clone(), StoreOptions::default()).await;
            append(&running.store, &a, &[10 * n + again]).await.unwrap();
            if again == 1 {
                running.store.flush().await.unwrap();
            }
            running.stop().await;
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), blob, StoreOptions::default()).await;
    assert_eq!(keys(&running.store, &a).await, [0, 1, 10, 11, 20, 21]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_janitor_takes_what_nobody_names() {
    let dir = tempfile::tempdir().unwrap();
    let (a, blob) = (tenant("a"), Blob::memory());
    let options = StoreOptions {
        janitor_interval: Duration::from_millis(10),
        orphan_age: Duration::from_millis(200),
        ..StoreOptions::default()
    };
    let rows = || sealed(vec![(1, "value of 1".into())], ColumnSettings::default());
    write_block(&blob, "kv", &a, rows(), 0).await.unwrap();
    let running = start(dir.path(), blob.clone(), options).await;
    let store = &running.store;
    for n in 0..15 {
        append(store, &a, &[n]).await.unwrap();
        store.flush().await.unwrap();
    }
    let layout = Layout::new("kv", &a);
    until("orphans and old manifests are gone", async || store.stats().deleted_objects >= 2 + 4).await;
    assert_eq!(blob.list(&layout.blocks()).await.unwrap().len(), 2 * 15);
    assert_eq!(blob.list(&layout.manifests()).await.unwrap().len(), 11 + 1);
    assert_eq!(keys(store, &a).await, (0..15).collect::<Vec<_>>());
    running.stop().await;
}

fn added(n: u64) -> BlockMeta {
    let summary = BlockSummary {
        min_time: Timestamp(0),
        max_time: Timestamp(i64::MAX),
        rows: n,
        bytes: u64::MAX,
        detail: serde_json::Value::Null,
    };
    let created = Timestamp::now();
    BlockMeta { id: BlockId::random(), size: n, footer_size: 1, index_size: 1, level: 0, created, summary }
}

/// Writers that commit at the same time to a bucket that loses answers: every change is in exactly once.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_commits_all_count_once() {
    let a = tenant("a");
    for seed in 0..20 {
        let bucket = SimStore::new();
        bucket.set_failing(15, seed);
        let writers = (0..4).map(|w| {
            let (manifests, writer) =
                (Manifests::new(bucket.blob(), "kv", &a), WriterId::new(&format!("w{w}")));
            tokio::spawn(async move {
                let mut known = Arc::<Manifest>::default();
                for n in 1..=5 {
                    let covered = Some((writer.clone(), n));
                    let change = Change { added: vec![added(n)], covered, ..Change::default() };
                    known = loop {
                        match manifests.commit(&known, &change).await {
                            Ok(manifest) => break manifest,
                            Err(ManifestError::Blob(_) | ManifestError::Contended { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    };
                }
            })
        });
        futures::future::try_join_all(writers).await.unwrap();
        bucket.set_failing(0, 0);
        let manifest = Manifests::new(bucket.blob(), "kv", &a).load().await.unwrap();
        assert_eq!((manifest.version, manifest.blocks.len()), (20, 20));
        assert!((0..4).all(|w| manifest.covered_by(&WriterId::new(&format!("w{w}"))) == 5));
    }
}

#[tokio::test]
async fn manifest_versions() {
    let (a, blob) = (tenant("a"), Blob::memory());
    let manifests = Manifests::new(blob.clone(), "kv", &a);
    let layout = Layout::new("kv", &a);
    let none = manifests.load().await.unwrap();
    assert_eq!((none.version, none.blocks.len()), (0, 0));
    let change = |n| Change { added: vec![added(n)], ..Change::default() };
    let first = manifests.commit(&none, &change(1)).await.unwrap();
    let second = manifests.commit(&first, &change(2)).await.unwrap();
    assert_eq!(manifests.refresh(&none).await.unwrap(), second);
    // Without the hint the versions are listed.
    blob.delete(&layout.hint()).await.unwrap();
    assert_eq!(manifests.load().await.unwrap(), second);
    let third = manifests.commit(&second, &change(3)).await.unwrap();
    // A removal moves a block to the removed ones; twice it cannot be removed.
    let removed = vec![first.blocks[0].id];
    let remove = Change { added: vec![added(4)], removed, ..Change::default() };
    let fourth = manifests.commit(&third, &remove).await.unwrap();
    assert_eq!((fourth.blocks.len(), fourth.removed[0].id), (3, first.blocks[0].id));
    let again = Change { removed: remove.removed.clone(), ..Change::default() };
    assert!(matches!(manifests.commit(&fourth, &again).await, Err(ManifestError::Gone(_))));
    // A writer that slept while its next version was made, passed and deleted finds the newest.
    blob.delete(&layout.manifest(2)).await.unwrap();
    let fifth = manifests.commit(&first, &change(5)).await.unwrap();
    assert_eq!((fifth.version, fifth.blocks.len()), (5, 4));
    // What cannot be read is an error, not an empty tenant.
    blob.put(&layout.manifest(6), "{".into()).await.unwrap();
    assert!(matches!(manifests.load().await, Err(ManifestError::Damaged { .. })));
}
