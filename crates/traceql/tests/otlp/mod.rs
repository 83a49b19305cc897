//! OTLP/JSON to batches, all columns loaded: small, slow, for tests only.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, FixedSizeBinaryBuilder, Float64Builder, Int64Builder, StringBuilder,
};
use arrow_array::{Int64Array, StringArray, UInt8Array};
use serde_json::Value as Json;
use traceql::{AttributeColumn, EventColumns, LinkColumns, Scope, SpanBatch};

/// A span with what surrounds it.
struct Row<'j> {
    trace: Vec<u8>,
    start: i64,
    span: &'j Json,
    resource: &'j Json,
    scope: &'j Json,
}

/// Batches of at most `traces` traces each.
pub(crate) fn batches(otlp: &Json, traces: usize) -> Vec<SpanBatch> {
    let mut by_trace: BTreeMap<Vec<u8>, Vec<Row<'_>>> = BTreeMap::new();
    for rs in list(&otlp["resourceSpans"]) {
        for ss in list(&rs["scopeSpans"]) {
            for span in list(&ss["spans"]) {
                let trace = hex(&span["traceId"]);
                let start = int(&span["startTimeUnixNano"]);
                let row =
                    Row { trace: trace.clone(), start, span, resource: &rs["resource"], scope: &ss["scope"] };
                by_trace.entry(trace).or_default().push(row);
            }
        }
    }
    let mut all: Vec<Vec<Row<'_>>> = by_trace.into_values().collect();
    all.iter_mut().for_each(|spans| spans.sort_by_key(|r| r.start));
    all.chunks(traces).map(batch).collect()
}

fn batch(traces: &[Vec<Row<'_>>]) -> SpanBatch {
    let rows: Vec<&Row<'_>> = traces.iter().flatten().collect();
    let mut trace_offsets = vec![0];
    let mut end = 0;
    for trace in traces {
        end += trace.len() as u32;
        trace_offsets.push(end);
    }
    let strings =
        |of: &dyn Fn(&Row<'_>) -> Option<String>| -> StringArray { rows.iter().map(|r| of(r)).collect() };
    let numbers = |of: &dyn Fn(&Row<'_>) -> i64| -> Int64Array { rows.iter().map(|r| Some(of(r))).collect() };
    let bytes =
        |of: &dyn Fn(&Row<'_>) -> i64| -> UInt8Array { rows.iter().map(|r| Some(of(r) as u8)).collect() };
    let mut attributes = HashMap::new();
    let attribute_rows = |of: &dyn Fn(&Row<'_>) -> Json| rows.iter().map(|r| of(r)).collect::<Vec<_>>();
    for (scope, items) in [
        (Scope::Span, attribute_rows(&|r| r.span["attributes"].clone())),
        (Scope::Resource, attribute_rows(&|r| r.resource["attributes"].clone())),
        (Scope::Instrumentation, attribute_rows(&|r| r.scope["attributes"].clone())),
    ] {
        for (name, column) in columns(&items) {
            attributes.insert((scope, name), column);
        }
    }
    let items = |key: &str| {
        let mut offsets = vec![0];
        let mut out = Vec::new();
        for row in &rows {
            out.extend(list(&row.span[key]).iter().cloned());
            offsets.push(out.len() as u32);
        }
        (offsets, out)
    };
    let (event_offsets, events) = items("events");
    let (link_offsets, links) = items("links");
    let item_attributes = |items: &[Json]| {
        columns(&items.iter().map(|i| i["attributes"].clone()).collect::<Vec<_>>()).into_iter().collect()
    };
    SpanBatch {
        trace_offsets,
        trace_id: ids(rows.iter().map(|r| r.trace.clone()), 16),
        span_id: ids(rows.iter().map(|r| hex(&r.span["spanId"])), 8),
        parent_span_id: ids(rows.iter().map(|r| hex(&r.span["parentSpanId"])), 8),
        start: numbers(&|r| r.start),
        duration: numbers(&|r| int(&r.span["endTimeUnixNano"]) - r.start),
        kind: bytes(&|r| int(&r.span["kind"])),
        status: bytes(&|r| int(&r.span["status"]["code"])),
        service_name: strings(&|r| {
            list(&r.resource["attributes"])
                .iter()
                .find(|a| a["key"] == "service.name")
                .and_then(|a| text(&a["value"]["stringValue"]))
        }),
        name: strings(&|r| Some(text(&r.span["name"]).unwrap_or_default())),
        status_message: Some(strings(&|r| text(&r.span["status"]["message"]))),
        scope_name: Some(strings(&|r| text(&r.scope["name"]))),
        scope_version: Some(strings(&|r| text(&r.scope["version"]))),
        attributes,
        events: Some(EventColumns {
            offsets: event_offsets,
            name: events.iter().map(|e| Some(text(&e["name"]).unwrap_or_default())).collect(),
            time: events.iter().map(|e| Some(int(&e["timeUnixNano"]))).collect(),
            attributes: item_attributes(&events),
        }),
        links: Some(LinkColumns {
            offsets: link_offsets,
            trace_id: ids(links.iter().map(|l| hex(&l["traceId"])), 16),
            span_id: ids(links.iter().map(|l| hex(&l["spanId"])), 8),
            attributes: item_attributes(&links),
        }),
    }
}

/// Columns of the attribute lists, one list per row.
fn columns(rows: &[Json]) -> Vec<(Arc<str>, AttributeColumn)> {
    let mut names: Vec<&str> = rows.iter().flat_map(list).filter_map(|a| a["key"].as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| (Arc::from(name), column(name, rows))).collect()
}

fn column(name: &str, rows: &[Json]) -> AttributeColumn {
    let (mut strings, mut arrays) = (StringBuilder::new(), StringBuilder::new());
    let (mut ints, mut floats, mut bools) =
        (Int64Builder::new(), Float64Builder::new(), BooleanBuilder::new());
    for row in rows {
        let value = list(row).iter().find(|a| a["key"] == name).map(|a| &a["value"]);
        let at = |kind: &str| value.map(|v| &v[kind]).filter(|v| !v.is_null());
        strings.append_option(at("stringValue").and_then(|v| v.as_str()));
        ints.append_option(at("intValue").map(int));
        floats.append_option(at("doubleValue").and_then(|v| v.as_f64()));
        bools.append_option(at("boolValue").and_then(|v| v.as_bool()));
        arrays.append_option(at("arrayValue").map(|v| v.to_string()));
    }
    AttributeColumn {
        strings: Some(strings.finish()),
        ints: Some(ints.finish()),
        floats: Some(floats.finish()),
        bools: Some(bools.finish()),
        arrays: Some(arrays.finish()),
    }
}

fn ids(values: impl Iterator<Item = Vec<u8>>, size: i32) -> arrow_array::FixedSizeBinaryArray {
    let mut out = FixedSizeBinaryBuilder::new(size);
    for mut value in values {
        value.resize(size as usize, 0);
        out.append_value(&value).expect("the size fits");
    }
    out.finish()
}

fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], |a| a)
}

fn text(json: &Json) -> Option<String> {
    json.as_str().map(str::to_owned)
}

/// A number, or a number as text; 0 when absent.
pub(crate) fn int(json: &Json) -> i64 {
    json.as_i64().or_else(|| json.as_str()?.parse().ok()).unwrap_or(0)
}

fn hex(json: &Json) -> Vec<u8> {
    let text = json.as_str().unwrap_or("");
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex")).collect()
}
