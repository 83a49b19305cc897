//! Answers recorded from Tempo on a fixed data set, compared as its checker does: order free, numbers to 1e-9,
//! of an error only that it is one.

mod otlp;

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value as Json, json};
use traceql::{Metrics, MetricsParams, Query, Search, SearchParams, SpanBatch, TraceResult, Value, parse};

const SECOND: i64 = 1_000_000_000;

/// Cases that are answered otherwise, one id a line with the reason.
const KNOWN: &str = include_str!("data/known_differences.txt");

#[test]
fn recorded_answers_are_met() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance/traces");
    let (Ok(cases), Ok(data)) =
        (std::fs::read_to_string(dir.join("cases.json")), std::fs::read_to_string(dir.join("otlp.json")))
    else {
        eprintln!("skipped: no recorded answers at {}", dir.display());
        return;
    };
    let cases: Vec<Json> = serde_json::from_str(&cases).expect("cases");
    let batches = otlp::batches(&serde_json::from_str(&data).expect("data"), 70);
    let known: Vec<&str> =
        KNOWN.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_whitespace().next()).collect();
    let (mut passed, mut problems, mut met) = (0, Vec::new(), Vec::new());
    for case in &cases {
        let (id, path, params) = (case["id"].as_str().expect("id"), &case["path"], &case["params"]);
        if params["limit"] == "0" {
            continue; // The service refuses it before there is a search.
        }
        let query = params["q"].as_str().unwrap_or("");
        let got = match path.as_str() {
            Some("/api/search") if query.is_empty() => tag_search(&batches, params),
            Some("/api/search") => search(&batches, query, params),
            Some("/api/metrics/query_range") => metrics(&batches, query, params, false),
            Some("/api/metrics/query") => metrics(&batches, query, params, true),
            _ => continue,
        };
        met.push(id);
        let outcome = match (case["status"] == 200, got) {
            (false, Err(_)) => Ok(()),
            (false, Ok(_)) => Err("an answer instead of an error".to_owned()),
            (true, Err(e)) => Err(e),
            (true, Ok(got)) => compare(&normal(&case["body"]), &normal(&got)),
        };
        match (outcome, known.contains(&id)) {
            (Ok(()), false) | (Err(_), true) => passed += 1,
            (Ok(()), true) => problems.push(format!("{id} {query}: passes now, take it out of the list")),
            (Err(e), false) => problems.push(format!("{id} {path} {query}: {e}")),
        }
    }
    for id in known {
        assert!(met.contains(&id), "{id} is listed but is no case");
    }
    assert!(problems.is_empty(), "{passed} as expected, these not:\n{}", problems.join("\n"));
}

/// Of `compare()` the recorded product keeps chance values among equally frequent ones: everything else must agree.
#[test]
fn compare_differs_in_ties_only() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance/traces");
    let (Ok(cases), Ok(data)) =
        (std::fs::read_to_string(dir.join("cases.json")), std::fs::read_to_string(dir.join("otlp.json")))
    else {
        eprintln!("skipped: no recorded answers at {}", dir.display());
        return;
    };
    let cases: Vec<Json> = serde_json::from_str(&cases).expect("cases");
    let batches = otlp::batches(&serde_json::from_str(&data).expect("data"), 70);
    let case = cases.iter().find(|c| c["id"] == "15d777f01b").expect("the case");
    let query = case["params"]["q"].as_str().expect("a query");
    let got = metrics(&batches, query, &case["params"], false).expect("an answer");
    let total = |s: &Json| -> f64 {
        s["samples"].as_array().into_iter().flatten().map(|x| x["value"].as_f64().unwrap_or(0.0)).sum()
    };
    let group = |s: &Json| format!("{}{}", s["labels"][0], s["labels"][1]["key"]);
    let series = |json: &Json| json["series"].as_array().cloned().unwrap_or_default();
    let (want, got) = (series(&case["body"]), series(&got));
    assert_eq!(want.len(), got.len());
    let by_labels: HashMap<String, &Json> =
        got.iter().map(|s| (normal(&s["labels"]).to_string(), s)).collect();
    for want in &want {
        match by_labels.get(&normal(&want["labels"]).to_string()) {
            Some(got) => compare(&normal(&want["samples"]), &normal(&got["samples"])).expect("equal samples"),
            None => {
                let least =
                    got.iter().filter(|g| group(g) == group(want)).map(total).fold(f64::MAX, f64::min);
                assert_eq!(total(want), least, "{} is no tie", want["labels"]);
            }
        }
    }
}

fn tag_search(batches: &[SpanBatch], params: &Json) -> Result<Json, String> {
    let pairs = params["tags"].as_str().unwrap_or("").split_whitespace().map(|pair| {
        let (key, value) = pair.split_once('=').expect("a pair");
        (key.to_owned(), value.to_owned())
    });
    let min = params["minDuration"].as_str().map(|d| model::duration::parse_go(d).expect("a duration"));
    let query = Query::from_tags(&pairs.collect::<Vec<_>>(), min, None).map_err(|e| e.to_string())?;
    let mut answer = run(batches, &query, params)?;
    for trace in answer["traces"].as_array_mut().into_iter().flatten() {
        trace.as_object_mut().expect("a trace").remove("spanSets");
    }
    Ok(answer)
}

fn search(batches: &[SpanBatch], query: &str, params: &Json) -> Result<Json, String> {
    run(batches, &parse(query).map_err(|e| e.to_string())?, params)
}

fn run(batches: &[SpanBatch], query: &Query, params: &Json) -> Result<Json, String> {
    let params = SearchParams {
        start: Some(otlp::int(&params["start"]) * SECOND),
        end: Some(otlp::int(&params["end"]) * SECOND),
        limit: otlp::int(&params["limit"]) as usize,
        spans_per_spanset: otlp::int(&params["spss"]) as usize,
        most_recent: false,
    };
    let mut search = Search::new(query, params).map_err(|e| e.to_string())?;
    for batch in batches {
        search.push(batch).map_err(|e| e.to_string())?;
    }
    Ok(json!({ "traces": search.finish().iter().map(trace).collect::<Vec<_>>() }))
}

fn trace(t: &TraceResult) -> Json {
    let spansets = t.spansets.iter().map(|set| {
        let spans = set.spans.iter().map(|s| {
            let mut out = Map::new();
            out.insert("spanID".into(), json!(s.span_id.to_string()));
            if let Some(name) = &s.name {
                out.insert("name".into(), json!(name));
            }
            out.insert("startTimeUnixNano".into(), json!(s.start.to_string()));
            out.insert("durationNanos".into(), json!(s.duration.to_string()));
            put(&mut out, "attributes", key_values(&s.attributes));
            Json::Object(out)
        });
        let mut out = Map::new();
        out.insert("spans".into(), Json::Array(spans.collect()));
        out.insert("matched".into(), json!(set.matched));
        put(&mut out, "attributes", key_values(&set.attributes));
        Json::Object(out)
    });
    let mut out = Map::new();
    out.insert("traceID".into(), json!(t.trace_id.short_hex()));
    out.insert("rootServiceName".into(), json!(t.root_service));
    out.insert("rootTraceName".into(), json!(t.root_name));
    out.insert("startTimeUnixNano".into(), json!(t.start.to_string()));
    if t.duration >= 1_000_000 {
        out.insert("durationMs".into(), json!(t.duration / 1_000_000));
    }
    out.insert("spanSets".into(), Json::Array(spansets.collect()));
    Json::Object(out)
}

fn put(out: &mut Map<String, Json>, key: &str, list: Vec<Json>) {
    if !list.is_empty() {
        out.insert(key.into(), Json::Array(list));
    }
}

fn key_values(pairs: &[(String, Value)]) -> Vec<Json> {
    pairs.iter().map(|(k, v)| json!({ "key": k, "value": any_value(v) })).collect()
}

fn any_value(value: &Value) -> Json {
    match value {
        Value::Nil => json!({ "stringValue": "nil" }),
        Value::Str(s) => json!({ "stringValue": **s }),
        Value::Int(i) => json!({ "intValue": i.to_string() }),
        Value::Float(f) => json!({ "doubleValue": f }),
        Value::Bool(b) => json!({ "boolValue": b }),
        Value::Duration(_) => json!({ "stringValue": value.to_string() }),
        Value::Status(s) => json!({ "stringValue": s.as_str() }),
        Value::Kind(k) => json!({ "stringValue": k.as_str() }),
        Value::Array(items) => {
            json!({ "arrayValue": { "values": items.iter().map(any_value).collect::<Vec<_>>() } })
        }
    }
}

fn metrics(batches: &[SpanBatch], query: &str, params: &Json, instant: bool) -> Result<Json, String> {
    let query = parse(query).map_err(|e| e.to_string())?;
    let step = params["step"].as_str().map_or(0, |s| s.trim_end_matches('s').parse::<i64>().expect("a step"));
    let params = MetricsParams {
        start: otlp::int(&params["start"]) * SECOND,
        end: otlp::int(&params["end"]) * SECOND,
        step: step * SECOND,
        instant,
        exemplars: 100,
        max_series: 0,
    };
    // Two halves counted apart and merged must give the same as one.
    let mut metrics = Metrics::new(&query, params.clone()).map_err(|e| e.to_string())?;
    let mut other = Metrics::new(&query, params).map_err(|e| e.to_string())?;
    for (i, batch) in batches.iter().enumerate() {
        let half = if i % 2 == 0 { &mut metrics } else { &mut other };
        half.push(batch).map_err(|e| e.to_string())?;
    }
    metrics.merge(other);
    let series = metrics.finish().series.into_iter().map(|s| {
        let sample = |(at, v): &(i64, f64)| {
            let mut out = Map::new();
            if !instant {
                out.insert("timestampMs".into(), json!(at.to_string()));
            }
            if *v != 0.0 {
                out.insert("value".into(), json!(v));
            }
            Json::Object(out)
        };
        let labels = key_values(&s.labels);
        if instant {
            let Some(Json::Object(mut out)) = s.samples.first().map(sample) else { return json!({}) };
            out.insert("labels".into(), Json::Array(labels));
            return Json::Object(out);
        }
        json!({ "labels": labels, "samples": s.samples.iter().map(sample).collect::<Vec<_>>() })
    });
    Ok(json!({ "series": series.collect::<Vec<_>>() }))
}

/// An answer without what is not compared, lists sorted.
fn normal(json: &Json) -> Json {
    match json {
        Json::Object(members) => {
            let skip = ["metrics", "spanSet", "serviceStats", "exemplars"];
            let mut kept: Vec<_> = members.iter().filter(|(k, _)| !skip.contains(&k.as_str())).collect();
            kept.sort_by_key(|(k, _)| *k);
            Json::Object(kept.into_iter().map(|(k, v)| (k.clone(), normal(v))).collect())
        }
        Json::Array(items) => {
            let mut items: Vec<(String, Json)> =
                items.iter().map(normal).map(|item| (item.to_string(), item)).collect();
            items.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Array(items.into_iter().map(|(_, item)| item).collect())
        }
        other => other.clone(),
    }
}

fn compare(want: &Json, got: &Json) -> Result<(), String> {
    match (want, got) {
        (Json::Object(w), Json::Object(g)) => {
            if !w.keys().eq(g.keys()) {
                return Err(format!("members: want {want:.200}, got {got:.200}"));
            }
            w.iter().try_for_each(|(k, v)| compare(v, &g[k]))
        }
        (Json::Array(w), Json::Array(g)) => {
            if w.len() != g.len() {
                let missing = w.iter().find(|x| !g.contains(x)).map(Json::to_string).unwrap_or_default();
                let extra = g.iter().find(|x| !w.contains(x)).map(Json::to_string).unwrap_or_default();
                return Err(format!(
                    "want {} items, got {}; missing {missing:.300}; extra {extra:.300}",
                    w.len(),
                    g.len()
                ));
            }
            w.iter().zip(g).try_for_each(|(w, g)| compare(w, g))
        }
        (Json::Number(w), Json::Number(g)) => {
            let (w, g) = (w.as_f64().expect("a number"), g.as_f64().expect("a number"));
            if (w - g).abs() <= 1e-9 * w.abs().max(g.abs()).max(1.0) {
                Ok(())
            } else {
                Err(format!("want {w}, got {g}"))
            }
        }
        _ if want == got => Ok(()),
        _ => Err(format!("want {want:.300}, got {got:.300}")),
    }
}
