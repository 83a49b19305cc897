//! The data set as a store would hold it: the part of ingest that shapes entries, in its shortest form.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Int64Array, StringArray};
use base64::Engine as _;
use logql::{EntryBatch, Metadata};
use model::Labels;
use serde_json::Value;

type Pairs = Vec<(String, String)>;

#[derive(Clone, PartialEq, Eq)]
struct Entry {
    time: i64,
    line: String,
    metadata: Pairs,
}

const SERVICE: [&str; 13] = [
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

const LEVEL: [&str; 14] = [
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];

const INDEXED: [&str; 6] = [
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "k8s.pod.name",
    "k8s.namespace.name",
];

/// One batch per stream, ordered and without duplicates.
pub(crate) fn load(dir: &Path) -> Vec<EntryBatch> {
    let mut streams: BTreeMap<String, (Labels, Vec<Entry>)> = BTreeMap::new();
    let mut add = |labels: Labels, mut entry: Entry| {
        let labels = with_service(&labels);
        let level = detected_level(&labels, &entry);
        match entry.metadata.iter_mut().find(|(n, _)| n == "detected_level") {
            Some((_, value)) => *value = known_level(value).map_or(value.clone(), str::to_owned),
            None => entry.metadata.push(("detected_level".to_owned(), level)),
        }
        streams.entry(labels.to_string()).or_insert_with(|| (labels, Vec::new())).1.push(entry);
    };
    let read =
        |name: &str| -> Value { serde_json::from_slice(&std::fs::read(dir.join(name)).unwrap()).unwrap() };
    for file in ["push.json", "push_meta.json"] {
        for stream in read(file)["streams"].as_array().unwrap() {
            let labels = Labels::from_pairs(strings(&stream["stream"]));
            for value in stream["values"].as_array().unwrap() {
                let entry = Entry {
                    time: value[0].as_str().unwrap().parse().unwrap(),
                    line: value[1].as_str().unwrap().to_owned(),
                    metadata: strings(&value[2]),
                };
                add(labels.clone(), entry);
            }
        }
    }
    for resource in read("otlp.json")["resourceLogs"].as_array().unwrap() {
        for scope in resource["scopeLogs"].as_array().unwrap() {
            for record in scope["logRecords"].as_array().unwrap() {
                let (labels, entry) = otlp(resource, scope, record);
                add(labels, entry);
            }
        }
    }
    streams.into_values().map(|(labels, entries)| batch(labels, entries)).collect()
}

fn batch(labels: Labels, mut entries: Vec<Entry>) -> EntryBatch {
    entries.sort_by_key(|e| e.time);
    let mut distinct: Vec<Entry> = Vec::new();
    for entry in entries {
        let known = distinct.iter().rev().take_while(|e| e.time == entry.time).any(|e| *e == entry);
        if !known {
            distinct.push(entry);
        }
    }
    let mut names: Vec<String> =
        distinct.iter().flat_map(|e| e.metadata.iter().map(|(n, _)| n.clone())).collect();
    names.sort();
    names.dedup();
    let column = |name: &String| {
        let value = |e: &Entry| e.metadata.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        (Arc::from(name.as_str()), distinct.iter().map(value).collect::<StringArray>())
    };
    EntryBatch {
        labels,
        timestamps: distinct.iter().map(|e| e.time).collect::<Vec<_>>().into(),
        lines: StringArray::from_iter_values(distinct.iter().map(|e| &e.line)).into(),
        metadata: Metadata { columns: names.iter().map(column).collect(), rest: None },
    }
    .check()
}

trait Check {
    fn check(self) -> Self;
}

impl Check for EntryBatch {
    fn check(self) -> Self {
        let times: &Int64Array = &self.timestamps;
        assert!(times.values().is_sorted());
        self
    }
}

fn strings(object: &Value) -> Pairs {
    let Some(object) = object.as_object() else { return Vec::new() };
    object.iter().map(|(n, v)| (n.clone(), v.as_str().unwrap().to_owned())).collect()
}

/// The members in order of name, as text.
pub(crate) fn sorted_text(object: &Value) -> String {
    let sorted: BTreeMap<&String, &Value> = object.as_object().into_iter().flatten().collect();
    serde_json::to_string(&sorted).unwrap()
}

fn with_service(labels: &Labels) -> Labels {
    if labels.get("service_name").is_some() {
        return labels.clone();
    }
    let service = SERVICE.iter().find_map(|name| labels.get(name)).unwrap_or("unknown_service").to_owned();
    let mut builder = labels.to_builder();
    builder.set("service_name", &service);
    builder.build()
}

fn known_level(value: &str) -> Option<&'static str> {
    Some(match value.to_ascii_lowercase().as_str() {
        "trace" | "trc" => "trace",
        "debug" | "dbg" => "debug",
        "info" | "inf" | "information" => "info",
        "warn" | "wrn" | "warning" => "warn",
        "error" | "err" => "error",
        "critical" => "critical",
        "fatal" => "fatal",
        _ => return None,
    })
}

fn detected_level(labels: &Labels, entry: &Entry) -> String {
    let normal = |value: &str| known_level(value).map_or(value.to_owned(), str::to_owned);
    if let Some(value) = LEVEL.iter().find_map(|name| labels.get(name)) {
        return normal(value);
    }
    let metadata = |name: &str| entry.metadata.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    if let Some(value) = LEVEL.iter().find_map(|name| metadata(name)) {
        return normal(value);
    }
    if let Some(number) = metadata("severity_number") {
        let names = ["trace", "debug", "info", "warn", "error", "fatal"];
        return match number.parse::<usize>() {
            Ok(n @ 1..=24) => names[(n - 1) / 4].to_owned(),
            Ok(_) => "unknown".to_owned(),
            Err(_) => "info".to_owned(),
        };
    }
    let line = entry.line.trim();
    let value = if line.starts_with('{') && line.ends_with('}') {
        let json: Option<Value> = serde_json::from_str(line).ok();
        json.and_then(|json| LEVEL.iter().find_map(|name| json.get(name)?.as_str().map(str::to_owned)))
    } else if line.contains('=') {
        let pair = |wanted: &&str| {
            line.split_ascii_whitespace().find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                key.eq_ignore_ascii_case(wanted).then(|| value.trim_matches('"').to_owned())
            })
        };
        LEVEL.iter().find_map(pair)
    } else {
        None
    };
    let known = value.as_deref().and_then(known_level);
    known.map_or_else(|| keyword(&entry.line).to_owned(), str::to_owned)
}

fn keyword(line: &str) -> &'static str {
    let line = line.to_lowercase();
    let words = ["trace", "debug", "fatal", "critical", "error", "err", "warning", "warn", "info"];
    let found = words.into_iter().flat_map(|word| line.match_indices(word).map(move |(at, _)| (at, word)));
    let delimited = |(at, word): &(usize, &str)| {
        let before = line[..*at].chars().next_back().is_none_or(|c| " \t\n[({\"=".contains(c));
        before && line[at + word.len()..].chars().next().is_none_or(|c| " \t\n[](){}:,!\"=".contains(c))
    };
    let first = found.filter(delimited).min_by_key(|(at, word)| (*at, usize::MAX - word.len()));
    first.and_then(|(_, word)| known_level(word)).unwrap_or("unknown")
}

fn otlp(resource: &Value, scope: &Value, record: &Value) -> (Labels, Entry) {
    let mut labels = Vec::new();
    let mut from_resource = Vec::new();
    for attribute in resource["resource"]["attributes"].as_array().into_iter().flatten() {
        let name = attribute["key"].as_str().unwrap();
        if INDEXED.contains(&name) {
            labels.push((sanitized(name), text(&attribute["value"])));
        } else {
            flatten(name, &attribute["value"], &mut from_resource);
        }
    }
    if !labels.iter().any(|(n, _)| n == "service_name") {
        labels.push(("service_name".to_owned(), "unknown_service".to_owned()));
    }
    let mut metadata = Vec::new();
    for attribute in record["attributes"].as_array().into_iter().flatten() {
        flatten(attribute["key"].as_str().unwrap(), &attribute["value"], &mut metadata);
    }
    let mut field = |name: &str, value: &Value| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let value = if name.ends_with("_id") { value.to_lowercase() } else { value };
        if !matches!(value.as_str(), "" | "0" | "null") {
            metadata.push((name.to_owned(), value));
        }
    };
    let time = &record["timeUnixNano"];
    field("observed_timestamp", if time.is_null() { &Value::Null } else { &record["observedTimeUnixNano"] });
    field("severity_number", &record["severityNumber"]);
    field("severity_text", &record["severityText"]);
    field("dropped_attributes_count", &record["droppedAttributesCount"]);
    field("flags", &record["flags"]);
    field("trace_id", &record["traceId"]);
    field("span_id", &record["spanId"]);
    metadata.extend(from_resource);
    for attribute in scope["scope"]["attributes"].as_array().into_iter().flatten() {
        flatten(attribute["key"].as_str().unwrap(), &attribute["value"], &mut metadata);
    }
    for (name, key) in [("scope_name", "name"), ("scope_version", "version")] {
        if let Some(value) = scope["scope"][key].as_str().filter(|v| !v.is_empty()) {
            metadata.push((name.to_owned(), value.to_owned()));
        }
    }
    let time = time.as_str().or(record["observedTimeUnixNano"].as_str()).unwrap();
    (Labels::from_pairs(labels), Entry { time: time.parse().unwrap(), line: text(&record["body"]), metadata })
}

fn sanitized(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '_' };
        if c != '_' || !out.ends_with('_') {
            out.push(c);
        }
    }
    out
}

fn flatten(name: &str, value: &Value, out: &mut Pairs) {
    match value["kvlistValue"]["values"].as_array() {
        Some(values) => values
            .iter()
            .for_each(|kv| flatten(&format!("{name}_{}", kv["key"].as_str().unwrap()), &kv["value"], out)),
        None => out.push((sanitized(name), text(value))),
    }
}

fn text(value: &Value) -> String {
    match plain(value) {
        Value::String(text) => text,
        Value::Null => String::new(),
        value => value.to_string(),
    }
}

/// An OTLP value as plain JSON.
fn plain(value: &Value) -> Value {
    let Some((kind, value)) = value.as_object().and_then(|o| o.iter().next()) else { return Value::Null };
    match kind.as_str() {
        "intValue" => value.as_str().map_or(value.clone(), |text| text.parse::<i64>().unwrap().into()),
        "arrayValue" => value["values"].as_array().into_iter().flatten().map(plain).collect(),
        "kvlistValue" => {
            let pairs = value["values"].as_array().into_iter().flatten();
            let sorted: BTreeMap<String, Value> =
                pairs.map(|kv| (kv["key"].as_str().unwrap().to_owned(), plain(&kv["value"]))).collect();
            sorted.into_iter().collect::<serde_json::Map<_, _>>().into()
        }
        "bytesValue" => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap();
            base64::engine::general_purpose::STANDARD.encode(bytes).into()
        }
        _ => value.clone(),
    }
}
