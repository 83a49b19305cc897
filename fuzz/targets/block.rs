//! Blocks with damage: a block of real lines whose data and index are overwritten here and there is opened and queried.
//! Whatever comes of it, an answer or an error, it comes: damage that the Parquet reader meets with a panic ends the one query.
#![no_main]

use std::ops::Range;
use std::sync::{Arc, LazyLock, Once};

use blob::Blob;
use block::{
    BlockMeta, Change, Head as _, IngestLog, IngestLogError, Manifest, Manifests, Record, Store, StoreOptions,
    WriterId, write_block,
};
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use logql::{Categories, Direction, Expr, LogParams, MetricLimits, MetricParams};
use logs::query::run::{Querier, QueryContext};
use logs::store::head::LogsHead;
use logs::store::rows::{Rows, StreamRows};
use logs::store::signal::LogsSignal;
use model::{Labels, TenantId};

/// Bytes written over those that were there.
#[derive(Debug, Arbitrary)]
struct Damage {
    /// Of the index, or of the data.
    is_index: bool,
    /// Before the end: footer and page index are there.
    place: u16,
    bytes: [u8; 4],
    count: u8,
}

const QUERIES: [&str; 5] = [
    r#"{app=~".+"} |= "refused""#,
    r#"{app="json"} | json | status=500"#,
    r#"{app=~".+"} | logfmt | level!="info" | meta!="x""#,
    r#"sum by (app) (count_over_time({app=~".+"} |~ "c[oa]" [1m]))"#,
    r#"{app="text"} |= "0123456789abcdef0123456789abcdef""#,
];

/// A block as the store writes it, with its bytes.
struct Original {
    meta: BlockMeta,
    data: Bytes,
    index: Bytes,
}

fn tenant() -> TenantId {
    TenantId::parse("t").expect("a good name")
}

fn paths(meta: &BlockMeta) -> [String; 2] {
    ["data.parquet", "index"].map(|name| format!("logs/t/blocks/{}/{name}", meta.id))
}

static ORIGINAL: LazyLock<Original> = LazyLock::new(|| {
    RUNTIME.block_on(async {
        let head = LogsHead::default();
        let streams = ["json", "logfmt", "text"].map(|app| {
            let mut stream = StreamRows::new(Labels::from_pairs([("app", app)]));
            for i in 0..300i64 {
                let (status, id) = (200 + i % 4 * 100, i as u128 * 0x1357_9bdf_0246_8ace_1357);
                let level = ["info", "warn", "error"][i as usize % 3];
                let line = match app {
                    "json" => format!(r#"{{"level":"{level}","status":{status},"trace":"{id:032x}","took":{i}.5}}"#),
                    "logfmt" => format!(r#"level={level} status={status} msg="connection refused" trace={id:032x}"#),
                    _ => format!("{level}: call {i} of {id:x} refused"),
                };
                stream.push(1_700_000_000_000_000_000 + i * 1_000_000_000, &line);
                stream.set_metadata("meta", ["x", "y"][i as usize % 2]);
            }
            stream
        });
        head.insert(Rows { streams: streams.into(), ..Rows::default() });
        let blob = Blob::memory();
        let sealed = head.seal().expect("it can be sealed").remove(0);
        let meta = write_block(&blob, "logs", &tenant(), sealed, 0).await.expect("memory takes it");
        let [data, index] = paths(&meta);
        let get = async |path: &str| blob.get(path).await.expect("memory answers").expect("it was written");
        Original { data: get(&data).await, index: get(&index).await, meta }
    })
});

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));

fn read_only() -> IngestLogError {
    IngestLogError::Identity { path: String::new(), reason: "nothing is written here".to_owned() }
}

/// A log that is empty and stays so.
struct NoLog(WriterId);

impl IngestLog for NoLog {
    fn writer(&self) -> &WriterId {
        &self.0
    }

    fn append(&mut self, _: &[Record]) -> Result<disk::Durable<Range<u64>>, IngestLogError> {
        Err(read_only())
    }

    fn can_trim(&self, _: u64) -> bool {
        false
    }

    fn trim(&mut self, _: u64) -> Result<(), IngestLogError> {
        Ok(())
    }

    fn checkpoint(&mut self, _: &[u8]) -> Result<disk::Durable<()>, IngestLogError> {
        Err(read_only())
    }

    fn take_checkpoint(&mut self) -> Option<Bytes> {
        None
    }

    fn next(&self) -> u64 {
        0
    }

    fn skip_to(&mut self, _: u64) {}
}

/// Panics of the Parquet reader and of Arrow end the thread that reads, and come back as an error of the block; all others are ours.
fn forgive_parquet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let abort = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let file = info.location().map(|at| at.file()).unwrap_or_default();
            let trace = || std::backtrace::Backtrace::force_capture().to_string();
            if !["/parquet-", "/arrow-"].iter().any(|name| file.contains(name)) && !trace().contains("parquet::") {
                abort(info);
            }
        }));
    });
}

fuzz_target!(|damages: Vec<Damage>| {
    forgive_parquet();
    let original = &*ORIGINAL;
    let (mut data, mut index) = (BytesMut::from(&original.data[..]), BytesMut::from(&original.index[..]));
    for damage in damages.iter().take(16) {
        let object = if damage.is_index { &mut index } else { &mut data };
        let Some(at) = object.len().checked_sub(usize::from(damage.place) + 1) else { continue };
        let count = usize::from(damage.count % 5).min(object.len() - at);
        object[at..at + count].copy_from_slice(&damage.bytes[..count]);
    }
    RUNTIME.block_on(async {
        let blob = Blob::memory();
        let [data_path, index_path] = paths(&original.meta);
        blob.put(&data_path, data.freeze()).await.expect("memory takes it");
        blob.put(&index_path, index.freeze()).await.expect("memory takes it");
        let change = Change { added: vec![original.meta.clone()], ..Change::default() };
        let manifests = Manifests::new(blob.clone(), "logs", &tenant());
        manifests.commit(&Manifest::default().into(), &change).await.expect("nobody else writes");
        let log = NoLog(WriterId::random());
        let opened = Store::open(LogsSignal::default(), StoreOptions::default(), blob, log, Vec::new()).await;
        let (store, _tasks) = opened.expect("the manifest is good");
        let querier = Querier::new(store, 1);
        let context = || QueryContext { tenants: vec![tenant()], stats: Arc::default(), max_bytes: 0 };
        for text in QUERIES {
            let (start, end) = (1_699_999_000_000_000_000, 1_700_001_000_000_000_000);
            match logql::parse(text).expect("a good query") {
                Expr::Log(expr) => {
                    let direction = Direction::Backward;
                    let params = LogParams { start, end, limit: 50, direction, interval: 0 };
                    let _ = querier.log_query(&context(), &expr, params, Categories::Merged).await;
                }
                Expr::Metric(expr) => {
                    let params = MetricParams { start, end, step: 60_000_000_000, instant: false };
                    let _ = querier.metric_query(&context(), &expr, params, MetricLimits::default()).await;
                }
            }
        }
    });
});
