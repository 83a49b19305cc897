//! `POST /v1/traces` and `/v1/logs`, protobuf or JSON.

use ::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use service::Failure;
use wire::decompress::{DecompressError, Encoding, decompress};
use wire::otlp::{Format, Signal, rpc};

use crate::{Door, Export, decode};

/// The HTTP routes of a door.
pub fn router(door: &Door) -> Router {
    let mut router = Router::new();
    if door.traces {
        router = router.route("/v1/traces", post(traces));
    }
    if door.logs {
        router = router.route("/v1/logs", post(logs));
    }
    router.with_state(door.clone())
}

async fn traces(State(door): State<Door>, headers: HeaderMap, body: Body) -> Response {
    answer(door, Signal::Traces, headers, body).await
}

async fn logs(State(door): State<Door>, headers: HeaderMap, body: Body) -> Response {
    answer(door, Signal::Logs, headers, body).await
}

async fn answer(door: Door, signal: Signal, headers: HeaderMap, body: Body) -> Response {
    let Some(format) = content_type(&headers) else {
        let text = "send application/x-protobuf or application/json";
        return Failure::invalid(text).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE).into_response();
    };
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()))];
    match take(door, signal, format, headers, body).await {
        Ok(()) => (content_type, rpc::export_response(format)).into_response(),
        Err(failure) => {
            let status = rpc::Status {
                code: failure.code() as i32,
                message: failure.message().to_owned(),
                retry_after: failure.retry_after(),
            };
            let (code, headers) = failure.parts();
            (code, headers, content_type, status.encode(format)).into_response()
        }
    }
}

async fn take(
    door: Door,
    signal: Signal,
    format: Format,
    headers: HeaderMap,
    body: Body,
) -> Result<(), Failure> {
    let encoding = match headers.get(header::CONTENT_ENCODING) {
        None => Encoding::Identity,
        Some(name) => name.to_str().ok().and_then(Encoding::parse).ok_or_else(|| {
            Failure::invalid(format!(
                "content encoding {name:?} is not supported: use gzip, zstd, snappy or none"
            ))
        })?,
    };
    let body = service::http::read_body(body, door.max_bytes).await?;
    let plain = decompress(body, encoding, door.max_bytes).map_err(|error| match error {
        DecompressError::TooLarge { limit } => Failure::too_large(limit),
        error => Failure::invalid(error.to_string()),
    });
    let decoded = match plain {
        Ok(plain) => decode(signal, plain, format).await,
        Err(failure) => Err(failure),
    };
    let (body, counts) = decoded.inspect_err(|_| door.sink.undecodable(signal, "http"))?;
    door.sink.export(Export { signal, body, counts, headers, transport: "http" }).await
}

fn content_type(headers: &HeaderMap) -> Option<Format> {
    Format::from_content_type(headers.get(header::CONTENT_TYPE)?.to_str().ok()?)
}
