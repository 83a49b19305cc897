//! `query`: what answering costs the log store, question by question, over a stored and flushed workload.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testkit::http::{self, Request};

use crate::ingest::{self, PATIENCE};
use testkit::cost::{cpu_seconds, peak_mib};

/// How long the stored lines lie apart, nanoseconds.
const STEP: i64 = 10_000_000;

/// A question: its name, the endpoint, its parameters beside the time range.
struct Question {
    name: &'static str,
    path: &'static str,
    query: String,
    rest: &'static str,
}

fn questions(needle: &str) -> Vec<Question> {
    let range =
        |name, query: &str, rest| Question { name, path: "query_range", query: query.to_owned(), rest };
    let instant = |name, query: &str| Question { name, path: "query", query: query.to_owned(), rest: "" };
    let other = |name, path, query: &str| Question { name, path, query: query.to_owned(), rest: "" };
    vec![
        other("labels", "labels", ""),
        other("series", "series", r#"{job=~".+"}"#),
        other("stats", "index/stats", r#"{job=~".+"}"#),
        other("index volume", "index/volume", r#"{job=~".+"}"#),
        range("one stream, limit 100", r#"{job="docker", service="api", level="info"}"#, "&limit=100"),
        range("needle, all streams", &format!(r#"{{job=~".+"}} |= "{needle}""#), "&limit=100"),
        range("absent needle", r#"{job=~".+"} |= "no such text anywhere""#, "&limit=100"),
        range("json field = id", &format!(r#"{{job="docker"}} | json | trace_id="{needle}""#), "&limit=100"),
        instant("common substring, count", r#"sum(count_over_time({job=~".+"} |= "finished" [RANGE]))"#),
        instant(
            "regex, count",
            r#"sum(count_over_time({job="nginx"} |~ "(POST|PUT) /api/v1/jobs/[0-9]+" [RANGE]))"#,
        ),
        range("volume by service", "sum by (service) (count_over_time({job=\"docker\"}[1m]))", "&step=60"),
        range("error rate by service", "sum by (service) (rate({level=\"error\"}[5m]))", "&step=60"),
        range("levels over time", "sum by (detected_level) (count_over_time({job=~\".+\"}[1m]))", "&step=60"),
        range("json filter, limit 1000", r#"{job="docker"} | json | status="failed""#, "&limit=1000"),
        instant(
            "json filter, count",
            r#"sum by (service) (count_over_time({job="docker"} | json | duration_ms > 800 [RANGE]))"#,
        ),
        range(
            "p99 of one service",
            r#"quantile_over_time(0.99, {job="docker", service="api"} | json | unwrap duration_ms [5m]) by (level)"#,
            "&step=60",
        ),
        instant(
            "logfmt filter, count",
            r#"sum by (component) (count_over_time({job="logfmt"} | logfmt | level="error" [RANGE]))"#,
        ),
        instant(
            "pattern, bytes",
            r#"sum by (method) (bytes_over_time({job="nginx"} | pattern `<_> - - "<method> <_> <_>" <code> <_>` | code="500" [RANGE]))"#,
        ),
    ]
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    let (mut megabytes, mut runs) = (400_u64, 5_u32);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number =
            || args.next().and_then(|n| n.parse().ok()).with_context(|| format!("{arg} needs a number"));
        match arg.as_str() {
            "--mb" => megabytes = number()?,
            "--runs" => runs = u32::try_from(number()?)?.max(1),
            other => bail!("'{other}' is not understood"),
        }
    }
    let folder = tempfile::tempdir()?;
    let (mut process, base) = ingest::logs_server(folder.path())?;
    let (load, end) = ingest::log_load(megabytes, STEP);
    let start = load.start;
    let (mut rows, mut needle) = (0, None);
    for body in testkit::workload::log_bodies(load) {
        http::post(format!("{base}/loki/api/v1/push"), "application/x-protobuf", body.bytes)?.ok()?;
        rows += body.rows;
        // One trace id out of the middle.
        if needle.is_none() && rows > (megabytes << 20) / 400 {
            needle = trace_id(&body.raw);
        }
    }
    let needle = needle.context("the workload has no trace id")?;
    let flush = Request::new("POST", format!("{base}/flush")).timeout(PATIENCE).send()?;
    flush.ok().context("flush")?;
    println!("{rows} rows, {megabytes} MiB of lines; ingest took {:.2} CPU-s", cpu_seconds(process.id())?);
    println!("{:26} {:>9} {:>9} {:>9}", "", "CPU ms", "wall ms", "first ms");
    for question in questions(&needle) {
        ask(&base, process.id(), &question, (start, end), runs).context(question.name)?;
    }
    println!("peak memory {:.0} MiB", peak_mib(process.id())?);
    process.terminate(PATIENCE)?;
    Ok(())
}

/// The first trace id in JSON lines.
fn trace_id(raw: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(raw).ok()?;
    let (_, rest) = text.split_once(r#""trace_id":""#)?;
    rest.get(..32).map(str::to_owned)
}

fn ask(base: &str, pid: u32, question: &Question, (start, end): (i64, i64), runs: u32) -> Result<()> {
    let seconds = (end - start) / 1_000_000_000 + 1;
    let query = question.query.replace("RANGE", &format!("{seconds}s"));
    let mut url = address(base, question.path, &query);
    url.push_str(&match question.path {
        "query" => format!("&time={end}"),
        _ => format!("&start={start}&end={end}{}", question.rest),
    });
    let (before, mut walls) = (cpu_seconds(pid)?, Vec::new());
    for _ in 0..runs {
        let begun = Instant::now();
        let answer = Request::new("GET", &url).timeout(PATIENCE).send()?.ok()?;
        walls.push(begun.elapsed().as_secs_f64() * 1000.0);
        let answer: Value = answer.json()?;
        ensure!(answer.get("status").is_none_or(|status| status == "success"), "{answer}");
    }
    let cpu = (cpu_seconds(pid)? - before) / f64::from(runs) * 1000.0;
    let first = walls[0];
    walls.sort_by(f64::total_cmp);
    println!("{:26} {cpu:9.1} {:9.1} {first:9.1}", question.name, walls[walls.len() / 2]);
    Ok(())
}

/// The URL of a question. An empty selector asks about all streams.
fn address(base: &str, path: &str, query: &str) -> String {
    let escaped: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let name = if path == "series" { "match[]" } else { "query" };
    format!("{base}/loki/api/v1/{path}?{name}={escaped}")
}
