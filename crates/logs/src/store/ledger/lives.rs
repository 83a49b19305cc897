//! Pushes with origins through crashes of disk and bucket: every acknowledged line is there once, however often it was sent.
//!
//! Every sending has other timestamps, so that it is the origins alone that tell what is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use blob::sim::SimStore;
use block::{DiskIngestLog, Store, StoreOptions, StoreTasks};
use disk::LogOptions;
use disk::sim::{Dice, SimFiles};
use logql::{Categories, Direction, Expr, LogParams};
use model::{TenantId, Timestamp};
use service::{CancellationToken, Metrics};
use wire::loki::{OriginWriter, PushEntry, PushRequest, PushStream, Source};

use crate::ingest::Ingest;
use crate::limits::Limits;
use crate::metrics::IngestMetrics;
use crate::overrides::Overrides;
use crate::query::run::{Querier, QueryContext};
use crate::store::signal::LogsSignal;

const SOURCES: usize = 4;

/// A file that is read, and what its reader knows.
#[derive(Default)]
struct Sender {
    /// Entries that were sent.
    sent: u64,
    acknowledged: BTreeSet<u64>,
    /// Nothing before this entry is read again. Even.
    saved: u64,
}

/// The file takes turns between two streams: entries 2m and 2m+1 lie in each other's gaps.
fn ranges(entry: u64) -> [std::ops::Range<u64>; 2] {
    let start = entry / 2 * 40 + entry % 2 * 10;
    [start..start + 10, start + 20..start + 30]
}

/// Whose, what, and the entries in it by file.
type Sending = (usize, PushRequest, Vec<(usize, u64)>);

struct World {
    dice: Dice,
    /// Two of each tenant.
    senders: [Sender; SOURCES],
    /// Requests, and the entries in them, that a slow network may deliver once more.
    old: Vec<Sending>,
    time: i64,
}

fn tenant(n: usize) -> TenantId {
    TenantId::parse(["a", "b"][n]).unwrap()
}

impl World {
    /// Some entries of the files of one tenant: new ones, or any that are not saved.
    fn request(&mut self) -> Sending {
        let owner = self.dice.below(2) as usize;
        let (mut sources, mut streams, mut entries) = (Vec::new(), Vec::new(), Vec::new());
        for file in [2 * owner, 2 * owner + 1] {
            let sender = &mut self.senders[file];
            let source = sources.len() as u32;
            // Both tenants use the same ids.
            sources.push(Source { id: file as u128 % 2, low: sender.saved / 2 * 40 });
            let unsaved = sender.sent - sender.saved;
            let from = match self.dice.below(2) {
                0 => sender.sent,
                _ => sender.saved + self.dice.below(unsaved + 1),
            };
            let to = from + self.dice.below(6);
            sender.sent = sender.sent.max(to);
            for parity in 0..2 {
                let (mut writer, mut stream) = (OriginWriter::default(), PushStream::default());
                stream.labels = format!("{{app=\"{file}\", stream=\"{parity}\"}}");
                for entry in (from..to).filter(|entry| entry % 2 == parity) {
                    self.time += 1;
                    stream.entries.push(PushEntry {
                        timestamp_ns: self.time,
                        line: format!("{file}/{entry}").into(),
                        metadata: Vec::new(),
                    });
                    writer.push(source, &ranges(entry));
                    entries.push((file, entry));
                }
                stream.origins = writer.finish();
                streams.push(stream);
            }
        }
        (owner, PushRequest { streams, sources }, entries)
    }

    fn acknowledge(&mut self, entries: &[(usize, u64)]) {
        for (file, entry) in entries {
            self.senders[*file].acknowledged.insert(*entry);
        }
        if self.dice.below(4) == 0 {
            for sender in &mut self.senders {
                while (0..2).all(|n| sender.acknowledged.contains(&(sender.saved + n))) {
                    sender.saved += 2;
                }
            }
        }
    }
}

type Opened = (Arc<Store<LogsSignal>>, StoreTasks<LogsSignal>);

async fn open(files: &SimFiles, bucket: &SimStore) -> Option<Opened> {
    let options = StoreOptions {
        head_max_bytes: 6_000,
        head_max_age: Duration::from_millis(50),
        flush_retry: Duration::from_millis(1),
        ..StoreOptions::default()
    };
    let log_options = LogOptions { segment_bytes: 2_000 };
    let (log, recovered) = DiskIngestLog::open_on(Arc::new(files.clone()), "wal", log_options).ok()?;
    Store::open(LogsSignal::default(), options, bucket.blob(), log, recovered).await.ok()
}

fn ingest(store: &Arc<Store<LogsSignal>>) -> Arc<Ingest> {
    let limits = Overrides::fixed(Limits::default());
    Arc::new(Ingest::new(store.clone(), limits, IngestMetrics::register(&Metrics::default()), 1 << 20))
}

/// Sends until something crashes.
async fn live(files: &SimFiles, bucket: &SimStore, world: &mut World) {
    let Some((store, tasks)) = open(files, bucket).await else { return };
    let running = tokio::spawn(tasks.run(CancellationToken::new()));
    let ingest = ingest(&store);
    for _ in 0..40 {
        let mut requests = vec![world.request()];
        if world.dice.below(3) == 0 {
            requests.push(world.request());
        }
        if world.dice.below(3) == 0 {
            requests.push(requests[0].clone());
        }
        if world.dice.below(3) == 0 && !world.old.is_empty() {
            let at = world.dice.below(world.old.len() as u64) as usize;
            requests.push(world.old[at].clone());
        }
        match world.dice.below(60) {
            0 => files.set_space(Some(world.dice.below(1000))),
            1..10 => files.set_space(None),
            10 => files.fail_syncs(1),
            _ => {}
        }
        requests.retain(|(_, _, entries)| !entries.is_empty());
        let pushes = requests.iter().map(|(owner, request, _)| {
            let ingest = &ingest;
            async move { ingest.push(&tenant(*owner), request.clone()).await.is_ok() }
        });
        let answers = futures::future::join_all(pushes).await;
        for ((_, _, entries), _) in requests.iter().zip(&answers).filter(|(_, ok)| **ok) {
            world.acknowledge(entries);
        }
        world.old.extend(requests.drain(..).take(1));
        if world.dice.below(12) == 0 {
            let _ = store.flush().await;
        }
        if answers.iter().all(|ok| !ok) && files.crashed() {
            break;
        }
    }
    running.abort();
    let _ = running.await;
}

async fn check(store: &Arc<Store<LogsSignal>>, world: &World, seed: u64) {
    let querier = Querier::new(store.clone(), 1);
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for n in 0..2 {
        let Ok(Expr::Log(expr)) = logql::parse("{app=~\".+\"}") else { panic!() };
        let params = LogParams {
            start: 0,
            end: i64::MAX,
            limit: usize::MAX,
            direction: Direction::Forward,
            interval: 0,
        };
        let context = QueryContext { tenants: vec![tenant(n)], stats: Arc::default(), max_bytes: 0 };
        for stream in querier.log_query(&context, &expr, params, Categories::Merged).await.unwrap() {
            stream.entries.into_iter().for_each(|e| *found.entry(e.line).or_default() += 1);
        }
    }
    let twice: Vec<_> = found.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "seed {seed}: lines are there twice: {twice:?}");
    for (file, sender) in world.senders.iter().enumerate() {
        let lost: Vec<_> = sender
            .acknowledged
            .iter()
            .filter(|entry| !found.contains_key(&format!("{file}/{entry}")))
            .collect();
        assert!(lost.is_empty(), "seed {seed}: acknowledged lines of {file} are lost: {lost:?}");
    }
}

async fn lives(seed: u64) -> u64 {
    let (mut files, mut bucket) = (SimFiles::new(), SimStore::new());
    let mut world = World {
        dice: Dice::new(seed),
        senders: Default::default(),
        old: Vec::new(),
        time: Timestamp::now().nanos() - 1_000_000_000,
    };
    let mut repeated = 0;
    for _ in 0..3 {
        if world.dice.below(4) != 0 {
            files.crash_after(world.dice.below(60_000));
        }
        if world.dice.below(2) == 0 {
            bucket.crash_after(world.dice.below(100), world.dice.below(u64::MAX));
        }
        live(&files, &bucket, &mut world).await;
        (files, bucket) = (files.restart(world.dice.below(u64::MAX)), bucket.restart());

        let (store, tasks) = open(&files, &bucket).await.unwrap();
        check(&store, &world, seed).await;
        let cancel = CancellationToken::new();
        let running = tokio::spawn(tasks.run(cancel.clone()));
        let ingest = ingest(&store);
        // All that is not saved is read and sent again, and then all old requests come in late.
        for _ in 0..10 {
            let (owner, request, entries) = world.request();
            if !entries.is_empty() {
                ingest.push(&tenant(owner), request).await.unwrap();
                world.acknowledge(&entries);
            }
        }
        for (owner, request, entries) in std::mem::take(&mut world.old) {
            ingest.push(&tenant(owner), request).await.unwrap();
            world.acknowledge(&entries);
        }
        check(&store, &world, seed).await;
        store.flush().await.unwrap();
        check(&store, &world, seed).await;
        repeated += store.signal().ledger_counts().repeated;
        cancel.cancel();
        running.await.unwrap();
    }
    repeated
}

/// The number of seeds can be raised from outside for a long run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_line_is_there_once() {
    let seeds = std::env::var("CRASH_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(12);
    let mut repeated = 0;
    for seed in 0..seeds {
        repeated += lives(seed).await;
    }
    assert!(repeated > 10 * seeds, "hardly anything came twice: {repeated}");
}
