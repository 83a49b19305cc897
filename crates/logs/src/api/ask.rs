//! A read request: whose it is and what it asks.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use model::{Matcher, TenantId, Timestamp};
use service::Failure;
use service::http::read_body;

use crate::api::App;
use crate::api::blocked;
use crate::api::params::Params;
use crate::api::tighten;
use crate::limits::Limits;

/// Largest form of a query.
const MAX_FORM: usize = 10 << 20;
/// Tenants of a query at most.
const MAX_TENANTS: usize = 64;
/// The header that names tenants.
const ORG_ID: &str = "x-scope-orgid";
/// Longest query text.
const MAX_QUERY: usize = 131_072;
/// The tenant where requests name none.
pub const NO_AUTH_TENANT: &str = "fake";

/// A read request.
pub(crate) struct Ask {
    /// Whose data it asks for; the first of several.
    pub(crate) tenant: TenantId,
    /// All whose data it asks for, sorted; several only in an [`AskMany`].
    pub(crate) tenants: Vec<TenantId>,
    /// Its parameters.
    pub(crate) params: Params,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// What it may cost.
    pub(crate) limits: Arc<Limits>,
    /// When it came.
    pub(crate) now: Timestamp,
}

/// A read request that may ask for the data of several tenants.
pub(crate) struct AskMany(pub(crate) Ask);

impl FromRequest<Arc<App>> for Ask {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let tenant = app.tenant(request.headers())?;
        Self::read(request, app, vec![tenant]).await
    }
}

impl FromRequest<Arc<App>> for AskMany {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let tenants = app.tenants(request.headers())?;
        Ok(Self(Ask::read(request, app, tenants).await?))
    }
}

impl Ask {
    async fn read(request: Request, app: &Arc<App>, tenants: Vec<TenantId>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let limits: Vec<_> = tenants.iter().map(|tenant| app.limits.of(tenant)).collect();
        let (Some(tenant), Some(limits)) = (tenants.first().cloned(), tighten::strictest(&limits)) else {
            return Err(Failure::unauthenticated(model::TenantError::Missing.to_string()));
        };
        let limits = tighten::by_header(limits, header_text(&parts.headers, tighten::HEADER))?;
        let media = header_text(&parts.headers, header::CONTENT_TYPE.as_str());
        let is_form = media.starts_with("application/x-www-form-urlencoded");
        let form = if is_form { read_body(body, MAX_FORM).await? } else { bytes::Bytes::new() };
        let params = Params::parse(parts.uri.query().unwrap_or_default(), &form);
        Ok(Self { tenant, tenants, limits, params, headers: parts.headers, now: Timestamp::now() })
    }
}

impl App {
    /// The tenant that a request's headers name.
    pub(crate) fn tenant(&self, headers: &HeaderMap) -> Result<TenantId, Failure> {
        if !self.auth_enabled {
            return TenantId::parse(NO_AUTH_TENANT).map_err(|e| Failure::internal(e.to_string()));
        }
        TenantId::parse(header_text(headers, ORG_ID)).map_err(tenant_failure)
    }

    /// The tenants that a read's headers name; several where that is allowed.
    fn tenants(&self, headers: &HeaderMap) -> Result<Vec<TenantId>, Failure> {
        if self.auth_enabled && self.multi_tenant_queries {
            let tenants = TenantId::parse_many(header_text(headers, ORG_ID)).map_err(tenant_failure)?;
            return match tenants.len() > MAX_TENANTS {
                false => Ok(tenants),
                true => Err(Failure::invalid(format!("more than {MAX_TENANTS} tenants in one query"))),
            };
        }
        Ok(vec![self.tenant(headers)?])
    }
}

fn tenant_failure(error: model::TenantError) -> Failure {
    match error {
        model::TenantError::Missing => Failure::unauthenticated(error.to_string()),
        error => Failure::invalid(error.to_string()),
    }
}

/// A header's text; empty if it is absent or no text.
pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Ask {
    /// `query` as LogQL, unless the tenant's limits refuse it.
    pub(crate) fn query(&self) -> Result<logql::Expr, Failure> {
        let text = self.params.get("query").unwrap_or_default();
        let expr = parse(text)?;
        blocked::check(&self.limits, text, &expr)?;
        Ok(expr)
    }

    /// The matchers of `query`, which may be absent or `{}` for all streams.
    pub(crate) fn matchers(&self, selector_only: bool) -> Result<Vec<Matcher>, Failure> {
        match self.params.get("query") {
            None => Ok(Vec::new()),
            Some(text) => selector(text, selector_only),
        }
    }

    /// Whether a header's comma list has an item.
    pub(crate) fn has_flag(&self, header: &str, flag: &str) -> bool {
        self.headers
            .get_all(header)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .any(|f| f.trim() == flag)
    }
}

/// Parses a query.
pub(crate) fn parse(text: &str) -> Result<logql::Expr, Failure> {
    if text.len() >= MAX_QUERY {
        return Err(Failure::invalid(format!(
            "parse error : input size too long ({} > {MAX_QUERY})",
            text.len()
        )));
    }
    logql::parse(text).map_err(|e| Failure::invalid(e.to_string()))
}

/// Parses a selector. Of a query with a pipeline, or of a metric query, the matchers count, unless only a selector is wanted.
pub(crate) fn selector(text: &str, selector_only: bool) -> Result<Vec<Matcher>, Failure> {
    match parse(text)? {
        logql::Expr::Log(log) if log.stages.is_empty() || !selector_only => Ok(log.matchers),
        _ => Err(Failure::invalid("only label matchers are supported")),
    }
}

/// A JSON answer.
pub(crate) fn json(body: impl Into<axum::body::Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=UTF-8")], body.into()).into_response()
}

/// A JSON answer of a value, with a newline at its end.
pub(crate) fn json_value(value: &serde_json::Value) -> Response {
    json(format!("{value}\n"))
}
