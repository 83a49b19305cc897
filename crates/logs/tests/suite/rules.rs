//! Rules over HTTP, evaluated over lines that were pushed.

use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Method, Request, StatusCode};
use logs::LogsHandle;
use model::Timestamp;
use serde_json::Value;
use wire::loki::{PushEntry, PushRequest, PushStream};

use crate::running::{Running, send};

const GROUP: &str = "name: errors\ninterval: 50ms\nrules:\n\
    - record: app:errors\n  expr: sum by (app) (count_over_time({app=\"a\"} |= \"error\" [1h]))\n  labels: {kind: count}\n\
    - alert: Errors\n  expr: sum by (app) (count_over_time({app=\"a\"} |= \"error\" [1h])) > 1\n  \
      annotations: {summary: '{{ $value }} errors of {{ $labels.app }}'}\n";

async fn call(running: &Running, method: Method, path: &str, body: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
    let (status, body) = send(&running.handle.router(), request).await;
    (status, String::from_utf8(body).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let check = async |method: Method, path: &str, body: &str, status: u16, part: &str| {
        let (got, text) = call(&running, method.clone(), path, body).await;
        assert!(got == status && text.contains(part), "{method} {path}: {got} {text}");
    };
    let success = r#"{"status":"success","data":null,"errorType":"","error":""}"#;
    let rules = "/loki/api/v1/rules";
    check(Method::GET, rules, "", 404, "no rule groups found").await;
    check(Method::POST, &format!("{rules}/my%2Fteam"), GROUP, 202, success).await;
    check(Method::POST, &format!("{rules}/other"), "name: empty", 202, success).await;
    check(Method::GET, rules, "", 200, "my/team:").await;
    check(Method::GET, "/api/prom/rules", "", 200, "other:").await;
    check(Method::GET, &format!("{rules}/my%2Fteam"), "", 200, "my/team:").await;
    check(Method::GET, &format!("{rules}/my%2Fteam/errors"), "", 200, "name: errors").await;
    check(Method::GET, &format!("{rules}/my%2Fteam/none"), "", 404, "group does not exist").await;
    check(Method::GET, &format!("{rules}/none"), "", 404, "no rule groups found").await;
    check(Method::POST, &format!("{rules}/x"), "name: [", 400, "unable to decode rule group").await;
    check(Method::POST, &format!("{rules}/x"), "name: g\nname: h", 400, "unable to decode").await;
    let wrong = "name: g\nrules: [{alert: A, expr: 'sum('}]";
    check(
        Method::POST,
        &format!("{rules}/x"),
        wrong,
        400,
        "group 'g': rule 1 'A': could not parse expression: parse error",
    )
    .await;
    let logs = "name: g\nrules: [{alert: A, expr: '{a=\"b\"}'}]";
    check(Method::POST, &format!("{rules}/x"), logs, 400, "must be metric queries").await;
    check(Method::POST, &format!("{rules}/x"), &"#".repeat(2 << 20), 413, "").await;
    check(Method::DELETE, &format!("{rules}/other/none"), "", 404, "group does not exist").await;
    check(Method::DELETE, &format!("{rules}/other/empty"), "", 202, success).await;
    check(Method::DELETE, &format!("{rules}/other"), "", 404, "no rule groups found").await;
    // What is read can be written.
    let (_, text) = call(&running, Method::GET, &format!("{rules}/my%2Fteam/errors"), "").await;
    check(Method::POST, &format!("{rules}/again"), &text, 202, success).await;
    running.stop().await;
    let running = Running::start(dir.path()).await;
    let (status, text) = call(&running, Method::GET, rules, "").await;
    assert!(status == 200 && text.contains("again:") && text.contains("my/team:"), "{status} {text}");
    let (_, text) = call(&running, Method::DELETE, &format!("{rules}/again"), "").await;
    assert_eq!(text.trim_end(), success);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_evaluated() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let now = Timestamp::now().nanos();
    let entry =
        |n: i64, line: &str| PushEntry { timestamp_ns: now + n, line: line.into(), metadata: Vec::new() };
    let entries = vec![entry(1, "error 1"), entry(2, "fine"), entry(3, "error 2")];
    let streams = vec![PushStream { labels: "{app=\"a\"}".to_owned(), entries, ..PushStream::default() }];
    running
        .handle
        .push(&LogsHandle::default_tenant(), PushRequest { streams, ..PushRequest::default() })
        .await
        .unwrap();
    let (status, text) = call(&running, Method::POST, "/loki/api/v1/rules/ns", GROUP).await;
    assert_eq!(status, 202, "{text}");
    let deadline = Instant::now() + Duration::from_secs(20);
    let group = loop {
        let answer = running.get("/prometheus/api/v1/rules", &[]).await;
        let group = answer["data"]["groups"][0].clone();
        if group["rules"][1]["state"] == "firing" {
            break group;
        }
        assert!(Instant::now() < deadline, "{answer}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(
        (&group["name"], &group["file"], &group["interval"]),
        (&"errors".into(), &"ns".into(), &0.05.into())
    );
    let (recording, alerting) = (&group["rules"][0], &group["rules"][1]);
    for (rule, name, kind) in [(recording, "app:errors", "recording"), (alerting, "Errors", "alerting")] {
        assert_eq!((&rule["name"], &rule["type"]), (&name.into(), &kind.into()));
        assert_eq!((&rule["health"], &rule["lastError"]), (&"ok".into(), &"".into()));
        assert!(rule["lastEvaluation"].as_str().unwrap() > "2024", "{rule}");
    }
    assert_eq!(recording["labels"]["kind"], "count");
    let answer = running.get("/prometheus/api/v1/alerts", &[]).await;
    let alert = &answer["data"]["alerts"][0];
    assert_eq!((&alert["state"], &alert["value"]), (&"firing".into(), &"2e+00".into()));
    assert_eq!(alert["labels"], serde_json::json!({"alertname": "Errors", "app": "a"}));
    assert_eq!(alert["annotations"]["summary"], "2 errors of a");
    assert_eq!(alert, &alerting["alerts"][0]);
    let count = async |params: &[(&str, &str)]| {
        let answer = running.get("/prometheus/api/v1/rules", params).await;
        let groups = answer["data"]["groups"].as_array().unwrap().clone();
        groups.iter().map(|group| group["rules"].as_array().unwrap().len()).sum::<usize>()
    };
    assert_eq!(count(&[("type", "alert")]).await, 1);
    assert_eq!(count(&[("rule_name[]", "app:errors"), ("rule_name[]", "Errors")]).await, 2);
    assert_eq!(count(&[("rule_group[]", "none")]).await, 0);
    assert_eq!(count(&[("file[]", "ns"), ("match[]", "{kind=\"count\"}")]).await, 1);
    let without = running.get("/prometheus/api/v1/rules", &[("exclude_alerts", "true")]).await;
    assert_eq!(without["data"]["groups"][0]["rules"][1]["alerts"], Value::Array(Vec::new()));
    running.stop().await;
}
