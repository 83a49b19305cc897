//! Decisions of the OpenTelemetry Collector on recorded traces, taken by our sampler on the same bytes.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::{Value, json};
use wire::otlp::{Format, Signal};

use super::{Sampler, TailSamplingConfig, split};

/// OTLP/JSON of a recorded trace.
fn request(trace: &Value) -> Value {
    let attribute = |(key, value): (&String, &Value)| {
        let value = match value {
            Value::String(v) => json!({"stringValue": v}),
            Value::Bool(v) => json!({"boolValue": v}),
            Value::Number(v) if v.is_i64() => json!({"intValue": v.to_string()}),
            v => json!({"doubleValue": v}),
        };
        json!({"key": key, "value": value})
    };
    let attributes = |map: &Value| map.as_object().unwrap().iter().map(attribute).collect::<Vec<_>>();
    let spans: Vec<Value> = (trace["spans"].as_array().unwrap().iter().enumerate())
        .map(|(i, span)| {
            let start = 1_700_000_000_000_000_000 + span["offset_ms"].as_u64().unwrap() * 1_000_000;
            let end = start + span["duration_ms"].as_u64().unwrap() * 1_000_000;
            let events: Vec<Value> =
                span["events"].as_array().unwrap().iter().map(|name| json!({"name": name})).collect();
            let mut out = json!({
                "traceId": trace["traceId"], "spanId": format!("{:016x}", i + 1), "name": "span",
                "startTimeUnixNano": start.to_string(), "endTimeUnixNano": end.to_string(),
                "attributes": attributes(&span["attributes"]), "traceState": span["trace_state"],
                "status": {"code": span["status"]}, "events": events,
            });
            if let parent @ 1.. = span["parent"].as_u64().unwrap() {
                out["parentSpanId"] = json!(format!("{parent:016x}"));
            }
            out
        })
        .collect();
    json!({"resourceSpans": [{"resource": {"attributes": attributes(&trace["resource"])}, "scopeSpans": [{"spans": spans}]}]})
}

fn kept(policies: &Value, bodies: &[(String, Bytes)]) -> Result<BTreeSet<String>, String> {
    let config: TailSamplingConfig =
        serde_json::from_value(json!({"policies": policies})).map_err(|e| e.to_string())?;
    let mut sampler = Sampler::new(&config).map_err(|problems| problems.join("; "))?;
    let conditions = sampler.conditions();
    let (mut released, mut names) = (Vec::new(), BTreeSet::new());
    for (name, body) in bodies {
        for piece in split(&conditions, body).map_err(|e| e.to_string())? {
            sampler.add(0, piece.trace, piece.group, piece.facts, &mut released);
        }
        sampler.finish(0, &mut released);
        if released.drain(..).next().is_some() {
            names.insert(name.clone());
        }
    }
    Ok(names)
}

#[test]
fn decides_as_the_collector() {
    let Some(recorded) = testkit::recorded::json::<Value>("sampling.json") else { return };
    let bodies: Vec<(String, Bytes)> = (recorded["traces"].as_array().unwrap().iter())
        .map(|trace| {
            let json = Bytes::from(request(trace).to_string());
            let (body, _) = Signal::Traces.decode(json, Format::Json).unwrap();
            (trace["name"].as_str().unwrap().to_owned(), body)
        })
        .collect();
    let cases = recorded["cases"].as_array().unwrap().iter().map(|case| {
        let want: BTreeSet<String> =
            case["kept"].as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_owned()).collect();
        let result = kept(&case["policies"], &bodies).and_then(|got| match got == want {
            true => Ok(()),
            false => Err(format!("kept {got:?}, recorded {want:?}")),
        });
        (case["name"].as_str().unwrap().to_owned(), result)
    });
    testkit::pending::check(concat!(env!("CARGO_MANIFEST_DIR"), "/src/sampling/sampling.pending"), cases);
}
