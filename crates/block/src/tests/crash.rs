//! Crashes at any point of disk and bucket: every acknowledged row is there exactly once, however often it was sent.
//!
//! Clients send again whatever they like, cut in other ways, two at once, before and after crashes, full disks and failing fsyncs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use blob::sim::SimStore;
use disk::LogOptions;
use disk::sim::{Dice, SimFiles};
use model::TenantId;
use tokio_util::sync::CancellationToken;

use super::kv::*;
use crate::*;

fn options() -> StoreOptions {
    StoreOptions {
        head_max_bytes: 64 * 12,
        max_unflushed_bytes: 64 * 1000,
        flush_retry: Duration::from_millis(1),
        head_max_age: Duration::from_millis(20),
        ..StoreOptions::default()
    }
}

/// What the clients know.
#[derive(Default)]
struct Known {
    acknowledged: BTreeSet<(usize, i64)>,
    /// Sent without an answer, or with an error: there or not.
    uncertain: BTreeSet<(usize, i64)>,
    next: i64,
    /// All keys of each tenant, in order.
    sent: [Vec<i64>; 3],
}

impl Known {
    /// Keys that nobody sent before.
    fn new_keys(&mut self, dice: &mut Dice) -> (usize, Vec<i64>) {
        let tenant = dice.below(3) as usize;
        let keys: Vec<i64> = (0..1 + dice.below(5)).map(|k| self.next + k as i64).collect();
        self.next += keys.len() as i64;
        self.uncertain.extend(keys.iter().map(|k| (tenant, *k)));
        self.sent[tenant].extend(&keys);
        (tenant, keys)
    }

    /// Keys that were sent before, answered or not.
    fn old_keys(&self, dice: &mut Dice) -> (usize, Vec<i64>) {
        let tenant = dice.below(3) as usize;
        let sent = &self.sent[tenant];
        // Mostly recent ones.
        let reach = if dice.below(3) == 0 { sent.len() as u64 } else { 8 };
        let back = dice.below(reach) as usize;
        let start = sent.len().saturating_sub(1 + back);
        let end = sent.len().min(start + 1 + dice.below(8) as usize);
        (tenant, sent[start..end].to_vec())
    }
}

const TENANTS: [&str; 3] = ["a", "b", "c"];

/// Opens the store, checks it, appends and flushes until something crashes.
async fn live(files: &SimFiles, bucket: &SimStore, dice: &mut Dice, known: &mut Known) {
    let log_options = LogOptions { segment_bytes: 300 };
    let Ok((log, recovered)) = DiskIngestLog::open_on(Arc::new(files.clone()), "wal", log_options) else {
        return;
    };
    let opened = Store::open(Kv::once(), options(), bucket.blob(), log, recovered).await;
    let Ok((store, tasks)) = opened else { return };
    let running = tokio::spawn(tasks.run(CancellationToken::new()));
    for _ in 0..60 {
        let mut batch: Vec<_> = (0..1 + dice.below(4))
            .map(|_| match dice.below(3) {
                0 => known.old_keys(dice),
                _ => known.new_keys(dice),
            })
            .filter(|(_, keys)| !keys.is_empty())
            .collect();
        if dice.below(4) == 0 {
            batch.extend(batch.first().cloned());
        }
        match dice.below(60) {
            0 => files.set_space(Some(dice.below(200))),
            1..10 => files.set_space(None),
            10 if dice.below(4) == 0 => files.fail_syncs(1),
            _ => {}
        }
        let appends = batch.iter().map(|(t, keys)| {
            let store = &store;
            async move { append(store, &tenant(TENANTS[*t]), keys).await.is_ok() }
        });
        let answers = futures::future::join_all(appends).await;
        for ((tenant, keys), _) in batch.iter().zip(&answers).filter(|(_, ok)| **ok) {
            for key in keys {
                known.uncertain.remove(&(*tenant, *key));
                known.acknowledged.insert((*tenant, *key));
            }
        }
        if dice.below(10) == 0 {
            let _ = store.flush().await;
        }
        if dice.below(4) == 0 {
            merge_some(&store, &tenant(TENANTS[dice.below(3) as usize])).await;
        }
        if answers.iter().all(|ok| !ok) && files.crashed() {
            break;
        }
    }
    // The power goes: nothing is told to stop.
    running.abort();
    let _ = running.await;
}

/// Merges what a compactor would, or gives up as one does.
async fn merge_some(store: &Store<Kv>, tenant: &TenantId) {
    let tiers = Tiers { target_bytes: 1 << 14, fan_in: 2, ..Tiers::default() };
    let manifest = store.snapshot(tenant).manifest;
    let Some(range) = pick(&manifest.blocks, &tiers, |_| false) else { return };
    if store.compact(tenant, &manifest.blocks[range], Arc::new(i64::MIN)).await.is_err() {
        let _ = store.refresh(tenant).await;
    }
}

async fn check(store: &Store<Kv>, known: &Known, seed: u64) {
    let mut found = Vec::new();
    for (n, name) in TENANTS.iter().enumerate() {
        found.extend(keys(store, &tenant(name)).await.into_iter().map(|k| (n, k)));
    }
    let set: BTreeSet<_> = found.iter().copied().collect();
    assert_eq!(set.len(), found.len(), "seed {seed}: rows are there twice");
    let lost: Vec<_> = known.acknowledged.difference(&set).collect();
    assert!(lost.is_empty(), "seed {seed}: acknowledged rows are lost: {lost:?}");
    let invented: Vec<_> =
        set.iter().filter(|k| !known.acknowledged.contains(k) && !known.uncertain.contains(k)).collect();
    assert!(invented.is_empty(), "seed {seed}: rows that nobody sent: {invented:?}");
}

async fn lives(seed: u64) {
    let mut dice = Dice::new(seed);
    let (mut files, mut bucket, mut known) = (SimFiles::new(), SimStore::new(), Known::default());
    for _ in 0..4 {
        if dice.below(4) != 0 {
            files.crash_after(dice.below(12_000));
        }
        match dice.below(3) {
            0 => bucket.crash_after(dice.below(150), dice.below(u64::MAX)),
            1 => bucket.set_failing(dice.below(40), dice.below(u64::MAX)),
            _ => {}
        }
        live(&files, &bucket, &mut dice, &mut known).await;
        (files, bucket) = (files.restart(dice.below(u64::MAX)), bucket.restart());

        let (log, recovered) =
            DiskIngestLog::open_on(Arc::new(files.clone()), "wal", LogOptions { segment_bytes: 300 })
                .unwrap();
        let (store, tasks) = Store::open(Kv::once(), options(), bucket.blob(), log, recovered).await.unwrap();
        // What is there now is there for good.
        check(&store, &known, seed).await;
        let cancel = CancellationToken::new();
        let running = tokio::spawn(tasks.run(cancel.clone()));
        if dice.below(2) == 0 {
            store.flush().await.unwrap();
            merge_some(&store, &tenant(TENANTS[dice.below(3) as usize])).await;
        }
        check(&store, &known, seed).await;
        // Clients that heard nothing send all of it again, and all of it is there then.
        for (n, name) in TENANTS.iter().enumerate() {
            for keys in known.sent[n].chunks(7) {
                append(&store, &tenant(name), keys).await.unwrap();
                known.acknowledged.extend(keys.iter().map(|k| (n, *k)));
            }
        }
        known.uncertain.clear();
        check(&store, &known, seed).await;
        cancel.cancel();
        running.await.unwrap();
    }
}

/// The number of seeds can be raised from outside for a long run.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_acknowledged_row_survives_exactly_once() {
    let seeds = std::env::var("CRASH_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(40);
    let mut at_once = tokio::task::JoinSet::new();
    for seed in 0..seeds {
        at_once.spawn(lives(seed));
        if at_once.len() >= 4 {
            at_once.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(done) = at_once.join_next().await {
        done.unwrap();
    }
}
