//! Bodies and answers recorded from the real products.

use std::collections::HashMap;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use wire::decompress::{Encoding, decompress};
use wire::loki::{Dialect, read_push};
use wire::otlp::json::{Style, from_protobuf, to_protobuf};
use wire::otlp::{Format, Signal, encode, traces};

const MAX: usize = 1 << 20;

/// Reads a recording; `None` (said aloud) where the recordings are not around.
fn recorded(name: &str) -> Option<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance").join(name);
    match std::fs::read(&path) {
        Ok(text) => Some(serde_json::from_slice(&text).unwrap()),
        Err(error) => {
            eprintln!("skipped: no recorded answers at {}: {error}", path.display());
            None
        }
    }
}

/// The status that decoding alone decides: 400 for what is no push, 422 for one without streams, and
/// success, which validation may still turn into a refusal.
fn status(case: &Value) -> u64 {
    let header = |name: &str| case["headers"][name].as_str().unwrap_or_default();
    let body = Bytes::from(STANDARD.decode(case["body_base64"].as_str().unwrap()).unwrap());
    let path = case["path"].as_str().unwrap();
    if path == "/loki/api/v1/push" {
        let push = read_push(body, header("Content-Type"), header("Content-Encoding"), Dialect::V1, MAX);
        return match push {
            Err(_) => 400,
            Ok(push) if push.streams.is_empty() => 422,
            Ok(push) if push.streams.iter().any(|stream| model::Labels::parse(&stream.labels).is_err()) => {
                400
            }
            Ok(_) => 204,
        };
    }
    let (signal, success) = if path == "/v1/traces" { (Signal::Traces, 200) } else { (Signal::Logs, 204) };
    let Some(format) = Format::from_content_type(header("Content-Type")) else { return 400 };
    let Some(encoding) = Encoding::parse(header("Content-Encoding")) else { return 400 };
    match decompress(body, encoding, MAX).map(|body| signal.decode(body, format)) {
        Ok(Ok((_, counts))) if counts.without_trace_id + counts.without_span_id > 0 => 400,
        Ok(Ok((_, counts))) if signal == Signal::Logs && counts.items == 0 => 422,
        Ok(Ok(_)) => success,
        _ => 400,
    }
}

#[test]
fn pushes_get_their_status() {
    let Some(cases) = recorded("push.json") else { return };
    /// Decided by validation or routing, after or before decoding.
    const NOT_BY_DECODING: [&str; 3] = ["ts-negative", "labels-16", "get-not-allowed"];
    for case in cases.as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let found = status(case);
        if NOT_BY_DECODING.contains(&name) {
            continue;
        }
        assert_eq!(Some(found), case["status"].as_u64(), "{name}: {}", case["response"]);
    }
}

/// Every span of the recorded trace-by-id answers looks as it does when our JSON is made of the
/// request that brought it.
#[test]
fn spans_look_as_tempo_shows_them() {
    let (Some(sent), Some(cases)) = (recorded("traces/otlp.json"), recorded("traces/cases.json")) else {
        return;
    };
    let requests = match sent {
        Value::Array(requests) => requests,
        one => vec![one],
    };
    let mut shown: HashMap<String, Value> = HashMap::new();
    for request in &requests {
        let body = to_protobuf(Signal::Traces, request.to_string().as_bytes()).unwrap();
        traces::visit_spans(&body, |span| {
            let group = encode::ResourceGroup {
                resource: span.resource,
                schema_url: &[],
                scopes: vec![encode::ScopeGroup {
                    scope: span.scope,
                    schema_url: &[],
                    items: vec![span.span],
                }],
            };
            let alone = encode::request(&[group]);
            let json = from_protobuf(Signal::Traces, &alone, Style::Tempo).unwrap();
            let json: Value = serde_json::from_str(&json).unwrap();
            let span = sorted(&json["resourceSpans"][0]["scopeSpans"][0]["spans"][0]);
            shown.insert(format!("{}{}", span["traceId"], span["spanId"]), span);
        })
        .unwrap();
    }
    let mut compared = 0;
    for case in cases.as_array().unwrap() {
        let groups = [&case["body"]["batches"], &case["body"]["trace"]["resourceSpans"]];
        let scopes =
            groups.iter().filter_map(|g| g.as_array()).flatten().flat_map(|g| g["scopeSpans"].as_array());
        for span in scopes.flatten().flat_map(|scope| scope["spans"].as_array()).flatten() {
            let span = sorted(span);
            let Some(ours) = shown.get(&format!("{}{}", span["traceId"], span["spanId"])) else { continue };
            assert_eq!(*ours, span);
            compared += 1;
        }
    }
    assert!(compared > 20, "only {compared} spans were found in both");
}

/// Attribute lists sorted by key: their order is free.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(values) => {
            let mut values: Vec<_> = values.iter().map(sorted).collect();
            values.sort_by_key(|value| value["key"].as_str().map(str::to_owned));
            values.into()
        }
        Value::Object(members) => {
            members.iter().map(|(k, v)| (k.clone(), sorted(v))).collect::<serde_json::Map<_, _>>().into()
        }
        other => other.clone(),
    }
}
