//! The service on a temporary folder, without listeners.

use std::path::Path;

use ::service::CancellationToken;
use ::service::axum::body::Body;
use ::service::metrics::Metrics;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use traces::{Config, Traces, TracesHandle};

/// A running service; dropping it is like a crash.
pub(crate) struct Service {
    pub handle: TracesHandle,
    tasks: JoinHandle<()>,
    stop: CancellationToken,
}

impl Service {
    pub(crate) async fn open(folder: &Path) -> Self {
        Self::with(Config::default(), folder).await
    }

    pub(crate) async fn with(config: Config, folder: &Path) -> Self {
        let config = config.in_folder(folder);
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let traces = loop {
            match Traces::open(config.clone(), &Metrics::default()).await {
                Ok(traces) => break traces,
                // The threads of a crashed service hold the folder until they notice.
                Err(e) if e.to_string().contains("in use") && std::time::Instant::now() < patience => {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                Err(e) => panic!("{e:#}"),
            }
        };
        let (handle, stop) = (traces.handle(), CancellationToken::new());
        let tasks = tokio::spawn(traces.run(stop.clone()));
        Self { handle, tasks, stop }
    }

    /// Ends without a flush, as a process does that is killed after its last answer.
    pub(crate) async fn crash(self) {
        self.tasks.abort();
        let _ = self.tasks.await;
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.await.unwrap();
    }

    pub(crate) async fn request(&self, request: Request<Body>) -> (StatusCode, Bytes) {
        let router = self.handle.router().merge(self.handle.otlp_router());
        let answer = router.oneshot(request).await.unwrap();
        let status = answer.status();
        (status, answer.into_body().collect().await.unwrap().to_bytes())
    }

    pub(crate) async fn get(&self, uri: &str) -> (StatusCode, Bytes) {
        let request = Request::builder().uri(uri).header("Accept", "application/json").body(Body::empty());
        self.request(request.unwrap()).await
    }

    pub(crate) async fn push(&self, content_type: &str, body: impl Into<Bytes>) -> (StatusCode, Bytes) {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/v1/traces")
            .header("Content-Type", content_type)
            .body(Body::from(body.into()));
        self.request(request.unwrap()).await
    }
}
