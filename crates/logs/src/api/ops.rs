//! Operational endpoints, and the answers of parts that are switched off.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use service::Failure;

use crate::api::ask::{Ask, json_value};
use crate::api::page_not_found;
use crate::api::{App, INTERFACE_VERSION};

/// `/flush`: makes blocks of everything in memory.
pub(crate) async fn flush(State(app): State<Arc<App>>) -> Result<StatusCode, Failure> {
    app.store.flush().await.map_err(|e| Failure::unavailable(e.to_string(), None))?;
    Ok(StatusCode::NO_CONTENT)
}

/// `/services`
pub(crate) async fn services() -> &'static str {
    "distributor => Running\ningester => Running\nquerier => Running\n"
}

/// Nothing to do.
pub(crate) async fn no_content() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// `/ingester/prepare_shutdown`: a shutdown needs no preparation here.
pub(crate) async fn prepare_shutdown() -> &'static str {
    "unset\n"
}

/// Ring pages: there is no ring.
pub(crate) async fn ring() -> Response {
    let page = "<!DOCTYPE html><title>No ring</title><p>This store has no hash ring: its parts meet in the bucket.</p>\n";
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// Everything else.
pub(crate) async fn not_found() -> Failure {
    page_not_found()
}

/// Parts that are switched off, as Loki answers for them: Drilldown takes 404 gracefully.
pub(crate) async fn absent() -> Failure {
    Failure::not_found("")
}

/// Live tailing.
pub(crate) async fn tail() -> Failure {
    Failure::not_found(
        "live tailing is not available in this version: query with a short refresh interval instead",
    )
}

/// Rules: there are none.
pub(crate) async fn no_rules() -> Failure {
    Failure::not_found("no rule groups found\n")
}

/// `/prometheus/api/v1/rules`
pub(crate) async fn prometheus_rules() -> Response {
    json_value(
        &serde_json::json!({"status": "success", "data": {"groups": []}, "errorType": "", "error": ""}),
    )
}

/// `/prometheus/api/v1/alerts`
pub(crate) async fn prometheus_alerts() -> Response {
    json_value(
        &serde_json::json!({"status": "success", "data": {"alerts": []}, "errorType": "", "error": ""}),
    )
}

/// `/config/tenant/v1/limits`
pub(crate) async fn tenant_limits(State(app): State<Arc<App>>) -> Response {
    ([(header::CONTENT_TYPE, "application/yaml; charset=utf-8")], service::config::print(&*app.limits))
        .into_response()
}

/// `/loki/api/v1/drilldown-limits`
pub(crate) async fn drilldown_limits(State(app): State<Arc<App>>, _ask: Ask) -> Response {
    let limits = &app.limits;
    json_value(&serde_json::json!({
        "limits": {
            "discover_log_levels": limits.discover_log_levels,
            "discover_service_name": limits.discover_service_name,
            "log_level_fields": crate::ingest::level::NAMES,
            "max_entries_limit_per_query": limits.max_entries_limit_per_query,
            "max_line_size_truncate": limits.max_line_size_truncate,
            "max_query_bytes_read": limits.max_query_bytes_read,
            "max_query_length": limits.max_query_length,
            "max_query_lookback": limits.max_query_lookback,
            "max_query_range": limits.max_query_range,
            "max_query_series": limits.max_query_series,
            "metric_aggregation_enabled": false,
            "otlp_config": limits.otlp_config,
            "pattern_persistence_enabled": false,
            "query_timeout": limits.query_timeout,
            "retention_period": limits.retention_period,
            "retention_stream": [],
            "volume_enabled": limits.volume_enabled,
            "volume_max_series": limits.volume_max_series,
        },
        "pattern_ingester_enabled": false,
        "version": INTERFACE_VERSION,
    }))
}
