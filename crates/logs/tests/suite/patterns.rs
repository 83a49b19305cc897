//! Log patterns, from push to `|>`.

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::Value;

use crate::running::{Running, get, now, push, send};

#[tokio::test(flavor = "multi_thread")]
async fn patterns_of_what_was_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let router = running.handle.router();
    let now = now();
    let plain: Vec<String> = (0..6).map(|n| format!("GET /api/items/{n} took {n}ms")).collect();
    let json: Vec<String> =
        (0..4).map(|n| format!(r#"{{"level":"error","msg":"job {n} failed","n":{n}}}"#)).collect();
    let entries = |lines: &[String]| -> Vec<(i64, String)> {
        lines.iter().enumerate().map(|(i, line)| (now - 20_000_000_000 + i as i64, line.clone())).collect()
    };
    for (labels, lines) in [("app=web", entries(&plain)), ("app=jobs", entries(&json))] {
        let lines: Vec<(i64, &str)> = lines.iter().map(|(t, l)| (*t, l.as_str())).collect();
        let (status, _) = send(&router, push(&[(labels, &lines)])).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }
    for (app, pattern, level, count) in
        [("web", "GET /api/items/<_> took <_>", "unknown", 6), ("jobs", "<_>job <_> failed<_>", "error", 4)]
    {
        let selector = format!("{{app={app:?}}}");
        let answer = running.get("/loki/api/v1/patterns", &[("query", &selector), ("step", "60s")]).await;
        let found = answer["data"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{answer}");
        assert_eq!((found[0]["pattern"].as_str(), found[0]["level"].as_str()), (Some(pattern), Some(level)));
        let samples = found[0]["samples"].as_array().unwrap();
        let sum: u64 = samples.iter().map(|s| s[1].as_u64().unwrap()).sum();
        assert_eq!(sum, count);
        assert!(samples.iter().all(|s| s[0].as_i64().unwrap() % 60 == 0));
        // The pattern finds the lines it was made of.
        let query = format!("{selector} |> `{pattern}`");
        let answer = running.get("/loki/api/v1/query_range", &[("query", &query)]).await;
        let lines = answer["data"]["result"].as_array().unwrap().iter();
        let lines: usize = lines.map(|s| s["values"].as_array().map_or(0, Vec::len)).sum();
        assert_eq!(lines as u64, count, "{query}");
    }
    let body = "query=%7Bapp%3D%22none%22%7D";
    let request =
        Request::post("/loki/api/v1/patterns").header("content-type", "application/x-www-form-urlencoded");
    let (status, body) = send(&router, request.body(Body::from(body)).unwrap()).await;
    assert_eq!(
        (status, serde_json::from_slice::<Value>(&body).unwrap()["data"].clone()),
        (StatusCode::OK, serde_json::json!([]))
    );
    let limits = running.get("/loki/api/v1/drilldown-limits", &[]).await;
    assert_eq!(limits["pattern_ingester_enabled"], true);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_can_be_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start_with(dir.path(), "pattern_ingester: {enabled: false}").await;
    let router = running.handle.router();
    let (status, body) = send(&router, get("/loki/api/v1/patterns", &[("query", r#"{app="a"}"#)])).await;
    assert_eq!((status, body.len()), (StatusCode::NOT_FOUND, 0));
    let limits = running.get("/loki/api/v1/drilldown-limits", &[]).await;
    assert_eq!(limits["pattern_ingester_enabled"], false);
    running.stop().await;
}
