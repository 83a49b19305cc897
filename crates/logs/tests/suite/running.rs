//! The service in this process, without sockets.

use std::path::Path;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use logs::{Config, Logs, LogsHandle};
use serde_json::Value;
use service::{CancellationToken, Metrics};
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

/// A running service.
pub(crate) struct Running {
    pub(crate) handle: LogsHandle,
    pub(crate) metrics: Metrics,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts it on a folder.
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_with(dir, "{}").await
    }

    /// Starts it on a folder, with some configuration.
    pub(crate) async fn start_with(dir: &Path, yaml: &str) -> Self {
        let mut config = service::config::from_text::<Config>(yaml).unwrap().config;
        config.common.path_prefix = dir.display().to_string();
        let metrics = Metrics::default();
        // The thread of a store that died lets go of the log when it notices.
        let deadline = Instant::now() + Duration::from_secs(20);
        let logs = loop {
            match Logs::open(config.clone(), &metrics).await {
                Err(error) if format!("{error:#}").contains("in use") && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                opened => break opened.unwrap(),
            }
        };
        let handle = logs.handle();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(logs.into_tasks()(cancel.clone()));
        Self { handle, metrics, cancel, task }
    }

    /// Ends it in order.
    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }

    /// Drops its work where it stands.
    pub(crate) async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// A GET with parameters, answered with JSON.
    pub(crate) async fn get(&self, path: &str, params: &[(&str, &str)]) -> Value {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        let request = Request::get(format!("{path}?{query}")).body(Body::empty()).unwrap();
        let (status, body) = send(&self.handle.router(), request).await;
        assert_eq!(status, StatusCode::OK, "{path}?{query}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }
}

/// A push in JSON: streams of labels (`a=b,c=d`) with times in nanoseconds and lines.
pub(crate) fn push(streams: &[(&str, &[(i64, &str)])]) -> Request<Body> {
    let stream = |(labels, entries): &(&str, &[(i64, &str)])| {
        let labels: serde_json::Map<String, Value> = labels
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let values: Vec<_> =
            entries.iter().map(|(time, line)| serde_json::json!([time.to_string(), line])).collect();
        serde_json::json!({"stream": labels, "values": values})
    };
    let streams: Vec<_> = streams.iter().map(stream).collect();
    let body = serde_json::json!({"streams": streams}).to_string();
    let request = Request::post("/loki/api/v1/push").header("content-type", "application/json");
    request.body(Body::from(body)).unwrap()
}

/// The same request of a tenant.
pub(crate) fn of(tenant: &str, mut request: Request<Body>) -> Request<Body> {
    request.headers_mut().insert("x-scope-orgid", tenant.parse().unwrap());
    request
}

/// A GET with parameters.
pub(crate) fn get(path: &str, params: &[(&str, &str)]) -> Request<Body> {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
    Request::get(format!("{path}?{query}")).body(Body::empty()).unwrap()
}

/// Nanoseconds since the epoch.
pub(crate) fn now() -> i64 {
    model::Timestamp::now().nanos()
}

/// Waits until `check` holds.
pub(crate) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !check().await {
        assert!(Instant::now() < deadline, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends a request and reads the whole answer.
pub(crate) async fn send(router: &Router, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    (status, axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec())
}
