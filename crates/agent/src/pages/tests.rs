//! What the pages answer.

use http::Request;
use service::Process;
use service::axum::Router;
use service::axum::body::{Body, to_bytes};
use tower::ServiceExt as _;

use super::router;
use crate::run::tests::Bench;

static PROGRAM: service::Program = service::program!("agent-test");

fn pages(bench: &Bench, may_reload: bool) -> Router {
    let process = Process::new(&PROGRAM);
    process.metrics().collect(crate::live_metrics::LiveMetrics(bench.live.clone()));
    let reloads = may_reload.then(|| bench.reloads.clone());
    router(bench.live.clone(), reloads, true, process.health(), &process)
}

/// Status, `location` and body.
async fn ask(pages: &Router, method: &str, path: &str, accept: &str) -> (u16, String) {
    let request = Request::builder().method(method).uri(path).header("accept", accept);
    let response = pages.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let location = response.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, location.unwrap_or_else(|| String::from_utf8(body.to_vec()).unwrap()))
}

const JOBS: &str = "[{job_name: <app>, relabel_configs: [{source_labels: [app], regex: b, action: drop}], static_configs: [\
    {labels: {app: a, __path__: '{0}/app.log'}}, {labels: {app: b, __path__: '{0}/b.log'}}]}]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_show_targets_and_hide_nothing_but_secrets() {
    let bench = Bench::start(JOBS);
    let pages = pages(&bench, true);
    let get = async |path: &str| ask(&pages, "GET", path, "text/html").await;
    let json = async |path: &str| {
        let (status, body) = ask(&pages, "GET", path, "application/json").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<serde_json::Value>(&body).unwrap()
    };
    // Nothing to read yet.
    let (status, body) = get("/ready").await;
    assert!(status == 500 && body.starts_with("Not ready"), "{status} {body}");
    std::fs::write(bench.path("app.log"), "one\n").unwrap();
    assert_eq!(get("/ready").await, (200, "Ready\n".to_owned()));
    assert_eq!(get("/").await, (303, "/targets".to_owned()));
    for prefix in ["/agent", "/agent/"] {
        let server = service::ServerConfig { http_path_prefix: prefix.to_owned(), ..Default::default() };
        let mounted = server.mount(pages.clone());
        for (path, want) in [
            ("/agent", (303, "/agent/targets")),
            ("/agent/", (303, "/agent/targets")),
            ("/agent/ready", (200, "Ready\n")),
        ] {
            assert_eq!(ask(&mounted, "GET", path, "*/*").await, (want.0, want.1.to_owned()), "{path}");
        }
        assert_eq!(ask(&mounted, "GET", "/agent/targets", "*/*").await.0, 200);
        assert_eq!(ask(&mounted, "GET", "/ready", "*/*").await.0, 404);
    }
    bench.store.expect("one", 1).await;

    let (status, body) = get("/targets").await;
    assert!(status == 200 && body.contains("&lt;app&gt; (static_configs): 1 of 1 ready"), "{body}");
    assert!(body.contains("app.log") && !body.contains("<app>"), "{body}");
    let (_, body) = get("/service-discovery").await;
    assert!(
        body.contains("1 of 2 are read") && body.contains("relabelling dropped it (relabel_configs[0])"),
        "{body}"
    );
    for path in ["/targets", "/api/v1/targets", "/service-discovery"] {
        let all = json(path).await;
        assert_eq!(all["jobs"][0]["targets"][0]["labels"]["app"], "a", "{all}");
        assert_eq!(all["jobs"][0]["dropped"][0]["discoveredLabels"]["app"], "b", "{all}");
        assert_eq!(all["clients"][0]["name"], "embedded", "{all}");
    }
    let (_, metrics) = get("/metrics").await;
    assert!(metrics.contains("promtail_targets_active_total 1\n"), "{metrics}");
    let (_, config) = get("/config").await;
    assert!(config.contains("job_name: <app>"), "{config}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloading_by_http() {
    let bench = Bench::start(JOBS);
    let closed = pages(&bench, false);
    let (status, body) = ask(&closed, "POST", "/reload", "*/*").await;
    assert!(status == 403 && body.contains("server.enable_runtime_reload"), "{body}");
    let open = pages(&bench, true);
    assert_eq!(ask(&open, "GET", "/reload", "*/*").await.0, 405);
    assert_eq!(ask(&open, "POST", "/reload", "*/*").await, (200, String::new()));
    *bench.config.lock() = "scrape_configs: {".to_owned();
    let (status, body) = ask(&open, "POST", "/reload", "*/*").await;
    assert!(status == 500 && body.starts_with("failed to reload config: "), "{body}");
    // What is in force is what is shown.
    let new = JOBS.replace("app: a", "app: new");
    bench.reload(&new).await.unwrap();
    let (_, config) = ask(&open, "GET", "/config", "*/*").await;
    assert!(config.contains("app: new"), "{config}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_are_never_shown() {
    let text = "clients: [{url: 'http://user:hush@127.0.0.1:1/push', bearer_token: hush, headers: {X-Key: hush},\
        basic_auth: {username: u, password: hush}}]\n";
    let bench = Bench::start("[]");
    let positions = format!("positions: {{filename: '{}'}}\n", bench.path("positions.yaml").display());
    *bench.config.lock() = positions + &text.replace("bearer_token: hush, ", "");
    bench.reloads.reload().await.unwrap();
    let pages = pages(&bench, true);
    for path in
        ["/config", "/config?mode=diff", "/targets", "/api/v1/targets", "/service-discovery", "/metrics"]
    {
        let (_, body) = ask(&pages, "GET", path, "*/*").await;
        assert!(!body.contains("hush"), "{path}: {body}");
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explaining_by_http() {
    let bench = Bench::start(JOBS);
    let pages = pages(&bench, true);
    let path = bench.path("nothing.log").display().to_string();
    let (status, body) = ask(&pages, "GET", &format!("/explain?path={path}"), "text/plain").await;
    assert_eq!((status, body.lines().nth(1)), (200, Some("  verdict: the file is not there")));
    let (_, body) = ask(&pages, "GET", &format!("/explain?path={path}"), "application/json").await;
    assert!(body.contains("\"running\":true"), "{body}");
    assert_eq!(ask(&pages, "GET", "/explain", "*/*").await.0, 400);
    bench.end().await;
}
