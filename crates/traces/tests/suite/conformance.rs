//! The recorded answers of Tempo: each asked of the head and again of blocks.

use std::collections::BTreeMap;

use ::service::axum::body::Body;
use base64::Engine;
use http::Request;
use serde::Deserialize;
use serde_json::Value;
use testkit::{pending, recorded};

use crate::service::Service;

const PENDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pending.txt");

#[derive(Deserialize)]
struct Case {
    id: String,
    path: String,
    params: BTreeMap<String, String>,
    status: u16,
    body: Value,
}

/// Drops what answers may differ in, and sorts every list.
fn normal(mut body: Value) -> Value {
    if let Value::Object(members) = &mut body {
        members.remove("metrics");
        for trace in members.get_mut("traces").and_then(Value::as_array_mut).into_iter().flatten() {
            let trace = trace.as_object_mut().unwrap();
            trace.remove("serviceStats");
            trace.remove("spanSet");
        }
        for series in members.get_mut("series").and_then(Value::as_array_mut).into_iter().flatten() {
            series.as_object_mut().unwrap().remove("exemplars");
        }
    }
    sorted(body)
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let ordered: BTreeMap<_, _> = members.into_iter().map(|(k, v)| (k, sorted(v))).collect();
            Value::Object(ordered.into_iter().collect())
        }
        Value::Array(items) => {
            let mut items: Vec<_> = items.into_iter().map(sorted).collect();
            items.sort_by_cached_key(Value::to_string);
            Value::Array(items)
        }
        other => other,
    }
}

/// The first difference.
fn compare(want: &Value, got: &Value, at: &str) -> Result<(), String> {
    let differ = || {
        let short = |v: &Value| v.to_string().chars().take(300).collect::<String>();
        Err(format!("at {at}: want {}\n got {}", short(want), short(got)))
    };
    match (want, got) {
        (Value::Object(a), Value::Object(b)) => {
            if !a.keys().eq(b.keys()) {
                return differ();
            }
            a.iter().try_for_each(|(key, a)| compare(a, &b[key], &format!("{at}.{key}")))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().try_for_each(|(i, (a, b))| compare(a, b, &format!("{at}[{i}]")))
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            if (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0) { Ok(()) } else { differ() }
        }
        _ if want == got => Ok(()),
        _ => differ(),
    }
}

async fn check(service: &Service, case: &Case) -> Result<(), String> {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&case.params).finish();
    let (status, body) = service.get(&format!("{}?{query}", case.path)).await;
    let text = String::from_utf8_lossy(&body).into_owned();
    if status.as_u16() != case.status {
        return Err(format!("want status {}, got {status}: {text}", case.status));
    }
    if case.status != 200 {
        return Ok(());
    }
    let got = serde_json::from_slice(&body).unwrap_or_else(|_| Value::String(text.trim().to_owned()));
    compare(&sorted(case.body.clone()), &normal(got), "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_answers() {
    let (Some(cases), Some(spans)) =
        (recorded::json::<Vec<Case>>("traces/cases.json"), recorded::text("traces/otlp.json"))
    else {
        eprintln!("no recorded answers: nothing checked");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(folder.path()).await;
    let (status, body) = service.push("application/json", spans).await;
    assert_eq!(status, 200, "{body:?}");
    let mut results = Vec::new();
    for place in ["head", "blocks"] {
        for case in &cases {
            let shown =
                case.params.get("q").or(case.params.get("tags")).map(String::as_str).unwrap_or_default();
            let id = format!("{place} {} {} {shown}", case.id, case.path);
            results.push((id, check(&service, case).await));
        }
        service.handle.flush().await.unwrap();
    }
    service.stop().await;
    results.extend(pushes().await);
    pending::check(PENDING, results);
}

#[derive(Deserialize)]
struct Push {
    name: String,
    kind: String,
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body_base64: String,
    status: u16,
}

async fn pushes() -> Vec<(String, Result<(), String>)> {
    let cases: Vec<Push> = recorded::json("push.json").unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let service = Service::open(folder.path()).await;
    let mut results = Vec::new();
    for case in cases.iter().filter(|c| c.kind == "traces") {
        let mut request = Request::builder().method(case.method.as_str()).uri(&case.path);
        for (name, value) in &case.headers {
            request = request.header(name, value);
        }
        let body = base64::engine::general_purpose::STANDARD.decode(&case.body_base64).unwrap();
        let (status, body) = service.request(request.body(Body::from(body)).unwrap()).await;
        let same = status.as_u16() == case.status;
        let result = if same { Ok(()) } else { Err(format!("want {}, got {status}: {body:?}", case.status)) };
        results.push((format!("push {}", case.name), result));
    }
    service.stop().await;
    results
}
