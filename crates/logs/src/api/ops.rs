//! Operational endpoints, and the answers of parts that are switched off.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use service::health::State as Is;
use service::http::read_body;
use service::{Failure, Health, LevelHandle, Process, Shutdown};

use crate::api::ask::{Ask, json_value};
use crate::api::page_not_found;
use crate::api::params::Params;
use crate::api::{App, INTERFACE_VERSION};
use crate::limits::Limits;

/// `/flush`: makes blocks of everything in memory.
pub(crate) async fn flush(State(app): State<Arc<App>>) -> Result<StatusCode, Failure> {
    app.store.flush().await.map_err(|e| Failure::unavailable(e.to_string(), None))?;
    Ok(StatusCode::NO_CONTENT)
}

/// The hand of operators on the process.
#[derive(Debug, Default)]
pub struct Control {
    process: OnceLock<ProcessControl>,
    /// Whether somebody announced a shutdown. Each shutdown flushes: there is nothing to prepare, but it is remembered and told.
    is_prepared: AtomicBool,
}

#[derive(Debug)]
struct ProcessControl {
    health: Health,
    shutdown: Shutdown,
    level: Option<LevelHandle>,
}

impl Control {
    /// Connects it with the process that runs the service; `health` has the service's components.
    pub fn attach(&self, health: &Health, process: &Process) {
        let control = ProcessControl {
            health: health.clone(),
            shutdown: process.shutdown(),
            level: process.log_level().cloned(),
        };
        // A service is registered once.
        let _ = self.process.set(control);
    }
}

/// `/services`
pub(crate) async fn services(State(app): State<Arc<App>>) -> String {
    let mut states: BTreeMap<String, &str> = BTreeMap::new();
    for (name, state) in app.control.process.get().map(|process| process.health.states()).unwrap_or_default()
    {
        let state = match state {
            Is::Starting(_) => "Starting",
            Is::Ready => "Running",
            Is::Failing(_) => "Failed",
            Is::Stopping => "Stopping",
        };
        states.insert(name, state);
    }
    // These begin and end with the ingester.
    let ingester = states.get("ingester").copied().unwrap_or("Running");
    for name in ["distributor", "ingester", "querier", "server", "store", "runtime-config"] {
        states.entry(name.to_owned()).or_insert(ingester);
    }
    if app.patterns.is_some() {
        states.entry("pattern-ingester".to_owned()).or_insert(ingester);
    }
    states.iter().map(|(name, state)| format!("{name} => {state}\n")).collect()
}

/// GET `/log_level`
pub(crate) async fn log_level(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let level = level_handle(&app)?;
    Ok(json_value(&serde_json::json!({"message": format!("Current log level is {}", level.get())})))
}

/// POST `/log_level?log_level=debug`
pub(crate) async fn set_log_level(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let form = read_body(body, 4096).await?;
    let params = Params::parse(parts.uri.query().unwrap_or_default(), &form);
    let Some(wanted) = params.get("log_level") else {
        return Err(Failure::invalid(
            "the parameter log_level is missing: it is one of debug, info, warn, error",
        ));
    };
    let level = level_handle(&app)?;
    if let Err(error) = level.set(wanted) {
        let body = serde_json::json!({"message": error.to_string(), "status": "failed"});
        return Ok((StatusCode::BAD_REQUEST, json_value(&body)).into_response());
    }
    tracing::info!(level = wanted, "the log level was changed");
    let message = format!("Log level set to {wanted}");
    Ok(json_value(&serde_json::json!({"message": message, "status": "success"})))
}

fn level_handle(app: &App) -> Result<&LevelHandle, Failure> {
    let process = app.control.process.get();
    process
        .and_then(|process| process.level.as_ref())
        .ok_or_else(|| Failure::not_found("this process has no log level"))
}

/// `/ingester/shutdown`: makes blocks of everything, then ends the process, unless told not to do one of them.
pub(crate) async fn shutdown(State(app): State<Arc<App>>, request: Request) -> Result<StatusCode, Failure> {
    let params = Params::parse(request.uri().query().unwrap_or_default(), b"");
    let is_on = |name: &str| match params.get(name) {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(Failure::invalid(format!("{name} is either true or false, not `{other}`"))),
    };
    let (wants_flush, terminate) = (is_on("flush")?, is_on("terminate")?);
    if wants_flush {
        app.store.flush().await.map_err(|e| Failure::unavailable(e.to_string(), None))?;
    }
    if terminate {
        let process = app.control.process.get();
        let process = process.ok_or_else(|| Failure::unavailable("there is no process to end", None))?;
        process.shutdown.begin("/ingester/shutdown");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// GET `/ingester/prepare_shutdown`
pub(crate) async fn prepared(State(app): State<Arc<App>>) -> &'static str {
    if app.control.is_prepared.load(Ordering::Relaxed) { "set\n" } else { "unset\n" }
}

/// POST `/ingester/prepare_shutdown`
pub(crate) async fn prepare(State(app): State<Arc<App>>) -> StatusCode {
    app.control.is_prepared.store(true, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}

/// DELETE `/ingester/prepare_shutdown`
pub(crate) async fn unprepare(State(app): State<Arc<App>>) -> StatusCode {
    app.control.is_prepared.store(false, Ordering::Relaxed);
    StatusCode::NO_CONTENT
}

/// `/runtime_config`: the limits of single tenants; with `mode=diff` only what differs from the defaults.
pub(crate) async fn runtime_config(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Failure> {
    let params = Params::parse(request.uri().query().unwrap_or_default(), b"");
    let is_diff = match params.get("mode") {
        None => false,
        Some("diff") => true,
        Some(other) => return Err(Failure::invalid(format!("unknown mode `{other}`: use diff, or none"))),
    };
    let of = |limits: &Limits| serde_json::to_value(limits).map_err(|e| Failure::internal(e.to_string()));
    let defaults = of(app.limits.defaults())?;
    let mut overrides = serde_json::Map::new();
    for (tenant, limits) in app.limits.tenants() {
        let mut limits = of(&limits)?;
        if is_diff && let Some(members) = limits.as_object_mut() {
            members.retain(|name, value| defaults.get(name) != Some(value));
        }
        overrides.insert(tenant.to_string(), limits);
    }
    Ok(yaml(service::config::print(&serde_json::json!({"overrides": overrides}))))
}

fn yaml(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/yaml; charset=utf-8")], text).into_response()
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

/// `/config/tenant/v1/limits`
pub(crate) async fn tenant_limits(ask: Ask) -> Response {
    yaml(service::config::print(&*ask.limits))
}

/// `/loki/api/v1/drilldown-limits`
pub(crate) async fn drilldown_limits(State(app): State<Arc<App>>, ask: Ask) -> Response {
    let limits = &ask.limits;
    json_value(&serde_json::json!({
        "limits": {
            "discover_log_levels": limits.discover_log_levels,
            "discover_service_name": limits.discover_service_name,
            "log_level_fields": limits.log_level_fields,
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
            "retention_stream": limits.retention_stream,
            "volume_enabled": limits.volume_enabled,
            "volume_max_series": limits.volume_max_series,
        },
        "pattern_ingester_enabled": app.patterns.is_some(),
        "version": INTERFACE_VERSION,
    }))
}
