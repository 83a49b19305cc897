//! The push endpoints.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use service::Failure;
use service::http::read_body;
use wire::loki::Dialect;
use wire::otlp::Format;
use wire::otlp::rpc::Status;

use crate::api::App;
use crate::api::ask::header_text;

/// `POST /loki/api/v1/push`
pub(crate) async fn push(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(take(&app, request, Dialect::V1).await)
}

/// `POST /api/prom/push`
pub(crate) async fn legacy(State(app): State<Arc<App>>, request: Request) -> Response {
    answer(take(&app, request, Dialect::Legacy).await)
}

async fn take(app: &App, request: Request, dialect: Dialect) -> Result<(), Failure> {
    let (parts, body) = request.into_parts();
    let tenant = app.tenant(&parts.headers)?;
    let body = read_body(body, app.max_body).await?;
    let content_type = header_text(&parts.headers, header::CONTENT_TYPE.as_str());
    let encoding = header_text(&parts.headers, header::CONTENT_ENCODING.as_str());
    app.ingest.push_http(&tenant, body, content_type, encoding, dialect).await
}

fn answer(result: Result<(), Failure>) -> Response {
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(failure) => failure.into_line_response(),
    }
}

/// `POST /otlp/v1/logs`: errors are a `google.rpc.Status`, and a 500 is a 503, so that collectors try again.
pub(crate) async fn otlp(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let content_type = header_text(&parts.headers, header::CONTENT_TYPE.as_str());
    let encoding = header_text(&parts.headers, header::CONTENT_ENCODING.as_str());
    let take = async {
        let tenant = app.tenant(&parts.headers)?;
        let body = read_body(body, app.max_body).await?;
        app.ingest.otlp_http(&tenant, body, content_type, encoding).await
    };
    let Err(failure) = take.await else { return StatusCode::NO_CONTENT.into_response() };
    let (mut status, mut headers) = failure.parts();
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        status = StatusCode::SERVICE_UNAVAILABLE;
    }
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/octet-stream"));
    let body = Status { code: 0, message: failure.message().to_owned(), retry_after: failure.retry_after() };
    (status, headers, body.encode(Format::Protobuf)).into_response()
}
