//! Tempo's HTTP API.

mod answer;
pub(crate) mod ask;
mod params;

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{HeaderMap, StatusCode, Uri, header};
use model::{TenantId, TraceId};
use prost::Message;
use serde::Serialize;
use service::Failure;
use wire::tempo::{PartialStatus, TraceByIdMetrics, TraceByIdResponse};

use crate::query::{Found, Querier};
use crate::tenancy::Tenancy;
use ask::{Metrics, Search, Tags};
use params::{Params, SECOND};

/// Longest time of a search or metrics query.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time to find a trace.
const TRACE_TIMEOUT: Duration = Duration::from_secs(10);
/// The range of an instant query that names none.
const INSTANT_RANGE: i64 = 15 * 60 * SECOND;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) querier: Querier,
    pub(crate) tenancy: Tenancy,
}

/// The routes under `/api`.
pub(crate) fn router(api: Api) -> Router {
    let prefix = api.querier.config.http_api_prefix.trim_end_matches('/').to_owned();
    let routes = Router::new()
        .route("/api/echo", any(async || "echo\n"))
        .route("/api/traces/{id}", any(trace_v1))
        .route("/api/v2/traces/{id}", any(trace_v2))
        .route("/api/search", any(search))
        .route("/api/search/tags", any(tags))
        .route("/api/v2/search/tags", any(tags_v2))
        .route("/api/search/tag/{*tag}", any(values))
        .route("/api/v2/search/tag/{*tag}", any(values_v2))
        .route("/api/metrics/query_range", any(query_range))
        .route("/api/metrics/query", any(query_instant))
        .route("/flush", any(flush))
        .layer(tower_http::compression::CompressionLayer::new().gzip(true))
        .with_state(api);
    if prefix.is_empty() {
        routes
    } else {
        Router::new().nest(&format!("/{}", prefix.trim_start_matches('/')), routes)
    }
}

/// Ends a question that takes too long.
pub(crate) async fn within<R>(
    limit: Duration,
    work: impl Future<Output = Result<R, Failure>>,
) -> Result<R, Failure> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::timeout(format!("the query took longer than {limit:?}"))),
    }
}

fn json(answer: &impl Serialize) -> Result<Response, Failure> {
    let body = serde_json::to_vec(answer).map_err(|e| Failure::internal(e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    accept.contains("application/protobuf")
}

fn protobuf(body: impl Into<axum::body::Bytes>) -> Response {
    ([(header::CONTENT_TYPE, "application/protobuf")], body.into()).into_response()
}

impl Api {
    fn tenants(&self, headers: &HeaderMap) -> Result<Vec<TenantId>, Failure> {
        self.tenancy.readers(headers)
    }

    async fn trace(&self, id: &str, headers: &HeaderMap, uri: &Uri) -> Result<Found, Failure> {
        let tenants = self.tenants(headers)?;
        let id = TraceId::parse_hex(id).map_err(|e| Failure::invalid(e.to_string()))?;
        let params = Params::of(uri);
        let seconds = |name| Ok::<_, Failure>(params.number::<i64>(name)?.filter(|n| *n != 0));
        let (start, end) = (seconds("start")?, seconds("end")?);
        if let (Some(start), Some(end)) = (start, end)
            && end <= start
        {
            let text = format!("http parameter start must be before end. received start={start} end={end}");
            return Err(Failure::invalid(text));
        }
        let nanos = |seconds: i64| seconds.saturating_mul(SECOND);
        let range = (start.map_or(i64::MIN, nanos), end.map_or(i64::MAX, nanos));
        let limit = self.querier.config.overrides.defaults.global.max_bytes_per_trace.as_usize();
        within(TRACE_TIMEOUT, self.querier.trace(&tenants, id, range, limit)).await
    }
}

async fn trace_v1(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Failure> {
    let found = api.trace(&id, &headers, &uri).await?;
    if found.is_cut {
        let max = api.querier.config.overrides.defaults.global.max_bytes_per_trace.get();
        let failure = Failure::invalid(format!("trace exceeds max size (max bytes: {max})"));
        return Err(failure.with_status(StatusCode::UNPROCESSABLE_ENTITY));
    }
    if found.trace.is_empty() {
        return Ok(StatusCode::NOT_FOUND.into_response());
    }
    if wants_protobuf(&headers) {
        return Ok(protobuf(found.trace));
    }
    let body = wire::tempo::trace_v1_json(&found.trace).map_err(|e| Failure::internal(e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn trace_v2(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Failure> {
    let found = api.trace(&id, &headers, &uri).await?;
    let max = api.querier.config.overrides.defaults.global.max_bytes_per_trace.get();
    let answer = TraceByIdResponse {
        trace: Some(found.trace),
        metrics: Some(TraceByIdMetrics { inspected_bytes: found.bytes as u64 }),
        status: if found.is_cut { PartialStatus::Partial } else { PartialStatus::Complete } as i32,
        message: match found.is_cut {
            true => format!("Trace exceeds maximum size of {max} bytes, a partial trace is returned"),
            false => String::new(),
        },
    };
    if wants_protobuf(&headers) {
        return Ok(protobuf(answer.encode_to_vec()));
    }
    let body = answer.to_json().map_err(|e| Failure::internal(e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn search(State(api): State<Api>, headers: HeaderMap, uri: Uri) -> Result<Response, Failure> {
    let tenants = api.tenants(&headers)?;
    let params = Params::of(&uri);
    let ask = Search {
        query: params.get("q").map(str::to_owned),
        tags: params::parse_tags(params.get("tags").unwrap_or_default())?,
        min_duration: params.go_duration("minDuration")?,
        max_duration: params.go_duration("maxDuration")?,
        limit: params.number("limit")?,
        spans: params.number("spss")?,
        range: params.range(api.querier.max_range())?,
    };
    json(&within(QUERY_TIMEOUT, api.querier.ask_search(&tenants, ask)).await?)
}

impl Api {
    fn tags(&self, of: String, uri: &Uri) -> Result<Tags, Failure> {
        let params = Params::of(uri);
        Ok(Tags {
            of,
            query: params.get("q").map(str::to_owned),
            limit: params.number("limit")?.unwrap_or_default(),
            range: params.range(self.querier.max_range())?,
        })
    }

    fn names(&self, uri: &Uri) -> Result<Tags, Failure> {
        let params = Params::of(uri);
        self.tags(params.get("scope").unwrap_or_default().to_owned(), uri)
    }
}

async fn tags(State(api): State<Api>, headers: HeaderMap, uri: Uri) -> Result<Response, Failure> {
    let (tenants, ask) = (api.tenants(&headers)?, api.names(&uri)?);
    json(&within(QUERY_TIMEOUT, api.querier.ask_tags(&tenants, ask)).await?)
}

async fn tags_v2(State(api): State<Api>, headers: HeaderMap, uri: Uri) -> Result<Response, Failure> {
    let (tenants, ask) = (api.tenants(&headers)?, api.names(&uri)?);
    json(&within(QUERY_TIMEOUT, api.querier.ask_tags_v2(&tenants, ask)).await?)
}

/// The tag of a path that ends in `/values`; a tag may itself hold slashes.
fn tag_of(path: &str) -> Result<String, Failure> {
    let tag = path.strip_suffix("/values").filter(|tag| !tag.is_empty());
    tag.map(str::to_owned).ok_or_else(|| Failure::not_found("404 page not found"))
}

async fn values(
    State(api): State<Api>,
    Path(path): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Failure> {
    let (tenants, ask) = (api.tenants(&headers)?, api.tags(tag_of(&path)?, &uri)?);
    json(&within(QUERY_TIMEOUT, api.querier.ask_values(&tenants, ask)).await?)
}

async fn values_v2(
    State(api): State<Api>,
    Path(path): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Failure> {
    let (tenants, ask) = (api.tenants(&headers)?, api.tags(tag_of(&path)?, &uri)?);
    json(&within(QUERY_TIMEOUT, api.querier.ask_values_v2(&tenants, ask)).await?)
}

fn metrics_query(params: &Params) -> String {
    params.get("q").or(params.get("query")).unwrap_or_default().to_owned()
}

async fn query_range(State(api): State<Api>, headers: HeaderMap, uri: Uri) -> Result<Response, Failure> {
    let tenants = api.tenants(&headers)?;
    let params = Params::of(&uri);
    let (start, end) = params.metrics_range(3600 * SECOND)?;
    let ask = Metrics {
        query: metrics_query(&params),
        range: (start, end),
        step: Some(params.step(start, end)?),
        exemplars: params.number("exemplars")?.unwrap_or_default(),
        max_series: params.number("maxSeries")?.unwrap_or_default(),
    };
    json(&within(QUERY_TIMEOUT, api.querier.ask_range(&tenants, ask)).await?)
}

async fn query_instant(State(api): State<Api>, headers: HeaderMap, uri: Uri) -> Result<Response, Failure> {
    let tenants = api.tenants(&headers)?;
    let params = Params::of(&uri);
    let range = params.metrics_range(INSTANT_RANGE)?;
    let ask = Metrics { query: metrics_query(&params), range, ..Metrics::default() };
    json(&within(QUERY_TIMEOUT, api.querier.ask_instant(&tenants, ask)).await?)
}

/// Makes blocks of everything in memory.
async fn flush(State(api): State<Api>) -> Result<StatusCode, Failure> {
    let flushed = api.querier.store.flush().await;
    flushed.map_err(|e| Failure::unavailable(e.to_string(), None))?;
    Ok(StatusCode::NO_CONTENT)
}
