//! Loki's HTTP API.

mod ask;
mod blocked;
mod delete;
mod detected;
mod detected_fields;
pub(crate) mod json;
mod labels;
mod ops;
pub mod params;
mod patterns;
mod push;
mod query;
mod rules;
mod stats;
mod streams;
mod tail;
mod tighten;
mod volume;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get, post};
use block::Store;
use http::StatusCode;
use service::Failure;

pub use crate::api::ask::NO_AUTH_TENANT;
pub use crate::api::ops::Control;
use crate::deletes::Deletes;
use crate::ingest::Ingest;
use crate::overrides::Overrides;
use crate::patterns::Patterns;
use crate::query::run::Querier;
use crate::ruler::Ruler;
use crate::store::signal::LogsSignal;

/// What the handlers share.
pub struct App {
    /// Takes pushes.
    pub ingest: Arc<Ingest>,
    /// Evaluates queries.
    pub querier: Querier,
    /// Evaluates rules.
    pub(crate) ruler: Arc<Ruler>,
    /// The store, for `/flush`.
    pub store: Arc<Store<LogsSignal>>,
    /// Delete requests.
    pub deletes: Arc<Deletes>,
    /// Limits of all tenants.
    pub limits: Overrides,
    /// Log patterns, unless they are switched off.
    pub patterns: Option<Arc<Patterns>>,
    /// Whether requests must name a tenant.
    pub auth_enabled: bool,
    /// Whether reads may name several.
    pub multi_tenant_queries: bool,
    /// After this long a live tail is ended.
    pub tail_max_duration: Duration,
    /// The hand on the process, where there is one.
    pub control: Control,
    /// Largest body as sent.
    pub max_body: usize,
}

/// The version of Loki's interface that we speak; Grafana decides features by it.
pub const INTERFACE_VERSION: &str = "3.7.0";

/// All routes of Loki's API.
pub fn router(app: Arc<App>) -> Router {
    let read = || Router::<Arc<App>>::new();
    let v1 = read()
        .route("/query", get(query::instant).post(query::instant))
        .route("/query_range", get(query::range).post(query::range))
        .route("/labels", get(labels::names).post(labels::names))
        .route("/label", get(labels::names).post(labels::names))
        .route("/label/{name}/values", get(labels::values).post(labels::values))
        .route("/series", get(labels::series).post(labels::series))
        .route("/index/stats", get(stats::stats).post(stats::stats))
        .route("/index/shards", get(stats::shards).post(stats::shards))
        .route("/index/volume", get(volume::instant).post(volume::instant))
        .route("/index/volume_range", get(volume::range).post(volume::range))
        .route("/detected_labels", get(detected::labels).post(detected::labels))
        .route("/detected_fields", get(detected::fields).post(detected::fields))
        .route("/detected_field/{name}/values", get(detected::values).post(detected::values))
        .route("/format_query", get(query::format).post(query::format))
        .route("/drilldown-limits", get(ops::drilldown_limits))
        .route("/patterns", get(patterns::patterns).post(patterns::patterns))
        .route("/delete", get(delete::list).post(delete::create).put(delete::create).delete(delete::cancel))
        .route("/cache/generation_numbers", any(ops::absent))
        .route("/tail", get(tail::tail))
        .merge(rule_routes("/rules"));
    Router::new()
        .nest("/loki/api/v1", v1)
        .route("/loki/api/v1/push", push_route(push::push))
        .route("/otlp/v1/logs", push_route(push::otlp))
        .route("/api/prom/push", push_route(push::legacy))
        .route("/api/prom/query", get(query::legacy).post(query::legacy))
        .route("/api/prom/label", get(labels::names).post(labels::names))
        .route("/api/prom/label/{name}/values", get(labels::values).post(labels::values))
        .route("/api/prom/series", get(labels::series).post(labels::series))
        .route("/api/prom/tail", get(tail::tail))
        .merge(rule_routes("/api/prom/rules"))
        .route("/prometheus/api/v1/rules", get(rules::status))
        .route("/prometheus/api/v1/alerts", get(rules::alerts))
        .route("/config/tenant/v1/limits", get(ops::tenant_limits))
        .route("/flush", get(ops::flush).post(ops::flush))
        .route("/services", get(ops::services))
        .route("/ring", get(ops::ring))
        .route("/distributor/ring", get(ops::ring))
        .route("/ingester/ring", get(ops::ring))
        .route("/pattern/ring", get(ops::ring))
        .route("/compactor/ring", get(ops::ring))
        .route("/ruler/ring", get(ops::ring))
        .route("/indexgateway/ring", get(ops::ring))
        .route("/scheduler/ring", get(ops::ring))
        .route("/memberlist", get(ops::ring))
        .route("/ingester/flush", get(ops::flush).post(ops::flush))
        .route("/ingester/shutdown", get(ops::shutdown).post(ops::shutdown))
        .route("/ingester/prepare_shutdown", get(ops::prepared).post(ops::prepare).delete(ops::unprepare))
        .route("/log_level", get(ops::log_level).post(ops::set_log_level))
        .route("/runtime_config", get(ops::runtime_config))
        .fallback(ops::not_found)
        // Bodies are capped where they are read, with Loki's answer.
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}

/// Rules below a path, by namespace and group.
fn rule_routes(path: &str) -> Router<Arc<App>> {
    Router::new()
        .route(path, get(rules::all))
        .route(
            &format!("{path}/{{namespace}}"),
            get(rules::namespace).post(rules::set).delete(rules::remove_namespace),
        )
        .route(&format!("{path}/{{namespace}}/{{group}}"), get(rules::group).delete(rules::remove_group))
}

/// Pushes answer 404 to other methods, as Loki does.
fn push_route<H, T>(handler: H) -> axum::routing::MethodRouter<Arc<App>>
where
    H: axum::handler::Handler<T, Arc<App>>,
    T: 'static,
{
    post(handler).fallback(ops::not_found)
}

/// 404 with Go's text.
pub(crate) fn page_not_found() -> Failure {
    Failure::not_found("404 page not found\n").with_status(StatusCode::NOT_FOUND)
}
