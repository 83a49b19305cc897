//! The routes every service answers: `/ready`, `/healthz`, `/metrics`, `/config`, and build info.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::RawQuery,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;

use crate::{BuildInfo, Failure, Health, Metrics};

/// The texts of `/config`, secrets hidden.
#[derive(Clone, Debug)]
pub struct Configs {
    effective: String,
    defaults: String,
    /// What differs from the defaults.
    diff: String,
}

impl Configs {
    /// Of a configuration in force.
    pub fn of<C: Serialize + Default>(config: &C) -> Configs {
        let json = |config: &C| serde_json::to_value(config).unwrap_or_default();
        let diff = difference(&json(config), &json(&C::default()));
        let diff = diff.unwrap_or_else(|| serde_json::Value::Object(serde_json::Map::new()));
        Configs {
            effective: crate::config::print(config),
            defaults: crate::config::print(&C::default()),
            diff: crate::config::print(&diff),
        }
    }
}

/// Asked at each request.
type Ask<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// Makes the standard routes.
#[derive(Clone)]
pub struct Standard {
    health: Health,
    metrics: Metrics,
    config: Option<Ask<Configs>>,
    ready: Option<Ask<Response>>,
    build_info: Vec<(String, BuildInfo)>,
}

impl Standard {
    /// `/ready` and `/healthz` from `health`, `/metrics` from `metrics`.
    pub fn new(health: &Health, metrics: &Metrics) -> Standard {
        Standard {
            health: health.clone(),
            metrics: metrics.clone(),
            config: None,
            ready: None,
            build_info: Vec::new(),
        }
    }

    /// `/config` with the effective configuration, secrets hidden; with `mode=defaults` the defaults, with `mode=diff` what
    /// differs from them.
    pub fn config<C: Serialize + Default>(self, config: &C) -> Standard {
        let configs = Configs::of(config);
        self.live_config(move || configs.clone())
    }

    /// `/config` of a service whose configuration changes while it runs.
    pub fn live_config(mut self, configs: impl Fn() -> Configs + Send + Sync + 'static) -> Standard {
        self.config = Some(Arc::new(configs));
        self
    }

    /// Answers `/ready` with this rather than by health.
    pub fn ready(mut self, answer: impl Fn() -> Response + Send + Sync + 'static) -> Standard {
        self.ready = Some(Arc::new(answer));
        self
    }

    /// Answers `path` (`/loki/api/v1/status/buildinfo`, `/api/status/buildinfo`) with `info`.
    pub fn build_info(mut self, path: &str, info: BuildInfo) -> Standard {
        self.build_info.push((path.to_owned(), info));
        self
    }

    /// The routes, to be merged into a service's own.
    pub fn router(self) -> Router {
        let Standard { health, metrics, config, ready: answer, build_info } = self;
        let readiness = health.clone();
        let answer = answer.unwrap_or_else(|| Arc::new(move || ready(&readiness)));
        let mut router = Router::new()
            .route("/ready", get(async move || answer()))
            .route("/healthz", get(async move || components(&health)))
            .route("/metrics", get(async move |headers: HeaderMap| exposition(&metrics, &headers)));
        if let Some(config) = config {
            router =
                router.route("/config", get(async move |query: RawQuery| configuration(config(), query)));
        }
        for (path, info) in build_info {
            router = router.route(&path, get(async move || Json(info)));
        }
        router
    }
}

fn configuration(configs: Configs, RawQuery(query): RawQuery) -> Response {
    let mode = query.as_deref().unwrap_or_default().split('&').find_map(|part| part.strip_prefix("mode="));
    let text = match mode {
        None | Some("") => configs.effective,
        Some("defaults") => configs.defaults,
        Some("diff") => configs.diff,
        Some(other) => {
            return Failure::invalid(format!("unknown mode `{other}`: use defaults, diff, or none"))
                .into_response();
        }
    };
    ([(header::CONTENT_TYPE, "text/yaml; charset=utf-8")], text).into_response()
}

/// What of `value` is not as in `default`.
fn difference(value: &serde_json::Value, default: &serde_json::Value) -> Option<serde_json::Value> {
    if let (Some(own), Some(others)) = (value.as_object(), default.as_object()) {
        let members = own.iter().filter_map(|(key, value)| {
            let default = others.get(key).unwrap_or(&serde_json::Value::Null);
            difference(value, default).map(|value| (key.clone(), value))
        });
        let members: serde_json::Map<_, _> = members.collect();
        return (!members.is_empty()).then_some(serde_json::Value::Object(members));
    }
    (value != default).then(|| value.clone())
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use tower::ServiceExt;

    #[derive(Serialize)]
    struct Config {
        server: Server,
        name: String,
    }

    #[derive(Serialize)]
    struct Server {
        port: u16,
        host: String,
    }

    impl Default for Config {
        fn default() -> Config {
            Config { server: Server { port: 80, host: "h".to_owned() }, name: "service".to_owned() }
        }
    }

    #[tokio::test]
    async fn configuration_has_modes() {
        let config = Config { server: Server { port: 81, host: "h".to_owned() }, name: "service".to_owned() };
        let router = Standard::new(&Health::default(), &Metrics::default()).config(&config).router();
        let get = async |query: &str| {
            let request = http::Request::get(format!("/config{query}")).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let body = axum::body::to_bytes(response.into_body(), 9999).await.unwrap();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(get("").await, (200, "server:\n  port: 81\n  host: h\nname: service\n".to_owned()));
        assert_eq!(get("?mode=diff").await, (200, "server:\n  port: 81\n".to_owned()));
        assert!(get("?mode=defaults").await.1.contains("port: 80"));
        assert_eq!(get("?mode=x").await.0, 400);
    }
}
