//! Questions to the two stores, asked over their products' HTTP APIs, and just enough reading of the answers.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::http::{self, Request};

/// Writes text as a value of a query string.
pub(crate) fn escape(text: &str) -> String {
    let escaped = text.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    escaped.collect()
}

fn json(url: String) -> Result<Value> {
    http::get(&url)?.ok().and_then(|answer| answer.json()).context(url)
}

/// The value of a metric on a page of them, summed over all series whose line contains `part`.
pub(crate) fn metric(page: &str, name: &str, part: &str) -> Result<f64> {
    let text = http::get(page)?.ok()?.text();
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(part));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// A line as the log store returns it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line {
    /// Nanoseconds since the epoch.
    pub(crate) time: i64,
    /// The text.
    pub(crate) text: String,
    /// Labels of its stream.
    pub(crate) labels: BTreeMap<String, String>,
    /// Structured metadata.
    pub(crate) metadata: BTreeMap<String, String>,
    /// What the query's stages made.
    pub(crate) parsed: BTreeMap<String, String>,
}

/// The log store's API.
#[derive(Debug, Clone)]
pub(crate) struct Loki(pub(crate) String);

impl Loki {
    /// Lines of a log query with start ≤ time < end, in order of time, as many as Loki's default limit lets through.
    pub(crate) fn lines(&self, query: &str, start: i64, end: i64) -> Result<Vec<Line>> {
        self.lines_up_to(5000, query, start, end)
    }

    /// As [`lines`](Self::lines), up to a limit that the store was told to allow.
    pub(crate) fn lines_up_to(&self, limit: u64, query: &str, start: i64, end: i64) -> Result<Vec<Line>> {
        let url = format!(
            "{}/loki/api/v1/query_range?query={}&start={start}&end={end}&limit={limit}&direction=forward",
            self.0,
            escape(query)
        );
        let request = Request::new("GET", url).header("x-loki-response-encoding-flags", "categorize-labels");
        let answer: Value = request.send()?.ok()?.json()?;
        ensure!(answer["data"]["resultType"] == "streams", "not streams: {answer}");
        let map = |value: &Value| -> BTreeMap<String, String> {
            let members = value.as_object().into_iter().flatten();
            members
                .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect()
        };
        let mut lines = Vec::new();
        for stream in array(&answer["data"]["result"])? {
            for value in array(&stream["values"])? {
                lines.push(Line {
                    time: value[0].as_str().context("a time is a string")?.parse()?,
                    text: value[1].as_str().context("a line is a string")?.to_owned(),
                    labels: map(&stream["stream"]),
                    metadata: map(&value[2]["structuredMetadata"]),
                    parsed: map(&value[2]["parsed"]),
                });
            }
        }
        lines.sort();
        Ok(lines)
    }

    /// The samples of an instant query by the value of one label (empty where a series has none).
    pub(crate) fn vector(&self, query: &str, label: &str, time: i64) -> Result<BTreeMap<String, f64>> {
        let answer = json(format!("{}/loki/api/v1/query?query={}&time={time}", self.0, escape(query)))?;
        ensure!(answer["data"]["resultType"] == "vector", "not a vector: {answer}");
        let sample = |series: &Value| {
            let value = series["value"][1].as_str().context("a sample is a string")?;
            Ok((series["metric"][label].as_str().unwrap_or_default().to_owned(), value.parse()?))
        };
        array(&answer["data"]["result"])?.iter().map(sample).collect()
    }

    /// Values of a label.
    pub(crate) fn label_values(&self, label: &str) -> Result<BTreeSet<String>> {
        strings(&json(format!("{}/loki/api/v1/label/{label}/values", self.0))?["data"])
    }

    /// Makes blocks of everything in memory.
    pub(crate) fn flush(&self) -> Result<()> {
        http::post(format!("{}/flush", self.0), "", "")?.ok().map(drop)
    }
}

/// A span as the trace store returns it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    /// `service.name` of its resource.
    pub(crate) service: String,
    /// Its name.
    pub(crate) name: String,
}

/// The trace store's API.
#[derive(Debug, Clone)]
pub(crate) struct Tempo(pub(crate) String);

impl Tempo {
    /// The spans of a trace out of the JSON answer, sorted; none if there is no such trace.
    pub(crate) fn trace(&self, id: &str) -> Result<Vec<Span>> {
        let answer = json(format!("{}/api/v2/traces/{id}", self.0))?;
        let mut spans = Vec::new();
        for resource in answer["trace"]["resourceSpans"].as_array().into_iter().flatten() {
            let mut attributes = resource["resource"]["attributes"].as_array().into_iter().flatten();
            let service = attributes.find(|a| a["key"] == "service.name");
            let service = service.and_then(|a| a["value"]["stringValue"].as_str()).unwrap_or_default();
            for scope in array(&resource["scopeSpans"])? {
                for span in array(&scope["spans"])? {
                    let name = span["name"].as_str().unwrap_or_default().to_owned();
                    spans.push(Span { service: service.to_owned(), name });
                }
            }
        }
        spans.sort();
        Ok(spans)
    }

    /// Ids and names of a trace's spans out of the protobuf answer, sorted by name.
    pub(crate) fn trace_protobuf(&self, id: &str) -> Result<Vec<(String, String)>> {
        let request = Request::new("GET", format!("{}/api/v2/traces/{id}", self.0));
        let answer = request.header("accept", "application/protobuf").send()?.ok()?;
        ensure!(
            answer.header("content-type") == Some("application/protobuf"),
            "headers: {:?}",
            answer.headers
        );
        let mut spans = Vec::new();
        // TraceByIDResponse.trace, Trace.resource_spans, ResourceSpans.scope_spans, ScopeSpans.spans
        for span in descend(&answer.body, &[1, 1, 2, 2])? {
            let id = fields(span, 1)?.first().map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect());
            let name = fields(span, 5)?.first().map(|name| String::from_utf8_lossy(name).into_owned());
            spans.push((id.unwrap_or_default(), name.unwrap_or_default()));
        }
        spans.sort_by(|a, b| a.1.cmp(&b.1));
        Ok(spans)
    }

    /// Ids of traces that a TraceQL query finds, with their leading zeros.
    pub(crate) fn search(&self, query: &str, start: i64, end: i64) -> Result<BTreeSet<String>> {
        let (start, end) = (start / 1_000_000_000, end / 1_000_000_000 + 1);
        let url = format!("{}/api/search?q={}&start={start}&end={end}&limit=100", self.0, escape(query));
        let found = json(url)?;
        let id = |found: &Value| found["traceID"].as_str().map(|id| format!("{id:0>32}"));
        array(&found["traces"])?.iter().map(|trace| id(trace).context("a trace has an id")).collect()
    }

    /// Names of tags of a scope.
    pub(crate) fn tags(&self, scope: &str) -> Result<BTreeSet<String>> {
        let answer = json(format!("{}/api/v2/search/tags?scope={scope}", self.0))?;
        let scope = array(&answer["scopes"])?.iter().find(|s| s["name"] == scope).context("no such scope")?;
        strings(&scope["tags"])
    }

    /// Makes blocks of everything in memory.
    pub(crate) fn flush(&self) -> Result<()> {
        http::post(format!("{}/flush", self.0), "", "")?.ok().map(drop)
    }

    /// Values of a tag.
    pub(crate) fn tag_values(&self, tag: &str) -> Result<BTreeSet<String>> {
        let answer = json(format!("{}/api/v2/search/tag/{tag}/values", self.0))?;
        let value = |value: &Value| value["value"].as_str().map(str::to_owned).context("a value is a string");
        array(&answer["tagValues"])?.iter().map(value).collect()
    }
}

fn array(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().with_context(|| format!("not a list: {value}"))
}

fn strings(value: &Value) -> Result<BTreeSet<String>> {
    let text = |value: &Value| value.as_str().map(str::to_owned).context("not text");
    array(value)?.iter().map(text).collect()
}

/// All messages at the end of a path of field numbers.
fn descend<'a>(message: &'a [u8], path: &[u64]) -> Result<Vec<&'a [u8]>> {
    let Some((number, rest)) = path.split_first() else { return Ok(vec![message]) };
    let mut found = Vec::new();
    for inner in fields(message, *number)? {
        found.extend(descend(inner, rest)?);
    }
    Ok(found)
}

/// The length-delimited fields of a protobuf message that have this number.
fn fields(message: &[u8], number: u64) -> Result<Vec<&[u8]>> {
    let mut rest = message;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let length = match key & 7 {
            0 => varint(&mut rest).map(|_| 0)?,
            1 => 8,
            2 => usize::try_from(varint(&mut rest)?)?,
            5 => 4,
            other => anyhow::bail!("wire type {other}"),
        };
        let value = rest.get(..length).context("a field ends early")?;
        rest = &rest[length..];
        if key == number << 3 | 2 {
            found.push(value);
        }
    }
    Ok(found)
}

fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first().context("a number ends early")?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    anyhow::bail!("a number is too long")
}
