//! The querier against the engine fed with all rows at once: whatever lies in heads and blocks, in however many pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use blob::Blob;
use block::{DiskIngestLog, Store, StoreOptions};
use bytes::Bytes;
use disk::LogOptions;
use logql::{
    Categories, Direction, EntryBatch, Expr, LogParams, LogQuery, MetricLimits, MetricParams, MetricQuery,
    QueryResult, ResultStream,
};
use model::{Labels, TenantId};
use proptest::prelude::*;
use service::{CancellationToken, Failure};
use tokio::task::JoinHandle;

use crate::ingest::level::DETECTED_LEVEL;
use crate::query::run::{Querier, QueryContext, within};
use crate::query::stats::QueryStats;
use crate::store::entries::tests::{Row as EntryRow, entries};
use crate::store::record;
use crate::store::rows::{Rows, StreamRows};
use crate::store::signal::LogsSignal;

const SECOND: i64 = 1_000_000_000;
/// A multiple of a minute.
const START: i64 = 1_700_000_040 * SECOND;

/// App, time, line, and a value of metadata, if not empty.
type Row = (String, i64, String, String);

/// A pseudo-random sequence.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| format!("{:x}", self.below(16))).collect()
    }

    /// JSON, logfmt or text.
    fn line(&mut self, app: &str) -> String {
        let level = self.pick(&["info", "info", "warn", "error"]);
        let message = self.pick(&[
            "request completed",
            "connection refused by upstream",
            "cache miss",
            "odd \\u0041 thing",
        ]);
        let (id, n) = (self.hex(32), self.below(1000));
        match app {
            "json" => format!(
                r#"{{"level":"{level}","trace_id":"{id}","msg":"{message}","duration_ms":{n},"rate":{n}.5}}"#
            ),
            "logfmt" => format!(r#"level={level} msg="{message}" dur={n}ms trace={id}"#),
            _ => format!("{level} {message} 10.0.{}.{} took {n} {}", n % 7, n % 5, self.hex(8)),
        }
    }

    fn rows(&mut self, count: usize, from: i64, span: i64) -> Vec<Row> {
        (0..count)
            .map(|_| {
                let app = self.pick(&["json", "json", "logfmt", "text", "json"]);
                let time = from + self.below((span / 1_000_000) as usize) as i64 * 1_000_000;
                let meta =
                    if self.below(3) == 0 { self.pick(&["alpha", "beta", "some-longer-value"]) } else { "" };
                (app.to_owned(), time, self.line(app), meta.to_owned())
            })
            .collect()
    }
}

/// Several, or none, in one stream; one in another.
fn level(app: &str, line: &str) -> Option<&'static str> {
    match app {
        "text" => Some("unknown"),
        "logfmt" if line.contains("cache") => None,
        _ => ["warn", "error"].into_iter().find(|level| line.contains(level)).or(Some("info")),
    }
}

fn metadata((app, _, line, meta): &Row) -> Vec<(&str, &str)> {
    let meta = (!meta.is_empty()).then_some(("meta", meta.as_str()));
    meta.into_iter().chain(level(app, line).map(|level| (DETECTED_LEVEL, level))).collect()
}

struct Fixture {
    querier: Querier,
    store: Arc<Store<LogsSignal>>,
    cancel: CancellationToken,
    tasks: JoinHandle<()>,
    /// Everything that was pushed, once.
    model: BTreeSet<Row>,
    _dir: tempfile::TempDir,
}

fn tenant() -> TenantId {
    TenantId::parse("t").unwrap()
}

fn context() -> QueryContext {
    QueryContext { tenants: vec![tenant()], stats: Arc::default(), max_bytes: 0 }
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (log, recovered) = DiskIngestLog::open(dir.path().join("wal"), LogOptions::default()).unwrap();
        let options = StoreOptions::default();
        let (store, tasks) =
            Store::open(LogsSignal::default(), options, Blob::memory(), log, recovered).await.unwrap();
        let cancel = CancellationToken::new();
        let tasks = tokio::spawn(tasks.run(cancel.clone()));
        let querier = Querier::new(store.clone(), 2);
        Self { querier, store, cancel, tasks, model: BTreeSet::new(), _dir: dir }
    }

    async fn push(&mut self, rows: &[Row]) {
        let mut streams: BTreeMap<&str, StreamRows> = BTreeMap::new();
        for row in rows {
            let (app, time, line, _) = row;
            let labels = Labels::from_pairs([("app", app.as_str())]);
            let stream = streams.entry(app).or_insert_with(|| StreamRows::new(labels));
            stream.push(*time, line);
            for (name, value) in metadata(row) {
                stream.set_metadata(name, value);
            }
        }
        let batch = Rows { streams: streams.into_values().collect(), ..Rows::default() };
        let body: Bytes = record::encode(&batch);
        self.store.append(&tenant(), body, batch).await.unwrap();
        self.model.extend(rows.iter().cloned());
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.tasks.await.unwrap();
    }

    /// All rows, a batch per stream.
    fn batches(&self) -> Vec<EntryBatch> {
        let mut streams: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        self.model.iter().for_each(|row| streams.entry(&row.0).or_default().push(row));
        let batch = |(app, mut rows): (&str, Vec<&Row>)| {
            rows.sort_by_key(|row| row.1);
            let metadata: Vec<Vec<(&str, &str)>> = rows.iter().map(|row| metadata(row)).collect();
            let rows = rows.iter().zip(&metadata);
            let rows: Vec<EntryRow<'_>> =
                rows.map(|(row, metadata)| (row.1, row.2.as_str(), metadata.as_slice())).collect();
            entries(&rows).into_batch(Labels::from_pairs([("app", app)]))
        };
        streams.into_iter().map(batch).collect()
    }

    async fn logs(&self, querier: &Querier, text: &str, params: LogParams) -> Vec<Flat> {
        let Ok(Expr::Log(expr)) = logql::parse(text) else { panic!("{text}") };
        flat(querier.log_query(&context(), &expr, params, Categories::Merged).await.unwrap())
    }

    fn logs_of_model(&self, text: &str, params: LogParams) -> Vec<Flat> {
        let Ok(Expr::Log(expr)) = logql::parse(text) else { panic!("{text}") };
        let mut query = LogQuery::new(&expr, params).unwrap();
        let matchers = query.matchers().to_vec();
        for batch in self.batches() {
            if matchers.iter().all(|m| m.matches_labels(&batch.labels)) {
                query.push(&batch).unwrap();
            }
        }
        flat(query.finish(Categories::Merged))
    }

    async fn metric(&self, querier: &Querier, text: &str, params: MetricParams) -> Vec<(String, f64)> {
        let Ok(Expr::Metric(expr)) = logql::parse(text) else { panic!("{text}") };
        points(querier.metric_query(&context(), &expr, params, MetricLimits::default()).await.unwrap())
    }

    fn metric_of_model(&self, text: &str, params: MetricParams) -> Vec<(String, f64)> {
        let Ok(Expr::Metric(expr)) = logql::parse(text) else { panic!("{text}") };
        let mut query = MetricQuery::new(&expr, params, MetricLimits::default()).unwrap();
        for (at, leaf) in query.leaves().to_vec().into_iter().enumerate() {
            for batch in self.batches() {
                if leaf.matchers.iter().all(|m| m.matches_labels(&batch.labels)) {
                    query.push(at, &batch).unwrap();
                }
            }
        }
        points(query.finish().unwrap())
    }
}

/// Time, labels, line.
type Flat = (i64, String, String);

fn flat(streams: Vec<ResultStream>) -> Vec<Flat> {
    let entries = streams.into_iter().flat_map(|stream| {
        let labels = stream.labels.to_string();
        stream.entries.into_iter().map(move |e| (e.timestamp, labels.clone(), e.line)).collect::<Vec<_>>()
    });
    let mut entries: Vec<Flat> = entries.collect();
    entries.sort();
    entries
}

/// Series, time and value in one order.
fn points(result: QueryResult) -> Vec<(String, f64)> {
    let mut points: Vec<(String, f64)> = match result {
        QueryResult::Matrix(series) => series
            .iter()
            .flat_map(|s| s.points.iter().map(|(t, v)| (format!("{} {t}", s.labels), *v)).collect::<Vec<_>>())
            .collect(),
        QueryResult::Vector(samples) => samples.iter().map(|s| (s.labels.to_string(), s.value)).collect(),
        QueryResult::Scalar(_, value) => vec![(String::new(), value)],
    };
    points.sort_by(|a, b| a.0.cmp(&b.0));
    points
}

fn same(got: &[(String, f64)], expect: &[(String, f64)]) -> bool {
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0);
    got.len() == expect.len() && got.iter().zip(expect).all(|(a, b)| a.0 == b.0 && close(a.1, b.1))
}

/// Queries, some of them about a line that is there.
fn log_queries(random: &mut Random, model: &BTreeSet<Row>) -> Vec<String> {
    let rows: Vec<&Row> = model.iter().collect();
    let line = &rows[random.below(rows.len())].2;
    let from = random.below(line.len());
    let part: String = line[from..].chars().take(8 + random.below(40)).collect();
    let id = line
        .split(['"', '=', ' '])
        .find(|word| word.len() == 32)
        .unwrap_or("0123456789abcdef0123456789abcdef");
    vec![
        r#"{app=~".+"}"#.to_owned(),
        format!("{{app=~\".+\"}} |= `{part}`"),
        format!("{{app=\"json\"}} |= `{id}`"),
        format!("{{app=\"json\"}} | json | trace_id=`{id}`"),
        format!("{{app=\"logfmt\"}} | logfmt | trace=`{id}`"),
        format!("{{app=~\".+\"}} |= `{}`", random.hex(32)),
        r#"{app=~".+"} | meta="some-longer-value""#.to_owned(),
        r#"{app=~".+"} | meta="not-there-at-all""#.to_owned(),
        r#"{app=~".+"} | json | level="error" | duration_ms > 900"#.to_owned(),
        r#"{app="json"} | json | msg="odd A thing""#.to_owned(),
        r#"{app=~".+"} |~ "refused by (up|down)stream" != "warn" | meta="alpha""#.to_owned(),
        r#"{app="none"}"#.to_owned(),
    ]
}

const METRIC_QUERIES: &[&str] = &[
    r#"sum by (app) (count_over_time({app=~".+"}[1m]))"#,
    r#"sum by (app) (bytes_over_time({app=~".+"}[1m]))"#,
    r#"sum by (app) (rate({app="json"}[5m]))"#,
    r#"sum(count_over_time({app=~".+"}[17s]))"#,
    r#"sum by (meta) (count_over_time({app=~".+"}[1m]))"#,
    r#"count_over_time({app="text"}[2m])"#,
    r#"sum by (app, detected_level) (count_over_time({app=~".+"} | drop __error__ [1m]))"#,
    r#"sum by (detected_level) (bytes_over_time({app=~".+"}[2m]))"#,
    r#"sum without (meta) (rate({app="logfmt"}[1m]))"#,
    r#"sum by (app) (count_over_time({app=~".+"} |= "connection refused" [1m]))"#,
    r#"sum by (level) (count_over_time({app="json"} | json | duration_ms > 500 [1m]))"#,
    r#"sum by (app) (sum_over_time({app="json"} | json | unwrap duration_ms [1m]))"#,
    r#"sum by (level) (bytes_over_time({app="logfmt"} | logfmt | level!="info" [1m]))"#,
    r#"sum by (app) (count_over_time({app=~".+"} |= "connection refused" [3h]))"#,
    r#"sum by (app, meta) (count_over_time({app=~".+"} | meta=~"a.*|b.*" [3h]))"#,
    r#"sum by (level) (avg_over_time({app="json"} | json | duration_ms > 500 | unwrap duration_ms [3h]) by (level))"#,
    r#"sum(last_over_time({app="json"} | json | unwrap duration_ms [3h]) by (level))"#,
    r#"sum by (t) (count_over_time({app="text"} | label_format t=`{{ __timestamp__ | unixEpoch | trunc 8 }}` [3h]))"#,
];

async fn check(fixture: &Fixture, random: &mut Random, about: &str) {
    let (first, last) =
        fixture.model.iter().fold((i64::MAX, i64::MIN), |(a, b), row| (a.min(row.1), b.max(row.1)));
    let small = fixture.querier.clone().with_task_weight(300);
    let tiny_memory = fixture.querier.clone().with_memory(1);
    for text in log_queries(random, &fixture.model) {
        let direction = [Direction::Forward, Direction::Backward][random.below(2)];
        let (mut start, mut end) = (first, last + 1);
        if random.below(2) == 0 {
            start += random.below(((last - first) / 2) as usize) as i64;
            end -= random.below(((last - first) / 2) as usize) as i64;
        }
        let all = LogParams { start, end: end.max(start), limit: usize::MAX, direction, interval: 0 };
        let everything = fixture.logs_of_model(&text, all);
        for querier in [&fixture.querier, &small, &tiny_memory] {
            assert_eq!(fixture.logs(querier, &text, all).await, everything, "{about}: {text} {all:?}");
        }
        // With a limit: as many, from the right end; of those at the last instant any.
        let limited = LogParams { limit: 1 + random.below(100), ..all };
        let got = fixture.logs(&fixture.querier, &text, limited).await;
        assert_eq!(got.len(), everything.len().min(limited.limit), "{about}: {text} {limited:?}");
        let mut times: Vec<i64> = everything.iter().map(|e| e.0).collect();
        if direction == Direction::Backward {
            times.reverse();
        }
        times.truncate(limited.limit);
        times.sort();
        assert_eq!(got.iter().map(|e| e.0).collect::<Vec<_>>(), times, "{about}: {text} {limited:?}");
        assert!(got.iter().all(|e| everything.contains(e)), "{about}: {text}");
    }
    for text in METRIC_QUERIES {
        let step = [60, 60, 30, 7][random.below(4)] * SECOND;
        let start = START + random.below(3) as i64 * 60 * SECOND;
        for instant in [false, true] {
            // An instant behind everything: long windows then hold whole blocks.
            let start = if instant && random.below(2) == 0 { START + 150 * 60 * SECOND } else { start };
            let params = MetricParams { start, end: start + 20 * 60 * SECOND, step, instant };
            let expect = fixture.metric_of_model(text, params);
            for querier in [&fixture.querier, &small] {
                let got = fixture.metric(querier, text, params).await;
                assert!(same(&got, &expect), "{about}: {text} {params:?}\n{got:?}\n{expect:?}");
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_those_of_the_engine_wherever_the_rows_lie(seed: u64, rounds in 1usize..4, late: bool) {
        runtime().block_on(async {
            let mut random = Random(seed);
            let mut fixture = Fixture::new().await;
            for round in 0..rounds {
                let from = START + if late { 0 } else { round as i64 * 400 * SECOND };
                let rows = random.rows(1500 + 4000 * (round % 2), from, 600 * SECOND);
                fixture.push(&rows).await;
                // Sent twice: in the same head or, after a flush, in another place.
                fixture.push(&rows[..100]).await;
                check(&fixture, &mut random, "head and blocks").await;
                fixture.store.flush().await.unwrap();
                if random.below(2) == 0 {
                    fixture.push(&rows[50..80]).await;
                }
            }
            fixture.store.flush().await.unwrap();
            check(&fixture, &mut random, "blocks").await;
            fixture.stop().await;
        });
    }
}

/// Many lines of one stream in a block.
async fn heavy(rows: usize) -> Fixture {
    let mut fixture = Fixture::new().await;
    let mut random = Random(5);
    let lines: Vec<Row> = (0..rows)
        .map(|i| {
            (
                "json".to_owned(),
                START + i as i64 * 10_000_000,
                random.line("json").replace('\\', ""),
                String::new(),
            )
        })
        .collect();
    fixture.push(&lines).await;
    fixture.store.flush().await.unwrap();
    fixture
}

fn whole(limit: usize) -> LogParams {
    LogParams { start: START, end: START + 3600 * SECOND, limit, direction: Direction::Backward, interval: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn little_is_read_for_a_needle_a_limit_and_a_count() {
    let fixture = heavy(30_000).await;
    let read = |stats: &QueryStats| stats.block_lines.load(Ordering::Relaxed);
    let needle =
        fixture.model.iter().nth(12_345).unwrap().2.split('"').find(|w| w.len() == 32).unwrap().to_owned();
    for (text, limit, most) in [
        (format!("{{app=\"json\"}} |= `{needle}`"), 100, 4096),
        (format!("{{app=\"json\"}} | json | trace_id=`{needle}`"), 100, 4096),
        (format!("{{app=\"json\"}} |= `{}`", "deadbeef".repeat(4)), 100, 4096),
        (r#"{app="json"}"#.to_owned(), 100, 1024),
    ] {
        let Ok(Expr::Log(expr)) = logql::parse(&text) else { panic!() };
        let context = context();
        fixture.querier.log_query(&context, &expr, whole(limit), Categories::Merged).await.unwrap();
        assert!(read(&context.stats) <= most, "{} lines for {text}", read(&context.stats));
        assert!(context.stats.compressed_bytes.load(Ordering::Relaxed) > 0 || read(&context.stats) == 0);
    }
    for text in [
        r#"sum by (app) (count_over_time({app="json"}[1m]))"#,
        r#"sum by (level, detected_level) (count_over_time({app="json"} | drop __error__ [1m]))"#,
        r#"sum by (detected_level) (bytes_over_time({app="json"}[1m]))"#,
    ] {
        let Ok(Expr::Metric(expr)) = logql::parse(text) else { panic!() };
        let context = context();
        let params =
            MetricParams { start: START, end: START + 600 * SECOND, step: 60 * SECOND, instant: false };
        fixture.querier.metric_query(&context, &expr, params, MetricLimits::default()).await.unwrap();
        assert_eq!((read(&context.stats), context.stats.pages.load(Ordering::Relaxed)), (0, 0), "{text}");
    }
    fixture.stop().await;
}

/// Blocks whose times are woven into each other.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_share_no_instant_are_counted_without_their_rows() {
    let mut fixture = Fixture::new().await;
    let row = |second: i64| {
        let line = format!(r#"{{"level":"info","n":{second}}}"#);
        ("json".to_owned(), START + second * SECOND, line, String::new())
    };
    // Where seconds are even, where they are odd, and a third one with an entry of the first.
    let blocks: [Vec<Row>; 3] = [
        (0..600).step_by(2).map(row).collect(),
        (301..1200).step_by(2).map(row).collect(),
        [150].into_iter().chain((1201..1500).step_by(2)).map(row).collect(),
    ];
    let Ok(Expr::Metric(expr)) = logql::parse(r#"sum by (app) (count_over_time({app="json"}[1m]))"#) else {
        panic!()
    };
    let params = MetricParams { start: START, end: START + 1500 * SECOND, step: 60 * SECOND, instant: false };
    let read = |stats: &QueryStats| stats.block_lines.load(Ordering::Relaxed);
    for (at, rows) in blocks.iter().enumerate() {
        fixture.push(rows).await;
        fixture.store.flush().await.unwrap();
        let expect = fixture.metric_of_model(r#"sum by (app) (count_over_time({app="json"}[1m]))"#, params);
        for _ in 0..2 {
            let context = context();
            let got = fixture.querier.metric_query(&context, &expr, params, MetricLimits::default()).await;
            assert!(same(&points(got.unwrap()), &expect), "{at}");
            // The third block reaches back to the entry that it shares.
            assert_eq!(read(&context.stats) > 0, at == 2, "{at}: {} rows", read(&context.stats));
        }
        let text = r#"{app="json"} | json | n > 100"#;
        assert_eq!(
            fixture.logs(&fixture.querier, text, whole(10_000)).await,
            fixture.logs_of_model(text, whole(10_000))
        );
    }
    fixture.stop().await;
}

async fn eventually(what: &str, check: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !check() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_nobody_waits_for_stops() {
    let fixture = heavy(40_000).await;
    let querier = fixture.querier.clone().with_task_weight(1000);
    let Ok(Expr::Metric(expr)) = logql::parse(
        r#"sum(count_over_time({app="json"} | line_format "{{.app}}x{{.app}}" |~ "j.*x(a|b|c).*z" [2h]))"#,
    ) else {
        panic!()
    };
    let params = MetricParams { start: 0, end: START + 3600 * SECOND, step: SECOND, instant: true };
    let context = context();
    let stats = context.stats.clone();
    let asking = querier.clone();
    let query =
        tokio::spawn(
            async move { asking.metric_query(&context, &expr, params, MetricLimits::default()).await },
        );
    eventually("the first lines are looked at", || stats.block_lines.load(Ordering::Relaxed) > 0).await;
    query.abort();
    assert!(query.await.is_err());
    // Tasks on blocking threads see the flag, end, and give their memory back.
    eventually("memory is given back", || querier.gate().free_bytes() == querier.gate().total_bytes()).await;
    let lines = stats.block_lines.load(Ordering::Relaxed);
    assert!(lines < 40_000, "{lines}");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(stats.block_lines.load(Ordering::Relaxed), lines);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_queries_share_little_memory() {
    let fixture = heavy(20_000).await;
    let querier = fixture.querier.clone().with_memory(6 << 20).with_task_weight(4000);
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let querier = querier.clone();
        running.spawn(async move {
            let Ok(Expr::Metric(expr)) =
                logql::parse(r#"sum(count_over_time({app="json"} |= "refused" [2h]))"#)
            else {
                panic!()
            };
            let params = MetricParams { start: 0, end: START + 3600 * SECOND, step: SECOND, instant: true };
            points(querier.metric_query(&context(), &expr, params, MetricLimits::default()).await.unwrap())
        });
    }
    let expect = fixture.model.iter().filter(|row| row.2.contains("refused")).count() as f64;
    while let Some(got) = running.join_next().await {
        assert_eq!(got.unwrap()[0].1, expect);
    }
    assert_eq!(querier.gate().free_bytes(), querier.gate().total_bytes());
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_ends_at_its_budget() {
    let fixture = heavy(10_000).await;
    let message = |failure: Failure| failure.message().to_owned();
    let limited = QueryContext { max_bytes: 10_000, ..context() };
    let Ok(Expr::Log(log)) = logql::parse(r#"{app="json"} |= "refused""#) else { panic!() };
    let text = message(
        fixture.querier.log_query(&limited, &log, whole(5000), Categories::Merged).await.unwrap_err(),
    );
    assert!(text.contains("would read too many bytes (query: "), "{text}");
    let Ok(Expr::Metric(metric)) = logql::parse(r#"count_over_time({app="json"} |= "refused" [2h])"#) else {
        panic!()
    };
    let params = MetricParams { start: 0, end: START + 3600 * SECOND, step: SECOND, instant: true };
    let limited = QueryContext { max_bytes: 10_000, ..context() };
    let query = fixture.querier.metric_query(&limited, &metric, params, MetricLimits::default());
    let text = message(query.await.unwrap_err());
    assert!(text.contains("would read too many bytes (query: "), "{text}");
    // Nothing was read for it.
    assert_eq!(limited.stats.block_lines.load(Ordering::Relaxed), 0);
    let context = context();
    let query = fixture.querier.metric_query(&context, &metric, params, MetricLimits::default());
    let text = message(within(Duration::ZERO, query).await.unwrap_err());
    assert!(text.contains("timed out"), "{text}");
    fixture.stop().await;
}
