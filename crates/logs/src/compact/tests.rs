//! The compactor on a store in this process, its blocks read back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use blob::Blob;
use blob::sim::SimStore;
use block::{DiskIngestLog, StoreOptions};
use disk::LogOptions;
use model::Labels;
use proptest::prelude::*;
use tokio::task::JoinHandle;

use super::merge::read_rows;
use super::*;
use crate::deletes::Status;
use crate::limits::{DeletionMode, Limits, RetentionStream};
use crate::overrides::Overrides;
use crate::store::entries::Entries;
use crate::store::entries::tests::{OwnedRow, plain};
use crate::store::merge::merge_overlaps;
use crate::store::record;
use crate::store::rows::{Rows, StreamRows};

const SECOND: i64 = 1_000_000_000;

/// App, time, line, and a value of metadata.
type Row = (String, i64, String, String);

fn row(app: &str, time: i64, line: &str) -> Row {
    (app.to_owned(), time, line.to_owned(), String::new())
}

struct Running {
    store: Arc<Store<LogsSignal>>,
    deletes: Arc<Deletes>,
    compactor: Compactor,
    cancel: CancellationToken,
    tasks: JoinHandle<()>,
}

fn tenant() -> TenantId {
    TenantId::parse("t").unwrap()
}

fn seconds(n: u64) -> service::config::Duration {
    service::config::Duration::from_secs(n)
}

/// Retention on, requests due at once.
fn config() -> CompactorConfig {
    CompactorConfig {
        retention_enabled: true,
        delete_request_cancel_period: seconds(0),
        ..CompactorConfig::default()
    }
}

async fn start(dir: &Path, blob: Blob, limits: Limits, config: CompactorConfig) -> Running {
    let (log, recovered) = DiskIngestLog::open(dir.join("wal"), LogOptions::default()).unwrap();
    let (store, tasks) =
        Store::open(LogsSignal::default(), StoreOptions::default(), blob, log, recovered).await.unwrap();
    let (limits, metrics) = (Overrides::fixed(limits), CompactorMetrics::default());
    let deletes = Arc::new(Deletes::new(store.clone(), limits.clone(), &config, metrics.clone()));
    let retentions = Retentions::new(limits, config.retention_enabled);
    let compactor = Compactor::new(store.clone(), retentions, deletes.clone(), config, metrics);
    let cancel = CancellationToken::new();
    let tasks = tokio::spawn(tasks.run(cancel.clone()));
    Running { store, deletes, compactor, cancel, tasks }
}

impl Running {
    async fn stop(self) {
        self.cancel.cancel();
        self.tasks.await.unwrap();
    }

    async fn push(&self, rows: &[Row]) {
        let mut streams: BTreeMap<&str, StreamRows> = BTreeMap::new();
        for (app, time, line, meta) in rows {
            let labels = Labels::from_pairs([("app", app.as_str())]);
            let stream = streams.entry(app).or_insert_with(|| StreamRows::new(labels));
            stream.push(*time, line);
            if !meta.is_empty() {
                stream.set_metadata("meta", meta);
            }
        }
        let rows = Rows { streams: streams.into_values().collect(), ..Rows::default() };
        let body = record::encode(&rows);
        self.store.append(&tenant(), body, rows).await.unwrap();
    }

    async fn flush(&self, rows: &[Row]) {
        self.push(rows).await;
        self.store.flush().await.unwrap();
    }

    fn blocks(&self) -> Vec<BlockMeta> {
        self.store.snapshot(&tenant()).manifest.blocks.clone()
    }

    /// All rows in the files, as they stand there.
    async fn files(&self) -> Vec<(Labels, Vec<Entries>)> {
        let mut found = Vec::new();
        for meta in self.blocks() {
            let block = self.store.open_block(&tenant(), &meta).await.unwrap();
            for stream in &block.index().streams {
                let rows = std::iter::once(stream.rows.clone()).collect();
                found.push((stream.labels.clone(), read_rows(&block, &rows).await.unwrap()));
            }
        }
        found
    }

    /// Lines in the files, sorted.
    async fn lines(&self) -> Vec<String> {
        let files = self.files().await;
        let mut lines: Vec<_> = files.iter().flat_map(|(_, e)| e).flat_map(plain).map(|r| r.1).collect();
        lines.sort();
        lines
    }

    /// What a query sees of all streams: heads and blocks merged, less what is hidden.
    async fn seen(&self) -> BTreeMap<String, Vec<OwnedRow>> {
        let snapshot = self.store.snapshot(&tenant());
        let mask = self.deletes.mask(&tenant(), &snapshot.manifest).unwrap();
        let mut sources: BTreeMap<Labels, Vec<Vec<Entries>>> = BTreeMap::new();
        for (labels, pieces) in self.files().await {
            sources.entry(labels).or_default().push(pieces);
        }
        for stream in snapshot.heads.iter().flat_map(|h| h.select(&[], i64::MIN, i64::MAX).unwrap()) {
            let pieces = stream.chunks.iter().map(|c| vec![c.entries.clone()]);
            sources.entry(stream.labels).or_default().extend(pieces);
        }
        let mut seen = BTreeMap::new();
        for (labels, sources) in sources {
            let mut rows = Vec::new();
            for entries in merge_overlaps(sources).unwrap() {
                let left = mask.apply(entries.into_batch(labels.clone())).unwrap();
                let left =
                    Entries { timestamps: left.timestamps, lines: left.lines, metadata: left.metadata };
                rows.extend(plain(&left));
            }
            if !rows.is_empty() {
                seen.insert(labels.to_string(), rows);
            }
        }
        seen
    }

    async fn seen_lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.seen().await.into_values().flatten().map(|r| r.1).collect();
        lines.sort();
        lines
    }

    async fn statuses(&self) -> Vec<Status> {
        self.deletes.list(&tenant()).await.unwrap().iter().map(|r| r.status).collect()
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let line = prop_oneof![
        "[ab]{0,2}",
        (0..5u8, 0..3u8)
            .prop_map(|(n, m)| format!(r#"{{"k":{n},"user":"u{m}","text":"{}"}}"#, "x".repeat(200))),
        (0..5u8).prop_map(|n| format!("level=info n={n} msg=\"some words\"")),
    ];
    let row = ("[abc]", 0i64..40, line, "[xy]?");
    prop::collection::vec(row.prop_map(|(app, time, line, meta)| (app, time * SECOND, line, meta)), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever blocks there are and whichever neighbours are merged, in whatever order: the same rows in the same order.
    #[test]
    fn merging_changes_no_answer(
        blocks in prop::collection::vec(rows(), 2..6),
        head in rows(),
        picks in prop::collection::vec((0usize..6, 2usize..4), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let running = start(dir.path(), Blob::memory(), Limits::default(), config()).await;
            for rows in &blocks {
                running.flush(rows).await;
            }
            running.push(&head).await;
            let before = running.seen().await;
            for (at, count) in picks {
                let metas = running.blocks();
                let from = at % metas.len();
                let to = (from + count).min(metas.len());
                running.store.compact(&tenant(), &metas[from..to], Arc::default()).await.unwrap();
                assert_eq!(running.seen().await, before);
            }
            // All in one: no row is there twice any more.
            running.store.flush().await.unwrap();
            running.store.compact(&tenant(), &running.blocks(), Arc::default()).await.unwrap();
            let unique: BTreeSet<_> = blocks.iter().flatten().chain(&head).collect();
            assert_eq!(running.seen().await, before);
            assert_eq!(running.lines().await.len(), unique.len());
            let meta = &running.blocks()[0];
            assert_eq!((running.blocks().len(), meta.summary.rows), (1, unique.len() as u64));
            assert_eq!(meta.summary.bytes, unique.iter().map(|r| r.2.len() as u64).sum::<u64>());
            running.stop().await;
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_merge_small_blocks_and_rest() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = start(dir.path(), Blob::memory(), Limits::default(), config()).await;
    for n in 0..9 {
        running.flush(&[row("a", n, &format!("line {n}")), row("b", n, "b")]).await;
    }
    let before = running.seen().await;
    running.compactor.round().await;
    let merged = running.blocks();
    assert_eq!((merged.len(), merged[0].level, merged[0].summary.rows), (1, 1, 18));
    assert_eq!(running.seen().await, before);
    running.compactor.round().await;
    assert_eq!(running.blocks(), merged);
    running.stop().await;
}

/// A merge that a failing bucket interrupts again and again: in the end it is done, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn rounds_get_through_a_failing_bucket() {
    let (dir, bucket) = (tempfile::tempdir().unwrap(), SimStore::new());
    let mut running = start(dir.path(), bucket.blob(), Limits::default(), config()).await;
    for n in 0..5 {
        running.flush(&[row("a", n, &format!("line {n}"))]).await;
    }
    let before = running.seen().await;
    for seed in 0.. {
        bucket.set_failing(30, seed);
        running.compactor.round().await;
        bucket.set_failing(0, seed);
        assert_eq!(running.seen().await, before);
        if running.blocks().len() == 1 {
            break;
        }
        assert!(seed < 200, "it never gets through");
    }
    running.stop().await;
}

fn retention(period: u64, rules: &[(&str, u64)]) -> Limits {
    let rule = |(selector, period): &(&str, u64)| RetentionStream {
        selector: (*selector).to_owned(),
        priority: 1,
        period: seconds(*period),
    };
    Limits {
        retention_period: seconds(period),
        retention_stream: rules.iter().map(rule).collect(),
        ..Limits::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_expire_by_tenant_and_selector() {
    let dir = tempfile::tempdir().unwrap();
    let now = Timestamp::now().nanos();
    let ago = |seconds: i64| now - seconds * SECOND;
    let limits = retention(1000, &[(r#"{app="debug"}"#, 100), (r#"{app="audit"}"#, 0)]);
    let mut running = start(dir.path(), Blob::memory(), limits, config()).await;
    // Expired whole, by the manifest alone, but for what is kept for ever.
    running.flush(&[row("a", ago(2000), "old a"), row("debug", ago(1500), "old debug")]).await;
    running.flush(&[row("audit", ago(9000), "old audit"), row("a", ago(3000), "older a")]).await;
    running
        .flush(&[
            row("a", ago(500), "a"),
            row("debug", ago(500), "debug"),
            row("debug", ago(10), "new debug"),
        ])
        .await;
    // A little expired in much that is not.
    let mut many: Vec<Row> = (0..20).map(|n| row("a", ago(400 - n), &format!("many {n}"))).collect();
    many.push(row("debug", ago(300), "a little"));
    running.flush(&many).await;
    running.compactor.round().await;
    let lines = running.lines().await;
    let without: Vec<_> = lines.iter().filter(|l| !l.starts_with("many")).map(String::as_str).collect();
    // The merge that follows takes the little along.
    assert_eq!(without, ["a", "a little", "new debug", "old audit"]);
    let keep = |period| Keep {
        retention: Arc::new(Retention::new(&retention(period, &[])).unwrap()),
        now,
        ..Keep::default()
    };
    running.store.compact(&tenant(), &running.blocks(), Arc::new(keep(20))).await.unwrap();
    assert_eq!(running.lines().await, ["new debug"]);
    running.store.compact(&tenant(), &running.blocks(), Arc::new(keep(5))).await.unwrap();
    assert!(running.blocks().is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_blocks_go_unread() {
    let (dir, bucket) = (tempfile::tempdir().unwrap(), SimStore::new());
    let mut running = start(dir.path(), bucket.blob(), retention(100, &[]), config()).await;
    let now = Timestamp::now().nanos();
    running.flush(&[row("a", now - 500 * SECOND, "old")]).await;
    running.flush(&[row("a", now, "new")]).await;
    let read = bucket.bytes_read();
    running.compactor.round().await;
    assert_eq!((bucket.bytes_read(), running.lines().await), (read, vec!["new".to_owned()]));
    running.stop().await;
    // Without `retention_enabled` nothing goes.
    let off = CompactorConfig { retention_enabled: false, ..config() };
    let dir = tempfile::tempdir().unwrap();
    let mut running = start(dir.path(), Blob::memory(), retention(100, &[]), off).await;
    running.flush(&[row("a", now - 500 * SECOND, "old")]).await;
    running.compactor.round().await;
    assert_eq!(running.lines().await, ["old"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_lines_are_hidden_at_once_and_gone_from_the_files_after() {
    let (dir, blob) = (tempfile::tempdir().unwrap(), Blob::memory());
    let running = start(dir.path(), blob.clone(), Limits::default(), config()).await;
    running
        .flush(&[row("a", SECOND, "secret 1"), row("a", 2 * SECOND, "fine 1"), row("b", SECOND, "secret b")])
        .await;
    running.flush(&[row("a", 3 * SECOND, "fine 2")]).await;
    running.push(&[row("a", 4 * SECOND, "secret 2"), row("a", 9 * SECOND, "secret late")]).await;
    let untouched = running.blocks()[1].id;
    let at = |n: i64| Timestamp(n * SECOND);
    let id = running.deletes.create(&tenant(), r#"{app="a"} |= "secret""#, at(0), at(5)).await.unwrap();
    let left = ["fine 1", "fine 2", "secret b", "secret late"];
    assert_eq!(running.seen_lines().await, left);
    assert_eq!(running.statuses().await, [Status::Received]);
    assert!(running.lines().await.contains(&"secret 1".to_owned()));
    running.stop().await;

    // The request is there after a restart.
    let mut running = start(dir.path(), blob.clone(), Limits::default(), config()).await;
    assert_eq!(running.seen_lines().await, left);
    running.compactor.round().await;
    assert!(matches!(running.statuses().await[..], [Status::Processed { .. }]));
    assert_eq!(running.lines().await, left);
    assert_eq!(running.seen_lines().await, left);
    assert!(running.blocks().iter().any(|b| b.id == untouched), "blocks without such lines stay as they are");
    let refused = running.deletes.cancel(&tenant(), &id, true).await.unwrap_err();
    assert_eq!(refused.status(), 400);
    // What comes later is new.
    running.push(&[row("a", 4 * SECOND, "secret 3")]).await;
    assert!(running.seen_lines().await.contains(&"secret 3".to_owned()));
    running.stop().await;

    let mut running = start(dir.path(), blob, Limits::default(), config()).await;
    running.compactor.round().await;
    assert_eq!(running.seen_lines().await.iter().filter(|l| l.starts_with("secret")).count(), 3);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_can_be_cancelled_while_nothing_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let patient = CompactorConfig { delete_request_cancel_period: seconds(3600), ..config() };
    let mut running = start(dir.path(), Blob::memory(), Limits::default(), patient).await;
    for n in 0..4 {
        running.flush(&[row("a", n * SECOND, &format!("line {n}"))]).await;
    }
    let all = running.seen().await;
    let id =
        running.deletes.create(&tenant(), r#"{app="a"}"#, Timestamp(0), Timestamp(SECOND)).await.unwrap();
    assert_eq!(running.seen_lines().await, ["line 2", "line 3"]);
    // Merging must not carry out what can be taken back.
    running.compactor.round().await;
    assert_eq!((running.blocks().len(), running.lines().await.len()), (1, 4));
    assert_eq!(running.statuses().await, [Status::Received]);
    assert_eq!(running.deletes.cancel(&tenant(), "none", false).await.unwrap_err().status(), 404);
    running.deletes.cancel(&tenant(), &id, false).await.unwrap();
    assert_eq!(running.seen().await, all);
    assert_eq!(running.statuses().await, []);
    assert!(running.deletes.create(&tenant(), "{", Timestamp(0), Timestamp(1)).await.is_err());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mode_decides() {
    let check = async |mode: DeletionMode, seen: usize, files: usize| {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { deletion_mode: mode, ..Limits::default() };
        let mut running = start(dir.path(), Blob::memory(), limits, config()).await;
        running.flush(&[row("a", 0, "x"), row("a", SECOND, "y")]).await;
        running.deletes.create(&tenant(), r#"{app="a"}"#, Timestamp(0), Timestamp(0)).await.unwrap();
        running.compactor.round().await;
        assert_eq!(
            (running.seen_lines().await.len(), running.lines().await.len()),
            (seen, files),
            "{mode:?}"
        );
        running.stop().await;
    };
    check(DeletionMode::FilterAndDelete, 1, 1).await;
    check(DeletionMode::FilterOnly, 1, 2).await;
    check(DeletionMode::Disabled, 2, 2).await;
}

/// The compactor dies at each request in turn while it deletes: hidden lines never show, others never go, and the next one ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_deleting_brings_nothing_back() {
    for fuel in 0.. {
        let (dir, mut bucket) = (tempfile::tempdir().unwrap(), SimStore::new());
        let mut running = start(dir.path(), bucket.blob(), Limits::default(), config()).await;
        running.flush(&[row("a", 0, "secret"), row("a", SECOND, "fine")]).await;
        running.push(&[row("a", 0, "secret too"), row("a", 2 * SECOND, "fine too")]).await;
        running.deletes.create(&tenant(), r#"{app="a"}"#, Timestamp(0), Timestamp(0)).await.unwrap();
        let before = bucket.requests();
        bucket.crash_after(fuel, fuel * 5 + 3);
        running.compactor.round().await;
        let survived = bucket.requests() - before <= fuel;
        running.stop().await;
        bucket = bucket.restart();
        let mut running = start(dir.path(), bucket.blob(), Limits::default(), config()).await;
        assert_eq!(running.seen_lines().await, ["fine", "fine too"], "crash after {fuel} requests");
        running.compactor.round().await;
        assert_eq!(running.lines().await, ["fine", "fine too"], "crash after {fuel} requests");
        assert!(running.statuses().await[0].is_processed());
        running.stop().await;
        if survived {
            assert!(fuel > 20, "flushing, reading and rewriting take requests");
            break;
        }
    }
}
