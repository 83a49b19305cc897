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
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts it on a folder.
    pub(crate) async fn start(dir: &Path) -> Self {
        let mut config = Config::default();
        config.common.path_prefix = dir.display().to_string();
        // The thread of a store that died lets go of the log when it notices.
        let deadline = Instant::now() + Duration::from_secs(20);
        let logs = loop {
            match Logs::open(config.clone(), &Metrics::default()).await {
                Err(error) if format!("{error:#}").contains("in use") && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                opened => break opened.unwrap(),
            }
        };
        let handle = logs.handle();
        let cancel = CancellationToken::new();
        let task = tokio::spawn(logs.into_tasks()(cancel.clone()));
        Self { handle, cancel, task }
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

/// Sends a request and reads the whole answer.
pub(crate) async fn send(router: &Router, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    (status, axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec())
}
