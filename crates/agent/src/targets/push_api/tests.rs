//! Pushes over loopback: what arrives, and what an acknowledgement means.

use serde_json::json;
use wire::Str;
use wire::loki::{PushEntry, PushRequest, encode_push};

use super::*;
use crate::targets::testing::Bench;

struct Fixture {
    bench: Bench,
    url: String,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<Result<()>>,
}

impl Fixture {
    fn start(bench: Bench, keep_time: bool, patience: Duration) -> Self {
        let config = PushApiConfig {
            server: ServerConfig { http_listen_port: 0, ..ServerConfig::default() },
            labels: BTreeMap::from([("pushed".into(), "yes".into())]),
            use_incoming_timestamp: keep_time,
        };
        let target = PushTarget::bind(&config, bench.inlets.clone()).unwrap().with_patience(patience);
        let (url, stop) = (format!("http://{}", target.address()), CancellationToken::new());
        let running = tokio::spawn(target.run(stop.clone()));
        Self { bench, url, stop, running }
    }

    /// Posts in the background; resolves to status and body.
    fn post(
        &self,
        path: &str,
        kind: &str,
        body: impl Into<reqwest::Body>,
    ) -> tokio::task::JoinHandle<(u16, String)> {
        let request = reqwest::Client::new()
            .post(format!("{}{path}", self.url))
            .header("content-type", kind)
            .header("x-scope-orgid", "t1")
            .body(body);
        tokio::spawn(async move {
            let response = request.send().await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        })
    }

    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

fn request(streams: Vec<PushStream>) -> bytes::Bytes {
    encode_push(&PushRequest { streams, ..PushRequest::default() })
}

fn stream(labels: &str, lines: &[&str]) -> PushStream {
    let text = |s: &str| Str::from_utf8_lossy(bytes::Bytes::copy_from_slice(s.as_bytes()));
    let entry = |line: &&str| PushEntry {
        timestamp_ns: 7,
        line: text(line),
        metadata: vec![(text("trace_id"), text("abc"))],
    };
    PushStream { labels: labels.into(), entries: lines.iter().map(entry).collect(), ..Default::default() }
}

#[tokio::test]
async fn an_acknowledgement_means_delivery() {
    let fixture = Fixture::start(Bench::new(json!([]), 1 << 20), true, PATIENCE);
    let body = request(vec![stream(r#"{app="a"}"#, &["one", "two"])]);
    let answer = fixture.post("/loki/api/v1/push", "application/x-protobuf", body);
    let (one, two) = (fixture.bench.entry().await, fixture.bench.entry().await);
    assert_eq!(one.labels.to_string(), r#"{app="a", pushed="yes"}"#);
    assert_eq!(
        (one.line.as_str(), two.line.as_str(), one.timestamp, one.tenant.as_str()),
        ("one", "two", Timestamp(7), "t1")
    );
    assert_eq!(one.metadata, [("trace_id".into(), "abc".to_owned())]);
    one.tickets.done();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!answer.is_finished(), "one line is not delivered yet");
    two.tickets.done();
    assert_eq!(answer.await.unwrap().0, 204);
    assert_eq!(fixture.bench.metrics.push_entries.get(), 2);
    fixture.end().await;
}

#[tokio::test]
async fn json_raw_lines_and_dropped_streams() {
    let rules = json!([{"source_labels": ["app"], "regex": "noise", "action": "drop"}]);
    let fixture = Fixture::start(Bench::new(rules, 1 << 20), false, PATIENCE);
    let body = json!({"streams": [
        {"stream": {"app": "noise"}, "values": [["1", "dropped"]]},
        {"stream": {"app": "b"}, "values": [["1", "kept"]]},
    ]});
    let answer = fixture.post("/loki/api/v1/push", "application/json", body.to_string());
    let before = Timestamp::now();
    let kept = fixture.bench.entry().await;
    assert!(kept.timestamp.nanos() > before.nanos() - 60_000_000_000, "the time of receipt");
    assert_eq!(
        (kept.line.as_str(), kept.labels.to_string().as_str()),
        ("kept", r#"{app="b", pushed="yes"}"#)
    );
    kept.tickets.done();
    assert_eq!(answer.await.unwrap().0, 204);

    let only_noise = json!({"streams": [{"stream": {"app": "noise"}, "values": [["1", "x"]]}]});
    let answer = fixture.post("/loki/api/v1/push", "application/json", only_noise.to_string());
    assert_eq!(answer.await.unwrap().0, 204);

    let answer = fixture.post("/promtail/api/v1/raw", "text/plain", "first\r\n\nsecond");
    let lines = fixture.bench.lines(2).await;
    assert_eq!(lines, [r#"{pushed="yes"} first"#, r#"{pushed="yes"} second"#]);
    assert_eq!(answer.await.unwrap().0, 204);
    fixture.end().await;
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused() {
    let fixture = Fixture::start(Bench::new(json!([]), 1 << 20), false, PATIENCE);
    let answer = fixture.post("/loki/api/v1/push", "application/x-protobuf", "garbage");
    assert_eq!(answer.await.unwrap().0, 400);
    let body = request(vec![stream("{app=", &["bad"]), stream(r#"{app="a"}"#, &["good"])]);
    let answer = fixture.post("/loki/api/v1/push", "application/x-protobuf", body);
    assert_eq!(fixture.bench.lines(1).await, [r#"{app="a", pushed="yes"} good"#]);
    let (status, text) = answer.await.unwrap();
    assert!(status == 400 && text.contains("{app="), "{status} {text}");

    // A few kB that come to more than is taken.
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut bomb, &vec![b'x'; MAX_DECODED + 1]).unwrap();
    let request = reqwest::Client::new()
        .post(format!("{}/promtail/api/v1/raw", fixture.url))
        .header("content-encoding", "gzip")
        .body(bomb.finish().unwrap());
    assert_eq!(request.send().await.unwrap().status(), 413);
    fixture.end().await;
}

#[tokio::test]
async fn what_is_not_delivered_in_time_is_pushed_again() {
    let fixture = Fixture::start(Bench::new(json!([]), 1), false, Duration::from_millis(100));
    let first = fixture.post("/promtail/api/v1/raw", "text/plain", "queued");
    let (status, text) = first.await.unwrap();
    assert!(status == 503 && text.contains("not delivered it yet"), "{status} {text}");
    // The queue is full: nothing more is taken in.
    let (status, text) = fixture.post("/promtail/api/v1/raw", "text/plain", "refused").await.unwrap();
    assert!(status == 503 && text.contains("no room"), "{status} {text}");
    assert_eq!(fixture.bench.metrics.push_unacknowledged.get(), 2);
    assert_eq!(fixture.bench.lines(1).await, [r#"{pushed="yes"} queued"#]);
    assert!(fixture.bench.queue.pop().is_none());
    fixture.end().await;
}

#[tokio::test]
async fn with_a_spool_an_acknowledgement_means_that_it_is_on_disk() {
    let files = disk::sim::SimFiles::new();
    let spool = crate::spool::tests::spool(&files, 1 << 20);
    let stop = CancellationToken::new();
    let writing = crate::spool::tests::run(&spool, &stop);
    let rules = json!([{"source_labels": ["app"], "regex": "noise", "action": "drop"}]);
    let mut bench = Bench::new(rules, 1 << 20);
    let (inlet, spooled) = (bench.inlets.open(), bench.spooled(spool.clone()));
    bench.inlets = spooled;
    let fixture = Fixture::start(bench, true, Duration::from_millis(500));
    let push = |lines: &[&str]| {
        let body = request(vec![stream(r#"{app="noise"}"#, &["dropped"]), stream(r#"{app="a"}"#, lines)]);
        fixture.post("/loki/api/v1/push", "application/x-protobuf", body)
    };
    // Nobody delivers.
    assert_eq!(push(&["one", "two"]).await.unwrap().0, 204);
    files.fail_syncs(1);
    let (status, text) = push(&["refused"]).await.unwrap();
    assert!(status == 503 && text.contains("cannot be written"), "{status} {text}");
    assert_eq!(push(&["three"]).await.unwrap().0, 204);
    let (status, text) = push(&[&"x".repeat(2 << 20)]).await.unwrap();
    assert!(status == 413 && text.contains("max_bytes"), "{status} {text}");
    let large = "x".repeat(100 << 10);
    let mut taken = 0;
    let (status, text) = loop {
        match push(&[&large]).await.unwrap() {
            (204, _) => taken += 1,
            refused => break refused,
        }
    };
    assert!(taken > 5 && status == 503 && text.contains("full"), "{taken} {status} {text}");

    let reading = tokio::spawn(crate::spool::SpoolReader::run(spool, "c".into(), inlet, stop.clone()));
    for line in ["one", "two", "three"] {
        let entry = fixture.bench.entry().await;
        assert_eq!((entry.line.as_str(), entry.timestamp, entry.tenant.as_str()), (line, Timestamp(7), "t1"));
        assert_eq!(entry.labels.to_string(), r#"{app="a", pushed="yes"}"#);
        assert_eq!(entry.metadata, [("trace_id".into(), "abc".to_owned())]);
        entry.tickets.done();
    }
    for _ in 0..taken {
        fixture.bench.entry().await.tickets.done();
    }
    assert_eq!(push(&[&large]).await.unwrap().0, 204, "there is room again");
    fixture.end().await;
    stop.cancel();
    reading.await.unwrap().unwrap();
    writing.await.unwrap().unwrap();
}
