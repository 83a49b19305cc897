//! Compaction: rows stay what they are, at every crash, for every reader, against every other writer.

use std::sync::Arc;
use std::time::Duration;

use blob::Blob;
use blob::sim::SimStore;

use super::kv::*;
use super::stores::{start, until};
use crate::layout::Layout;
use crate::*;

const ALL: i64 = i64::MIN;

/// A store without a janitor's haste.
fn calm() -> StoreOptions {
    StoreOptions { head_max_age: Duration::from_secs(3600), ..StoreOptions::default() }
}

/// One that cleans up at once. Not for merging: that would have to be quicker than the janitor.
fn hasty() -> StoreOptions {
    StoreOptions {
        janitor_interval: Duration::from_millis(5),
        orphan_age: Duration::from_millis(1),
        removed_grace: Duration::from_millis(1),
        ..calm()
    }
}

async fn fill(store: &Store<Kv>, name: &str, blocks: i64) {
    for n in 0..blocks {
        append(store, &tenant(name), &[n, 100 + n]).await.unwrap();
        store.flush().await.unwrap();
    }
}

fn expected(blocks: i64) -> Vec<i64> {
    (0..blocks).chain(100..100 + blocks).collect()
}

async fn objects(blob: &Blob, name: &str) -> usize {
    blob.list(&Layout::new("kv", &tenant(name)).blocks()).await.unwrap().len()
}

/// The merge dies at each request to the bucket in turn: no row is lost or doubled, the next merge works, and
/// the janitor leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_request_changes_nothing() {
    let a = tenant("a");
    for fuel in 0.. {
        let (dir, mut bucket) = (tempfile::tempdir().unwrap(), SimStore::new());
        let running = start(dir.path(), bucket.blob(), calm()).await;
        fill(&running.store, "a", 4).await;
        let blocks = running.store.snapshot(&a).manifest.blocks.clone();
        bucket.crash_after(fuel, fuel * 7 + 1);
        let merged = running.store.compact(&a, &blocks, Arc::new(ALL)).await;
        running.stop().await;

        bucket = bucket.restart();
        let running = start(dir.path(), bucket.blob(), calm()).await;
        assert_eq!(keys(&running.store, &a).await, expected(4), "crash after {fuel} requests");
        let left = running.store.snapshot(&a).manifest.blocks.clone();
        assert!(merged.is_err() || left.len() == 1, "crash after {fuel} requests: {merged:?}");
        running.store.compact(&a, &left, Arc::new(ALL)).await.unwrap();
        assert_eq!(keys(&running.store, &a).await, expected(4));
        running.stop().await;

        let running = start(dir.path(), bucket.blob(), hasty()).await;
        until("only what is named is left", async || objects(&bucket.blob(), "a").await == 2).await;
        assert_eq!(keys(&running.store, &a).await, expected(4));
        running.stop().await;
        if merged.is_ok() {
            assert!(fuel > 8, "reading, putting and committing take requests");
            break;
        }
    }
}

/// Whoever asks while blocks are flushed and merged sees each row once, whatever snapshot he holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_snapshot_has_each_row_once() {
    let (dir, a) = (tempfile::tempdir().unwrap(), tenant("a"));
    let running = start(dir.path(), Blob::memory(), calm()).await;
    let store = Arc::clone(&running.store);
    let writing = tokio::spawn({
        let (store, a) = (Arc::clone(&store), a.clone());
        async move {
            for n in 0..200 {
                append(&store, &a, &[n]).await.unwrap();
                if n % 3 == 0 {
                    store.flush().await.unwrap();
                }
            }
        }
    });
    let merging = tokio::spawn({
        let (store, a) = (Arc::clone(&store), a.clone());
        async move {
            let tiers = Tiers { target_bytes: 1 << 20, fan_in: 2, ..Tiers::default() };
            let mut merged = 0;
            while !writing.is_finished() {
                let manifest = store.snapshot(&a).manifest;
                match pick(&manifest.blocks, &tiers, |_| false) {
                    None => tokio::task::yield_now().await,
                    Some(range) => {
                        store.compact(&a, &manifest.blocks[range], Arc::new(ALL)).await.unwrap();
                        merged += 1;
                    }
                }
            }
            writing.await.unwrap();
            merged
        }
    });
    let mut seen = 0;
    while !merging.is_finished() {
        let found = keys(&store, &a).await;
        assert_eq!(found, (0..found.len() as i64).collect::<Vec<_>>());
        assert!(found.len() >= seen);
        seen = found.len();
    }
    assert!(merging.await.unwrap() > 5);
    assert_eq!(keys(&store, &a).await, (0..200).collect::<Vec<_>>());
    assert!(store.stats().compacted_blocks > 5 && store.stats().removed_blocks > 10);
    running.stop().await;
}

/// A query that began before the merge reads on; the objects go when the grace is over, though nothing else happens.
#[tokio::test(flavor = "multi_thread")]
async fn replaced_blocks_stay_for_the_grace() {
    let (dir, a, blob) = (tempfile::tempdir().unwrap(), tenant("a"), Blob::memory());
    let running = start(dir.path(), blob.clone(), calm()).await;
    fill(&running.store, "a", 3).await;
    let before = running.store.snapshot(&a).manifest;
    running.store.compact(&a, &before.blocks, Arc::new(ALL)).await.unwrap();
    for meta in &before.blocks {
        let block = running.store.open_block(&a, meta).await.unwrap();
        assert_eq!(block.read(&["key"], &block.all_rows()).await.unwrap()[0].num_rows(), 2);
    }
    let after = running.store.snapshot(&a).manifest;
    assert_eq!((after.blocks.len(), after.blocks[0].level, after.removed.len()), (1, 1, 3));
    assert_eq!(objects(&blob, "a").await, 8);
    running.stop().await;
    let running = start(dir.path(), blob.clone(), hasty()).await;
    until("the old ones are gone", async || objects(&blob, "a").await == 2).await;
    assert_eq!(running.store.snapshot(&a).manifest.version, after.version);
    assert_eq!(keys(&running.store, &a).await, expected(3));
    running.stop().await;
}

/// Merged blocks take the place of what they are made of: rows of equal time stay in order of arrival.
#[tokio::test(flavor = "multi_thread")]
async fn merged_blocks_keep_their_place() {
    let (dir, a) = (tempfile::tempdir().unwrap(), tenant("a"));
    let running = start(dir.path(), Blob::memory(), calm()).await;
    fill(&running.store, "a", 5).await;
    let before = running.store.snapshot(&a).manifest;
    let merged = running.store.compact(&a, &before.blocks[1..3], Arc::new(ALL)).await.unwrap();
    let ids = |manifest: &Manifest| manifest.blocks.iter().map(|b| b.id).collect::<Vec<_>>();
    let old = ids(&before);
    let after = running.store.snapshot(&a).manifest;
    assert_eq!(ids(&after), [old[0], merged.added[0].id, old[3], old[4]]);
    assert_eq!((merged.rows_before, merged.rows(), merged.added[0].level), (4, 4, 1));
    // Of rows that do not stay no block is made.
    let gone = running.store.compact(&a, &after.blocks, Arc::new(102)).await.unwrap();
    assert_eq!((gone.rows(), keys(&running.store, &a).await), (3, vec![102, 103, 104]));
    let last = running.store.snapshot(&a).manifest;
    let none = running.store.compact(&a, &last.blocks, Arc::new(i64::MAX)).await.unwrap();
    assert_eq!((none.added.len(), keys(&running.store, &a).await.len()), (0, 0));
    running.stop().await;
}

/// Two processes merge the same blocks of a bucket that fails now and then: one wins, the other sees it, flushes go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_compactors_do_no_harm() {
    let a = tenant("a");
    let tiers = Tiers { target_bytes: 1 << 20, fan_in: 2, ..Tiers::default() };
    for seed in 0..4 {
        let (first, second, bucket) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), SimStore::new());
        let one = start(first.path(), bucket.blob(), calm()).await;
        let two = start(second.path(), bucket.blob(), calm()).await;
        fill(&one.store, "a", 6).await;
        bucket.set_failing(5, seed);
        let merge = async |store: &Store<Kv>| {
            let mut conflicts = 0;
            for _ in 0..30 {
                let _ = store.refresh(&a).await;
                let manifest = store.snapshot(&a).manifest;
                let Some(range) = pick(&manifest.blocks, &tiers, |_| false) else { continue };
                match store.compact(&a, &manifest.blocks[range], Arc::new(ALL)).await {
                    Ok(_) => {}
                    Err(error) if error.is_conflict() => conflicts += 1,
                    Err(CompactError::Manifest(_) | CompactError::Write(_) | CompactError::Merge(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            conflicts
        };
        let flush = async {
            for n in 200..210 {
                append(&one.store, &a, &[n]).await.unwrap();
                until("flushed", async || one.store.flush().await.is_ok()).await;
            }
        };
        futures::join!(merge(&one.store), merge(&two.store), flush);
        bucket.set_failing(0, seed);
        let all: Vec<i64> = expected(6).into_iter().chain(200..210).collect();
        for store in [&one.store, &two.store] {
            store.refresh(&a).await.unwrap();
            assert_eq!(keys(store, &a).await, all, "seed {seed}");
        }
        assert!(one.store.snapshot(&a).manifest.blocks.len() < 16);
        one.stop().await;
        two.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_leave_unread_and_notes_change_if_they_are_as_believed() {
    let (dir, a, bucket) = (tempfile::tempdir().unwrap(), tenant("a"), SimStore::new());
    let running = start(dir.path(), bucket.blob(), calm()).await;
    let store = &running.store;
    let note = |from: Option<i64>, to: Option<i64>| {
        vec![NoteChange { key: "k".into(), from: from.map(Into::into), to: to.map(Into::into) }]
    };
    // A tenant may begin with a note.
    store.annotate(&a, note(None, Some(1))).await.unwrap();
    assert_eq!(store.snapshot(&a).manifest.notes["k"], 1);
    fill(store, "a", 2).await;
    let first = store.snapshot(&a).manifest.blocks[0].id;
    let read = bucket.bytes_read();
    store.remove(&a, vec![first]).await.unwrap();
    assert_eq!((keys(store, &a).await, bucket.bytes_read() > read), (vec![1, 101], true));
    assert!(matches!(store.remove(&a, vec![first]).await, Err(ManifestError::Gone(id)) if id == first));
    assert!(store.annotate(&a, note(Some(5), Some(6))).await.unwrap_err().is_conflict());
    store.annotate(&a, note(Some(1), Some(2))).await.unwrap();
    // Done twice it is done.
    store.annotate(&a, note(Some(1), Some(2))).await.unwrap();
    running.stop().await;
    let running = start(dir.path(), bucket.blob(), calm()).await;
    assert_eq!(running.store.snapshot(&a).manifest.notes["k"], 2);
    running.store.annotate(&a, note(Some(2), None)).await.unwrap();
    assert!(running.store.snapshot(&a).manifest.notes.is_empty());
    assert_eq!(keys(&running.store, &a).await, [1, 101]);
    running.stop().await;
}
