//! Rows out of order, twice, and spread over several blocks and the head are one stream to a query.

use std::collections::BTreeSet;

use logs::LogsHandle;
use serde_json::Value;
use wire::loki::{PushEntry, PushRequest, PushStream};

use crate::running::Running;

/// 2023-11-14 22:13:20, a multiple of 10 s.
const START: i64 = 1_700_000_000_000_000_000;
const MILLI: i64 = 1_000_000;
const ROUNDS: usize = 5;
const PER_ROUND: usize = 6000;

/// A pseudo-random sequence that is the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// App, time, line.
type Row = (String, i64, String);

fn request(rows: &[Row]) -> PushRequest {
    let mut streams: Vec<PushStream> = Vec::new();
    for (app, time, line) in rows {
        let labels = format!("{{app={app:?}}}");
        let at = streams.iter().position(|s| s.labels == labels).unwrap_or_else(|| {
            streams.push(PushStream { labels: labels.clone(), ..PushStream::default() });
            streams.len() - 1
        });
        let metadata = vec![("n".into(), line.as_str().into())];
        streams[at].entries.push(PushEntry { timestamp_ns: *time, line: line.as_str().into(), metadata });
    }
    PushRequest { streams, ..PushRequest::default() }
}

fn entries(answer: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    for stream in answer["data"]["result"].as_array().unwrap() {
        let app = stream["stream"]["app"].as_str().unwrap();
        for value in stream["values"].as_array().unwrap() {
            let time = value[0].as_str().unwrap().parse().unwrap();
            assert_eq!(stream["stream"]["n"], value[1], "metadata stays with its line");
            rows.push((app.to_owned(), time, value[1].as_str().unwrap().to_owned()));
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_head_and_blocks_are_one_stream() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let tenant = LogsHandle::default_tenant();
    let mut random = Random(7);
    let mut model: BTreeSet<Row> = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut rows: Vec<Row> = Vec::new();
        for _ in 0..PER_ROUND {
            // Most rows are of one stream; later rounds lie later, but reach far back.
            let app = ["a", "a", "a", "b", "c"][random.below(5) as usize];
            let time = START + (round as i64 * 2000 + random.below(6000) as i64) * MILLI;
            rows.push((app.to_owned(), time, format!("line {}", random.below(50))));
        }
        for part in rows.chunks(1000) {
            running.handle.push(&tenant, request(part)).await.unwrap();
        }
        model.extend(rows);
        if round < ROUNDS - 1 {
            running.handle.flush().await.unwrap();
        }
    }
    for (from, to) in [(0, 20_000), (0, 1), (2999, 3001), (5000, 9000)] {
        for (selector, apps) in [("{app=~\".+\"}", "abc"), ("{app=\"a\"}", "a")] {
            let (start, end) = (START + from * MILLI, START + to * MILLI);
            let expect: Vec<&Row> =
                model.iter().filter(|r| apps.contains(&r.0) && (start..end).contains(&r.1)).collect();
            check_logs(&running, selector, start, end, &expect).await;
            check_count(&running, selector, start, end, expect.len()).await;
        }
    }
    running.stop().await;
}

/// The newest and the oldest lines are those of the model; of equal times at the edge any may be there.
async fn check_logs(running: &Running, selector: &str, start: i64, end: i64, expect: &[&Row]) {
    for (direction, limit) in [("forward", 10), ("backward", 10), ("forward", 5000), ("backward", 5000)] {
        let answer = running
            .get(
                "/loki/api/v1/query_range",
                &[
                    ("query", selector),
                    ("start", &start.to_string()),
                    ("end", &end.to_string()),
                    ("limit", &limit.to_string()),
                    ("direction", direction),
                ],
            )
            .await;
        let got = entries(&answer);
        let about = format!("{selector} {direction} {limit} in {start}..{end}");
        assert_eq!(got.len(), expect.len().min(limit), "{about}");
        assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), got.len(), "{about}: duplicates");
        let known: BTreeSet<&Row> = expect.iter().copied().collect();
        assert!(got.iter().all(|row| known.contains(row)), "{about}: a row that was not pushed");
        let mut times: Vec<i64> = expect.iter().map(|r| r.1).collect();
        times.sort_unstable();
        let edge = times.len().saturating_sub(limit);
        let wanted = if direction == "forward" { &times[..limit.min(times.len())] } else { &times[edge..] };
        let mut found: Vec<i64> = got.iter().map(|r| r.1).collect();
        found.sort_unstable();
        assert_eq!(found, wanted, "{about}");
    }
}

async fn check_count(running: &Running, selector: &str, start: i64, end: i64, expect: usize) {
    // A window is open at its start and closed at its end; log ranges are the other way round.
    let range = (end - start) / MILLI;
    let query = format!("sum(count_over_time({selector}[{range}ms]))");
    let time = (end - 1).to_string();
    let answer = running.get("/loki/api/v1/query", &[("query", &query), ("time", &time)]).await;
    let got = answer["data"]["result"][0]["value"][1].as_str().map_or(0, |n| n.parse::<usize>().unwrap());
    assert_eq!(got, expect, "{query} at {time}");
}
