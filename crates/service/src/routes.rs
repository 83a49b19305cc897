//! The routes every service answers: `/ready`, `/healthz`, `/metrics`, `/config`, and build info.

use axum::{
    Json, Router,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;

use crate::{BuildInfo, Health, Metrics};

/// Makes the standard routes.
#[derive(Clone, Debug)]
pub struct Standard {
    health: Health,
    metrics: Metrics,
    config: Option<String>,
    build_info: Vec<(String, BuildInfo)>,
}

impl Standard {
    /// `/ready` and `/healthz` from `health`, `/metrics` from `metrics`.
    pub fn new(health: &Health, metrics: &Metrics) -> Standard {
        Standard { health: health.clone(), metrics: metrics.clone(), config: None, build_info: Vec::new() }
    }

    /// `/config` with the effective configuration, secrets hidden.
    pub fn config(mut self, config: &impl Serialize) -> Standard {
        self.config = Some(crate::config::print(config));
        self
    }

    /// Answers `path` (`/loki/api/v1/status/buildinfo`, `/api/status/buildinfo`) with `info`.
    pub fn build_info(mut self, path: &str, info: BuildInfo) -> Standard {
        self.build_info.push((path.to_owned(), info));
        self
    }

    /// The routes, to be merged into a service's own.
    pub fn router(self) -> Router {
        let Standard { health, metrics, config, build_info } = self;
        let readiness = health.clone();
        let mut router = Router::new()
            .route("/ready", get(async move || ready(&readiness)))
            .route("/healthz", get(async move || components(&health)))
            .route("/metrics", get(async move |headers: HeaderMap| exposition(&metrics, &headers)));
        if let Some(config) = config {
            let answer = get(async move || ([(header::CONTENT_TYPE, "text/yaml; charset=utf-8")], config));
            router = router.route("/config", answer);
        }
        for (path, info) in build_info {
            router = router.route(&path, get(async move || Json(info)));
        }
        router
    }
}

/// 200 `ready`, or 503 with a line for each component that is not.
fn ready(health: &Health) -> Response {
    const TEXT: (header::HeaderName, &str) = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
    let obstacles = health.obstacles();
    if obstacles.is_empty() {
        return ([TEXT], "ready\n").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, [TEXT], obstacles.join("\n") + "\n").into_response()
}

/// `{"status":"ready","components":{"ingester":{"status":"ready"}}}`, 503 unless ready.
fn components(health: &Health) -> Response {
    let states = health.states();
    let is_ready = states.iter().all(|(_, state)| *state == crate::health::State::Ready);
    let body = serde_json::json!({
        "status": if is_ready { "ready" } else { "not ready" },
        "components": states.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    });
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// The same text serves both formats; only its name differs.
fn exposition(metrics: &Metrics, headers: &HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let content_type = match accept.contains("application/openmetrics-text") {
        true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        false => "text/plain; version=0.0.4; charset=utf-8",
    };
    ([(header::CONTENT_TYPE, content_type)], metrics.text()).into_response()
}
