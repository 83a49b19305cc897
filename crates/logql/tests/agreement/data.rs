//! Random entries: JSON, logfmt and other lines, well-formed or hostile, with metadata.

use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::{Int64Array, StringArray};
use logql::{EntryBatch, Metadata};
use model::Labels;

/// A small generator of numbers: what a seed gives is always the same.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// An entry as plain texts.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) time: i64,
    pub(crate) line: String,
    pub(crate) metadata: Vec<(String, String)>,
}

/// A stream as plain texts.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) entries: Vec<Entry>,
}

fn text(random: &mut Random) -> String {
    match random.below(8) {
        0 => String::new(),
        1 => format!("v{}", random.below(4)),
        2 => format!("10.0.{}.{}", random.below(3), random.below(256)),
        3 => format!("{:016x}", random.below(usize::MAX)),
        4 => random
            .pick(&["request completed", "connection refused", "a b", "ünï cödé", "GET /x?y=1"])
            .to_owned(),
        _ => random.pick(&["error", "info", "warn", "x", "y"]).to_owned(),
    }
}

fn number(random: &mut Random) -> String {
    match random.below(6) {
        0 => format!("{}", random.below(1000) as i64 - 500),
        1 => format!("{}.{:02}", random.below(100), random.below(100)),
        2 => format!("{}.5", random.below(10)),
        3 => format!("-0.{}", 1 + random.below(9)),
        _ => format!("{}", random.below(20)),
    }
}

fn quantity(random: &mut Random) -> String {
    match random.below(4) {
        0 => format!("{}ms", random.below(3000)),
        1 => format!("{}.5s", random.below(4)),
        2 => format!("{}KB", random.below(30)),
        _ => format!("{} MiB", random.below(3)),
    }
}

fn json_value(random: &mut Random, strange: bool) -> String {
    match random.below(if strange { 11 } else { 7 }) {
        0..=2 => format!("\"{}\"", text(random)),
        3..=5 => number(random),
        6 => format!("\"{}\"", quantity(random)),
        7 => random.pick(&["true", "false", "null", "1e3", "-0", "1.50", "01x"]).to_owned(),
        8 => random.pick(&["[1,2]", "[]", "[{\"a\":1}]", "{}", "{ }"]).to_owned(),
        9 => random
            .pick(&["\"q\\\"uo\\te\"", "\"\\u0065rror\"", "\"tab\\t\"", "\"\u{fffd}x\"", "\"\\/\""])
            .to_owned(),
        _ => format!("{{\"x\":{},\"y\":{}}}", number(random), json_value(random, false)),
    }
}

fn json(random: &mut Random, strange: bool) -> String {
    let keys = ["level", "a", "b", "msg", "app", "dur", "trace", "o", "a_b"];
    let strange_keys = ["we ird", "1st", "o_x", "é", ""];
    let space = if random.chance(15) { " " } else { "" };
    let mut members: Vec<String> = Vec::new();
    for key in keys {
        if random.chance(55) {
            let value = match key {
                "level" => format!("\"{}\"", random.pick(&["error", "info", "warn"])),
                "a" if !strange || random.chance(70) => number(random),
                "dur" => format!("\"{}\"", quantity(random)),
                "o" => format!("{{\"x\":{},\"y\":\"{}\"}}", number(random), text(random)),
                _ => json_value(random, strange),
            };
            members.push(format!("\"{key}\":{space}{value}"));
        }
    }
    if strange && random.chance(30) {
        members.push(format!("\"{}\":{}", random.pick(&strange_keys), json_value(random, true)));
    }
    format!("{{{}}}", members.join(&format!(",{space}")))
}

fn logfmt_value(random: &mut Random, strange: bool) -> String {
    let value = match random.below(4) {
        0 => number(random),
        1 => quantity(random),
        _ => text(random),
    };
    if value.contains([' ', '=']) || random.chance(20) {
        let escapes = strange && random.chance(30);
        return format!(
            "\"{value}{}\"",
            if escapes { random.pick(&["\\n", "\\\"", "\\x", "\\u0041"]) } else { "" }
        );
    }
    value
}

fn logfmt(random: &mut Random, strange: bool) -> String {
    let mut pairs = Vec::new();
    for key in ["level", "a", "b", "msg", "app", "dur", "trace"] {
        if random.chance(60) {
            let value = match key {
                "level" => random.pick(&["error", "info", "warn"]).to_owned(),
                "a" if !strange || random.chance(70) => number(random),
                _ => logfmt_value(random, strange),
            };
            pairs.push(format!("{key}={value}"));
        }
    }
    if strange && random.chance(20) {
        pairs.push(random.pick(&["debug", "empty=", "a=1 a=2", "b=\"\" b=3", "=x", "k\"v=1"]).to_owned());
    }
    pairs.join(" ")
}

fn access(random: &mut Random) -> String {
    format!(
        "10.0.0.{} - - [{}] \"{} /api/v1/{} HTTP/1.1\" {} {} \"-\" \"curl/8\"",
        random.below(256),
        1_700_000_000 + random.below(1000),
        random.pick(&["GET", "POST"]),
        if random.chance(50) { format!("jobs/{}", random.below(1000)) } else { "login".to_owned() },
        random.pick(&["200", "404", "500"]),
        random.below(90_000)
    )
}

fn hostile(random: &mut Random) -> String {
    let mut line = match random.below(6) {
        0 => json(random, true),
        1 => logfmt(random, true),
        2 => "{\"a\":1,\"a\":2,\"b\":{\"a\":\"x\"}}".to_owned(),
        3 => "\u{1b}[31mred\u{1b}[0m {\"a\":1}".to_owned(),
        4 => "{\"_entry\":\"a=1 b=x\",\"level\":\"error\"}".to_owned(),
        _ => random
            .pick(&[
                "",
                " ",
                "{",
                "}",
                "null",
                "[1]",
                "\"",
                "=",
                "\\",
                "a",
                "\u{1}x\u{2}",
                "{}",
                " {\"a\":3} ",
            ])
            .to_owned(),
    };
    // Cut, or something put in.
    if random.chance(40) && !line.is_empty() {
        let mut at = random.below(line.len());
        while !line.is_char_boundary(at) {
            at -= 1;
        }
        match random.chance(50) {
            true => line.truncate(at),
            false => line.insert_str(at, random.pick(&["\"", "{", "\\", " ", "é", "=", ",", "null"])),
        }
    }
    line
}

/// Lines of a program: few shapes, values of known lengths, some always the same.
fn steady(random: &mut Random) -> String {
    let (code, took) = (200 + random.below(3) * 100, random.below(99_000));
    match random.below(3) {
        0 => format!(
            r#"{{"level":"info","app":"x","b":"v1","a":{code},"msg":"{}","o":{{"x":-{}.50}}}}"#,
            random.pick(&["request completed", "connection refused"]),
            1 + random.below(8)
        ),
        1 => format!("level=info app=x{} a={code} b=v1 dur={took}ms", random.below(2)),
        _ => format!(
            "10.0.0.9 - - [{}] \"GET /api/v1/jobs/7 HTTP/1.1\" {code} {took} v1",
            1_000 + random.below(9)
        ),
    }
}

/// Streams with entries of distinct times; well-formed ones only if `strange` is false.
pub(crate) fn streams(random: &mut Random, strange: bool) -> Vec<Stream> {
    let mut time = 0;
    let mut streams: Vec<Stream> = (0..1 + random.below(3))
        .map(|i| {
            let mut labels = vec![("app".to_owned(), format!("s{i}"))];
            if random.chance(40) {
                labels.push(("level".to_owned(), random.pick(&["error", "info"]).to_owned()));
            }
            Stream { labels, entries: Vec::new() }
        })
        .collect();
    let kinds: Vec<usize> = streams.iter().map(|_| random.below(if strange { 7 } else { 4 })).collect();
    let metadata = random.below(4);
    for _ in 0..10 + random.below(50) {
        time += 1 + random.below(700) as i64 * 1_000_000;
        let at = random.below(streams.len());
        let line = match kinds[at] {
            _ if strange && random.chance(10) => hostile(random),
            0 => json(random, strange),
            1 => logfmt(random, strange),
            2 => access(random),
            3 => steady(random),
            4 => hostile(random),
            5 => match random.below(20) {
                0 => hostile(random),
                _ => steady(random),
            },
            _ => match random.below(3) {
                0 => json(random, strange),
                1 => logfmt(random, strange),
                _ => access(random),
            },
        };
        let mut pairs = Vec::new();
        for (name, percent) in [("trace", 50), ("b", 20), ("rare", 30)] {
            let percent = if metadata == 3 && name == "trace" { 100 } else { percent };
            if metadata > 0 && random.chance(percent) {
                pairs.push((name.to_owned(), format!("m{}", random.below(3))));
            }
        }
        streams[at].entries.push(Entry { time, line, metadata: pairs });
    }
    streams.retain(|stream| !stream.entries.is_empty());
    streams
}

/// The stream as a batch of text lines; `rare` is kept in the map, other metadata in columns.
pub(crate) fn batch(stream: &Stream) -> EntryBatch {
    let entries = &stream.entries;
    let mut columns = Vec::new();
    for name in ["trace", "b"] {
        let value = |entry: &Entry| entry.metadata.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let values: StringArray = entries.iter().map(value).collect();
        columns.push((name.into(), values));
    }
    let mut rest = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for entry in entries {
        for (name, value) in entry.metadata.iter().filter(|(name, _)| name == "rare") {
            rest.keys().append_value(name);
            rest.values().append_value(value);
        }
        rest.append(true).unwrap();
    }
    EntryBatch {
        labels: Labels::from_pairs(stream.labels.iter().map(|(n, v)| (n.as_str(), v.as_str()))),
        timestamps: Int64Array::from(entries.iter().map(|e| e.time).collect::<Vec<_>>()),
        lines: StringArray::from_iter_values(entries.iter().map(|e| &e.line)).into(),
        metadata: Metadata { columns, rest: Some(rest.finish()) },
    }
}
