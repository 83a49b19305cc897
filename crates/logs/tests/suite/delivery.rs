//! Pushes that say where their lines come from: what is sent again is not stored again.
//!
//! Every sending has timestamps of its own, so that equal time and line cannot be what tells.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use axum::body::Body;
use http::{Request, StatusCode};
use logs::LogsHandle;
use wire::loki::{OriginWriter, PushEntry, PushRequest, PushStream, Source, encode_push};

use crate::running::{Running, now, of, send};

/// Lines of 10 bytes of a source, `lines` of them, at a time that was never sent before.
fn request(id: u128, low: u64, lines: Range<u64>) -> PushRequest {
    let (mut writer, start) = (OriginWriter::default(), now());
    let entry = |(n, line): (usize, u64)| {
        writer.push(0, std::slice::from_ref(&(10 * line..10 * line + 10)));
        PushEntry {
            timestamp_ns: start + n as i64,
            line: format!("line {line}").into(),
            metadata: vec![("n".into(), line.to_string().into())],
        }
    };
    let entries = lines.enumerate().map(entry).collect();
    let stream = PushStream { labels: "{app=\"a\"}".to_owned(), entries, origins: writer.finish() };
    PushRequest { streams: vec![stream], sources: vec![Source { id, low }] }
}

fn http(request: &PushRequest) -> Request<Body> {
    let post = Request::post("/loki/api/v1/push").header("content-type", "application/x-protobuf");
    post.body(Body::from(encode_push(request))).unwrap()
}

async fn push(running: &Running, request: &PushRequest) {
    let (status, body) = send(&running.handle.router(), http(request)).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{}", String::from_utf8_lossy(&body));
}

/// How often each line is there.
async fn found(running: &Running) -> BTreeMap<String, usize> {
    let (from, to) = ((now() - 3_600_000_000_000).to_string(), (now() + 1_000_000_000).to_string());
    let params = [("query", "{app=\"a\"}"), ("limit", "5000"), ("start", &from), ("end", &to)];
    let answer = running.get("/loki/api/v1/query_range", &params).await;
    let mut found = BTreeMap::new();
    for stream in answer["data"]["result"].as_array().unwrap() {
        for value in stream["values"].as_array().unwrap() {
            let line = value[1].as_str().unwrap();
            assert_eq!(stream["stream"]["n"].as_str().unwrap(), &line[5..], "metadata stays with its line");
            *found.entry(line.to_owned()).or_default() += 1;
        }
    }
    found
}

fn each(lines: Range<u64>) -> BTreeMap<String, usize> {
    lines.map(|line| (format!("line {line}"), 1)).collect()
}

fn segments(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir.join("timberline/wal")).unwrap();
    names.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "log")).count()
}

fn metric(running: &Running, name: &str) -> f64 {
    let text = running.metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::parse);
    line.unwrap_or_else(|| panic!("{name} in {text}")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    push(&running, &request(1, 0, 0..20)).await;
    push(&running, &request(1, 0, 0..20)).await;
    assert_eq!(found(&running).await, each(0..20));
    // A part is known.
    push(&running, &request(1, 0, 10..30)).await;
    push(&running, &request(1, 100, 5..12)).await;
    assert_eq!(found(&running).await, each(0..30));
    assert_eq!(metric(&running, "timberline_logs_repeated_entries_total"), 37.0);
    assert_eq!(metric(&running, "timberline_logs_sources"), 1.0);
    // Two at once.
    let (twice, other) = (request(1, 100, 25..200), request(1, 100, 30..200));
    tokio::join!(push(&running, &twice), push(&running, &twice), push(&running, &other));
    assert_eq!(found(&running).await, each(0..200));
    // As blocks.
    running.handle.flush().await.unwrap();
    push(&running, &request(1, 100, 10..200)).await;
    assert_eq!(found(&running).await, each(0..200));
    running.crash().await;

    // Out of the log, some of which is in blocks.
    let running = Running::start(dir.path()).await;
    push(&running, &request(1, 100, 10..210)).await;
    assert_eq!(found(&running).await, each(0..210));
    running.handle.flush().await.unwrap();
    crate::running::eventually("the trim", async || {
        segments(dir.path()) == 1 && dir.path().join("timberline/wal/checkpoint").exists()
    })
    .await;
    push(&running, &request(1, 100, 10..210)).await;
    running.crash().await;

    // Out of the checkpoint, for the log is trimmed; the embedded agent's way.
    let running = Running::start(dir.path()).await;
    running.handle.push(&LogsHandle::default_tenant(), request(1, 100, 50..211)).await.unwrap();
    assert_eq!(found(&running).await, each(0..211));
    running.stop().await;
    let running = Running::start(dir.path()).await;
    push(&running, &request(1, 200, 20..211)).await;
    assert_eq!(found(&running).await, each(0..211));
    assert_eq!(metric(&running, "timberline_logs_repeated_entries_total"), 191.0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_same_bytes_of_the_same_source_and_tenant_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start_with(dir.path(), "auth_enabled: true").await;
    for (tenant, id) in [("t", 1), ("t", 2), ("u", 1)] {
        let (status, _) = send(&running.handle.router(), of(tenant, http(&request(id, 0, 0..5)))).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    assert_eq!(metric(&running, "timberline_logs_repeated_entries_total"), 0.0);
    assert_eq!(metric(&running, "timberline_logs_sources"), 3.0);
    // Entries that nobody knows the origin of are stored as often as they come.
    let mut plain = request(1, 0, 0..5);
    plain.streams[0].origins.clear();
    let mut mixed = request(1, 0, 3..6);
    let mut writer = OriginWriter::default();
    writer.push_none();
    writer.push(0, &[40..45, 45..50]);
    writer.push(0, std::slice::from_ref(&(45..60)));
    mixed.streams[0].origins = writer.finish();
    for request in [plain, mixed] {
        send(&running.handle.router(), of("t", http(&request))).await;
    }
    assert_eq!(metric(&running, "timberline_logs_repeated_entries_total"), 1.0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_entries_are_not_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start_with(dir.path(), "limits_config:\n  max_line_size: 6\n").await;
    for _ in 0..2 {
        let (status, _) = send(&running.handle.router(), http(&request(1, 0, 8..12))).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "refused again, not taken for stored");
    }
    assert_eq!(found(&running).await, each(8..10));
    running.stop().await;
    let running = Running::start(dir.path()).await;
    push(&running, &request(1, 0, 8..12)).await;
    assert_eq!(found(&running).await, each(8..12));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn origins_that_do_not_hold_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let mut no_source = request(1, 0, 0..5);
    no_source.sources.clear();
    let mut too_few = request(1, 0, 0..5);
    too_few.streams[0].origins = request(1, 0, 0..4).streams[0].origins.clone();
    for request in [&no_source, &too_few] {
        let (status, body) = send(&running.handle.router(), http(request)).await;
        let text = String::from_utf8(body).unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(text.contains("malformed push request: origins: "), "{text}");
    }
    assert!(running.handle.push(&LogsHandle::default_tenant(), no_source).await.is_err());
    assert_eq!(found(&running).await, each(0..0));
    running.stop().await;
}
