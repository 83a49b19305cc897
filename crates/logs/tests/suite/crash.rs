//! What was acknowledged is there after a crash, once.

use std::collections::BTreeMap;

use logs::LogsHandle;
use model::Timestamp;
use wire::loki::{PushEntry, PushRequest, PushStream};

use crate::running::Running;

fn push(start: i64, from: usize, count: usize) -> PushRequest {
    let entry = |i: usize| PushEntry {
        timestamp_ns: start + i as i64,
        line: format!("line {i}").into(),
        metadata: vec![("trace_id".into(), format!("t{i}").into())],
    };
    let stream = |app: &str| PushStream {
        labels: format!("{{app={app:?}}}"),
        entries: (from..from + count).map(entry).collect(),
        ..PushStream::default()
    };
    PushRequest { streams: vec![stream("a"), stream("b")], ..PushRequest::default() }
}

/// How often each line of each app is found.
async fn found(running: &Running, start: i64) -> BTreeMap<(String, String), usize> {
    let (from, to) = (start.to_string(), (start + 1_000_000).to_string());
    let params =
        [("query", "{app=~\".+\"}"), ("limit", "5000"), ("start", from.as_str()), ("end", to.as_str())];
    let answer = running.get("/loki/api/v1/query_range", &params).await;
    let mut found = BTreeMap::new();
    for stream in answer["data"]["result"].as_array().unwrap() {
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
        let running = Running::start(dir.path()).await;
        for _ in 0..5 {
            // A little of the push before comes again, as a client sends it that saw no answer.
            let from = if pushed == 0 { 0 } else { pushed - 10 };
            running.handle.push(&tenant, push(start, from, pushed + 100 - from)).await.unwrap();
            pushed += 100;
        }
        if round % 2 == 1 {
            running.handle.flush().await.unwrap();
            running.handle.push(&tenant, push(start, pushed, 50)).await.unwrap();
            pushed += 50;
        }
        let found = found(&running, start).await;
        assert_eq!((found.len(), found.values().max()), (2 * pushed, Some(&1)), "round {round}");
        // No shutdown: the work is dropped where it stands.
        running.crash().await;
    }
    let running = Running::start(dir.path()).await;
    let found = found(&running, start).await;
    assert_eq!((found.len(), found.values().max()), (2 * pushed, Some(&1)));
    running.stop().await;
}
