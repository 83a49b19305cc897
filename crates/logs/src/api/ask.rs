//! A read request: whose it is and what it asks.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use model::{Matcher, TenantId, Timestamp};
use service::Failure;
use service::http::read_body;

use crate::api::App;
use crate::api::params::Params;

/// Largest form of a query.
const MAX_FORM: usize = 10 << 20;
/// Longest query text.
const MAX_QUERY: usize = 131_072;
/// The tenant where requests name none.
pub const NO_AUTH_TENANT: &str = "fake";

/// A read request.
pub(crate) struct Ask {
    /// Whose data it asks for.
    pub(crate) tenant: TenantId,
    /// Its parameters.
    pub(crate) params: Params,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// When it came.
    pub(crate) now: Timestamp,
}

impl FromRequest<Arc<App>> for Ask {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let tenant = app.tenant(&parts.headers)?;
        let media = header_text(&parts.headers, header::CONTENT_TYPE.as_str());
        let is_form = media.starts_with("application/x-www-form-urlencoded");
        let form = if is_form { read_body(body, MAX_FORM).await? } else { bytes::Bytes::new() };
        let params = Params::parse(parts.uri.query().unwrap_or_default(), &form);
        Ok(Self { tenant, params, headers: parts.headers, now: Timestamp::now() })
    }
}

impl App {
    /// The tenant that a request's headers name.
    pub(crate) fn tenant(&self, headers: &HeaderMap) -> Result<TenantId, Failure> {
        if !self.auth_enabled {
            return TenantId::parse(NO_AUTH_TENANT).map_err(|e| Failure::internal(e.to_string()));
        }
        TenantId::parse(header_text(headers, "x-scope-orgid")).map_err(|error| match error {
            model::TenantError::Missing => Failure::unauthenticated(error.to_string()),
            error => Failure::invalid(error.to_string()),
        })
    }
}

/// A header's text; empty if it is absent or no text.
pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Ask {
    /// `query` as LogQL.
    pub(crate) fn query(&self) -> Result<logql::Expr, Failure> {
        parse(self.params.get("query").unwrap_or_default())
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
