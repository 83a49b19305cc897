//! What was acknowledged is there after a crash, once.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::Request;
use logs::{Config, Logs, LogsHandle};
use model::Timestamp;
use service::{CancellationToken, Metrics};
use tower::ServiceExt as _;
use wire::loki::{PushEntry, PushRequest, PushStream};

async fn open(dir: &std::path::Path) -> (LogsHandle, tokio::task::JoinHandle<()>) {
    let mut config = Config::default();
    config.common.path_prefix = dir.display().to_string();
    // The thread of the store that died lets go of the log when it notices.
    let deadline = Instant::now() + Duration::from_secs(20);
    let logs = loop {
        match Logs::open(config.clone(), &Metrics::default()).await {
            Err(error) if format!("{error:#}").contains("in use") && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            opened => break opened.unwrap(),
        }
    };
    let handle = logs.handle();
    (handle, tokio::spawn(logs.into_tasks()(CancellationToken::new())))
}

fn push(start: i64, from: usize, count: usize) -> PushRequest {
    let entry = |i: usize| PushEntry {
        timestamp_ns: start + i as i64,
        line: format!("line {i}").into(),
        metadata: vec![("trace_id".into(), format!("t{i}").into())],
    };
    let stream = |app: &str| PushStream {
        labels: format!("{{app={app:?}}}"),
        entries: (from..from + count).map(entry).collect(),
    };
    PushRequest { streams: vec![stream("a"), stream("b")] }
}

/// How often each line of each app is found.
async fn found(handle: &LogsHandle, start: i64) -> BTreeMap<(String, String), usize> {
    let uri = format!(
        "/loki/api/v1/query_range?query=%7Bapp%3D~%22.%2B%22%7D&limit=5000&start={start}&end={}&direction=forward",
        start + 1_000_000
    );
    let request = Request::get(uri).body(Body::empty()).unwrap();
    let response = handle.router().oneshot(request).await.unwrap();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let mut found = BTreeMap::new();
    for stream in body["data"]["result"].as_array().unwrap() {
        let app = stream["stream"]["app"].as_str().unwrap();
        for value in stream["values"].as_array().unwrap() {
            let line = value[1].as_str().unwrap();
            assert_eq!(stream["stream"]["trace_id"].as_str().unwrap()[1..], line[5..]);
            *found.entry((app.to_owned(), line.to_owned())).or_default() += 1;
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_lines_survive_and_are_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let start = Timestamp::now().nanos() - 1_000_000_000;
    let tenant = LogsHandle::default_tenant();
    let mut pushed = 0;
    for round in 0..4 {
        let (handle, task) = open(dir.path()).await;
        for _ in 0..5 {
            // A little of the push before comes again, as a client sends it that saw no answer.
            let from = if pushed == 0 { 0 } else { pushed - 10 };
            handle.push(&tenant, push(start, from, pushed + 100 - from)).await.unwrap();
            pushed += 100;
        }
        if round % 2 == 1 {
            handle.flush().await.unwrap();
            handle.push(&tenant, push(start, pushed, 50)).await.unwrap();
            pushed += 50;
        }
        let found = found(&handle, start).await;
        assert_eq!((found.len(), found.values().max()), (2 * pushed, Some(&1)), "round {round}");
        // No shutdown: the tasks are dropped where they stand.
        task.abort();
        let _ = task.await;
        drop(handle);
    }
    let (handle, task) = open(dir.path()).await;
    let found = found(&handle, start).await;
    assert_eq!((found.len(), found.values().max()), (2 * pushed, Some(&1)));
    task.abort();
}
