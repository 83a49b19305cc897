//! Measures the needle index: its size, what it costs to build and to ask, and how often it keeps a granule in vain.
//!
//! `cargo run --release -p block --example needle_index`: prints a table per kind of lines and one per kind of needle. The lines are
//! like those of services that log JSON, an HTTP server's access log, and logfmt; each granule has lines of one kind.

use std::time::Instant;

use block::needle::{FixedId, Needle, NeedleBuilder, NeedleIndex, Search};

const ROWS: usize = 4096;
/// Granules of JSON, access log and logfmt: the shares of a mixed day of logs.
const KINDS: [(&str, usize); 3] = [("json", 72), ("access log", 16), ("logfmt", 12)];
const NEEDLES: usize = 2000;

const MESSAGES: [&str; 8] = [
    "request completed",
    "connection refused by upstream",
    "retrying upstream call",
    "context deadline exceeded",
    "connection established with peer",
    "webhook processed",
    "panic: index out of range",
    "database is locked",
];
const AGENTS: [&str; 3] =
    ["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "curl/8.5.0", "kube-probe/1.31"];

/// A pseudo-random sequence that is the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn of(&mut self, alphabet: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(alphabet[self.below(alphabet.len())])).collect()
    }

    fn hex(&mut self, digits: usize) -> String {
        self.of(b"0123456789abcdef", digits)
    }
}

/// The columns of values of one length.
struct Ids {
    trace: Option<FixedId>,
    span: Option<FixedId>,
    peer: Option<FixedId>,
}

/// A JSON line taken apart: ids as values, few different texts, numbers.
fn json(random: &mut Random, ids: &Ids, index: &mut NeedleBuilder) -> usize {
    let bytes = |random: &mut Random, n: usize| (0..n).map(|_| random.next() as u8).collect::<Vec<u8>>();
    let (trace, span) = (bytes(random, 16), bytes(random, 8));
    ids.trace.iter().for_each(|id| index.hex(*id, &trace));
    ids.span.iter().for_each(|id| index.hex(*id, &span));
    if random.below(10) < 3 {
        let peer = format!("12D3KooW{}", random.hex(20));
        ids.peer.iter().for_each(|id| index.value(*id, peer.as_bytes()));
    }
    if random.below(10) < 6 {
        index.text(format!("task-{}", random.hex(6)).as_bytes());
    }
    if random.below(8) == 0 {
        index.text(format!("/api/v1/jobs/{}", random.below(1_000_000)).as_bytes());
    }
    index.text(MESSAGES[random.below(MESSAGES.len())].as_bytes());
    index.numbers(7);
    180
}

fn access(random: &mut Random, at: usize) -> String {
    let octets = [random.below(256), random.below(256), random.below(256)];
    let path = match random.below(3) {
        0 => "/healthz".to_owned(),
        1 => format!("/api/v1/tracks/{}/upload", random.below(1_000_000)),
        _ => format!("/static/app.{}.js", random.hex(8)),
    };
    let agent = AGENTS[random.below(AGENTS.len())];
    format!(
        "10.{}.{}.{} - - [{}] \"GET {path} HTTP/1.1\" 200 {} \"-\" \"{agent}\" rt=0.{:03}",
        octets[0],
        octets[1],
        octets[2],
        1_793_620_800 + at,
        random.below(90_000),
        random.below(1000)
    )
}

fn logfmt(random: &mut Random, ids: &Ids, index: &mut NeedleBuilder) -> usize {
    let trace = random.hex(32);
    ids.trace.iter().for_each(|id| index.value(*id, trace.as_bytes()));
    index.text(MESSAGES[random.below(MESSAGES.len())].as_bytes());
    index.numbers(13);
    150
}

fn main() {
    let mut random = Random(7);
    let mut index = NeedleBuilder::new();
    let ids = Ids { trace: index.fixed(32), span: index.fixed(16), peer: index.fixed(28) };
    println!("| lines | granules | raw MiB | index KiB | bytes/row | build µs/granule |");
    println!("|---|--:|--:|--:|--:|--:|");
    let mut size = 0;
    for (kind, granules) in KINDS {
        let mut raw = 0;
        let started = Instant::now();
        for granule in 0..granules {
            for row in 0..ROWS {
                match kind {
                    "json" => raw += json(&mut random, &ids, &mut index),
                    "logfmt" => raw += logfmt(&mut random, &ids, &mut index),
                    _ => {
                        let line = access(&mut random, granule * ROWS + row);
                        index.text(line.as_bytes());
                        raw += line.len();
                    }
                }
            }
            index.end_granule();
        }
        let took = started.elapsed().as_micros() / granules as u128;
        let bytes = index.size() - size;
        size = index.size();
        println!(
            "| {kind} | {granules} | {:.1} | {:.0} | {:.2} | {took} |",
            raw as f64 / 1048576.0,
            bytes as f64 / 1024.0,
            bytes as f64 / (granules * ROWS) as f64
        );
    }
    let index = NeedleIndex::decode(index.finish().into()).unwrap_or_default();
    println!("\n{} bytes for {} rows\n", size, index.len() * ROWS);
    false_positives(&index, &mut random);
}

/// Random needles that are nowhere: whatever is kept, is kept in vain.
fn false_positives(index: &NeedleIndex, random: &mut Random) {
    const WORD: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
    const MIXED: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    println!("| needle | bytes | granules kept in vain | µs per block of {} granules |", index.len());
    println!("|---|--:|--:|--:|");
    let kinds: [(&str, &[u8]); 4] = [
        ("word", WORD),
        ("letters and digits", MIXED),
        ("hex digits", b"0123456789abcdef"),
        ("digits", b"0123456789"),
    ];
    for (kind, alphabet) in kinds {
        for length in [8, 12, 16, 24, 28, 32] {
            let needles: Vec<Search> = (0..NEEDLES)
                .map(|_| Search::new([vec![Needle::text(random.of(alphabet, length))]]))
                .collect();
            let started = Instant::now();
            let kept: usize = needles
                .iter()
                .map(|needle| index.find(needle).into_iter().filter(|kept| *kept).count())
                .sum();
            let took = started.elapsed().as_secs_f64() * 1e6 / NEEDLES as f64;
            let share = 100.0 * kept as f64 / (NEEDLES * index.len()) as f64;
            println!("| {kind} | {length} | {share:.2} % | {took:.1} |");
        }
    }
}
