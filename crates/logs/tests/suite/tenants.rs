//! Tenants: each sees its own, obeys its own limits, and a query may ask for several where that is allowed.

use axum::Router;
use http::StatusCode;
use serde_json::{Value, json};

use crate::running::{Running, eventually, get, now, of, push, send};

async fn ask(router: &Router, tenant: &str, path: &str, params: &[(&str, &str)]) -> Value {
    let (status, body) = send(router, of(tenant, get(path, params))).await;
    assert_eq!(status, StatusCode::OK, "{tenant} {path} {params:?}: {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

async fn refused(router: &Router, tenant: &str, path: &str, params: &[(&str, &str)]) -> (u16, String) {
    let (status, body) = send(router, of(tenant, get(path, params))).await;
    (status.as_u16(), String::from_utf8(body).unwrap())
}

const RANGE: &str = "/loki/api/v1/query_range";

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_single_tenants_are_reloaded() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("overrides.yaml");
    std::fs::write(&file, "overrides: {small: {max_line_size: 5, max_entries_limit_per_query: 7}}").unwrap();
    let yaml = format!(
        "auth_enabled: true\nruntime_config: {{file: {:?}, period: 20ms}}",
        file.display().to_string()
    );
    let running = Running::start_with(dir.path(), &yaml).await;
    let router = running.handle.router();
    let line = |tenant: &'static str, labels: &'static str, text: &'static str| {
        let request = of(tenant, push(&[(labels, &[(now(), text)])]));
        let router = router.clone();
        async move {
            let (status, body) = send(&router, request).await;
            (status.as_u16(), String::from_utf8(body).unwrap())
        }
    };
    // Limits hold for their tenant alone, in pushes and in queries.
    let (status, text) = line("small", "app=a", "too long").await;
    assert!(status == 400 && text.contains("max entry size '5' bytes exceeded"), "{text}");
    assert_eq!(line("large", "app=a", "too long").await.0, 204);
    let ten = [("query", r#"{app="a"}"#), ("limit", "10")];
    let (status, text) = refused(&router, "small", RANGE, &ten).await;
    assert!(status == 400 && text.contains("(10 > 7)"), "{text}");
    ask(&router, "large", RANGE, &ten).await;
    let (_, text) = refused(&router, "small", "/config/tenant/v1/limits", &[]).await;
    assert!(text.contains("max_entries_limit_per_query: 7\n"), "{text}");
    let (_, text) = refused(&router, "x", "/runtime_config", &[("mode", "diff")]).await;
    assert_eq!(text, "overrides:\n  small:\n    max_line_size: \"5\"\n    max_entries_limit_per_query: 7\n");

    // A change is seen without a restart; so is the end of limits.
    std::fs::write(&file, "overrides: {large: {max_line_size: 3}}").unwrap();
    eventually("new limits hold", async || line("large", "app=a", "long").await.0 == 400).await;
    assert_eq!(line("small", "app=a", "too long").await.0, 204);

    // A bad file leaves what is in force.
    std::fs::write(&file, "overrides: {large: {max_line_sice: 3}}").unwrap();
    eventually("the mistake is told", async || {
        running.metrics.text().contains("loki_runtime_config_last_reload_successful 0")
    })
    .await;
    assert_eq!(line("large", "app=a", "long").await.0, 400);
    std::fs::write(&file, "overrides:").unwrap();
    eventually("the file is good again", async || line("large", "app=a", "long").await.0 == 204).await;
    assert!(running.metrics.text().contains("loki_runtime_config_last_reload_successful 1"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_queries() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = "limits_config: {max_streams_matchers_per_query: 2, blocked_queries: [{pattern: '.*secret.*', regex: true}]}";
    let running = Running::start_with(dir.path(), yaml).await;
    let router = running.handle.router();
    let check = async |query: &str, header: &str, expect: &str| {
        let mut request = get(RANGE, &[("query", query)]);
        request.headers_mut().insert("x-loki-query-limits", header.parse().unwrap());
        let (status, body) = send(&router, request).await;
        let text = String::from_utf8(body).unwrap();
        if expect.is_empty() {
            assert_eq!(status, 200, "{query}: {text}");
        } else {
            assert!(status == 400 && text.contains(expect), "{query}: {status} {text}");
        }
    };
    check(r#"{a="b", c="d"}"#, "", "").await;
    check(
        r#"{a="b", c="d", e="f"}"#,
        "",
        "max streams matchers per query exceeded, matchers-count > limit (3 > 2)",
    )
    .await;
    check(r#"{a="b"} |= "secret""#, "", "query blocked by policy").await;
    check(r#"{a="b"}"#, r#"{"maxQueryLength":"30m"}"#, "the query time range exceeds the limit").await;
    check(r#"{a="b"}"#, r#"{"maxQueryLength":"2h"}"#, "").await;
    check(r#"{a="b"}"#, r#"{"requiredLabels":["app"]}"#, "missing required matchers [app]").await;
    check(r#"{a="b"}"#, r#"{"maxEntriesLimitPerQuery":10}"#, "(100 > 10)").await;
    check(r#"{a="b"}"#, "no json", "X-Loki-Query-Limits").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_tenants() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("overrides.yaml");
    let text = "overrides:\n  a: {block_ingestion_until: 2100-01-01T00:00:00Z}\n  \
                b: {block_ingestion_until: 2100-01-01T00:00:00Z, block_ingestion_status_code: 200}\n  \
                c: {block_ingestion_until: 2000-01-01T00:00:00Z}\n";
    std::fs::write(&file, text).unwrap();
    let yaml = format!(
        "auth_enabled: true\nlimits_config: {{per_tenant_override_config: {:?}}}",
        file.display().to_string()
    );
    let running = Running::start_with(dir.path(), &yaml).await;
    let router = running.handle.router();
    for (tenant, status, stored) in [("a", 260, 0), ("b", 204, 0), ("c", 204, 1)] {
        let (got, body) = send(&router, of(tenant, push(&[("app=x", &[(now() - 5, "line")])]))).await;
        assert_eq!(got.as_u16(), status, "{tenant}: {}", String::from_utf8_lossy(&body));
        let answer = ask(&router, tenant, RANGE, &[("query", r#"{app="x"}"#)]).await;
        assert_eq!(answer["data"]["result"].as_array().unwrap().len(), stored, "{tenant}");
    }
    assert!(
        running
            .metrics
            .text()
            .contains(r#"loki_discarded_samples_total{reason="blocked_ingestion",tenant="a"} 1"#)
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tenants_in_one_query() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = "auth_enabled: true\nquerier: {multi_tenant_queries_enabled: true}";
    let running = Running::start_with(dir.path(), yaml).await;
    let router = running.handle.router();
    let start = now() - 60_000_000_000;
    for (tenant, streams) in [
        ("a", vec![("app=x", "one of a"), ("app=y", "two of a")]),
        ("b", vec![("app=x", "one of b"), ("app=x,__tenant_id__=own", "two of b")]),
        ("c", vec![("app=x", "one of c")]),
    ] {
        for (at, (labels, line)) in streams.into_iter().enumerate() {
            let (status, _) =
                send(&router, of(tenant, push(&[(labels, &[(start + at as i64, line)])]))).await;
            assert_eq!(status, 204);
        }
    }
    for source in ["head", "blocks"] {
        if source == "blocks" {
            running.handle.flush().await.unwrap();
        }
        let lines = async |tenants: &str, query: &str| {
            let answer = ask(&router, tenants, RANGE, &[("query", query)]).await;
            let mut lines: Vec<String> = Vec::new();
            for stream in answer["data"]["result"].as_array().unwrap() {
                let labels = &stream["stream"];
                for value in stream["values"].as_array().unwrap() {
                    let original =
                        labels.get("original___tenant_id__").map(|v| format!(" {}", v.as_str().unwrap()));
                    let tenant = labels.get("__tenant_id__").and_then(Value::as_str).unwrap_or("-");
                    lines.push(format!(
                        "{tenant}{} {}",
                        original.unwrap_or_default(),
                        value[1].as_str().unwrap()
                    ));
                }
            }
            lines.sort();
            lines
        };
        let about = |got: Vec<String>, expect: &[&str]| assert_eq!(got, expect, "from {source}");
        about(lines("a|b", r#"{app="x"}"#).await, &["a one of a", "b one of b", "b own two of b"]);
        about(lines("b|a|b", r#"{app="x", __tenant_id__="a"}"#).await, &["a one of a"]);
        about(lines("a|b", r#"{app="x", __tenant_id__!~"a|b"}"#).await, &[]);
        about(lines("a|b", r#"{app="x", original___tenant_id__="own"}"#).await, &["b own two of b"]);
        about(lines("a|b", r#"{app=~".+"} | __tenant_id__="a""#).await, &["a one of a", "a two of a"]);
        // Of one tenant nothing is renamed.
        about(lines("b", r#"{app="x", __tenant_id__="own"}"#).await, &["own two of b"]);

        let params = [("query", r#"sum by (__tenant_id__) (count_over_time({app=~".+"}[1h]))"#)];
        let answer = ask(&router, "a|b|c", "/loki/api/v1/query", &params).await;
        let mut counts: Vec<(String, String)> = answer["data"]["result"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| {
                (
                    s["metric"]["__tenant_id__"].as_str().unwrap().into(),
                    s["value"][1].as_str().unwrap().into(),
                )
            })
            .collect();
        counts.sort();
        let counts: Vec<(&str, &str)> = counts.iter().map(|(t, n)| (t.as_str(), n.as_str())).collect();
        assert_eq!(counts, [("a", "2"), ("b", "2"), ("c", "1")], "from {source}");
        let params = [("query", r#"sum(count_over_time({app="x", __tenant_id__!="c"}[1h]))"#)];
        let answer = ask(&router, "a|b|c", "/loki/api/v1/query", &params).await;
        assert_eq!(answer["data"]["result"][0]["value"][1], "3");

        let answer = ask(&router, "a|b", "/loki/api/v1/labels", &[]).await;
        let names = json!(["__tenant_id__", "app", "original___tenant_id__", "service_name"]);
        assert_eq!(answer["data"], names);
        let answer = ask(&router, "a|b", "/loki/api/v1/label/__tenant_id__/values", &[]).await;
        assert_eq!(answer["data"], json!(["a", "b"]));
        let answer = ask(&router, "a|b", "/loki/api/v1/label/app/values", &[]).await;
        assert_eq!(answer["data"], json!(["x", "y"]));
        let answer = ask(&router, "a|c", "/loki/api/v1/series", &[("match[]", r#"{app="x"}"#)]).await;
        assert_eq!(answer["data"].as_array().unwrap().len(), 2);
        assert_eq!(answer["data"][0]["__tenant_id__"], "a");
        let answer = ask(&router, "a|b|c", "/loki/api/v1/index/stats", &[("query", r#"{app="x"}"#)]).await;
        assert_eq!((&answer["streams"], &answer["entries"]), (&json!(4), &json!(4)));
        let params = [("query", r#"{app="x"}"#)];
        let answer = ask(&router, "a|b|c", "/loki/api/v1/index/volume", &params).await;
        assert_eq!(answer["data"]["result"].as_array().unwrap().len(), 1, "{answer}");
        assert_eq!(answer["data"]["result"][0]["metric"], json!({"app": "x"}));
        assert_eq!(answer["data"]["result"][0]["value"][1], "32");
        let answer = ask(&router, "a|b", "/loki/api/v1/patterns", &[("query", r#"{app="x"}"#)]).await;
        assert_eq!(answer["data"].as_array().unwrap().len(), 3, "{answer}");
        let answer = ask(&router, "a|b", "/loki/api/v1/detected_labels", &[]).await;
        assert!(answer["detectedLabels"].as_array().unwrap().iter().any(|l| l["label"] == "app"), "{answer}");
    }
    // Only reads, and only ids that are allowed.
    let (status, _) = send(&router, of("a|b", push(&[("app=x", &[(start, "x")])]))).await;
    assert_eq!(status, 400);
    assert_eq!(refused(&router, "a|b/c", RANGE, &[("query", r#"{app="x"}"#)]).await.0, 400);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_tenants_are_refused_by_default() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start_with(dir.path(), "auth_enabled: true").await;
    let router = running.handle.router();
    let (status, text) = refused(&router, "a|b", RANGE, &[("query", r#"{app="x"}"#)]).await;
    assert!(status == 400 && text.contains("multiple org IDs present"), "{status} {text}");
    let (status, body) = send(&router, get(RANGE, &[("query", r#"{app="x"}"#)])).await;
    assert_eq!((status.as_u16(), body.as_slice()), (401, &b"no org id"[..]));
    running.stop().await;
}
