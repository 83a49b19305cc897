//! Log lines of three kinds: JSON of services, access logs, logfmt.

use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Body;
use super::proto::{field, number};

const SERVICES: [&str; 7] = ["api", "auth", "checkout", "ingest", "payment", "search", "worker"];
const LEVELS: [(&str, u32); 4] = [("info", 80), ("debug", 10), ("warn", 7), ("error", 3)];
const VERBS: [&str; 6] = ["created", "finished", "accepted", "failed", "retried", "cancelled"];

/// How much to make.
#[derive(Debug, Clone, Copy)]
pub struct LogLoad {
    /// Bytes of lines in all.
    pub bytes: u64,
    /// Bytes of lines in one body.
    pub body_bytes: usize,
    /// Time of the first line, ns since the epoch.
    pub start: i64,
    /// Time between two lines, ns.
    pub step: i64,
    /// The same seed gives the same bytes.
    pub seed: u64,
}

/// Push bodies (snappy block of a protobuf `PushRequest`) of a load, one after the other.
pub fn log_bodies(load: LogLoad) -> impl Iterator<Item = Body> {
    let mut random = StdRng::seed_from_u64(load.seed);
    let mut time = load.start;
    let mut left = load.bytes;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let mut streams: Vec<(String, Vec<u8>)> = Vec::new();
        let (mut raw, mut rows, mut line) = (Vec::new(), 0, String::new());
        while raw.len() < load.body_bytes && raw.len() < left as usize {
            time += load.step;
            line.clear();
            let labels = write_line(&mut random, &mut line);
            let mut entry = Vec::with_capacity(line.len() + 24);
            let mut stamp = Vec::with_capacity(12);
            number(&mut stamp, 1, (time / 1_000_000_000) as u64);
            number(&mut stamp, 2, (time % 1_000_000_000) as u64);
            field(&mut entry, 1, &stamp);
            field(&mut entry, 2, line.as_bytes());
            let at = streams.iter().position(|(l, _)| *l == labels).unwrap_or_else(|| {
                let mut stream = Vec::new();
                field(&mut stream, 1, labels.as_bytes());
                streams.push((labels, stream));
                streams.len() - 1
            });
            field(&mut streams[at].1, 2, &entry);
            raw.extend_from_slice(line.as_bytes());
            raw.push(b'\n');
            rows += 1;
        }
        left = left.saturating_sub(raw.len() as u64);
        let mut request = Vec::with_capacity(raw.len() * 5 / 4);
        for (_, stream) in &streams {
            field(&mut request, 1, stream);
        }
        let bytes = snap::raw::Encoder::new().compress_vec(&request).expect("a body is far below 4 GiB");
        Some(Body { bytes, rows, raw })
    })
}

/// Writes one line and returns the labels of its stream.
pub(super) fn write_line(random: &mut StdRng, line: &mut String) -> String {
    let pick = random.random_range(0..100);
    let level = pick_level(random);
    // Writing to a String cannot fail.
    let _ = if pick < 80 {
        let service = SERVICES[random.random_range(0..SERVICES.len())];
        let _ = write!(
            line,
            r#"{{"level":"{level}","service":"{service}","trace_id":"{:032x}","span_id":"{:016x}","message":"job {} {}","duration_ms":{},"user_id":"u{}","status":"{}"}}"#,
            random.random::<u128>(),
            random.random::<u64>(),
            random.random_range(0..50_000),
            VERBS[random.random_range(0..VERBS.len())],
            random.random_range(1..900),
            random.random_range(0..20_000),
            if level == "error" { "failed" } else { "ok" },
        );
        return format!("{{job=\"docker\", service=\"{service}\", level=\"{level}\"}}");
    } else if pick < 92 {
        write!(
            line,
            r#"10.{}.{}.{} - - "{} /api/v1/jobs/{} HTTP/1.1" {} {} "-" "Mozilla/5.0 (X11; Linux x86_64)""#,
            random.random_range(0..256),
            random.random_range(0..256),
            random.random_range(0..256),
            ["GET", "GET", "GET", "POST", "PUT"][random.random_range(0..5)],
            random.random_range(0..100_000),
            [200, 200, 200, 201, 304, 404, 500][random.random_range(0..7)],
            random.random_range(100..90_000),
        )
    } else {
        write!(
            line,
            r#"ts={} level={level} component=store msg="block {} uploaded" size={} took={}ms"#,
            random.random::<u32>(),
            random.random_range(0..9_999),
            random.random_range(1_000..9_000_000),
            random.random_range(1..4_000),
        )
    };
    if pick < 92 {
        format!("{{job=\"nginx\", host=\"web-{}\"}}", random.random_range(0..12))
    } else {
        format!("{{job=\"logfmt\", pod=\"store-{}\"}}", random.random_range(0..10))
    }
}

fn pick_level(random: &mut StdRng) -> &'static str {
    let mut at = random.random_range(0..100);
    for (level, weight) in LEVELS {
        if at < weight {
            return level;
        }
        at -= weight;
    }
    LEVELS[0].0
}
