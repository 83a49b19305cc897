//! Input meant to hurt the log store: each piece is refused with 4xx in good time, memory stays bounded, and everybody else is
//! served meanwhile.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use model::Timestamp;
use serde_json::json;
use testkit::http::{Request, Response};
use testkit::port;

use crate::fleet;
use crate::query::{Loki, escape};

/// A neighbour's query and push are answered within this, whatever else goes on.
const NEIGHBOUR: Duration = Duration::from_secs(5);
/// Bytes after decompression that the store is told to take at most; then the memory that it may take in all.
const MAX_DECOMPRESSED: usize = 64 << 20;
const MAX_MEMORY: u64 = 700 << 20;
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";
/// A push of one entry whose labels are the bytes `{`, 0xff, `}`.
const UNREADABLE: &[u8] = b"\x0a\x12\x0a\x03{\xff}\x12\x0b\x0a\x06\x08\x80\xe2\xcf\xaa\x06\x12\x01x";

fn push(port: u16, kind: &str, encoding: &str, body: Vec<u8>) -> Result<Response> {
    let request = Request::new("POST", format!("{}/loki/api/v1/push", fleet::url(port)));
    request.header("content-type", kind).header("content-encoding", encoding).body(body).send()
}

fn stream(labels: &serde_json::Value, line: &str) -> Vec<u8> {
    let time = Timestamp::now().nanos().to_string();
    json!({"streams": [{"stream": labels, "values": [[time, line]]}]}).to_string().into_bytes()
}

fn gzip(bytes: &[u8], times: usize) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    (0..times).try_for_each(|_| encoder.write_all(bytes))?;
    Ok(encoder.finish()?)
}

fn deflate(bytes: &[u8], times: usize) -> Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    (0..times).try_for_each(|_| encoder.write_all(bytes))?;
    Ok(encoder.finish()?)
}

/// A push: its name, `Content-Type`, `Content-Encoding` and body.
type Push = (&'static str, &'static str, &'static str, Vec<u8>);

/// Pushes that nobody should send.
fn pushes() -> Result<Vec<Push>> {
    let good = stream(&json!({"app": "hostile"}), "good");
    let zeros = vec![b' '; 1 << 20];
    let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
    let deep_streams = [br#"{"streams":"#.to_vec(), deep.clone(), b"}".to_vec()].concat();
    let many: serde_json::Map<_, _> = (0..500).map(|i| (format!("label{i}"), json!("x"))).collect();
    let long = json!({"app": "x".repeat(1 << 20)});
    let unreadable =
        [&br#"{"streams":[{"stream":{"a":""#[..], b"\xff\xfe", br#""},"values":[["1","x"]]}]}"#].concat();
    Ok(vec![
        ("json cut short", JSON, "", good[..good.len() / 2].to_vec()),
        ("gzip cut short", JSON, "gzip", {
            let mut b = gzip(&good, 1)?;
            b.truncate(b.len() / 2);
            b
        }),
        ("gzip bomb", JSON, "gzip", gzip(&zeros, 1024)?),
        ("deflate bomb", JSON, "deflate", deflate(&zeros, 1024)?),
        ("gzip of garbage as snappy", PROTOBUF, "gzip", gzip(b"\xff\xff\xff\xff\x07garbage", 1)?),
        // A block of snappy that says it holds 2 GiB.
        ("snappy with a length of 2 GiB", PROTOBUF, "", b"\x80\x80\x80\x80\x08\x00a".to_vec()),
        ("snappy of a field of 2 GiB", PROTOBUF, "", snappy(b"\x0a\xff\xff\xff\xff\x07x")?),
        ("snappy of nested lengths", PROTOBUF, "", snappy(&b"\x0a\x7f".repeat(60))?),
        ("protobuf text that is not UTF-8", PROTOBUF, "", snappy(UNREADABLE)?),
        ("deep json", JSON, "", deep),
        ("deep json in streams", JSON, "", deep_streams),
        ("labels that are not UTF-8", JSON, "", unreadable),
        ("a flood of labels", JSON, "", stream(&json!(many), "x")),
        ("a long label", JSON, "", stream(&long, "x")),
        ("a line of 1 MiB", JSON, "", stream(&json!({"app": "hostile"}), &"x".repeat(1 << 20))),
        ("no media type", "", "", good.clone()),
        ("unknown encoding", JSON, "br", good),
    ])
}

fn snappy(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(snap::raw::Encoder::new().compress_vec(bytes)?)
}

/// Queries that nobody should ask.
fn queries() -> Vec<(&'static str, String)> {
    let app = r#"{app="neighbour"}"#;
    let nested = format!("{}count_over_time({app}[1m]){}", "sum(".repeat(20_000), ")".repeat(20_000));
    vec![
        ("1 MiB of text", format!("{app} |= \"{}\"", "x".repeat(1 << 20))),
        ("a deep expression", "(".repeat(20_000) + "1" + &")".repeat(20_000)),
        ("a deep aggregation", nested),
        ("a chain of operators", "1".to_owned() + &"+1".repeat(60_000)),
        ("a huge repetition", format!("{app} |~ \"((a{{1000}}){{1000}}){{1000}}\"")),
        ("a huge class", format!("{app} |~ \"(\\\\pL{{900}}){{900}}\"")),
        ("too many points", format!("count_over_time({app}[1s])&start=0&end=1700000000&step=1")),
        ("cut short", app[..10].to_owned()),
        ("bytes that are not UTF-8", "%FF%FE".to_owned()),
    ]
}

fn ask(port: u16, query: &str) -> Result<Response> {
    // Some cases bring further parameters, or are escaped already.
    let (text, rest) = query.split_once('&').map_or((query, String::new()), |(t, r)| (t, format!("&{r}")));
    let text = if text.starts_with('%') { text.to_owned() } else { escape(text) };
    let body = format!("query={text}{rest}");
    let request = Request::new("POST", format!("{}/loki/api/v1/query_range", fleet::url(port)));
    request.header("content-type", "application/x-www-form-urlencoded").body(body).send()
}

/// The most memory a process has held so far, in bytes.
fn peak_memory(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? * 1024)
}

#[test]
fn hostile_input_hurts_nobody() -> Result<()> {
    let (port, folder) = (port::free(), tempfile::tempdir()?);
    let settings = json!({"distributor": {"max_decompressed_size": MAX_DECOMPRESSED}});
    let mut logs = fleet::logs_with(port, folder.path(), settings)?.started()?;
    let catastrophe = "a".repeat(30_000) + "!";
    for i in 0..20 {
        push(port, JSON, "", stream(&json!({"app": "neighbour"}), &format!("{catastrophe} {i}")))?.ok()?;
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let neighbour = scope.spawn(|| neighbour(port, &stop));
        let done = attack(port);
        stop.store(true, Ordering::Relaxed);
        let rounds = neighbour.join().map_err(|_| anyhow::anyhow!("the neighbour died"))??;
        done?;
        ensure!(rounds > 0, "the neighbour was never served");
        Ok(())
    })?;
    let peak = peak_memory(logs.id()?)?;
    ensure!(peak <= MAX_MEMORY, "{} MiB of memory were taken", peak >> 20);
    logs.stop()
}

fn attack(port: u16) -> Result<()> {
    for (name, kind, encoding, body) in pushes()? {
        let answer = push(port, kind, encoding, body).context(name)?;
        ensure!((400..500).contains(&answer.status), "{name}: {} {}", answer.status, answer.text());
        ensure!(!answer.text().is_empty(), "{name}: no reason");
    }
    for (name, query) in queries() {
        let answer = ask(port, &query).context(name)?;
        ensure!((400..500).contains(&answer.status), "{name}: {} {}", answer.status, answer.text());
    }
    // Regular expressions that other engines never finish: answered, for matching is linear here.
    for pattern in ["(a+)+$", "(a|aa)+$", "(a*)*b", "^(([a-z])+.)+[A-Z]([a-z])+$"] {
        let query = format!("{{app=\"neighbour\"}} |~ \"{pattern}\"");
        let answer = ask(port, &query)?;
        ensure!(answer.status == 200, "{query}: {} {}", answer.status, answer.text());
    }
    // Several bombs at a time.
    std::thread::scope(|scope| {
        let bombs: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| push(port, JSON, "gzip", gzip(&vec![b' '; 1 << 20], 512)?)))
            .collect();
        for bomb in bombs {
            let answer = bomb.join().map_err(|_| anyhow::anyhow!("a sender died"))??;
            ensure!(matches!(answer.status, 413 | 429 | 503), "{} {}", answer.status, answer.text());
        }
        Ok(())
    })
}

/// Pushes and asks until told to stop; an error if it is ever refused or has to wait.
fn neighbour(port: u16, stop: &AtomicBool) -> Result<u64> {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let text = format!("round {rounds}");
        let time = Timestamp::now().nanos();
        push(port, JSON, "", stream(&json!({"app": "polite"}), &text))?.ok()?;
        let lines =
            Loki(fleet::url(port)).lines(r#"{app="polite"}"#, time - 1, Timestamp::now().nanos() + 1)?;
        ensure!(lines.last().is_some_and(|line| line.text == text), "{text} is not there: {lines:?}");
        let took = started.elapsed();
        ensure!(took <= NEIGHBOUR, "{text} took {took:?}");
        rounds += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(rounds)
}
