//! A trace across HTTP: a server span around every request that comes in, a client span around every one that goes out, and
//! the W3C `traceparent` header between them.

use std::time::Duration;

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::{Instrument, field::Empty, info_span};

/// Longer than the slowest answer, shorter than anybody's patience.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Middleware: runs a request within a server span, a child of the caller's span if the request names one.
pub(crate) async fn traced(route: MatchedPath, request: Request, next: Next) -> Response {
    let (method, route) = (request.method().as_str(), route.as_str());
    // Names and attributes are those of OpenTelemetry's semantic conventions. `otel.*` are not attributes: they set the span's
    // own name, kind and status. A field that is only known later must be named here, as `Empty`.
    let span = info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        url.path = request.uri().path(),
        http.response.status_code = Empty,
    );
    telemetry::propagation::set_parent(&span, request.headers());
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    // What the caller did wrong is not our error.
    if response.status().is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    response
}

/// Why the next service did not do its part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("{status}: {text}")]
    Refused { status: StatusCode, text: String },
    #[error("no answer: {0}")]
    NoAnswer(#[from] reqwest::Error),
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let text = match self {
            Failed::Refused { text, .. } => text,
            Failed::NoAnswer(_) => "try again later".to_owned(),
        };
        (StatusCode::BAD_GATEWAY, text).into_response()
    }
}

/// Calls one other service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    /// A client of the service at this URL.
    pub(crate) fn new(base: String) -> reqwest::Result<Client> {
        Ok(Client { base, http: reqwest::Client::builder().timeout(TIMEOUT).build()? })
    }

    /// Gets a path's text, within a client span whose context travels along.
    pub(crate) async fn get(&self, path: &str) -> Result<String, Failed> {
        let url = format!("{}{path}", self.base);
        let span = info_span!(
            "call",
            otel.name = "GET",
            otel.kind = "client",
            otel.status_code = Empty,
            otel.status_description = Empty,
            http.request.method = "GET",
            url.full = url,
            http.response.status_code = Empty,
        );
        let answer = async {
            let mut headers = HeaderMap::new();
            telemetry::propagation::inject(&mut headers);
            let response = self.http.get(url).headers(headers).send().await?;
            let status = response.status();
            span.record("http.response.status_code", status.as_u16());
            let text = response.text().await?;
            if status.is_success() { Ok(text) } else { Err(Failed::Refused { status, text }) }
        };
        answer.instrument(span.clone()).await.inspect_err(|failed| {
            span.record("otel.status_code", "ERROR").record("otel.status_description", failed.to_string());
        })
    }
}
