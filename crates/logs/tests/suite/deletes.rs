//! Compaction, retention and deletes through the API, while queries run and across crashes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Method, Request, StatusCode};
use logs::LogsHandle;
use model::Timestamp;
use serde_json::Value;
use tower::ServiceExt as _;
use wire::loki::{PushEntry, PushRequest, PushStream};

use crate::running::Running;

const SECOND: i64 = 1_000_000_000;

/// A compactor that is always at work, and whose requests are due at once.
const EAGER: &str = "
compactor:
  retention_enabled: true
  compaction_interval: 10ms
  delete_request_cancel_period: 0s
";

fn push(app: &str, lines: impl IntoIterator<Item = (i64, String)>) -> PushRequest {
    let entries = lines.into_iter().map(|(timestamp_ns, line)| PushEntry {
        timestamp_ns,
        line: line.as_str().into(),
        metadata: Vec::new(),
    });
    let labels = format!("{{app={app:?}}}");
    let stream = PushStream { labels, entries: entries.collect(), ..PushStream::default() };
    PushRequest { streams: vec![stream], ..PushRequest::default() }
}

async fn add(running: &Running, app: &str, lines: impl IntoIterator<Item = (i64, String)>) {
    running.handle.push(&LogsHandle::default_tenant(), push(app, lines)).await.unwrap();
}

/// How often each line is found.
async fn found(running: &Running, query: &str) -> BTreeMap<String, usize> {
    let now = Timestamp::now().nanos();
    let (start, end) = ((now - 7200 * SECOND).to_string(), (now + SECOND).to_string());
    let params = [("query", query), ("limit", "5000"), ("start", start.as_str()), ("end", end.as_str())];
    let answer = running.get("/loki/api/v1/query_range", &params).await;
    let mut found = BTreeMap::new();
    for stream in answer["data"]["result"].as_array().unwrap() {
        for value in stream["values"].as_array().unwrap() {
            *found.entry(value[1].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    found
}

/// Calls the API of deletes: status, request id, body.
async fn call(running: &Running, method: Method, params: &[(&str, &str)]) -> (StatusCode, String, Vec<u8>) {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
    let request = Request::builder().method(method).uri(format!("/loki/api/v1/delete?{query}"));
    let response = running.handle.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let id = response.headers().get("x-delete-request-id").map(|id| id.to_str().unwrap().to_owned());
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec();
    (status, id.unwrap_or_default(), body)
}

async fn requests(running: &Running) -> Vec<Value> {
    let (status, _, body) = call(running, Method::GET, &[]).await;
    assert_eq!(status, StatusCode::OK);
    serde_json::from_slice(&body).unwrap()
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start_with(dir.path(), EAGER).await;
    let now = Timestamp::now().nanos();
    let lines = |from: i64| (from..from + 20).map(move |i| (now - (100 + i) * SECOND, format!("line {i}")));
    add(&running, "a", lines(0)).await;
    running.handle.flush().await.unwrap();
    add(&running, "a", lines(20)).await;
    assert_eq!(requests(&running).await, Vec::<Value>::new());
    let (start, end) = (((now / SECOND) - 1000).to_string(), ((now / SECOND) - 50).to_string());
    let params =
        [("query", r#"{app="a"} |~ "line .*[37]$""#), ("start", start.as_str()), ("end", end.as_str())];
    let (status, id, _) = call(&running, Method::POST, &params).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(!id.is_empty());
    let left = |found: &BTreeMap<String, usize>| {
        found.len() == 32 && found.iter().all(|(line, count)| *count == 1 && !line.ends_with(['3', '7']))
    };
    // Hidden from the next query on, whatever the compactor does meanwhile.
    until("the request is processed", async || {
        assert!(left(&found(&running, r#"{app="a"}"#).await));
        requests(&running).await[0]["status"] == "processed"
    })
    .await;
    let request = &requests(&running).await[0];
    assert_eq!(
        (request["request_id"].as_str(), request["query"].as_str()),
        (Some(id.as_str()), Some(params[0].1))
    );
    assert_eq!(request["end_time"].as_f64().unwrap() as i64, now / SECOND - 50);
    assert!(left(&found(&running, r#"{app="a"}"#).await));
    let (status, _, _) = call(&running, Method::DELETE, &[("request_id", &id)]).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    running.crash().await;

    // Replay of the ingest log brings nothing back.
    let running = Running::start_with(dir.path(), EAGER).await;
    assert!(left(&found(&running, r#"{app="a"}"#).await));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let patient = "compactor: {retention_enabled: true}";
    let running = Running::start_with(dir.path(), patient).await;
    let seconds = Timestamp::now().nanos() / SECOND;
    let (early, late, future) =
        ((seconds - 100).to_string(), (seconds - 10).to_string(), (seconds + 1000).to_string());
    let check = async |params: &[(&str, &str)], expect: u16| {
        let (status, _, body) = call(&running, Method::POST, params).await;
        assert_eq!(status, expect, "{params:?}: {}", String::from_utf8_lossy(&body));
    };
    let query = ("query", r#"{app="a"} | json | x="y""#);
    check(&[], 400).await;
    check(&[query], 400).await;
    check(&[("start", &early)], 400).await;
    check(&[("query", "{"), ("start", &early)], 400).await;
    check(&[("query", r#"rate({app="a"}[1m])"#), ("start", &early)], 400).await;
    check(&[query, ("start", "never")], 400).await;
    check(&[query, ("start", &early), ("end", &future)], 400).await;
    check(&[query, ("start", &late), ("end", &early)], 400).await;
    check(&[query, ("start", &early), ("max_interval", "x")], 400).await;
    check(&[query, ("start", &early), ("max_interval", "25h")], 400).await;
    check(&[query, ("start", &early), ("end", &late), ("max_interval", "10s")], 204).await;
    let id = requests(&running).await[0]["request_id"].as_str().unwrap().to_owned();
    assert_eq!(requests(&running).await[0]["status"], "received");
    assert_eq!(call(&running, Method::DELETE, &[("request_id", "00000000")]).await.0, StatusCode::NOT_FOUND);
    assert_eq!(call(&running, Method::DELETE, &[("request_id", &id)]).await.0, StatusCode::NO_CONTENT);
    assert_eq!(requests(&running).await.len(), 0);
    running.stop().await;

    let status = async |yaml: &str| {
        let dir = tempfile::tempdir().unwrap();
        let running = Running::start_with(dir.path(), yaml).await;
        let status = call(&running, Method::GET, &[]).await.0;
        running.stop().await;
        status.as_u16()
    };
    assert_eq!(status("{}").await, 404);
    assert_eq!(
        status("{compactor: {retention_enabled: true}, limits_config: {deletion_mode: disabled}}").await,
        403
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_lines_are_hidden_before_the_compactor_comes() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = r#"
compactor: {retention_enabled: true}
limits_config:
  retention_period: 1h
  retention_stream:
    - {selector: '{app="debug"}', priority: 1, period: 1m}
    - {selector: '{app="audit"}', priority: 1, period: 0s}
"#;
    let running = Running::start_with(dir.path(), yaml).await;
    let now = Timestamp::now().nanos();
    let ago = |seconds: i64| now - seconds * SECOND;
    for app in ["a", "debug", "audit"] {
        let lines = [(5000, "old"), (600, "older"), (5, "new")];
        add(&running, app, lines.map(|(age, line)| (ago(age), format!("{app} {line}")))).await;
    }
    let expect = ["a new", "a older", "audit new", "audit old", "audit older", "debug new"];
    for _ in 0..2 {
        let found = found(&running, r#"{app=~".+"}"#).await;
        assert_eq!(found.keys().collect::<Vec<_>>(), expect);
        let query = r#"sum(count_over_time({app=~".+"}[2h]))"#;
        let answer = running.get("/loki/api/v1/query", &[("query", query)]).await;
        assert_eq!(answer["data"]["result"][0]["value"][1], "6");
        // Then out of blocks.
        running.handle.flush().await.unwrap();
    }
    running.stop().await;
}

/// Pushes, flushes, merges and queries at the same time, with a crash now and then: each line is there once, in every answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn queries_see_each_line_once_while_blocks_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let start = Timestamp::now().nanos() - 3600 * SECOND;
    let mut pushed = 0;
    for _ in 0..3 {
        let running = Running::start_with(dir.path(), EAGER).await;
        for _ in 0..12 {
            let lines = (pushed..pushed + 10).map(|i| (start + i * SECOND, format!("line {i}")));
            add(&running, "a", lines).await;
            running.handle.flush().await.unwrap();
            pushed += 10;
            let found = found(&running, r#"{app="a"}"#).await;
            assert_eq!(found.len() as i64, pushed);
            assert!(found.values().all(|count| *count == 1), "{found:?}");
        }
        until("blocks are merged", async || {
            assert_eq!(found(&running, r#"{app="a"}"#).await.len() as i64, pushed);
            blocks(&running) < 8
        })
        .await;
        running.crash().await;
    }
}

fn blocks(running: &Running) -> usize {
    let text = running.metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix("loki_store_blocks "));
    line.unwrap().parse::<f64>().unwrap() as usize
}
