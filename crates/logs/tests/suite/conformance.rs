//! Loki's recorded answers: from the head, and again from blocks.

use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::running::{Running, send};

fn pending(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pending").join(name)
}

#[derive(Deserialize)]
struct QueryCase {
    id: String,
    path: String,
    params: serde_json::Map<String, Value>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    status: u16,
    body: Value,
}

#[tokio::test(flavor = "multi_thread")]
async fn queries() {
    let Some(cases) = testkit::recorded::json::<Vec<QueryCase>>("logs/cases.json") else { return };
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let router = running.handle.router();
    for (file, path) in [
        ("push.json", "/loki/api/v1/push"),
        ("push_meta.json", "/loki/api/v1/push"),
        ("otlp.json", "/otlp/v1/logs"),
    ] {
        let body = testkit::recorded::text(&format!("logs/{file}")).unwrap();
        let request =
            Request::post(path).header("content-type", "application/json").body(Body::from(body)).unwrap();
        let (status, body) = send(&router, request).await;
        assert_eq!(status, StatusCode::NO_CONTENT, "{file}: {}", String::from_utf8_lossy(&body));
    }
    let mut results = Vec::new();
    for source in ["head", "blocks"] {
        if source == "blocks" {
            running.handle.flush().await.unwrap();
        }
        for case in &cases {
            results.push((format!("{} from {source}", case.id), ask(&router, case).await));
        }
    }
    running.stop().await;
    testkit::pending::check(pending("queries.txt"), results);
}

async fn ask(router: &Router, case: &QueryCase) -> Result<(), String> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in &case.params {
        query.append_pair(name, value.as_str().unwrap_or_default());
    }
    let mut request = Request::get(format!("{}?{}", case.path, query.finish()));
    for (name, value) in &case.headers {
        request = request.header(name, value);
    }
    let (status, body) = send(router, request.body(Body::empty()).unwrap()).await;
    let about =
        || format!("{} {}", case.path, case.params.get("query").and_then(Value::as_str).unwrap_or_default());
    if status != case.status {
        return Err(format!(
            "{}\nstatus {status}, not {}: {}",
            about(),
            case.status,
            short(&String::from_utf8_lossy(&body))
        ));
    }
    if case.status != 200 {
        return Ok(());
    }
    let got: Value = serde_json::from_slice(&body).map_err(|e| format!("{}\n{e}", about()))?;
    let (got, expect) = (normalise(got), normalise(case.body.clone()));
    match difference(&got, &expect, "") {
        None => Ok(()),
        Some(difference) => Err(format!("{}\n{}", about(), short(&difference))),
    }
}

fn short(text: &str) -> String {
    text.chars().take(600).collect()
}

/// Takes out what is not compared, and puts what has no order into one.
fn normalise(mut body: Value) -> Value {
    let by = |key: &'static str| move |v: &Value| v.get(key).map(canonical).unwrap_or_default();
    if let Some(data) = body.get_mut("data") {
        if let Some(data) = data.as_object_mut() {
            data.remove("stats");
            let kind = data.get("resultType").and_then(Value::as_str).unwrap_or_default().to_owned();
            if let Some(result) = data.get_mut("result").and_then(Value::as_array_mut) {
                match kind.as_str() {
                    "streams" => result.sort_by_cached_key(by("stream")),
                    "matrix" => result.sort_by_cached_key(by("metric")),
                    _ => {}
                }
            }
        } else if let Some(list) = data.as_array_mut() {
            list.sort_by_cached_key(canonical);
        }
    }
    for key in ["detectedLabels", "fields"] {
        if let Some(list) = body.get_mut(key).and_then(Value::as_array_mut) {
            list.sort_by_cached_key(by("label"));
        }
    }
    if let Some(list) = body.get_mut("values").and_then(Value::as_array_mut) {
        list.sort_by_cached_key(canonical);
    }
    body
}

/// A text that is equal for equal values whatever the order of members.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> =
                members.iter().map(|(k, v)| format!("{k:?}:{}", canonical(v))).collect();
            members.sort();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

/// Where two answers differ; numbers, also within texts, may differ by a billionth.
fn difference(got: &Value, expect: &Value, at: &str) -> Option<String> {
    let close = |x: f64, y: f64| {
        x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-9 * x.abs().max(y.abs()).max(1.0)
    };
    let same = match (got, expect) {
        (Value::String(a), Value::String(b)) => {
            a == b || a.parse::<f64>().ok().zip(b.parse().ok()).is_some_and(|(x, y)| close(x, y))
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64().zip(b.as_f64()).is_some_and(|(x, y)| close(x, y)),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            return a
                .iter()
                .zip(b)
                .enumerate()
                .find_map(|(i, (x, y))| difference(x, y, &format!("{at}[{i}]")));
        }
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() && a.keys().all(|k| b.contains_key(k)) => {
            return a.iter().find_map(|(k, x)| difference(x, &b[k], &format!("{at}.{k}")));
        }
        (a, b) => a == b,
    };
    (!same).then(|| format!("at {at}: {} instead of {}", short(&got.to_string()), short(&expect.to_string())))
}

#[derive(Deserialize)]
struct PushCase {
    name: String,
    kind: String,
    method: String,
    path: String,
    headers: std::collections::BTreeMap<String, String>,
    body_base64: String,
    status: u16,
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes() {
    let Some(cases) = testkit::recorded::json::<Vec<PushCase>>("push.json") else { return };
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let router = running.handle.router();
    let mut results = Vec::new();
    for case in cases.iter().filter(|c| c.kind == "logs") {
        let body = base64::engine::general_purpose::STANDARD.decode(&case.body_base64).unwrap();
        let mut request = Request::builder().method(case.method.as_str()).uri(&case.path);
        for (name, value) in &case.headers {
            request = request.header(name, value);
        }
        let (status, body) = send(&router, request.body(Body::from(body)).unwrap()).await;
        let result = if status == case.status {
            Ok(())
        } else {
            Err(format!("status {status}, not {}: {}", case.status, String::from_utf8_lossy(&body)))
        };
        results.push((case.name.clone(), result));
    }
    running.stop().await;
    testkit::pending::check(pending("pushes.txt"), results);
}
