//! One line and one span through the whole system: a file in Docker's format and a real SDK on one end, the APIs that
//! Grafana asks on the other. Split over four processes and in one, out of memory, after a power cut and out of blocks: always
//! the same answers.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use model::Timestamp;
use serde_json::{Value, json};

use crate::clients;
use crate::fleet::Fleet;
use crate::query::{Line, Loki, Span, Tempo, metric};
use crate::service::until;

/// A trace that the client makes: its kind and id.
type Planned = (&'static str, &'static str);

/// Sent over gRPC. FNV-1a-64 of the Collector's default seed and the id puts the ordinary ones at 9.28 % and 3.68 % of the
/// range, which a share of 10 % keeps, and at 64.56 % and 85.86 %, which it drops; errors and slow ones lie beyond it too.
const OVER_GRPC: [Planned; 6] = [
    ("error", "cd613e30d8f16adf91b7584a2265b1f5"),
    ("slow", "78e510617311d8a3c2ce6f447ed4d57b"),
    ("ordinary", "ffffffffffffffffffffffffffffffff"),
    ("ordinary", "f3c64af775a89294c2cd789a380208a9"),
    ("ordinary", "4bf92f3577b34da6a3ce929d0e0e4736"),
    ("ordinary", "0102030405060708090a0b0c0d0e0f10"),
];

/// Sent over HTTP: ordinary ones at 9.70 % and at 17.38 % and 50.89 %.
const OVER_HTTP: [Planned; 5] = [
    ("error", "35bf992dc9e9c616612e7696a6cecc1b"),
    ("slow", "e4b06ce60741c7a87ce42c8218072e8c"),
    ("ordinary", "b9d179e06c0fd4f5f8130c4237730edf"),
    ("ordinary", "9b810e766ec9d28663ca828dd5f4b3b2"),
    ("ordinary", "b2221a58008a05a6c4647159c324c985"),
];

/// The ordinary ones within the share.
const WITHIN_SHARE: [&str; 3] = [
    "ffffffffffffffffffffffffffffffff",
    "f3c64af775a89294c2cd789a380208a9",
    "b9d179e06c0fd4f5f8130c4237730edf",
];

const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MILLISECOND;
/// Bytes after which Docker breaks a line into records.
const RECORD: usize = 16 << 10;

#[test]
fn split() -> Result<()> {
    story(Fleet::split, true)
}

#[test]
fn all_in_one() -> Result<()> {
    story(Fleet::all_in_one, false)
}

fn story(start: fn(&Value) -> Result<Fleet>, sampled: bool) -> Result<()> {
    let folder = tempfile::tempdir()?;
    // Two minutes ago, whole milliseconds: Grafana's picture of now ends some seconds early.
    let now = Timestamp::now().nanos() / MILLISECOND * MILLISECOND;
    let day = Day { start: now - 120 * SECOND };
    let web = folder.path().join("web-json.log");
    day.write_lines(&web, 0..3)?;
    day.write_lines(&folder.path().join("till-json.log"), 0..1)?;
    let mut fleet = start(&jobs(folder.path()))?;
    // The rest comes while the file is read.
    day.write_lines(&web, 3..DAY.len())?;
    for (protocol, address, plan) in
        [("grpc", &fleet.otlp_grpc, &OVER_GRPC[..]), ("http", &fleet.otlp_http, &OVER_HTTP[..])]
    {
        let mut args = vec![protocol.to_owned(), address.clone(), protocol.to_owned(), day.start.to_string()];
        args.extend(plan.iter().map(|(kind, id)| format!("{kind}={id}")));
        clients::run("shop.py", &args)?;
    }
    let all: Vec<Planned> = OVER_GRPC.iter().chain(&OVER_HTTP).copied().collect();
    let keep = |(kind, id): &&Planned| !sampled || *kind != "ordinary" || WITHIN_SHARE.contains(id);
    let kept: Vec<Planned> = all.iter().filter(keep).copied().collect();
    if sampled {
        check_decisions(&fleet, all.len(), kept.len())?;
    }
    let check = |fleet: &Fleet| -> Result<()> {
        day.check_lines(&fleet.loki, folder.path())?;
        day.check_records(&fleet.loki)?;
        day.check_traces(&fleet.tempo, &all, &kept)?;
        day.jump(&fleet.loki, &fleet.tempo)
    };
    check(&fleet)?;
    // The answers must not tell where the data lies: in memory again after a replay, and in blocks.
    fleet.cut_power().context("power cut")?;
    check(&fleet).context("after a power cut")?;
    fleet.flush()?;
    check(&fleet).context("out of blocks")?;
    fleet.stop()
}

/// What the agent reads: one job keeps JSON lines whole, the other puts their message in their place.
fn jobs(folder: &Path) -> Value {
    let job = |name: &str, file: &str, more: Value| {
        let fields = json!({"level": "level", "time": "timestamp", "message": "message"});
        let stages = [
            json!({"docker": {}}),
            json!({"json": {"expressions": fields}}),
            json!({"labels": {"level": null}}),
            json!({"timestamp": {"source": "time", "format": "RFC3339Nano"}}),
        ];
        let stages: Vec<&Value> = stages.iter().chain(more.as_array().into_iter().flatten()).collect();
        let labels = json!({"job": name, "service": name, "__path__": folder.join(file)});
        let targets = json!([{"targets": ["localhost"], "labels": labels}]);
        json!({"job_name": name, "static_configs": targets, "pipeline_stages": stages})
    };
    let output = json!([{"output": {"source": "message"}}]);
    json!([job("web", "web-*.log", json!([])), job("till", "till-*.log", output)])
}

/// What a container wrote: level, stream, and whether the line is JSON (a length fills up its message) or plain.
const DAY: [(&str, &str, Option<usize>); 6] = [
    ("info", "stdout", Some(0)),
    ("", "stdout", None),
    ("error", "stderr", Some(0)),
    ("info", "stdout", Some(2 * RECORD)),
    ("warn", "stdout", Some(0)),
    ("", "stderr", None),
];

/// The times and texts of a run.
struct Day {
    start: i64,
}

impl Day {
    fn end(&self) -> i64 {
        self.start + 100 * SECOND
    }

    /// The text of a line. JSON lines are of the error trace that goes over gRPC.
    fn text(&self, number: usize) -> String {
        let (level, _, fill) = DAY[number];
        let Some(fill) = fill else { return format!("plain line {number}, no JSON") };
        let message = format!("message {number}{}", "~".repeat(fill));
        let (time, trace) = (Timestamp(self.time(number)), OVER_GRPC[0].1);
        format!(
            r#"{{"level":"{level}","timestamp":"{time}","trace_id":"{trace}","order":{number},"message":"{message}"}}"#
        )
    }

    /// The time that a line has in the store: its own, or that of its record.
    fn time(&self, number: usize) -> i64 {
        self.start + number as i64 * SECOND + 123 * MILLISECOND
    }

    /// Appends lines to a log file as Docker's json-file driver does.
    fn write_lines(&self, path: &Path, numbers: std::ops::Range<usize>) -> Result<()> {
        let mut file = std::fs::File::options().create(true).append(true).open(path)?;
        for number in numbers {
            let (_, stream, fill) = DAY[number];
            // A JSON line carries its own time, so the record's must not be seen.
            let record_time = self.time(number) + if fill.is_some() { 7 * MILLISECOND } else { 0 };
            let line = self.text(number) + "\n";
            // All text is ASCII.
            for part in line.as_bytes().chunks(RECORD) {
                let log = String::from_utf8_lossy(part);
                writeln!(
                    file,
                    "{}",
                    json!({"log": log, "stream": stream, "time": Timestamp(record_time).to_string()})
                )?;
            }
        }
        Ok(())
    }

    /// The lines of the files are there once, with their labels, times and levels.
    fn check_lines(&self, loki: &Loki, folder: &Path) -> Result<()> {
        let lines = until("all lines of the file", || {
            let lines = loki.lines(r#"{job="web"}"#, self.start, self.end())?;
            ensure!(lines.len() >= DAY.len(), "{} lines of {}", lines.len(), DAY.len());
            Ok(lines)
        })?;
        let texts: Vec<_> = lines.iter().map(|line| (line.time, line.text.clone())).collect();
        let expected: Vec<_> = (0..DAY.len()).map(|number| (self.time(number), self.text(number))).collect();
        ensure!(texts == expected, "other lines or times:\n{texts:?}\n{expected:?}");
        let file = folder.join("web-json.log").display().to_string();
        for (line, (level, stream, _)) in lines.iter().zip(DAY) {
            let mut labels =
                vec![("filename", &*file), ("job", "web"), ("service", "web"), ("service_name", "web")];
            labels.push(("stream", stream));
            labels.extend((!level.is_empty()).then_some(("level", level)));
            let labels =
                labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            ensure!(line.labels == labels, "labels of {line:?}");
        }
        let found = |query: &str| -> Result<Vec<usize>> {
            let lines = loki.lines(query, self.start, self.end())?;
            let number = |line: &Line| Ok((line.time - self.start) as usize / SECOND as usize);
            lines.iter().map(number).collect()
        };
        let check = |query: &str, expected: &[usize]| -> Result<()> {
            let numbers = found(query)?;
            ensure!(numbers == expected, "{query} finds {numbers:?}, not {expected:?}");
            Ok(())
        };
        check(r#"{job="web"} | json | level="error""#, &[2])?;
        check(r#"{service_name="web"} | json | order > 2 | __error__="""#, &[3, 4])?;
        check(r#"{job="web", level="info"} |= "message""#, &[0, 3])?;
        check(r#"{job="web"} != "message""#, &[1, 5])?;
        check(r#"{job="web"} |~ "~{1000}""#, &[3])?;

        let counts =
            loki.vector(r#"sum by (level) (count_over_time({job="web"}[5m]))"#, "level", self.end())?;
        let expected = [("", 2.0), ("error", 1.0), ("info", 2.0), ("warn", 1.0)];
        ensure!(
            counts == expected.map(|(level, n)| (level.to_owned(), n)).into(),
            "counts by level: {counts:?}"
        );

        let till = until("the line of the till", || {
            let lines = loki.lines(r#"{service="till"}"#, self.start, self.end())?;
            lines.into_iter().next().context("no line")
        })?;
        ensure!(till.text == "message 0" && till.time == self.time(0), "the output stage left {till:?}");
        Ok(())
    }

    /// The SDK's log records are there, under the names of their services, with the context in which they were made.
    fn check_records(&self, loki: &Loki) -> Result<()> {
        for (protocol, plan) in [("grpc", &OVER_GRPC[..]), ("http", &OVER_HTTP[..])] {
            let query = format!(r#"{{service_name="frontend-{protocol}"}}"#);
            let records = until("log records of the SDK", || {
                let records = loki.lines(&query, self.start, self.end())?;
                ensure!(records.len() >= plan.len(), "{} of {} for {query}", records.len(), plan.len());
                Ok(records)
            })?;
            ensure!(records.len() == plan.len(), "too many: {records:?}");
            for (number, (record, (_, id))) in records.iter().zip(plan).enumerate() {
                let is = |name: &str, value: &str| record.metadata.get(name).is_some_and(|v| v == value);
                let whole = record.text == format!("order {number} is done")
                    && record.labels.get("service_namespace").is_some_and(|name| name == "shop")
                    && is("trace_id", id)
                    && is("order_number", &number.to_string())
                    && is("detected_level", "info")
                    && is("severity_text", "INFO")
                    && record.metadata.get("span_id").is_some_and(|id| id.len() == 16);
                ensure!(whole, "the record of {id} came as {record:?}");
            }
            let refused = format!(r#"{{service_name="payment-{protocol}"}} | trace_id="{}""#, plan[0].1);
            let refused = until("the record of the failed payment", || {
                loki.lines(&refused, self.start, self.end())?.pop().context("no record")
            })?;
            ensure!(
                refused.text == "card refused" && refused.metadata["detected_level"] == "error",
                "{refused:?}"
            );
        }
        let names = loki.label_values("service_name")?;
        let expected = ["frontend-grpc", "frontend-http", "payment-grpc", "payment-http", "till", "web"];
        ensure!(names == expected.map(str::to_owned).into(), "services: {names:?}");
        Ok(())
    }

    /// Kept traces are whole under their ids and found by what is in them; the others are not there.
    fn check_traces(&self, tempo: &Tempo, all: &[Planned], kept: &[Planned]) -> Result<()> {
        for planned @ (kind, id) in all {
            if !kept.contains(planned) {
                let spans = tempo.trace(id)?;
                ensure!(spans.is_empty(), "the {kind} trace {id} was to be dropped: {spans:?}");
                continue;
            }
            let protocol = if OVER_GRPC.contains(planned) { "grpc" } else { "http" };
            let span = |service: &str, name: &str| Span {
                service: format!("{service}-{protocol}"),
                name: name.to_owned(),
            };
            let whole = [
                span("frontend", "GET /order"),
                span("frontend", "select stock"),
                span("payment", "charge card"),
            ];
            let spans = until("all spans of a trace", || {
                let spans = tempo.trace(id)?;
                ensure!(spans.len() >= whole.len(), "the {kind} trace {id} has {spans:?}");
                Ok(spans)
            })?;
            ensure!(spans == whole, "the {kind} trace {id} has {spans:?}");
            let spans = tempo.trace_protobuf(id)?;
            let whole =
                ["GET /order", "charge card", "select stock"].map(|name| ((*id).to_owned(), name.to_owned()));
            ensure!(spans == whole, "the {kind} trace {id} as protobuf has {spans:?}");
        }
        let search = |query: &str, expected: &dyn Fn(&Planned) -> bool| -> Result<()> {
            let expected: BTreeSet<String> =
                kept.iter().filter(|planned| expected(planned)).map(|(_, id)| (*id).to_owned()).collect();
            let found = tempo.search(query, self.start - SECOND, self.end())?;
            ensure!(found == expected, "{query} finds {found:?}, not {expected:?}");
            Ok(())
        };
        let over_grpc = |planned: &Planned| OVER_GRPC.contains(planned);
        search("{ status = error }", &|(kind, _)| *kind == "error")?;
        search(r#"{ resource.service.name = "frontend-grpc" }"#, &over_grpc)?;
        search(r#"{ resource.service.name = "frontend-grpc" && duration > 500ms }"#, &|planned| {
            over_grpc(planned) && planned.0 == "slow"
        })?;
        search("{ duration > 500ms }", &|(kind, _)| *kind == "slow")?;
        search(r#"{ span.card.kind = "credit" && status = error }"#, &|(kind, _)| *kind == "error")?;
        search(r#"{ name = "GET /order" } >> { status = error }"#, &|(kind, _)| *kind == "error")?;
        search(r#"{ resource.service.name = "nobody" }"#, &|_| false)?;
        let tags = tempo.tags("span")?;
        ensure!(
            tags == ["card.kind", "order.number", "stock.left"].map(str::to_owned).into(),
            "tags: {tags:?}"
        );
        let names = tempo.tag_values("resource.service.name")?;
        let expected = ["frontend-grpc", "frontend-http", "payment-grpc", "payment-http"];
        ensure!(names == expected.map(str::to_owned).into(), "services: {names:?}");
        Ok(())
    }

    /// From a line to the trace it belongs to, as one does in Grafana.
    fn jump(&self, loki: &Loki, tempo: &Tempo) -> Result<()> {
        let lines = loki.lines(r#"{job="web"} | json | level="error""#, self.start, self.end())?;
        let id = lines.first().and_then(|line| line.parsed.get("trace_id")).context("no id in the line")?;
        let spans = tempo.trace(id)?;
        ensure!(spans.iter().any(|span| span.name == "charge card"), "the trace of the line has {spans:?}");
        Ok(())
    }
}

/// Waits for every trace's decision.
fn check_decisions(fleet: &Fleet, all: usize, kept: usize) -> Result<()> {
    const NAME: &str = "otelcol_processor_tail_sampling_count_traces_sampled_total";
    let count = |sampled: &str| metric(&fleet.router_metrics, NAME, &format!("sampled=\"{sampled}\""));
    until("all decisions of the sampler", || {
        let (yes, no) = (count("true")?, count("false")?);
        ensure!((yes, no) == (kept as f64, (all - kept) as f64), "{yes} kept and {no} dropped of {all}");
        Ok(())
    })
}
