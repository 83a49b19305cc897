//! What operators and old clients meet beside queries.

use axum::body::Body;
use http::{Request, StatusCode};

use crate::running::{Running, get, now, push, send};

#[tokio::test(flavor = "multi_thread")]
async fn methods_and_paths() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let router = running.handle.router();
    for (method, path, expect) in [
        ("GET", "/loki/api/v1/labels", 200),
        ("POST", "/loki/api/v1/labels", 200),
        ("DELETE", "/loki/api/v1/labels", 405),
        ("PUT", "/loki/api/v1/query_range", 405),
        ("GET", "/loki/api/v1/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", "/loki/api/v1/push", 404),
        ("GET", "/ring", 200),
        ("GET", "/distributor/ring", 200),
        ("GET", "/compactor/ring", 200),
        ("GET", "/ruler/ring", 200),
        ("GET", "/indexgateway/ring", 200),
        ("GET", "/scheduler/ring", 200),
        ("GET", "/memberlist", 200),
        ("GET", "/services", 200),
        ("GET", "/runtime_config", 200),
        ("GET", "/config/tenant/v1/limits", 200),
        ("GET", "/loki/api/v1/drilldown-limits", 200),
        ("GET", "/flush", 204),
        ("POST", "/flush", 204),
        ("POST", "/ingester/flush", 204),
        ("GET", "/api/prom/label", 200),
        ("GET", "/api/prom/label/app/values", 200),
        ("GET", "/api/prom/series", 200),
        ("GET", "/loki/api/v1/index/shards?query=%7Ba%3D%22b%22%7D&targetBytesPerShard=600MB", 200),
        ("GET", "/loki/api/v1/index/shards?query=%7Ba%3D%22b%22%7D&targetBytesPerShard=0", 400),
        ("POST", "/ingester/shutdown?terminate=false", 204),
        ("POST", "/ingester/shutdown?terminate=perhaps", 400),
        // There is no process to end or to change here.
        ("POST", "/ingester/shutdown?flush=false", 503),
        ("POST", "/log_level?log_level=debug", 404),
        ("POST", "/log_level", 400),
    ] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let (status, body) = send(&router, request).await;
        let text = String::from_utf8_lossy(&body);
        assert_eq!(status.as_u16(), expect, "{method} {path}: {text}");
        if expect == 404 && path.contains("nothing") {
            assert_eq!(text, "404 page not found\n");
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdowns_can_be_announced() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let router = running.handle.router();
    for (method, status, after) in
        [("GET", 200, "unset\n"), ("POST", 204, "set\n"), ("DELETE", 204, "unset\n")]
    {
        let request = Request::builder().method(method).uri("/ingester/prepare_shutdown").body(Body::empty());
        assert_eq!(send(&router, request.unwrap()).await.0.as_u16(), status);
        let (_, state) = send(&router, get("/ingester/prepare_shutdown", &[])).await;
        assert_eq!(String::from_utf8(state).unwrap(), after);
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_are_read_and_capped() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let router = running.handle.router();
    let (status, _) = send(&router, push(&[("app=a", &[(now() - 5, "x")])])).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let form = |uri: &str, body: String| {
        Request::post(uri)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body))
            .unwrap()
    };
    // The query string and the form are one.
    let (status, body) =
        send(&router, form("/loki/api/v1/query_range?limit=5", "query=%7Bapp%3D%22a%22%7D".into())).await;
    assert!(status == 200 && String::from_utf8_lossy(&body).contains("\"x\""), "{status}");
    let (status, _) = send(&router, form("/loki/api/v1/query_range", "x".repeat((10 << 20) + 1))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_cut_with_a_mark() {
    let dir = tempfile::tempdir().unwrap();
    let yaml = "limits_config: {max_line_size: 10, max_line_size_truncate: true, max_line_size_truncate_identifier: '…'}";
    let running = Running::start_with(dir.path(), yaml).await;
    let router = running.handle.router();
    let (status, _) =
        send(&router, push(&[("app=a", &[(now() - 5, "0123456789abc"), (now() - 4, "0123456789")])])).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let answer =
        running.get("/loki/api/v1/query_range", &[("query", r#"{app="a"}"#), ("direction", "forward")]).await;
    let values = &answer["data"]["result"][0]["values"];
    assert_eq!((&values[0][1], &values[1][1]), (&"0123456…".into(), &"0123456789".into()));
    running.stop().await;
}
